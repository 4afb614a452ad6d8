"""Which tensors become which parameters, from names and shapes alone: every tensor is used once, every parameter filled
once, or all that is wrong is said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import assert_never

from motc.ir.model import Model
from motc.ir.names import saved_shapes
from motc.source.listing import listed, some
from motc.weights.mapping import Form, Rule, WeightMapping, filled, numbers_before, pattern_of

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
How = tuple[Form, bool]
"""A form, and whether it is of transposed tensors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Tensors that become parameters together.

    `sizes` are the rows of each parameter for `rows`, its columns for `columns`, for `head_rows` of each within a head,
    for `experts` how many each holds, and for `channels_last` how many channels there are, in the `dimension` that is a
    patch's; for `stacked` that is the one which is their own. `shape` is the tensor's for `convolution`. `transposed`:
    of the tensors with their last two dimensions swapped, where they have two.
    """

    form: Form
    tensors: tuple[str, ...]
    parameters: tuple[str, ...]
    sizes: tuple[int, ...] = ()
    shape: tuple[int, ...] = ()
    dimension: int = 0
    transposed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Bijection:
    """All moves, for each tensor that repeats another which that is, the shapes of parameters that are zeros, and the
    tensors that nothing reads.
    """

    moves: tuple[Move, ...]
    tied: dict[str, str]
    zeros: dict[str, Shape]
    unread: tuple[str, ...]


def bijection_of(mapping: WeightMapping, tensors: Shapes, model: Model) -> Bijection:
    """How tensors of these names and shapes fill the parameters of `model`.

    Raises ValueError, which names all tensors without a place, parameters without a tensor or with several, and shapes
    that do not fit.
    """
    parameters = saved_shapes(model)
    mapping = mapping.counted(tensors)
    matches = _Matches(mapping, parameters)
    for name in tensors:
        matches.take(name)
    moves, mistakes = [], listed("no place for the tensor", matches.unknown)
    for how, theirs, ours in matches.groups():
        move, mistake = _move(how, theirs, ours, tensors, parameters, model)
        if mistake:
            mistakes.append(mistake)
        else:
            moves.append(move)
    filled = Counter(name for _, _, ours in matches.groups() for name in ours)
    modules = {name: pattern_of(name)[0].rpartition(".")[0] for name in parameters}
    zeros = {name: shape for name, shape in parameters.items() if modules[name] in mapping.zeros}
    empty = [name for name in parameters if name not in filled and name not in zeros]
    mistakes += listed("no tensor for the parameter", empty)
    mistakes += listed("missing", list(dict.fromkeys(each for name in empty for each in matches.tensors_of(name))))
    several = [name for name, times in filled.items() if times + (name in zeros) > 1]
    mistakes += listed("several tensors for the parameter", several)
    for name, other in matches.tied.items():
        if tensors.get(other) != tensors[name]:
            mistakes.append(f"{name} should repeat {other}, which has another shape or is missing")
    if mistakes:
        raise ValueError(f"{mapping.name} does not fit {model.name}: " + "; ".join(mistakes))
    return Bijection(moves=tuple(moves), tied=matches.tied, zeros=zeros, unread=tuple(matches.unread))


class _Matches:
    """The rules that tensors met, the parts of one parameter together."""

    def __init__(self, mapping: WeightMapping, parameters: Shapes) -> None:
        self.mapping, self.parameters = mapping, parameters
        self.modules = {name.rpartition(".")[0] for name in parameters}
        self.single: list[tuple[How, tuple[str, ...], tuple[str, ...]]] = []
        self.experts: dict[tuple[tuple[str, ...], bool], dict[int, str]] = {}
        self.repeated: dict[tuple[str, ...], list[str]] = {}
        self.tied: dict[str, str] = {}
        self.unknown: list[str] = []
        self.unread: list[str] = []

    def take(self, tensor: str) -> None:
        pattern, numbers = pattern_of(tensor)
        if self.mapping.leaves_out(pattern):
            self.unread.append(tensor)
            return
        rule, suffix = self.rule_of(pattern)
        while rule is None and numbers:  # one that says a number itself, as in `to_out.0`
            pattern = numbers[-1].join(pattern.rsplit("*", maxsplit=1))
            numbers = numbers[:-1]
            rule, suffix = self.rule_of(pattern)
        if rule is None:
            self.unknown.append(tensor)
            return
        if rule.form == "repeated":
            self.repeated.setdefault(tuple(name + suffix for name in rule.parameters), []).append(tensor)
            return
        if rule.tensor in self.mapping.otherwise and not self.has_all(rule, numbers):
            rule = self.mapping.otherwise[rule.tensor]
            if rule is None:
                self.unread.append(tensor)
                return
        expert, numbers = (int(numbers[-1]), numbers[:-1]) if rule.form == "experts" else (0, numbers)
        ours = tuple(filled(name, numbers) + suffix for name in rule.parameters)
        if rule.form == "columns" and suffix == ".bias":  # which is of the sum of their products
            ours = tuple(name for name in ours if name in self.parameters) or ours
        if rule.tensor in self.mapping.tied and ours[0] not in self.parameters:
            self.tied[tensor] = filled(self.mapping.tied[rule.tensor], numbers) + suffix
        elif rule.form == "experts":
            self.experts.setdefault((ours, rule.transposed), {})[expert] = tensor
        else:
            self.single.append(((rule.form, rule.transposed), (tensor,), ours))

    def has_all(self, rule: Rule, numbers: tuple[str, ...]) -> bool:
        """Whether the model has what a rule's parameters are of, whatever these are called there."""
        names = [filled(name, numbers) for name in rule.parameters]
        return all(name in self.modules or name in self.parameters for name in names)

    def rule_of(self, pattern: str) -> tuple[Rule | None, str]:
        """A tensor's rule, or its module's with what the module calls it."""
        module, dot, last = pattern.rpartition(".")
        if pattern in self.mapping.rules or last not in ("weight", "bias"):
            return self.mapping.rules.get(pattern), ""
        return self.mapping.rules.get(module), dot + last

    def tensors_of(self, parameter: str) -> Iterator[str]:
        """The tensors that would hold a parameter: of each expert's, `*` for its number."""
        module, dot, last = parameter.rpartition(".")
        of_experts = len(self.parameters[parameter]) == 3
        holds = [
            (numbers, rule, suffix)
            for rule in (*self.mapping.rules.values(), *filter(None, self.mapping.otherwise.values()))
            for name, suffix in ((parameter, ""), (module, dot + last))
            for pattern in rule.parameters
            if (numbers := numbers_before(pattern, name)) is not None
        ]
        nearest = min((numbers for numbers, _, _ in holds), key=lambda each: [int(one) for one in each], default=())
        holds = [each for each in holds if each[0] == nearest]
        for numbers, rule, suffix in holds:  # with experts in some layers, and none in others
            if len(holds) == 1 or (rule.form == "experts") == of_experts:
                yield filled(rule.tensor, [*numbers, *("*" for _ in rule.tensor.split("."))]) + suffix

    def groups(self) -> Iterator[tuple[How, tuple[str, ...], tuple[str, ...]]]:
        """How tensors hold parameters, the tensors in the order in which they do, and these."""
        yield from self.single
        for ours, theirs in self.repeated.items():
            yield ("repeated", False), tuple(theirs), ours
        for (ours, transposed), by_number in self.experts.items():
            yield ("experts", transposed), tuple(by_number[number] for number in sorted(by_number)), ours


def _move(
    how: How, theirs: tuple[str, ...], ours: tuple[str, ...], tensors: Shapes, parameters: Shapes, model: Model
) -> tuple[Move, str]:
    """The move of these tensors, or what is wrong with it."""
    form, transposed = how
    unknown = [name for name in ours if name not in parameters]
    if unknown:
        told = f"{some(theirs)} would be {some(unknown)}, of which the model has none"
        return Move(form=form, tensors=theirs, parameters=ours), told
    given, wanted = [tensors[name] for name in theirs], [parameters[name] for name in ours]
    if transposed:
        given = [(*shape[:-2], *shape[:-3:-1]) if len(shape) > 1 else shape for shape in given]
    sizes: Shape = ()
    dimension = 0
    match form:
        case "same":
            fits = given == wanted
        case "repeated":
            fits = given == wanted * len(given)
        case "convolution":
            fits = [(shape[0], *[prod(shape[1:])] * (len(shape) > 1)) for shape in given] == wanted
        case "channels_last":
            fits, sizes = given == wanted, _channels(ours[0], model)
            if ".encode." in ours[0]:  # whose columns are a patch's; its bias has none
                form, dimension = ("channels_last", 1) if len(wanted[0]) > 1 else ("same", 0)
        case "stacked":
            each = (len(wanted), *wanted[0])
            dimension = int(given == [(1, *each)])
            fits = given in ([each], [(1, *each)]) and len(set(wanted)) == 1
        case "experts":
            sizes = tuple(shape[0] for shape in wanted)
            of_each = [shape[1:] for shape, size in zip(wanted, sizes, strict=True) for _ in range(size)]
            if mistake := _wrong_experts(dict(zip(theirs, given, strict=True)), of_each, ours):
                return Move(form=form, tensors=theirs, parameters=ours), mistake
            fits = True
        case "expert_rows" | "expert_turns":
            sizes = tuple(sum(shape[1:2]) for shape in wanted)
            alike = form == "expert_rows" or len(set(sizes)) == 1
            fits = alike and given == [(wanted[0][0], sum(sizes), *wanted[0][2:])]
            fits = fits and len({(shape[0], *shape[2:]) for shape in wanted}) == 1
        case "columns":
            sizes = tuple(shape[-1] for shape in wanted)
            heights = {shape[:-1] for shape in wanted}
            fits = len(heights) == 1 and given == ([(*wanted[0][:-1], sum(sizes))] if len(wanted) > 1 else wanted)
        case "rows" | "head_rows":
            sizes = tuple(shape[0] for shape in wanted)
            fits = given == [(sum(sizes), *wanted[0][1:])] and len({shape[1:] for shape in wanted}) == 1
            if form == "head_rows":
                (heads,) = {attention.kv_heads for layer, _ in model.kinds for attention in layer.attentions}
                fits = fits and all(size % heads == 0 for size in sizes)
                sizes = tuple(size // heads for size in sizes)
                fits = fits and (len(sizes) < 3 or (sizes[1] == sizes[2] and sizes[0] % sizes[1] == 0))
        case _:
            assert_never(form)
    is_said = " transposed" if transposed else ""
    mistake = "" if fits else f"{some(theirs)} {_shown(given)}{is_said} should be {some(ours)} {_shown(wanted)}"
    shape = given[0] if form == "convolution" else ()
    move = Move(form=form, tensors=theirs, parameters=ours, sizes=sizes, shape=shape, transposed=transposed)
    return replace(move, dimension=dimension), mistake


def _channels(parameter: str, model: Model) -> Shape:
    """How many channels a parameter of ends makes tokens of, or predicts."""
    ends = {f"latents.{modality.name}": modality.ends for modality in model.latent_modalities()}
    (end,) = (each for prefix, each in ends.items() if parameter.startswith(f"{prefix}."))
    return (end.predicted if ".decode." in parameter else end.channels,)


def _wrong_experts(given: Shapes, wanted: Sequence[Shape], ours: Sequence[str]) -> str:
    """What is wrong with the tensors of experts, of which those of these shapes are wanted."""
    if any(len(shape) < (1 if name.endswith(".bias") else 2) for name in ours for shape in wanted):
        return f"{some(list(given))} would be experts of {some(ours)}, which has none"
    by_number = {int(pattern_of(name)[1][-1]): name for name in given}
    parts = next(iter(given)).split(".")
    place = max(place for place, part in enumerate(parts) if part.isdecimal())
    absent = [number for number in range(len(wanted)) if number not in by_number]
    missing = [".".join([*parts[:place], str(number), *parts[place + 1 :]]) for number in absent]
    further = [name for number, name in by_number.items() if number >= len(wanted)]
    there = {name: wanted[number] for number, name in by_number.items() if number < len(wanted)}
    others = [name for name, shape in there.items() if given[name] != shape]
    told = [*listed("an expert is missing:", missing), *listed(f"beyond the experts of {some(ours)}:", further)]
    if others:
        shapes = _shown([given[name] for name in others]), _shown([there[name] for name in others])
        told.append(f"{some(others)} {shapes[0]} should be {shapes[1]} each, for {some(ours)}")
    return "; ".join(told)


def _shown(shapes: Sequence[Shape]) -> str:
    return ", ".join(dict.fromkeys(str(list(shape)) for shape in shapes))
