"""Models that see, against ones nobody here wrote: LLaVA whole, its encoder included, and the projectors of others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import motc
from tests.originals import our_name
from tests.test_hugging_face import sizes

transformers = pytest.importorskip("transformers")

IMAGE, VOCAB = 60, 61
LLAVA = """
model llava {
  width = 48, layers = 3, vocab = 61
  modality vit { features { size = 24, projector { kind = gelu } } }
  modality text
  attention { heads = 4, kv_heads = 2, rope { theta = 10000 } }
  ffn { hidden = 80 }
  norm { eps = 1e-6 }
}
"""
NAMES = {
    "model.language_model.": "model.",
    "model.multi_modal_projector.linear_1": "features.vit.hidden",
    "model.multi_modal_projector.linear_2": "features.vit.out",
}


def llava() -> Any:
    vision = transformers.CLIPVisionConfig(
        hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=2, image_size=12, patch_size=4
    )
    text = transformers.LlamaConfig(**sizes())
    config = transformers.LlavaConfig(vision_config=vision, text_config=text, image_token_index=IMAGE)
    config._attn_implementation = "eager"
    return transformers.LlavaForConditionalGeneration(config)


def name_of(theirs: str) -> str:
    for old, new in NAMES.items():
        theirs = theirs.replace(old, new)
    return our_name(theirs)


def encoded(model: Any, pixels: Tensor) -> Tensor:
    """What LLaVA's encoder makes of images: patches [n, 9, 24], after its last but one layer, without the first."""
    states = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states
    features: Tensor = states[-2][:, 1:]
    return features


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Norms and attention in the dtype of their input, without the detour through float32."""

    def forward(self: Any, hidden_states: Tensor) -> Tensor:
        variance = hidden_states.pow(2).mean(-1, keepdim=True)
        return self.weight * (hidden_states * torch.rsqrt(variance + self.variance_epsilon))

    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    monkeypatch.setattr(LlamaRMSNorm, "forward", forward)
    real = torch.nn.functional.softmax
    monkeypatch.setattr(torch.nn.functional, "softmax", lambda x, dim=None, dtype=None, **kw: real(x, dim=dim, **kw))


@pytest.mark.usefixtures("wide")
def test_llava_with_its_encoder() -> None:
    """Logits, the loss, and the gradients of all parameters, those of the encoder by way of the features."""
    torch.manual_seed(0)
    theirs = llava().double().eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.2)
    ours: Any = motc.load(LLAVA, dtype=torch.float64)
    vision = {name: p for name, p in theirs.named_parameters() if name.startswith("model.vision_tower.")}
    renamed = {name_of(name): p for name, p in theirs.named_parameters() if name not in vision}
    parameters = dict(ours.named_parameters())
    assert {name: p.shape for name, p in renamed.items()} == {name: p.shape for name, p in parameters.items()}
    ours.load_state_dict(renamed)

    ids = torch.randint(0, IMAGE, (2, 24))
    ids[0, 1:10], ids[1, 3:12], ids[0, 12:21] = IMAGE, IMAGE, IMAGE
    pixels = torch.randn(3, 3, 12, 12, dtype=torch.float64)[[0, 2, 1]]
    pixels = torch.stack((pixels[0], pixels[2], pixels[1]))  # two of the first row, then one of the second
    labels = ids.masked_fill(ids == IMAGE, -100)
    labels[:, 1:][ids[:, :-1] == IMAGE] = -100  # what is predicted by features
    expected = theirs(input_ids=ids, pixel_values=pixels, labels=labels, use_cache=False)
    features = encoded(theirs, pixels)
    modality_ids = (ids != IMAGE).long()
    given = {"features": {"vit": features}}
    logits = ours(ids, modality_ids, **given).logits
    losses = ours.loss(ids, modality_ids, labels=labels, **given)
    text = ids != IMAGE
    torch.testing.assert_close(logits[text], expected.logits[text], rtol=1e-9, atol=1e-9)
    assert not logits[~text].any()
    torch.testing.assert_close(losses.total.double(), expected.loss.double(), rtol=1e-6, atol=1e-6)

    weights = torch.randn_like(logits).masked_fill(~text[..., None], 0.0)
    everything = {**renamed, **vision}
    theirs_of = torch.autograd.grad((expected.logits * weights).sum(), list(everything.values()), allow_unused=True)
    mine = {**{name: parameters[name] for name in renamed}, **vision}
    ours_of = torch.autograd.grad((logits * weights).sum(), list(mine.values()), allow_unused=True)
    used = 0
    for name, one, other in zip(everything, ours_of, theirs_of, strict=True):
        if one is None and other is None:  # of the encoder's last layer
            continue
        assert one is not None and other is not None, name
        used += name in vision
        scale = other.abs().max().clamp(min=1e-3)  # a bias of keys changes nothing: its gradient is rounding
        torch.testing.assert_close(one / scale, other / scale, rtol=1e-9, atol=1e-9, msg=name)
    assert used > 10


PALIGEMMA = """
model paligemma {
  width = 48, layers = 2, vocab = 61
  modality vit { features { size = 24 } }
  modality question { seen_targets = false }, answer
  attention { heads = 4, kv_heads = 1, head_dim = 8, mask { kind = prefix, prefix = [vit, question] } }
  ffn { kind = geglu_tanh, hidden = 80 }
  norm { eps = 1e-6, offset = 1 }
  embedding { tied = true, scale = sqrt_width }
}
"""


def paligemma() -> Any:
    vision = {"model_type": "siglip_vision_model", "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2}
    vision |= {"num_attention_heads": 2, "image_size": 12, "patch_size": 4, "vision_use_head": False}
    text = {"model_type": "gemma", **sizes(), "num_hidden_layers": 2, "num_key_value_heads": 1, "head_dim": 8}
    text |= {"tie_word_embeddings": True}
    config = transformers.PaliGemmaConfig(
        vision_config=vision, text_config=text, projection_dim=48, image_token_id=IMAGE, attn_implementation="eager"
    )
    return transformers.PaliGemmaForConditionalGeneration(config)


@pytest.mark.usefixtures("wide")
def test_paligemma_with_its_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image and a question see each other, the answer is causal; logits and gradients, and greedy decoding."""
    from transformers.models.gemma.modeling_gemma import GemmaRMSNorm

    def forward(self: Any, x: Tensor) -> Tensor:
        y: Tensor = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * (1.0 + self.weight)
        return y

    monkeypatch.setattr(GemmaRMSNorm, "forward", forward)
    torch.manual_seed(0)
    theirs = paligemma().double().eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.2)
    theirs.model.language_model.embed_tokens.embed_scale = torch.tensor(48**0.5, dtype=torch.float64)
    ours: Any = motc.load(PALIGEMMA, dtype=torch.float64)
    names = {"model.language_model.": "model.", "model.multi_modal_projector.linear": "features.vit.out"}
    renamed, vision = {}, {}
    for name, parameter in theirs.named_parameters():
        if "vision_tower" in name:
            vision[name] = parameter
            continue
        for old, new in names.items():
            name = name.replace(old, new)
        renamed[our_name(name)] = parameter
    parameters = dict(ours.named_parameters())
    assert {name: p.shape for name, p in renamed.items()} == {name: p.shape for name, p in parameters.items()}
    ours.load_state_dict(renamed)

    ids = torch.randint(1, IMAGE, (2, 16))
    ids[:, :9] = IMAGE
    answers = torch.zeros_like(ids)
    answers[0, 13:], answers[1, 11:] = 1, 1
    pixels = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    labels = ids.masked_fill(answers == 0, -100)
    expected = theirs(input_ids=ids, pixel_values=pixels, token_type_ids=answers, labels=labels, use_cache=False)
    features = theirs.model.vision_tower(pixels).last_hidden_state
    of = torch.where(ids == IMAGE, 0, 1 + answers)
    given = {"features": {"vit": features}, "position_ids": torch.arange(1, 17)}  # theirs count from 1
    logits = ours(ids, of, **given).logits
    text = ids != IMAGE
    torch.testing.assert_close(logits[text], expected.logits[text], rtol=1e-9, atol=1e-9)
    total = ours.loss(ids, of, labels=labels, **given).total
    torch.testing.assert_close(total.double(), expected.loss.double(), rtol=1e-6, atol=1e-6)

    weights = torch.randn_like(logits).masked_fill(~text[..., None], 0.0)
    everything, mine = {**renamed, **vision}, {**{name: parameters[name] for name in renamed}, **vision}
    theirs_of = torch.autograd.grad((expected.logits * weights).sum(), list(everything.values()))
    ours_of = torch.autograd.grad((logits * weights).sum(), list(mine.values()))
    for name, one, other in zip(everything, ours_of, theirs_of, strict=True):
        scale = other.abs().max().clamp(min=1e-3)
        torch.testing.assert_close(one / scale, other / scale, rtol=1e-9, atol=1e-9, msg=name)

    prompt, kinds = ids[1:, :11], of[1:, :11]
    said = theirs.generate(
        input_ids=prompt,
        pixel_values=pixels[1:],
        token_type_ids=torch.zeros_like(prompt),
        max_new_tokens=6,
        do_sample=False,
        attention_mask=torch.ones_like(prompt),
        eos_token_id=None,
        pad_token_id=0,
    )
    begin = {"begin": int(prompt[0, -1]), "within": "question", "length": 6}  # a line break, in their prompts
    given = {"features": {"vit": features[1:].detach()}, "position_ids": torch.arange(1, 12)}
    made = ours.generate(prompt, kinds, spans={"answer": begin}, max_new_tokens=6, temperature=0, **given)
    assert said[0, 11:].tolist() == made.input_ids[0].tolist()


def of_paligemma() -> tuple[nn.Module, str, dict[str, str]]:
    from transformers.models.paligemma.modeling_paligemma import PaliGemmaMultiModalProjector

    config = transformers.PaliGemmaConfig(
        vision_config={"model_type": "siglip_vision_model", "hidden_size": 12, "projection_dim": 16},
        text_config={"model_type": "gemma", "hidden_size": 16},
        projection_dim=16,
    )
    return PaliGemmaMultiModalProjector(config), "", {"linear": "out"}


def of_internvl() -> tuple[nn.Module, str, dict[str, str]]:
    from transformers.models.internvl.modeling_internvl import InternVLMultiModalProjector

    config = transformers.InternVLConfig(
        vision_config={"hidden_size": 3}, text_config={"model_type": "qwen2", "hidden_size": 16}, downsample_ratio=0.5
    )
    said = "kind = gelu, norm { kind = layer, eps = 1e-5 }"
    return InternVLMultiModalProjector(config), said, {"layer_norm": "norm", "linear_1": "hidden", "linear_2": "out"}


def of_smolvlm() -> tuple[nn.Module, str, dict[str, str]]:
    from transformers.models.smolvlm.modeling_smolvlm import SmolVLMSimpleMLP

    config = transformers.SmolVLMConfig(
        vision_config={"hidden_size": 3},
        text_config={"model_type": "llama", "hidden_size": 16, "num_attention_heads": 2},
        scale_factor=2,
    )
    return SmolVLMSimpleMLP(config), "bias = false", {"proj": "out"}


@pytest.mark.parametrize("projector", [of_paligemma, of_internvl, of_smolvlm])
def test_projectors(projector: Any) -> None:
    theirs, said, names = projector()
    theirs = theirs.double()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.5)
    vit = f"vit {{ features {{ size = 12, projector {{ {said} }} }} }}"
    text = f"model m {{ width = 16; layers = 1; vocab = 4; modality text, {vit}; attention {{ heads = 2 }} }}"
    model: Any = motc.load(text, dtype=torch.float64)
    ours = model.features["vit"]
    state = {}
    for name, value in theirs.state_dict().items():
        group, _, kind = name.rpartition(".")
        state[f"{names[group]}.{kind}"] = value
    ours.load_state_dict(state)
    features = torch.randn(2, 5, 12, dtype=torch.float64)
    torch.testing.assert_close(ours(features), theirs(features), rtol=1e-12, atol=1e-12)
