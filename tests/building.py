"""Building blocks as a generated model has them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from typing import Any, cast

import torch
from torch import nn

from codegen_templates.masks import Mask as BuiltMask
from motc.emit.masks import mask_expression
from motc.ir.mask import Mask
from motc.plan.library import library, where_defined


def built(expression: str) -> Any:
    """The value of an expression in which all building blocks can be named."""
    return eval(expression, dict(building_blocks()))


@cache
def building_blocks() -> Mapping[str, Any]:
    """Each by the name it has."""
    modules = {file: importlib.import_module(f"codegen_templates.{file}") for file in library()}
    return {name: getattr(modules[file], name) for name, file in where_defined().items()}


def built_mask(mask: Mask, names: tuple[str, ...], *, in_views: bool = False) -> BuiltMask:
    """A mask of these modalities, as a model has it."""
    return cast(BuiltMask, built(mask_expression(mask, names, in_views=in_views)))


def draw_parameters(network: nn.Module) -> None:
    """Random numbers for all parameters, those that a new model has as ones and zeros too; the same ones every time."""
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(parameter.numel()))
