"""The gallery's π0 against the one of transformers: images and a state as features, actions denoised under blocks."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import motc
from motc.cli import main
from motc.cost.parameters import total_parameters
from motc.driver import compile_ir
from motc.ir.identity import semantic_hash
from motc.source import SourceFile, SpecError
from motc.weights import Bijection, bijection_of, parameters_of, read_mapping, tensors_of
from tests.originals import Uniform, described

transformers = pytest.importorskip("transformers")

LAYERS, WIDE, NARROW, STATE, ACTION, CHUNK = 2, 24, 16, 6, 5, 7
IMAGE, VOCAB = 30, 31
NAMED = {"architectures": ["PI0ForConditionalGeneration"]}
SCALE = float(torch.tensor(WIDE**0.5))  # of embeddings, which they keep in float32

GALLERY = Path(__file__).resolve().parent.parent / "specs" / "gallery"
SMALL = {
    "width": WIDE,
    "layers": LAYERS,
    "vocab": VOCAB,
    "modalities.vit.features.size": 20,
    "modalities.state.features.size": STATE,
    "modalities.action.latent.channels": ACTION,
    "attention.heads": 4,
    "attention.head_dim": 8,
    "ffn.hidden": 40,
    "embedding.scale": SCALE,
    "towers.expert.width": NARROW,
    "towers.expert.ffn.hidden": 28,
}


def pi0() -> Any:
    gemma = {"model_type": "gemma", "num_hidden_layers": LAYERS, "num_attention_heads": 4, "num_key_value_heads": 1}
    gemma |= {"head_dim": 8, "vocab_size": VOCAB, "rms_norm_eps": 1e-6, "attn_implementation": "eager"}
    vision = {"model_type": "siglip_vision_model", "hidden_size": 20, "intermediate_size": 24, "num_hidden_layers": 2}
    vision |= {"num_attention_heads": 2, "image_size": 8, "patch_size": 4, "vision_use_head": False}
    language = {
        "model_type": "paligemma",
        "text_config": {**gemma, "hidden_size": WIDE, "intermediate_size": 40},
        "vision_config": vision,
        "projection_dim": WIDE,
        "image_token_id": IMAGE,
    }
    expert = {**gemma, "hidden_size": NARROW, "intermediate_size": 28}
    return made(language, expert, chunk_size=CHUNK, max_state_dim=STATE, max_action_dim=ACTION)


def made(language: dict[str, Any], expert: dict[str, Any], **sizes: int) -> Any:
    """The original of these two configurations."""
    config = transformers.PI0Config(vlm_config=language, dit_config=expert, **sizes)
    return transformers.PI0ForConditionalGeneration(config)


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


def of_checkpoint(theirs: Any, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Values of its parameters under the names that checkpoints have."""
    from transformers.core_model_loading import revert_weight_conversion

    reverted: dict[str, Tensor] = revert_weight_conversion(theirs, values)
    return reverted


@pytest.fixture
def both(wide: None) -> tuple[Any, Any, Bijection]:
    """Theirs, ours with the same parameters, and how these correspond."""
    torch.manual_seed(0)
    theirs = pi0().double().eval()
    embedded = theirs.embed_action_time.sinusoid_embeds  # in float32, whatever the model is in
    embedded.sinusoid_freq = embedded.compute_freqs(theirs.config)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.2)
    path = GALLERY / "pi0.mot"
    ours: Any = motc.load(path, set=SMALL, dtype=torch.float64)
    tensors = of_checkpoint(theirs, {name: each.detach() for name, each in theirs.named_parameters()})
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    bijection = bijection_of(read_mapping(GALLERY / "mappings" / "pi0.yaml"), shapes, compile_ir(path, SMALL))
    ours.load_state_dict({name: each.clone() for name, each in parameters_of(bijection, tensors).items()})
    return theirs, ours, bijection


def test_parameters_at_the_published_size() -> None:
    with torch.device("meta"):
        theirs = transformers.PI0ForConditionalGeneration(transformers.PI0Config())
    tensors = of_checkpoint(theirs, dict(theirs.named_parameters()))
    model = compile_ir(GALLERY / "pi0.mot")
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    bijection_of(read_mapping(GALLERY / "mappings" / "pi0.yaml"), shapes, model)
    total = sum(each.numel() for each in theirs.parameters())
    row = next(line for line in (GALLERY / "README.md").read_text().splitlines() if line.startswith("| [pi0]"))
    assert f"| {total_parameters(model):,} | {total:,} |" in row


def test_its_folder_comes_in(both: tuple[Any, Any, Bijection], tmp_path: Path) -> None:
    """As its class saves it: the same model, and its encoder is left out."""
    theirs, ours, bijection = both
    folder, spec, weights, rest = (tmp_path / name for name in ("it", "it.mot", "it.safetensors", "rest.safetensors"))
    theirs.save_pretrained(folder, max_shard_size="60KB")
    assert main(["import", f"{folder}", "-o", f"{spec}", "--weights", f"{weights}", "--left-out", f"{rest}"]) == 0
    wanted = compile_ir(GALLERY / "pi0.mot", SMALL | {"embedding.scale": "sqrt_width"})
    assert semantic_hash(compile_ir(spec)) == semantic_hash(wanted), spec.read_text()
    parameters = load_file(weights)
    assert all(torch.equal(parameters[name], each) for name, each in ours.state_dict().items())
    given = {name: each for path in folder.glob("*.safetensors") for name, each in load_file(path).items()}
    back = tensors_of(bijection, parameters) | load_file(rest)
    assert back.keys() == given.keys() and all(torch.equal(back[name], each) for name, each in given.items())


@pytest.mark.parametrize("only_differences", [True, False])
def test_a_published_configuration_is_the_shipped_spec(only_differences: bool) -> None:
    config = json.loads(transformers.PI0Config().to_json_string(use_diff=only_differences))
    text = described(config | NAMED).spec("it", "It.", "config.json")
    assert semantic_hash(compile_ir(SourceFile("it.mot", text))) == semantic_hash(compile_ir(GALLERY / "pi0.mot")), text


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"dit_config": {"num_hidden_layers": 17}}, "`dit_config` is 'layers = 17', and motc reads 18 there, as in vlm"),
    ({"dit_config": {"hidden_size": 8, "head_dim": 64}}, "`dit_config` is 'attention.head_dim = 64', and motc reads"),
    ({"dit_config": {"use_adarms": True}}, "motc does not know what `dit_config.use_adarms` does"),
    ({"vlm_config": {"text_config": {"alibi": 1}}}, "motc does not know what `vlm_config.text_config.alibi` does"),
    ({"vlm_config": {"model_type": "gemma3"}}, "`vlm_config.model_type` is 'gemma3', and motc reads 'paligemma'"),
    ({"vlm_config": 3}, "`vlm_config` is 3, and motc reads an object"),
    ({"time_sampling_scale": 0.9}, "`time_sampling_scale` is 0.9, and motc reads 0.999, up to time 1"),
    ({"loss_reduction": "sum"}, "`loss_reduction` is 'sum'"),
    ({"depth": 1}, "motc does not know what `depth` does in PI0ForConditionalGeneration"),
]


@pytest.mark.parametrize(("keys", "message"), REFUSED)
def test_what_a_spec_cannot_say_is_refused_by_its_key(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=re.escape(message)):
        described(NAMED | keys)


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


def test_velocities_and_all_gradients(both: tuple[Any, Any, Bijection]) -> None:
    theirs, ours, bijection = both
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
    unread = {name: torch.zeros_like(p) for name, p in theirs.named_parameters() if expected[name] is None}
    by_name = {name: each for name, each in expected.items() if each is not None} | unread
    wanted = parameters_of(bijection, of_checkpoint(theirs, by_name))
    for name, parameter in ours.named_parameters():
        assert_same(parameter.grad, wanted[name], name)
    encoder = {name: p for name, p in theirs.named_parameters() if "vision_tower" in name}
    assert len(encoder) > 10
    for name, parameter in encoder.items():
        assert_same(parameter.grad, by_name[name], name)


def assert_same(mine: Tensor | None, gradient: Tensor, name: str) -> None:
    """That both are the same, relative to the largest number; or zeros, or not there."""
    if mine is None or not gradient.any():
        assert not gradient.any() and (mine is None or not mine.any()), name
        return
    scale = gradient.abs().max().clamp(min=1e-6)
    torch.testing.assert_close(mine / scale, gradient / scale, rtol=1e-9, atol=1e-9, msg=name)


def test_actions_are_sampled_as_theirs(both: tuple[Any, Any, Bijection]) -> None:
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
