"""Weights of a class of transformers to a file under motc's names, tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from motc import __version__
from motc.importing.architecture import Architecture
from motc.ir.identity import semantic_hash
from motc.ir.model import Model
from motc.ir.names import saved_shapes
from motc.source import Diagnostic, SourceFile, SpecError
from motc.weights import Bijection, Move, bijection_of, read_mapping
from motc.weights.apply import forth
from motc.weights.fit import check_dtype
from motc.weights.header import refuse
from motc.weights.kept import Kept, metadata_of
from motc.weights.read import DTYPES, read_tensor
from motc.weights.stored import Stored, read_numbers
from motc.weights.write import write_weights


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """How the tensors of a checkpoint become a model's parameters, and which of them do not."""

    stored: Stored
    model: Model
    spec: SourceFile
    bijection: Bijection

    @property
    def left_out(self) -> tuple[str, ...]:
        """The tensors that are no part of the model, or that nothing reads."""
        return self.bijection.unread

    @cached_property
    def dtypes(self) -> dict[str, str]:
        """Of each parameter the dtype that its tensors have; of zeros that of the first."""
        tensors, moves = self.stored.tensors, self.bijection.moves
        of_tensors = {name: tensors[move.tensors[0]].dtype for move in moves for name in move.parameters}
        return of_tensors | dict.fromkeys(self.bijection.zeros, next(iter(of_tensors.values())))

    def write(self, path: Path, check: Callable[[Path], None] = lambda aside: None) -> None:
        """The model's weights, with the spec that they are of; `check` is given the file before it takes its place.

        Raises SpecError, which names the tensor that is wrong, and OSError.
        """
        shapes = saved_shapes(self.model)
        planned = {name: (dtype, shapes[name]) for name, dtype in self.dtypes.items()}
        kept = Kept(spec=self.spec, dense=False, semantic_hash=semantic_hash(self.model), version=__version__)
        write_weights(path, planned, self._parameters(), metadata_of(kept), check)

    def write_left_out(self, path: Path, check: Callable[[Path], None] = lambda aside: None) -> None:
        """The tensors that are no part of the model, as they are; `check` and errors as for `write`."""
        entries = {name: self.stored.tensors[name] for name in self.left_out}
        planned = {name: (entry.dtype, entry.shape) for name, entry in entries.items()}
        write_weights(path, planned, ((name, read_numbers(name, entry)) for name, entry in entries.items()), {}, check)

    def parameters(self, move: Move) -> list[Tensor]:
        """The parameters that a move's tensors hold. Raises SpecError where what is tied to one is another; OSError."""
        tensors = self.stored.tensors
        given = {name: read_tensor(name, tensors[name]) for name in move.tensors}
        for name, other in self.bijection.tied.items():
            if other in given and not read_tensor(name, tensors[name]).equal(given[other]):
                refuse(f"{tensors[name].path}: {name} is not what {other} is, and the model ties them")
        return forth(move, list(given.values()))

    def zeros(self, parameter: str) -> Tensor:
        """A parameter that no tensor holds."""
        return torch.zeros(self.bijection.zeros[parameter], dtype=DTYPES[self.dtypes[parameter]])

    def _parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Those of one move are gone before the next one's tensors are read."""
        for move in self.bijection.moves:
            yield from zip(move.parameters, self.parameters(move), strict=True)
        for name in self.bijection.zeros:
            yield name, self.zeros(name)


def plan_conversion(architecture: Architecture, stored: Stored, model: Model, spec: SourceFile) -> Conversion:
    """How a checkpoint is converted, from names, shapes and dtypes alone. Raises SpecError for what does not fit."""
    mapping = read_mapping(architecture.mapping_file)
    try:
        bijection = bijection_of(mapping, {name: entry.shape for name, entry in stored.tensors.items()}, model)
    except ValueError as error:
        raise SpecError(Diagnostic(code="MOT101", message=f"{stored.path}: {error}", span=None)) from None
    for move in bijection.moves:
        for name in move.tensors:
            check_dtype(name, stored.tensors[name])
            if stored.tensors[name].dtype != stored.tensors[move.tensors[0]].dtype:
                refuse(
                    f"{stored.tensors[name].path}: {name} has another dtype than {move.tensors[0]}, beside which it is"
                )
    return Conversion(stored=stored, model=model, spec=spec, bijection=bijection)
