"""The meshes dp × tp of so many devices: what each takes of a device's memory and time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil, prod

from motc.cluster.accelerators import Accelerator
from motc.cluster.activations import activation_bytes
from motc.cost import attention_flops, flops_per_token
from motc.ir.model import Model
from motc.ir.sharding import divided_parameters

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

    dp: int
    tp: int
    sequences: int  # that a device has at once; gradients of several such parts make a step
    checkpoint: bool
    weights: float
    gradients: float
    optimizer: float
    collected: float
    activations: float
    sent: float
    arithmetic: float
    network: float

    @property
    def memory(self) -> float:
        """Bytes of all that a device holds at once."""
        return self.weights + self.gradients + self.optimizer + self.collected + self.activations

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
    for tp in (n for n in range(1, gpus + 1) if gpus % n == 0):
        dp = gpus // tp
        name = f"dp {dp} × tp {tp}"
        if tp > device.node:
            refused[name] = f"tp is more than the {device.node} devices of a node"
        elif step.tokens % (step.sequence * dp):
            refused[name] = f"{step.tokens:,} tokens are not sequences of {step.sequence:,} for each of {dp} dp ranks"
        else:
            try:
                able += _of_mesh(model, step, dp, tp, device)
            except _Undivided as error:
                refused[name] = str(error)
    return able, refused


class _Undivided(Exception):
    """Ranks do not divide a model."""


def _of_mesh(model: Model, step: Step, dp: int, tp: int, device: Accelerator) -> Iterator[Layout]:
    whole, numbers, largest = states(model, dp, tp)
    tokens = step.tokens // dp  # of a dp rank, in a step: a sequence after another
    forward = tokens * (
        sum(step.shares[name] * flops for name, flops in flops_per_token(model).items())
        + attention_flops(model, step.sequence) / step.sequence
    )
    width = sum(share * model.modality(name).width for name, share in step.shares.items())
    rounds = tokens // step.sequence
    # A dp group has node / tp devices of each node, and as many network adapters to bring a node what it lacks.
    across = device.link if dp * tp <= device.node else min(device.link, device.network * device.node / tp)
    sublayers = sum(len(layer.sublayers) * count for layer, count in model.kinds)
    choices = ((n, checkpoint) for n in range(1, rounds + 1) if rounds % n == 0 for checkpoint in (False, True))
    for sequences, checkpoint in choices:
        sharded = (
            (dp - 1) / dp * whole * (2 * HALF + SINGLE) * rounds / sequences
        )  # collected twice, gradients added up
        passes = 3 if checkpoint else 2  # through each sublayer, with a sum over tp ranks in each
        summed = 2 * (tp - 1) / tp * tokens * width * HALF * sublayers * passes
        yield Layout(
            dp=dp,
            tp=tp,
            sequences=sequences,
            checkpoint=checkpoint,
            weights=SINGLE * numbers,
            gradients=SINGLE * numbers,
            optimizer=2 * SINGLE * numbers,
            collected=2 * HALF * largest if dp > 1 else 0,
            activations=sequences
            * step.sequence
            * activation_bytes(model, step.shares, ranks=tp, checkpoint=checkpoint),
            sent=sharded + summed,
            arithmetic=forward * (4 if checkpoint else 3) / tp / device.bf16,
            network=sharded / across + summed / device.link,
        )


def states(model: Model, dp: int, tp: int) -> tuple[int, int, int]:
    """Numbers that parameters are: on a tp rank, on a dp rank of these, and of a tp rank's largest FSDP2 unit."""
    try:
        parameters = divided_parameters(model, tp)
    except ValueError as error:
        raise _Undivided(str(error)) from None
    whole = sum(prod(each.local) for each in parameters.values())
    numbers = sum(ceil(each.local[0] / dp) * prod(each.local[1:]) for each in parameters.values())
    units: dict[str, int] = {}
    for name, each in parameters.items():
        parts = name.split(".")
        unit = ".".join(parts[:2]) if parts[0] == "layers" else parts[0]
        units[unit] = units.get(unit, 0) + prod(each.local)
    return whole, numbers, max(units.values())
