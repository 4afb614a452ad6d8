"""`motc bench`: the generated model, its dense twin and boolean masks timed side by side."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from motc.cli.machine import compiler_errors, need, progress, read_device
from motc.cli.output import (
    DenseOption,
    HtmlOption,
    JsonOption,
    SetOption,
    Setting,
    SpecPath,
    Stop,
    overrides,
    print_json,
    read_path,
)
from motc.files import other_kind, write_whole

if TYPE_CHECKING:
    from motc.bench import Packing, Report, Settings, Subject
    from motc.schema import Checked

Item = TypeVar("Item")
PLOTS = {".png": "png", ".svg": "svg"}


def run(
    spec: SpecPath,
    batch: Annotated[int, typer.Option(min=1, help="Rows of a batch.")] = 2,
    sequence: Annotated[int, typer.Option(min=1, help="Tokens of a row.")] = 1024,
    pairs: Annotated[int, typer.Option(min=1, help="Rounds in which model and twin have their turns.")] = 15,
    ratios: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Shares of the last of two modalities. [default: 0,0.37,0.5,1]"),
    ] = None,
    modalities: Annotated[
        str | None, typer.Option(metavar="NAMES", help="The modalities in the data. [default: all]")
    ] = None,
    dtype: Annotated[str, typer.Option(metavar="LIST", help="Of float32, bfloat16.")] = "float32,bfloat16",
    mode: Annotated[
        str, typer.Option(metavar="LIST", help="Of forward, backward (and forward), step (and both).")
    ] = "forward,backward,step",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of torch.", show_default="torch's own")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of the data.")] = 0,
    json: JsonOption = False,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw ratios against shares, .png or .svg.", parser=read_path),
    ] = None,
    html: HtmlOption = None,
    kernels: Annotated[bool, typer.Option("--kernels", help="Time nothing; list what layers are compiled to.")] = False,
    depths: Annotated[
        str | None, typer.Option(metavar="LIST", help="Time only compiling, at these numbers of layers.")
    ] = None,
    pack: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Time nothing; write a folder whose run.py checks and times the model where there is torch alone.",
            parser=read_path,
        ),
    ] = None,
    dense: DenseOption = False,
    set_: SetOption = None,
) -> None:
    """Time the model, its dense twin and boolean masks side by side, and count what compiling makes of them."""
    from motc.driver import check_spec, final_ir

    if sum((kernels, depths is not None, plot is not None or html is not None, pack is not None)) > 1:
        raise typer.BadParameter("--kernels, --depths, --plot or --html, and --pack exclude each other")
    if pack is not None and dense:
        raise typer.BadParameter("--pack and --dense exclude each other: a pack has the dense twin in it")
    if plot is not None and plot.suffix.lower() not in PLOTS:
        raise typer.BadParameter(f"{plot} ends in neither .png nor .svg", param_hint="--plot")
    for picture in (plot, html):
        if picture is not None and other_kind(picture) == "a directory":  # said now, not after minutes of timing
            raise Stop(1, f"{picture} is a directory")
    shares = None if ratios is None else _items(ratios, _share, "--ratios")
    layers = () if depths is None else _items(depths, _depth, "--depths")
    values = overrides(set_)
    checked = check_spec(spec, values)
    model = final_ir(checked, dense=dense)
    deep = {depth: _at_depth(spec, values, depth) for depth in layers}

    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else the profiler tells stderr of its start and stop
    from motc.bench import DTYPES, MODES, Packing, Settings, Subject, mixtures

    if plot is not None:
        need(("matplotlib",), "--plot", "bench")
    if html is not None:
        need(("matplotlib",), "--html", "bench")
    names = None if modalities is None else _items(modalities, str, "--modalities")
    continuous = [modality.name for modality in model.latent_modalities()]
    with _told():
        chosen = mixtures([modality.name for modality in model.modalities], sequence, shares, names, continuous)
    if plot is not None and chosen[0].share is None:
        raise typer.BadParameter("a plot needs data of two modalities", param_hint="--plot")
    settings = Settings(
        mixtures=chosen,
        batch=batch,
        pairs=pairs,
        dtypes=_items(dtype, lambda word: _known(word, tuple(DTYPES)), "--dtype"),
        modes=_items(mode, lambda word: _known(word, MODES), "--mode"),
        device=read_device(device),
        threads=threads,
        seed=seed,
    )
    if pack is not None:
        packing = Packing(
            name=model.name, checked=checked, batch=batch, sequence=sequence, modalities=names, ratios=shares
        )
        _pack(packing, settings, pack)
        return
    with compiler_errors():
        if deep:
            subjects = {depth: Subject(checked=at_depth, dense=dense) for depth, at_depth in deep.items()}
            _depths(subjects, settings, json)
        elif kernels:
            _kernels(Subject(checked=checked, dense=dense), settings, json)
        else:
            told = {
                "ratios": ratios,
                "modalities": modalities,
                "threads": threads,
                "batch": batch,
                "sequence": sequence,
            }
            told |= {"pairs": pairs, "dtype": dtype, "mode": mode, "device": device, "seed": seed}
            command = _command(spec, told, dense, set_)
            _bench(Subject(checked=checked, dense=dense), settings, json, plot, html, command)


def _command(spec: Path, options: dict[str, Any], dense: bool, set_: list[str] | None) -> str:
    """What is to be typed to measure the same."""
    words = [str(word) for name, value in options.items() if value is not None for word in (f"--{name}", value)]
    words += [word for each in set_ or () for word in ("--set", each)]
    return shlex.join(["motc", "bench", str(spec), *words, *(["--dense"] if dense else [])])


def _bench(
    subject: Subject, settings: Settings, json: bool, plot: Path | None, html: Path | None, command: str
) -> None:
    from motc.bench import bench
    from motc.cli.bench_tables import print_report

    with progress() as notify:
        report = bench(subject, settings, notify)
    if json:
        print_json(report.to_json())
    else:
        print_report(report)
    if plot is not None:
        _draw(report, plot)
    if html is not None:
        from motc.bench.page import to_html

        write_whole(html, to_html(report, command))
        typer.echo(html, err=True)


def _draw(report: Report, path: Path) -> None:
    from motc.bench.plot import plot

    write_whole(path, plot(report, PLOTS[path.suffix.lower()]))
    typer.echo(path, err=True)


def _pack(packing: Packing, settings: Settings, folder: Path) -> None:
    from motc.bench import pack_of

    if folder.is_dir() and any(folder.iterdir()) and not (folder / "pack.json").is_file():
        raise Stop(1, f"{folder} holds other files, and a pack could overwrite them; choose a folder of its own")
    for name, text in pack_of(packing, settings).items():
        write_whole(folder / name, text)
    typer.echo(folder / "run.py")


def _kernels(subject: Subject, settings: Settings, json: bool) -> None:
    from motc.bench import kernels_json, list_kernels
    from motc.cli.bench_tables import print_kernels

    with progress() as notify:
        kernels = list_kernels(subject, settings, notify)
    if json:
        print_json({"model": subject.ir().name, "kernels": [kernels_json(side) for side in kernels]})
    else:
        print_kernels(kernels)


def _depths(subjects: dict[int, Subject], settings: Settings, json: bool) -> None:
    from dataclasses import asdict

    from motc.bench import compile_depths
    from motc.cli.bench_tables import print_depths

    with progress() as notify:
        depths = compile_depths(subjects, settings, notify)
    if json:
        print_json({"model": next(iter(subjects.values())).ir().name, "depths": [asdict(depth) for depth in depths]})
    else:
        print_depths(depths)


def _at_depth(spec: Path, values: dict[str, Setting], depth: int) -> Checked:
    from motc.driver import check_spec, final_ir

    checked = check_spec(spec, {**values, "layers": depth})
    final_ir(checked)
    return checked


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """A library's ValueError as a usage error."""
    try:
        yield
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _items(text: str, read: Callable[[str], Item], option: str) -> tuple[Item, ...]:
    """What stands between commas, each once."""
    try:
        return tuple(dict.fromkeys(read(word.strip()) for word in text.split(",")))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def _share(word: str) -> float:
    try:
        share = float(word)
    except ValueError:
        raise ValueError(f"{word!r} is no number") from None
    if not 0 <= share <= 1:
        raise ValueError(f"{word} is not within 0..1")
    return share


def _depth(word: str) -> int:
    if not (word.isascii() and word.isdigit() and int(word)):
        raise ValueError(f"{word!r} is no number of layers")
    return int(word)


def _known(word: str, names: tuple[Any, ...]) -> Any:
    if word not in names:
        raise ValueError(f"{word!r} is none of {', '.join(names)}")
    return word
