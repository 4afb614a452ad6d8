"""Which words can be names of models, modalities and towers, and of the blocks that parameters are called by."""

from __future__ import annotations

import keyword
import re

from motc.schema.mistake import Mistake

LONGEST = 64

# Values, where `.mot` and YAML have no quotes to tell a name from one.
VALUES = frozenset(("true", "false", "null", "none"))

# The copies of a group are the entries of an nn.ModuleDict, or of a building block made of one: ByTower, NormByTower.
# A test holds this list against these classes as torch has them, and as they are in codegen_templates/. One name,
# smart_apply, Hugging Face's transformers gives to torch's modules where it is imported.
ATTRIBUTES = frozenset(
    """T_destination add_module apply bfloat16 buffers call_super_init children choose clear compile copy cpu cuda
    double
    dump_patches ends eval extra_repr float forward fromkeys get get_buffer get_extra_state get_parameter
    get_submodule half init_weights ipu is_grouped_product items keys load_state_dict modules mtia named_buffers
    named_children
    named_modules named_parameters of one_by_one parameters pop popitem register_backward_hook register_buffer
    register_forward_hook register_forward_pre_hook register_full_backward_hook register_full_backward_pre_hook
    register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module register_parameter
    register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ route set_extra_state
    set_submodule setdefault share_memory smart_apply state_dict to to_empty train training type update values xpu
    zero_grad""".split()
)

# What results call something else: tokens of no modality, and the whole loss.
RESULTS = frozenset(("padding", "total"))

PATTERN = "^[A-Za-z][A-Za-z0-9_]{0,63}$"
REFUSED = sorted({*VALUES, *keyword.kwlist, *keyword.softkwlist, *RESULTS, *ATTRIBUTES} - {"_"})


def check_name(name: str) -> str:
    """The name itself. Raises Mistake, saying why, if it cannot be one."""
    reason = _reason(name)
    if reason:
        raise Mistake("MOT024", reason, "choose another name")
    return name


def _reason(name: str) -> str:
    if len(name) > LONGEST:
        return f"a name has at most {LONGEST} characters, and this one {len(name):,}"
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        return f"`{name}` is not a name: letters, digits and _ only, a letter first"
    if name in VALUES:
        return f"`{name}` is a value, not a name"
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        return f"`{name}` is a Python keyword; the name becomes code"
    if name in RESULTS:
        return f"`{name}` is taken: results have something else of that name"
    if is_attribute(name):
        return f"`{name}` is taken: torch modules have an attribute of that name"
    return ""


def is_attribute(name: str) -> bool:
    """Whether the module that holds a group's copies has an attribute of that name, so that no copy can have it."""
    return name in ATTRIBUTES
