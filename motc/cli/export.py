"""`motc export`: a model with its weights, for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from motc.cli.machine import compiler_errors
from motc.cli.output import JsonOption, SetOption, SpecPath, Stop, overrides, print_json, read_path


def run(
    spec: SpecPath,
    weights: Annotated[
        Path,
        typer.Argument(
            metavar="WEIGHTS", help="The weights, as motc.save writes.", show_default=False, parser=read_path
        ),
    ],
    out: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder that is written.", show_default=False, parser=read_path)
    ],
    to: Annotated[Literal["hf"], typer.Option(help="hf: a folder for transformers.", show_default=False)],
    as_: Annotated[
        str | None,
        typer.Option(
            "--as", metavar="NAME", help="hf: as a class of transformers has it, such as llama, under its names."
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="hf: a tokenizer, whose files are carried along.", parser=read_path),
    ] = None,
    license: Annotated[
        str | None, typer.Option(metavar="ID", help="hf: the licence that the model card names, such as apache-2.0.")
    ] = None,
    json: JsonOption = False,
    set_: SetOption = None,
) -> None:
    """Write a model with its weights for other programs, and compare what was written with it before saying done."""
    from motc.driver import check_spec, final_ir, spec_text

    if as_ is not None:
        from motc.exporting.original import CLASSES

        if as_ not in CLASSES:
            raise typer.BadParameter(f"{as_!r} is none of {', '.join(CLASSES)}", param_hint="--as")
    checked = check_spec(spec, overrides(set_))
    model, text = final_ir(checked), spec_text(checked)
    with compiler_errors():
        from motc.exporting.deviation import NotTheSame
        from motc.exporting.given import network_of
        from motc.exporting.hub_folder import write_hub_folder, write_original

        try:
            network = network_of(model, text, weights)
            given: dict[str, Any] = {"tokenizer": tokenizer, "licence": license}
            if as_ is None:
                written = write_hub_folder(model, text, network, out, **given)
            else:
                written = write_original(as_, checked, model, text, network, out, **given)
        except (NotTheSame, ValueError, ImportError) as error:
            raise Stop(1, str(error)) from None
    if json:
        print_json(
            {"ok": True, "folder": str(out), "batches": written.batches, "logits": written.logits, "loss": written.loss}
        )
    else:
        typer.echo(
            f"{out}: {written.batches} batches, logits within {written.logits:.1e} and losses {written.loss:.1e}"
        )
