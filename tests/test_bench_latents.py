"""Continuous modalities in the benchmark: whole spans, a latent for each, and steps that all sides take alike."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from motc.bench import ModalityMix, Settings, Subject, bench, mixtures
from motc.bench.portable.batches import DrawnBatch, make_batch, rehearsals, runs
from motc.bench.portable.sides import Side
from motc.bench.subject import data_modalities
from motc.cli import main
from motc.cli.bench_tables import print_report
from motc.driver import check_spec, compile_ir
from motc.ir.model import Model
from motc.source import SourceFile
from motc.validate.latent_spans import span_places
from motc.validate.random_parameters import randomise
from tests.tracing import make_no_kernels

ROOT = Path(__file__).resolve().parent.parent
TINY = """model tiny {
  width = 16, layers = 2
  modality text { vocab = 11 }
  modality image { latent { channels = 3, patch = 2, objective = flow } }
  attention { heads = 2, mask { bidirectional = image } }
  ffn { hidden = 24 }
  untie attention, ffn, norm
}
"""
FOUR = TINY.replace(
    "  attention",
    "  modality video { latent { channels = 2, patch = 4, ends = unet, unet { channels = 4, blocks = 1 } } }\n"
    "  modality speech { vocab = 5 }\n"
    "  attention",
)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    spec = tmp_path / "tiny.mot"
    spec.write_text(TINY, encoding="utf-8")
    return spec


@pytest.fixture
def four(tmp_path: Path) -> Path:
    spec = tmp_path / "four.mot"
    spec.write_text(FOUR, encoding="utf-8")
    return spec


def shares_of(sequence: int, *ratios: float) -> list[tuple[int, float | None]]:
    mixes = mixtures(["text", "image"], sequence, ratios, None, ["image"])
    assert all(sum(mixture.counts) == sequence for mixture in mixes)
    return [(mixture.counts[1], mixture.share) for mixture in mixes]


def test_shares_are_those_of_the_nearest_number_of_whole_spans() -> None:
    assert shares_of(1024, 0.0, 0.37, 0.5) == [(0, 0.0), (6 * 64, 0.375), (8 * 64, 0.5)]
    assert shares_of(4096, 0.37) == [(6 * 256, 0.375)]
    assert shares_of(16, 0.37) == [(4, 0.25)]
    assert shares_of(1024, 0.95, 1.0) == [(15 * 64, 0.9375)]  # each span has text beside it
    assert [m.counts for m in mixtures(["a", "b", "c"], 1024, None, None, ["b"])] == [(351, 320, 353)]
    (text_last,) = mixtures(["image", "text"], 1024, [0.37], None, ["image"])
    assert (text_last.counts, text_last.share) == ((640, 384), 0.375)


def check_spans(model: Model, mixture: ModalityMix, batch: DrawnBatch) -> None:
    """Each row has the mixture's tokens, and each span of a continuous modality those of one latent."""
    rows = len(batch.modality_ids)
    for index, count in enumerate(mixture.counts):
        assert (batch.modality_ids == index).sum(1).tolist() == [count] * rows
    for modality in model.latent_modalities():
        index = model.modalities.index(modality)
        places = span_places(batch.modality_ids, None, index)
        assert len(places) == rows * mixture.spans[index]
        length = mixture.side**2
        assert all((batch.modality_ids[row, first : first + length] == index).all() for row, first in places)
        if places:
            size = mixture.side * modality.ends.patch_shape[0]
            assert batch.latents[modality.name].shape == (len(places), modality.ends.channels, size, size)
            assert batch.timesteps[modality.name].tolist() == [500] * len(places)
        else:
            assert modality.name not in batch.latents and modality.name not in batch.timesteps


@pytest.mark.parametrize("sequence", [5, 16, 61, 300, 1024])
def test_rows_hold_whole_spans_with_other_tokens_between(sequence: int, tiny: Path, four: Path) -> None:
    two, many = compile_ir(tiny), compile_ir(four)
    cases = [(two, mixtures(["text", "image"], sequence, None, None, ["image"]))]
    if sequence > 9:
        names = ["text", "image", "video", "speech"]
        cases.append((many, mixtures(names, sequence, None, None, ["image", "video"])))
    for model, found in cases:
        for mixture in (*found, *rehearsals(found)):
            batch = make_batch(data_modalities(model), mixture, 7, 0, "cpu")
            check_spans(model, mixture, batch)
            again = make_batch(data_modalities(model), mixture, 7, 0, "cpu")
            assert torch.equal(again.modality_ids, batch.modality_ids)
            assert all(torch.equal(again.latents[name], x) for name, x in batch.latents.items())


def test_spans_of_two_modalities_take_turns_where_one_has_fewer() -> None:
    measured = [run for run in runs(ModalityMix(counts=(3, 12, 4), continuous=(1, 2))) if run[1]]
    assert measured == [(0, 1), (1, 4), (0, 1), (1, 4), (0, 1), (1, 4), (2, 4)]


def test_rehearsals_are_uneven_and_of_whole_spans() -> None:
    mixes = mixtures(["text", "image"], 1024, [0.0, 0.5], None, ["image"])
    assert [mixture.counts for mixture in rehearsals(mixes)] == [(384, 640), (640, 384)]
    text = mixtures(["text", "image", "speech"], 1024, None, ["text", "speech"], ["image"])
    assert [mixture.continuous for mixture in rehearsals(text)] == [(), ()]


CONDITIONED = """model conditioned {
  width = 16, layers = 2
  modality text { features { size = 5 } }
  modality image {
    latent { channels = 3, patch = 2, objective = flow, time = none }
    condition { timestep { size = 8 }, vector { size = 4 }, number { size = 4 }, label { count = 3 } }
  }
  attention { heads = 2, mask = full }
  ffn { hidden = 24 }
  norm { kind = layer, weight = false, adaptive = image }
  untie *
}
"""


@pytest.mark.parametrize("names", [["text", "image"], ["image"]])
def test_sides_are_given_what_conditions_are_made_of(names: list[str]) -> None:
    """A caption's vectors beside images, and images alone, of which a row is one."""
    subject = Subject(checked=check_spec(SourceFile("conditioned.mot", CONDITIONED)))
    mixture = mixtures(["text", "image"], 36, None, names, ["image"])[-1]
    batch = make_batch(data_modalities(subject.ir()), mixture, 2, 0, "cpu")
    spans = 2 * mixture.spans[1]
    assert (mixture.counts, spans) == (((8, 28), 14) if len(names) == 2 else ((0, 36), 2))
    given = batch.conditions["image"]
    assert {name: x.shape for name, x in given.items()} == {"label": (spans,), "number": (spans,), "vector": (spans, 4)}
    outputs = []
    for side in ("mot", "reference"):
        network = subject.build(side, "float32", "cpu", compiled=False).double()
        randomise(network, torch.Generator().manual_seed(0))
        outputs.append(Side(network, "cpu").outputs(batch))
    assert outputs[0].keys() == {"predictions of image"}
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-9, atol=1e-9)


def test_sides_take_the_same_step_on_latents(four: Path) -> None:
    """The generated model and the reference get the same gradients of the mean squares of logits and predictions."""
    subject = Subject(checked=check_spec(four))
    model, networks = subject.ir(), {}
    (mixture,) = mixtures([m.name for m in model.modalities], 40, None, None, ["image", "video"])
    batch = make_batch(data_modalities(model), mixture, 2, 0, "cpu")
    for side in ("mot", "reference"):
        networks[side] = subject.build(side, "float32", "cpu", compiled=False).double()
        networks[side].load_state_dict(networks["mot"].state_dict())
        Side(networks[side], "cpu").run("backward", batch)
    ours, theirs = (dict(network.named_parameters()) for network in networks.values())
    assert all((x.grad is not None and bool(x.grad.any())) for x in ours.values())
    for name, parameter in theirs.items():
        torch.testing.assert_close(ours[name].grad, parameter.grad, rtol=1e-9, atol=1e-12)
    output = networks["mot"](batch.input_ids, batch.modality_ids, latents=batch.latents, timesteps=batch.timesteps)
    tensors = [*output.logits.values(), *output.predictions.values()]
    objective = sum(x.square().mean() for x in tensors)
    expected = torch.autograd.grad(objective, list(ours.values()))  # type: ignore[arg-type]
    for parameter, gradient in zip(ours.values(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_sides_take_the_same_step_on_features(tmp_path: Path) -> None:
    """As many vectors as a mixture has tokens of their modality."""
    spec = tmp_path / "seeing.mot"
    spec.write_text(TINY.replace("latent { channels = 3, patch = 2, objective = flow }", "features { size = 5 }"))
    subject = Subject(checked=check_spec(spec))
    model, networks = subject.ir(), {}
    (mixture,) = mixtures([m.name for m in model.modalities], 20, [0.25], None, [])
    batch = make_batch(data_modalities(model), mixture, 2, 0, "cpu")
    assert batch.features["image"].shape == (2 * 5, 5)
    for side in ("mot", "reference"):
        networks[side] = subject.build(side, "float32", "cpu", compiled=False).double()
        networks[side].load_state_dict(networks["mot"].state_dict())
        Side(networks[side], "cpu").run("backward", batch)
    ours, theirs = (dict(network.named_parameters()) for network in networks.values())
    for name, parameter in theirs.items():
        torch.testing.assert_close(ours[name].grad, parameter.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.compiled
def test_the_shares_used_are_reported(
    tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_no_kernels(monkeypatch)
    mixed = mixtures(["text", "image"], 64, [0.0, 0.37], None, ["image"])
    settings = Settings(mixtures=mixed, pairs=1, dtypes=("float32",), modes=("step",), threads=1)
    report = bench(Subject(checked=check_spec(tiny)), settings, lambda *_: None)
    print_report(report)
    told = capsys.readouterr().out
    assert "image comes in whole spans of 4 tokens; shares are the nearest: 0, 0.375\n" in told and "40 / 24" in told
    output = report.to_json()
    assert output["spans"] == {"image": 4}
    assert [(cell["tokens"], cell["share"], cell["graphs_meanwhile"]) for cell in output["cells"]] == [
        ({"text": 64, "image": 0}, 0.0, 0),
        ({"text": 40, "image": 24}, 0.375, 0),
    ]
    assert all(c["graph_breaks"] == 0 for c in output["compilations"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--modalities", "image", "--sequence", "70"],
            "a row of image alone is one square of patches: 64 or 81, not 70",
        ),
        (["--sequence", "4"], "a row of 4 is too short for a span of 4 tokens of image beside others"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_data_that_cannot_be_is_told_in_a_line(
    words: list[str], message: str, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", str(tiny), *words]) == 2
    told = capsys.readouterr()
    assert told.out == "" and "Traceback" not in told.err
    assert message in " ".join(told.err.replace("│", " ").split())
