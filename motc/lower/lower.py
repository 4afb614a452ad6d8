"""Spec to IR: names, selectors, defaults and shapes are settled here, and whatever does not fit is told."""

from __future__ import annotations

from motc.ir.latent import LatentEnds, Unet
from motc.ir.layer import Attention, Ffn, FfnKind, Layer, Moe, Rope
from motc.ir.leaf import Leaf
from motc.ir.mask import Mask
from motc.ir.model import LatentModality, Modality, Model, Segment, Strategy, TokenLoss
from motc.ir.operators import Operator
from motc.ir.partition import Partition
from motc.lower.attributes import Attributes, Heads, attributes, end_operator, operator
from motc.lower.experts import check_experts, check_sharing
from motc.lower.leaf import LeafBuilder
from motc.lower.losses import lower_losses
from motc.lower.mask import lower_mask
from motc.lower.selectors import LAYER_PATHS
from motc.lower.strategy import check_strategy
from motc.lower.untie import Untied, resolve_untie
from motc.schema import Checked, Spec
from motc.schema.spec import LatentSpec, ModalitySpec, TowerSpec, UnetSpec
from motc.source import Diagnostic, Span, SpecError
from motc.source.nearest import suggestion


def lower(checked: Checked, *, dense: bool = False, strategy: Strategy = "sorted") -> Model:
    """The model a spec describes; with `dense`, its dense twin: no towers, and nothing untied but the ends.

    Raises SpecError with every diagnostic found.
    """
    spec = checked.spec
    errors: list[Diagnostic] = []
    mask = lower_mask(checked, errors)
    losses = lower_losses(checked, mask, errors)
    towers, tower_names, tower_specs = _towers(checked, errors)
    heads = _heads(checked, errors)
    own_vocab = _vocabularies(checked, errors)
    check_experts(checked, errors)
    if errors:
        raise SpecError(*sorted(errors, key=_position))
    attrs = {name: attributes(spec, None if dense else tower_specs.get(name)) for name in towers.universe}
    untied = resolve_untie(checked, towers, _present(spec, attrs, heads, dense), errors, dense=dense)
    if errors:
        raise SpecError(*sorted(errors, key=_position))

    builder = LeafBuilder(checked, towers, {} if dense else tower_names)
    segments = _segments(spec, untied, attrs, heads, mask, builder)
    ends = _ends(checked, untied, attrs, own_vocab, builder)
    if len({a.width for a in attrs.values()}) > 1 and own_vocab:
        message = "towers of different widths need one shared vocabulary: a head reads the states of other modalities"
        span = checked.span("modalities")
        builder.errors.append(Diagnostic(code="MOT048", message=message, span=span, help="set the model's `vocab`"))
    if builder.errors:
        raise SpecError(*sorted(builder.errors, key=_position))

    embedding, final_norm, head = ends
    assert embedding is not None
    modalities = tuple(
        _modality(name, attrs[name].width, modality, losses) for name, modality in spec.modalities.items()
    )
    model = Model(
        name=spec.model,
        modalities=modalities,
        towers=Partition.one(towers.universe) if dense else towers,
        vocab=None if own_vocab else spec.vocab,
        tied_embedding=spec.embedding.tied,
        embedding=embedding,
        segments=segments,
        final_norm=final_norm,
        head=head,
        order=towers.universe,
        strategy=strategy,
        span=checked.tree.span,
    )
    check_strategy(model)
    return model


def _modality(name: str, width: int, spec: ModalitySpec, losses: dict[str, TokenLoss]) -> Modality:
    latent = spec.latent
    if latent is None:
        return Modality(name=name, width=width, vocab=spec.vocab, loss=losses[name])
    sizes = latent.unet or UnetSpec()
    unet = Unet(channels=sizes.channels, blocks=sizes.blocks) if latent.ends == "unet" else None
    ends = LatentEnds(channels=latent.channels, patch=latent.patch, width=width, unet=unet)
    weight = float(latent.weight)
    return LatentModality(name=name, width=width, vocab=None, ends=ends, objective=latent.objective, weight=weight)


def _position(diagnostic: Diagnostic) -> tuple[str, int]:
    return (diagnostic.span.source.name, diagnostic.span.start) if diagnostic.span else ("", 0)


def _towers(
    checked: Checked, errors: list[Diagnostic]
) -> tuple[Partition, dict[tuple[str, ...], str], dict[str, TowerSpec]]:
    """The towers' partition, the name of each block, and each modality's tower."""
    names = tuple(checked.spec.modalities)
    owner: dict[str, str] = {}
    for tower_name, tower in checked.spec.towers.items():
        for index, modality in enumerate(tower.modalities):
            span = checked.span("towers", tower_name, "modalities", index)
            if modality not in names:
                way_out = suggestion(modality, names, f"modalities: {', '.join(names)}")
                errors.append(Diagnostic(code="MOT044", message=f"no modality `{modality}`", span=span, help=way_out))
            elif modality in owner:
                message = f"`{modality}` is in tower {tower_name} twice"
                related: tuple[tuple[str, Span], ...] = ()
                if owner[modality] != tower_name:
                    message = f"`{modality}` is in two towers: {owner[modality]} and {tower_name}"
                    related = (("the other one", checked.span("towers", owner[modality])),)
                errors.append(
                    Diagnostic(code="MOT045", message=message, span=span, help="keep it in one", related=related)
                )
            else:
                owner[modality] = tower_name
    blocks = {modality: owner.get(modality, modality) for modality in names}
    for modality in names:
        if modality not in owner and modality in checked.spec.towers:
            message = f"tower `{modality}` has the name of a modality that is not in it"
            span = checked.span("towers", modality)
            errors.append(Diagnostic(code="MOT045", message=message, span=span, help="rename the tower"))
            return Partition.each(names), {}, {}
    grouped: dict[str, list[str]] = {}
    for modality, tower_name in blocks.items():
        grouped.setdefault(tower_name, []).append(modality)
    tower_names = {tuple(block): tower_name for tower_name, block in grouped.items()}
    specs = {modality: checked.spec.towers[tower] for modality, tower in owner.items()}
    return Partition.of(names, grouped.values()), tower_names, specs


def _heads(checked: Checked, errors: list[Diagnostic]) -> Heads:
    spec = checked.spec
    heads = spec.attention.heads
    kv_heads = spec.attention.kv_heads or heads
    if heads % kv_heads:
        message = f"{heads} heads cannot share {kv_heads} kv_heads evenly"
        span = checked.span("attention", "kv_heads")
        errors.append(Diagnostic(code="MOT050", message=message, span=span, help="kv_heads must divide heads"))
    if spec.attention.head_dim is None and spec.width % heads:
        message = f"width {spec.width} is not a multiple of {heads} heads"
        related = (("the width", checked.span("width")),)
        way_out = "change either, or give head_dim"
        span = checked.span("attention", "heads")
        errors.append(Diagnostic(code="MOT051", message=message, span=span, help=way_out, related=related))
    head_dim = spec.attention.head_dim or max(1, spec.width // heads)
    if spec.attention.rope and head_dim % 2:
        message = f"rope rotates pairs, so head_dim must be even, not {head_dim}"
        place = "head_dim" if spec.attention.head_dim else "heads"
        span = checked.span("attention", place)
        errors.append(
            Diagnostic(code="MOT052", message=message, span=span, help="use an even head_dim, or rope = none")
        )
    shape = Heads(heads=heads, kv_heads=kv_heads, head_dim=head_dim)
    _check_tower_heads(checked, shape, errors)
    return shape


def _check_tower_heads(checked: Checked, shape: Heads, errors: list[Diagnostic]) -> None:
    """All towers meet in one attention: a tower may repeat its heads, and not change them."""
    for name, tower in checked.spec.towers.items():
        for key in ("heads", "kv_heads", "head_dim"):
            said, meant = getattr(tower.attention, key), getattr(shape, key)
            if said is None or said == meant:
                continue
            message = f"tower {name} has {key} {said}, the model {meant}; all towers meet in one attention"
            span = checked.span("towers", name, "attention", key)
            related = (("the model's", checked.span("attention", key)),)
            way_out = f"leave `{key}` out of the tower, or give all the same; a tower's width may differ"
            errors.append(Diagnostic(code="MOT053", message=message, span=span, help=way_out, related=related))


def _vocabularies(checked: Checked, errors: list[Diagnostic]) -> bool:
    """Whether each modality has a vocabulary of its own; either all have one, or all share the model's."""
    spec = checked.spec
    _check_latents(checked, errors)
    without = [name for name, modality in spec.modalities.items() if modality.vocab is None and not modality.latent]
    owners = [name for name, modality in spec.modalities.items() if modality.vocab is not None and not modality.latent]
    if spec.vocab is None and without:
        message = f"modality `{without[0]}` has no vocabulary"
        span = checked.span("modalities", without[0])
        errors.append(
            Diagnostic(code="MOT049", message=message, span=span, help="give it a vocab, or the model one for all")
        )
    elif spec.vocab is not None and owners:
        owner = owners[0]
        message = f"modality `{owner}` has a vocabulary of its own, and the model has one for all"
        related = (("the model's", checked.span("vocab")),)
        span = checked.span("modalities", owner)
        errors.append(
            Diagnostic(code="MOT049", message=message, span=span, help="keep one of the two", related=related)
        )
    return spec.vocab is None


def _check_latents(checked: Checked, errors: list[Diagnostic]) -> None:
    """A continuous modality has no vocabulary, and stands beside one of tokens at least."""
    modalities = checked.spec.modalities
    for name, modality in modalities.items():
        if modality.latent is not None and modality.vocab is not None:
            message = f"modality `{name}` is continuous and has a vocabulary"
            span = checked.key_span("modalities", name, "vocab")
            related = (("what makes it continuous", checked.key_span("modalities", name, "latent")),)
            errors.append(
                Diagnostic(code="MOT061", message=message, span=span, help="keep one of the two", related=related)
            )
        if modality.latent is not None:
            _check_unet(checked, name, modality.latent, errors)
    if all(modality.latent is not None for modality in modalities.values()):
        message = "no modality has tokens: every one is continuous"
        way_out = "declare one without `latent`, such as `modality text`: it delimits the spans of the others"
        errors.append(Diagnostic(code="MOT062", message=message, span=checked.span("modalities"), help=way_out))


def _check_unet(checked: Checked, name: str, latent: LatentSpec, errors: list[Diagnostic]) -> None:
    """A U-Net halves a patch until it is one pixel; its sizes are said for a U-Net only."""
    ends = checked.span("modalities", name, "latent", "ends")
    if latent.ends == "unet" and (latent.patch < 2 or latent.patch & (latent.patch - 1)):
        message = f"a U-Net halves a patch until it is one pixel, and {latent.patch} is no power of two from 2 up"
        span = checked.span("modalities", name, "latent", "patch")
        related = (("the ends", ends),)
        errors.append(
            Diagnostic(code="MOT063", message=message, span=span, help="use 2, 4, 8 …, or linear ends", related=related)
        )
    if latent.ends != "unet" and latent.unet is not None:
        said = "ends" in latent.model_fields_set
        errors.append(
            Diagnostic(
                code="MOT063",
                message=f"`unet` says nothing of {latent.ends} ends",
                span=checked.key_span("modalities", name, "latent", "unet"),
                help="leave it out, or use ends = unet",
                related=(("the ends", ends),) if said else (),
            )
        )


def _present(spec: Spec, attrs: dict[str, Attributes], heads: Heads, dense: bool) -> frozenset[str]:
    """The paths some modality has parameters at. The twin answers for the whole spec, so selectors still match."""
    every = list(attrs.values())
    if dense:
        every += [attributes(spec, tower) for tower in spec.towers.values()]
    paths = {path for path in LAYER_PATHS for a in every if operator(path, a, heads)}
    paths.add("embedding")
    if not spec.embedding.tied:
        paths.add("head")
    if _has_final_norm(spec):
        paths.add("final_norm")
    return frozenset(paths)


def _has_final_norm(spec: Spec) -> bool:
    return spec.norm.placement != "post" if spec.norm.final is None else spec.norm.final


def _segments(
    spec: Spec, untied: Untied, attrs: dict[str, Attributes], heads: Heads, mask: Mask, builder: LeafBuilder
) -> tuple[Segment, ...]:
    operators = {path: {name: operator(path, a, heads) for name, a in attrs.items()} for path in LAYER_PATHS}
    kinds = tuple(a.ffn_kind for a in attrs.values())
    moe = tuple(a.moe for a in attrs.values())
    built: dict[tuple[int, ...], Layer | None] = {}  # by the identity of partitions, of which there is one of each
    alike: dict[Layer, Layer] = {}
    segments = []
    for first, last, partitions in untied.runs:
        key = tuple(map(id, partitions))
        if key not in built:
            made = _layer(spec, partitions, operators, kinds, moe, heads, mask, builder)
            built[key] = made and alike.setdefault(made, made)
        layer = built[key]
        if layer is not None:
            segments.append(Segment(first=first, last=last, layer=layer))
    return tuple(segments)


def _layer(
    spec: Spec,
    partitions: tuple[Partition, ...],
    operators: dict[str, dict[str, Operator | None]],
    kinds: tuple[FfnKind, ...],
    moe: tuple[Moe | None, ...],
    heads: Heads,
    mask: Mask,
    builder: LeafBuilder,
) -> Layer | None:
    leaf: dict[str, Leaf | None] = {
        path: builder.build(path, partition, operators[path])
        for path, partition in zip(LAYER_PATHS, partitions, strict=True)
    }
    by_path = dict(zip(LAYER_PATHS, partitions, strict=True))
    _check_activations(by_path, operators, kinds, builder)
    check_sharing(by_path, operators, dict(zip(by_path["ffn.up"].universe, moe, strict=True)), builder)
    rope = spec.attention.rope
    q, k, v, out = (leaf[f"attention.{name}"] for name in ("q", "k", "v", "out"))
    norm, ffn_norm, ffn_up, down = (leaf[path] for path in ("attention.norm", "ffn.norm", "ffn.up", "ffn.down"))
    if builder.errors:  # of this layer, or of one that has the same mistake and was first
        return None
    assert q and k and v and out and norm and ffn_norm and ffn_up and down
    attention = Attention(
        heads=heads.heads,
        kv_heads=heads.kv_heads,
        head_dim=heads.head_dim,
        mask=mask,
        rope=None if rope is None else Rope(theta=float(rope.theta), pairing=rope.pairing),
        q=q,
        k=k,
        v=v,
        out=out,
        q_norm=leaf["attention.q_norm"],
        k_norm=leaf["attention.k_norm"],
        norm=norm,
    )
    ffn = Ffn(
        kinds=kinds,
        gate=leaf["ffn.gate"],
        up=ffn_up,
        down=down,
        norm=ffn_norm,
        moe=moe if any(moe) else (),
        router=leaf["ffn.router"],
        shared_gate=leaf["ffn.shared.gate"],
        shared_up=leaf["ffn.shared.up"],
        shared_down=leaf["ffn.shared.down"],
    )
    return Layer(placement=spec.norm.placement, attention=attention, ffn=ffn)


def _check_activations(
    partitions: dict[str, Partition],
    operators: dict[str, dict[str, Operator | None]],
    kinds: tuple[FfnKind, ...],
    builder: LeafBuilder,
) -> None:
    """The activation goes with the hidden vector that `up` makes: those who share it share the kind of FFN."""
    for path in ("ffn.up", "ffn.shared.up"):
        partition = partitions[path]
        kind_of = dict(zip(partition.universe, kinds, strict=True))
        for block in partition.blocks:
            if operators[path][block[0]] is None:
                continue
            differing = next((name for name in block if kind_of[name] != kind_of[block[0]]), None)
            if differing is not None:
                builder.disagree(path, block[0], differing, f"{kind_of[block[0]]} and {kind_of[differing]}")


def _ends(
    checked: Checked, untied: Untied, attrs: dict[str, Attributes], own_vocab: bool, builder: LeafBuilder
) -> tuple[Leaf | None, Leaf | None, Leaf | None]:
    spec = checked.spec
    heads = Heads(heads=1, kv_heads=1, head_dim=1)  # no end depends on them
    found: dict[str, Leaf | None] = {"head": None, "final_norm": None}
    for path in ("embedding", "head"):
        if path == "head" and spec.embedding.tied:
            continue
        tokens = [name for name, modality in spec.modalities.items() if modality.latent is None]
        blocks = Partition.each(attrs) if own_vocab else untied.ends[path]
        partition = blocks.only(tokens)
        operators: dict[str, Operator | None] = {
            name: end_operator(path, attrs[name].width, spec.modalities[name].vocab or spec.vocab or 0)
            for name in tokens
        }
        # a vocabulary of its own is the modality's, whatever its tower is called
        found[path] = builder.build(path, partition, operators, name_by_tower=not own_vocab)
    if _has_final_norm(spec):
        norms = {name: operator("final_norm", a, heads) for name, a in attrs.items()}
        found["final_norm"] = builder.build("final_norm", untied.ends["final_norm"], norms)
    return found["embedding"], found["final_norm"], found["head"]
