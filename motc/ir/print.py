"""The IR as text, for people: one line a group and block."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from motc.ir.layer import Layer
from motc.ir.leaf import Leaf
from motc.ir.model import FeatureModality, LatentModality, Model, TokenLoss
from motc.ir.operators import (
    Condition,
    Embedding,
    Experts,
    LatentEnds,
    Linear,
    Modulation,
    Norm,
    Operator,
    Projector,
    Sinks,
    TanhGate,
)
from motc.ir.steps import Step


def print_ir(model: Model) -> str:
    """The whole model, ending in a newline.

    model tiny
      modality text: width 8, vocab 16
      towers {text} {image}
      order text image, residual sorted
      embedding {text image}: table 16 x 8
      layers 0..3, placement pre
        attention: 2 heads, 2 kv heads of 4, causal, rope theta 10000 half
          attention.norm {text image}: rms [8], eps 1e-05
    """
    return "\n".join(_lines(model)) + "\n"


def _lines(model: Model) -> Iterator[str]:
    yield f"model {model.name}"
    for modality in model.modalities:
        if isinstance(modality, LatentModality):
            said = f"latent, {modality.denoised}, weight {modality.weight:g}"
            yield f"  modality {modality.name}: width {modality.width}, {said}"
            continue
        if isinstance(modality, FeatureModality):
            yield f"  modality {modality.name}: width {modality.width}, features of {modality.projector.size}"
            continue
        vocab = model.vocab if modality.vocab is None else modality.vocab
        shared = ", shared" if modality.vocab is None else ""
        yield f"  modality {modality.name}: width {modality.width}, vocab {vocab}{shared}{told_loss(modality.loss)}"
    yield f"  towers {model.towers}"
    yield f"  order {' '.join(model.order)}, residual {model.residual}, strategy {model.strategy}"
    for leaf in model.leaves_before():
        yield from _leaf(leaf, "  ")
    yield from _steps(model.outer_steps.embed + model.outer_steps.place, "  ")
    for segment in model.segments:
        span = str(segment.first) if segment.count == 1 else f"{segment.first}..{segment.last}"
        yield f"  layers {span}, placement {segment.layer.placements}"
        yield from _layer(segment.layer)
    yield from _steps(model.outer_steps.add, "  ")
    yield from _steps(model.outer_steps.leave, "  ")
    for leaf in model.leaves_after():
        yield from _leaf(leaf, "  ")
    if model.tied_embedding:
        yield "  head tied to the embedding"
    if model.logit_scale != 1:
        yield f"  logits times {model.logit_scale:g}"
    if model.logit_softcap is not None:
        yield f"  logits capped at {model.logit_softcap:g}"
    outer = model.outer_steps
    yield from _steps((*outer.norm, *outer.read, *outer.score, *outer.predict), "  ")


def told_loss(loss: TokenLoss) -> str:
    """How a modality's targets count, each part after a comma; nothing where each counts 1 and none is seen."""
    weight = "" if loss.weight == 1 else f", targets weigh {loss.weight:g}"
    match loss.seen_targets:
        case None:
            return weight
        case True:
            return f"{weight}, seen targets count"
        case False:
            return f"{weight}, seen targets left out"


def _layer(layer: Layer) -> Iterator[str]:
    for sublayer in layer.sublayers:
        told = {"stream": "", "entry": ", of the layer's entry", "normed": ", of what the first norm gives"}
        onto = "" if sublayer.onto == "stream" else ", added to the layer's entry"
        yield f"    {sublayer.role}: {sublayer.body}{told[sublayer.reads]}{onto}"
        for leaf in sublayer.leaves():
            yield from _leaf(leaf, "      ")
    yield from _steps(layer.steps, "    ")


def _steps(steps: tuple[Step, ...], indent: str) -> Iterator[str]:
    if steps:
        yield f"{indent}steps:"
    for step in steps:
        line = f"{indent}  {step.writes} = {step.name}({', '.join(map(str, step.reads))})"
        order = step.order or (f"needs {step.needs}" if step.needs else "")
        order = f"for {', '.join(step.forced_by)}" if step.forced_by else "" if step.permutes else order
        yield f"{line:<76}  {order}".rstrip()


def _leaf(leaf: Leaf, indent: str) -> Iterator[str]:
    for block in leaf.blocks:
        called = f" {block.name}" if block.name else ""
        yield f"{indent}{leaf.path}{called} {{{' '.join(block.modalities)}}}: {_operator(block.operator)}"


def _operator(operator: Operator) -> str:
    match operator:
        case Linear(in_features=in_features, out_features=out_features, bias=bias):
            return f"linear {in_features} -> {out_features}{', bias' if bias else ''}"
        case Experts(count=count, in_features=in_features, out_features=out_features, bias=bias):
            return f"{count} experts, linear {in_features} -> {out_features}{', bias' if bias else ''}"
        case Norm(shape=shape, eps=eps):
            return f"{operator.words} {list(shape)}, eps {eps:g}"
        case Embedding(vocab=vocab, width=width, scale=scale):
            return f"table {vocab} x {width}{'' if scale == 1 else f', times {scale:g}'}"
        case LatentEnds(channels=channels, words=patch, width=width, unet=unet):
            ends = "linear" if unet is None else f"unet of {unet.channels} channels and {unet.blocks} blocks, as"
            return f"{ends} ends, {channels} channels in patches of {patch}, to {width} and back{operator.told}"
        case Projector(width=width):
            return f"projector of {operator} to {width}"
        case Sinks(heads=heads):
            return f"sinks of {heads} heads"
        case Condition(width=width):
            return f"condition of {operator}, to {width}"
        case Modulation(size=size, width=width):
            return f"modulation {operator.adaptive}, {size} -> {width} each"
        case TanhGate():
            return "times the tanh of a number"
        case _:
            assert_never(operator)
