"""Continuous modalities: counts, costs, what is learnt where, what is refused, one graph, and diffusers' schedules."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor
from torch._dynamo.utils import counters
from torch.utils.flop_counter import FlopCounterMode

import motc
from codegen_templates.objectives import DDPM, Flow
from motc.cost import cost, flops_per_token, latent_span_flops
from motc.diff import diff
from motc.driver import compile_ir
from motc.ir.identity import semantic_hash
from motc.source import SpecError
from motc.validate.batches import random_batches
from motc.validate.outputs import gradients_of, latents_of, random_like, run
from motc.validate.report import deviation
from tests.exact import GRADIENTS, OUTPUTS, WIDEST
from tests.fuzz.properties import agrees_with_sorted
from tests.planted import report
from tests.texts import of_one_layer
from tests.tracing import TRACED_LAYERS

PAPER = Path(__file__).resolve().parent.parent / "specs" / "paper"

LINEAR = """
model linear {
  width = 32, layers = 2, vocab = 40
  modality text
  modality image { latent { channels = 3, patch = 2, weight = 5 } }
  attention { heads = 4, mask { bidirectional = image } }
  ffn { hidden = 48 }
  untie attention, ffn, norm
}
"""
OWN = """
model own {
  width = 32, layers = 2
  modality depth { latent { channels = 1, patch = 1, objective = flow } }
  modality text { vocab = 40 }, speech { vocab = 24 }
  modality image { latent { channels = 3, patch = 2, weight = 0.5 } }
  attention { heads = 4, mask { bidirectional = image } }
  ffn { hidden = 48 }
  norm { placement = post }
  embedding { tied = true }
  untie ffn
}
"""
WIDTHS = """
model widths {
  width = 32, layers = 2, vocab = 40
  modality text, speech
  modality image { latent { channels = 3, patch = 2, objective = flow } }
  modality depth { latent { channels = 1, patch = 1 } }
  attention { heads = 4, mask { bidirectional = [image, depth] } }
  ffn { hidden = 48 }
  tower gen = image { width = 16 }
  tower und = text, depth, speech
  untie *
}
"""
UNTIED_HEADS = """
model untied_heads {
  width = 32, layers = 2, vocab = 40
  modality text
  modality image { latent { channels = 3, patch = 2 } }
  modality speech
  attention { heads = 4 }
  ffn { hidden = 48 }
  untie *
}
"""
UNET = LINEAR.replace("patch = 2,", "patch = 4, ends = unet, unet { channels = 8, blocks = 2 },")
SPECS = {"linear": LINEAR, "own": OWN, "widths": WIDTHS, "untied_heads": UNTIED_HEADS, "unet": UNET}


@pytest.fixture
def spec(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return written(SPECS[request.param], tmp_path)


def written(text: str, folder: Path) -> Path:
    path = folder / "latents.mot"
    path.write_text(text)
    return path


def batch(images: int = 3) -> tuple[Tensor, Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """Ids, modalities, latents and timesteps of `linear`: two rows, with two images and one, of 2 x 2 patches."""
    modality_ids = torch.zeros(2, 12, dtype=torch.int64)
    for row, first in ((0, 2), (0, 8), (1, 3))[:images]:
        modality_ids[row, first : first + 4] = 1
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 40, modality_ids.shape, generator=generator)
    latents = torch.randn(images, 3, 4, 4, generator=generator, dtype=torch.float64)
    return ids, modality_ids, {"image": latents}, {"image": torch.tensor([3, 999, 0])[:images]}


@pytest.mark.laws
@pytest.mark.parametrize("spec", SPECS, indirect=True)
def test_every_law_holds(spec: Path) -> None:
    verdict = report(of_one_layer(spec.read_text()))
    assert verdict.ok, verdict


@pytest.mark.parametrize("strategy, tolerance", [("blend", 1e-12), ("reference", 1e-12), ("grouped", 2e-4)])
@pytest.mark.parametrize("spec", SPECS, indirect=True)
def test_strategies_agree(spec: Path, strategy: Any, tolerance: float) -> None:
    if strategy == "grouped" and spec.read_text() == WIDTHS:
        with pytest.raises(SpecError, match="its copies differ"):
            compile_ir(spec, strategy=strategy)
        return
    agrees_with_sorted(of_one_layer(spec.read_text()), strategy, tolerance)


def test_documents_may_have_any_ids_and_images_go_by_the_order_of_the_batch(tmp_path: Path) -> None:
    model: Any = motc.load(written(LINEAR, tmp_path), dtype=torch.float64)
    ids, modality_ids, latents, times = batch()
    documents = torch.tensor([[7] * 6 + [2] * 6, [1] * 12])
    packed = model(ids, modality_ids, document_ids=documents, latents=latents, timesteps=times)
    alone = model(
        ids[:1, 6:],
        modality_ids[:1, 6:],
        latents={"image": latents["image"][1:2]},
        timesteps={"image": times["image"][1:2]},
    )
    torch.testing.assert_close(packed.predictions["image"][1:2], alone.predictions["image"])


def test_what_is_predicted_where(tmp_path: Path) -> None:
    """Text after text; no token that stands before or after a latent; and the noise, weighted."""
    model: Any = motc.load(written(LINEAR, tmp_path), dtype=torch.float64)
    ids, modality_ids, latents, times = batch()
    noise = {"image": torch.ones_like(latents["image"])}
    losses = model.loss(ids, modality_ids, latents=latents, timesteps=times, noise=noise)
    signal = DDPM.signal()[times["image"]].view(-1, 1, 1, 1)
    noised = {"image": signal.sqrt() * latents["image"] + (1 - signal).sqrt() * noise["image"]}
    output = model(ids, modality_ids, latents=noised, timesteps=times)
    scores = output.logits.log_softmax(-1)
    pairs = [(0, 0), (0, 6), (1, 0), (1, 1), (1, 7), (1, 8), (1, 9), (1, 10)]  # the first of two tokens of text
    expected = -torch.stack([scores[row, place, ids[row, place + 1]] for row, place in pairs]).mean()
    error = (output.predictions["image"] - noise["image"]).square().mean()
    torch.testing.assert_close(losses.by_modality["text"], expected)
    torch.testing.assert_close(losses.by_modality["image"], error)
    torch.testing.assert_close(losses.total, expected + 5 * error)
    assert bool((output.logits[modality_ids == 1] == 0).all())


def test_ids_of_latents_are_not_read_and_draws_come_from_the_generator(tmp_path: Path) -> None:
    model: Any = motc.load(written(LINEAR, tmp_path), dtype=torch.float64)
    ids, modality_ids, latents, _ = batch()
    totals = [
        model.loss(other, modality_ids, latents=latents, generator=torch.Generator().manual_seed(seed)).total
        for other, seed in ((ids, 1), (ids.masked_fill(modality_ids == 1, 10**6), 1), (ids, 2))
    ]
    assert totals[0] == totals[1] != totals[2]


@pytest.mark.parametrize("ends", ["linear", "unet"])
def test_no_span_and_no_loss(ends: str, tmp_path: Path) -> None:
    """Ends that a batch lacks have zero gradients, as towers do; where nothing counts the loss is 0."""
    model: Any = motc.load(written(SPECS[ends], tmp_path))
    ids = torch.zeros(2, 5, dtype=torch.int64)
    losses = model.loss(ids, ids)
    losses.total.backward()
    gradients = [parameter.grad for parameter in model.latents.parameters()]
    assert losses.by_modality["image"] == 0
    assert all(gradient is not None and not gradient.any() for gradient in gradients)
    assert model(ids, ids).predictions["image"].shape[0] == 0
    assert model.loss(ids, ids - 1).total == 0


@pytest.mark.parametrize(
    "change, message",
    [
        ({"latents": None}, "modality_ids have 3 spans of image, and there are latents for 0"),
        ({"latents": {"picture": torch.zeros(1)}}, "'picture' is no continuous modality of this model: image"),
        ({"latents": {"image": torch.zeros(2, 3, 4, 4)}}, "timesteps of image must be \\[2\\]"),
        (
            {"latents": {"image": torch.zeros(3, 4, 4, 4)}},
            "must be \\[spans, 3, height, width\\], not",
        ),
        ({"latents": {"image": torch.zeros(3, 3, 5, 4)}}, "are 5 x 4: no multiple of 2"),
        ({"latents": {"image": torch.zeros(3, 3, 4, 6)}}, "another number of tokens than the 6 patches of 4 x 6"),
        ({"latents": {"image": torch.zeros(3, 3, 4, 4).long()}}, "must be floating-point numbers"),
        ({"latents": {"image": torch.full((3, 3, 4, 4), torch.nan)}}, "144 of the numbers .* are infinite or NaN"),
        ({"timesteps": None}, "latents of image need timesteps"),
        ({"timesteps": {"image": torch.tensor([0, 1000, 5])}}, "timesteps of image must be 0..999; 1 are not"),
    ],
)
def test_what_does_not_fit_is_told(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    model: Any = motc.load(written(LINEAR, tmp_path))
    ids, modality_ids, latents, times = batch()
    with pytest.raises(ValueError, match=message):
        model(ids, modality_ids, **{"latents": latents, "timesteps": times, **change})


FLOW = LINEAR.replace("weight = 5", "objective = flow")


@pytest.mark.parametrize("name", ["forward", "loss"])
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"latents": [torch.zeros(3, 3, 4, 4)]}, TypeError, "latents must be a dict of tensors by modality, not list"),
        ({"latents": []}, TypeError, "latents must be a dict of tensors by modality, not list"),
        ({"latents": {"image": [1.0]}}, TypeError, "latents 0 of image must be a tensor, not float"),
        ({"latents": {"image": torch.zeros(3, 3, 4, 4).int()}}, ValueError, "latents of image must be floating-point"),
        ({"timesteps": [1, 2, 3]}, TypeError, "timesteps must be a dict of tensors by modality, not list"),
        ({"timesteps": {"image": [1, 2, 3]}}, TypeError, "timesteps of image must be tensors, not int"),
        (
            {"timesteps": {"image": torch.ones(3).bool()}},
            ValueError,
            "must be numbers, not torch.bool",
        ),
        (
            {"timesteps": {"image": torch.tensor([1.0, torch.nan, 2.0])}},
            ValueError,
            "timesteps of image must be 0..1000",
        ),
        ({"timesteps": {"image": torch.tensor([1.0, -0.5, 2.0])}}, ValueError, "timesteps of image must be 0"),
    ],
)
def test_latents_and_timesteps_are_refused_alike(
    name: str, change: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    model: Any = motc.load(written(FLOW, tmp_path))
    ids, modality_ids, latents, times = batch()
    with pytest.raises(error, match=message):
        getattr(model, name)(ids, modality_ids, **{"latents": latents, "timesteps": times, **change})


def test_steps_of_a_loss_are_whole_and_those_of_a_scheduler_may_lie_between(tmp_path: Path) -> None:
    model: Any = motc.load(written(LINEAR, tmp_path))
    ids, modality_ids, latents, _ = batch()
    between = {"image": torch.tensor([0.5, 1.0, 5.0])}
    with pytest.raises(ValueError, match="must be whole numbers"):
        model.loss(ids, modality_ids, latents=latents, timesteps=between)
    assert bool(model(ids, modality_ids, latents=latents, timesteps=between).predictions["image"].isfinite().all())


@pytest.mark.parametrize("given", [5, True, "x", torch.tensor(3)])
def test_what_draws_is_a_generator(given: Any, tmp_path: Path) -> None:
    model: Any = motc.load(written(LINEAR, tmp_path))
    ids, modality_ids, latents, _ = batch()
    with pytest.raises(TypeError, match=r"generator must be a torch\.Generator or None, not "):
        model.loss(ids, modality_ids, latents=latents, generator=given)


def test_whole_timesteps_may_be_of_any_size(tmp_path: Path) -> None:
    model: Any = motc.load(written(LINEAR, tmp_path))
    ids, modality_ids, latents, _ = batch()
    total = [
        model.loss(
            ids,
            modality_ids,
            latents=latents,
            timesteps={"image": torch.tensor([3, 100, 7]).to(dtype)},
            generator=torch.Generator().manual_seed(0),
        ).total
        for dtype in (torch.int64, torch.int32, torch.uint8)
    ]
    assert total[0] == total[1] == total[2]


def test_spans_of_unequal_lengths_are_told(tmp_path: Path) -> None:
    model: Any = motc.load(written(LINEAR, tmp_path))
    ids, modality_ids, latents, times = batch()
    modality_ids[0, 5], modality_ids[0, 7] = 0, 1  # spans of three and of five
    with pytest.raises(ValueError, match="another number of tokens than the 4 patches"):
        model(ids, modality_ids, latents=latents, timesteps=times)


@pytest.mark.parametrize(
    "text, code, message",
    [
        ("vocab = 9, latent { channels = 3, patch = 2 }", "MOT061", "is continuous and has a vocabulary"),
        ("latent { channels = 3, patch = 3, ends = unet }", "MOT063", "3 is no power of two"),
        ("latent { channels = 3, patch = 2, ends = linear, unet { blocks = 1 } }", "MOT063", "says nothing of linear"),
        ("latent { channels = 3, patch = 2, ends = unet, bias = true }", "MOT063", "`bias` is of linear ends"),
        ("latent { channels = 3 }", "MOT022", "patch` is missing"),
    ],
)
def test_mistakes_in_a_spec(text: str, code: str, message: str, tmp_path: Path) -> None:
    path = written(LINEAR.replace("latent { channels = 3, patch = 2, weight = 5 }", text), tmp_path)
    with pytest.raises(SpecError, match=message) as caught:
        compile_ir(path)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == code
    assert code == "MOT022" or diagnostic.related, "both places are shown"


def test_a_vocabulary_of_no_modality_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="every modality is continuous"):
        compile_ir(written(LINEAR.replace("modality text\n", ""), tmp_path))


@pytest.mark.parametrize("spec", ["linear", "unet"], indirect=True)
@pytest.mark.parametrize("dense", [False, True])
def test_flops_are_what_torch_counts(spec: Path, dense: bool) -> None:
    ir = compile_ir(spec, dense=dense)
    model: Any = motc.load(spec, dense=dense)
    ids, modality_ids, latents, times = batch()
    if ir.latent_modalities()[0].ends.patch == 4:
        latents = {"image": torch.randn(3, 3, 8, 8)}
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(ids, modality_ids, latents=latents, timesteps=times)
    tokens = {"text": 12, "image": 12}
    flops = flops_per_token(ir)
    expected = sum(count * flops[name] for name, count in tokens.items())
    # torch does not count the kernel that attention with a mask has on CPU
    assert counter.get_total_flops() == expected + 3 * latent_span_flops(ir, "image")


SIZES = {"163m": (768, 16, 2048), "760m": (1536, 24, 4096), "1_4b": (2048, 24, 5632), "7b": (4096, 32, 11008)}


def layers_of(width: int, layers: int, hidden: int) -> int:
    return layers * (4 * width**2 + 3 * width * hidden + 2 * width) + width


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("ends", ["linear", "unet"])
def test_the_paper_s_sizes(size: str, ends: str) -> None:
    width, layers, hidden = SIZES[size]
    overrides = {"modalities.image.latent.ends": ends}
    dense, mot = (compile_ir(PAPER / f"transfusion_{size}_{kind}.mot", overrides) for kind in ("dense", "mot"))
    linear = 2 * 32 * width + 32 + width + 257 * width + (width + 1) * width
    costs = cost(dense)
    added = costs.groups["latents"]
    assert added == linear if ends == "linear" else abs(added - 0.27e9) < 0.03 * 0.27e9 or size != "7b"
    assert costs.parameters == 2 * 32000 * width + layers_of(width, layers, hidden) + added
    assert cost(mot).parameters - costs.parameters == layers_of(width, layers, hidden)
    assert costs.active == cost(mot).active
    assert costs.active["image"] == layers_of(width, layers, hidden) + added
    assert costs.flops_per_token == cost(mot).flops_per_token
    network = motc.load(PAPER / f"transfusion_{size}_mot.mot", set=overrides, device="meta")
    assert sum(parameter.numel() for parameter in network.parameters()) == cost(mot).parameters


@pytest.mark.parametrize("size", SIZES)
def test_the_derived_twin_is_the_dense_spec(size: str) -> None:
    sparse, dense = (PAPER / f"transfusion_{size}_{kind}.mot" for kind in ("mot", "dense"))
    assert semantic_hash(compile_ir(sparse, dense=True)) == semantic_hash(compile_ir(dense))
    image = compile_ir(sparse).latent_modalities()[0]
    assert (image.ends.channels, image.ends.patch, image.objective, image.weight) == (8, 2, "ddpm", 5.0)


@pytest.mark.parametrize("other", SPECS)
@pytest.mark.parametrize("spec", ["linear", "widths"], indirect=True)
def test_a_diff_adds_up(spec: Path, other: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    a, b = compile_ir(spec), compile_ir(written(SPECS[other], tmp_path / "other"))
    edits = diff(a, b)
    assert sum(edit.parameters for edit in edits) == cost(b).parameters - cost(a).parameters
    assert bool(edits) == (semantic_hash(a) != semantic_hash(b))


def test_a_diff_tells_ends_objective_and_weight(tmp_path: Path) -> None:
    path = written(LINEAR, tmp_path)
    changed = {"ends": "unet", "objective": "flow", "weight": 2, "channels": 4}
    edits = diff(compile_ir(path), compile_ir(path, {f"modalities.image.latent.{k}": v for k, v in changed.items()}))
    assert [(edit.subject, edit.before, edit.after) for edit in edits] == [
        ("latent", "linear, 3 channels in patches of 2", "unet (576 channels, 3 blocks), 4 channels in patches of 2"),
        ("latent.objective", "ddpm", "flow"),
        ("latent.weight", "5", "2"),
    ]


def test_names_and_shapes_of_the_ends(tmp_path: Path) -> None:
    expected = {
        "encode.weight": (32, 12),
        "encode.bias": (32,),
        "time.hidden.weight": (32, 256),
        "time.hidden.bias": (32,),
        "time.embed.weight": (32, 32),
        "time.embed.bias": (32,),
        "decode.weight": (12, 32),
        "decode.bias": (12,),
    }
    path = written(LINEAR, tmp_path)
    network = motc.load(path, device="meta")
    shapes = {name: tuple(p.shape) for name, p in network.named_parameters() if name.startswith("latents.image.")}
    assert shapes == {f"latents.image.{name}": shape for name, shape in expected.items()}
    assert compile_ir(path).latent_modalities()[0].ends.shapes() == expected


def test_ddpm_is_diffusers_cosine_schedule() -> None:
    scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2")
    torch.testing.assert_close(DDPM.signal().float(), scheduler.alphas_cumprod, rtol=1e-4, atol=1e-7)
    clean, noise, times = torch.randn(4, 3, 4, 4), torch.randn(4, 3, 4, 4), torch.tensor([0, 250, 700, 999])
    noised, target = DDPM.noised(clean, times, noise)
    torch.testing.assert_close(noised, scheduler.add_noise(clean, noise, times), rtol=1e-5, atol=1e-5)
    assert target is noise and scheduler.config.prediction_type == "epsilon"


def test_flow_is_diffusers_convention() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000)
    clean, noise = torch.randn(3, 3, 4, 4), torch.randn(3, 3, 4, 4)
    times = scheduler.timesteps[[0, 400, 999]]
    noised, velocity = Flow.noised(clean, times, noise)
    torch.testing.assert_close(noised, scheduler.scale_noise(clean, times, noise))
    scheduler.set_timesteps(1)  # one step of the true velocity leads from noise to data
    done = scheduler.step(velocity, scheduler.timesteps[0], noise).prev_sample
    torch.testing.assert_close(done, clean, rtol=1e-5, atol=1e-5)


@pytest.fixture
def fresh() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@pytest.mark.compiled
@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("spec", ["linear"], indirect=True)
def test_one_graph_for_each_kind_of_layer_and_each_end(spec: Path) -> None:
    """Kernels of latents, and of their ends, are made by tests/test_kernels.py."""
    compiled, eager = (motc.load(spec, dtype=WIDEST) for _ in range(2))
    compiled.compile(backend=TRACED_LAYERS)  # type: ignore[no-untyped-call]
    generator = torch.Generator().manual_seed(0)
    for each in random_batches(compile_ir(spec), generator):
        outputs = [run(side, each) for side in (compiled, eager)]
        weights = random_like(outputs[1], generator)
        gradients = [
            gradients_of(output, weights, {**dict(side.named_parameters()), **latents_of(each)})
            for side, output in zip((compiled, eager), outputs, strict=True)
        ]
        assert max(deviation(*pair) for pair in zip(*outputs, strict=True)) <= OUTPUTS
        assert deviation(*gradients) <= GRADIENTS
        # One kind of layer; what embeds, what reads, what scores. In the last batch also what scores by weights, and
        # the layer where documents share a row.
        is_last = each.weights is not None
        assert compiled.layout(each.modality_ids, each.document_ids).rows.hold_documents is is_last
        assert counters["stats"]["unique_graphs"] == 4 + 2 * is_last
    assert not counters["graph_break"]
