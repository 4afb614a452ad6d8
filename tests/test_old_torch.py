"""What a generated model says where torch is too old to compile it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo import decorators
from torch.torch_version import TorchVersion

import motc
from codegen_templates.sizes import check_attention

ROOT = Path(__file__).resolve().parent.parent


def test_a_torch_that_cannot_compile_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch 2.10 has it: sizes may be marked, but not as equal."""

    def mark_unbacked(t: object, index: int, hint_override: int | None = None, strict: bool = False) -> None: ...

    monkeypatch.setattr(decorators, "mark_unbacked", mark_unbacked)
    monkeypatch.setattr(torch, "__version__", "2.10.0")
    model = motc.load(ROOT / "specs" / "emoji_mot.mot", set={"layers": 1, "width": 32})
    with pytest.raises(RuntimeError, match=r"^compile\(\) needs torch 2\.11 or later, and this is 2\.10\.0"):
        model.compile()  # type: ignore[no-untyped-call]
    ids = torch.zeros(1, 4, dtype=torch.int64)
    assert model.loss(ids, ids).total.isfinite()  # type: ignore[operator]


def test_a_torch_that_cannot_compile_attention_with_a_mask_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch 2.11, which compiles all that needs no mask."""
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.11.0"))
    base = ROOT / "specs" / "emoji_mot.mot"
    model: Any = motc.load(f'model m {{ extends "{base}"; attention {{ mask {{ bidirectional = image }} }} }}')
    ids = torch.zeros(1, 4, dtype=torch.int64)
    assert model.loss(ids, ids).total.isfinite()
    model.compile(backend="eager")
    with pytest.raises(RuntimeError, match=r"needs torch 2\.13 or later; this is 2\.11\.0\. Uncompiled it works"):
        model.loss(ids, ids)


class SlotsOnCuda:
    """What is asked of slots, where there is no GPU."""

    is_cuda = True

    def __init__(self, *shape: int) -> None:
        self.shape = shape


@pytest.mark.parametrize(("shape", "ok"), [((3, 2), True), ((65_535, 2), True), ((3, 1), False), ((65_536, 2), False)])
def test_rows_that_no_kernel_for_all_sizes_takes_on_cuda_are_told(shape: tuple[int, int], ok: bool) -> None:
    slots: Any = SlotsOnCuda(*shape)
    if ok:
        check_attention(slots, has_mask=False)
        return
    rows, length = shape
    with pytest.raises(RuntimeError, match=rf"two tokens or more; here are {rows:,} of {length}\. Uncompiled it works"):
        check_attention(slots, has_mask=False)
    check_attention(torch.zeros(shape), has_mask=False)
