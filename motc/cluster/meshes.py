"""The meshes that so many devices may be, and which a model cannot be on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from math import prod

from motc.ir.model import Model
from motc.ir.rows import heads_of_rows
from motc.ir.sharding import divided_parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """The sizes of a mesh's dimensions, outermost first, as `motc.parallelize` has them."""

    replicate: int = 1
    dp: int = 1
    ep: int = 1
    cp: int = 1
    tp: int = 1

    @property
    def batches(self) -> int:
        """How many of its ranks, or groups of them, have batches of their own."""
        return self.replicate * self.dp * self.ep

    @property
    def shards(self) -> int:
        """Over how many ranks a parameter is sharded that is no expert's."""
        return self.dp * self.ep * self.cp

    def __str__(self) -> str:
        sizes = {each.name: getattr(self, each.name) for each in fields(self)}
        return " × ".join(f"{name} {size}" for name, size in sizes.items() if size > 1 or name in ("dp", "tp"))


def meshes(gpus: int, node: int) -> Iterator[Mesh]:
    """All of so many devices: with copies where a node's devices share one, and experts apart beside `dp` alone."""
    for tp in divisors(gpus):
        for cp in divisors(gpus // tp):
            dp = gpus // tp // cp
            yield Mesh(dp=dp, cp=cp, tp=tp)
            if gpus > node and gpus % node == 0 and node % (tp * cp) == 0:
                yield Mesh(replicate=gpus // node, dp=node // tp // cp, cp=cp, tp=tp)
    for ep in divisors(gpus)[1:]:
        yield Mesh(dp=gpus // ep, ep=ep)


def divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


def refusal(model: Model, mesh: Mesh, tokens: int, sequence: int, node: int) -> str | None:
    """Why a model cannot be on a mesh, with so many tokens of a step; None where it can."""
    if mesh.tp > node:
        return f"tp is more than the {node} devices of a node"
    if tokens % (sequence * mesh.batches):
        ranks = f"{mesh.batches} {'dp' if mesh.batches == mesh.dp else ''} ranks".replace("  ", " ")
        return f"{tokens:,} tokens are not sequences of {sequence:,} for each of {ranks}"
    try:
        divided_parameters(model, mesh.tp)
        if mesh.cp > 1:
            for heads, kv_heads in heads_of_rows(model):
                own, own_kv = heads // mesh.tp, max(1, kv_heads // mesh.tp)
                if own % mesh.cp or (own_kv % mesh.cp and mesh.cp % own_kv):
                    return f"{mesh.cp} ranks of cp do not divide {own} heads and {own_kv} kv_heads"
    except ValueError as error:
        return str(error)
    counts = {moe.experts for _, moe in model.mixtures}
    if mesh.ep > 1 and not counts:
        return "there are no experts"
    if any(count % mesh.ep for count in counts):
        return f"{mesh.ep} ranks of ep do not divide {', '.join(map(str, sorted(counts)))} experts"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class States:
    """Numbers that parameters are: those that a rank of `tp` and `ep` has with the others of `dp`, and its own part."""

    shared: int  # sharded over dp, ep and cp
    experts: int  # this rank's experts, where they are sharded over dp alone
    own: int
    largest: int  # of an FSDP2 unit


def states(model: Model, mesh: Mesh) -> States:
    """Those of one rank."""
    parameters = divided_parameters(model, mesh.tp)
    of_experts = {name.rpartition(".")[0] for name, each in parameters.items() if len(each.shape) == 3}
    shared = experts = own = 0
    units: dict[str, int] = {}
    for name, each in parameters.items():
        shape, ranks = each.local, mesh.shards
        if mesh.ep > 1 and name.rpartition(".")[0] in of_experts:
            shape, ranks = (shape[0] // mesh.ep, *shape[1:]), mesh.dp
            experts += prod(shape)
        else:
            shared += prod(shape)
        own += -(-shape[0] // ranks) * prod(shape[1:])
        parts = name.split(".")
        unit = ".".join(parts[:2]) if parts[0] == "layers" else parts[0]
        units[unit] = units.get(unit, 0) + prod(shape)
    return States(shared=shared, experts=experts, own=own, largest=max(units.values()))
