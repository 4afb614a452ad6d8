"""What things look like: the colours of both themes, and rules of CSS that use them.

A drawing by itself has the light colours written out, as programs that make pictures of SVG know no variables.
"""

from __future__ import annotations

from collections.abc import Callable

Theme = dict[str, str]

TOWERS = (  # tint, line, tint in the dark, line in the dark
    ("#dbeafe", "#2563eb", "#1d3354", "#7db0ff"),
    ("#ffe4c7", "#c2570c", "#4a2c12", "#ffab6b"),
    ("#d3f3df", "#15803d", "#143d26", "#6fdc97"),
    ("#f3dcfb", "#a21caf", "#43194a", "#e69bf2"),
    ("#cdf3f4", "#0e7490", "#0f3b45", "#67d5e8"),
    ("#ffdde4", "#be123c", "#4c1523", "#ff95ab"),
    ("#f2f0bd", "#7c6a06", "#3c3710", "#dccb4e"),
    ("#e4e0fe", "#5b45d6", "#2b2557", "#b3a6ff"),
)

STATUSES = ("added", "removed", "changed")

COLOURS: dict[str, tuple[str, str]] = {
    "page": ("#f3f5f9", "#0b0e13"),
    "paper": ("#ffffff", "#11151c"),
    "link": ("#1d4ed8", "#8ab4ff"),
    "code-keyword": ("#8b1fa0", "#d59bf0"),
    "code-string": ("#1b6e2e", "#8fd69b"),
    "code-number": ("#a33c00", "#f2a972"),
    "code-name": ("#1a4fb4", "#8ab4ff"),
    "ink": ("#161b26", "#e8ecf3"),
    "muted": ("#525c6e", "#a4afc2"),
    "rule": ("#c6cedb", "#3a4558"),
    "panel": ("#f6f8fb", "#181e28"),
    "frame": ("#ffffff", "#1e2632"),
    "shared": ("#e3e7ee", "#36404f"),
    "shared-line": ("#5b6779", "#aab6c8"),
    "meeting": ("#1f2937", "#e8ecf3"),
    "on-meeting": ("#ffffff", "#11151c"),
    "added": ("#15803d", "#5fd38a"),
    "added-tint": ("#bbf0cb", "#12492a"),
    "removed": ("#c81e3a", "#ff8095"),
    "removed-tint": ("#ffd0d6", "#551826"),
    "changed": ("#a35200", "#ffc24d"),
    "changed-tint": ("#ffe6a0", "#54390a"),
    **{
        f"kind{place}": pair
        for place, pair in enumerate(
            (
                ("#dde3ec", "#333d4d"),
                ("#aebbcd", "#56637a"),
                ("#8f9fb6", "#75849c"),
                ("#c9d3c9", "#45543f"),
                ("#d8cbd6", "#55424f"),
                ("#cfc9b8", "#514a35"),
            )
        )
    },
    **{f"tower{place}": (each[0], each[2]) for place, each in enumerate(TOWERS)},
    **{f"tower{place}-line": (each[1], each[3]) for place, each in enumerate(TOWERS)},
}
"""Each colour in the light and in the dark."""

OWNERS = (*(f"tower{place}" for place in range(len(TOWERS))), "shared")

FONT = "-apple-system, 'Segoe UI', Helvetica, Arial, 'Liberation Sans', sans-serif"


def themes() -> tuple[Theme, Theme]:
    """The light one and the dark one."""
    return {name: pair[0] for name, pair in COLOURS.items()}, {name: pair[1] for name, pair in COLOURS.items()}


def page_style() -> str:
    """The style of a page: colours as variables, of the theme that its reader has or chooses, and what uses them."""
    light, dark = (";".join(f"--{name}:{value}" for name, value in theme.items()) for theme in themes())
    pieces = [f".{owner}-seg{{background:var(--{owner});border-color:var(--{owner}-line)}}" for owner in OWNERS]
    marks = [f".mark.{name}{{background:var(--{name}-tint);border-color:var(--{name})}}" for name in STATUSES]
    return "\n".join(
        [
            f":root{{--font:{FONT};{light}}}",
            f"@media(prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}",
            f":root[data-theme=dark]{{color-scheme:dark;{dark}}}:root[data-theme=light]{{color-scheme:light}}",
            rules(lambda name: f"var(--{name})", ".motc-drawing"),
            *pieces,
            *marks,
        ]
    )


def rules(colour: Callable[[str], str], scope: str) -> str:
    """The rules for what is within `scope`, `colour` being how one is written: `#fff`, or `var(--paper)`."""

    def text(size: float, name: str = "ink", weight: int = 400) -> str:
        return f"font-size:{size}px;fill:{colour(name)};font-weight:{weight}"

    looks: dict[str, str] = {
        "name": text(11.5, weight=600),
        "size": text(10, "muted"),
        "thin-name": text(10),
        "pill-name": text(13.5, weight=700),
        "pill-size": text(10, "muted"),
        "tower-name": text(11, "muted", 600),
        "panel-name": text(12.5, weight=700),
        "frame-name": text(11.5, weight=700),
        "note": text(10, "muted"),
        "legend": text(11),
        "title": text(19, weight=700),
        "subtitle": text(12, "muted"),
        "badge": f"fill:{colour('ink')}",
        "badge-name": text(11, "paper", 700),
        "run-name": text(10, weight=600),
        "small": "font-size:8.5px",
        "run": f"stroke:{colour('rule')};stroke-width:1",
        "run-line": f"stroke:{colour('paper')};stroke-width:1;stroke-opacity:.55",
        "funnel": "fill-opacity:.22;stroke:none",
        "panel": f"fill:{colour('panel')};fill-opacity:.82;stroke:{colour('rule')};stroke-width:1",
        "frame": f"fill:{colour('frame')};fill-opacity:.8;stroke:{colour('rule')};stroke-width:1",
        "box": "stroke-width:1.3",
        "pill": "stroke-width:1.6",
        "lane": "fill:none;stroke-width:2.6;stroke-linecap:round;stroke-linejoin:round",
        "gone": "stroke-dasharray:6 6;stroke-width:1.6",
        "past": "fill:none;stroke-width:1.3;stroke-opacity:.75;stroke-linejoin:round",
        "joint": f"fill:{colour('paper')}",
        "plus": f"fill:{colour('paper')};stroke-width:1.5",
        "bridge": "fill:none;stroke-width:3;stroke-dasharray:2 3",
        "meeting": f"fill:{colour('meeting')}",
        "meeting-name": text(12, "on-meeting", 700),
        "meeting-size": text(10, "on-meeting"),
        "mask-ground": f"fill:{colour('paper')};stroke:{colour('rule')};stroke-width:1",
        "mask-title": text(10, weight=600),
        "mask-name": text(8.5, "muted"),
        "was": f"fill:none;stroke:{colour('changed')};stroke-width:1.2",
        "was-name": text(9, "muted"),
        "by": text(9, "muted"),
        "plate": f"fill:{colour('frame')};fill-opacity:.92",
        "plate-panel": f"fill:{colour('panel')};fill-opacity:.92",
        "sign": text(11, "paper", 700),
    }
    for place in range(6):
        looks[f"kind{place}"] = f"fill:{colour(f'kind{place}')}"
    for owner in OWNERS:
        tint, line = colour(owner), colour(f"{owner}-line")
        looks[f"{owner}-box"] = f"fill:{tint};stroke:{line}"
        looks[f"{owner}-pill"] = f"fill:{colour('paper')};stroke:{line}"
        looks[f"{owner}-line"] = f"stroke:{line}"
        looks[f"{owner}-ground"] = f"fill:{tint};fill-opacity:.38"
        looks[f"{owner}-strip"] = looks[f"{owner}-mask"] = looks[f"{owner}-dot-on"] = f"fill:{line}"
        looks[f"{owner}-mask-detached"] = f"fill:{line};fill-opacity:.4"
        looks[f"{owner}-dot-off"] = f"fill:{line};fill-opacity:.22"
    written = [f"{scope} .{name}{{{rule}}}" for name, rule in looks.items()]
    for status in STATUSES:
        line, tint = colour(status), colour(f"{status}-tint")
        dashed = ";stroke-dasharray:5 3" if status == "removed" else ""
        changed = f"stroke:{line};stroke-width:2{dashed}"
        written.append(f"{scope} .sign-{status}{{fill:{line}}}")
        written.append(f"{scope} .{status} .box,{scope} .swatch-{status}{{fill:{tint};{changed}}}")
        written.append(f"{scope} .{status} .pill,{scope} .{status} .meeting{{{changed}}}")
        written.append(f"{scope} .frame.{status},{scope} .panel.{status}{{{changed}}}")
    written.append(f"{scope} .cell.same .box{{fill:{colour('frame')};stroke-opacity:.55}}")
    written.append(f"{scope} .cell.same text{{fill:{colour('muted')}}}")
    written.append(f"{scope} .again .box{{stroke-dasharray:4 3;fill:{colour('frame')}}}")
    written.append(f"{scope} .outer{{fill:{colour('frame')}}}")
    return "\n".join(written)
