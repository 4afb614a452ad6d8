"""The originals of the gallery's specs: classes of transformers, published configurations, and small sizes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from motc.driver import check_spec
from motc.importing.configuration import Configuration
from motc.importing.describe import architecture_of, describe
from motc.importing.described import Described
from motc.schema import Checked
from motc.weights import WeightMapping, read_mapping
from tests.sights import MakeBatch, text

GALLERY = Path(__file__).resolve().parent.parent / "specs" / "gallery"

CONFIG_KEYS = {
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "vocab": "vocab_size",
    "attention.heads": "num_attention_heads",
    "attention.kv_heads": "num_key_value_heads",
    "attention.head_dim": "head_dim",
    "ffn.hidden": "intermediate_size",
    "ffn.experts": "num_local_experts",
    "ffn.top_k": "num_experts_per_tok",
}
"""What a configuration calls a key of the language, where an original does not say otherwise."""

PARTS = {
    "model.embed_tokens": "embedding",
    "model.norm": "final_norm",
    "lm_head": "head",
    "self_attn.q_proj": "attention.q",
    "self_attn.k_proj": "attention.k",
    "self_attn.v_proj": "attention.v",
    "self_attn.o_proj": "attention.out",
    "mlp.gate_proj": "ffn.gate",
    "mlp.up_proj": "ffn.up",
    "mlp.down_proj": "ffn.down",
    "model.layers": "layers",
}
"""Parts of the names of most originals' parameters, and what they are in ours, but for norms in layers."""

NAMES = {
    **PARTS,
    "self_attn.q_norm": "attention.q_norm",
    "self_attn.k_norm": "attention.k_norm",
    "input_layernorm": "attention.norm",
    "post_attention_layernorm": "ffn.norm",
}
"""`PARTS`, and norms where most originals have them."""

SMALL: dict[str, Any] = {
    "width": 32,
    "layers": 2,
    "vocab": 61,
    "attention.heads": 4,
    "attention.kv_heads": 2,
    "ffn.hidden": 48,
}
"""The sizes that a spec is set to, where an original does not say otherwise."""


def sizes(of: tuple[int, int, int, int, int, int], **more: Any) -> dict[str, Any]:
    """A configuration with these sizes, in the order of the keys below, and what else there is."""
    keys = (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
    )
    return {**dict(zip(keys, of, strict=True)), **more}


CONFIGURATION: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "vocab_size": 61,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
"""A small configuration of a language model, as most classes of transformers have it."""

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
FEW_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}


def small_original(architecture: str, **keys: Any) -> Any:
    """A class of transformers at `CONFIGURATION` with these keys, its parameters drawn."""
    import transformers

    torch.manual_seed(0)
    made: Any = getattr(transformers, architecture)
    theirs = made(made.config_class(**{**CONFIGURATION, **keys}))
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    return theirs


def described(config: dict[str, Any]) -> Described:
    """What a config.json says. Raises SpecError."""
    configuration = Configuration(Path("config.json"), json.loads(json.dumps(config)))
    return describe(configuration, architecture_of(configuration))


@dataclass(frozen=True, kw_only=True, eq=False)
class Original:
    """A spec of the gallery beside the class of transformers that it is.

    `config` is the published configuration, as far as parameters or results follow from it. `small` sets further keys
    of the spec and `small_config` of the configuration, which takes those of the spec by `CONFIG_KEYS` and `keys`.
    `inside` is the part of the configuration that has the sizes, where it is not all of it; `batch` makes what is
    compared.
    """

    spec: str
    architecture: str
    mapping: str
    config: Mapping[str, Any]
    small: Mapping[str, Any] = field(default_factory=dict)
    small_config: Mapping[str, Any] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    inside: str = ""
    batch: MakeBatch = text

    @property
    def path(self) -> Path:
        return GALLERY / f"{self.spec}.mot"

    @cached_property
    def weights(self) -> WeightMapping:
        return read_mapping(GALLERY / "mappings" / f"{self.mapping}.yaml")

    @property
    def overrides(self) -> dict[str, Any]:
        """What makes the spec small."""
        return {key: value for key, value in {**SMALL, **self.small}.items() if value is not None}

    @cached_property
    def checked(self) -> Checked:
        """The spec made small."""
        return check_spec(self.path, self.overrides)

    def made(self, *, small: bool, attention: str | None = "eager", experts: str | None = "eager") -> Any:
        """The original, at its published size or small, with these implementations of transformers."""
        import transformers

        config = merged(self.config, {"attn_implementation": attention, "experts_implementation": experts})
        if small:
            keys = {**CONFIG_KEYS, **self.keys}
            sizes = {keys[key]: value for key, value in self.overrides.items() if key in keys}
            sizes["max_position_embeddings"] = 1024
            config = merged(merged(config, {self.inside: sizes} if self.inside else sizes), self.small_config)
        kind: Any = getattr(transformers, self.architecture)
        return kind(kind.config_class(**config)).eval()

    def tensors(self, theirs: Any, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Values of the class's parameters, or gradients, under the names and in the form that checkpoints have."""
        from transformers.core_model_loading import revert_weight_conversion

        reverted: dict[str, Tensor] = revert_weight_conversion(theirs, dict(values))
        return reverted


def merged(base: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with the values of another in place of its own, within its parts too."""
    both = {**base, **other}
    return {key: merged(base[key], of) if isinstance(of, dict) and key in base else of for key, of in both.items()}


class NothingNarrowed(TorchFunctionMode):
    """What is float64 stays so where code asks for float32, such as norms, softmax and routers of transformers.

    Rotary angles begin as integers and are float32 as before.
    """

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if function is torch.polar:  # whose cosine and sine are rounded otherwise in float32 than those by themselves
            return torch.complex(args[0] * args[1].cos(), args[0] * args[1].sin())
        if function is torch.zeros and kwargs.get("dtype") == torch.float32:
            kwargs["dtype"] = torch.float64  # what is computed is written into these
        if args and isinstance(args[0], Tensor) and args[0].dtype == torch.float64:
            if function is Tensor.float:
                return args[0]
            if kwargs.get("dtype") == torch.float32:
                kwargs["dtype"] = torch.float64
            args = tuple(torch.float64 if each is torch.float32 else each for each in args)
        return function(*args, **kwargs)


def widened(dtype: torch.dtype) -> AbstractContextManager[Any]:
    """How an original is run in `dtype`."""
    from contextlib import nullcontext

    return NothingNarrowed() if dtype == torch.float64 else nullcontext()


def saved_of(theirs: nn.Module) -> dict[str, Tensor]:
    """An original's parameters, and corrections of its routers where these are buffers."""
    corrections = (each for each in theirs.named_buffers() if each[0].endswith("e_score_correction_bias"))
    return {**dict(theirs.named_parameters()), **dict(corrections)}


def as_parameters(module: nn.Module, dtype: torch.dtype) -> None:
    """Parameters in `dtype`; buffers, such as rotary frequencies, stay as they are."""
    for parameter in module.parameters():
        parameter.data = parameter.data.to(dtype)


def our_name(theirs: str) -> str:
    """What a parameter of most originals is called in ours."""
    for old, new in NAMES.items():
        theirs = theirs.replace(old, new)
    return theirs


def renamed(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Values of an original's parameters, or gradients, by our names."""
    return {our_name(name): value for name, value in values.items()}


Named = Callable[[dict[str, Tensor]], Mapping[str, Tensor] | Iterable[tuple[str, Tensor]]]
"""What `renamed` does, for an original that has other names or tensors."""


def agree(
    theirs: nn.Module,
    ours: nn.Module,
    expected: Tensor,
    got: Tensor,
    named: Named = renamed,
    *,
    idle: tuple[str, ...] = (),
) -> None:
    """An original's logits and ours are the same to 1e-9, and so are the gradients of all parameters.

    A gradient is relative to the largest number in it, which is above 0; or to 1e-6 of the largest in any at least, if
    the parameter's name ends as one of `idle`: these may change nothing, and their gradients be rounding alone.
    """
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)
    weights = torch.randn_like(expected)
    (expected * weights).sum().backward()
    (got * weights).sum().backward()
    gradients = dict(named({name: parameter.grad for name, parameter in theirs.named_parameters()}))
    parameters = dict(ours.named_parameters())
    assert gradients.keys() == parameters.keys()
    largest = max(float(gradient.abs().max()) for gradient in gradients.values())
    for name, gradient in gradients.items():
        scale = gradient.abs().max().clamp(min=1e-6 * largest if name.endswith(idle) else 0.0)
        assert scale > 0, name
        torch.testing.assert_close(parameters[name].grad / scale, gradient / scale, rtol=1e-9, atol=1e-9, msg=name)


class Uniform:
    """Euler's steps as pi0 and SmolVLA take them: as long as each other, from all noise to none."""

    def set_timesteps(self, count: int, device: torch.device) -> None:
        self.count = count
        self.timesteps = 1000 * torch.tensor([1.0 - step / count for step in range(count)], device=device)

    def step(self, velocity: Tensor, _: Tensor, x: Tensor) -> Any:
        return type("Step", (), {"prev_sample": x - velocity / self.count})
