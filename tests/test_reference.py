"""The hand-written reference against models nobody here wrote, and against its own definition token by token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from motc.reference import (
    Batch,
    ReferenceAttention,
    ReferenceConfig,
    ReferenceFeedForward,
    ReferenceLayer,
    ReferenceMask,
    ReferenceNorm,
    ReferenceRope,
    ReferenceSublayer,
    reference_forward,
    reference_loss,
)

VOCAB, WIDTH, HIDDEN = 50, 32, 48
FLOAT32_LEVEL = 2e-5  # Hugging Face takes the statistics of RMS norms in float32, whatever the dtype.


def dense_config(
    layers: int, names: Callable[[int, str], str], ends: tuple[str, str, str], **settings: Any
) -> ReferenceConfig:
    """A dense model of the modalities a and b, which share everything, with Hugging Face's parameter names."""
    norm = ReferenceNorm(kind="rms", eps=1e-6)
    groups = ["attention.q", "attention.k", "attention.v", "attention.out", "attention.norm"]
    groups += ["ffn.gate", "ffn.up", "ffn.down", "ffn.norm"]
    qk_norm = settings.pop("qk_norm", None)
    if qk_norm:
        groups += ["attention.q_norm", "attention.k_norm"]
    norms = {group: dict.fromkeys("ab", norm) for group in groups if "norm" in group}
    if qk_norm:
        norms |= {f"attention.{name}": dict.fromkeys("ab", qk_norm) for name in ("q_norm", "k_norm")}
    defaults: dict[str, Any] = {"heads": 4, "kv_heads": 2, "head_dim": 8}
    defaults |= {"value_dim": settings.get("head_dim", 8), "mask": ReferenceMask(kind="causal")}
    placement = settings.pop("placement", "pre")
    attention = ReferenceAttention(**(defaults | {"rope": ReferenceRope(theta=10000.0)} | settings))
    sublayers = (
        ReferenceSublayer(name="attention", placement=placement, body=attention),
        ReferenceSublayer(
            name="ffn", placement=placement, body=ReferenceFeedForward(kinds=dict.fromkeys("ab", "swiglu"))
        ),
    )
    embedding, final_norm, head = ends
    return ReferenceConfig(
        modalities=("a", "b"),
        own_vocabularies=False,
        layers=tuple(
            ReferenceLayer(
                sublayers=sublayers,
                prefixes={group: {m: names(index, group) for m in "ab"} for group in groups},
                norms=norms,
            )
            for index in range(layers)
        ),
        embedding=dict.fromkeys("ab", embedding),
        head=dict.fromkeys("ab", head),
        final_norm_prefixes=dict.fromkeys("ab", final_norm),
        final_norms=dict.fromkeys("ab", norm),
    )


def hugging_face_name(index: int, group: str) -> str:
    part = {
        "attention.norm": "input_layernorm",
        "ffn.norm": "post_attention_layernorm",
        "attention.out": "self_attn.o_proj",
        "attention.q_norm": "self_attn.q_norm",
        "attention.k_norm": "self_attn.k_norm",
    }.get(group) or {"a": "self_attn.", "f": "mlp."}[group[0]] + group.split(".")[1] + "_proj"
    return f"model.layers.{index}.{part}"


HF_ENDS = ("model.embed_tokens", "model.norm", "lm_head")
SMALL = {
    "vocab_size": VOCAB,
    "hidden_size": WIDTH,
    "intermediate_size": HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6,
    "attn_implementation": "eager",
}

IMAGE = {"<image>": 1}
SMALL_VQ = {"embed_dim": 8, "num_embeddings": 8, "latent_channels": 8, "base_channels": 32, "channel_multiplier": [1]}


def randomised(model: Any) -> Any:
    """In float64, with random norms and biases too, which Hugging Face starts at ones and zeros."""
    model = model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2 + (1.0 if parameter.ndim == 1 else 0.0))
    return model


def ids_and_modalities() -> tuple[Tensor, Tensor]:
    return torch.randint(0, VOCAB, (2, 11)), torch.randint(0, 2, (2, 11))


@pytest.mark.parametrize("name", ["Llama", "Qwen2", "Qwen3", "Chameleon"])
def test_agrees_with_hugging_face(name: str) -> None:
    """Llama; biases on q, k, v (Qwen2); rms qk-norm (Qwen3); layer qk-norm, norms on sublayer outputs (Chameleon)."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(1)
    settings: dict[str, Any] = {}
    if name == "Chameleon":
        config = transformers.ChameleonConfig(
            **SMALL, swin_norm=True, vq_config=SMALL_VQ, vocabulary_map={"<image>": 1}
        )
        model = randomised(transformers.ChameleonForConditionalGeneration(config))
        settings = {"placement": "sublayer_output", "qk_norm": ReferenceNorm(kind="layer", eps=1e-5)}
    else:
        extra = {} if name != "Qwen3" else {"head_dim": 8}
        model = randomised(
            getattr(transformers, f"{name}ForCausalLM")(getattr(transformers, f"{name}Config")(**SMALL, **extra))
        )
        settings = {"qk_norm": ReferenceNorm(kind="rms", eps=1e-6)} if name == "Qwen3" else {}
    input_ids, modality_ids = ids_and_modalities()
    core = model.model.language_model if hasattr(model.model, "language_model") else model.model
    expected = model.lm_head(core(input_ids=input_ids).last_hidden_state)
    logits = reference_forward(
        dense_config(2, hugging_face_name, HF_ENDS, **settings),
        dict(model.named_parameters()),
        Batch(input_ids=input_ids, modality_ids=modality_ids),
    )
    assert isinstance(logits, Tensor)
    torch.testing.assert_close(logits, expected, rtol=FLOAT32_LEVEL, atol=FLOAT32_LEVEL)


def test_loss_agrees_with_hugging_face() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(2)
    model = randomised(transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMALL)))
    input_ids, modality_ids = ids_and_modalities()
    losses = reference_loss(
        dense_config(2, hugging_face_name, HF_ENDS),
        dict(model.named_parameters()),
        Batch(input_ids=input_ids, modality_ids=modality_ids),
    )
    expected = model(input_ids=input_ids, labels=input_ids).loss
    torch.testing.assert_close(losses.total, expected.double(), rtol=FLOAT32_LEVEL, atol=FLOAT32_LEVEL)
    share = (modality_ids[:, 1:] == 0).double().mean()
    torch.testing.assert_close(share * losses.by_modality["a"] + (1 - share) * losses.by_modality["b"], losses.total)


def mixed_model(mask: str, placement: str) -> tuple[ReferenceConfig, dict[str, Tensor]]:
    """Two towers of width 6 and 10 with different FFNs and norms; only one has a q norm and biases."""
    widths, vocab, heads, kv_heads, head_dim, hidden = {"a": 6, "b": 10}, 13, 4, 2, 4, 7
    parameters: dict[str, Tensor] = {}
    for m, width in widths.items():
        shapes = {
            "embedding": (vocab, width),
            "head": (vocab, width),
            "q": (heads * head_dim, width),
            "k": (kv_heads * head_dim, width),
            "v": (kv_heads * head_dim, width),
            "out": (width, heads * head_dim),
            "gate": (hidden, width),
            "up": (hidden, width),
            "down": (width, hidden),
            "norm": (width,),
            "ffn_norm": (width,),
            "final_norm": (width,),
            "q_norm": (heads, head_dim),
        }
        parameters |= {f"{name}.{m}.weight": torch.randn(shape).double() for name, shape in shapes.items()}
        parameters |= {f"{name}.{m}.bias": torch.randn(width).double() for name in ("norm", "ffn_norm", "final_norm")}
    parameters |= {f"{name}.b.bias": torch.randn(8 if name == "k" else 16).double() for name in ("q", "k")}
    parameters["q_norm.a.bias"] = torch.randn(heads, head_dim).double()
    norms = {"a": ReferenceNorm(kind="rms", eps=1e-3), "b": ReferenceNorm(kind="layer", eps=1e-2)}
    groups = {f"attention.{name}": name for name in ("q", "k", "v", "out", "norm")}
    groups |= {"ffn.up": "up", "ffn.down": "down", "ffn.norm": "ffn_norm"}
    prefixes = {group: {m: f"{name}.{m}" for m in widths} for group, name in groups.items()}
    attention = ReferenceAttention(
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        value_dim=head_dim,
        mask=ReferenceMask(kind=mask),  # type: ignore[arg-type]
        rope=ReferenceRope(theta=50.0, pairing="interleaved"),
    )
    feed_forward = ReferenceFeedForward(kinds={"a": "geglu", "b": "relu2"})
    layer = ReferenceLayer(
        sublayers=(
            ReferenceSublayer(name="attention", placement=placement, body=attention),  # type: ignore[arg-type]
            ReferenceSublayer(name="ffn", placement=placement, body=feed_forward),  # type: ignore[arg-type]
        ),
        prefixes=prefixes | {"ffn.gate": {"a": "gate.a"}, "attention.q_norm": {"a": "q_norm.a"}},
        norms={
            "attention.norm": norms,
            "ffn.norm": norms,
            "attention.q_norm": {"a": ReferenceNorm(kind="layer", eps=1e-5)},
        },
    )
    config = ReferenceConfig(
        modalities=("a", "b"),
        own_vocabularies=False,
        layers=(layer,),
        embedding={m: f"embedding.{m}" for m in widths},
        head={m: f"head.{m}" for m in widths},
        final_norm_prefixes={m: f"final_norm.{m}" for m in widths},
        final_norms=norms,
    )
    return config, parameters


@pytest.mark.parametrize(
    ("mask", "placement"), [("causal", "pre"), ("full", "sublayer_output"), ("causal", "post"), ("full", "pre")]
)
def test_agrees_with_token_by_token(mask: str, placement: str) -> None:
    """Different towers, padding and documents, against torch's own operators on one token at a time."""
    torch.manual_seed(3)
    config, weights = mixed_model(mask, placement)
    modality_ids = torch.tensor([0, 1, -1, 1, 0, 0, 1])
    documents = torch.tensor([0, 0, 0, 0, 1, 1, 1])
    positions = [0, 1, 2, 3, 0, 1, 2]
    input_ids = torch.randint(0, 13, (7,))
    names = ["ab"[m] if m >= 0 else None for m in modality_ids.tolist()]

    def norm(name: str, m: str, x: Tensor) -> Tensor:
        weight = weights[f"{name}.{m}.weight"]
        if m == "a":
            return F.rms_norm(x, x.shape, weight, 1e-3)
        return F.layer_norm(x, x.shape, weight, weights[f"{name}.{m}.bias"], 1e-2)

    def apply(name: str, m: str, x: Tensor) -> Tensor:
        return F.linear(x, weights[f"{name}.{m}.weight"], weights.get(f"{name}.{m}.bias"))

    def rotated(x: Tensor, position: int) -> Tensor:
        turns = torch.polar(torch.ones(2), position / torch.tensor([50.0**0, 50.0**0.5]))
        return torch.view_as_real(torch.view_as_complex(x.reshape(-1, 2, 2)) * turns).reshape(-1, 4)

    def placed(name: str, m: str, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        if placement == "pre":
            return x + function(norm(name, m, x))
        if placement == "post":
            return norm(name, m, x + function(x))
        return x + norm(name, m, function(x))

    stream = {p: weights[f"embedding.{m}.weight"][input_ids[p]] for p, m in enumerate(names) if m}
    q, k, v = {}, {}, {}
    for p, x in stream.items():
        m = names[p] or ""
        read = norm("norm", m, x) if placement == "pre" else x
        query = apply("q", m, read).reshape(4, 4)
        if m == "a":
            query = F.layer_norm(query, (4,)) * weights["q_norm.a.weight"] + weights["q_norm.a.bias"]
        q[p], k[p] = rotated(query, positions[p]), rotated(apply("k", m, read).reshape(2, 4), positions[p])
        v[p] = apply("v", m, read).reshape(2, 4)
    expected = torch.zeros(7, 13, dtype=torch.float64)
    for p, x in stream.items():
        m = names[p] or ""
        seen = [o for o in stream if documents[o] == documents[p] and (mask == "full" or o <= p)]
        heads = []
        for head in range(4):
            shares = torch.stack([q[p][head] @ k[o][head // 2] / 2 for o in seen]).softmax(0)
            heads.append(sum(share * v[o][head // 2] for share, o in zip(shares, seen, strict=True)))
        mixed = torch.cat(heads)
        h = placed("norm", m, x, lambda _, m=m, mixed=mixed: apply("out", m, mixed))  # type: ignore[misc]

        def feed(a: Tensor, m: str = m) -> Tensor:
            up = apply("up", m, a)
            return apply("down", m, F.gelu(apply("gate", m, a)) * up if m == "a" else up.relu() * up.relu())

        expected[p] = apply("head", m, norm("final_norm", m, placed("ffn_norm", m, h, feed)))
    batch = Batch(input_ids=input_ids[None], modality_ids=modality_ids[None], document_ids=documents[None])
    logits = reference_forward(config, weights, batch)
    assert isinstance(logits, Tensor)
    torch.testing.assert_close(logits[0], expected, rtol=1e-6, atol=1e-6)
    loss = reference_loss(config, weights, batch)
    assert {m: float(value) for m, value in loss.by_modality.items()} == pytest.approx(
        {
            "a": float(F.cross_entropy(expected[[4]], input_ids[[5]])),
            "b": float(F.cross_entropy(expected[[0, 5]], input_ids[[1, 6]])),
        }
    )


def test_own_vocabularies_predict_through_the_targets_head() -> None:
    torch.manual_seed(4)
    config, weights = mixed_model("causal", "pre")
    weights = {name: tensor for name, tensor in weights.items() if "embedding" not in name and "head" not in name}
    only_a = {group: dict.fromkeys("ab", each["a"]) for group, each in config.layers[0].prefixes.items()}
    attention, _ = config.layers[0].sublayers
    feed_forward = ReferenceFeedForward(kinds={"a": "geglu", "b": "geglu"})
    layer = replace(
        config.layers[0],
        sublayers=(attention, ReferenceSublayer(name="ffn", placement="pre", body=feed_forward)),
        prefixes=only_a,
        norms={group: dict.fromkeys("ab", each["a"]) for group, each in config.layers[0].norms.items()},
    )
    weights |= {"embedding.a.weight": torch.randn(5, 6).double(), "embedding.b.weight": torch.randn(9, 6).double()}
    own = replace(config, own_vocabularies=True, head=None, layers=(layer,), final_norm_prefixes={}, final_norms={})
    input_ids, modality_ids = torch.tensor([[4, 8, 7, 0, 3]]), torch.tensor([[0, 1, 1, -1, 0]])
    batch = Batch(input_ids=input_ids, modality_ids=modality_ids)
    logits = reference_forward(own, weights, batch)
    assert isinstance(logits, dict)
    assert {m: tuple(each.shape) for m, each in logits.items()} == {"a": (1, 5, 5), "b": (1, 5, 9)}
    assert all(not each[0, 3].any() and each[0, 0].any() for each in logits.values())
    loss = reference_loss(own, weights, batch)
    torch.testing.assert_close(loss.total, F.cross_entropy(logits["b"][0, :2], input_ids[0, 1:3]))
    torch.testing.assert_close(loss.by_modality["b"], loss.total)
    assert float(loss.by_modality["a"]) == 0.0


@pytest.mark.parametrize("length", [1, 4])
def test_padding_alone_gives_zeros_and_finite_gradients(length: int) -> None:
    config, weights = mixed_model("causal", "pre")
    weights = {name: tensor.requires_grad_() for name, tensor in weights.items()}
    nothing = torch.full((2, length), -1)
    batch = Batch(input_ids=nothing.abs(), modality_ids=nothing)
    logits = reference_forward(config, weights, batch)
    loss = reference_loss(config, weights, batch)
    assert isinstance(logits, Tensor)
    assert not logits.any()
    assert float(loss.total.detach()) == 0.0
    total = torch.autograd.grad(logits.sum() + loss.total, list(weights.values()), allow_unused=True)
    assert all(gradient is None or gradient.isfinite().all() for gradient in total)
