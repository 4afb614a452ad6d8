"""What random specs say of towers and of some layers, and what they untie."""

from __future__ import annotations

from hypothesis import strategies as st

from motc.ir.inventory import LAYER_PATHS, SECTIONS
from tests.fuzz.feeding import WritesSublayers
from tests.fuzz.groups import HEAD_NORMS, MODULATIONS, NORMS, OUTER, QKV, SELECTORS, meant


class WritesTowers(WritesSublayers):
    """Writes a spec's towers, and its statements about layers and about what is untied."""

    def declare_towers(self, odd: bool) -> None:
        """Towers, some with attributes of their own, and the statements that these need."""
        bound: set[str] = set()
        for index, (name, members) in enumerate(zip(self.tower_names, self.towers, strict=True)):
            said = ", ".join(self.tower(bound, name, members)) if odd and index > 0 else ""
            self.lines.append(f"tower {name} = {', '.join(members)}{f' {{ {said} }}' if said else ''}")
        if not bound:
            return
        self.apart = dict.fromkeys(bound, self.towers)
        self.lines.append(f"untie {', '.join(self.selectors_of(bound))}")

    def tower(self, bound: set[str], name: str, members: list[str]) -> list[str]:
        """What a tower has otherwise; adds to `bound` the groups that must then be untied."""
        said = []
        if self.widths:
            said.append(f"width = {self.pick('8', '24')}")
            bound |= set(LAYER_PATHS) - set(HEAD_NORMS) | set(OUTER)
        if self.chance(3):
            said.append(f"attention {{ {self.pick('bias = true', 'out_bias = true', 'bias = false')} }}")
            bound |= {*self.maps, "attention.out"}
        elif not self.low and self.chance(3):
            said.append(f"attention {{ qk_norm = {self.pick('none', 'rms', 'layer')} }}")
            self.absent |= set(HEAD_NORMS)  # perhaps there are some: they are untied below, and not named again
            bound |= set(HEAD_NORMS)
        elif not (self.low or self.hides) and not self.prefix & {name, *members} and self.chance(3):
            said.append(f"attention {{ reads = {self.tower_names[0]} }}")
            self.reading.append(name)
            self.absent |= set(HEAD_NORMS)  # as above
            bound |= {*self.maps, *HEAD_NORMS}
        elif self.chance(4):
            group = self.pick("gate", "sinks")
            said.append(f"attention {{ {group} = {self.pick('true', 'false')} }}")
            self.absent.add(f"attention.{group}")  # if there is one, untied below
            bound |= {*self.maps, f"attention.{group}"}
        elif self.rotates and not self.thetas and self.chance(3):
            said.append("attention { rope { theta = 30 } }")
        if self.chance(3):
            choices = ["hidden = 20", "kind = gelu", "kind = swiglu", "bias = true"]
            moe = self.strategy in ("sorted", "reference") and self.chance(2)
            self.tokens_choose = False
            said.append(f"ffn {{ {', '.join(self.experts()) if moe else self.pick(*choices)} }}")
            self.mixed = self.mixed or moe
            self.absent.add("ffn.gate")
            bound |= set(SECTIONS["ffn"])
        if self.chance(4):
            choices = ["kind = layer", "kind = rms", "eps = 0.01", "final = true", "final = false"]
            choices += ["embedding = true", "embedding = false"]
            choices += ["adaptive = none"] * (
                bool(self.conditioned) and not self.final_adaptive and self.conditioned not in members
            )
            said.append(f"norm {{ {self.pick(*choices)} }}")
            self.absent |= {
                "embedding_norm",
                "final_norm",
                *MODULATIONS,
            }  # if there are, untied below
            bound |= {*NORMS, *MODULATIONS}
        return said

    def selectors_of(self, bound: set[str]) -> list[str]:
        """Selectors for all of these groups."""
        if self.widths:
            # All groups, or all but the norms of heads, which have a size of their own.
            most = [*QKV, "attention.out", "ffn", "norm", "embedding", *(["head"] if not self.tied else [])]
            most += ["position_embedding"] if self.learned else []
            most += ["attention.gate"] if self.gated else []
            apart = {*HEAD_NORMS, "attention.gate", "attention.sinks"}
            return ["*"] if self.low or bound & apart or self.chance(2) else most
        sections = ["attention"] * bool(bound & {*self.maps, *HEAD_NORMS})
        return sections + ["ffn"] * ("ffn.up" in bound) + ["norm"] * ("ffn.norm" in bound)

    def untie(self) -> None:
        """One more statement, which leaves apart what must be."""
        selectors = [s for s in SELECTORS if self.may_name(s)]
        chosen = self.draw(st.lists(st.sampled_from(selectors), min_size=1, max_size=2, unique=True))
        paths = {path for selector in chosen for path in meant(selector)}
        cells = None
        if self.chance(2):
            cells = self.cells(self.names)
            if any(path in self.apart for path in paths):
                cells = [[n for n in cell if n in block] for cell in cells for block in self.towers]
                cells = [cell for cell in cells if cell]
        line = f"untie {', '.join(chosen)}"
        if cells:
            blocks = [f"{{{', '.join(cell)}}}" for cell in cells]
            line += f" as {' '.join(blocks)}"
        if not paths & set(OUTER) and self.chance(2):
            line += f" in {self.range()}"
        self.lines.append(line)

    def range(self) -> str:
        """Some of the layers."""
        first = self.draw(st.integers(0, self.layers - 1))
        last = self.draw(st.integers(first, self.layers - 1))
        return f"layer {first}" if first == last else f"layers {first}..{last}{self.pick('', '', ' step 2')}"

    def some_layers(self, odd: bool) -> None:
        """A statement about what some layers have otherwise; what towers say otherwise is untied in all layers."""
        said = []
        if self.chance(2):
            rope = self.pick("rope = none", "rope { theta = 50 }", "rope { pairing = interleaved }")
            window = "window = none" if self.hides else "window = 4"
            mask = self.pick("mask = causal", "mask = full", window, "window = none")
            said.append(f"attention {{ {self.pick(rope, mask, 'bias = true')} }}")
        if self.chance(2):
            kind = self.pick("kind = gelu", "kind = swiglu", "hidden = 24", "bias = true")
            said.append(f"ffn {{ {kind} }}" if self.around or self.layers == 1 or self.chance(2) else "ffn = none")
            self.absent.add("ffn.gate")
            self.tokens_choose = False
        if self.reading and self.chance(2):
            said.append(f"tower {self.reading[0]} {{ attention {{ reads = [] }} }}")
        if not said or self.chance(3):
            beside = self.beside or any(line.startswith("parallel") for line in self.lines)
            others = ["placement = pre", *["placement = post"] * (not self.conditioned and not beside)]
            said.append(f"norm {{ {self.pick('eps = 0.02', 'kind = layer', *others)} }}")
        if self.beside:
            said.append(f"parallel = {self.pick('one_norm', 'two_norms', 'none')}")
        where = f"layer {self.layers - 1}" if "ffn = none" in said else self.range()
        self.lines.append(f"{where} {{ {', '.join(said)} }}")
        self.absent_somewhere()

    def absent_somewhere(self) -> None:
        """The first layer, or a tower in it where all that it has there is untied, without attention; or nothing."""
        one_norm = "parallel = one_norm" in self.lines
        if self.layers == 1 or one_norm or self.beside or self.chance(2):
            return
        apart = {*self.maps, "attention.out", "attention.norm", "ffn.norm", *SECTIONS["ffn"]} <= set(self.apart)
        if apart and not (self.widths or self.reading or self.low) and self.chance(2):
            *others, last = self.tower_names
            said = f"attention {{ cross = {last}{self.pick('', ', out_gate = tanh')} }}"
            each = [f"tower {last} {{ attention = none }}"] + [f"tower {name} {{ {said} }}" for name in others]
            self.lines.append(f"layer 0 {{ attention {{ mask = full }}, {', '.join(each)} }}")
        elif apart:
            nothing = self.pick("attention = none", "attention = none, ffn = none")
            if not self.reading and self.chance(2):
                nothing = self.pick("attention = keys", "attention = keys, ffn = none")
            self.lines.append(f"layer 0 {{ tower {self.tower_names[-1]} {{ {nothing} }} }}")
        elif "ffn = none" not in self.lines[-1]:
            self.lines.append("layer 0 { attention = none }")

    def may_name(self, selector: str) -> bool:
        """Whether a statement about a selector is surely right."""
        if selector == "ffn.router":
            return self.tokens_choose
        paths = meant(selector)
        if set(paths) <= self.absent or (self.own and set(paths) & {"embedding", "head"}):
            return False
        return not self.mixed or selector in ("ffn", "*", "ffn.*") or not set(paths) & set(SECTIONS["ffn"])
