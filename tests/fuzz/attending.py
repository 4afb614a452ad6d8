"""What random specs say of attention: heads, rotary positions, scores and masks."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.fuzz.groups import DOWN, DOWN_Q, HEAD_NORMS
from tests.fuzz.heads import head_norm_text, listed, low_rank_texts
from tests.fuzz.writer import Writer


class WritesAttention(Writer):
    """Writes a spec's attention."""

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
