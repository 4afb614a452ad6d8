"""Generating as text: one token of each row through a layer, tower by tower."""

from __future__ import annotations

from typing import assert_never

from motc.emit.calls import angles
from motc.emit.latents import place_lines, words
from motc.emit.mixture import tower_mixture
from motc.emit.steps import activation, in_heads, variables
from motc.emit.text import literal, method, names_tuple, statement
from motc.ir.feed_forward import FfnKind
from motc.ir.leaf import Leaf
from motc.ir.steps import Activate, Add, Apply, Attend, MixExperts, Permute, Rotate, Step, Value
from motc.plan import LeafPlan, ModulePlan, SublayerPlan
from motc.plan.constants import Constants


def copy_of(module: ModulePlan, leaf: LeafPlan) -> tuple[str, bool]:
    """The module that a group is for `tower`, and whether every tower has one."""
    if leaf.form in ("single", "shared"):
        return f"self.{leaf.attribute}", True
    blocks = {name: leaf.leaf.block_of(group[0]) for name, group in module.towers}
    named = {name: block.name for name, block in blocks.items() if block is not None}
    key = "tower"
    if any(name != block for name, block in named.items()):
        key = f"{literal(named)}[tower]"
    return f"self.{leaf.attribute}[{key}]", len(named) == len(blocks)


class TowerSteps:
    """The lines of some steps of a sublayer, for tokens that are all one tower's."""

    def __init__(self, module: ModulePlan, part: SublayerPlan, constants: Constants, steps: tuple[Step, ...]) -> None:
        self.module, self.part, self.constants = module, part, constants
        self.variables = variables(part)
        self.lines: list[str] = []
        for step in steps:
            if not step.permutes:
                made = self._made(step)
                self.lines += statement(f"{self.variable(step.writes)} = ", made)

    def variable(self, value: Value) -> str:
        return self.variables[value.name]

    def _made(self, step: Step) -> str:
        reads = [self.variable(value) for value in step.reads]
        match step.operation:
            case Apply(leaf=leaf):
                return self._leaf(leaf, reads[0])
            case Rotate(rope=rope):
                return f"rotate_{rope.pairing}({reads[0]}, cos, sin)"
            case Add():
                return " + ".join(reads)
            case Activate(kinds=kinds):
                return self._activation(kinds, reads)
            case MixExperts(mixture=body):
                lines, made = tower_mixture(self.module, self.part, body, reads[0])
                self.lines += lines
                return made
            case Attend() | Permute():
                raise AssertionError(step.name)
            case _:
                assert_never(step.operation)

    def _leaf(self, leaf: Leaf, x: str) -> str:
        called, everywhere = copy_of(self.module, self.part.leaves[leaf.path])
        made = in_heads(f"{called}({x})", leaf, self.part.sublayer.body, self.constants)
        if everywhere:
            return made
        those = [name for name, group in self.module.towers if leaf.block_of(group[0]) is not None]
        return f"{made} if tower in {names_tuple(those)} else {x}"

    def _activation(self, kinds: tuple[FfnKind, ...], reads: list[str]) -> str:
        towers: dict[FfnKind, list[str]] = {}
        for tower, group in self.module.towers:
            towers.setdefault(kinds[self.module.model.names.index(group[0])], []).append(tower)
        made = {kind: activation(kind, reads[0], reads[-1]) for kind in towers}
        *others, last = towers
        return "".join(f"{made[kind]} if tower in {names_tuple(towers[kind])} else " for kind in others) + made[last]


def attention_methods(module: ModulePlan, part: SublayerPlan, constants: Constants) -> list[str]:
    """`project` and `conclude`: attention before tokens meet, and after."""
    if not module.generates:
        return []
    steps = part.steps
    mix = next(index for index, step in enumerate(steps) if isinstance(step.operation, Attend))
    before, after = (TowerSteps(module, part, constants, half) for half in (steps[:mix], steps[mix + 1 :]))
    read = ", ".join(before.variable(value) for value in steps[mix].reads)
    angles = ", cos: Tensor, sin: Tensor" if module.model.ropes else ""
    return [
        "",
        f"    def project(self, x: Tensor, tower: str{angles}) -> tuple[Tensor, Tensor, Tensor]:",
        '        """Queries, keys and values [n, S, heads, head_dim] of tokens [n, S, width] of one tower."""',
        *before.lines,
        f"        return {read}",
        "",
        "    def conclude(self, x: Tensor, mixed: Tensor, tower: str) -> Tensor:",
        '        """x after attention, with what its tokens attended to."""',
        *after.lines,
        f"        return {after.variable(steps[-1].writes)}",
    ]


def ffn_methods(module: ModulePlan, part: SublayerPlan, constants: Constants) -> list[str]:
    """`of_tower`: the feed-forward of one tower's tokens."""
    if not module.generates:
        return []
    text = TowerSteps(module, part, constants, part.steps)
    return [
        "",
        "    def of_tower(self, x: Tensor, tower: str) -> Tensor:",
        '        """The same for tokens that are all of one tower."""',
        *text.lines,
        f"        return {text.variable(part.steps[-1].writes)}",
    ]


LAYER_METHOD = '''
    def decode(self, pieces: list[Tensor], step: Step, cache: KeyValues) -> list[Tensor]:
        """More tokens of each row, [n, S, width] for each tower that has rows."""
        towers = [tower for tower, _ in step.members]
        projected = [
            self.attention.project(x, tower, *angles)
            for x, tower, angles in zip(pieces, towers, step.angles, strict=True)
        ]
        mixed = attend(projected, step, cache)
        concluded = map(self.attention.conclude, pieces, mixed, towers)
        return [self.ffn.of_tower(x, tower) for x, tower in zip(concluded, towers, strict=True)]'''


def facts(module: ModulePlan) -> list[str]:
    """The class attributes that generating reads."""
    model = module.model
    ((kv_heads, head_dim),) = {(a.kv_heads, a.head_dim) for layer, _ in model.kinds() for a in layer.attentions}
    towers = {modality: name for name, group in module.towers for modality in group}
    return [
        *statement(
            "towers: ClassVar[Mapping[str, str]] = ",
            literal({m.name: towers[m.name] for m in model.modalities}),
            indent=4,
        ),
        f"    own_vocabularies = {model.vocab is None}",
        f"    kv_heads, head_dim = {kv_heads}, {head_dim}",
    ]


def _prefill(module: ModulePlan) -> str:
    """The prompt through the model, kept in caches."""
    model = module.model
    dtype = "x[0].dtype" if module.stream_in_pieces else "x.dtype"
    made = "x, _" if module.is_balanced else "x"
    arguments = {"ids": "Tensor", "layout": module.execution.layout_type, "caches": "list[KeyValues]", "last": "Tensor"}
    place, logits, said = ["        x = self.embed(in_stream(ids, layout), layout)"], "logits", ""
    if model.latents() is not None:
        arguments["latents"] = "Mapping[str, Tensor]"
        logits, said = "logits, _", " and clean latents"
        place = [
            f"        ids = torch.where({words(module)} >= 0, ids, 0)",
            *place,
            "        patches = self.encode(layout, latents, unnoised(latents))",
            *place_lines(module),
        ]
    after = "{name: of[rows, last] for name, of in logits.items()}" if model.vocab is None else "logits[rows, last]"
    lines = [
        *method("prefill", [f"{name}: {kind}" for name, kind in arguments.items()], "Any"),
        f'        """Fill the caches with the prompt\'s tokens{said}; the logits after the `last` of each row."""',
        *place,
        "        angles = self.angles(layout.rows.positions)",
        f"        mask = additive(layout.rows.mask, {dtype})",
        "        for layer, cache in zip(self.layers, caches, strict=True):",
        f"            {made} = layer.forward(x, layout, mask, *angles, cache=cache)  # not compiled: lengths differ",
        f"        {logits} = self.read(x, layout)",
        "        rows = torch.arange(last.numel(), device=last.device)",
        f"        return {after}",
    ]
    return "\n".join(lines)


def model_methods(module: ModulePlan, constants: Constants) -> list[str]:
    """What generating calls of the model, and `generate` itself."""
    model = module.model
    parts = []
    returned = angles(module, constants, "positions", "dtype")
    head = module.head or module.embedding
    called = _by_modality(module, head)
    norm = copy_of(module, module.final_norm)[0] + "(x)" if module.final_norm else "x"
    parts.append(
        f'''    def angles(self, positions: Tensor) -> tuple[Tensor, ...]:
        """Cosine and sine of positions int64 [B, S], if there is any rotation."""
        dtype = next(self.layers.parameters()).dtype
        return {returned}'''
        if returned
        else '''    def angles(self, positions: Tensor) -> tuple[Tensor, ...]:
        """Nothing: this model does not rotate."""
        return ()'''
    )
    parts.append(_prefill(module))
    parts.append(f'''    def embed_token(self, ids: Tensor, modality: str) -> Tensor:
        """Ids [n, 1] of one modality to the stream."""
        x: Tensor = {_by_modality(module, module.embedding)}(ids)
        return x''')
    parts.append(f'''    def norm_token(self, x: Tensor, tower: str) -> Tensor:
        """The stream [n, S, width] of one tower after the final norm."""
        x = {norm}
        return x''')
    what = "in the modality's vocabulary" if model.vocab is None else "of tokens of the modality"
    made = f"{called}(x)" if module.head else f"F.linear(x, {called}.weight)"
    parts.append(f'''    def read_token(self, x: Tensor, modality: str) -> Tensor:
        """Normed states [n, width] to logits {what}."""
        logits: Tensor = {made}
        return logits''')
    return parts


def _by_modality(module: ModulePlan, leaf: LeafPlan) -> str:
    """The copy of an end that `modality` uses."""
    if leaf.form in ("single", "shared"):
        return f"self.{leaf.attribute}"
    blocks = {modality.name: leaf.leaf.block_of(modality.name) for modality in module.model.token_modalities()}
    named = {name: block.name for name, block in blocks.items() if block is not None}
    if all(name == block for name, block in named.items()):
        return f"self.{leaf.attribute}[modality]"
    return f"self.{leaf.attribute}[{literal(named)}[modality]]"
