"""What random specs say of feed-forwards, and of norms."""

from __future__ import annotations

from typing import get_args

from motc.ir.feed_forward import GATED, FfnKind
from tests.fuzz.continuous import adaptive_text, final_adaptive_text
from tests.fuzz.groups import MODULATIONS, OUT_NORMS
from tests.fuzz.writer import Writer


class WritesSublayers(Writer):
    """Writes a spec's feed-forwards and norms."""

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
        placement = self.pick("pre", "both", *["post", "sublayer_output", "none"] * (not self.conditioned))
        final = self.pick("", "true", "false", "{ eps = 1e-4, weight = false }", "{ kind = layer }")
        may_map = bool(self.conditioned) and not self.widths and not self.narrow
        if self.conditioned and self.chance(3):
            final, self.final_adaptive = final_adaptive_text(self.pick, self.conditioned, may_map), True
        kind = self.pick("rms", "layer")
        said = [f"kind = {kind}", f"placement = {placement}"]
        said += [self.pick("offset = 1", "weight = false")] * self.chance(3)
        said += ["bias = false"] * (kind == "layer" and self.chance(3))
        if placement != "both":
            self.absent |= set(OUT_NORMS)
        if placement == "none":
            self.absent |= {"attention.norm", "ffn.norm"}
        said += [f"eps = {self.pick('1e-3', '1e-6')}"] * self.chance(3)
        said += [f"final {final}" if final[:1] == "{" else f"final = {final}"] * bool(final)
        if self.chance(4):
            said.append("embedding = true")
        else:
            self.absent.add("embedding_norm")
        if final == "false" or "kind = none" in final or (placement == "post" and not final):
            self.absent.add("final_norm")
        said += [adaptive_text(self.pick, self.conditioned, self.layers == 1, may_map)] * bool(self.conditioned)
        if not self.conditioned:
            self.absent |= set(MODULATIONS)
        if "final_norm" in self.absent and "kind = none" not in final:
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
