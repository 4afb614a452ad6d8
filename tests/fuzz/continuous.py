"""What random specs say of continuous modalities, and of norms that are adaptive by their conditions."""

from __future__ import annotations

from collections.abc import Callable

Pick = Callable[..., str]
"""One of some texts."""


def condition_text(pick: Pick) -> str:
    """What is said of one, with a part at least, after a comma."""
    times = ("size = 4", "size = 4, bias = false", "size = 6, closed = true, scale = 0.5, hidden = 5")
    said = [f"timestep {{ {pick(*times)} }}"]
    said += [pick("", "label { count = 3 }", "label { count = 2, null = false }")]
    said += [pick("", "vector { size = 3, kind = gelu }", "vector { size = 3, bias = false }")]
    said += [pick("", "number { size = 2, max_period = 100 }")]
    said += [pick("", "", "width = 5")]
    return f", condition {{ {', '.join(key for key in said if key)} }}"


def adaptive_text(pick: Pick, by: str, may_share: bool, may_map: bool) -> str:
    """By which modality norms are adaptive, what is made of its condition, and whether by maps outside of layers or by
    none.
    """
    shared = ("shared = all", "shared = all, table = true, parts = [gate, scale]") if may_share else ()
    unmapped = ("map = false", "map = false, table = true, parts = [scale, shift]") if may_map else ()
    parts = pick(
        "",
        "activation = none",
        "parts = [scale, gate], gate = tanh",
        "parts = [shift]",
        "bias = false",
        "gate = tanh",
        *shared,
        *unmapped,
    )
    return f"adaptive {{ by = {by}, {parts} }}" if parts else f"adaptive = {by}"


def final_adaptive_text(pick: Pick, by: str, may_map: bool) -> str:
    """A final norm that says itself how it is adaptive, or that it is not."""
    unmapped = ("map = false, table = true, activation = none",) if may_map else ()
    parts = pick("activation = none", "parts = [scale]", "bias = false, parts = [shift]", *unmapped)
    alone = pick("", "kind = none, ")
    return pick(f"{{ {alone}adaptive {{ by = {by}, {parts} }} }}", "{ adaptive = none }")


def ends_text(pick: Pick) -> str:
    """Patches and what makes tokens of them."""
    axes = pick("patch = [2]", "patch = [1, 2, 1]", "patch = [2, 1]")
    ends = pick("patch = 1", "patch = 2", "patch = 3, ends = linear", axes, "unet", "unet")
    if ends == "unet":
        blocks = pick("1", "2")
        return f"patch = {pick('2', '4')}, ends = unet, unet {{ channels = 4, blocks = {blocks} }}"
    ends += pick("", "", "", ", time = concat", ", time = none", ", time { scale = 0.001, size = 6 }")
    of_images = "[2]" not in ends and "[1, 2, 1]" not in ends
    learnt = (", learned { rows = 20 }", ", learned { rows = 3, columns = 2, fit = interpolate }")
    sines = pick("", "", "", *learnt, ", sine { }", ", sine { base = 3 }", ", sine { base = 4, crop = 5 }")
    return ends + sines * of_images + pick("", "", ", bias = false", ", out_bias = false")


def denoising_text(pick: Pick, ends: str) -> str:
    """An objective, how its times are drawn, for tokens of linear ends too, and what errors count."""
    betas = pick("", ", schedule = linear", ", schedule = scaled_linear, beta_end = 0.012")
    prediction = pick("noise", "velocity", "sample")
    variance = pick("", "", ", variance = learned")
    ddpm = f"objective {{ prediction = {prediction}{variance}{betas} }}"
    ratio = pick("", "weighting = min_snr", *([] if prediction == "noise" else ["weighting = snr"]))
    sigma = pick("", "weighting = cosmap", "weighting = sigma_sqrt")
    learnt = pick(f"{ddpm}, {ratio}", f"objective = flow, {sigma}").removesuffix(", ")
    shift = pick("", ", shift = 3", ", shift_by_tokens { kind = sqrt, base_tokens = 4 }")
    shift += "" if "unet" in ends else pick("", "", ", each = token")
    times = pick("", "uniform", "logit_normal, mean = 0.5", "beta, low = 0.001")
    return f", {learnt}{f', times {{ kind = {times}{shift} }}' if times else ''}"


def projector_text(pick: Pick) -> str:
    """What is said of one, if anything, after a comma."""
    kind = pick("linear", "gelu", "gelu_tanh", "relu2")
    said = [f"kind = {kind}", *(["hidden = 5"] if kind != "linear" and pick("no", "yes") == "yes" else [])]
    said += [pick("", "bias = false"), pick("", "norm = rms", "norm { kind = layer, eps = 1e-3 }")]
    return pick("", f", projector {{ {', '.join(key for key in said if key)} }}")


def latent_text(pick: Pick) -> str:
    """A section of latents."""
    ends = ends_text(pick)
    rest = pick("", ", objective = ddpm", ", objective = flow", ", objective = flow, weight = 0.5")
    rest = pick(rest, rest, denoising_text(pick, ends))
    return f"latent {{ channels = {pick('1', '3')}, {ends}{rest} }}"


def placing_text(pick: Pick, in_grid: bool, latent: bool) -> str:
    """How a span's tokens are placed, in a grid if that may be."""
    kind = pick("start = 3, advance = 2", "kind = same", "kind = same, advance = 0, delimiters = true")
    kind = pick(kind, "kind = grid", "kind = centred") if in_grid else kind
    return kind + (pick("", ", noised_advance = 0") if latent else "")
