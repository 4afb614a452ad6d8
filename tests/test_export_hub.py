"""A folder for transformers, as those use it who have not motc: loaded, trained, generated with, saved."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import motc
from motc.cli import main
from motc.driver import check_spec, final_ir, spec_text
from motc.exporting import hub_folder
from motc.exporting.card import model_card
from motc.exporting.deviation import NotTheSame
from motc.exporting.given import network_of
from motc.exporting.hub_folder import save_shards, write_hub_folder
from motc.exporting.hugging_face import code_files, config_json
from motc.source import SourceFile
from tests.building import draw_parameters

transformers = pytest.importorskip("transformers", minversion="5.0")

SPEC = """
model small {
  width = 16, layers = 2
  VOCABULARIES
  attention { heads = 4, kv_heads = 2, MASK }
  ffn { hidden = 24 }
  untie attention, ffn, norm
}
"""
OWN = "modality text { vocab = 19 }, image { vocab = 13 }"
SHARED = "vocab = 32, modality text, image"
TEXT = torch.tensor([[1, 2, 3, 4, 5], [9, 8, 7, 6, 5]])
MIXED = torch.tensor([[1, 2, 20, 31, 3], [22, 4, 5, 6, 30]])  # images from 19 on
PADDED = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]])


@pytest.fixture(scope="module", autouse=True)
def modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where transformers puts the code that it runs."""
    with pytest.MonkeyPatch.context() as patch:
        folder = str(tmp_path_factory.mktemp("modules"))
        patch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", folder)
        patch.syspath_prepend(folder)
        yield


def written(folder: Path, vocabularies: str = OWN, mask: str = "mask = causal") -> tuple[Any, Any]:
    """The model, and what transformers loads of a folder with it, which is written without asking it."""
    spec = SPEC.replace("VOCABULARIES", vocabularies).replace("MASK", mask)
    checked = check_spec(SourceFile("small.mot", spec))
    model, text = final_ir(checked), spec_text(checked)
    network: Any = motc.load(text, seed=3)
    draw_parameters(network)
    for name, code in code_files(model, text).items():
        (folder / name).write_text(code)
    (folder / "config.json").write_text(config_json(model, "float32", {}))
    save_shards(network.state_dict(), folder, {"format": "pt"})
    return network.eval(), loaded(folder)


def loaded(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    return written(tmp_path_factory.mktemp("small"))


@pytest.mark.compiled
def test_the_command_asks_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec, weights, out = tmp_path / "small.mot", tmp_path / "w.safetensors", tmp_path / "out" / "small"
    spec.write_text(SPEC.replace("VOCABULARIES", OWN).replace("MASK", "qk_norm = rms"))
    network: Any = motc.load(spec, seed=5, dtype="bfloat16")
    motc.save(network, weights)
    tokenizer = tmp_path / "tokenizer"
    tokenizer.mkdir()
    added = [{"id": 7, "content": "<end>"}]
    (tokenizer / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"<pad>": 0}}, "added_tokens": added}))
    (tokenizer / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<end>", "pad_token": "<pad>"}))
    drawn = {"do_sample": True, "temperature": 0.6, "repetition_penalty": 1.3, "eos_token_id": [7, 9]}
    (tokenizer / "generation_config.json").write_text(json.dumps({**drawn, "cache_implementation": "hybrid"}))
    arguments = ["export", str(spec), str(weights), "--to", "hf", str(out), "--tokenizer", str(tokenizer)]
    assert main([*arguments, "--license", "apache-2.0", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["ok"] and said["batches"] == 8 and said["logits"] < 1e-2
    config = json.loads((out / "config.json").read_text())
    assert (config["eos_token_id"], config["pad_token_id"], config["dtype"]) == (7, 0, "bfloat16")
    assert json.loads((out / "generation_config.json").read_text()) == {**drawn, "pad_token_id": 0}
    assert "license: apache-2.0" in (out / "README.md").read_text()
    again: Any = motc.load(weights=out, dtype="bfloat16")
    assert all(map(torch.equal, again.parameters(), network.parameters()))
    assert main(arguments) == 1
    assert "something is there already" in capsys.readouterr().err


def test_logits_and_loss(both: tuple[Any, Any]) -> None:
    ours, theirs = both
    modality_ids = (MIXED >= 19).long()
    ids = torch.where(MIXED >= 19, MIXED - 19, MIXED)
    expected, out = ours(ids, modality_ids).logits, theirs(MIXED, labels=MIXED)
    after = torch.cat([modality_ids[:, 1:], modality_ids[:, -1:]], dim=1)
    for name, (first, end), place in (("text", (0, 19), 0), ("image", (19, 32), 1)):
        said = out.logits[..., first:end]
        torch.testing.assert_close(said[after == place], expected[name][after == place], rtol=0, atol=1e-6)
        assert (said[after != place] == torch.finfo(said.dtype).min).all()
    assert out.loss.item() == pytest.approx(ours.loss(ids, modality_ids).total.item(), abs=1e-6)
    plain = torch.nn.functional.cross_entropy(out.logits[:, :-1].flatten(0, 1), MIXED[:, 1:].flatten())
    assert out.loss.item() == pytest.approx(plain.item(), abs=1e-6)
    assert theirs(TEXT, return_dict=False)[0].shape == (2, 5, 32)


def greedy(model: Any, ids: Tensor, **how: Any) -> Tensor:
    made: Tensor = model.generate(ids, do_sample=False, max_new_tokens=6, pad_token_id=0, **how)
    return made[:, ids.shape[1] :]


def test_generating(both: tuple[Any, Any]) -> None:
    ours, theirs = both
    expected = ours.generate(TEXT, PADDED - 1, max_new_tokens=6, temperature=0).input_ids
    assert torch.equal(greedy(theirs, TEXT, attention_mask=PADDED), expected)
    assert torch.equal(greedy(theirs, TEXT, attention_mask=PADDED, use_cache=False), expected)
    mixed = greedy(theirs, MIXED)
    assert (mixed[0] < 19).all() and (mixed[1] >= 19).all()  # each goes on in the modality of its last token
    beams = {"num_beams": 3, "attention_mask": PADDED, "num_return_sequences": 2}
    assert torch.equal(greedy(theirs, TEXT, **beams), greedy(theirs, TEXT, **beams, use_cache=False))
    assert torch.equal(greedy(theirs, TEXT[:1], prompt_lookup_num_tokens=2), greedy(theirs, TEXT[:1]))
    draws = []
    for cached in (True, False):
        torch.manual_seed(0)
        draws.append(theirs.generate(MIXED, do_sample=True, max_new_tokens=6, pad_token_id=0, use_cache=cached))
    assert torch.equal(*draws)


MASKS = ["window = 3", "mask { kind = prefix, prefix = image }", "mask { kind = causal, bidirectional = image }",
         "mask { kind = causal, bidirectional = image, delimiters = true }",
         "mask { kind = causal, sees { text = [text] } }", "sinks = true"]  # fmt: skip


@pytest.mark.parametrize("mask", MASKS)
def test_going_on_by_a_cache(mask: str, tmp_path: Path) -> None:
    ours, theirs = written(tmp_path, SHARED, mask)
    ids = torch.cat([MIXED.flip(1), TEXT, TEXT.flip(1)], dim=1)
    modality_ids = torch.cat([(MIXED.flip(1) >= 19).long(), torch.zeros(2, 10, dtype=torch.int64)], dim=1)
    real = torch.ones_like(ids)
    real[1, :2] = 0
    expected = ours(ids, modality_ids.where(real > 0, -1)).logits
    cache, logits = None, []
    for begin, end in ((0, 8), (8, 9), (9, 13), (13, 15)):
        given = {"attention_mask": real[:, :end], "modality_ids": modality_ids[:, :end]}
        out = theirs(ids[:, begin:end], past_key_values=cache, use_cache=True, **given)
        cache, logits = out.past_key_values, [*logits, out.logits]
    torch.testing.assert_close(torch.cat(logits, dim=1), expected, rtol=0, atol=2e-6)
    prompt = {"attention_mask": real[:, :8], "modality_ids": modality_ids[:, :8]}
    made = ours.generate(ids[:, :8], modality_ids[:, :8].where(real[:, :8] > 0, -1), max_new_tokens=6, temperature=0)
    assert torch.equal(greedy(theirs, ids[:, :8], **prompt), made.input_ids)


def test_what_would_be_seen_by_a_run_before_it_is_refused(tmp_path: Path) -> None:
    _, theirs = written(tmp_path, SHARED, "mask { kind = causal, bidirectional = image, delimiters = true }")
    ids, modality_ids = MIXED.flip(1), torch.tensor([[0, 0, 0, 0, 0], [0, 0, 1, -1, 0]])
    given = {"modality_ids": modality_ids[:, :4], "attention_mask": (modality_ids[:, :4] >= 0).long()}
    cache = theirs(ids[:, :4], use_cache=True, **given).past_key_values
    given = {"modality_ids": modality_ids, "attention_mask": (modality_ids >= 0).long()}
    with pytest.raises(ValueError, match="what comes after a run is seen by it"):
        theirs(ids[:, 4:], past_key_values=cache, use_cache=True, **given)


def test_ranges_say_which_ids_are_whose(tmp_path: Path) -> None:
    ours, theirs = written(tmp_path, SHARED)
    assert torch.equal(theirs(MIXED).logits, theirs(MIXED, modality_ids=torch.zeros_like(MIXED)).logits)
    config = json.loads((tmp_path / "config.json").read_text())
    config["token_ranges"]["image"] = [19, 32]
    (tmp_path / "config.json").write_text(json.dumps(config))
    torch.testing.assert_close(loaded(tmp_path)(MIXED).logits, ours(MIXED, (MIXED >= 19).long()).logits)
    config["token_ranges"]["picture"] = [0, 3]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="token_ranges have picture, and the modalities are text, image"):
        loaded(tmp_path)


def test_saved_and_loaded_again(both: tuple[Any, Any], tmp_path: Path) -> None:
    ours, theirs = both
    theirs.save_pretrained(tmp_path / "again", max_shard_size="10KB")
    assert len(list((tmp_path / "again").glob("*.safetensors"))) > 1
    again = loaded(tmp_path / "again")
    assert torch.equal(again(MIXED).logits, theirs(MIXED).logits)
    motc.save(again.model, tmp_path / "back.safetensors")
    back = motc.load(weights=tmp_path / "back.safetensors")
    assert all(map(torch.equal, back.parameters(), ours.parameters()))


def test_activations_are_made_again(both: tuple[Any, Any]) -> None:
    theirs = both[1]
    calls: list[int] = []
    hook = theirs.model.layers[0].attention.register_forward_hook(lambda *_: calls.append(1))
    gradients = []
    theirs.train()
    for enabled in (False, True):
        if enabled:
            theirs.activation_checkpointing_enable()
        theirs.zero_grad()
        theirs(MIXED, labels=MIXED).loss.backward()
        gradients.append([parameter.grad.clone() for parameter in theirs.parameters()])
        assert theirs.is_activation_checkpointing == enabled
    theirs.activation_checkpointing_disable()
    hook.remove()
    theirs.eval()
    assert len(calls) == 3 and all(map(torch.equal, *gradients))


def test_initialised_anew_by_torchs_generator(both: tuple[Any, Any]) -> None:
    config, each = both[1].config, []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        each.append(type(both[1])(config).model.layers[0].ffn.up.text.weight)
    assert torch.equal(each[0], each[1]) and not torch.equal(each[0], each[2])
    assert each[0].std().item() == pytest.approx(0.02, rel=0.2)


def test_trained_by_the_trainer(both: tuple[Any, Any], tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    model = loaded(Path(both[1].config._name_or_path))
    data = [{"input_ids": ids, "labels": ids} for ids in MIXED.repeat(4, 1)]
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), max_steps=10, per_device_train_batch_size=2, learning_rate=0.02, report_to=[],
        save_strategy="no", use_cpu=True, gradient_checkpointing=True, disable_tqdm=True,
    )  # fmt: skip
    before = model(MIXED, labels=MIXED).loss
    trainer = transformers.Trainer(model, arguments, train_dataset=data, eval_dataset=data[:2])
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < before - 0.5


UNEQUAL = torch.where(torch.arange(5) < torch.tensor([[5], [2], [5], [4]]), MIXED.repeat(2, 1), -100)
"""Labels of two batches, of 5 and of 7 targets."""


def test_parts_of_a_batch_add_up_to_its_mean(both: tuple[Any, Any], tmp_path: Path) -> None:
    theirs, ids, count = both[1], MIXED.repeat(2, 1), int((UNEQUAL[:, 1:] != -100).sum())
    whole = theirs(ids, labels=UNEQUAL).loss
    parts = [theirs(ids[at], labels=UNEQUAL[at], num_items_in_batch=count).loss for at in ([0, 1], [2, 3])]
    torch.testing.assert_close(sum(parts), whole, rtol=0, atol=1e-6)
    assert abs(sum(parts) - sum(theirs(ids[at], labels=UNEQUAL[at]).loss for at in ([0, 1], [2, 3])) / 2) > 1e-3
    latents = "modality text { vocab = 19 }, image { latent { channels = 2, patch = 1 } }"
    denoising = written(tmp_path, latents)[1]
    assert theirs.accepts_loss_kwargs and not denoising.accepts_loss_kwargs
    with pytest.raises(ValueError, match="counts tokens, and latents have a loss too"):
        denoising(TEXT, labels=TEXT, num_items_in_batch=8)


def test_the_trainer_adds_up_gradients_to_those_of_one_batch(both: tuple[Any, Any], tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    data = [{"input_ids": ids, "labels": labels} for ids, labels in zip(MIXED.repeat(2, 1), UNEQUAL, strict=True)]
    after = []
    for steps in (1, 2):
        model = loaded(Path(both[1].config._name_or_path))
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path), max_steps=1, per_device_train_batch_size=4 // steps, report_to=[], optim="sgd",
            gradient_accumulation_steps=steps, learning_rate=1.0, lr_scheduler_type="constant", save_strategy="no",
            max_grad_norm=0.0, use_cpu=True, disable_tqdm=True, train_sampling_strategy="sequential",
        )  # fmt: skip
        transformers.Trainer(model, arguments, train_dataset=data).train()
        after.append({name: each.detach() for name, each in model.named_parameters()})
    before = dict(both[1].named_parameters())
    assert any((each - before[name]).abs().max() > 1e-3 for name, each in after[0].items())
    for name, each in after[0].items():
        torch.testing.assert_close(after[1][name], each, rtol=0, atol=1e-6, msg=name)


def test_adapted_by_peft(both: tuple[Any, Any], tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    folder = Path(both[1].config._name_or_path)
    adapted = peft.get_peft_model(
        loaded(folder), peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q.image", "v.image"])
    )
    before = {name: each.detach().clone() for name, each in adapted.named_parameters() if "lora" not in name}
    optimizer = torch.optim.SGD(adapted.parameters(), lr=1.0)
    for _ in range(2):
        adapted(input_ids=MIXED, labels=MIXED).loss.backward()
        optimizer.step()
    after = dict(adapted.named_parameters())
    assert len(before) < len(after) and all(torch.equal(each, after[name]) for name, each in before.items())
    adapted.save_pretrained(tmp_path)
    again = peft.PeftModel.from_pretrained(loaded(folder), tmp_path)
    adapted.eval()
    assert torch.equal(again(MIXED).logits, adapted(MIXED).logits)
    assert not torch.equal(again(MIXED).logits, both[1](MIXED).logits)
    assert again.generate(input_ids=MIXED, max_new_tokens=2, pad_token_id=0).shape == (2, 7)


def test_what_it_cannot_do_is_refused_by_name(both: tuple[Any, Any], tmp_path: Path) -> None:
    theirs = both[1]
    refused: list[tuple[str, dict[str, Any]]] = [
        ("inputs_embeds is nothing", {"inputs_embeds": torch.zeros(2, 5, 16)}),
        ("output_attentions is nothing", {"output_attentions": True}),
        ("which is in no range", {"input_ids": MIXED + 40}),
        (r"attention_mask is \[2, 4\], and must be \[2, 5\]", {"attention_mask": PADDED[:, 1:]}),
    ]
    for message, given in refused:
        with pytest.raises(ValueError, match=message):
            theirs(**{"input_ids": MIXED, **given})
    with pytest.raises(ValueError, match="a static cache is of one size"):
        greedy(theirs, TEXT, attention_mask=PADDED, cache_implementation="static")
    with pytest.raises(ValueError, match="as large as the spec says"):
        theirs.resize_token_embeddings(40)
    full = written(tmp_path, mask="mask = full")[1]
    assert not full.can_generate() and torch.isfinite(full(MIXED, labels=MIXED).loss)
    with pytest.raises(ValueError, match="use_cache=False"):
        full(MIXED, use_cache=True)
    config = full.config
    config.semantic_hash = "1-0"
    with pytest.raises(ValueError, match="a model is changed by its spec"):
        type(full)(config)


def test_an_older_transformers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = check_spec(SourceFile("small.mot", SPEC.replace("VOCABULARIES", OWN).replace("MASK", "")))
    code = code_files(final_ir(checked), spec_text(checked))["configuration_small.py"]
    exec(code, {"__name__": "of_5"})
    monkeypatch.setitem(vars(sys.modules["transformers"]), "__version__", "4.57.6")
    with pytest.raises(ImportError, match=r"small needs transformers 5 or later, and this is 4\.57\.6"):
        exec(code, {"__name__": "of_4"})


def test_what_does_not_answer_alike_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = check_spec(SourceFile("small.mot", SPEC.replace("VOCABULARIES", OWN).replace("MASK", "")))
    network: Any = motc.load(spec_text(checked))

    def compare(*_: Any) -> Any:
        raise NotTheSame("logits differ")

    monkeypatch.setattr(hub_folder, "compare", compare)
    with pytest.raises(NotTheSame):
        write_hub_folder(final_ir(checked), spec_text(checked), network, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_weights_keep_their_widest_dtype(tmp_path: Path) -> None:
    text = SPEC.replace("VOCABULARIES", OWN).replace("MASK", "")
    checked = check_spec(SourceFile("small.mot", text))
    motc.save(motc.load(text, dtype="bfloat16"), tmp_path / "w.safetensors")
    network = network_of(final_ir(checked), spec_text(checked), tmp_path / "w.safetensors")
    assert {parameter.dtype for parameter in network.parameters()} == {torch.bfloat16}


def test_the_card_says_what_it_is_and_costs() -> None:
    checked = check_spec(SourceFile("small.mot", SPEC.replace("VOCABULARIES", OWN).replace("MASK", "")))
    card = model_card(final_ir(checked), spec_text(checked), "float32", None)
    assert "license: unknown" in card and "modality image { vocab = 13 }" in card
    assert "| image | image | ids 19..31 |" in card
