"""Random specs through the whole pipeline: each gives a model that obeys every law, or a SpecError."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from motc.driver import stages
from motc.loading import instantiate
from motc.schema import check
from motc.source import SourceFile, SpecError
from motc.syntax import read, write
from motc.validate import validate

MODALITIES = ("text", "image", "speech")
CELLS = ("", " as {text} {image, speech}", " as {image} {text, speech}", " as {text, image, speech}")
SELECTORS = ("attention", "ffn", "norm", "attention.*", "*.norm", "ffn.up", "attention.q", "final_norm", "*")


@st.composite
def specs(draw: st.DrawFn) -> str:
    """A `.mot` text, most of the time a right one."""

    def pick(*choices: str) -> str:
        return draw(st.sampled_from(choices))

    own = draw(st.booleans())
    lines = ["width = 16", "layers = 2", "" if own else "vocab = 9"]
    for name in MODALITIES:
        latent = name != "text" and draw(st.integers(0, 2)) == 0
        attributes = f"channels = {pick('1', '3')}, patch = {pick('1', '2')}, objective = {pick('ddpm', 'flow')}"
        ends = pick("", ", weight = 5", ", ends = unet, unet { channels = 4, blocks = 1 }")
        token = " { vocab = 7 }" if own else ""
        lines.append(f"modality {name}{f' {{ latent {{ {attributes}{ends} }} }}' if latent else token}")
    lines.append(
        f"attention {{ heads = 4, kv_heads = {pick('1', '2', '4')}, qk_norm = {pick('none', 'rms', 'layer')}, "
        f"bias = {pick('true', 'false')}, mask = {pick('causal', 'full')}, "
        f"rope = {pick('none', '{ pairing = half }', '{ pairing = interleaved }')} }}"
    )
    lines.append(f"ffn {{ kind = {pick('swiglu', 'geglu', 'gelu', 'relu2')}, hidden = 12 }}")
    lines.append(f"norm {{ kind = {pick('rms', 'layer')}, placement = {pick('pre', 'post', 'sublayer_output')} }}")
    lines.append(f"embedding {{ tied = {pick('true', 'false')} }}")
    lines.append(
        pick(
            "",
            "tower front = text, image",
            "tower back = speech { ffn { hidden = 20 } }\nuntie ffn",
            "tower back = speech { attention { qk_norm = rms }, norm { kind = layer } }\nuntie *",
            "tower back = speech { width = 24, ffn { kind = gelu } }\nuntie *",
            "tower back = speech { ffn { kind = moe, experts = 3 } }\nuntie *",
            "tower front = text, image { ffn { kind = moe, experts = 3, routing = expert_choice } }\nuntie ffn",
        )
    )
    for _ in range(draw(st.integers(0, 3))):
        lines.append(f"untie {pick(*SELECTORS)}{pick(*CELLS)}{pick('', '', ' in layer 0', ' in layers 0..1')}")
    return "model random_spec {\n" + "\n".join(lines) + "\n}\n"


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(specs())
def test_a_random_spec_gives_a_right_model_or_a_diagnostic(text: str) -> None:
    tree = read(SourceFile("random.mot", text))
    try:
        checked = check(tree)
        *_, (_, sparse) = stages(checked)
    except SpecError:  # the property is that nothing else is raised
        return
    again = check(read(SourceFile("random.yaml", write(tree, "yaml"))))
    assert [model for _, model in stages(again)][-1] == sparse
    *_, (_, dense) = stages(checked, dense=True)
    modules: list[Any] = [instantiate(model, dtype=torch.float64) for model in (sparse, dense)]
    report = validate(sparse, dense, *modules)
    assert report.ok, (text, report)
