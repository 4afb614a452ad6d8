"""Mapping files: what the tensors of another implementation's checkpoints are called in a generated model.

architectures: [LlamaForCausalLM]                 # what a checkpoint's config.json calls the class
tensors:
  model.embed_tokens: embedding                   # a module: its weight, and its bias if it has one
  model.layers.*.mlp.up_proj: layers.*.ffn.up     # `*` is a number, the same on both sides; others are said: to_out.0
  single.*.proj: layers.*+19.attention.out        # or so much more than theirs
  blocks.*.attn2.to_q: layers.*x3+1.attention.q   # or so many times theirs, and so much more
  single.*.proj: layers.*+double.attention.out    # or behind as many as there are of theirs under another name
  model.layers.*.self_attn.qkv_proj: {rows: [layers.*.attention.q, layers.*.attention.k, layers.*.attention.v]}
tied: {lm_head: model.embed_tokens}               # the same tensor twice, where the model ties its head
left_out: [model.vision_tower]                    # modules that are no part of the model
zeros: [head.mark]                                # modules that the other has not, whose parameters are zeros
otherwise: {model.layers.*.mlp.up_proj: none}     # what such a tensor is where the model lacks what it is by `tensors`
without: {model.q_proj: q_down}                   # in place of another rule where the model has no such module
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal, NoReturn, get_args

from motc.source import Diagnostic, Span, SpecError
from motc.syntax import read, read_file
from motc.syntax.tree import Mapping, Node, Scalar, Sequence

Form = Literal[
    "same",
    "rows",
    "columns",
    "head_rows",
    "expert_rows",
    "expert_turns",
    "stacked",
    "experts",
    "convolution",
    "channels_last",
    "repeated",
]
"""How a tensor holds parameters.

`same`: it is one; `rows`: the rows of several, one behind the other; `columns`: the columns of several, side by side,
and the bias of the one of them that has one; `head_rows`: for each head of keys and values the
rows of the queries that share it, and its own of keys and of values; `expert_rows`: for each expert its rows of
several; `expert_turns`: the same, a row of each in turns; `stacked`: those of one shape, along a dimension of their
own, before which there may be one of 1, or one that has it before its own; `experts`: one expert's part of a parameter
of all experts, its last number saying whose, counted through all of them where there are several parameters;
`convolution`: it has the same numbers, those of a patch on axes of their own; `channels_last`: it has a latent's
channels behind the places of a patch, where the parameter, of ends, has them before; `repeated`: each layer has the
same one.
"""

BEHIND = re.compile(r"(?<=\*)\+([a-z_]\w*)")
"""A number that is more by as many as there are of others."""

ROWS = ("rows", "columns", "head_rows", "expert_rows", "expert_turns")
FORMS = tuple(form for form in get_args(Form) if form != "same")
SECTIONS = ("architectures", "tensors", "tied", "left_out", "zeros", "otherwise", "without")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Tensors of a name, with `*` for each number, and the parameters that they hold.

    `transposed`: it is so of the tensor with its last two dimensions swapped, where it has two.
    """

    tensor: str
    form: Form
    parameters: tuple[str, ...]
    transposed: bool
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightMapping:
    """A mapping file. `rules` are by the names of tensors; `tied` has, for a tensor, the one that it repeats.

    `otherwise` are the rules of tensors where the model lacks the parameters of the first, None for those that nothing
    reads there.
    Of two rules for one parameter the one in `without` is of models that lack the module there, the other of the rest.
    """

    name: str
    architectures: tuple[str, ...]
    rules: dict[str, Rule]
    tied: dict[str, str]
    left_out: frozenset[str]
    zeros: frozenset[str]
    otherwise: dict[str, Rule | None]
    without: dict[str, str]

    def counted(self, tensors: Iterable[str]) -> WeightMapping:
        """The same of a checkpoint with these tensors: names that say how many there are of others are numbers."""
        parts = [name.split(".") for name in tensors]

        def count(said: re.Match[str]) -> str:
            known = {after for each in parts for word, after in pairwise(each) if word == said[1] and after.isdecimal()}
            return f"+{len(known)}" if known else ""

        def of(rule: Rule | None) -> Rule | None:
            if rule is None or not any(BEHIND.search(name) for name in rule.parameters):
                return rule
            return replace(rule, parameters=tuple(BEHIND.sub(count, name) for name in rule.parameters))

        rules = {name: rule for name, each in self.rules.items() if (rule := of(each)) is not None}
        return replace(self, rules=rules, otherwise={name: of(rule) for name, rule in self.otherwise.items()})

    def holds(self, rule: Rule, numbers: tuple[str, ...], parameters: Container[str]) -> bool:
        """Whether a rule, where several are for its parameters, is the one for a model that has these."""

        def is_lacking(module: str) -> bool:
            return f"{filled(module, numbers)}.weight" not in parameters

        if rule.tensor in self.without:
            return is_lacking(self.without[rule.tensor])
        others = (each for each in self.without if self.rules[each].parameters == rule.parameters)
        return not any(is_lacking(self.without[each]) for each in others)

    def leaves_out(self, pattern: str) -> bool:
        """Whether a tensor, or a module around it, is left out."""
        parts = pattern.split(".")
        return any(".".join(parts[:end]) in self.left_out for end in range(1, len(parts) + 1))


def pattern_of(name: str) -> tuple[str, tuple[str, ...]]:
    """A tensor's name with `*` for each number between dots, and the numbers."""
    parts = name.split(".")
    return ".".join("*" if part.isdecimal() else part for part in parts), tuple(filter(str.isdecimal, parts))


def filled(pattern: str, numbers: Iterable[str]) -> str:
    """A name in which each `*` is the next of `numbers`, `*+4` so much more, and `*x3+1` so many times it besides."""
    following = iter(numbers)
    return ".".join(_changed(next(following), part) if part[0] == "*" else part for part in pattern.split("."))


def _changed(number: str, said: str) -> str:
    if said == "*":
        return number
    times, more = _times_and_more(said)
    return str(int(number) * times + more)


def _times_and_more(said: str) -> tuple[int, int]:
    """What a number is multiplied by, and what is added: 3 and 1 of `*x3+1`, 1 and 0 of `*`."""
    times, _, more = said[1:].partition("+")
    return int(times[1:] or 1), int(more or 0)


def numbers_before(pattern: str, name: str) -> tuple[str, ...] | None:
    """The numbers by which `filled` makes a name of this pattern; None where it makes no such name."""
    parts, pattern_parts = name.split("."), pattern.split(".")
    if len(parts) != len(pattern_parts):
        return None
    numbers = [
        (part, *_times_and_more(each)) for each, part in zip(pattern_parts, parts, strict=True) if each[0] == "*"
    ]
    before = [str((int(part) - more) // times) if part.isdecimal() else "" for part, times, more in numbers]
    fits = all(each.isdecimal() for each in before) and filled(pattern, before) == name
    return tuple(before) if fits else None


def read_mapping(path: Path) -> WeightMapping:
    """The mapping that a YAML file holds. Raises SpecError."""
    tree = read(read_file(path))
    for entry in tree.entries:
        if entry.key not in SECTIONS:
            _refuse(f"unknown section `{entry.key}`", entry.key_span, f"there are {', '.join(SECTIONS)}")
    rules = {entry.key: _rule(entry.key, entry.key_span, entry.value) for entry in _mapping(tree, "tensors").entries}
    if not rules:
        _refuse("no tensors are mapped", tree.span, "tensors: {model.norm: final_norm}")
    tied: dict[str, str] = {}
    for entry in _mapping(tree, "tied").entries:
        tied[entry.key] = other = _text(entry.value)
        for each in (entry.key, other):
            if each not in rules:
                _refuse(f"`{each}` is tied and not among `tensors`", entry.key_span, "say what it is, too")
    left_out = _texts(tree.get("left_out"))
    for each in left_out:
        if each in rules:
            _refuse(f"`{each}` is mapped and left out", rules[each].span, "one of them")
    otherwise: dict[str, Rule | None] = {}
    for entry in _mapping(tree, "otherwise").entries:
        if entry.key not in rules:
            _refuse(f"`{entry.key}` is otherwise and not among `tensors`", entry.key_span, "say what it is first")
        unread = isinstance(entry.value, Scalar) and entry.value.value == "none"
        otherwise[entry.key] = None if unread else _rule(entry.key, entry.key_span, entry.value)
    return WeightMapping(
        name=path.name,
        architectures=_texts(tree.get("architectures")),
        rules=rules,
        tied=tied,
        left_out=frozenset(left_out),
        zeros=frozenset(_texts(tree.get("zeros"))),
        otherwise=otherwise,
        without=_without(_mapping(tree, "without"), rules),
    )


def _without(said: Mapping, rules: dict[str, Rule]) -> dict[str, str]:
    for entry in said.entries:
        if entry.key not in rules:
            _refuse(f"`{entry.key}` is not among `tensors`", entry.key_span, "say what it is, too")
    return {entry.key: _text(entry.value) for entry in said.entries}


def _rule(tensor: str, span: Span, value: Node) -> Rule:
    form: Form = "same"
    transposed = isinstance(value, Mapping) and [entry.key for entry in value.entries] == ["transposed"]
    if transposed and isinstance(value, Mapping):
        value = value.entries[0].value
    if isinstance(value, Mapping):
        if len(value.entries) != 1 or value.entries[0].key not in FORMS:
            way_out = f"{', '.join(FORMS)}, with the parameters it holds; or transposed, with these or one of them"
            _refuse("a tensor's form is one word", value.span, way_out)
        form, value = get_args(Form)[get_args(Form).index(value.entries[0].key)], value.entries[0].value
    parameters = _texts(value) if isinstance(value, Sequence) else (_text(value),)
    count = len(parameters)
    if count > 1 if form == "same" else (count < 2 and form in ROWS) or not count:
        _refuse(f"{count} parameters for `{form}`", value.span, "rows are of several, others of one")
    for name in (tensor, *parameters):
        says_number = name != tensor and re.search(r"(^|\.)\d+(\.|$)", name)
        word, number = (
            (r"[\w-]+", r"\*") if name == tensor else (r"\w+", r"\*(x[1-9]\d{0,3})?(\+([1-9]\d{0,3}|[a-z_]\w*))?")
        )
        if not re.fullmatch(rf"({word}|{number})(\.({word}|{number}))*", name) or says_number:
            _refuse(f"`{name}` is no name", span, "words with dots between them, and `*` for a number")
    numbers = 0 if form == "repeated" else tensor.count("*") - (form == "experts")
    for name in parameters:
        if name.count("*") != numbers:
            _refuse(f"`{name}` has not as many numbers as `{tensor}` gives", span, "each `*` is a number of both")
    return Rule(tensor=tensor, form=form, parameters=parameters, transposed=transposed, span=span)


def _mapping(tree: Mapping, key: str) -> Mapping:
    value = tree.get(key)
    if value is None:
        return Mapping(entries=(), span=tree.span)
    if not isinstance(value, Mapping):
        _refuse(f"`{key}` is a mapping of names", value.span, f"{key}: {{theirs: ours}}")
    return value


def _text(node: Node) -> str:
    if not isinstance(node, Scalar) or not isinstance(node.value, str):
        _refuse("a name is missing here", node.span, "such as layers.*.attention.q")
    return node.value


def _texts(node: Node | None) -> tuple[str, ...]:
    if node is None:
        return ()
    if not isinstance(node, Sequence):
        _refuse("a list of names is missing here", node.span, "in brackets: [a, b]")
    return tuple(_text(item) for item in node.items)


def _refuse(message: str, span: Span, way_out: str) -> NoReturn:
    raise SpecError(Diagnostic(code="MOT090", message=message, span=span, help=way_out))
