"""What holds of every spec, and of every text: each a function that raises AssertionError where it does not."""

from __future__ import annotations

import linecache
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cache
from typing import Any
from unittest import mock
from xml.etree import ElementTree

import torch
from torch import Tensor, nn

import motc
from motc.cost import flops_per_token, total_parameters
from motc.diff import Edit, diff
from motc.diff.modalities import renames
from motc.driver import compile_ir, final_ir
from motc.ir.execution import Strategy
from motc.ir.identity import semantic_hash
from motc.ir.model import Model
from motc.loading import instantiate
from motc.reference import Batch
from motc.report import drawn_diff, standalone
from motc.schema import Checked, check
from motc.source import SourceFile, SpecError
from motc.syntax import Syntax, format_source, read, write
from motc.training.copies import Trained
from motc.training.unneeded import leave_out_backward
from motc.validate import Report, reference_config, validate
from motc.validate.batches import random_batches
from motc.validate.laws import reference_laws
from motc.validate.outputs import TOTAL, Outputs, gradients_of, latents_of, random_like, run, run_reference
from motc.validate.random_parameters import randomise
from motc.validate.report import Law, deviation
from motc.validate.twin import twin_mismatch
from tests.fuzz.specs import Drawn


class BrokenLaws(AssertionError):
    """Laws that a generated module does not obey."""

    def __init__(self, report: Report) -> None:
        broken = [law for law in report.laws if not law.ok]
        self.laws = ", ".join(law.name for law in broken)
        super().__init__(", ".join(f"{law.name}: {law.max_deviation:.1e}" for law in broken))


def checked(text: str, syntax: Syntax = "mot") -> Checked:
    """A text's Spec. Raises SpecError."""
    return check(read(SourceFile(f"random.{syntax}", text)))


def accepted(drawn: Drawn) -> tuple[Model, Model] | None:
    """What the compiler makes of a spec, and the dense twin, which it has then too; None if it refuses the spec.

    Whatever is raised beside SpecError comes out.
    """
    try:
        spec = checked(drawn.text)
        model = final_ir(spec, strategy=drawn.strategy)
    except SpecError:
        return None
    return model, final_ir(spec, dense=True)


RIGHT: set[tuple[str, Strategy]] = set()
"""Hashes and strategies of models seen to be as their references; of many ways to untie the dense twin is one."""


def obeys_every_law(sparse: Model, dense: Model, seed: int, *, both: bool = False) -> None:
    """The generated module does what the hand-written reference does, and obeys the laws of `motc.validate`.

    If `both` is asked, its dense twin is compared with its reference though the laws of twins say that it is right.
    """
    if sparse.strategy == "grouped":
        agrees_in_float32(sparse, seed)
    else:
        modules = [instantiate(model, dtype=torch.float64) for model in (sparse, dense)]
        for model, module in zip((sparse, dense), modules, strict=True):
            assert sum(parameter.numel() for parameter in module.parameters()) == total_parameters(model)
        report = validated(sparse, dense, *modules, seed=seed, both=both)
        if not report.ok:
            raise BrokenLaws(report)
    forget_generated()


def validated(
    sparse: Model,
    dense: Model,
    sparse_module: nn.Module,
    dense_module: nn.Module,
    seed: int = 0,
    *,
    both: bool = False,
) -> Report:
    """What `motc.validate` says. A dense twin that was seen to be as its reference is not compared with it again.

    Nor is one, unless `both` is asked, of which the laws of twins say that all is as it is in a model that is compared:
    they leave out losses of routers and what flows back into latents and features.
    """
    twin = semantic_hash(dense), dense.strategy
    told = not (both or twin_mismatch(sparse, dense) or dense.routings or dense.continuous_modalities())
    with twin_taken_as_right() if told or twin in RIGHT else nullcontext():
        report = validate(sparse, dense, sparse_module, dense_module, seed=seed)
    if report.ok:
        RIGHT.update((twin, (semantic_hash(sparse), sparse.strategy)))
    return report


@contextmanager
def twin_taken_as_right() -> Iterator[None]:
    """Meanwhile validation compares no dense twin with its reference. All else draws what it would anyway."""

    def of_sparse(model: Model, module: nn.Module, generator: torch.Generator, prefix: str = "") -> list[Law]:
        return [] if prefix else reference_laws(model, module, generator)

    with mock.patch("motc.validate.laws.reference_laws", of_sparse):
        yield


def agrees_in_float32(model: Model, seed: int) -> None:
    """Outputs and gradients of a module in float32, which is all that grouped products have, are the reference's."""
    generator = torch.Generator().manual_seed(seed)
    config, module = reference_config(model), instantiate(model, dtype=torch.float64)
    randomise(module, generator)
    wide = {name: parameter.detach().clone().requires_grad_() for name, parameter in module.named_parameters()}
    module = module.float()
    for batch in random_batches(model, generator):
        actual, expected = run(module, batch), run_reference(config, wide, batch)  # type: ignore[arg-type]
        for mine, theirs in zip(actual, expected, strict=True):
            assert (off := deviation(mine, theirs)) <= 1e-3, f"outputs: {off:.1e}"
        weights = random_like(expected, generator)
        narrow: dict[str, Tensor] = {key: value.float() for key, value in weights.items()}
        mine = gradients_of(actual, narrow, dict(module.named_parameters()))
        off = deviation(mine, gradients_of(expected, weights, wide))
        assert off <= 1e-2, f"gradients: {off:.1e}"


def freezes_as_by_hand(text: str, strategy: Strategy, seed: int) -> None:
    """Of a model some of whose parameters are frozen, and of vectors it is given, gradients are what autograd makes."""
    draw, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    module: Any = motc.load(text, dtype=torch.float64, strategy=strategy)
    randomise(module, generator)
    trained = Trained(module)
    some_layer, one_tower = draw.randrange(trained.model.layers), set(draw.choice([*trained.towers.values()]))
    is_frozen = {
        "tower": lambda copy: set(copy.modalities) <= one_tower,
        "early": lambda copy: (
            copy.layer < some_layer if copy.layer is not None else copy.path not in ("head", "final_norm")
        ),
        "any": lambda copy: draw.random() < 0.8,
    }[draw.choice(["tower", "early", "any"])]
    for copy, theirs in trained.parameters.items():
        if is_frozen(copy):
            for parameter in theirs.values():
                parameter.requires_grad_(False)
    batches = random_batches(trained.model, generator)
    asks = draw.random() < 0.5
    expected = [_gradients(module, batch, asks) for batch in batches]
    leave_out_backward(trained)
    for batch, theirs in zip(batches, expected, strict=True):
        for name, gradient in _gradients(module, batch, asks).items():
            torch.testing.assert_close(gradient, theirs[name], rtol=1e-9, atol=1e-12, msg=name)
    forget_generated()


def _gradients(module: Any, batch: Batch, asks: bool) -> dict[str, Tensor]:
    """Those of parameters, zeros where there are none, and if that is asked those of features."""
    module.zero_grad()
    features = {name: x.detach().clone().requires_grad_(asks) for name, x in batch.features.items()}
    _, losses, _ = run(module, replace(batch, features=features))
    assert not isinstance(losses, Tensor)
    if losses[TOTAL].requires_grad:
        losses[TOTAL].backward()
    every = {**dict(module.named_parameters()), **{f"features of {name}": x for name, x in features.items()}}
    return {name: torch.zeros_like(x) if x.grad is None else x.grad.clone() for name, x in every.items()}


def agrees_with_sorted(text: str, strategy: Strategy, tolerance: float) -> None:
    """In a strategy a model's outputs and gradients, those into what it is given too, are as they are sorted.

    grouped_mm has no float64: float32 against float64.
    """
    dtype = torch.float32 if strategy == "grouped" else torch.float64
    module: Any = motc.load(text, dtype=dtype, strategy=strategy)
    for batch, expected, weights, gradients in _of_sorted(text):
        outputs = run(module, batch)
        assert max(deviation(*pair) for pair in zip(expected, outputs, strict=True)) <= tolerance
        narrow = {key: value.to(dtype) for key, value in weights.items()}
        found = gradients_of(outputs, narrow, {**dict(module.named_parameters()), **latents_of(batch)})
        assert deviation(gradients, found) <= 10 * tolerance


@cache
def _of_sorted(text: str) -> list[tuple[Batch, Outputs, dict[str, Tensor], dict[str, Tensor]]]:
    """Of batches of positions, of padded documents and of one token: what is said, weights of it, and gradients."""
    module: Any = motc.load(text, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    told = []
    for batch in random_batches(compile_ir(SourceFile("random.mot", text)), generator)[1:4]:
        outputs = run(module, batch)
        weights = random_like(outputs, generator)
        gradients = gradients_of(outputs, weights, {**dict(module.named_parameters()), **latents_of(batch)})
        told.append((batch, outputs, weights, gradients))
    return told


def generates_what_it_predicts(module: Any, ids: Tensor, modality_ids: Tensor, count: int, **how: Any) -> Any:
    """Tokens that are generated one by one after prompts [B, S] are the likeliest by one pass over all of them.

    The first modality's logits are read where modalities have their own. Gives what was generated.
    """
    generated = module.generate(ids, modality_ids, max_new_tokens=count, temperature=0.0, **how)
    whole = torch.cat((ids, generated.input_ids), 1)
    logits = module(whole, torch.cat((modality_ids, generated.modality_ids), 1)).logits
    logits = logits[module.modalities[0]] if isinstance(logits, dict) else logits
    assert torch.equal(logits[:, ids.shape[1] - 1 : -1].argmax(-1), generated.input_ids)
    return generated


def is_written_and_read_back(text: str) -> None:
    """Formatting changes nothing but the text, and once; the other syntax says the same, there and back."""
    tree = read(SourceFile("random.mot", text))
    model = final_ir(checked(text))
    assert diff(model, model) == ()
    for syntax in ("mot", "yaml"):
        source = SourceFile(f"random.{syntax}", write(tree, syntax))
        assert final_ir(check(read(source))) == model, f"written as {syntax}"
        once = SourceFile(source.name, format_source(source))
        assert read(once) == read(source), f"formatted {syntax}"
        assert format_source(once) == once.text, f"{syntax} formatted twice"
        back = write(read(source), "mot")
        assert final_ir(checked(back)) == model, f"{syntax} and back"


def differ_alike_both_ways(one: Model, other: Model) -> None:
    """`diff B A` is `diff A B` reversed, both add up to the whole difference, and equal hashes have none."""
    there, back = diff(one, other), diff(other, one)
    assert (semantic_hash(one) == semantic_hash(other)) == (not there)
    assert_adds_up(one, other, there)
    assert_adds_up(other, one, back)
    told, mirrored = sorted(map(facts, there)), sorted(facts(edit, backwards=True) for edit in back)
    assert told == mirrored, f"there: {[e.describe() for e in there]}\nback: {[e.describe() for e in back]}"


def is_drawn(one: Model, other: Model) -> None:
    """There is a drawing of what turns a model into another, which has a box for every copy of the later one."""
    drawn = ElementTree.fromstring(standalone(drawn_diff(one, other)))
    keys = {each.get("data-key", "") for each in drawn.iter("{http://www.w3.org/2000/svg}g")}
    outside = {f"outside/{leaf.path}/{block.name or 'all'}" for leaf in other.outer_leaves() for block in leaf.blocks}
    inside = {
        f"{leaf.path}/{b.name or 'all'}" for layer, _ in other.kinds for leaf in layer.leaves() for b in leaf.blocks
    }
    assert keys >= outside and {key.partition("/")[2] for key in keys} >= inside


def facts(edit: Edit, *, backwards: bool = False) -> tuple[str, ...]:
    """What an edit says, but for its numbers, which depend on what was changed before it."""
    kind = {"+": "-", "-": "+", "~": "~"}[edit.kind] if backwards else edit.kind
    before, after = (edit.after, edit.before) if backwards else (edit.before, edit.after)
    return kind, edit.subject, before, after, str(edit.layers), str(sorted(edit.modalities))


def assert_adds_up(a: Model, b: Model, edits: tuple[Edit, ...]) -> None:
    """Edits have all of the difference in parameters and in each modality's FLOPs."""
    assert sum(edit.parameters for edit in edits) == total_parameters(b) - total_parameters(a)
    renamed = {now: was for was, now in renames(a, b).items()}
    old = {modality.name for modality in a.modalities}
    new = {modality.name for modality in b.modalities}
    for name in new | (old - set(renamed.values())):
        was = renamed.get(name, name)
        before = flops_per_token(a)[was] if was in old else 0
        after = flops_per_token(b)[name] if name in new else 0
        assert sum(edit.flops.get(name, 0) for edit in edits) == after - before, name


def is_a_spec_or_an_error(text: str, syntax: Syntax) -> None:
    """A text compiles, or its author is told why not: nothing but SpecError is raised."""
    try:
        spec = checked(text, syntax)
        for dense in (False, True):
            final_ir(spec, dense=dense)
    except SpecError as error:
        str(error)  # which renders all of it


def forget_generated() -> None:
    """Let go of generated modules, of which a long run makes many."""
    names = [name for name in sys.modules if name.startswith("motc_generated_")]
    for name in names:
        del sys.modules[name]
        linecache.cache.pop(f"<{name}>", None)
