"""How a run divides into products, attention and the rest, on CPU and, by made-up events, on CUDA."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.nn import functional as F

from motc.bench.portable.cells import Cell
from motc.bench.portable.parts import PRODUCTS, WHOLE, Parts, kind_of, parts_on_cpu, parts_on_cuda, profile_run


def event(
    name: str, start: float = 0.0, end: float = 0.0, parent: Any = None, kernels: tuple[float, ...] = (), **more: Any
) -> Any:
    """What torch.profiler tells of an operator, or with `device_type` of a kernel; times in microseconds."""
    return SimpleNamespace(
        name=name,
        time_range=SimpleNamespace(elapsed_us=lambda: end - start),
        cpu_parent=parent,
        kernels=[SimpleNamespace(duration=duration) for duration in kernels],
        **{"device_type": DeviceType.CPU, "is_user_annotation": False, **more},
    )


def test_operators_on_cpu_count_once_and_all_adds_up() -> None:
    whole = event(WHOLE, 0, 100e6)
    graph = event("## Call CompiledFxGraph f ##", 0, 60e6, whole)
    product = event("aten::mm", 1e6, 11e6, graph)
    grouped = event("aten::_grouped_mm", 20e6, 30e6, graph)
    inner = event("aten::mm", 21e6, 29e6, grouped)
    attention = event("aten::_scaled_dot_product_attention_math", 40e6, 55e6, graph)
    within = event("aten::bmm", 41e6, 50e6, event("aten::matmul", 41e6, 51e6, attention))
    parts = parts_on_cpu([whole, graph, product, grouped, inner, attention, within])
    assert parts == Parts(products=20.0, attention=15.0, other=65.0)
    assert parts.rest == 80.0


def test_kernels_on_cuda_belong_to_the_operator_that_asked_for_them() -> None:
    graph = event("## Call CompiledFxGraph f ##", kernels=(7e6,))  # a generated kernel
    product = event("aten::mm", parent=graph, kernels=(10e6, 1e6))
    runtime = event("cudaLaunchKernel", parent=product)
    attention = event("aten::_scaled_dot_product_flash_attention", parent=graph)
    inner = event("aten::_flash_attention_forward", parent=attention, kernels=(5e6,))
    step = event("aten::_fused_adamw_", kernels=(2e6,))
    on_device = [
        event(f"kernel {index}", 0, length * 1e6, device_type=DeviceType.CUDA)
        for index, length in enumerate((7, 10, 1, 5, 2))
    ]
    region = event(WHOLE, 0, 90e6, device_type=DeviceType.CUDA, is_user_annotation=True)
    parts = parts_on_cuda([event(WHOLE), graph, product, runtime, attention, inner, step, *on_device, region])
    assert parts == Parts(products=11.0, attention=5.0, other=9.0)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("aten::addmm", "products"),
        ("mkldnn::_linear_pointwise", "products"),
        ("aten::convolution_backward", "products"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu_backward", "attention"),
        ("aten::_efficient_attention_backward", "attention"),
        ("aten::linear", None),  # a product is within it
        ("aten::add", None),
        ("mm", None),
        ("autograd::engine::evaluate_function: MmBackward0", None),
    ],
)
def test_what_an_operator_counts_as(name: str, kind: str | None) -> None:
    assert kind_of(name) == kind


def test_torch_has_the_products() -> None:
    libraries = [torch.ops.aten, torch.ops.mkl, torch.ops.mkldnn]
    assert [name for name in PRODUCTS if not any(hasattr(library, name) for library in libraries)] == []


class Network(nn.Module):
    """Products, attention and elementwise work."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.out = (nn.Linear(64, 64, bias=False) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = self.q(x).unflatten(-1, (4, 16)).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(heads, heads, heads, is_causal=True)
        return F.gelu(self.out(mixed.transpose(1, 2).flatten(2)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.compiled)])
def test_parts_of_a_real_run(compiled: bool, dtype: torch.dtype) -> None:
    """Each part is there, eager and compiled; a part that were missed would be 0."""
    network, x = Network().to(dtype), torch.randn(2, 48, 64, dtype=dtype)
    if compiled:
        network.compile()

    def run() -> None:
        network(x).square().mean().backward()

    run()
    parts = profile_run(run, "cpu")
    assert min(parts.products, parts.attention, parts.other) > 0


def test_ratios_of_parts_are_of_the_rounds_that_both_sides_had() -> None:
    def parts(products: float, other: float) -> Parts:
        return Parts(products=products, attention=0.5 * other, other=0.5 * other)

    cell = Cell(
        dtype="float32",
        mode="forward",
        tokens={"text": 3, "image": 1},
        share=0.25,
        batch=2,
        seconds={"mot": (3.0,), "dense": (2.0,)},
        graphs_meanwhile=0,
        parts={"mot": (parts(1.3, 2.0), parts(1.5, 2.0)), "dense": (parts(1.0, 2.0), parts(1.0, 1.0))},
    )
    products, rest = cell.products_ratio("mot"), cell.rest_ratio("mot")
    assert products is not None and rest is not None
    assert (products.median, rest.median) == (1.4, 1.5)
    assert cell.products_ratio("reference") is None
    output = cell.to_json()["sides"]["mot"]
    assert output["products_ratio"]["median"] == 1.4
    assert output["parts"][0] == {"products": 1.3, "attention": 1.0, "other": 1.0}
