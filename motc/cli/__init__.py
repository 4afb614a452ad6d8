"""The command line: one file a command. Whatever is heavy is imported inside the command that needs it."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any

import typer

from motc import __version__
from motc.cli import (
    bench,
    build,
    check,
    convert,
    diff,
    explain,
    export,
    fmt,
    import_,
    init,
    lsp,
    match,
    new,
    plan_cluster,
    schema,
    show,
    validate,
    watch,
)
from motc.cli.ending import cleared_when_ended
from motc.cli.first import tell
from motc.cli.output import Stop, fail, report
from motc.cli.streams import standard_streams
from motc.source import SpecError
from motc.source.printable import shortened

app = typer.Typer(
    name="motc",
    help="A compiler from short specs of multi-modal transformers to readable PyTorch models.",
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

UsageError: Any = typer.BadParameter.__base__  # typer has it from click, or from a copy of its own

SPEC = "specs/emoji_mot.mot"
app.command("new", epilog="Example: motc new my.mot --from llama_3_2_1b --add image=8192 --untie attention,ffn,norm")(
    new.run
)
app.command("check", epilog=f"Example: motc check {SPEC} --set layers=2")(check.run)
app.command("fmt", epilog=f"Example: motc fmt {SPEC} --write")(fmt.run)
app.command("convert", epilog=f"Example: motc convert {SPEC} --to yaml -o emoji.yaml")(convert.run)
app.command("show", epilog=f"Example: motc show {SPEC} --json")(show.run)
app.command("build", epilog=f"Example: motc build {SPEC} -o build/emoji")(build.run)
app.command("validate", epilog=f"Example: motc validate {SPEC}")(validate.run)
app.command("bench", epilog=f"Example: motc bench {SPEC} --ratios 0.5 --mode backward")(bench.run)
app.command("match", epilog=f"Example: motc match {SPEC} --data data --out build/match")(match.run)
app.command("import", epilog="Example: motc import Llama-3.2-1B -o llama.mot --weights llama.safetensors")(import_.run)
app.command("export", epilog=f"Example: motc export {SPEC} weights.safetensors --to hf build/emoji_mot")(export.run)
app.command("init", epilog=f"Example: motc init {SPEC} --from dense.safetensors --map upcycle.map --dry-run")(init.run)
app.command("diff", epilog=f"Example: motc diff {SPEC} --dense")(diff.run)
app.command("explain", epilog=f"Example: motc explain layers.3.ffn.down.image.weight --spec {SPEC}")(explain.run)
app.command("watch", epilog=f"Example: motc watch {SPEC}")(watch.run)
app.command("plan", epilog=f"Example: motc plan {SPEC} --gpus 2 --sequence 128 --batch-tokens 1K")(plan_cluster.run)
app.command("lsp", epilog="Example: motc lsp")(lsp.run)
app.command("schema", epilog="Example: motc schema > motc.schema.json")(schema.run)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"motc {__version__}")
        raise typer.Exit


@app.callback()
def _motc(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """A compiler from short specs of multi-modal transformers to readable PyTorch models."""
    if context.invoked_subcommand is None:
        tell()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 done, 1 the spec, file or check is wrong, 2 usage (diff: see there)."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # looking for them reads the names of all packages
    gc.set_threshold(50_000)  # a short process that keeps what it makes: collecting often would only find it all alive
    words = list(sys.argv[1:] if arguments is None else arguments)
    with standard_streams(), cleared_when_ended():
        try:
            code = _run(words)
            sys.stdout.flush()
            return code
        except BrokenPipeError:  # the reader has gone, as `head` does
            return 1
        except OSError as error:  # of the streams; the other one may still work
            with contextlib.suppress(OSError):
                fail(f"{error.filename}: {error.strerror}")
            return 1


@cache
def _commands() -> Any:
    """All commands as they are called, made once in a program that calls several."""
    return typer.main.get_command(app)


def _run(words: list[str]) -> int:
    as_json = "--json" in words
    try:
        code = _commands()(words, prog_name="motc", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except Stop as stop:
        if stop.message:
            fail(stop.message, as_json=as_json)
        return stop.code
    except SpecError as error:
        report(error.diagnostics, more=error.more, as_json=as_json)
        return 1
    except UsageError as error:
        error.message = shortened(error.message.removeprefix("Value error, "))  # which pydantic puts before typer's own
        if as_json:
            # An option without its value is told without a context; no option before a command has one.
            command = error.ctx.command_path if error.ctx else f"motc {words[0]}"
            fail(error.format_message(), as_json=True, way_out=f"see {command} --help")
        else:
            error.show()
        return 1 if words[:1] == ["diff"] else 2
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except SystemExit as left:  # typer's own, where the reader of a pipe has gone, or SIGTERM's
        return left.code if isinstance(left.code, int) else 1
    except BrokenPipeError:
        raise
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), as_json=as_json)
        return 1
