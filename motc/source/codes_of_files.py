"""What the codes mean that are of weights, configurations and map files; the others are in `codes.py`."""

from __future__ import annotations

OF_FILES = (
    (
        "MOT100",
        "what should hold weights does not",
        "Weights are a safetensors file, or several with their index. The header must say of each tensor where its "
        "numbers are, and each byte is of one; an index names files of its own folder, which have the tensors that it "
        "says. Numbers are finite, and of floating point. A pickle is never opened, for it may run any program.",
        "motc show model.safetensors                    # a copy that was cut off",
    ),
    (
        "MOT101",
        "weights that do not fit the model",
        "There is one tensor for each parameter, of its name and shape, and none besides. The names are those of the "
        "model's state_dict.",
        'motc.load("model.mot", weights="other.safetensors")   # whose layers are others',
    ),
    (
        "MOT102",
        "weights of another model",
        "Weights have with them the spec that they are of and its semantic hash, which must be the model's: names and "
        "shapes may be the same where a mask, an eps or a theta is another. motc.load without a spec takes that one.",
        'motc.load("model.mot", set={"attention.rope.theta": 500}, weights="model.safetensors")',
    ),
    (
        "MOT103",
        "a configuration that motc does not read",
        "motc import knows some classes of transformers, and of each what the keys of its configuration mean. A key "
        "that it does not know, or a value that no spec says, is refused: a model that left it out would be another.",
        '"rope_scaling": {"rope_type": "longrope", ...}',
    ),
    (
        "MOT108",
        "a model that is not the class it should be written as",
        "`motc export --as` writes a model as a class of transformers, which has a configuration of a few keys and "
        "tensors under its own names. What the configuration says must be the model, to its hash. Any model can be "
        "written without `--as`, with code of its own.",
        "motc export qwen3.mot weights.safetensors --to hf DIR --as llama     # which has no norms of heads",
    ),
    (
        "MOT110",
        "a map file that says something else",
        "A map file has statements, one to a line: copy, slice, noise with a number, fresh, zero or unused, the groups "
        "of parameters it is for, and where wanted their layers and the source they are taken from.",
        "copy image.ffn in layers 0..11 from dense",
    ),
    (
        "MOT111",
        "a statement of a map file that means nothing",
        "The groups of a statement are parameters of the model, or for unused of a source; a source is one of --from, "
        "by the name given there or its model's.",
        "copy imag.*      # the tower is called image",
    ),
    (
        "MOT112",
        "a parameter that cannot begin so, or a tensor that is left over",
        "Each parameter of a new model begins as some statement of the map file says, which the sources must have, in "
        "the same shape unless it is a slice. Each tensor of a source is taken, or said to be unused.",
        "copy *           # and the dense model has no ends for images: fresh latents",
    ),
    (
        "MOT113",
        "parameters that are used otherwise than in their source",
        "A warning: a modality has another theta, eps, activation or scale than the model whose parameters it begins "
        "as, so that it computes something else with them.",
        "attention { rope { theta = 500 } }    # and copies of a model whose theta is 10000",
    ),
)
