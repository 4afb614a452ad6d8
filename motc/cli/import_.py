"""`motc import`: a folder of Hugging Face to a spec, and its weights to a file of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from motc.cli.machine import need, working
from motc.cli.output import JsonOption, Stop, print_json, read_path
from motc.files import folder_aside, write_whole

TOLERANCE = 1e-4
"""How far logits may differ, of the largest: in float32, sums in another order come to less."""


def run(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="config.json and safetensors, or a .gguf file.", show_default=False, parser=read_path
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "-o", "--out", metavar="FILE", help="The spec, .mot or .yaml.", show_default=False, parser=read_path
        ),
    ],
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The weights under motc's names, as safetensors.", show_default=False, parser=read_path
        ),
    ] = None,
    left_out: Annotated[
        Path | None,
        typer.Option(
            "--left-out",
            metavar="FILE",
            help="What is no part of the model, such as an encoder.",
            show_default=False,
            parser=read_path,
        ),
    ] = None,
    check: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, help="Compare logits of N random tokens with transformers, before FILE is there."
        ),
    ] = 0,
    json: JsonOption = False,
) -> None:
    """Write the spec of a model of Hugging Face, and its weights; what motc would have to ignore is refused."""
    if weights is None and (check or left_out):
        raise typer.BadParameter("say where the weights go", param_hint="--weights")
    if check:
        need(("transformers",), "--check", "hf")
    with working(f"reading {folder}"), _as_folder(folder, out) as readable:
        _import(readable, out, weights, left_out, check, json)


def _import(folder: Path, out: Path, weights: Path | None, left_out: Path | None, check: int, json: bool) -> None:
    from motc.driver import compile_ir
    from motc.importing.configuration import read_configuration
    from motc.importing.describe import architecture_of, describe
    from motc.importing.described import name_from
    from motc.ir.identity import semantic_hash
    from motc.source import SourceFile
    from motc.syntax import convert

    configuration = read_configuration(folder)
    architecture = architecture_of(configuration)
    if check and architecture.modality is None:
        raise Stop(1, f"--check compares logits, and {architecture.name} has none")
    described = describe(configuration, architecture)
    text = described.spec(
        name_from(out.stem), f"A {architecture.name}, as its config.json has it.", str(configuration.file)
    )
    source = SourceFile(f"{configuration.file}.mot", text)
    model = compile_ir(source)
    told: dict[str, Any] = {
        "spec": str(out),
        "architecture": architecture.name,
        "semantic_hash": semantic_hash(model),
        "notes": described.notes,
    }
    lines = [f"{out}: the spec of a {architecture.name}", *described.notes]

    def write_spec(aside: Path | None = None) -> None:
        write_whole(out, convert(source, "yaml") if out.suffix.lower() in (".yaml", ".yml") else text)

    if weights is not None:
        from motc.importing.convert import plan_conversion
        from motc.weights.stored import open_weights

        conversion = plan_conversion(architecture, open_weights(folder), model, source)
        differences: list[tuple[float, float]] = []

        def finish(aside: Path) -> None:
            if check:
                from motc.importing.compare import largest_difference

                differences.append(largest_difference(folder, architecture, aside, check))
                difference, largest = differences[0]
                if not difference <= TOLERANCE * largest:
                    raise Stop(1, f"logits differ by {difference:.3g} of {largest:.3g}; {weights} is not written")
            if left_out is None:
                write_spec()
            else:
                conversion.write_left_out(left_out, write_spec)

        conversion.write(weights, finish)  # all are there in the end, or none
        dtypes = ", ".join(sorted(set(conversion.dtypes.values())))
        lines.append(f"{weights}: {len(conversion.dtypes)} parameters in {dtypes}, each from its tensors")
        told |= {"weights": str(weights), "parameters": len(conversion.dtypes), "left_out": list(conversion.left_out)}
        if differences:
            lines.append(
                "the same logits as transformers, of {} tokens of text: they differ by {:.3g} of {:.3g}".format(
                    check, *differences[0]
                )
            )
            others = [name for name in model.names if name != architecture.modality]
            if others:
                lines.append(f"not compared: {', '.join(others)}")
            told["not_compared"] = others
            told["difference"], told["largest_logit"] = differences[0]
        if conversion.left_out:
            where = f", kept in {left_out}" if left_out else ""
            lines.append(
                f"left out: {len(conversion.left_out)} tensors{where}, of {', '.join(_modules(conversion.left_out))}"
            )
    else:
        write_spec()
    if json:
        print_json({"ok": True, **told})
    else:
        typer.echo("\n".join(lines))


def _modules(names: tuple[str, ...]) -> list[str]:
    """The modules that tensors are of, by the first words that tell them apart."""
    return list(dict.fromkeys(".".join(name.split(".")[:2]) for name in names))[:8]


@contextmanager
def _as_folder(path: Path, out: Path) -> Iterator[Path]:
    """A folder as it is; a GGUF file as transformers reads it, written beside the spec for as long as it is needed."""
    if path.suffix.lower() != ".gguf":
        yield path
        return
    from motc.importing.gguf import write_folder

    out.parent.mkdir(parents=True, exist_ok=True)
    with folder_aside(out.parent) as folder:
        try:
            write_folder(path, folder)
        except (ImportError, ValueError, KeyError) as error:
            raise Stop(1, f"transformers cannot read {path}: {error}; it needs gguf and accelerate beside it") from None
        yield folder
