"""`motc import` of classes of diffusers: published configurations are the shipped specs, and what a spec cannot say is
refused by its key. That folders come in is in the tests of each class.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from motc.cli import main
from motc.driver import compile_ir
from motc.importing.architectures import DENOISERS
from motc.ir.identity import semantic_hash
from motc.source import SpecError
from tests.originals import GALLERY, described

diffusers = pytest.importorskip("diffusers")

PUBLISHED: dict[str, tuple[str, dict[str, Any]]] = {
    "sd3_medium": (
        "SD3Transformer2DModel",
        {"num_layers": 24, "num_attention_heads": 24, "caption_projection_dim": 1536, "pos_embed_max_size": 192},
    ),
    "sd3_5_large": (
        "SD3Transformer2DModel",
        {"num_layers": 38, "num_attention_heads": 38, "caption_projection_dim": 2432, "pos_embed_max_size": 192}
        | {"qk_norm": "rms_norm"},
    ),
    "flux_1_dev": ("FluxTransformer2DModel", {"guidance_embeds": True}),
    "flux_1_schnell": ("FluxTransformer2DModel", {}),
    "flux_2_dev": ("Flux2Transformer2DModel", {}),
    "flux_2_klein_4b": (
        "Flux2Transformer2DModel",
        {"num_layers": 5, "num_single_layers": 20, "num_attention_heads": 24, "joint_attention_dim": 7680}
        | {"guidance_embeds": False},
    ),
    "qwen_image": ("QwenImageTransformer2DModel", {}),
    "auraflow": ("AuraFlowTransformer2DModel", {}),
    "cogview3_plus_3b": ("CogView3PlusTransformer2DModel", {}),
    "cogview4_6b": (
        "CogView4Transformer2DModel",
        {"num_layers": 28, "num_attention_heads": 32, "attention_head_dim": 128},
    ),
    "dit_xl_2": ("DiTTransformer2DModel", {"out_channels": 8, "norm_eps": 1e-6}),
    "pixart_sigma": ("PixArtTransformer2DModel", {"caption_channels": 4096, "use_additional_conditions": False}),
    "lumina_2": ("Lumina2Transformer2DModel", {"cap_feat_dim": 2304}),
    "z_image": ("ZImageTransformer2DModel", {}),
    "wan_2_1_14b": ("WanTransformer3DModel", {}),
}
"""Of each spec the class, and what it is given where its own value is another."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_configuration_is_the_shipped_spec(name: str) -> None:
    """As the class writes it, and where it says no more than differs from the class."""
    kind, keys = PUBLISHED[name]
    with torch.device("meta"):
        whole = json.loads(getattr(diffusers, kind)(**keys).to_json_string())
    wanted = semantic_hash(compile_ir(GALLERY / f"{name}.mot"))
    for form in (whole, {"_class_name": kind, **keys}):
        source = described(form).source("config.json")
        assert semantic_hash(compile_ir(source)) == wanted, source.text


def test_classes_under_their_former_name() -> None:
    keys = {"_class_name": "Transformer2DModel", "norm_type": "ada_norm_zero", "norm_eps": 1e-6, "out_channels": 8}
    old = {"only_cross_attention": False, "num_vector_embeds": None, "cross_attention_dim": None}
    assert described(keys | old).settings == described({**keys, "_class_name": "DiTTransformer2DModel"}).settings
    pixart = {"_class_name": "Transformer2DModel", "norm_type": "ada_norm_single", "caption_channels": 4096}
    assert described({**pixart, "sample_size": 64}).settings["layers"] == 84


SD3, FLUX, FLUX_2, QWEN, AURA, COGVIEW, COGVIEW_4, DIT, PIXART, LUMINA, Z, WAN = (
    f"{kind}Transformer{size}DModel"
    for kind, size in (
        ("SD3", 2), ("Flux", 2), ("Flux2", 2), ("QwenImage", 2), ("AuraFlow", 2), ("CogView3Plus", 2), ("CogView4", 2),
        ("DiT", 2), ("PixArt", 2), ("Lumina2", 2), ("ZImage", 2), ("Wan", 3),
    )
)  # fmt: skip

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    (SD3, {"dual_attention_layers": [0, 1]}, "`dual_attention_layers` is [0, 1], and motc reads []"),
    (SD3, {"caption_projection_dim": 3}, "`caption_projection_dim` is 3, and motc reads 1152, as its other keys are"),
    (SD3, {"out_channels": 32}, "`out_channels` is 32, and motc reads 16"),
    (SD3, {"qk_norm": "layer_norm"}, "`qk_norm` is 'layer_norm', and motc reads rms_norm"),
    (SD3, {"num_attention_heads": 0}, "`num_attention_heads` is 0, and motc reads a whole number above 0"),
    (SD3, {"patch_size": 0}, "`patch_size` is 0, and motc reads 1 to"),
    (SD3, {"num_layers": 10**9}, "`num_layers` is 1000000000, and motc reads 1 to 4096"),
    (SD3, {"num_layers": 4096.0}, "`num_layers` is 4096.0"),
    (SD3, {"use_rope": True}, "motc does not know what `use_rope` does in SD3Transformer2DModel"),
    (SD3, {"pos_embed_max_size": None}, "`pos_embed_max_size` is None"),
    (FLUX, {"in_channels": 384, "out_channels": 64}, "`out_channels` is 64, and motc reads 384"),
    (FLUX, {"in_channels": 63}, "`in_channels` is 63, and motc reads a multiple of 4"),
    (FLUX, {"patch_size": 2}, "`patch_size` is 2, and motc reads 1"),
    (FLUX, {"axes_dims_rope": [16, 112]}, "`axes_dims_rope` is [16, 112], and motc reads 3 whole numbers"),
    (FLUX, {"guidance_embeds": 1}, "`guidance_embeds` is 1, and motc reads true or false"),
    (FLUX, {"num_single_layers": 4096}, "`num_single_layers` is 4096, and motc reads 4096 layers at most in all"),
    (FLUX_2, {"mlp_ratio": "3"}, "`mlp_ratio` is '3', and motc reads a number above 0"),
    (QWEN, {"zero_cond_t": True}, "`zero_cond_t` is True, and motc reads False"),
    (QWEN, {"guidance_embeds": True}, "`guidance_embeds` is True"),
    (QWEN, {"use_layer3d_rope": True}, "`use_layer3d_rope` is True"),
    (AURA, {"pos_embed_max_size": 1000}, "`pos_embed_max_size` is 1000, and motc reads a square number"),
    (COGVIEW, {"out_channels": None}, "`out_channels` is None, and motc reads 16"),
    (COGVIEW_4, {"rope_axes_dim": [3]}, "`rope_axes_dim` is [3], and motc reads two whole numbers"),
    (DIT, {"attention_bias": False}, "`attention_bias` is False, and motc reads True"),
    (DIT, {"norm_type": "layer_norm"}, "`norm_type` is 'layer_norm', and motc reads 'ada_norm_zero'"),
    (DIT, {"activation_fn": "geglu"}, "`activation_fn` is 'geglu', and motc reads gelu-approximate or gelu"),
    (DIT, {"out_channels": 5}, "`out_channels` is 5, and motc reads 4 or 8"),
    (PIXART, {}, "`use_additional_conditions` is None, and motc reads false"),
    (PIXART, {"use_additional_conditions": True}, "`use_additional_conditions` is True"),
    (PIXART, {"interpolation_scale": 0.3}, "`interpolation_scale` is 0.3, and motc reads a divisor of 64"),
    (PIXART, {"caption_channels": None}, "`caption_channels` is None"),
    (LUMINA, {"num_refiner_layers": 3}, "`num_refiner_layers` is 3, and motc reads 2"),
    (LUMINA, {"ffn_dim_multiplier": -1.0}, "`ffn_dim_multiplier` is -1.0"),
    (Z, {"siglip_feat_dim": 1152}, "`siglip_feat_dim` is 1152, and motc reads None"),
    (Z, {"all_patch_size": [2, 4]}, "`all_patch_size` is [2, 4], and motc reads [2]"),
    (Z, {"n_kv_heads": 10}, "`n_kv_heads` is 10, and motc reads 30"),
    (WAN, {"in_channels": 36}, "`out_channels` is 16, and motc reads 36"),
    (WAN, {"image_dim": 1280}, "`image_dim` is 1280, and motc reads None"),
    (WAN, {"cross_attn_norm": False}, "`cross_attn_norm` is False, and motc reads True"),
    (WAN, {"patch_size": [2, 2]}, "`patch_size` is [2, 2], and motc reads three whole numbers"),
    (WAN, {"num_layers": 2000}, "`num_layers` is 2000, and motc reads at most 1365"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "keys", "message"), REFUSED)
def test_what_a_spec_cannot_say_is_refused_by_its_key(kind: str, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=re.escape(message)):
        described({"_class_name": kind, **keys})


def test_a_pipeline_and_a_check_of_logits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model_index.json").write_text("{}")
    assert main(["import", str(tmp_path), "-o", str(tmp_path / "it.mot")]) == 1
    told = capsys.readouterr().err
    assert "is a pipeline of diffusers, of several models" in told and "transformer/" in told
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": SD3}))
    command = ["import", str(tmp_path), "-o", str(tmp_path / "it.mot"), "--weights", str(tmp_path / "it.safetensors")]
    assert main([*command, "--check", "3"]) == 1
    assert f"--check compares logits, and {SD3} has none" in capsys.readouterr().err
    assert {each.name for each in tmp_path.iterdir()} == {"model_index.json", "config.json"}


def test_the_page_names_every_class() -> None:
    page = (Path(__file__).resolve().parent.parent / "docs" / "weights.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`(\w+Transformer\dDModel)`", page)) == {each.name for each in DENOISERS}
