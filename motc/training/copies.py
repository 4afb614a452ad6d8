"""The copies of a model's parameter groups, and which of a module's parameters are whose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from motc.driver import check_spec
from motc.ir.leaf import Leaf
from motc.ir.model import Model
from motc.ir.names import parameter_prefix
from motc.schema import Spec
from motc.weights.kept import kept_by

WRAPPERS = frozenset(("_orig_mod", "_checkpoint_wrapped_module", "module"))
"""What wrappers of torch put into the names of the parameters of what they wrap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A copy of a group's parameters: in a layer, or outside of them, and by which modalities it is used.

    `prefix` is what the names of its parameters begin with, `layers.3.attention.q.image`.
    """

    path: str
    layer: int | None
    name: str
    modalities: tuple[str, ...]
    prefix: str


def copies_of(model: Model) -> tuple[Copy, ...]:
    """Every copy of a model's groups: those before the layers, each layer's, and those after them."""
    copies = [copy for leaf in model.leaves_before() for copy in _copies(leaf, None)]
    for segment in model.segments:
        for layer in range(segment.first, segment.last + 1):
            copies += [copy for leaf in segment.layer.leaves() for copy in _copies(leaf, layer)]
    return (*copies, *(copy for leaf in model.leaves_after() for copy in _copies(leaf, None)))


def _copies(leaf: Leaf, layer: int | None) -> Iterator[Copy]:
    for block in leaf.blocks:
        prefix = parameter_prefix(leaf, block, layer)
        yield Copy(path=leaf.path, layer=layer, name=block.name, modalities=block.modalities, prefix=prefix)


class Copies:
    """A model's copies of groups, and what words mean there.

    `towers` has the modalities of a word: the name of a tower, of a modality, or of a copy that several share.
    """

    def __init__(self, model: Model, spec: Spec) -> None:
        self.model = model
        self.copies = copies_of(model)
        shared = {copy.name: copy.modalities for copy in self.copies if copy.name}
        declared = {name: tuple(tower.modalities) for name, tower in spec.towers.items()}
        self.towers = {**shared, **{name: (name,) for name in model.names}, **declared}


class Trained(Copies):
    """A generated module, whatever wraps it, with its IR and its parameters by copy.

    `parameters` has for each copy the names and parameters that are in it, those of adapters too; what the module has
    besides them, or what stands around it, is no copy's. Raises TypeError for what motc has not generated.
    """

    def __init__(self, module: nn.Module) -> None:
        self.network = generated_in(module)
        kept = kept_by(self.network)
        super().__init__(kept.model(), check_spec(kept.spec).spec)
        by_prefix = {copy.prefix: copy for copy in self.copies}
        self.parameters: dict[Copy, dict[str, nn.Parameter]] = {copy: {} for copy in self.copies}
        for name, parameter in self.network.named_parameters():
            parts = [part for part in name.split(".") if part not in WRAPPERS]
            prefixes = (".".join(parts[:end]) for end in range(len(parts) - 1, 0, -1))
            owner = next((by_prefix[prefix] for prefix in prefixes if prefix in by_prefix), None)
            if owner is not None:
                self.parameters[owner][name] = parameter

    @property
    def by_name(self) -> dict[str, nn.Parameter]:
        """All parameters that are some copy's, in the order of the copies."""
        return {name: each for theirs in self.parameters.values() for name, each in theirs.items()}


def generated_in(module: nn.Module) -> nn.Module:
    """The generated model that a module is or wraps. Raises TypeError if there is none."""
    for each in module.modules():
        if isinstance(getattr(type(each), "semantic_hash", None), str):
            return each
    raise TypeError(f"{type(module).__name__} is no model that motc generated, and wraps none")
