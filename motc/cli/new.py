"""`motc new`: a first spec, from a published one."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from motc.cli.completion import shipped
from motc.cli.output import SetOption, Setting, Stop, overrides, read_path
from motc.files import write_whole

if TYPE_CHECKING:
    from motc.syntax.tree import Mapping

KINDS = {"latent": "latent { channels = 16, patch = 2, objective = flow }", "features": "features { size = 1152 }"}
"""What a continuous modality begins as."""

ADD = "NAME=KIND; KIND is a number of token ids, latent, or features"


def run(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The spec, .mot or .yaml.", show_default=False, parser=read_path)
    ],
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="MODEL",
            help="A shipped model, whose sizes it has.",
            autocompletion=shipped,
            show_default=False,
        ),
    ] = None,
    add: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=KIND", help=f"A further modality: {ADD}.", show_default=False),
    ] = None,
    untie: Annotated[
        str | None,
        typer.Option(metavar="GROUPS", help="What modalities each have their own of, such as attention,ffn,norm."),
    ] = None,
    set_: SetOption = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.")] = False,
) -> None:
    """Write a first spec: a shipped model's, with further modalities. Without --from, on a terminal, it asks."""
    from motc.source import SourceFile
    from motc.syntax import convert, syntax_of

    syntax = syntax_of(SourceFile(str(file), ""))
    if file.exists() and not force:
        raise Stop(1, f"{file} is there already; --force overwrites it")
    if from_ is None:
        if not sys.stdin.isatty():
            raise typer.BadParameter(f"one of {', '.join(models())}", param_hint="--from")
        from_, add, untie = _ask(add, untie)
    text = _text(file, _model(from_), add or [], untie, overrides(set_))
    if syntax == "yaml":
        text = convert(SourceFile(f"{file}.mot", text), "yaml")
    write_whole(file, text)
    typer.echo(file)


def models() -> dict[str, Path]:
    """The shipped models by name."""
    from motc.resources import specs_folder

    folder = specs_folder()
    paths = [*sorted(folder.glob("*.mot")), *sorted((folder / "gallery").glob("*.mot"))]
    return {path.stem: path for path in paths}


def _model(name: str) -> Path:
    from motc.source.nearest import suggestion

    known = models()
    if name not in known:
        way_out = suggestion(name, known, f"there are {', '.join(known)}")
        raise typer.BadParameter(f"no shipped model {name!r}; {way_out}", param_hint="--from")
    return known[name]


def _ask(add: list[str] | None, untie: str | None) -> tuple[str, list[str], str | None]:
    """What flags have not said."""
    typer.echo(f"The shipped models: {', '.join(models())}.")
    name = typer.prompt("Begin from", default="llama_3_2_1b")
    _model(name)
    if add is None:
        told = typer.prompt(f"Further modalities ({ADD}), by commas", default="image=8192")
        add = [each.strip() for each in told.split(",") if each.strip()]
    if untie is None and add:
        untie = typer.prompt("What they each have their own of", default="attention, ffn, norm")
    return name, add, untie


def _text(file: Path, model: Path, add: list[str], untie: str | None, values: dict[str, Setting]) -> str:
    """The spec. Raises SpecError where it would not be right."""
    from motc.driver import compile_ir
    from motc.importing.described import name_from
    from motc.schema.resolve import resolve
    from motc.source import SourceFile
    from motc.syntax import write
    from motc.syntax.scalar import quote
    from motc.syntax.tree import Mapping

    further = [_modality(each) for each in add]
    lines = [f"model {name_from(file.stem)} {{", f"  extends {quote(str(model))}"]
    lines += [f"  modality {name} {{ {block} }}" for name, block in further]
    lines += [f"  untie {untie}"] if untie and untie.strip() else []
    modalities = resolve(model).get("modalities")
    for name, _ in further:
        if isinstance(modalities, Mapping) and name in modalities.by_key:
            raise typer.BadParameter(f"{model.stem} has a modality {name} already", param_hint="--add")
    name = f"{file.with_suffix('')} (not written).mot"
    tree = resolve(SourceFile(name, "\n".join([*lines, "}", ""])), values)
    if any(block.startswith("vocab") for _, block in further):
        tree = _with_own_vocabulary(tree, [name for name, _ in further], model.stem)
    text = f"# Begun by motc new, from {model.stem}.\n{write(tree, 'mot')}"
    compile_ir(SourceFile(name, text))
    return text


def _modality(told: str) -> tuple[str, str]:
    """The name and what its block says, of NAME=KIND."""
    name, equals, kind = (part.strip() for part in told.partition("="))
    if re.fullmatch(r"[A-Za-z]\w*", name) and equals:
        if kind in KINDS:
            return name, KINDS[kind]
        if kind.isascii() and kind.isdecimal():
            return name, f"vocab = {kind}"
    raise typer.BadParameter(f"{told!r} is not {ADD}", param_hint="--add")


def _with_own_vocabulary(tree: Mapping, further: list[str], model: str) -> Mapping:
    """The vocabulary that was the model's as its only modality of tokens', so that others may have theirs."""
    from motc.syntax.tree import Entry, Mapping

    vocab, modalities = tree.by_key.get("vocab"), tree.get("modalities")
    if vocab is None or not isinstance(modalities, Mapping):
        return tree
    sharing = [
        entry
        for entry in modalities.entries
        if entry.key not in further
        and isinstance(entry.value, Mapping)
        and not {"latent", "features"} & entry.value.by_key.keys()
    ]
    if len(sharing) != 1:
        names = " and ".join(entry.key for entry in sharing)
        raise Stop(1, f"{names} of {model} share one vocabulary: add latent or features, or take another model")
    (owner,) = sharing
    assert isinstance(owner.value, Mapping)
    told = Mapping(entries=(vocab, *owner.value.entries), span=owner.value.span)
    owned = tuple(
        Entry(key=each.key, key_span=each.key_span, value=told) if each is owner else each
        for each in modalities.entries
    )
    replaced = Mapping(entries=owned, span=modalities.span)
    return Mapping(
        entries=tuple(
            Entry(key=each.key, key_span=each.key_span, value=replaced) if each.key == "modalities" else each
            for each in tree.entries
            if each is not vocab
        ),
        span=tree.span,
    )
