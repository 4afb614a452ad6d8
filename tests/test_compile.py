"""A compiled model: one graph for each kind of layer and each end, whatever the batch, and eager results."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

import motc
from motc.bench import Settings, Subject, mixtures
from motc.bench.kernels import PRODUCTS, GraphKernels
from motc.bench.run import side_kernels
from motc.driver import check_spec
from motc.source import SourceFile
from tests.exact import GRADIENTS, OUTPUTS, WIDEST
from tests.tracing import KERNELS_OF_LAYERS, TRACED_LAYERS, leave_ends

pytestmark = pytest.mark.compiled

ROOT = Path(__file__).resolve().parent.parent

TWO = """
model two {
  width = 32, layers = 3
  modality text { vocab = 40 }, image { vocab = 24 }
  attention { heads = 4, qk_norm = rms }
  ffn { hidden = 48 }
  untie attention, ffn, norm
}
"""
THREE = """
model three {
  width = 32, layers = 3, vocab = 40
  modality text, image, speech
  attention { heads = 4 }
  ffn { hidden = 48 }
  untie attention, ffn, norm
}
"""
KINDS = """
model kinds {
  width = 32, layers = 4, vocab = 40
  modality text, image, speech
  attention { heads = 4 }
  ffn { hidden = 48 }
  tower gen = image { ffn { hidden = 24 } }
  tower und = text, speech
  untie ffn in layers 0..1
  untie attention, ffn, norm as {text} {image} {speech} in layers 2..3
}
"""
WIDTHS = """
model widths {
  width = 32, layers = 2, vocab = 40
  modality text, image, action
  attention { heads = 4, head_dim = 8 }
  ffn { hidden = 48 }
  tower expert = action { width = 16, ffn { hidden = 24 } }
  untie attention, ffn, norm, embedding, head
}
"""
HYBRID = """
model hybrid {
  width = 32, layers = 2, vocab = 40
  modality text, image
  attention { heads = 4 }
  ffn { hidden = 48 }
  tower text = text { ffn { kind = moe, experts = 4, routing = expert_choice, capacity_factor = 1.5, bias = true } }
  untie attention, ffn, norm
}
"""
EXPERTS = """
model experts {
  width = 32, layers = 2, vocab = 40
  modality text, image, speech
  attention { heads = 4, rope = none }
  ffn { hidden = 48, kind = moe, experts = 4, bias = true }
  tower seen = text, speech { ffn { experts = 3, top_k = 1 } }
  untie attention, ffn, norm
}
"""
POOLED = """
model pooled {
  width = 32, layers = 1, vocab = 40
  modality text, image
  attention { heads = 4, rope = none }
  ffn { hidden = 48, kind = moe, experts = 4, bias = true }
  untie norm
}
"""
ENDS = 3
"""What embeds, what reads logits, what scores losses."""


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def pair(text: str, folder: Path, backend: Any = "inductor", **kwargs: Any) -> tuple[Any, Any]:
    """A compiled model and an eager one of equal parameters.

    Making kernels takes most of the time (tests/test_kernels.py). Where graphs are only counted, `eager` will do.
    """
    path = folder / "compiled.mot"
    path.write_text(text)
    compiled, eager = motc.load(path, **kwargs), motc.load(path, **kwargs)
    compiled.compile(backend=backend)  # type: ignore[no-untyped-call]
    return compiled, eager


def batches(modalities: int) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Ids, modalities and documents: every ratio, one token of a modality, sizes 1, padding, and packed documents."""
    generator = torch.Generator().manual_seed(0)

    def mixed(rows: int, length: int, least: int = 0) -> Tensor:
        return torch.randint(least, modalities, (rows, length), generator=generator)

    single = torch.zeros(2, 16, dtype=torch.int64)
    single[0, 3] = modalities - 1
    rows = [
        (mixed(2, 16), None),
        *((torch.full((2, 16), modality), None) for modality in range(modalities)),
        (single, None),
        (mixed(3, 21), None),
        (mixed(1, 9), None),
        (mixed(3, 1), None),
        (mixed(1, 1), None),
        (mixed(3, 12, -1), None),
        (torch.full((2, 5), -1), None),
        (mixed(3, 12), (torch.arange(12) // 4).repeat(3, 1)),
    ]
    for modality_ids, documents in rows:
        yield torch.randint(0, 24, modality_ids.shape, generator=generator), modality_ids, documents


def assert_same(compiled: Any, eager: Any, batch: tuple[Tensor, Tensor, Tensor | None]) -> None:
    ids, modality_ids, documents = batch
    found = []
    for model in (compiled, eager):
        model.zero_grad()
        logits = model(ids, modality_ids, document_ids=documents).logits
        logits = torch.cat([x.flatten() for x in (logits.values() if isinstance(logits, dict) else [logits])])
        losses = model.loss(ids, modality_ids, document_ids=documents)
        (logits.square().mean() + losses.total).backward()
        gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
        found.append((logits, losses.total, gradients))
    torch.testing.assert_close(found[0][:2], found[1][:2], rtol=OUTPUTS, atol=OUTPUTS)
    for name, gradient in found[1][2].items():
        torch.testing.assert_close(
            found[0][2][name], gradient, rtol=GRADIENTS, atol=GRADIENTS / 100, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize(
    "text, kinds, backend",
    [(KINDS, 2, TRACED_LAYERS), (EXPERTS, 1, TRACED_LAYERS), (WIDTHS, 1, "eager"), (HYBRID, 1, "eager")],
    ids=["kinds", "experts", "widths", "hybrid"],
)
def test_one_graph_for_each_kind_of_layer_and_each_end(text: str, kinds: int, backend: Any, tmp_path: Path) -> None:
    """Towers of several widths, and experts that choose beside none, have kernels in tests/test_kernels.py."""
    compiled, eager = pair(text, tmp_path, backend, dtype=WIDEST)
    for batch in batches(len(compiled.modalities)):
        assert_same(compiled, eager, batch)
        assert counters["stats"]["unique_graphs"] == kinds + ENDS
    assert not counters["graph_break"]


@pytest.mark.parametrize("text, kinds", [(TWO, 1), (KINDS, 2), (WIDTHS, 1), (HYBRID, 1), (EXPERTS, 1)])
def test_without_gradients_there_is_a_graph_more_for_each(text: str, kinds: int, tmp_path: Path) -> None:
    compiled, _ = pair(text, tmp_path, "eager", dtype=torch.float64)
    modalities, graphs = len(compiled.modalities), kinds + ENDS
    if text not in (TWO, WIDTHS):  # whose ends are like those of one
        leave_ends(compiled)
        graphs = kinds
    if text == TWO:  # those with gradients, which the test above counts, do not stand in for those without
        ids, modality_ids, documents = next(batches(modalities))
        compiled(ids, modality_ids, document_ids=documents)
        compiled.loss(ids, modality_ids, document_ids=documents)
        assert counters["stats"]["unique_graphs"] == kinds + ENDS
        graphs *= 2
    with torch.no_grad():
        for ids, modality_ids, documents in batches(modalities):
            compiled(ids, modality_ids, document_ids=documents)
            compiled.loss(ids, modality_ids, document_ids=documents)
            assert counters["stats"]["unique_graphs"] == graphs
        positions = torch.arange(ids.shape[1]).expand(ids.shape)
        layout = compiled.layout(modality_ids, documents)
        compiled(ids, modality_ids, position_ids=positions, document_ids=documents, layout=layout)
    assert counters["stats"]["unique_graphs"] == graphs
    assert not counters["graph_break"]


def test_documents_too_unlike_for_rows_of_their_own_cost_one_graph_more(tmp_path: Path) -> None:
    compiled, eager = pair(TWO, tmp_path, TRACED_LAYERS, dtype=WIDEST)
    for batch in batches(2):
        assert_same(compiled, eager, batch)
        assert counters["stats"]["unique_graphs"] == 1 + ENDS
    ids, modality_ids = torch.randint(0, 24, (2, 20)), torch.randint(0, 2, (2, 20))
    documents = torch.tensor([0] * 18 + [1, 2]).repeat(2, 1)
    assert compiled.layout(modality_ids, documents).rows.mask is not None
    assert_same(compiled, eager, (ids, modality_ids, documents))
    assert counters["stats"]["unique_graphs"] == 1 + ENDS + 1
    assert not counters["graph_break"]


def test_many_models_in_one_process(tmp_path: Path) -> None:
    ids, modality_ids, _ = next(batches(2))
    with torch._dynamo.config.patch(recompile_limit=1):
        for dtype in (torch.float32, torch.bfloat16):
            compiled, _ = pair(TWO.replace("layers = 3", "layers = 1"), tmp_path, "eager", dtype=dtype)
            compiled.loss(ids, modality_ids).total.backward()
    assert not counters["graph_break"]


def test_grouped_products_compile_in_bfloat16(tmp_path: Path) -> None:
    """Compiled, torch 2.13 has grouped products in bfloat16 only. Other strategies: tests/test_kernels.py."""
    compiled, eager = pair(THREE, tmp_path, KERNELS_OF_LAYERS, strategy="grouped", dtype=torch.bfloat16)
    for ids, modality_ids, documents in list(batches(3))[:-1]:  # documents would take kernels of their own
        actual, expected = (model.loss(ids, modality_ids, document_ids=documents).total for model in (compiled, eager))
        torch.testing.assert_close(actual, expected, rtol=2e-2, atol=2e-2)
    assert not counters["graph_break"]


def test_grouped_products_that_torch_cannot_compile_are_told(tmp_path: Path) -> None:
    compiled, _ = pair(THREE, tmp_path, "eager", strategy="grouped", dtype=torch.float32)
    ids, modality_ids, documents = next(iter(batches(1)))
    with pytest.raises(RuntimeError, match=r"grouped products in bfloat16 alone, and these are in torch\.float32"):
        compiled.loss(ids, modality_ids, document_ids=documents)
    with torch.autocast("cpu", torch.bfloat16):
        assert compiled.loss(ids, modality_ids, document_ids=documents).total.isfinite()


def test_experts_compile_to_grouped_products_in_bfloat16(tmp_path: Path) -> None:
    """Routing may turn on a rounding, so losses are compared, and not each token.

    Kernels beside grouped products are tested with those of the grouped strategy, above.
    """
    subject = Subject(checked=check_spec(SourceFile("pooled.mot", POOLED)))
    settings = Settings(mixtures=mixtures(["text", "image"], 16, None, None))
    (layer,) = side_kernels(subject, settings, "bfloat16", "mot").layers
    calls = [[name for graph in graphs for name in graph.library_calls] for graphs in (layer.forward, layer.backward)]
    assert [names.count("_grouped_mm") for names in calls] == [3, 6]
    compiled, eager = pair(POOLED, tmp_path, TRACED_LAYERS, dtype=torch.bfloat16)
    for ids, modality_ids, documents in batches(2):
        actual, expected = (model.loss(ids, modality_ids, document_ids=documents).total for model in (compiled, eager))
        torch.testing.assert_close(actual, expected, rtol=2e-2, atol=2e-2)
        actual.backward()
    assert not counters["graph_break"]


@pytest.mark.skipif(torch.__version__ < "2.13", reason="before torch 2.13 fewer kernels were joined, in either twin")
def test_a_layer_has_few_kernels_more_than_its_dense_twin() -> None:
    """The permutations of v and of attention's result (those of q and k are within other kernels, of qk-norm too), and
    one for each further piece of the feed-forward: of three modalities, in bfloat16, whose casts stand between."""
    found, dtype = {}, "bfloat16"
    changes = {"layers": 1, "width": 64, "attention.qk_norm": "rms"}
    for side in ("mot", "dense"):
        subject = Subject(checked=check_spec(ROOT / "bench" / "fused3.mot", changes))
        modalities = [modality.name for modality in subject.ir().modalities]
        settings = Settings(mixtures=mixtures(modalities, 64, None, None), dtypes=(dtype,), modes=("backward",))
        (found[side],) = side_kernels(subject, settings, dtype, side).layers
    mot, dense, further = found["mot"], found["dense"], len(modalities) - 1
    assert 4 <= kernels(dense.forward) <= kernels(mot.forward) <= kernels(dense.forward) + 2 + further
    assert 4 <= kernels(dense.backward) <= kernels(mot.backward) <= kernels(dense.backward) + 2 * further
    assert mot.products == len(modalities) * dense.products == len(modalities) * 3 * 7
    assert other_calls(mot.forward) == other_calls(dense.forward)
    assert other_calls(mot.backward) == other_calls(dense.backward)


def other_calls(graphs: tuple[GraphKernels, ...]) -> list[str]:
    """Library calls that are no matrix products, sorted."""
    return sorted(name for graph in graphs for name in graph.library_calls if name not in PRODUCTS)


def kernels(graphs: tuple[GraphKernels, ...]) -> int:
    return sum(len(graph.kernels) for graph in graphs)


@pytest.mark.parametrize(
    ("given", "told", "sizes_vary"),
    [
        ({}, {"realize_reads_threshold": 32}, True),
        ({"mode": "max-autotune-no-cudagraphs"}, {"realize_reads_threshold": 32, "max_autotune": True}, True),
        ({"mode": "reduce-overhead"}, {"realize_reads_threshold": 32, "triton.cudagraphs": True}, False),
        ({"options": {"realize_reads_threshold": 4}}, {"realize_reads_threshold": 4}, True),
        ({"options": {"triton.cudagraphs": True}}, {"realize_reads_threshold": 32}, False),
        ({"backend": "eager"}, {}, True),
        ({"backend": "eager", "dynamic": False}, {}, False),
    ],
    ids=["nothing", "mode", "CUDA graphs", "options", "CUDA graphs by options", "another backend", "not dynamic"],
)
def test_what_the_compiler_is_told(
    given: dict[str, Any], told: dict[str, Any], sizes_vary: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our settings go with the caller's. Where sizes are fixed, as in CUDA graphs, they are not told to vary."""
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(torch, "compile", lambda function, **how: asked.append(how) or function)
    model = motc.load(TWO)
    model.compile(**given)
    assert len(asked) == 3 + 3  # layers and ends
    assert all(how["fullgraph"] and told.items() <= how.get("options", {}).items() for how in asked)
    modality_ids = torch.tensor([[0, 1, 1, 0]])
    layout = model.layout(modality_ids)
    model(modality_ids, modality_ids, layout=layout)
    assert all(hasattr(piece, "_dynamo_unbacked_indices") is sizes_vary for piece in layout.pieces)
