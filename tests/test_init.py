"""`motc init`: weights of a new model made of others', and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import motc
from motc.cli import main
from tests.originals import GALLERY, SMALL
from tests.published import ORIGINALS
from tests.test_importing import saved as saved_original

DENSE = """
model dense {
  width = 32, layers = 3, vocab = 40
  modality text
  attention { heads = 4, kv_heads = 2 }
  ffn { hidden = 48 }
}
"""

MOT = """
model mot {
  width = 32, layers = 3, vocab = 40
  modality text, image
  attention { heads = 4, kv_heads = 2 }
  ffn { hidden = 48 }
  untie attention, ffn, norm
}
"""

BIASED = MOT.replace("kv_heads = 2", "kv_heads = 2, bias = true")

NARROW = """
model narrow {
  width = 32, layers = 3, vocab = 40
  modality text
  modality image { latent { channels = 3, patch = 2, objective = flow } }
  attention { heads = 4, kv_heads = 2, head_dim = 8, mask { bidirectional = image } }
  ffn { hidden = 48 }
  tower painter = image { width = 16, ffn { hidden = 24 } }
  untie *
}
"""


def saved(path: Path, spec: Any, **given: Any) -> Any:
    """A model with random weights, also where a new one has ones and zeros, and its file."""
    model = motc.load(spec, **given)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    motc.save(model, path)
    return model


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, str]:
    """The dense model, and the path of its file."""
    path = tmp_path_factory.mktemp("source") / "dense.safetensors"
    return saved(path, DENSE), str(path)


def init(tmp_path: Path, spec: str, map_: str, *options: str) -> Any:
    """The model of a spec with the weights that `motc init` makes by a map."""
    (tmp_path / "new.mot").write_text(spec)
    (tmp_path / "new.map").write_text(map_)
    out = tmp_path / "new.safetensors"
    words = [str(tmp_path / "new.mot"), "--map", str(tmp_path / "new.map"), "-o", str(out), *options]
    assert main(["init", *words]) == 0
    return motc.load(tmp_path / "new.mot", weights=out)


def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], spec: str, map_: str, *options: str) -> str:
    """What `motc init` says of a map that is wrong. Nothing is written."""
    (tmp_path / "new.mot").write_text(spec)
    (tmp_path / "new.map").write_text(map_)
    before = sorted(tmp_path.iterdir())
    words = [str(tmp_path / "new.mot"), "--map", str(tmp_path / "new.map"), "-o", str(tmp_path / "new.safetensors")]
    assert main(["init", *words, *options]) == 1
    assert sorted(tmp_path.iterdir()) == before
    return capsys.readouterr().err


@pytest.mark.parametrize("name", ["smollm2_135m", "qwen2_5_0_5b", "gemma_2_2b", "pythia_1_4b", "mixtral_8x7b"])
@torch.no_grad()
def test_a_copy_of_each_tower_is_the_dense_model(tmp_path: Path, name: str) -> None:
    """On text to the last bit, on images and both mixed to rounding."""
    original = next(each for each in ORIGINALS if each.spec == name)
    small = {**SMALL, **original.small}
    dense = saved(tmp_path / "dense.safetensors", GALLERY / f"{name}.mot", set=small, dtype="float64")
    settings = "\n".join(f"--set {key}={value}" for key, value in small.items() if value is not None).split()
    (tmp_path / "new.mot").write_text(f'model new {{ extends "{GALLERY / name}.mot"\n modality image\n untie * }}')
    (tmp_path / "new.map").write_text("copy *\n")
    words = ["--from", str(tmp_path / "dense.safetensors"), "--map", str(tmp_path / "new.map")]
    assert main(["init", str(tmp_path / "new.mot"), *words, "-o", str(tmp_path / "new.safetensors"), *settings]) == 0
    mot = motc.load(tmp_path / "new.mot", set=small, weights=tmp_path / "new.safetensors", dtype="float64")

    ids = torch.randint(0, 61, (3, 12))
    expected = dense(ids, torch.zeros_like(ids)).logits
    for modality_ids in (torch.zeros_like(ids), torch.ones_like(ids), torch.randint(0, 2, (3, 12))):
        torch.testing.assert_close(mot(ids, modality_ids).logits, expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(mot(ids, torch.zeros_like(ids)).logits, expected)


@torch.no_grad()
def test_text_is_the_dense_model_beside_a_narrow_tower(dense: tuple[Any, str], tmp_path: Path) -> None:
    """Its tower begins as the first numbers of text's; what is zero adds nothing."""
    model, path = dense
    map_ = "copy text.*, embedding, head\nslice painter.*\nfresh latents\nzero painter.ffn.down in layers 0..1\n"
    mot = init(tmp_path, NARROW, map_, "--from", path)
    state, theirs = mot.state_dict(), model.state_dict()
    assert torch.equal(state["layers.2.ffn.down.painter.weight"], theirs["layers.2.ffn.down.weight"][:16, :24])
    assert torch.equal(state["layers.1.attention.norm.painter.weight"], theirs["layers.1.attention.norm.weight"][:16])
    assert not state["layers.1.ffn.down.painter.weight"].any()
    ids = torch.randint(0, 40, (2, 9))
    words = torch.zeros_like(ids)
    assert torch.equal(mot(ids, words).logits, model(ids, words).logits)


def test_what_is_fresh_is_as_a_new_model_has_it(dense: tuple[Any, str], tmp_path: Path) -> None:
    map_ = "fresh *\nunused *\n"
    mot = init(tmp_path, NARROW, map_, "--from", dense[1], "--seed", "3")
    for (name, given), expected in zip(mot.state_dict().items(), motc.load(NARROW, seed=3).parameters(), strict=True):
        assert torch.equal(given, expected), name


def test_noise_is_of_the_tensors_own_deviation(dense: tuple[Any, str], tmp_path: Path) -> None:
    model, path = dense
    mot = init(tmp_path, MOT, "copy *\nnoise 0.5 image.ffn\n", "--from", path)
    theirs = model.layers[1].ffn.up.weight
    added = mot.layers[1].ffn.up["image"].weight - theirs
    assert 0.4 < added.std() / theirs.std() < 0.6
    assert torch.equal(mot.layers[1].ffn.up["text"].weight, theirs)
    again = init(tmp_path, MOT, "copy *\nnoise 0.5 image.ffn\n", "--from", path)
    assert torch.equal(again.layers[1].ffn.up["image"].weight, mot.layers[1].ffn.up["image"].weight)


@torch.no_grad()
def test_a_deeper_model_begins_as_layers_of_another(dense: tuple[Any, str], tmp_path: Path) -> None:
    """Each layer as one that is said, in any order: here the last two once more, and then the first for all others."""
    model, path = dense
    deeper = DENSE.replace("layers = 3", "layers = 7")
    map_ = "copy *\ncopy * in layers 3..4 from layers 1..2\ncopy * in layers 5..6 from dense layer 0\n"
    new = init(
        tmp_path,
        deeper,
        map_.replace("copy *\n", "copy embedding, head, final_norm\ncopy * in layers 0..2\n", 1),
        "--from",
        path,
    )
    for layer, source in enumerate((0, 1, 2, 1, 2, 0, 0)):
        for name, tensor in model.layers[source].state_dict().items():
            assert torch.equal(new.layers[layer].state_dict()[name], tensor)
    half = init(
        tmp_path,
        DENSE.replace("layers = 3", "layers = 2"),
        "copy *\ncopy * in layers 0..1 from layers 0..2 step 2\nunused * in layer 1",
        "--from", path,
    )  # fmt: skip
    assert torch.equal(half.layers[1].ffn.up.weight, model.layers[2].ffn.up.weight)


@pytest.mark.parametrize("noise", ["", "0.5 "])
@torch.no_grad()
def test_experts_that_are_copies_of_a_feed_forward(dense: tuple[Any, str], tmp_path: Path, noise: str) -> None:
    """Whatever the router chooses, their weights' sum is 1: without noise the model computes what it did."""
    model, path = dense
    experts = DENSE.replace("ffn {", "ffn { kind = moe, experts = 4, top_k = 2,")
    new = init(
        tmp_path, experts, f"copy *\nrepeat {noise}ffn.gate, ffn.up, ffn.down\nfresh ffn.router\n", "--from", path
    )
    ids = torch.randint(0, 40, (2, 9))
    got, expected = (each.double()(ids, torch.zeros_like(ids)).logits for each in (new, motc.load(weights=path)))
    up = new.layers[0].ffn.up.weight
    if noise:
        assert 0.4 < (up - model.layers[0].ffn.up.weight).std() / model.layers[0].ffn.up.weight.std() < 0.6
        assert not torch.equal(up[0], up[1])
    else:
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def test_towers_of_several_sources(tmp_path: Path) -> None:
    one = saved(tmp_path / "one.safetensors", DENSE)
    other = saved(tmp_path / "other.safetensors", MOT, seed=1)
    map_ = """
    copy *                                       from one
    copy image.ffn in layers 1..2                from other.text
    copy image.attention                         from other
    unused text.attention, norm, embedding, head from other
    unused image.ffn                             from other
    unused text.ffn in layer 0                   from other
    """
    sources = [f"--from=one={tmp_path / 'one.safetensors'}", f"--from=other={tmp_path / 'other.safetensors'}"]
    mot = init(tmp_path, MOT, map_, *sources)
    state, first, second = mot.state_dict(), one.state_dict(), other.state_dict()
    assert torch.equal(state["layers.0.ffn.up.image.weight"], first["layers.0.ffn.up.weight"])
    assert torch.equal(state["layers.2.ffn.up.image.weight"], second["layers.2.ffn.up.text.weight"])
    assert torch.equal(state["layers.2.attention.q.image.weight"], second["layers.2.attention.q.image.weight"])
    assert torch.equal(state["head.weight"], first["head.weight"])


def test_a_dry_run_tells_every_tensor_and_writes_nothing(
    dense: tuple[Any, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "new.mot").write_text(NARROW)
    (tmp_path / "new.map").write_text("copy text.*, embedding\nslice painter.*\nfresh latents, head\nunused head")
    words = [str(tmp_path / "new.mot"), "--from", dense[1], "--map"]
    assert main(["init", *words, str(tmp_path / "new.map"), "--dry-run"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "copied layers.0.ffn.up.text.weight [48, 32] dense: layers.0.ffn.up.weight" in lines
    assert "sliced layers.0.ffn.up.painter.weight [24, 16] dense: layers.0.ffn.up.weight" in lines
    assert "fresh head.weight [40, 32]" in lines
    assert "unused dense: head.weight" in lines
    told = [line.split()[1] for line in lines if line.split()[0] in ("copied", "sliced", "fresh")]
    assert sorted(told) == sorted(motc.load(NARROW, device="meta").state_dict())
    assert main(["init", *words, str(tmp_path / "new.map"), "--dry-run", "--json"]) == 0
    assert not (tmp_path / "new.safetensors").exists()


@pytest.mark.parametrize(
    "map_, told",
    [
        ("copi *", "new.map:1:1: MOT110 `copi` is nothing that parameters can be"),
        ("copy *\ncopy", "new.map:2:1: MOT110 this is no statement"),
        ("copy * in layers 3..", "new.map:1:1: MOT110 this is no statement"),
        ("noise image.ffn", "MOT110 `noise` needs a number"),
        ("noise 1.2.3 image.ffn", "new.map:1:1: MOT110 this is no statement"),
        ("copy 0.1 image.ffn", "MOT110 `copy` has no number"),
        ("fresh image.ffn from dense", "new.map:1:22: MOT110 `fresh` takes nothing from dense"),
        ("# nothing\n", "MOT110 "),
        ("copy * in layers 0..2 from", "new.map:1:1: MOT110 this is no statement"),
        ("copy * from layers 0..2", "new.map:1:20: MOT110 this does not say for which layers"),
        ("copy * in layers 0..2 from layers 0..1", "new.map:1:35: MOT110 3 layers would be made of 2"),
        ("copy * in layers 0..2 from dense layers 2..0", "new.map:1:41: MOT110 the range 2..0 is reversed"),
        ("copy * in layers 2..0 from layers 0..2", "new.map:1:18: MOT110 the range 2..0 is reversed"),
        ("zero ffn in layer 0 from layer 1", "new.map:1:32: MOT110 `zero` takes nothing from other layers"),
        ("unused ffn from dense layers 0..2", "MOT110 layers stand behind the group here"),
        ("copy *\ncopy ffn in layer 0 from layer 7", "new.map:2:1: MOT112 dense has no ffn.gate in layer 7"),
        ("copy *\nrepeat ffn.up", "repeat is for experts, of each a copy"),
        (f"copy *\nnoise 1e999 ffn in layer {'9' * 5000}", "new.map:2:1: MOT110 so much noise is no number"),
        (f"copy ffn in layer {'9' * 5000}", "MOT111 "),
        (f"copy ffn in layer {'9' * 5000} from layer 1", "MOT11"),
        ("copy *\ncopy imag.*", "new.map:2:6: MOT111 `imag.*` names no group and no tower; did you mean `image.*`?"),
        ("copy ffn.gat", "did you mean `ffn.gate`?"),
        ("copy * from dens", "new.map:1:13: MOT111 there is no source `dens`"),
        ("copy * in layers 1..3", "the model has layers 0..2"),
        ("copy image.head", "MOT111 "),
        ("copy attention, ffn", "MOT112 no statement means embedding.weight, final_norm.text.weight"),
        ("copy *\nfresh head", "MOT112 nothing takes head.weight of dense"),
        ("copy *\nunused head", "MOT112 head.weight of dense is said to be unused, and is taken"),
        ("copy * from dense.image", "MOT112 dense has no tower `image`"),
    ],
)
def test_a_wrong_map_is_refused_where_it_is_wrong(
    dense: tuple[Any, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], map_: str, told: str
) -> None:
    assert told in refused(tmp_path, capsys, MOT, map_, "--from", dense[1])


@pytest.mark.parametrize(
    "spec, map_, told",
    [
        (NARROW, "copy *", "MOT112 of another shape in dense: final_norm.painter.weight [16], [32] there"),
        (NARROW, "copy *", "MOT112 dense has no latents: latents.image.encode.weight"),
        (MOT.replace("48", "64"), "slice *", "make it fresh"),
        (
            DENSE.replace("ffn {", "ffn { kind = moe, experts = 4, top_k = 2,"),
            "copy *",
            "repeat ffn.gate makes a copy for",
        ),
        (MOT.replace("layers = 3", "layers = 4"), "copy *", "MOT112 dense has no attention.norm in layer 3"),
        (
            MOT.replace("kv_heads = 2", "kv_heads = 2, bias = true"),
            "copy *",
            "MOT112 dense has not: layers.0.attention.q.bias",
        ),
    ],
)
def test_what_a_source_lacks_is_said(
    dense: tuple[Any, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], spec: str, map_: str, told: str
) -> None:
    assert told in refused(tmp_path, capsys, spec, map_, "--from", dense[1])


def test_other_settings_are_warned_of(
    dense: tuple[Any, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = MOT.replace("kv_heads = 2", "kv_heads = 2, rope { theta = 500 }")
    init(tmp_path, other, "copy *", "--from", dense[1])
    told = capsys.readouterr().err
    assert "MOT113 warning: image has attention.rope.theta = 500" in told and "dense" in told
    init(tmp_path, MOT, "copy *", "--from", dense[1])
    assert not capsys.readouterr().err


def test_a_tied_embedding_is_the_head_too(tmp_path: Path) -> None:
    tied = DENSE.replace("ffn {", "embedding { tied = true }\n ffn {")
    dense = saved(tmp_path / "dense.safetensors", tied)
    mot = init(tmp_path, MOT, "copy *", "--from", str(tmp_path / "dense.safetensors"))
    assert torch.equal(mot.head.weight, dense.embedding.weight)


def test_weights_of_others_are_no_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    assert "MOT102" in refused(tmp_path, capsys, MOT, "copy *", "--from", str(tmp_path / "other.safetensors"))


@pytest.mark.parametrize("name", ["phi3_mini", "qwen3_30b_a3b"])
def test_a_folder_of_hugging_face_is_a_source(tmp_path: Path, name: str) -> None:
    """As what `motc import` makes of it; a tensor there may hold several parameters, or be part of one."""
    folder, dense = tmp_path / "it", tmp_path / "dense"
    saved_original(next(each for each in ORIGINALS if each.spec == name), folder)
    assert main(["import", str(folder), "-o", f"{dense}.mot", "--weights", f"{dense}.safetensors"]) == 0
    spec = Path(f"{dense}.mot").read_text().replace("modality text", "modality text, image")
    spec = spec[: spec.rindex("}")] + "untie *\n}\n"
    mot = init(tmp_path, spec, "copy * from it", "--from", str(folder)).state_dict()
    for parameter, tensor in motc.load(weights=f"{dense}.safetensors").state_dict().items():
        module, _, ending = parameter.rpartition(".")
        for tower in ("text", "image"):
            assert torch.equal(mot[f"{module}.{tower}.{ending}"], tensor)
