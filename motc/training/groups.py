"""Parameters in groups of their own learning rates, weight decays and other settings, for any optimizer of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from motc.training.copies import Trained
from motc.training.selection import aligned
from motc.training.selectors import select

OWN = frozenset(("params", "name"))


class OptimizerGroups(list[dict[str, Any]]):
    """What an optimizer of torch takes as its parameters: dicts of `params`, `name` and settings.

    Its text is a table of them, with what is in none because it is frozen.
    """

    def __init__(self, groups: list[dict[str, Any]], rows: list[tuple[str, ...]]) -> None:
        super().__init__(groups)
        self._rows = rows

    def __str__(self) -> str:
        return "\n".join(aligned(self._rows))

    __repr__ = __str__


def optimizer_groups(
    model: nn.Module, settings: Mapping[str, Mapping[str, Any]] | None = None, /, **defaults: Any
) -> OptimizerGroups:
    """The trained parameters of a model in groups, by what is set for them.

        groups = optimizer_groups(model, {"image.*": {"lr": 1e-3}, "*norm": {"weight_decay": 0.0}}, lr=1e-4)
        optimizer = torch.optim.AdamW(groups)

    `settings` are by selectors; where several name a parameter, each adds to those before it, and the last holds.
    `defaults` are for all parameters, also for those of a module around the generated one. Frozen parameters are in no
    group. Raises ValueError where a selector names none, or nothing is trained, and TypeError for other arguments.
    """
    of = Trained(model)
    parameters = of.by_name
    said: dict[str, list[str]] = {name: [] for name in parameters}
    for selector, values in (settings or {}).items():
        if not isinstance(values, Mapping) or OWN & values.keys():
            raise TypeError(f"the settings of `{selector}` are {values!r}; they are such as {{'lr': 1e-3}}")
        for name in select(of, (selector,)):
            said[name].append(selector)
    by_settings: dict[tuple[str, ...], list[str]] = {}
    for name, theirs in said.items():
        by_settings.setdefault(tuple(theirs), []).append(name)
    known = {id(parameter) for parameter in parameters.values()}
    others = [parameter for parameter in model.parameters() if id(parameter) not in known]
    made: list[dict[str, Any]] = []
    rows: list[tuple[str, ...]] = [("group", "settings", "parameters", "numbers")]
    for selectors, names in by_settings.items():
        values = dict(defaults)
        for selector in selectors:
            values |= (settings or {})[selector]
        _add(made, rows, " + ".join(selectors) or "all others", values, [parameters[name] for name in names])
    if others:
        _add(made, rows, "outside the model", dict(defaults), others)
    if not made:
        raise ValueError("no parameter is trained: all are frozen")
    return OptimizerGroups(made, rows)


def _add(
    made: list[dict[str, Any]],
    rows: list[tuple[str, ...]],
    name: str,
    values: dict[str, Any],
    parameters: list[nn.Parameter],
) -> None:
    """A group of those parameters that are trained, if there are any, and its row of the table."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if trained:
        made.append({"params": trained, "name": name, **values})
    told = ", ".join(f"{key} {value}" for key, value in values.items()) or "the optimizer's own"
    frozen = "" if len(trained) == len(parameters) else f", {len(parameters) - len(trained)} frozen"
    numbers = f"{sum(each.numel() for each in trained):,}"
    rows.append((name, told, f"{len(trained)} of {len(parameters)}{frozen}", numbers))
