"""Random specs that visit the whole language, nearly all of them right ones."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from motc.ir.execution import Strategy
from tests.fuzz.apart import WritesTowers
from tests.fuzz.attending import WritesAttention
from tests.fuzz.continuous import condition_text, latent_text, placing_text, projector_text

NAMES = ("text", "image", "speech", "state")


@dataclass(frozen=True)
class Drawn:
    """A spec's `.mot` text, how it is to be executed, and what its parameters and batches are drawn from."""

    text: str
    strategy: Strategy
    seed: int

    def __str__(self) -> str:
        return f"# strategy {self.strategy}, seed {self.seed}\n{self.text}"


@st.composite
def drawn_specs(draw: st.DrawFn) -> Drawn:
    """A random spec with a strategy that is meant to run it."""
    strategy: Strategy = draw(st.sampled_from(("sorted", "sorted", "sorted", "reference", "blend", "grouped")))
    text = _Writer(draw, strategy).text()
    return Drawn(text=text, strategy=strategy, seed=draw(st.integers(0, 999)))


class _Writer(WritesAttention, WritesTowers):
    """Writes one spec."""

    def text(self) -> str:
        odd = self.strategy != "grouped"  # whose products want multiples of eight
        self.names = list(NAMES[: self.draw(st.integers(1, len(NAMES)))])
        self.layers = self.draw(st.integers(1, 3))
        self.towers = self.cells(self.names) if self.chance(2) else [[name] for name in self.names]
        self.tower_names = [f"t{index}" for index in range(len(self.towers))] if self.chance(2) else []
        self.own = self.chance(2)
        self.widths = odd and not self.own and bool(self.tower_names) and len(self.towers) > 1 and self.chance(4)
        self.lines += ["width = 16", f"layers = {self.layers}"]
        if not self.own:
            self.lines.append(f"vocab = {self.pick('16', '9', '2', '1') if odd else '16'}")
        self.rotates = self.pick("no", "yes", "yes", "yes") == "yes"
        self.modalities()
        self.thetas = False
        self.learned = not self.rotates and self.chance(2)
        if not self.learned:
            self.absent.add("position_embedding")
        self.attention(odd)
        if self.rotates or self.learned:
            self.placing()
        self.feed_forward(odd)
        self.norms()
        self.residual()
        self.tied = self.chance(4)
        said = ["tied = true"] * self.tied
        said += [f"scale = {self.pick('sqrt_width', '2.5')}"] * self.chance(4)
        if said:
            self.lines.append(f"embedding {{ {', '.join(said)} }}")
        if self.tied:
            self.absent.add("head")
        said = ["bias = true"] * (not self.tied and self.chance(4))
        said += ["scale = 0.3"] * self.chance(4)
        said += [f"softcap = {self.pick('30', '0.5')}"] * self.chance(4)
        if said:
            self.lines.append(f"head {{ {', '.join(said)} }}")
        if self.tower_names:
            self.declare_towers(odd)
        for _ in range(self.draw(st.integers(0, 2)) if self.chance(2) else 0):
            self.some_layers(odd)
        for _ in range(self.draw(st.integers(0, 3))):
            self.untie()
        return "model random_spec {\n" + "".join(f"  {line}\n" for line in self.lines) + "}\n"

    def modalities(self) -> None:
        self.continuous = []
        for name in self.names:
            if name != self.names[0] and self.chance(6):
                self.continuous.append(name)
                said = f"size = {self.pick('3', '1')}{projector_text(self.pick)}{self.added()}"
                self.lines.append(f"modality {name} {{ features {{ {said} }} }}")
            elif name != self.names[0] and self.chance(3):
                self.continuous.append(name)
                self.denoised.append(name)
                condition = "" if self.conditioned or not self.chance(2) else condition_text(self.pick)
                self.conditioned = self.conditioned or (name if condition else "")
                self.narrow = self.narrow or "width" in condition
                self.lines.append(f"modality {name} {{ {latent_text(self.pick)}{condition} }}")
            else:
                said = [f"vocab = {self.pick('7', '8', '2', '1')}"] if self.own else []
                if name != self.names[0]:
                    said += [self.pick(*[""] * 3, "weight = 0", "weight = 2.5")]
                said += [self.pick(*[""] * 3, "seen_targets = true", "seen_targets = false")]
                told = ", ".join(key for key in said if key)
                self.lines.append(f"modality {name}{f' {{ {told} }}' if told else ''}")

    def residual(self) -> None:
        """What is added to the stream times a number, or, where every layer has a feed-forward, around whole layers."""
        said = ["scale = 0.3"] * self.chance(4)
        self.around = not self.beside and not any(line.startswith("parallel") for line in self.lines) and self.chance(6)
        said += ["around = layer"] * self.around
        if said:
            self.lines.append(f"residual {{ {', '.join(said)} }}")

    def added(self) -> str:
        """After which layers further vectors of features are added, if any are."""
        if self.layers == 1 or not self.chance(3):
            return ""
        return f", added_after = {self.pick('0', f'0..{self.layers - 2}', f'{self.layers - 2}')}"

    def placing(self) -> None:
        """How tokens of some modalities are placed; in grids where positions have the axes for it."""
        first, learned = self.pick("", "", "", "first = 2"), "learned = 64" if self.learned else ""
        if first or learned:
            self.lines.append(f"positions {{ {', '.join(key for key in (first, learned) if key)} }}")
        for number, line in enumerate(self.lines):
            start, name, *_ = [*line.split(), ""]
            if start == "modality" and self.chance(5):
                kind = placing_text(self.pick, name not in self.continuous and self.axes > 1, "latent {" in line)
                rest = line.partition(" { ")[2].removesuffix(" }")
                told = ", ".join(part for part in (rest, f"positions {{ {kind} }}") if part)
                self.lines[number] = f"modality {name} {{ {told} }}"
