"""A generated model as transformers has language models: what a class of its, mixed with PreTrainedModel, does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .joint_vocabulary import JointVocabulary
from .kept_cache import KeptCache
from .last_tokens import last_tokens

GIVEN = ("features", "latents", "timesteps", "noise", "clean")


class CausalLM:
    """To be mixed with transformers' PreTrainedModel, before it; `model` is the generated model.

    Ids are of one vocabulary of all modalities: `token_ranges` of the configuration say which are whose.
    """

    generated: ClassVar[type[nn.Module]]
    output: ClassVar[Callable[..., Any]]  # transformers' CausalLMOutputWithPast
    new_cache: ClassVar[Callable[..., Any]]  # its DynamicCache
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    gradient_checkpointing = False
    config: Any
    training: bool

    def __init__(self, config: Any, *arguments: Any, **others: Any) -> None:
        super().__init__(config, *arguments, **others)  # type: ignore[call-arg]
        self.model: Any = self.generated()
        if config.semantic_hash != self.model.semantic_hash:
            raise ValueError(
                f"the configuration is of {config.semantic_hash}, and model.py of {self.model.semantic_hash}: a model "
                "is changed by its spec, from which both are written"
            )
        self.vocabulary = JointVocabulary(self.model, config.token_ranges)
        self.post_init()  # type: ignore[attr-defined]

    @property
    def accepts_loss_kwargs(self) -> bool:
        """Whether Trainer says how many targets there are in all whose gradients it adds up; not of latents."""
        return not hasattr(self.model, "objectives")

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        modality_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
        weights: Tensor | None = None,
        features: Mapping[str, Tensor] | None = None,
        latents: Mapping[str, Tensor] | None = None,
        timesteps: Mapping[str, Tensor] | None = None,
        noise: Mapping[str, Tensor] | None = None,
        clean: Mapping[str, Tensor] | None = None,
        num_items_in_batch: Tensor | int | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Logits [B, S, V] of the joint vocabulary, and with `labels` the loss; while training with labels, it alone.

        Ids int64 [B, S]. `attention_mask` is 0 at padding, and with `past_key_values` [B, T], of all tokens so far, as
        `modality_ids` then are; not given, these follow from the ids by the configuration's ranges. `labels` are not
        shifted, and -100 is no target; with `num_items_in_batch`, of all batches whose losses are added up, the loss is
        this one's share of their mean. `document_ids`, `weights`, `features`, `latents`, `timesteps`, `noise` and
        `clean` are as the generated model takes them. Raises ValueError for what it cannot do.
        """
        refused = {
            "inputs_embeds": inputs_embeds,
            "output_attentions": output_attentions,
            "output_hidden_states": output_hidden_states,
        }
        for name, value in refused.items():
            if value is not None and value is not False:
                raise ValueError(f"{name} is nothing that this model takes: see its README.md")
        if input_ids is None:
            raise ValueError("input_ids are needed")
        if getattr(past_key_values, "is_compileable", False):  # attention_mask has another shape with it
            raise ValueError("a static cache is of one size, and this model's grows: leave cache_implementation out")
        past = 0 if past_key_values is None else int(past_key_values.get_seq_length())
        known = self.known(input_ids, attention_mask, modality_ids, past)
        present = known[:, past:]
        ids = self.vocabulary.local(input_ids, present)
        given = {"features": features, "latents": latents, "timesteps": timesteps, "noise": noise, "clean": clean}
        given = {name: value for name, value in given.items() if value is not None}
        loss, logits = None, None
        if labels is not None:
            targets = self.vocabulary.local(labels, present)
            batch = {"position_ids": position_ids, "document_ids": document_ids, **given}
            losses = self.model(ids, present, labels=targets, weights=weights, **batch)
            loss = losses.total if num_items_in_batch is None else self.share(losses, num_items_in_batch)
        if labels is None or not self.training:
            given.pop("noise", None)
            if past_key_values is None and self.caches(use_cache, labels, given):
                past_key_values = self.new_cache()
            if past_key_values is None:
                batch = {"position_ids": position_ids, "document_ids": document_ids, **given}
                logits = self.model(ids, present, **batch).logits
            else:
                if document_ids is not None:
                    raise ValueError("packed documents have no cache: use_cache=False")
                logits = self.continued(ids, known, position_ids, past_key_values, past, logits_to_keep, given)
            logits = self.vocabulary.joined(logits, present[:, -logits_of(logits) :])
            if isinstance(logits_to_keep, Tensor):
                logits = logits[:, logits_to_keep]
            elif logits_to_keep:
                logits = logits[:, -logits_to_keep:]
        out = self.output(loss=loss, logits=logits, past_key_values=past_key_values)
        return out if return_dict is not False else out.to_tuple()

    def share(self, losses: Any, items: Tensor | int) -> Tensor:
        """What a batch adds to the mean over so many targets, of which it has some; experts' balance counts as these.

        Raises ValueError for a model with latents, whose losses are means over something else.
        """
        if not self.accepts_loss_kwargs:
            raise ValueError("num_items_in_batch counts tokens, and latents have a loss too: scale the batch's loss")
        own = sum(losses.weights[name] for name in self.model.vocabularies)
        share: Tensor = losses.total * own / items
        return share

    def caches(self, use_cache: bool | None, labels: Tensor | None, given: Mapping[str, Any]) -> bool:
        """Whether a cache is made where none is given. Raises ValueError where one is asked for and there is none."""
        can = hasattr(self.model, "generate") and not hasattr(self.model, "last_block")
        if use_cache and not can:
            raise ValueError("what earlier tokens see may change in this model by later ones: use_cache=False")
        usual = can and not self.training and labels is None and "latents" not in given
        return usual and getattr(self.config, "use_cache", True) if use_cache is None else use_cache

    def known(self, ids: Tensor, attention_mask: Tensor | None, modality_ids: Tensor | None, past: int) -> Tensor:
        """The modalities of all tokens so far, int64 [B, T], -1 at padding."""
        total = past + ids.shape[1]
        if attention_mask is not None and attention_mask.shape != (ids.shape[0], total):
            raise ValueError(
                f"attention_mask is {[*attention_mask.shape]}, and must be {[ids.shape[0], total]}: all tokens so far"
            )
        known = modality_ids
        if known is None:
            # Whoever is only behind all others does not ask what they are.
            plain = all(mask.kernel == "causal" for mask in self.model.masks)
            if past and not plain:
                raise ValueError("with past_key_values, modality_ids of all tokens so far are needed: [B, T]")
            real = ids if attention_mask is None else torch.where(attention_mask[:, past:] > 0, ids, self.some_id())
            known = torch.cat([ids.new_zeros(ids.shape[0], past), self.vocabulary.modality_ids(real)], dim=1)
        if known.shape != (ids.shape[0], total):
            raise ValueError(f"modality_ids are {[*known.shape]}, and must be {[ids.shape[0], total]}")
        return known if attention_mask is None else known.masked_fill(attention_mask == 0, -1)

    def some_id(self) -> int:
        """An id that is in a range, to stand for what padding has."""
        return next((first for first, _ in self.vocabulary.ranges.values()), 0)

    def continued(
        self,
        ids: Tensor,
        known: Tensor,
        position_ids: Tensor | None,
        kept: Any,
        past: int,
        logits_to_keep: int | Tensor,
        given: Mapping[str, Any],
    ) -> Any:
        """The logits of tokens after those that `kept` has; of a prompt's last ones alone where no others are kept."""
        cache, count = KeptCache(kept, self.model), ids.shape[1]
        if not past:
            layout = cache.prompt(self.model, known)
            if isinstance(logits_to_keep, int) and logits_to_keep == 1:
                cache.last = last_tokens(self.model, known, [count] * len(known))
            return self.model(ids, known, layout=layout, cache=cache, position_ids=position_ids, **given).logits
        if position_ids is None:
            position_ids = torch.arange(past, past + count, device=ids.device)[None]
        layout = cache.next(self.model, known, position_ids.expand(len(ids), *position_ids.shape[1:]))
        ids = torch.where(known[:, past:] >= 0, ids, 0)
        return self.model(ids, layout.modality_ids, layout=layout, cache=cache, **given).logits

    def initialize_weights(self) -> None:
        """Fill the parameters that no checkpoint has filled, as the generated model does, by torch's own generator."""
        parameters = dict(self.model.named_parameters())
        loaded = {
            name: each.detach().clone()
            for name, each in parameters.items()
            if getattr(each, "_is_hf_initialized", False)
        }
        if len(loaded) < len(parameters):
            self.model.init_weights(int(torch.randint(2**31, ())))
            with torch.no_grad():
                for name, values in loaded.items():
                    parameters[name].copy_(values)

    def get_input_embeddings(self) -> nn.Module:
        """The table of embeddings, of own vocabularies or tables the first modality's."""
        table = self.model.embedding
        first: nn.Module = next(iter(table.values())) if isinstance(table, nn.ModuleDict) else table
        return first

    def get_output_embeddings(self) -> nn.Module | None:
        """The head, where all modalities have one: what adapters of all linear maps leave out."""
        head = getattr(self.model, "head", None)
        return None if isinstance(head, nn.ModuleDict) else head

    def resize_token_embeddings(self, *_: Any, **__: Any) -> Any:
        """Raises ValueError: how large a vocabulary is says the spec."""
        raise ValueError("a vocabulary is as large as the spec says: change it there and export anew")

    def _set_gradient_checkpointing(
        self, enable: bool = True, gradient_checkpointing_func: Callable[..., Any] = checkpoint, every_n_layers: int = 1
    ) -> None:
        """What transformers calls to have layers made again in the backward, or not any more."""
        self.gradient_checkpointing = enable
        for number, layer in enumerate(self.model.layers):
            layer.__dict__.pop("forward", None)
            if enable and number % every_n_layers == 0:
                layer.forward = partial(made_again, layer, gradient_checkpointing_func)


class GeneratingCausalLM(CausalLM):
    """One that transformers' GenerationMixin goes on with, token by token."""

    def prepare_inputs_for_generation(self, input_ids: Tensor, *arguments: Any, **kwargs: Any) -> dict[str, Any]:
        """What one step of transformers' `generate` calls `forward` with, from all ids so far [B, T]."""
        prompt = kwargs.pop("modality_ids", None)
        inputs: dict[str, Any] = super().prepare_inputs_for_generation(input_ids, *arguments, **kwargs)  # type: ignore[misc]
        attention_mask = kwargs.get("attention_mask")
        known = self.known(input_ids, attention_mask, None, 0) if prompt is None else prompt
        if known.shape[1] < input_ids.shape[1]:  # what was generated is of the modality that its ids say
            made = self.vocabulary.modality_ids(input_ids[:, known.shape[1] :])
            known = torch.cat([known, made], dim=1)
        if self.model.position_rules:
            self.check_plain(known)
            if inputs.get("position_ids") is not None:  # transformers' begin at 0
                inputs["position_ids"] = inputs["position_ids"] + self.model.first_position
        kept = inputs.get("past_key_values")
        if kept is not None and kept.get_seq_length():
            inputs = {name: value for name, value in inputs.items() if name not in GIVEN}
        return {**inputs, "modality_ids": known}

    def check_plain(self, known: Tensor) -> None:
        """Raise ValueError where tokens of these modalities have other positions than one after the other."""
        for each in torch.unique(known[known >= 0]).tolist():
            rule = self.model.position_rules[each]
            if rule != type(rule)():
                raise ValueError(
                    f"{self.model.modalities[each]} is placed by a rule, which transformers' generate does not know: "
                    "call generate of the generated model, which is `.model`"
                )


def logits_of(logits: Any) -> int:
    """Of how many tokens of each row there are logits."""
    some = logits if isinstance(logits, Tensor) else next(iter(logits.values()))
    return int(some.shape[1])


def made_again(layer: nn.Module, function: Callable[..., Any], *arguments: Any, **kwargs: Any) -> Any:
    """A layer's forward whose activations, while training, are made again in the backward.

    Not as reentrant checkpoints are: these see no tensors in lists, as the stream is where towers differ in width.
    """
    forward = partial(type(layer).forward, layer, **kwargs)
    return function(forward, *arguments, use_reentrant=False) if layer.training else forward(*arguments)
