"""Which model weights are of: the spec and its hash that are kept with them. Nothing here imports torch."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import lru_cache
from textwrap import dedent

from motc import __version__
from motc.diff import diff
from motc.driver import compile_ir
from motc.ir.identity import FORMAT, semantic_hash
from motc.ir.model import Model
from motc.source import Diagnostic, SourceFile, SpecError
from motc.syntax import read
from motc.weights.stored import Stored

SPEC, HASH, VERSION, TWIN = "motc.spec", "motc.semantic_hash", "motc.version", "motc.twin"
TOLD = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What weights say of their model: its spec's text, complete in itself, and whether they are of its dense twin."""

    spec: SourceFile
    dense: bool
    semantic_hash: str
    version: str

    @property
    def told(self) -> str:
        """In a line."""
        twin = ", of the spec's dense twin" if self.dense else ""
        return f"weights that motc {self.version} wrote, semantic hash {self.semantic_hash}{twin}"

    def model(self) -> Model:
        """The final IR. Raises SpecError where the text is no spec, or not the one of the hash."""
        model = _compiled(self.spec, self.dense)
        if semantic_hash(model) != self.semantic_hash and _is_comparable(self.semantic_hash):
            raise _other(f"{self.spec.name} has the hash {self.semantic_hash}, and its spec {semantic_hash(model)}")
        return model


def metadata_of(kept: Kept) -> dict[str, str]:
    """What stands in the files of weights."""
    twin = {TWIN: "dense"} if kept.dense else {}
    return {SPEC: kept.spec.text, HASH: kept.semantic_hash, VERSION: kept.version, **twin}


def kept_by(model: object) -> Kept:
    """What a generated model says of itself, in the docstring of its module. Raises ValueError for another object."""
    for cls in type(model).__mro__:
        if "semantic_hash" in vars(cls) and cls.__module__ in sys.modules:
            wanted: str = vars(cls)["semantic_hash"]
            docstring = sys.modules[cls.__module__].__doc__ or ""
            lines = [line for line in docstring.splitlines() if line.startswith("    ")]
            source = SourceFile(f"{cls.__name__}.mot", dedent("\n".join(lines)) + "\n")
            for dense in (False, True) if lines else ():
                if semantic_hash(_compiled(source, dense)) == wanted:
                    return Kept(spec=source, dense=dense, semantic_hash=wanted, version=__version__)
            raise ValueError(f"the docstring of {cls.__name__}'s module does not have its spec")
    name = type(model).__name__
    raise ValueError(f"{name} is no model that motc made; of one that wraps it, give that inside, such as ddp.module")


def kept_with(stored: Stored) -> Kept:
    """What is kept with weights. Raises SpecError where nothing is, as with those that others wrote."""
    metadata = stored.metadata
    if SPEC not in metadata or HASH not in metadata:
        message = f"{stored.path} does not say which spec it is of: it has no `{SPEC if HASH in metadata else HASH}`"
        help_ = "motc.save and motc import write it; weights without it go through load_state_dict"
        raise _other(message, help_)
    spec = SourceFile(f"{stored.path}:spec.mot", metadata[SPEC])
    if read(spec).get("extends") is not None:
        raise _other(f"{stored.path} is of a spec that extends another, which it does not have")
    return Kept(
        spec=spec,
        dense=metadata.get(TWIN) == "dense",
        semantic_hash=metadata[HASH],
        version=metadata.get(VERSION, ""),
    )


def require_same(stored: Stored, model: Model) -> None:
    """Weights are of this model, or it is said how theirs differs. Raises SpecError."""
    require_same_kept(kept_with(stored), str(stored.path), model)


def require_same_kept(kept: Kept, path: str, model: Model) -> None:
    """What is kept with weights at this path is of this model, or it is said how theirs differs. Raises SpecError."""
    if kept.semantic_hash == semantic_hash(model):
        return
    edits = diff(kept.model(), model)
    if not edits and not _is_comparable(kept.semantic_hash):
        return
    told = [f"{edit.kind} {edit.describe()}" for edit in edits[:TOLD]]
    told += [f"and {len(edits) - TOLD} more"] if len(edits) > TOLD else []
    differences = "; ".join(told) or "in nothing that motc can name"
    message = f"{path} has weights of another model; from it to {model.name}: {differences}"
    raise _other(message, "motc show prints the spec that weights are of; without a spec, motc.load takes that one")


@lru_cache(maxsize=4)
def _compiled(spec: SourceFile, dense: bool) -> Model:
    """The final IR of a spec, which is asked for again and again while a model is prepared for training."""
    return compile_ir(spec, dense=dense)


def _is_comparable(other: str) -> bool:
    return other.partition("-")[0] == str(FORMAT)


def _other(message: str, help_: str = "") -> SpecError:
    return SpecError(Diagnostic(code="MOT102", message=message, span=None, help=help_))
