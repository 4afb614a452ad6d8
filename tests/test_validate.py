"""The laws of `motc.validate` hold for a right module, and each fails for a wrong one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from motc.ir.mask import Mask
from motc.ir.model import (
    Attention,
    Block,
    Embedding,
    Ffn,
    Layer,
    Leaf,
    Linear,
    Modality,
    Model,
    Norm,
    Operator,
    Rope,
    Segment,
)
from motc.ir.partition import Partition
from motc.reference import Batch, reference_forward, reference_loss
from motc.validate import reference_config, validate
from motc.validate.config import parameter_shapes

MODALITIES = ("text", "image", "speech")
CAUSAL = Mask(kind="causal")
WIDTH, HIDDEN, HEADS, KV_HEADS, HEAD_DIM = 8, 12, 4, 2, 4


def leaf(path: str, operator: Operator, partition: Partition) -> Leaf:
    """One block for each of the partition's, all alike."""
    name = "" if len(partition.blocks) == 1 else "_"
    return Leaf(
        path=path,
        blocks=tuple(Block(name=name and name.join(b), modalities=b, operator=operator) for b in partition.blocks),
    )


def model(
    partition: Partition, *, own: bool = False, tied: bool = False, hidden: int = HIDDEN, mask: Mask = CAUSAL
) -> Model:
    """A small model, with every group but the ends untied by the partition."""
    one = Partition.one(MODALITIES)

    def linear(path: str, rows: int, columns: int, bias: bool = False) -> Leaf:
        return leaf(path, Linear(in_features=columns, out_features=rows, bias=bias), partition)

    def norm(path: str, *shape: int, kind: str = "rms") -> Leaf:
        return leaf(path, Norm(kind=kind, shape=shape, eps=1e-5), partition)  # type: ignore[arg-type]

    layer = Layer(
        placement="pre",
        attention=Attention(
            heads=HEADS,
            kv_heads=KV_HEADS,
            head_dim=HEAD_DIM,
            mask=mask,
            rope=Rope(theta=100.0, pairing="half"),
            q=linear("attention.q", HEADS * HEAD_DIM, WIDTH, bias=True),
            k=linear("attention.k", KV_HEADS * HEAD_DIM, WIDTH),
            v=linear("attention.v", KV_HEADS * HEAD_DIM, WIDTH),
            out=linear("attention.out", WIDTH, HEADS * HEAD_DIM),
            q_norm=norm("attention.q_norm", HEADS, HEAD_DIM, kind="layer"),
            k_norm=norm("attention.k_norm", HEAD_DIM),
            norm=norm("attention.norm", WIDTH),
        ),
        ffn=Ffn(
            kinds=("swiglu",) * 3,
            gate=linear("ffn.gate", hidden, WIDTH),
            up=linear("ffn.up", hidden, WIDTH),
            down=linear("ffn.down", WIDTH, hidden),
            norm=norm("ffn.norm", WIDTH, kind="layer"),
        ),
    )
    tables = tuple(
        Block(name=m, modalities=(m,), operator=Embedding(vocab=5 + i, width=WIDTH)) for i, m in enumerate(MODALITIES)
    )
    heads = tuple(
        Block(name=m, modalities=(m,), operator=Linear(in_features=WIDTH, out_features=5 + i, bias=False))
        for i, m in enumerate(MODALITIES)
    )
    table = Embedding(vocab=11, width=WIDTH)
    head = leaf("head", Linear(in_features=WIDTH, out_features=11, bias=False), one)
    return Model(
        name="small",
        modalities=tuple(Modality(name=m, width=WIDTH, vocab=5 + i if own else None) for i, m in enumerate(MODALITIES)),
        towers=Partition.each(MODALITIES),
        vocab=None if own else 11,
        tied_embedding=tied,
        embedding=Leaf(path="embedding", blocks=tables) if own else leaf("embedding", table, one),
        segments=(Segment(first=0, last=1, layer=layer),),
        final_norm=norm("final_norm", WIDTH),
        head=None if tied else (Leaf(path="head", blocks=heads) if own else head),
        order=partition.universe,
    )


class Module(nn.Module):
    """What motc generates, as far as the laws are concerned: here the reference itself, with a mistake if asked."""

    def __init__(self, model: Model, mistake: Callable[..., Any] | None = None) -> None:
        super().__init__()
        self.config, self.mistake = reference_config(model), mistake
        for name, shape in parameter_shapes(model).items():
            self.place(name, nn.Parameter(torch.zeros(shape, dtype=torch.float64)))

    def place(self, name: str, parameter: nn.Parameter) -> None:
        *path, last = name.split(".")
        module: nn.Module = self
        for part in path:
            if not hasattr(module, part):
                module.add_module(part, nn.Module())
            module = getattr(module, part)
        module.register_parameter(last, parameter)

    def layout(self, modality_ids: Tensor, document_ids: Tensor | None = None) -> Any:
        return modality_ids, document_ids

    def inputs(self, input_ids: Tensor, modality_ids: Tensor, *, layout: Any, **given: Any) -> tuple[Any, ...]:
        batch = Batch(input_ids=input_ids, modality_ids=modality_ids, **given)
        right = (self.config, dict(self.named_parameters()), batch)
        if self.mistake is breaks_with_layout:
            return self.mistake(*right) if layout else right
        return self.mistake(*right) if self.mistake else right

    def forward(self, input_ids: Tensor, modality_ids: Tensor, **given: Any) -> Any:
        return SimpleNamespace(logits=reference_forward(*self.inputs(input_ids, modality_ids, **given)))

    def loss(self, input_ids: Tensor, modality_ids: Tensor, **given: Any) -> Any:
        return reference_loss(*self.inputs(input_ids, modality_ids, **given))


EACH, ONE = Partition.each(MODALITIES), Partition.one(MODALITIES)
SHARED = Partition.of(MODALITIES, [["text"], ["image", "speech"]])


@pytest.mark.parametrize(
    ("partition", "ends"),
    [
        (EACH, {}),
        (SHARED, {"own": True}),
        (EACH, {"own": True, "tied": True}),
        (SHARED, {"tied": True}),
        (ONE, {}),
    ],
)
def test_a_right_module_passes_every_law(partition: Partition, ends: dict[str, bool]) -> None:
    sparse, dense = model(partition, **ends), model(ONE, **ends)
    report = validate(sparse, dense, Module(sparse), Module(dense))
    assert report.ok, report
    assert not report.skipped
    assert [law.name for law in report.laws] == [
        "parameters",
        "dense twin parameters",
        "reference outputs",
        "reference gradients",
        "dense twin reference outputs",
        "dense twin reference gradients",
        "single modality",
        "padding",
        "documents",
        "given layout",
        "twin outputs",
        "twin gradients",
    ]


@pytest.mark.parametrize(
    "mask",
    [
        Mask(kind="full"),
        Mask(kind="prefix", prefix=("image",), bidirectional=("image", "speech")),
        Mask(kind="causal", bidirectional=("image",), sees=(("text", ("text",)), ("image", ("text", "image")))),
        Mask(kind="blocks", blocks=(("image",), ("text", "speech"))),
    ],
    ids=str,
)
def test_every_mask_obeys_every_law(mask: Mask) -> None:
    sparse, dense = model(SHARED, mask=mask), model(ONE, mask=mask)
    report = validate(sparse, dense, Module(sparse), Module(dense))
    assert report.ok, report
    assert not report.skipped


def swapped(config: Any, parameters: Any, batch: Batch) -> Any:
    """Image's keys through text's projection in the last layer."""
    last = config.layers[-1]
    keys = last.prefixes["attention.k"]
    layer = replace(last, prefixes=last.prefixes | {"attention.k": keys | {"image": keys["text"]}})
    return (replace(config, layers=(*config.layers[:-1], layer)), parameters, batch)


def forgets_documents(config: Any, parameters: Any, batch: Batch) -> Any:
    return (config, parameters, replace(batch, document_ids=None))


def sees_padding(config: Any, parameters: Any, batch: Batch) -> Any:
    padding = batch.modality_ids < 0
    told = {name: x if x is None else x.masked_fill(padding, 1) for name, x in targets(batch).items()}
    return (config, parameters, replace(batch, modality_ids=batch.modality_ids.clamp(min=0), **told))


def targets(batch: Batch) -> dict[str, Tensor | None]:
    return {"labels": batch.labels, "weights": batch.weights}


def forgets_gradient(config: Any, parameters: Any, batch: Batch) -> Any:
    """Right outputs, but image's last down projection does not learn."""
    name = next(name for name in parameters if name.startswith("layers.1.ffn.down.image"))
    return (config, parameters | {name: parameters[name].detach()}, batch)


def breaks_with_layout(config: Any, parameters: Any, batch: Batch) -> Any:
    """Wrong only where a layout is given."""
    return (config, parameters, replace(batch, input_ids=batch.input_ids.clamp(max=1)))


def not_a_number(config: Any, parameters: Any, batch: Batch) -> Any:
    return (config, parameters | {"embedding.weight": parameters["embedding.weight"] * torch.nan}, batch)


REFERENCE, TWIN = {"reference outputs", "reference gradients"}, {"twin outputs", "twin gradients"}


@pytest.mark.parametrize(
    ("mistake", "broken"),
    [
        (swapped, {*REFERENCE, "single modality"}),
        (forgets_documents, {*REFERENCE, *TWIN, "documents"}),
        (sees_padding, {*REFERENCE, *TWIN, "single modality", "padding"}),
        (forgets_gradient, {"reference gradients", "twin gradients"}),
        (breaks_with_layout, {"given layout"}),
        (not_a_number, {*REFERENCE, *TWIN, "single modality", "padding", "documents", "given layout"}),
    ],
)
def test_a_wrong_module_fails(mistake: Callable[..., Any], broken: set[str]) -> None:
    sparse, dense = model(EACH), model(ONE)
    report = validate(sparse, dense, Module(sparse, mistake), Module(dense))
    assert not report.ok
    assert {law.name for law in report.laws if not law.ok} == broken


def test_a_missing_parameter_is_found_before_anything_runs() -> None:
    sparse, dense = model(EACH), model(ONE)
    report = validate(sparse, dense, Module(model(SHARED)), Module(dense))
    assert [(law.name, law.ok) for law in report.laws] == [("parameters", False), ("dense twin parameters", True)]
    assert not report.ok


def test_towers_of_other_shapes_skip_the_twin_laws() -> None:
    sparse, dense = model(EACH, hidden=16), model(ONE)
    report = validate(sparse, dense, Module(sparse), Module(dense))
    assert report.ok
    assert [law.name for law in report.laws if law.name.startswith("twin")] == []
    assert len(report.skipped) == 2
    assert "layers.0.ffn.gate" in report.skipped[0]


def test_float32_is_refused() -> None:
    sparse, dense = model(EACH), model(ONE)
    with pytest.raises(ValueError, match="float64"):
        validate(sparse, dense, Module(sparse).float(), Module(dense))
