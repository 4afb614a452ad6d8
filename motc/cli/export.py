"""`motc export`: a model with its weights, for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from motc.cli.machine import compiler_errors, working
from motc.cli.output import JsonOption, SetOption, SpecPath, Stop, StrategyOption, overrides, print_json, read_path


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
    to: Annotated[
        Literal["hf", "pt2", "aoti", "onnx"],
        typer.Option(
            help="hf: for transformers; pt2: a program of torch.export; aoti: one compiled for this machine; onnx.",
            show_default=False,
        ),
    ],
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
    strategy: StrategyOption = None,
    json: JsonOption = False,
    set_: SetOption = None,
) -> None:
    """Write a model with its weights for other programs, and compare what was written with it before saying done."""
    from motc.driver import check_spec, final_ir, spec_text

    for name, value in (("--as", as_), ("--tokenizer", tokenizer), ("--license", license)):
        if value is not None and to != "hf":
            raise typer.BadParameter("it is for --to hf", param_hint=name)
    if as_ is not None:
        from motc.exporting.original import CLASSES

        if as_ not in CLASSES:
            raise typer.BadParameter(f"{as_!r} is none of {', '.join(CLASSES)}", param_hint="--as")
    checked = check_spec(spec, overrides(set_))
    model, text = final_ir(checked, strategy=strategy), spec_text(checked)
    with compiler_errors(), working(f"writing {out}, and comparing it"):
        from motc.exporting.deviation import NotTheSame
        from motc.exporting.given import network_of

        try:
            network = network_of(model, text, weights)
            if to != "hf":
                from motc.exporting.program import write_program

                compared = write_program(model, network, out, to)
                told: dict[str, Any] = {"batches": compared.batches, "logits": compared.logits}
            else:
                from motc.exporting.hub_folder import write_hub_folder, write_original

                given: dict[str, Any] = {"tokenizer": tokenizer, "licence": license}
                if as_ is None:
                    written = write_hub_folder(model, text, network, out, **given)
                else:
                    written = write_original(as_, checked, model, text, network, out, **given)
                told = {"batches": written.batches, "logits": written.logits, "loss": written.loss}
        except (NotTheSame, ValueError, ImportError) as error:
            raise Stop(1, str(error)) from None
    if json:
        print_json({"ok": True, "folder": str(out), **told})
    else:
        losses = "" if told.get("loss") is None else f", losses within {told['loss']:.1e}"
        typer.echo(f"{out}: {told['batches']} batches, logits within {told['logits']:.1e} of the largest{losses}")
