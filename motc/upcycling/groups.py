"""A model's parameters by the copies of its groups."""

from __future__ import annotations

from motc.ir.model import Model
from motc.ir.names import saved_shapes
from motc.schema import Spec
from motc.training.copies import Copies, Copy

Shape = tuple[int, ...]


class Groups(Copies):
    """A model's copies of groups, and the shapes of all its parameters by name."""

    def __init__(self, model: Model, spec: Spec) -> None:
        super().__init__(model, spec)
        self.shapes: dict[str, Shape] = saved_shapes(model)
        self._by_prefix = {copy.prefix: copy for copy in self.copies}
        self._by_place: dict[tuple[str, int | None], list[Copy]] = {}
        for copy in self.copies:
            self._by_place.setdefault((copy.path, copy.layer), []).append(copy)

    def copy_of(self, parameter: str) -> Copy:
        """The copy that a parameter is in."""
        prefix = parameter
        while prefix not in self._by_prefix:
            prefix = prefix.rpartition(".")[0]
        return self._by_prefix[prefix]

    def at(self, path: str, layer: int | None) -> list[Copy]:
        """The copies of a group in a layer, or outside of them."""
        return self._by_place.get((path, layer), [])
