"""Positions on several axes: against the text decoders of Qwen2.5-VL and Qwen3-VL, and others' angles."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import motc
from codegen_templates.rope_axes import axis_frequencies, interleaved_axes, on_axes, spatial_first_axes, split_axes
from codegen_templates.rope_frequencies import plain_frequencies, rope_turned
from motc.source import SpecError
from tests.originals import agree, as_parameters, renamed, widened

transformers = pytest.importorskip("transformers")

SPEC = """
model placed {
  width = 64
  layers = 2
  vocab = 61
  modality text, image
  attention { heads = 4, kv_heads = 2, head_dim = 16, %s }
  ffn { hidden = 40 }
  norm { eps = 1e-6 }
}
"""
SIZES: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 64,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6,
    "attn_implementation": "eager",
}


class Decoder(nn.Module):
    """A text decoder of a model of text and images, with a head."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.lm_head = nn.Linear(64, 61, bias=False)

    def forward(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Logits, of positions [B, S, axes]."""
        with widened(torch.float64):
            states = self.model(ids, position_ids=positions.permute(2, 0, 1), use_cache=False).last_hidden_state
        return self.lm_head(states)


def qwen2_5() -> nn.Module:
    from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as source

    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
    return source.Qwen2_5_VLTextModel(source.Qwen2_5_VLTextConfig(**SIZES, rope_parameters=rope))


def qwen3() -> nn.Module:
    from transformers.models.qwen3_vl import modeling_qwen3_vl as source

    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]}
    return source.Qwen3VLTextModel(source.Qwen3VLTextConfig(**SIZES, rope_parameters=rope))


def scaled() -> nn.Module:
    from transformers.models.qwen3_vl import modeling_qwen3_vl as source

    rope = {"rope_type": "yarn", "rope_theta": 10000.0, "mrope_section": [4, 2, 2], "factor": 4.0}
    rope["original_max_position_embeddings"] = 128
    return source.Qwen3VLTextModel(source.Qwen3VLTextConfig(**SIZES, rope_parameters=rope))


YARN = ", scaling { kind = yarn, factor = 4, original_length = 128 }"
CASES = {
    "qwen2.5": (qwen2_5, "bias = true, out_bias = false, rope { sections = [2, 3, 3] }"),
    "qwen3": (qwen3, "qk_norm = rms, rope { sections = [4, 2, 2], arrangement = interleaved }"),
    "scaled": (scaled, f"qk_norm = rms, rope {{ sections = [4, 2, 2], arrangement = interleaved{YARN} }}"),
}


def both(name: str) -> tuple[nn.Module, Any]:
    """Theirs and ours with the same weights."""
    torch.manual_seed(0)
    theirs = Decoder(CASES[name][0]()).eval()
    as_parameters(theirs, torch.float64)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    ours = motc.load(SPEC % CASES[name][1], dtype=torch.float64)
    ours.load_state_dict(renamed(dict(theirs.named_parameters())))
    return theirs, ours


@pytest.mark.parametrize("name", CASES)
def test_logits_gradients_and_tokens(name: str) -> None:
    theirs, ours = both(name)
    ids, positions = torch.randint(0, 61, (2, 9)), torch.randint(0, 30, (2, 9, 3))
    modality_ids = torch.randint(0, 2, ids.shape)
    expected, got = theirs(ids, positions), ours(ids, modality_ids, position_ids=positions).logits
    first = ours(ids, modality_ids, position_ids=positions[..., 0]).logits
    assert (first - got).abs().max() > 1e-3  # the axes matter
    agree(theirs, ours, expected, got)

    generated = ours.generate(ids, modality_ids, position_ids=positions, max_new_tokens=5, temperature=0.0).input_ids
    for step in range(5):
        following = theirs(ids, positions)[:, -1].argmax(-1, keepdim=True)
        assert torch.equal(following, generated[:, step : step + 1])
        ids = torch.cat((ids, following), dim=1)
        after = positions.flatten(1).amax(1)[:, None, None].expand(-1, 1, 3) + 1
        positions = torch.cat((positions, after), dim=1)


def test_packed_and_padded_documents_have_the_positions_they_are_given() -> None:
    _, ours = both("qwen3")
    ids, positions = torch.randint(0, 61, (1, 11)), torch.randint(0, 30, (1, 11, 3))
    modality_ids = torch.tensor([[0, 1, 1, 0, -1, 0, 0, 1, 1, 1, 0]])
    documents = torch.tensor([[0] * 5 + [1] * 6])
    packed = ours(ids, modality_ids, position_ids=positions, document_ids=documents).logits
    for first, end in ((0, 4), (5, 11)):
        alone = ours(ids[:, first:end], modality_ids[:, first:end], position_ids=positions[:, first:end]).logits
        torch.testing.assert_close(packed[:, first:end], alone, rtol=1e-12, atol=1e-12)
    generated = ours.generate(
        ids, modality_ids, position_ids=positions, document_ids=documents, max_new_tokens=3, temperature=0.0
    )
    alone = ours.generate(
        ids[:, 5:], modality_ids[:, 5:], position_ids=positions[:, 5:], max_new_tokens=3, temperature=0.0
    )
    assert torch.equal(generated.input_ids, alone.input_ids)


def test_one_row_of_positions_serves_all_and_text_has_one_number() -> None:
    _, ours = both("qwen2.5")
    ids, modality_ids = torch.randint(0, 61, (2, 5)), torch.zeros(2, 5, dtype=torch.int64)
    plain = ours(ids, modality_ids).logits
    places = torch.arange(5)
    for given in (places, places[None], places[None, :, None].expand(1, 5, 3), places[None, :, None].expand(2, 5, 3)):
        assert torch.equal(ours(ids, modality_ids, position_ids=given).logits, plain)
    with pytest.raises(ValueError, match="there are 3 axes"):
        ours(ids, modality_ids, position_ids=torch.zeros(2, 5, 2, dtype=torch.int64))
    one: Any = motc.load(SPEC % "bias = false")
    with pytest.raises(ValueError, match="there is one axis"):
        one(ids, modality_ids, position_ids=torch.zeros(2, 5, 3, dtype=torch.int64))


def test_angles_as_ernie_has_them() -> None:
    from transformers.models.ernie4_5_vl_moe import modeling_ernie4_5_vl_moe as source

    rope = {"rope_type": "default", "rope_theta": 500000.0, "mrope_section": [22, 22, 20]}
    config = source.Ernie4_5_VLMoeTextConfig(hidden_size=512, num_attention_heads=4, rope_parameters=rope)
    positions = torch.randint(0, 50, (2, 7, 3))
    theirs = source.Ernie4_5_VLMoeTextRotaryEmbedding(config)(torch.zeros(1), positions.permute(2, 0, 1))
    frequencies = plain_frequencies(128, 500000.0, positions.device)
    ours = rope_turned(on_axes(positions, spatial_first_axes(20, 22, 22)), frequencies, torch.float32)
    for their, our in zip(theirs, ours, strict=True):
        assert torch.equal(their[..., ::2], our[:, :, 0])


def test_angles_of_axes_of_their_own_as_the_vision_tower_of_qwen_has_them() -> None:
    from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as source

    config = source.Qwen2_5_VLVisionConfig(hidden_size=64, num_heads=2)
    positions = torch.randint(0, 50, (7, 2))
    theirs = source.Qwen2_5_VLVisionRotaryEmbedding(config)(torch.zeros(1), positions)
    frequencies = axis_frequencies((16, 16), 10000.0, positions.device)
    ours = rope_turned(on_axes(positions[None], split_axes(8, 8)), frequencies, torch.float32)
    for their, our in zip(theirs, ours, strict=True):
        assert torch.equal(their[:, :16], our[0, :, 0])


def test_the_axes_of_pairs() -> None:
    assert split_axes(2, 3, 1) == (0, 0, 1, 1, 1, 2)
    assert interleaved_axes(4, 2, 2) == (0, 1, 2, 0, 1, 2, 0, 0)
    assert spatial_first_axes(1, 2, 2) == (1, 2, 1, 2, 0)


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ("sections = [2, 3, 2]", "7 pairs, and 8 rotate"),
        ("sections = [2, 3, 3], arrangement = interleaved", "cannot take turns"),
        ("sections = [3, 3, 2], arrangement = spatial_first", "cannot take turns"),
        ("arrangement = split", "says nothing without `sections`"),
        ("sections = [4, 4], axes = [8, 8]", "both say"),
        ("axes = [8, 4]", "12 components, and 16 rotate"),
        ("axes = [7, 9]", "an even number"),
        ("axes = [8, 8], scaling { kind = linear, factor = 2 }", "cannot be scaled"),
        ("theta = [100, 200], sections = [4, 4]", "needs `axes`"),
        ("theta = [100, 200, 300], axes = [8, 8]", "not one for each"),
    ],
)
def test_axes_that_do_not_go_together_are_told(said: str, what: str) -> None:
    with pytest.raises(SpecError) as caught:
        motc.load(SPEC % f"rope {{ {said} }}")
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "MOT081"
    assert what in diagnostic.message


def test_layers_have_as_many_axes() -> None:
    spec = (SPEC % "rope { sections = [4, 4] }").replace("ffn {", "layer 1 { attention { rope { %s } } }\n  ffn {")
    with pytest.raises(SpecError, match="2 numbers in some layers and 3 in others"):
        motc.load(spec % "sections = [4, 2, 2]")
    model: Any = motc.load(spec % "theta = 100, arrangement = interleaved")
    assert model.position_axes == 2


@pytest.mark.compiled
@pytest.mark.parametrize(
    "rope",
    [
        "sections = [4, 2, 2], arrangement = interleaved",
        "fraction = 0.5, scaling { kind = dynamic, factor = 2, original_length = 4 }",
    ],
)
def test_one_graph_serves_every_mixture_and_every_position(rope: str) -> None:
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    text = (SPEC % f"rope {{ {rope} }}").replace("norm {", "untie ffn\n  norm {")
    compiled, eager = motc.load(text, dtype=torch.float64), motc.load(text, dtype=torch.float64)
    compiled.compile(backend="eager")
    for rows in ([[0, 1, 1, 0, 1]] * 2, [[0, 0, 0]] * 3, [[1, 1]], [[1] * 7] * 4):
        modality_ids = torch.tensor(rows)
        ids = torch.randint(0, 61, modality_ids.shape)
        axes = (eager.position_axes,) if eager.position_axes > 1 else ()
        for places in (None, torch.randint(0, 30, (*modality_ids.shape, *axes))):
            expected = eager(ids, modality_ids, position_ids=places).logits
            torch.testing.assert_close(compiled(ids, modality_ids, position_ids=places).logits, expected)
            assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 3  # a kind of layers, and the ends
    torch.compiler.reset()
