"""`motc plan`: what training a spec's model takes of a cluster: meshes, memory, time."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from motc.cli.output import DenseOption, JsonOption, SetOption, SpecPath, Stop, overrides, print_json, read_path

if TYPE_CHECKING:
    from motc.cluster.layouts import Layout
    from motc.ir.model import Model

SCALES = {"": 1, "K": 2**10, "M": 2**20}
SHOWN, REFUSED = 5, 12


def run(
    spec: SpecPath,
    gpus: Annotated[int, typer.Option(min=1, max=100_000, help="How many accelerators.", show_default=False)],
    gpu: Annotated[str, typer.Option(help="Which: a100, h100, h200, or one of --gpus-file.")] = "h100",
    sequence: Annotated[int, typer.Option(min=1, help="Tokens of a sequence.")] = 8192,
    batch_tokens: Annotated[
        str, typer.Option(metavar="TOKENS", help="Tokens of a step; K is 1024 of them, M 1024 K.")
    ] = "4M",
    share: Annotated[
        list[str] | None,
        typer.Option(metavar="MODALITY=SHARE", help="A modality's share of tokens; default: all alike."),
    ] = None,
    efficiency: Annotated[float, typer.Option(help="Of the peak of products, what is reached.")] = 0.4,
    train_tokens: Annotated[
        float, typer.Option(metavar="TOKENS", help="Tokens of the whole training, for its days.")
    ] = 1e12,
    gpus_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Accelerators of your own.", show_default=False, parser=read_path),
    ] = None,
    dense: DenseOption = False,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Plan a training: each mesh's memory and bounds of time, and which fit. Nothing is run."""
    from motc.cluster.accelerators import accelerator
    from motc.cluster.layouts import Step, layouts
    from motc.driver import check_spec, final_ir

    if not 0 < efficiency <= 1:
        raise typer.BadParameter(f"{efficiency:g} is not above 0 and at most 1", param_hint="--efficiency")
    if not 0 < train_tokens < float("inf"):
        raise typer.BadParameter(f"{train_tokens:g} is not a number above 0", param_hint="--train-tokens")
    tokens = _tokens(batch_tokens)
    try:
        device = accelerator(gpu, gpus_file)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--gpu") from None
    model = final_ir(check_spec(spec, overrides(set_)), dense=dense)
    step = Step(tokens=tokens, sequence=sequence, shares=_shares(share, model))
    try:
        able, refused = layouts(model, step, gpus, device)
    except ValueError as error:
        raise Stop(1, str(error)) from None
    fits = sorted(
        (each for each in able if each.memory <= device.memory),
        key=lambda each: (each.seconds(efficiency), each.network),
    )
    for each in able:
        if each.memory > device.memory and each.sequences == 1:
            refused[_name(each)] = f"{each.memory / 1e9:,.1f} GB are more than {device.memory / 1e9:g}"
    if json:
        print_json(
            {"ok": bool(fits), "layouts": [_told(each, efficiency, step.tokens) for each in fits], "not": refused}
        )
    else:
        if fits:
            _print(fits[:SHOWN], efficiency, tokens, train_tokens)
        for name, why in list(refused.items())[:REFUSED]:
            typer.echo(f"{name}: {why}")
        if len(refused) > REFUSED:
            typer.echo(f"and {len(refused) - REFUSED} others do not fit: --json has them")
    if not fits:
        raise Stop(1, "" if json else f"no mesh of {gpus} {device.name} fits {model.name}")


def _tokens(text: str) -> int:
    match = re.fullmatch(r"([1-9][0-9]{0,12})([KM]?)", text)
    if match is None:
        raise typer.BadParameter(
            f"{text!r} is not a number of tokens such as 4M, 512K or 65536", param_hint="--batch-tokens"
        )
    return int(match[1]) * SCALES[match[2]]


def _shares(said: list[str] | None, model: Model) -> dict[str, float]:
    if not said:
        return {name: 1 / len(model.names) for name in model.names}
    shares = dict.fromkeys(model.names, 0.0)
    for each in said:
        name, _, number = each.partition("=")
        if name not in shares:
            known = ", ".join(model.names)
            raise typer.BadParameter(f"{name!r} is no modality of {model.name}: {known}", param_hint="--share")
        try:
            shares[name] = float(number)
        except ValueError:
            raise typer.BadParameter(f"{each!r} is not MODALITY=SHARE", param_hint="--share") from None
    if not all(0 <= value <= 1 for value in shares.values()) or abs(sum(shares.values()) - 1) > 1e-6:
        raise typer.BadParameter(
            f"shares are from 0 to 1 and add up to 1, not {sum(shares.values()):g}", param_hint="--share"
        )
    return shares


def _name(layout: Layout) -> str:
    return f"{layout.mesh}, {layout.sequences} at once" + (", checkpointed" if layout.checkpoint else "")


def _told(layout: Layout, efficiency: float, tokens: int) -> dict[str, object]:
    seconds = layout.seconds(efficiency)
    figures = asdict(layout)
    return {
        **figures.pop("mesh"),
        **figures,
        "memory": layout.memory,
        "binds": layout.binds,
        "seconds": seconds,
        "tokens_per_second": tokens / seconds,
    }


def _print(fits: list[Layout], efficiency: float, tokens: int, train_tokens: float) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("GB of a device, seconds of a step")
    titles = (
        "states",
        "collected",
        "activations",
        "loss",
        "all",
        "sent",
        "arithmetic",
        "network",
        "binds",
        "tokens/s",
        "days",
    )
    for title in titles:
        table.add_column(title, justify="right")
    for each in fits:
        states = each.weights + each.gradients + each.optimizer
        sizes = (states, each.collected, each.activations, each.loss, each.memory, each.sent)
        speed = tokens / each.seconds(efficiency)
        table.add_row(
            _name(each),
            *(f"{size / 1e9:,.2f}" for size in sizes),
            *(f"{seconds:,.3g}" for seconds in (each.arithmetic, each.network)),
            each.binds,
            f"{speed:,.0f}",
            f"{train_tokens / speed / 86400:,.1f}",
        )
    Console(width=160, highlight=False, markup=False, emoji=False).print(table)
