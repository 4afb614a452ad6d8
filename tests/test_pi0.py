"""A robot's model against pi0 in transformers: images and a state as features, actions denoised under blocks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import motc

transformers = pytest.importorskip("transformers")

LAYERS, WIDE, NARROW, STATE, ACTION, CHUNK = 2, 24, 16, 6, 5, 7
IMAGE, VOCAB = 30, 31
SCALE = float(torch.tensor(WIDE**0.5))  # of embeddings, which they keep in float32

PI0 = f"""
model pi0 {{
  width = {WIDE}, layers = {LAYERS}, vocab = {VOCAB}
  modality vit    {{ features {{ size = 20 }} }}
  modality text
  modality state  {{ features {{ size = {STATE} }} }}
  modality action {{ latent {{ channels = {ACTION}, patch = [1], objective = flow, time = concat }} }}

  attention {{ heads = 4, kv_heads = 1, head_dim = 8, mask {{ kind = blocks, blocks = [[vit, text], state, action] }} }}
  ffn {{ kind = geglu_tanh, hidden = 40 }}
  norm {{ eps = 1e-6, offset = 1 }}
  embedding {{ tied = true, scale = {SCALE!r} }}

  tower language = vit, text
  tower expert   = state, action {{ width = {NARROW}, ffn {{ hidden = 28 }} }}
  untie *
}}
"""
NAMES = {
    "model.vlm.multi_modal_projector.linear": "features.vit.out",
    "embed_action_time.state_proj": "features.state.out",
    "embed_action_time.action_in_proj": "latents.action.encode",
    "embed_action_time.action_time_mlp_in": "latents.action.time.hidden",
    "embed_action_time.action_time_mlp_out": "latents.action.time.embed",
    "action_out_proj": "latents.action.decode",
    "model.vlm.language_model.embed_tokens": "embedding",
    "model.vlm.language_model.norm": "final_norm.text",
    "model.dit.norm": "final_norm.action",
}
IN_LAYERS = {
    "self_attn.q_proj": "attention.q",
    "self_attn.k_proj": "attention.k",
    "self_attn.v_proj": "attention.v",
    "self_attn.o_proj": "attention.out",
    "input_layernorm": "attention.norm",
    "post_attention_layernorm": "ffn.norm",
    "mlp.gate_proj": "ffn.gate",
    "mlp.up_proj": "ffn.up",
    "mlp.down_proj": "ffn.down",
}


def pi0() -> Any:
    gemma = {"model_type": "gemma", "num_hidden_layers": LAYERS, "num_attention_heads": 4, "num_key_value_heads": 1}
    gemma |= {"head_dim": 8, "vocab_size": VOCAB, "rms_norm_eps": 1e-6, "attn_implementation": "eager"}
    vision = {"model_type": "siglip_vision_model", "hidden_size": 20, "intermediate_size": 24, "num_hidden_layers": 2}
    vision |= {"num_attention_heads": 2, "image_size": 8, "patch_size": 4, "vision_use_head": False}
    config = transformers.PI0Config(
        vlm_config={
            "model_type": "paligemma",
            "text_config": {**gemma, "hidden_size": WIDE, "intermediate_size": 40},
            "vision_config": vision,
            "projection_dim": WIDE,
            "image_token_id": IMAGE,
        },
        dit_config={**gemma, "hidden_size": NARROW, "intermediate_size": 28},
        chunk_size=CHUNK,
        max_state_dim=STATE,
        max_action_dim=ACTION,
    )
    return transformers.PI0ForConditionalGeneration(config)


def name_of(theirs: str) -> str | None:
    """What a parameter is called here; None for those of the encoder, and an embedding that nothing reads."""
    stem, _, kind = theirs.rpartition(".")
    if stem in NAMES:
        return f"{NAMES[stem]}.{kind}"
    for tower, of in (("language", "model.vlm.language_model.layers."), ("expert", "model.dit.layers.")):
        if stem.startswith(of):
            layer, _, group = stem.removeprefix(of).partition(".")
            return f"layers.{layer}.{IN_LAYERS[group]}.{tower}.{kind}"
    return None


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Norms and attention in the dtype of their input, without the detour through float32."""
    from transformers.models.gemma.modeling_gemma import GemmaRMSNorm

    def forward(self: Any, x: Tensor) -> Tensor:
        y: Tensor = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * (1.0 + self.weight)
        return y

    monkeypatch.setattr(GemmaRMSNorm, "forward", forward)
    real = torch.nn.functional.softmax
    monkeypatch.setattr(torch.nn.functional, "softmax", lambda x, dim=None, dtype=None, **kw: real(x, dim=dim, **kw))


@pytest.fixture
def both(wide: None) -> tuple[Any, Any, dict[str, str]]:
    """Theirs, ours with the same parameters, and the name of each here."""
    torch.manual_seed(0)
    theirs = pi0().double().eval()
    embedded = theirs.embed_action_time.sinusoid_embeds  # in float32, whatever the model is in
    embedded.sinusoid_freq = embedded.compute_freqs(theirs.config)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.2)
    ours: Any = motc.load(PI0, dtype=torch.float64)
    names = {name: here for name, _ in theirs.named_parameters() if (here := name_of(name))}
    parameters = dict(theirs.named_parameters())
    state = {here: parameters[name].detach().clone() for name, here in names.items()}
    assert {name: p.shape for name, p in state.items()} == {name: p.shape for name, p in ours.named_parameters()}
    ours.load_state_dict(state)
    return theirs, ours, names


def batch() -> dict[str, Tensor]:
    """Two rows, of an image each and some text; the second with padding."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(1, IMAGE, (2, 9), generator=generator)  # 0 is their padding, whose embedding has no gradient
    ids[:, :4] = IMAGE
    numbers = {
        "pixel_values": (2, 1, 3, 8, 8),
        "state": (2, STATE),
        "noise": (2, CHUNK, ACTION),
        "actions": (2, CHUNK, ACTION),
    }
    drawn = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in numbers.items()}
    real = torch.ones_like(ids)
    real[1, 7:] = 0
    return {"input_ids": ids, "attention_mask": real, "pixel_attention_mask": torch.ones(2, 1).bool(), **drawn}


def here(theirs: Any, given: dict[str, Tensor]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Ids, modalities and features of the same prompts; padding stands within a row, before the state."""
    ids, real = given["input_ids"], given["attention_mask"].bool()
    modality_ids = torch.where(ids == IMAGE, 0, 1).masked_fill(~real, -1)
    modality_ids = torch.cat((modality_ids, torch.full((2, 1), 2)), dim=1)
    vit = theirs.model.vlm.model.vision_tower if hasattr(theirs.model.vlm, "model") else theirs.model.vlm.vision_tower
    images = vit(given["pixel_values"].flatten(0, 1)).last_hidden_state
    return nn.functional.pad(ids, (0, 1)), modality_ids, {"vit": images, "state": given["state"]}


def test_velocities_and_all_gradients(both: tuple[Any, Any, dict[str, str]]) -> None:
    theirs, ours, names = both
    given, times = batch(), torch.tensor([0.375, 0.875])
    output = theirs(**given, timestep=times)
    ids, modality_ids, features = here(theirs, given)
    whole = torch.cat((modality_ids, torch.full((2, CHUNK), 3)), dim=1)
    clean, noise = ({"action": given[name].transpose(1, 2)} for name in ("actions", "noise"))
    how = {"features": features, "latents": clean, "noise": noise, "timesteps": {"action": 1000 * times}}
    positions = (whole >= 0).cumsum(1) - 1
    losses = ours.loss(nn.functional.pad(ids, (0, CHUNK)), whole, position_ids=positions, **how)
    torch.testing.assert_close(losses.by_modality["action"], output.loss, rtol=1e-9, atol=1e-9)

    output.loss.backward()
    expected = {name: p.grad for name, p in theirs.named_parameters()}
    theirs.zero_grad()
    losses.by_modality["action"].backward()
    parameters = dict(ours.named_parameters())
    encoder = 0
    for name, parameter in theirs.named_parameters():
        mine = parameters[names[name]].grad if name in names else parameter.grad
        gradient = expected[name]
        if gradient is None:
            assert mine is None or not mine.any(), name
            continue
        assert mine is not None, name
        encoder += "vision_tower" in name
        scale = gradient.abs().max().clamp(min=1e-6)
        torch.testing.assert_close(mine / scale, gradient / scale, rtol=1e-9, atol=1e-9, msg=name)
    assert encoder > 10


class Uniform:
    """Euler's steps as pi0 takes them: as long as each other, from all noise to none."""

    def set_timesteps(self, count: int, device: torch.device) -> None:
        self.count = count
        self.timesteps = 1000 * torch.tensor([1.0 - step / count for step in range(count)], device=device)

    def step(self, velocity: Tensor, _: Tensor, x: Tensor) -> Any:
        return type("Step", (), {"prev_sample": x - velocity / self.count})


def test_actions_are_sampled_as_theirs(both: tuple[Any, Any, dict[str, str]]) -> None:
    """Ten steps of denoising against the cache of what is seen; from the same noise."""
    theirs, ours, _ = both
    given = batch()
    del given["actions"]
    noise = torch.randn(2, ACTION, CHUNK, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    with torch.no_grad():
        expected = theirs.sample_actions(**{**given, "noise": noise.transpose(1, 2)}, num_steps=10)
        ids, modality_ids, features = here(theirs, given)
        made = ours.generate(
            ids, modality_ids, features=features, sizes={"action": CHUNK}, schedulers={"action": Uniform()}, seed=3
        )
    torch.testing.assert_close(made.latents["action"].transpose(1, 2), expected, rtol=1e-8, atol=1e-8)
