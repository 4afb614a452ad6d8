"""Random specs that visit the whole language, nearly all of them right ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

from hypothesis import strategies as st

from motc.ir.execution import Strategy
from motc.ir.feed_forward import GATED, FfnKind
from motc.ir.inventory import LAYER_PATHS, SECTIONS
from tests.fuzz.continuous import adaptive_text, condition_text, latent_text, placing_text, projector_text
from tests.fuzz.groups import DOWN, DOWN_Q, HEAD_NORMS, MODULATIONS, NORMS, OUT_NORMS, OUTER, QKV, SELECTORS, meant
from tests.fuzz.heads import head_norm_text, listed, low_rank_texts

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


@dataclass
class _Writer:
    """Writes one spec, keeping in mind what its parts ask of each other."""

    draw: st.DrawFn
    strategy: Strategy
    lines: list[str] = field(default_factory=list)
    apart: dict[str, list[list[str]]] = field(default_factory=dict)
    """Groups whose copies must not be shared between these blocks of modalities."""
    grouped: bool = False
    """Whether experts are in groups."""
    axes: int = 1
    """On how many axes positions are."""
    tokens_choose: bool = False
    """Whether all have mixtures of experts and choose alike, so that routers are untied freely."""
    absent: set[str] = field(default_factory=set)
    """Groups that no modality has."""
    prefix: set[str] = field(default_factory=set)
    """Names in a prefix."""
    conditioned: str = ""
    """The modality with a condition, by which norms are adaptive, if there is one."""
    reading: list[str] = field(default_factory=list)
    """Towers that read others."""
    denoised: list[str] = field(default_factory=list)
    """Modalities with latents."""
    beside: bool = False
    """Whether some layers may have their sublayers side by side, or not."""
    hides: bool = False
    """Whether noised spans are hidden."""

    def pick(self, *choices: str) -> str:
        return self.draw(st.sampled_from(choices))

    def chance(self, of: int) -> bool:
        """True once in `of` times; shrinks to false."""
        return self.draw(st.integers(0, of - 1)) == of - 1

    def some(self, names: list[str], least: int = 1) -> list[str]:
        """Some of the names, in their order."""
        chosen = self.draw(st.sets(st.sampled_from(names), min_size=least))
        return [name for name in names if name in chosen]

    def cells(self, names: list[str]) -> list[list[str]]:
        """A random partition."""
        numbers = [self.draw(st.integers(0, len(names) - 1)) for _ in names]
        return [[n for n, at in zip(names, numbers, strict=True) if at == cell] for cell in dict.fromkeys(numbers)]

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
        self.lines += ["residual { scale = 0.3 }"] * self.chance(4)
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
                self.lines.append(f"modality {name} {{ {latent_text(self.pick)}{condition} }}")
            else:
                said = [f"vocab = {self.pick('7', '8', '2', '1')}"] if self.own else []
                if name != self.names[0]:
                    said += [self.pick(*[""] * 3, "weight = 0", "weight = 2.5")]
                said += [self.pick(*[""] * 3, "seen_targets = true", "seen_targets = false")]
                told = ", ".join(key for key in said if key)
                self.lines.append(f"modality {name}{f' {{ {told} }}' if told else ''}")

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

    def attention(self, odd: bool) -> None:
        self.low = self.chance(6)
        if self.low:
            self.low_rank(odd)
            return
        self.absent |= set(DOWN)
        heads = self.pick("4", "2")
        said = [f"heads = {heads}", f"kv_heads = {self.pick(*('1', '2', '4')[: 3 if heads == '4' else 2])}"]
        said += [f"value_dim = {self.pick('8', *['3'] * odd)}"] * self.chance(4)
        rotates = self.rotates
        sizes = ["4", "8", *(["6", *([] if rotates else ["3"])] if odd else [])]
        head_dim = 16 // int(heads)
        if self.widths or self.chance(3):
            head_dim = int(self.pick(*sizes))
            said.append(f"head_dim = {head_dim}")
        said += self.rope(head_dim) if rotates else ["rope = none"]
        norm = self.pick("none", "rms", "layer")
        if norm == "none":
            self.absent |= set(HEAD_NORMS)
        else:
            said.append(head_norm_text(self.pick, self.chance, norm))
            said += ["qk_norm_eps = 1e-3"] * self.chance(3)
        said += [f"clip = {self.pick('1', '0.3')}"] * self.chance(5)
        self.attention_beside(said)

    def low_rank(self, odd: bool) -> None:
        """Attention of low rank, which has no norms of heads."""
        rope_dim, has_q, said = low_rank_texts(self.pick, odd, self.rotates)
        self.absent |= {*HEAD_NORMS, *(() if has_q else DOWN_Q)}
        self.attention_beside([*said, *(self.rope(rope_dim) if self.rotates else ["rope = none"])])

    def attention_beside(self, said: list[str]) -> None:
        """What goes with attention of any rank: biases, scores, and masks."""
        said += [f"bias = {self.pick('true', 'false')}"] * self.chance(2)
        said += [f"out_bias = {self.pick('true', 'false')}"] * self.chance(3)
        said += [f"scale = {self.pick('0.25', '1')}"] * self.chance(4)
        said += [f"softcap = {self.pick('50', '0.5')}"] * self.chance(4)
        self.gated = self.chance(4)
        said += ["gate = true"] * self.gated
        if self.chance(4):
            said.append("sinks = true")
        else:
            self.absent.add("attention.sinks")
        said += self.mask()
        said += [f"window = {self.pick('2', '4', '6')}"] * (not self.hides and self.chance(4))
        self.lines.append(f"attention {{ {', '.join(said)} }}")

    def rope(self, head_dim: int) -> list[str]:
        """Rotary positions, of a fraction of the head and with frequencies scaled in one way or the other."""
        said = ["pairing = interleaved"] * self.chance(2)
        size = head_dim
        if not self.low and self.chance(3):
            size = int(self.pick(*(str(even) for even in range(2, head_dim + 1, 2))))
            said.append(f"fraction = {min(1, (size + 0.5) / head_dim):.3f}")
        self.axes = axes = self.draw(st.integers(2, min(3, size // 2))) if size > 2 and self.chance(3) else 1
        own, theta = axes > 1 and self.chance(3), self.pick("100", "2.5")
        if own:
            theta = self.pick(theta, f"[{', '.join(['100', '2.5', '30'][:axes])}]")
            self.thetas = theta[0] == "["
            said.append(f"axes = [{size - 2 * axes + 2}{', 2' * (axes - 1)}]")
        elif axes > 1:
            said.append(f"sections = [{size // 2 - axes + 1}{', 1' * (axes - 1)}]")
            said += [f"arrangement = {self.pick('split', 'interleaved', 'spatial_first')}"] * self.chance(2)
        said += [f"theta = {theta}"] * (theta[0] == "[" or self.chance(2))
        if not own and self.chance(3):
            kinds = ("linear", "llama3", "yarn", "yarn, truncate = false, attention_factor = 2")
            kind = self.pick(*kinds, *(["dynamic"] * 2 if size > 2 else []))
            length = "" if kind == "linear" else f", original_length = {self.pick('6', '30')}"
            said.append(f"scaling {{ kind = {kind}, factor = {self.pick('1', '1.7', '8')}{length} }}")
        return [f"rope {{ {', '.join(said)} }}"] if said else []

    def mask(self) -> list[str]:
        names = [*self.names, *self.tower_names]
        kind = self.pick("", "causal", "full", "prefix", "blocks")
        said = [f"kind = {kind}"] * bool(kind)
        if kind == "prefix":
            self.prefix = set(prefix := self.some(names))
            said.append(f"prefix = {listed(prefix)}")
        if kind == "blocks":
            said.append(f"blocks = [{', '.join(listed(cell) for cell in self.cells(self.names))}]")
        if kind in ("", "causal", "prefix") and self.chance(2):
            together = len(self.names) > 1 and self.chance(3)
            runs = f"runs = [{listed(self.names[:2])}]" if together else f"bidirectional = {listed(self.some(names))}"
            said.append(runs)
            said += ["delimiters = true"] * self.chance(3)
            if not together and kind != "prefix" and self.denoised and self.chance(2):
                hidden = [self.draw(st.sampled_from(self.denoised))]
                said[said.index(runs)] = f"bidirectional = {listed(hidden)}, hide_noised = {listed(hidden)}"
                self.hides = True
        if self.chance(3):
            seen = {name: self.some(self.names, 0) for name in self.some(self.names)}
            lists = (f"{name} = {listed([n for n in self.names if n in (name, *seen[name])])}" for name in seen)
            said.append(f"sees {{ {', '.join(lists)} }}")
        if self.chance(4) and not self.hides:
            read = (f"{name} = {listed(self.some(names))}" for name in self.some(self.names))
            said.append(f"detach {{ {', '.join(read)} }}")
        if said == [f"kind = {kind}"] and kind in ("causal", "full"):
            return [f"mask = {kind}"]
        return [f"mask {{ {', '.join(said)} }}"] if said else []

    def experts(self) -> list[str]:
        """Keys of a mixture of experts."""
        experts = self.pick("2", "3", "5", "6")
        said = ["kind = moe", f"experts = {experts}"]
        said += [f"expert = {self.pick(*get_args(FfnKind))}"] * self.chance(2)
        if self.chance(3):
            said.append(f"shared_experts = {self.pick('1', '2')}")
            said += ["shared_hidden = 7"] * self.chance(2)
            said += ["shared_gate = true"] * self.chance(2)
        said += ["router_bias = true"] * self.chance(3)
        if self.chance(2):
            said.append("routing = expert_choice")
            said += [f"capacity_factor = {self.pick('1', '1.5', '0.7', '2')}"] * self.chance(2)
        else:
            said += [f"top_k = {self.pick('1', '2')}"] * self.chance(2)
            said += [f"balance = {self.pick('0', '0.5')}"] * self.chance(2)
            said += self.choice(experts)
        return said

    def choice(self, experts: str) -> list[str]:
        """Keys of how a token chooses its experts. A tower says groups of its own, as its number of experts is."""
        said = [f"scores = {self.pick('softmax', 'sigmoid')}"] * self.chance(2)
        said += [self.pick("normalise = false", "normalise = true")] * self.chance(3)
        said += ["routed_scale = 2.5"] * self.chance(3)
        said += ["correction = true"] * self.chance(3)
        if experts == "6" and self.chance(2):
            said.append(f"groups = 3, top_groups = {self.pick('2', '1')}")
            said += ["group_score = best"] * self.chance(3)
            self.grouped = True
        elif self.grouped:
            said.append("groups = 1, top_groups = 1")
        return said

    def feed_forward(self, odd: bool) -> None:
        self.mixed = self.strategy in ("sorted", "reference") and self.chance(3)
        kind = self.pick(*get_args(FfnKind))
        said = self.experts() if self.mixed else [f"kind = {kind}"]
        self.tokens_choose = self.mixed and "routing = expert_choice" not in said
        said.append(f"hidden = {self.pick('12', '8', '5') if odd else self.pick('16', '8')}")
        said += ["bias = true"] * self.chance(3)
        if not self.mixed and kind not in GATED:
            self.absent.add("ffn.gate")
        self.lines.append(f"ffn {{ {', '.join(said)} }}")

    def norms(self) -> None:
        placement = self.pick("pre", "both", *["post", "sublayer_output"] * (not self.conditioned))
        final = self.pick("", "true", "false", "{ eps = 1e-4, weight = false }", "{ kind = layer }")
        kind = self.pick("rms", "layer")
        said = [f"kind = {kind}", f"placement = {placement}"]
        said += [self.pick("offset = 1", "weight = false")] * self.chance(3)
        said += ["bias = false"] * (kind == "layer" and self.chance(3))
        if placement != "both":
            self.absent |= set(OUT_NORMS)
        said += [f"eps = {self.pick('1e-3', '1e-6')}"] * self.chance(3)
        said += [f"final {final}" if final[:1] == "{" else f"final = {final}"] * bool(final)
        if self.chance(4):
            said.append("embedding = true")
        else:
            self.absent.add("embedding_norm")
        if final == "false" or (placement == "post" and not final):
            self.absent.add("final_norm")
        said += [adaptive_text(self.pick, self.conditioned, self.layers == 1)] * bool(self.conditioned)
        if not self.conditioned:
            self.absent |= set(MODULATIONS)
        if "final_norm" in self.absent:
            self.absent.add("final_modulation")
        self.lines.append(f"norm {{ {', '.join(said)} }}")
        if placement != "post" and self.chance(4):
            parallel = self.pick("two_norms", *["one_norm"] * (placement == "pre"))
            self.lines.append(f"parallel = {parallel}")
            if parallel == "one_norm":
                self.absent |= {"ffn.norm", "ffn.modulation"}
        self.beside = placement == "pre" and self.chance(5)
        if self.beside:
            self.absent |= {"ffn.norm", "ffn.modulation"}  # perhaps

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

    @property
    def maps(self) -> tuple[str, ...]:
        """The groups that make queries, keys and values."""
        return (*DOWN, *QKV) if self.low else QKV

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
            choices += ["adaptive = none"] * (bool(self.conditioned) and self.conditioned not in members)
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
            said.append(f"ffn {{ {kind} }}" if self.layers == 1 or self.chance(2) else "ffn = none")
            self.absent.add("ffn.gate")
            self.tokens_choose = False
        if self.reading and self.chance(2):
            said.append(f"tower {self.reading[0]} {{ attention {{ reads = [] }} }}")
        if not said or self.chance(3):
            others = ["placement = pre", *["placement = post"] * (not self.conditioned and not self.beside)]
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
