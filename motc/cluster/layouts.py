"""What a device has and does on each mesh of so many: bytes, and the least seconds of a step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from motc.cluster.accelerators import Accelerator
from motc.cluster.activations import activation_bytes, exchanged_numbers, loss_bytes
from motc.cluster.meshes import Mesh, meshes, refusal, states
from motc.cost import attention_flops, flops_per_token
from motc.ir.model import Model

HALF, SINGLE = 2, 4  # bytes: layers compute in bfloat16; parameters, gradients and AdamW's moments are float32


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What is trained on: tokens of a step in all, of a sequence, and each modality's share."""

    tokens: int
    sequence: int
    shares: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A mesh, bytes of one device, and the least seconds a step takes it for products and for what it sends."""

    mesh: Mesh
    sequences: int  # that a device has at once, or a part of; gradients of several such parts make a step
    checkpoint: bool
    weights: float
    gradients: float
    optimizer: float
    collected: float
    activations: float
    loss: float
    sent: float
    arithmetic: float
    network: float

    @property
    def memory(self) -> float:
        """Bytes of all that a device holds at once."""
        return self.weights + self.gradients + self.optimizer + self.collected + self.activations + self.loss

    @property
    def binds(self) -> str:
        """Which of the two bounds is the longer."""
        return "arithmetic" if self.arithmetic >= self.network else "network"

    def seconds(self, efficiency: float) -> float:
        """Of a step: products at a share of the peak, or what is sent where that takes longer."""
        return max(self.arithmetic / efficiency, self.network)


def layouts(model: Model, step: Step, gpus: int, device: Accelerator) -> tuple[list[Layout], dict[str, str]]:
    """All meshes that divide, for each number of sequences at once, checkpointed or not; by name, why others do not.

    Raises ValueError where activations are not known.
    """
    able: list[Layout] = []
    refused: dict[str, str] = {}
    for mesh in meshes(gpus, device.node):
        why = refusal(model, mesh, step.tokens, step.sequence, device.node)
        if why is None:
            able += _of_mesh(model, step, mesh, device)
        else:
            refused[str(mesh)] = why
    return able, refused


def _of_mesh(model: Model, step: Step, mesh: Mesh, device: Accelerator) -> Iterator[Layout]:
    of = states(model, mesh)
    tokens = step.tokens // mesh.batches // mesh.cp  # of a rank, in a step
    forward = tokens * (
        sum(step.shares[name] * flops for name, flops in flops_per_token(model).items())
        + attention_flops(model, step.sequence) / step.sequence
    )
    width = sum(share * model.modality(name).width for name, share in step.shares.items())
    rounds = step.tokens // mesh.batches // step.sequence
    # A group that shares shards has node / tp devices of each node, and as many adapters to bring a node what it lacks.
    across = _bandwidth(device, mesh.shards * mesh.tp, device.node / mesh.tp)
    sublayers = sum(len(layer.sublayers) * count for layer, count in model.kinds)
    choices = ((n, checkpoint) for n in range(1, rounds + 1) if rounds % n == 0 for checkpoint in (False, True))
    for sequences, checkpoint in choices:
        # Parameters are collected twice, and gradients added up.
        sharded = _without_own(of.shared, mesh.shards) + _without_own(of.experts, mesh.dp)
        sharded *= (2 * HALF + SINGLE) * rounds / sequences
        copied = 2 * _without_own(of.own, mesh.replicate) * SINGLE
        passes = 3 if checkpoint else 2  # through each sublayer, with a sum over tp ranks in each
        summed = 2 * _without_own(tokens * width, mesh.tp) * HALF * sublayers * passes
        rows, pairs = exchanged_numbers(model, step.shares, ranks=mesh.tp, cut=mesh.cp)
        exchanged = (_without_own(rows, mesh.cp) + _without_own(pairs, mesh.ep)) * tokens * HALF * passes
        near = _bandwidth(device, mesh.ep * mesh.cp * mesh.tp, 1)
        at_once = sequences * step.sequence / mesh.cp
        yield Layout(
            mesh=mesh,
            sequences=sequences,
            checkpoint=checkpoint,
            weights=SINGLE * of.own,
            gradients=SINGLE * of.own,
            optimizer=2 * SINGLE * of.own,
            collected=2 * HALF * of.largest if mesh.shards > 1 else 0,
            activations=at_once
            * activation_bytes(
                model, step.shares, ranks=mesh.tp, cut=mesh.cp, exchanged=mesh.ep > 1, checkpoint=checkpoint
            ),
            loss=at_once * loss_bytes(model, step.shares),
            sent=sharded + copied + summed + exchanged,
            arithmetic=forward * (4 if checkpoint else 3) / mesh.tp / device.bf16,
            network=sharded / across + copied / device.network + summed / device.link + exchanged / near,
        )


def _without_own(size: float, ranks: int) -> float:
    """Of what ranks share alike, all that is the others'."""
    return size * (ranks - 1) / ranks


def _bandwidth(device: Accelerator, ranks: int, adapters: float) -> float:
    """Bytes a second of one of so many neighbouring devices, of which a node has some with so many adapters."""
    return device.link if ranks <= device.node else min(device.link, device.network * adapters)
