"""The catalogue of diagnostics: what each code means, for `motc explain`. Codes are never reused."""

from __future__ import annotations

from dataclasses import dataclass

from motc.source.codes_of_files import OF_FILES


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """One code: a few words, why it is an error and what to do, and a line that causes it."""

    code: str
    title: str
    explanation: str
    example: str


def _catalogue(*entries: tuple[str, str, str, str]) -> dict[str, Code]:
    return {
        code: Code(code=code, title=title, explanation=explanation, example=example)
        for code, title, explanation, example in entries
    }


CODES = _catalogue(
    (
        "MOT001",
        "unknown kind of file",
        "The name's ending says which syntax a spec has: .mot, or .yaml and .yml. Rename the file.",
        "motc check model.txt",
    ),
    (
        "MOT002",
        "the file cannot be read",
        "There is no such file, it is a directory, or its permissions forbid it. A path in `extends` is relative to "
        "the file that says it.",
        'extends "no_such_base.mot"',
    ),
    (
        "MOT003",
        "not a text",
        "A spec is a text in UTF-8. This file holds other bytes.",
        "motc check weights.safetensors",
    ),
    (
        "MOT004",
        "the file is empty",
        "A spec has at least a name, a width, layers, modalities and attention heads, of its own or from its base.",
        "# nothing but a comment",
    ),
    (
        "MOT005",
        "the file is too large",
        "Specs are short; one of more than a quarter of a megabyte, with what it extends, is most likely another file.",
        "motc check corpus.yaml",
    ),
    (
        "MOT006",
        "the text does not follow the syntax",
        "Reading stopped here. The message says what was expected; a bracket that was not closed may stand earlier, "
        "and is then shown too.",
        "attention { heads = }",
    ),
    (
        "MOT007",
        "a key is given twice",
        "In one block every key stands once, or a reader could not tell which one holds. Both places are shown.",
        "width = 256\nwidth = 512",
    ),
    (
        "MOT008",
        "YAML anchors, aliases and tags",
        "A spec says every value where it stands: aliases can hide what a key holds, or grow without end. A selector "
        "that starts with * must be in quotes.",
        'untie: "*.norm"     # without the quotes, *.norm is an alias',
    ),
    (
        "MOT009",
        "a second YAML document",
        "One file holds one spec; `extends` starts from another file.",
        "model: a\n---\nmodel: b",
    ),
    (
        "MOT010",
        "brackets or collections are nested too deep",
        "No key of the language needs that depth.",
        "a { a { a { a { ...",
    ),
    (
        "MOT021",
        "unknown key",
        "The schema has no such key at this place. `motc schema` and docs/language.md list all keys; docs/limits.md "
        "says what cannot be said yet.",
        "attention { haeds = 8 }",
    ),
    (
        "MOT022",
        "a key is missing",
        "model, width, layers, modalities and attention.heads have no default. Give them here or in the base spec.",
        "model tiny { width = 256 }",
    ),
    (
        "MOT023",
        "a value of the wrong kind or size",
        "Numbers are numbers, words are among those the key knows, and sizes have limits. Text in quotes is no number, "
        "and null is no name.",
        "layers = 0",
    ),
    (
        "MOT024",
        "not usable as a name",
        "Names of models, modalities and towers become Python names and attributes of torch modules: letters, digits "
        "and _, a letter first, no keyword of Python, nothing torch modules already have. true, false, null and none "
        "are values.",
        "modality class",
    ),
    (
        "MOT030",
        "`extends` takes one path",
        "A spec starts from one other spec, given as text.",
        "extends: [a.mot, b.mot]",
    ),
    (
        "MOT031",
        "`extends` goes in a circle",
        "A spec may not be its own base, directly or through others; nor may the chain have more than 20 links.",
        'extends "this_file.mot"',
    ),
    (
        "MOT032",
        "an override that cannot be set",
        "--set, and `set=` of motc.load, take a dotted key of the spec and a plain value.",
        "motc show tiny.mot --set attention..heads=8",
    ),
    (
        "MOT040",
        "a selector matches nothing",
        "Every selector of `untie` must name a group that the model has. Bare words are attention, ffn and norm; paths "
        "such as attention.q and wildcards such as *.norm work too. A gate exists in gated FFNs only, q_norm with "
        "qk_norm only, head unless the embedding is tied.",
        "untie attention.query",
    ),
    (
        "MOT041",
        "layers outside the model",
        "Layers count from 0, and a range includes both ends, the first one first: a model of 4 layers has 0..3. "
        "Steps are of 1 or more.",
        "layers = 4\nuntie ffn in layers 0..4",
    ),
    (
        "MOT042",
        "layers given for a group outside the layers",
        "embedding, embedding_norm, final_norm and head exist once, so `in layers` cannot apply to them.",
        "untie head in layers 0..3",
    ),
    (
        "MOT043",
        "not a partition",
        "The blocks of `as`, and those of a mask, must be disjoint, hold something, and cover all modalities.",
        "modality text, image, speech\nuntie ffn as {text} {image}",
    ),
    (
        "MOT044",
        "no such modality",
        "Towers, partitions and masks name modalities that the spec declares; masks may also name its towers.",
        "tower und = txet",
    ),
    (
        "MOT045",
        "towers that collide",
        "A modality is in at most one tower, and a tower with the name of a modality must hold it.",
        "tower a = text\ntower b = text",
    ),
    (
        "MOT046",
        "modalities that share a group disagree about it",
        "One copy of the parameters has one shape, kind, bias and eps. Untie the group between these modalities, or "
        "give their towers the same attributes.",
        "tower gen = image { ffn { hidden = 4096 } }     # and ffn is not untied",
    ),
    (
        "MOT047",
        "two blocks of one name",
        "A block is called by its tower's name, or by its modalities joined by _, and names its parameters.",
        "modality a, b, a_b\nuntie ffn as {a, b} {a_b}",
    ),
    (
        "MOT048",
        "towers of different widths with vocabularies of their own",
        "With vocabularies of their own, a head also reads hidden states of other modalities, which here have another "
        "width.",
        "modality text { vocab = 256 }, action { vocab = 64 }\ntower expert = action { width = 128 }",
    ),
    (
        "MOT049",
        "vocabularies that do not add up",
        "Either the model has one vocabulary for all modalities, or each modality has its own.",
        "vocab = 65536\nmodality text { vocab = 256 }",
    ),
    (
        "MOT050",
        "kv_heads does not divide heads",
        "Query heads share key and value heads in groups of equal size.",
        "attention { heads = 8, kv_heads = 3 }",
    ),
    (
        "MOT051",
        "heads do not divide the width",
        "Unless head_dim is given it is width / heads, which must be a whole number.",
        "width = 100\nattention { heads = 8 }",
    ),
    (
        "MOT052",
        "an odd head_dim with rotary positions",
        "Rotary positions turn pairs of components, of a whole head or of the part of it that `fraction` says: an even "
        "number of them, 2 at least.",
        "attention { heads = 8, head_dim = 7 }",
    ),
    (
        "MOT053",
        "a tower with heads of its own",
        "All towers meet in one attention, so heads, kv_heads and head_dim are the model's, and what is done to scores "
        "(scale and softcap); widths may differ.",
        "tower gen = image { attention { heads = 4 } }     # and the model has 8",
    ),
    (
        "MOT054",
        "parts of a mask that do not go together",
        "`prefix` and `blocks` belong to the mask of that kind, which needs them; `bidirectional` adds to causal and "
        "prefix, and `delimiters` to runs that see themselves. In `sees`, a modality is said once, by its own name or "
        "by its tower's.",
        "attention { heads = 8, mask { kind = full, bidirectional = image } }",
    ),
    (
        "MOT055",
        "a modality that does not see itself",
        "Every token sees itself, so whom a modality `sees` includes the modality.",
        "attention { heads = 8, mask { sees { text = image } } }",
    ),
    (
        "MOT056",
        "copies of several shapes for one grouped product",
        "The grouped strategy multiplies by all copies of a group at once, so they have one shape, and every modality "
        "has one; sizes are multiples of 8. Tables of a shared vocabulary that are its heads too are one. The other "
        "strategies have no such limits.",
        "motc build unequal.mot --strategy grouped     # and a tower has a width of its own",
    ),
    (
        "MOT057",
        "keys of a mixture of experts that do not go together",
        "`experts` and what goes with it belong to feed-forwards of kind = moe, which need `experts`; "
        "`capacity_factor` to routing = expert_choice, and `top_k`, `balance` and all that says how a token chooses to "
        "routing = top_k; what is said of groups or of shared experts needs these.",
        "ffn { kind = swiglu, experts = 4 }",
    ),
    (
        "MOT058",
        "numbers of experts that do not go together",
        "A token goes to `top_k` different experts, or to `capacity_factor` of them on average; neither can be more "
        "than `experts`. `groups` divide the experts, and a token's are found in `top_groups` of them.",
        "ffn { kind = moe, experts = 4, top_k = 8 }",
    ),
    (
        "MOT059",
        "groups of a mixture of experts for different modalities",
        "An expert is its gate, up and down, so these have the same block: untie `ffn` as a whole where there is a "
        "mixture of experts. Where experts choose their tokens (routing = expert_choice) the router has that block "
        "too. Shared experts take every token, so `ffn.shared.*` may be untied otherwise.",
        "ffn { kind = moe, experts = 4 }\nuntie ffn.up",
    ),
    (
        "MOT060",
        "experts that choose tokens under a mask (a warning)",
        "By expert choice, experts take the best tokens of the whole batch: whether a token is taken depends on tokens "
        "after it, or otherwise hidden from it. Losses then know a little of the future, and a model that generates "
        "cannot choose so. The paper's MoE baselines are such models, so this is no error.",
        "attention { heads = 8, mask = causal }\nffn { kind = moe, experts = 4, routing = expert_choice }",
    ),
    (
        "MOT061",
        "a continuous modality with a vocabulary",
        "Tokens of a modality with `latent` are patches of latents, those of one with `features` are vectors that are "
        "given. Neither have ids, and no modality is both; the tokens that delimit its spans belong to another one.",
        "modality image { vocab = 512, latent { channels = 8, patch = 2 } }",
    ),
    (
        "MOT062",
        "nothing to predict, or a vocabulary of nothing",
        "Features are given, and nothing is predicted of them: a model has a modality of another kind. Where every one "
        "is continuous there are no tokens with ids, and no vocabulary.",
        "modality vit { features { size = 1152 } }     # and no other",
    ),
    (
        "MOT063",
        "a U-Net that does not fit",
        "A U-Net is of images, and halves a patch until it is one pixel, so `patch` is a power of two, the same for "
        "both sides; sequences and volumes have linear ends. `unet` goes with `ends = unet` only, `bias` and "
        "`out_bias` with linear ones.",
        "modality image { latent { channels = 8, patch = 3, ends = unet } }",
    ),
    (
        "MOT064",
        "targets that a token can see (a warning)",
        "Under this mask a token sees the next one, which it is to predict: it would copy it and learn nothing. The "
        "loss leaves such targets out, which may leave none. `seen_targets` of a modality says that this is meant "
        "(false), or that they count all the same (true), as where the input hides what the labels say. Latents are "
        "no tokens: bidirectional images beside causal text are as they should be.",
        "modality text, image\nattention { heads = 8, mask { bidirectional = image } }",
    ),
    (
        "MOT065",
        "a continuous modality with a loss of tokens",
        "`weight` and `seen_targets` of a modality are about tokens that are predicted. What denoising costs is "
        "weighed within `latent`.",
        "modality image { weight = 5, latent { channels = 8, patch = 2 } }",
    ),
    (
        "MOT066",
        "weights of targets that say nothing",
        "Cross-entropy is a mean in which each target has its modality's weight. So a weight of the only modality of "
        "tokens says nothing, unless it is 0 beside latents; and where all are 0, nothing would be trained.",
        "modality text { weight = 2 }     # and no other modality of tokens",
    ),
    (
        "MOT067",
        "a projector that does not fit",
        "Features come into the stream by a projector: one linear map unless said, or two with an activation between, "
        "of which `hidden` speaks. With `projector = none` they are the stream's own, and as wide as their tower.",
        "modality vit { features { size = 1152, projector = none } }     # and width = 2048",
    ),
    (
        "MOT068",
        "parts of a norm that do not go together",
        "Biases are of norms of kind layer; an offset is what weights are added to, so without weights it says "
        "nothing; and of a norm over all heads together no head has weights of its own.",
        "norm { kind = rms, bias = false }",
    ),
    (
        "MOT069",
        "a bias of a tied head",
        "A head that is tied to the embedding is its table, which has no biases.",
        "embedding { tied = true }\nhead { bias = true }",
    ),
    (
        "MOT074",
        "a timestep that latents are not told so",
        "Tokens of linear ends are told their timestep: its vector is added to them, or with `concat` its sinusoids go "
        "with them through two maps, half of them sines, of periods from `min_period` to `max_period`. A U-Net is told "
        "it in each block.",
        "latent { channels = 32, patch = [1], time { min_period = 0.01 } }",
    ),
    (
        "MOT079",
        "sublayers in parallel whose norms do not fit",
        "Behind one norm there are none after sublayers, so `placement` is pre; and a norm of the sum is no "
        "sublayer's, so that post goes with none in parallel.",
        "parallel = one_norm\nnorm { placement = both }",
    ),
    (
        "MOT080",
        "keys of a scaling of rotary positions that do not go together",
        "`dynamic`, `llama3` and `yarn` need `original_length`; the other keys belong to one kind each. What is fast "
        "or high must be above what is slow or low.",
        "rope { scaling { kind = linear, factor = 4, beta_fast = 32 } }",
    ),
    (
        "MOT081",
        "axes of positions that do not go together",
        "`sections` has for each axis the pairs of components that turn by it, `axes` the components: together as many "
        "as rotate. Sections take turns (`interleaved`, `spatial_first`) where they have the pairs for it. `axes` have "
        "frequencies of their own each, so these may have a theta each, and are not scaled.",
        "attention { heads = 8, head_dim = 128, rope { sections = [16, 24, 16] } }",
    ),
    (
        "MOT082",
        "a rule of positions that does not go together",
        "What a modality says of `positions` must fit its kind: `extent` and `spatial` are of a grid, delimiters share "
        "the position of tokens that are all at the `same` one, and a grid has no more axes than positions have "
        "numbers. In a model that does not look at positions they say nothing.",
        "modality image { positions { kind = same, advance = extent } }",
    ),
    (
        "MOT083",
        "a tower with a theta of its own",
        "A tower's queries and keys may turn by frequencies of another theta than the model's; for that the model has "
        "rotary positions, of one theta for all axes.",
        "attention { heads = 8, rope = none }\ntower gen = image { attention { rope { theta = 100 } } }",
    ),
    (
        "MOT084",
        "a tower that cannot read what it is said to",
        "A tower that `reads` others sees them alone in these layers, and none sees it. They have keys and values "
        "there: they attend, and do not read others themselves. It sees some of them by the mask, and is in no prefix. "
        "Those to which a tower attends by `cross` have attention = none, all of their tower, and no other tower "
        "attends in these layers; all are of one width.",
        "tower expert = action { attention { reads = action } }",
    ),
    (
        "MOT087",
        "nothing that attends, or nothing at all",
        "A layer has attention, a feed-forward or both, for some modality at least, and some layer has attention: it "
        "is where tokens meet. Where the feed-forward is added to what came into the layer, whoever attends has one.",
        "layers = 1\nlayer 0 { attention = none }",
    ),
    (
        "MOT088",
        "too many kinds of layers",
        "Each kind of layer is a class of the generated model, and there are at most 512 of them. Layers of which "
        "the same is said are of one kind.",
        "layers = 2048\nlayer 0 { ffn { hidden = 8 } }     # and another size in each other layer",
    ),
    (
        "MOT090",
        "a mapping file that says something else",
        "A mapping file has the sections `architectures`, `tensors`, `otherwise`, `tied`, `left_out`, `zeros` and "
        "`without`, and says of each tensor of another implementation which parameters it holds: one by its name, or "
        "several by the form in which they lie in it, such as `rows` or `experts`. Both sides have the same numbers, "
        "each written as `*`.",
        "tensors: {model.layers.*.mlp.up_proj: layers.*.ffn.up}",
    ),
    (
        "MOT092",
        "vectors added after the last layer",
        "`added_after` names layers after which features have further vectors added to the states of their tokens. "
        "What these are after the last layer is read by nothing: features have no head.",
        "layers = 4\nmodality vit { features { size = 1152, added_after = 0..3 } }",
    ),
    (
        "MOT094",
        "a condition, or an adaptive norm, that does not fit",
        "A condition is of a modality with latents, and made of a timestep, a label, a number or a vector. Norms are "
        "adaptive by such a one, before sublayers and not behind them, and each condition is that of some norm.",
        "norm { adaptive = text }      # and text has no latents",
    ),
    (
        "MOT095",
        "low-rank attention with what it has not",
        "With `low_rank` keys and values are made of few numbers, and each head has its own; a key is a part of its "
        "head's and a part that is one for all heads, which rotates. Norms are of the few numbers, so there is no "
        "qk_norm; values are not clipped, and no tower has others' keys.",
        "attention { heads = 8, head_dim = 48, kv_heads = 2, low_rank { kv = 64, rope_dim = 16 } }",
    ),
    *OF_FILES,
    (
        "MOT120",
        "keys of denoising that do not go together",
        "What latents learn is an objective, how their times are drawn, and what errors count by their time. Keys go "
        "with the kinds that have them: a prediction and a schedule of noise with ddpm, parameters with their "
        "distribution, min_snr and snr with ddpm, sigma_sqrt and cosmap with flow.",
        "latent { channels = 8, patch = 2, objective = flow, times { kind = beta, mean = 0 } }",
    ),
)
