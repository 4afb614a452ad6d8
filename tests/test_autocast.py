"""Under autocast every strategy runs forward, loss and generate, near what float32 gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import motc
from motc.source import SpecError
from motc.validate.report import deviation
from tests.test_generate import HYBRID, MIXED, POOLED, TIED
from tests.test_latents import LINEAR
from tests.texts import UNLIKE, WIDTHS

TWO = """
model two {
  width = 32, layers = 2
  modality text { vocab = 40 }, image { vocab = 24 }
  attention { heads = 4, qk_norm = rms }
  ffn { hidden = 48, bias = true }
  untie attention, ffn, norm
}
"""
SPECS = {
    "two": TWO,
    "unlike": UNLIKE,
    "widths": WIDTHS,
    "mixed": MIXED,
    "pooled": POOLED,
    "hybrid": HYBRID,
    "tied": TIED,
}
STRATEGIES = ["sorted", "grouped", "blend", "reference"]
NEAR = 2e-2  # as docs/numerics.md says of bfloat16


def load(text: str, strategy: Any) -> Any:
    try:
        return motc.load(text, strategy=strategy)
    except SpecError as error:
        if "MOT056" not in str(error):
            raise
        pytest.skip("this strategy does not run it")


def lowered() -> Any:
    return torch.autocast("cpu", torch.bfloat16)


def assert_near(actual: Any, expected: Any) -> None:
    pairs = zip(actual.values(), expected.values(), strict=True) if isinstance(actual, dict) else [(actual, expected)]
    for mine, theirs in pairs:
        assert mine.dtype == torch.bfloat16
        assert deviation(mine.float(), theirs) <= NEAR


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", SPECS)
def test_tokens(name: str, strategy: str) -> None:
    model = load(SPECS[name], strategy)
    generator = torch.Generator().manual_seed(0)
    kinds = torch.randint(0, len(model.modalities), (3, 10), generator=generator)
    kinds[1, 7:] = -1
    kinds[:, 4] = kinds[0, 9] = 0
    ids = torch.randint(0, 16, kinds.shape, generator=generator)
    logits, losses = model(ids, kinds).logits, model.loss(ids, kinds)
    with lowered():
        assert_near(model(ids, kinds).logits, logits)
        loss = model.loss(ids, kinds)
        prompt = torch.where(torch.arange(10) < 5, kinds, -1)  # of the first modality, which none forbids
        generated = model.generate(ids, prompt, max_new_tokens=3)
    assert abs(loss.total - losses.total) <= NEAR * losses.total
    loss.total.backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())
    assert generated.input_ids.shape == (3, 3)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_generating_follows_the_whole_sequence(strategy: str) -> None:
    """The cache keeps keys and values in the dtype that attention takes them in."""
    model = load(TWO, strategy)
    for parameter in model.parameters():
        parameter.data *= 4  # so that logits differ by more than a rounding
    ids, kinds = torch.tensor([[3, 9, 4, 8]]), torch.tensor([[0, 1, 1, 0]])
    with lowered():
        generated = model.generate(ids, kinds, max_new_tokens=6, temperature=0)
        whole, of = torch.cat([ids, generated.input_ids], 1), torch.cat([kinds, generated.modality_ids], 1)
        logits = model(whole, of).logits["text"][0, 3:-1].float()
    chosen = logits.gather(1, generated.input_ids[0, :, None])[:, 0]
    assert bool((chosen >= logits.amax(1) - NEAR * logits.abs().amax()).all())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_latents(strategy: str) -> None:
    diffusers = pytest.importorskip("diffusers")
    model = load(LINEAR, strategy)
    kinds = torch.tensor([[0, 1, 1, 1, 1, 0], [0, 0, 1, 1, 1, 1]])
    ids, latents = kinds * 0 + 5, {"image": torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))}
    how = {"latents": latents, "timesteps": {"image": torch.tensor([4, 900])}}
    plain, losses = model(ids, kinds, **how), model.loss(ids, kinds, noise=latents, **how)
    scheduler = diffusers.DDIMScheduler(1000, beta_schedule="squaredcos_cap_v2", clip_sample=False)
    with lowered():
        output = model(ids, kinds, **how)
        lossy = model.loss(ids, kinds, noise=latents, **how)
        generated = model.generate(
            torch.tensor([[5, 6]]),
            torch.tensor([[0, 0]]),
            max_new_tokens=6,
            spans={"image": {"begin": 6, "end": 7, "size": (4, 4)}},
            schedulers={"image": scheduler},
            denoising_steps=2,
        )
    assert_near(output.logits, plain.logits)
    assert deviation(output.predictions["image"].float(), plain.predictions["image"]) <= NEAR
    assert abs(lossy.total - losses.total) <= NEAR * losses.total
    assert generated.latents["image"].shape == (1, 3, 4, 4)


class Adapted(nn.Module):
    """A linear map and a change of low rank, as peft wraps one."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.down, self.up = nn.Linear(32, 2, bias=False), nn.Linear(2, 32, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = self.base(x) + self.up(self.down(x))
        return changed


def test_adapters_are_called_in_every_strategy() -> None:
    torch.manual_seed(0)
    models = {strategy: load(TWO, strategy) for strategy in STRATEGIES}
    adapters = [Adapted(nn.Linear(32, 32, bias=False)) for _ in range(2)]
    for model in models.values():
        for layer, adapter in zip(model.layers, adapters, strict=True):
            adapter.base.weight = layer.attention.q["image"].weight  # type: ignore[assignment]
            layer.attention.q["image"] = adapter
    ids, kinds = torch.arange(10).view(2, 5), torch.tensor([[0, 1, 1, 0, -1], [1, 1, 1, 0, 0]])
    expected = models["reference"](ids, kinds).logits
    plain = load(TWO, "sorted")(ids, kinds).logits
    for strategy, model in models.items():
        for name, logits in model(ids, kinds).logits.items():
            torch.testing.assert_close(logits, expected[name], rtol=0, atol=1e-5, msg=strategy)
            assert (logits - plain[name]).abs().max() > 1e-3
    grouped = models["grouped"]
    grouped.loss(ids, kinds).total.backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in adapters[0].parameters())


@pytest.mark.parametrize(
    "register",
    [
        "register_forward_pre_hook",
        "register_forward_hook",
        "register_full_backward_pre_hook",
        "register_full_backward_hook",
    ],
)
def test_hooks_of_copies_are_called_when_grouped(register: str) -> None:
    model, seen = load(TWO, "grouped"), []
    ids, kinds = torch.tensor([[1, 2, 3]]), torch.tensor([[0, 1, 0]])
    model.loss(ids, kinds).total.backward()
    copy = model.layers[0].ffn.up["text"]
    expected, copy.weight.grad = copy.weight.grad, None
    getattr(copy, register)(lambda *given: seen.append(1))
    model.loss(ids, kinds).total.backward()
    assert seen
    torch.testing.assert_close(copy.weight.grad, expected)


def test_another_forward_of_a_copy_is_called_when_grouped() -> None:
    """As a library puts one in its place that moves weights to a device first."""
    model, seen = load(TWO, "grouped"), []
    copy = model.layers[0].ffn.up["text"]
    forward = copy.forward
    copy.forward = lambda x: seen.append(1) or forward(x)
    model(torch.tensor([[1, 2]]), torch.tensor([[0, 1]]))
    assert seen


@pytest.mark.compiled
@pytest.mark.parametrize(("strategy", "text"), [("grouped", TWO), ("sorted", MIXED)])
def test_compiled_layers_are_lowered_alike(strategy: Any, text: str) -> None:
    """Products that torch's autocast does not know are in one graph with those that it does."""
    compiled, eager = (motc.load(text, strategy=strategy, set={"layers": 1}) for _ in range(2))
    compiled.compile(backend="eager")  # type: ignore[no-untyped-call]
    kinds = torch.arange(12).view(2, 6) % len(eager.modalities)  # type: ignore[arg-type]
    with lowered():
        actual, expected = (model.loss(kinds + 3, kinds).total for model in (compiled, eager))  # type: ignore[operator]
    actual.backward()
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-3)
