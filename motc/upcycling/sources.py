"""Weights that a model begins from: whose parameters they are, and each by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from torch import Tensor

from motc.driver import check_spec, final_ir
from motc.importing.configuration import FILE, read_configuration
from motc.importing.convert import Conversion, plan_conversion
from motc.importing.describe import architecture_of, describe
from motc.importing.described import name_from
from motc.upcycling.groups import Groups
from motc.weights.fit import check_fit
from motc.weights.kept import SPEC, kept_with
from motc.weights.read import read_tensor
from motc.weights.stored import Stored, open_weights


class Source(Protocol):
    """A model's weights on disk, which are read one at a time."""

    groups: Groups

    def read(self, parameter: str) -> Tensor:
        """A parameter. Raises SpecError and OSError, which name the file."""

    def dtype(self, parameter: str) -> str:
        """A parameter's dtype, as files call it."""


class Saved:
    """Weights under a model's own names, with the spec that they are of."""

    def __init__(self, stored: Stored) -> None:
        kept = kept_with(stored)
        self.stored = stored
        self.groups = Groups(kept.model(), check_spec(kept.spec).spec)
        check_fit(stored, self.groups.shapes)

    def read(self, parameter: str) -> Tensor:
        return read_tensor(parameter, self.stored.tensors[parameter])

    def dtype(self, parameter: str) -> str:
        return self.stored.tensors[parameter].dtype


class Imported:
    """A folder of Hugging Face, whose tensors hold a model's parameters under other names."""

    def __init__(self, folder: Path, stored: Stored) -> None:
        configuration = read_configuration(folder)
        architecture = architecture_of(configuration)
        source = describe(configuration, architecture).source(str(configuration.file), name_from(folder.name))
        checked = check_spec(source)
        self.groups = Groups(final_ir(checked), checked.spec)
        self.conversion: Conversion = plan_conversion(architecture, stored, self.groups.model, source)
        self._moves = {name: move for move in self.conversion.bijection.moves for name in move.parameters}
        self._at_hand: dict[str, Tensor] = {}

    def read(self, parameter: str) -> Tensor:
        """Several parameters that one tensor holds are at hand until another is read: towers take them in turn."""
        if parameter in self.conversion.bijection.zeros:
            return self.conversion.zeros(parameter)
        move = self._moves[parameter]
        if parameter not in self._at_hand:
            self._at_hand = {}  # before more is read
            read = dict(zip(move.parameters, self.conversion.parameters(move), strict=True))
            if len(read) == 1:
                return read[parameter]
            self._at_hand = read
        return self._at_hand[parameter].clone()

    def dtype(self, parameter: str) -> str:
        return self.conversion.dtypes[parameter]


def open_source(path: Path) -> Source:
    """Weights that motc wrote, or a folder of Hugging Face. Raises SpecError and OSError, which name the file."""
    stored = open_weights(path)
    is_folder = path.is_dir() and (path / FILE).exists() and SPEC not in stored.metadata
    return Imported(path, stored) if is_folder else Saved(stored)
