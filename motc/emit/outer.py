"""What comes before the layers and after them, as text: its steps, one line each."""

from __future__ import annotations

from typing import assert_never

from motc.emit.heads import logits, sums_of_losses
from motc.emit.inline import inlined, lines_of, returning
from motc.emit.latents import added, placed, predictions
from motc.emit.leaves import Applied
from motc.emit.operations import CONDITIONS, conditioned, made_of_conditions
from motc.emit.text import method, names_tuple, numbers, statement
from motc.ir.steps import (
    AddFeatures,
    Apply,
    Modulate,
    Order,
    Outside,
    Permute,
    PlacePatches,
    Predict,
    Read,
    Step,
    Steps,
    SumLosses,
    TakeLosses,
    Value,
    ZeroContinuous,
)
from motc.plan import ModulePlan
from motc.plan.constants import Constants

VARIABLES = {"placed": "x", "entered": "x", "added": "x", "normed": "x", "left": "x", "every_logit": "logits"}
"""What values are called that are not called by their name."""


class OuterText:
    """Writes the lines of steps outside the layers."""

    def __init__(self, module: ModulePlan) -> None:
        self.module = module
        self.text = Applied(module.execution)
        self.made_in: dict[str, Order] = dict.fromkeys(("x", "normed"), module.model.residual)

    def run(self, steps: Steps) -> OuterText:
        """With the lines of these steps."""
        for step in steps:
            expression = self._expression(step, self._variable(step.reads[0]))
            if not step.permutes:
                self.made_in[step.writes.name] = step.writes.order
            if expression is not None:
                self.text.assign(self._variable(step.writes), expression)
        return self

    def _variable(self, value: Value) -> str:
        """What a value is called: in any order the same, but for the stream, which may be read in its own one after."""
        if value.order == "targets":
            return "states, ids, weights"
        name = VARIABLES.get(value.name, value.name)
        return f"x_{value.order}" if name == "x" and value.order != self.made_in.get(value.name, value.order) else name

    def _expression(self, step: Step, x: str) -> str | None:
        """What a step computes; None where lines of it have been written."""
        operation, module = step.operation, self.module
        assert isinstance(operation, Outside)
        match operation:
            case Apply(leaf=leaf):
                places = "layout.sorted_places" if step.order == "sorted" else "layout.places"
                in_pieces, of_stream = module.stream_in_pieces, step.reads[0].name != "ids"
                return self.text.through(
                    module.outer[leaf.path], x, places, reads_pieces=in_pieces and of_stream, writes_pieces=in_pieces
                )
            case Permute(to="targets"):
                return f"wanted.cut({x if module.model.residual == 'sorted' else f'{x}.flatten(0, 1)'})"
            case Permute(to=order):
                return f"ids_to_{order}({x}, layout)" if step.reads[0].name == "ids" else f"to_{order}({x}, layout)"
            case Modulate(leaf=leaf):
                plan = module.outer[leaf.path]
                self.text.assign("modulation", made_of_conditions(plan, in_pieces=module.stream_in_pieces))
                reads = [x, self._variable(step.reads[1])]
                counts = module.each if module.stream_in_pieces else None
                return conditioned("modulated", plan, step, reads, self.text, counts)
            case PlacePatches():
                return placed(module, x)
            case AddFeatures():
                return added(module, x)
            case Read():
                return logits(module, operation, self.text, x, in_batch=step.order == "batch")
            case ZeroContinuous():
                return f"torch.where(self.words(layout)[..., None] >= 0, {x}, 0.0)"
            case TakeLosses():
                return sums_of_losses(module, operation, self.text, x, is_sorted=step.order != module.model.residual)
            case SumLosses():
                return f"sums_by_modality({x}, wanted, len(self.modalities))"
            case Predict():
                return predictions(module, x)
            case _:
                assert_never(operation)

    def method(self, name: str, arguments: list[str], returned: str, said: str, beside: str = "") -> str:
        """A method that gives what the last step writes, and `beside` if that is said; `said` is its docstring."""
        result = self.text.statements[-1][0] if self.text.statements else "x"
        statements = inlined(self.text.statements, f"{result}, {beside}" if beside else result)
        names = [argument.partition(":")[0] for argument in arguments]
        lines = lines_of(returning(statements, returned, names))
        return "\n".join([*method(name, arguments, returned), f'        """{said}"""', *lines])


def outer_methods(module: ModulePlan) -> list[str]:
    """The methods before and after the layers that are not as for a model without copies."""
    methods = []
    if not module.has_plain_embed:
        methods.append(_embed(module))
    if module.model.position_table is not None:
        methods.append(_locate(module))
    if module.model.final_modulation is not None:
        methods.append(_leave(module))
    if module.model.latents() is not None:
        methods += [_norm(module), _read(module), _score(module)]
    elif not module.has_plain_read:
        methods += [_read(module), _score(module)]
    if module.model.latents() is not None and module.stream_in_pieces:
        methods.append(_predict(module))
    return methods


def _embed(module: ModulePlan) -> str:
    if not module.model.speaks:
        return _silent_embed(module)
    text = OuterText(module).run(module.model.outer_steps.embed)
    return text.method("embed", ["ids: Tensor", _layout(module)], stream_type(module), "Token ids to the stream.")


def _silent_embed(module: ModulePlan) -> str:
    """The method that makes a stream without ids, of zeros, where patches will stand."""
    widths = {modality.name: modality.width for modality in module.model.modalities}
    lines = statement("like = ", "next(self.latents.parameters())")
    if module.stream_in_pieces:
        sizes = numbers([widths[name] for name in module.model.order])
        pieces = Applied(module.execution).cut("ids", module.each)
        lines += statement(
            "return ", f"[blank(each, size, like) for each, size in zip({pieces}, {sizes}, strict=True)]"
        )
    else:
        lines += statement("return ", f"blank(ids, {module.model.modalities[0].width}, like)")
    said = '        """The stream before there is anything in it."""'
    return "\n".join([*method("embed", ["ids: Tensor", _layout(module)], stream_type(module)), said, *lines])


def _silent(module: ModulePlan, name: str, arguments: list[str]) -> str:
    """A method of a model without logits, that gives none, or no losses; and the normed stream."""
    x = "x[0]" if module.stream_in_pieces else "x"
    nothing, kind = "{}", "dict[str, Tensor]"
    if name == "score":
        nothing, kind = f"{x}.new_zeros(len(self.modalities), dtype=torch.float32)", "Tensor"
    lines = [*statement("x = ", "self.norm(x, layout)"), *statement("return ", f"{nothing}, x")]
    said = '        """Nothing, for no token has an id; and the normed stream."""'
    return "\n".join([*method(name, arguments, f"tuple[{kind}, {stream_type(module)}]"), said, *lines])


def _locate(module: ModulePlan) -> str:
    text = OuterText(module).run(module.model.outer_steps.locate)
    said = "Positions to what is added to the stream."
    return text.method("locate", ["ids: Tensor", _layout(module)], stream_type(module), said)


def _leave(module: ModulePlan) -> str:
    """The method by which an adaptive norm ends the layers."""
    text = OuterText(module).run(module.model.outer_steps.leave)
    arguments = [*_of_stream(module), *(f"{name}: {kind}" for name, kind in CONDITIONS.items())]
    said = "The stream after the last layer, normed, as conditions have it."
    return text.method("leave", arguments, stream_type(module), said)


def _norm(module: ModulePlan) -> str:
    """The method by which denoising has the normed stream without logits."""
    text = OuterText(module).run(module.model.outer_steps.norm)
    return text.method("norm", _of_stream(module), stream_type(module), "The stream after the final norm.")


def _read(module: ModulePlan) -> str:
    arguments, own = _of_stream(module), module.model.vocab is None
    if own:
        names = names_tuple([modality.name for modality in module.model.token_modalities()])
        arguments.append(f"wanted: tuple[str, ...] = {names}")
    if not module.model.speaks:
        return _silent(module, "read", arguments)
    text = _normed(module).run(module.model.outer_steps.read)
    returned, said = "dict[str, Tensor]" if own else "Tensor", "The stream to logits, in the order of the batch"
    zeros = [
        word for word, leaf in (("latents", module.model.latents()), ("features", module.model.features())) if leaf
    ]
    said += f", zeros at {' and '.join(zeros)}" if zeros else ""
    if module.model.latents() is None:
        return text.method("read", arguments, returned, f"{said}.")
    returned, said = f"tuple[{returned}, {stream_type(module)}]", f"{said}; and the normed stream."
    return text.method("read", arguments, returned, said, beside="x")


def _score(module: ModulePlan) -> str:
    arguments = [*_of_stream(module), f"wanted: {'TargetOrder' if module.sorts_targets else 'Targets'}"]
    if not module.model.speaks:
        return _silent(module, "score", arguments)
    text = _normed(module).run(module.model.outer_steps.score)
    returned, said = "Tensor", "The sum of each modality's losses [M]"
    if module.model.latents() is None:
        return text.method("score", arguments, returned, f"{said}.")
    returned = f"tuple[{returned}, {stream_type(module)}]"
    return text.method("score", arguments, returned, f"{said}; and the normed stream.", beside="x")


def _predict(module: ModulePlan) -> str:
    text = OuterText(module).run(module.model.outer_steps.predict)
    arguments = [*_of_stream(module), "patches: dict[str, Patches]"]
    said = "The normed stream to predictions, each in the shape of its latents."
    return text.method("predict", arguments, "dict[str, Tensor]", said)


def read_too_lines(module: ModulePlan) -> list[str]:
    """The line of `transform` by which pieces that nothing is read of, those of features, have gradients, of zeros."""
    features = [modality.name for modality in module.model.feature_modalities()]
    if not module.stream_in_pieces or not features:
        return []
    order = module.model.order
    spoken = module.model.token_modalities() or module.model.latent_modalities()
    unread = tuple(place for place, name in enumerate(order) if name in features)
    return statement("x = ", f"read_too(x, {order.index(spoken[0].name)}, {unread})")


def together_lines(module: ModulePlan) -> list[str]:
    """The line of `transform` that joins pieces as the layers have them."""
    return _between(module, "together")


def apart_lines(module: ModulePlan) -> list[str]:
    """The line of `transform` that makes a piece for each modality again."""
    return _between(module, "apart")


def _between(module: ModulePlan, function: str) -> list[str]:
    counts = module.counts_in_layers
    return [] if set(counts) <= {1} else statement("x = ", f"{function}(x, layout, {counts})")


def place_lines(module: ModulePlan) -> list[str]:
    """The lines of `transform` that put patches at their places."""
    return OuterText(module).run(module.model.outer_steps.place).text.lines


def add_lines(module: ModulePlan) -> list[str]:
    """The lines of `transform` that add features' further vectors after a layer."""
    return [f"    {line}" for line in OuterText(module).run(module.model.outer_steps.add).text.lines]


def locate_lines(module: ModulePlan, constants: Constants) -> list[str]:
    """The lines of `transform` that add to the stream what is learned of positions."""
    size = module.model.learned_positions
    if size is None:
        return []
    located = f"self.locate(positions_in_stream(positions, layout, {constants.named('POSITIONS', size)}), layout)"
    return statement("x = ", f"add(x, {located})" if module.stream_in_pieces else f"x + {located}")


def leave_lines(module: ModulePlan) -> list[str]:
    """The line of `transform` by which an adaptive norm ends the layers."""
    if module.model.final_modulation is None:
        return []
    return statement("x = ", f"self.leave(x, layout, {', '.join(CONDITIONS)})")


def enter_lines(module: ModulePlan) -> list[str]:
    """The lines of `transform` that norm the stream before the layers."""
    return OuterText(module).run(module.model.outer_steps.enter).text.lines


def _normed(module: ModulePlan) -> OuterText:
    """The stream through the final norm, which is a method where denoising calls it too."""
    text = OuterText(module)
    if module.model.latents() is None:
        return text.run(module.model.outer_steps.norm)
    text.text.assign("x", "self.norm(x, layout)")
    return text


def stream_type(module: ModulePlan) -> str:
    return "list[Tensor]" if module.stream_in_pieces else "Tensor"


def _layout(module: ModulePlan) -> str:
    return f"layout: {module.execution.layout_type}"


def _of_stream(module: ModulePlan) -> list[str]:
    return [f"x: {stream_type(module)}", _layout(module)]
