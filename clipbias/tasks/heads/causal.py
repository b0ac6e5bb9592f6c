"""What heads share that put image vectors before the words of a causal language model."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from clipbias.errors import ClipbiasError, DataError, nearest
from clipbias.tasks.heads.base import Features, Head, HeadSetting, Prediction, TextBatch
from clipbias.tasks.heads.parts import check_answers, log_likelihoods, token_losses
from clipbias.tasks.heads.writing import Writing

TUNING = ("full", "lora", "frozen")
_AT_ONCE = 2048  # answers scored in one pass


class CausalHead(Head):
    """A causal language model that reads vectors made of the image, then a prompt, and goes on.

    A subclass makes the vectors (`visual`) with its module ``projector``.

    Parameters
    ----------
    setting : HeadSetting
    options : dict
        With ``language_model, tuning, rank, question_length, max_length``.
    config : transformers.PretrainedConfig
        Of the model from scratch, used when ``language_model`` is empty.

    Raises
    ------
    DataError
        A folder without a causal language model, an unknown ``tuning``, or a model from scratch that is not
        to be trained.
    """

    projector: nn.Module

    def __init__(self, setting: HeadSetting, options: dict[str, Any], name: str, config: Any) -> None:
        super().__init__(setting)
        if setting.task == "vqa" or setting.answers:
            check_answers(name, setting)
        path, tuning = options["language_model"], options["tuning"]
        if tuning not in TUNING:
            raise DataError(f"head {name!r}: tuning is {tuning!r}." + nearest(tuning, TUNING))
        if tuning != "full" and not path:
            raise DataError(
                f"head {name!r}: tuning {tuning!r} needs a pretrained language_model; one from scratch has to be "
                "trained in full."
            )
        self.options = options
        self.writing = Writing.of(setting, options)
        self.language: Any = _load(path, len(setting.vocabulary)) if path else _build(config)
        self.width: int = self.language.get_input_embeddings().embedding_dim
        if tuning != "full":
            self.language.requires_grad_(False)
        if tuning == "lora":
            _add_adapters(self.language, options["rank"])

    def visual(self, features: Features) -> Tensor:
        """Return the vectors that stand for the image, (B, P, width)."""
        raise NotImplementedError

    def losses(self, features: Features, texts: TextBatch) -> Tensor:
        """Return the mean negative log-likelihood per token of each row, (B,)."""
        self.check(features, texts)
        seen = self.visual(features)
        ids, mask, labels = self.writing.sequences(texts.questions, texts.targets, seen.device)
        return token_losses(self._logits(seen, ids, mask)[:, :-1], labels[:, 1:])

    @torch.no_grad()
    def predict(self, features: Features, texts: TextBatch, *, beams: int = 1) -> list[Prediction]:
        """Return what is written for each row, and its probability, the product over its tokens."""
        self.check(features, texts)
        seen, config = self.visual(features), self.writing.generation(beams)
        said = [""] * len(seen)
        for rows, prompt in self.writing.groups(texts.questions, seen.device):
            given = torch.cat([seen[rows], self._embed(prompt)], 1)
            found = self.language.generate(
                inputs_embeds=given, generation_config=config,
                attention_mask=torch.ones(given.shape[:2], dtype=torch.long, device=given.device),
            )  # fmt: skip
            for row, text in zip(rows.tolist(), self.setting.vocabulary.decode(found), strict=True):
                said[row] = text
        ids, mask, labels = self.writing.sequences(texts.questions, said, seen.device)
        logits = self._logits(seen, ids, mask)[:, :-1]
        scores = log_likelihoods(logits, labels[:, 1:]).exp().tolist()
        return [Prediction(text, score) for text, score in zip(said, scores, strict=True)]

    @torch.no_grad()
    def answer_probabilities(self, features: Features, texts: TextBatch) -> Tensor:
        """Return how probable it is that each answer of the list is written, (B, A); rows sum to at most 1.

        The prompt is read once; the answers go on from what the model keeps of it.

        Raises
        ------
        ClipbiasError
            There is no answer list.
        """
        answers = self.writing.answer_tokens if self.setting.answers else []
        if not answers:
            raise ClipbiasError(
                "this head was built without an answer list (captioning); only a VQA head has probabilities of answers."
            )
        self.check(features, texts)
        seen = self.visual(features)
        found = torch.zeros(len(seen), len(answers), device=seen.device)
        longest = max(map(len, answers))
        tokens = torch.tensor([a + [-100] * (longest - len(a)) for a in answers], device=seen.device)
        for rows, prompt in self.writing.groups(texts.questions, seen.device):
            step = max(1, _AT_ONCE // len(answers))
            for start in range(0, len(rows), step):
                some = slice(start, start + step)
                found[rows[some]] = self._rank(seen[rows[some]], prompt[some], tokens)
        return found / found.sum(1, keepdim=True).clamp(min=1)

    @torch.no_grad()
    def states(self, features: Features, texts: TextBatch) -> dict[str, Tensor]:
        """Return ``projector`` (mean of the image's vectors) and ``decoder.i`` (mean of image and prompt)."""
        self.check(features, texts)
        seen = self.visual(features)
        ids, mask = self.writing.prompts(texts.questions, seen.device)
        whole = torch.cat([mask.new_ones(seen.shape[:2]), mask], 1)
        found = self.language(
            inputs_embeds=torch.cat([seen, self._embed(ids)], 1), attention_mask=whole,
            output_hidden_states=True, use_cache=False,
        ).hidden_states  # fmt: skip
        share = (whole / whole.sum(1, keepdim=True))[..., None]
        layers = {f"decoder.{i}": (x.float() * share).sum(1) for i, x in enumerate(found[1:])}
        return {"projector": seen.float().mean(1), **layers}

    def _embed(self, ids: Tensor) -> Tensor:
        return self.language.get_input_embeddings()(ids)

    def _logits(self, seen: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the logits at the words, (B, T, V)."""
        whole = torch.cat([mask.new_ones(seen.shape[:2]), mask], 1)
        given = torch.cat([seen, self._embed(ids)], 1)
        return self.language(inputs_embeds=given, attention_mask=whole, use_cache=False).logits[
            :, seen.shape[1] :
        ]

    def _rank(self, seen: Tensor, prompt: Tensor, tokens: Tensor) -> Tensor:
        """Return the probability of each answer behind prompts of equal length, (b, A)."""
        given = torch.cat([seen, self._embed(prompt)], 1)
        whole = torch.ones(given.shape[:2], dtype=torch.long, device=given.device)
        read = self.language(inputs_embeds=given, attention_mask=whole, use_cache=True)
        first = read.logits[:, -1].float().log_softmax(-1)[:, tokens[:, 0]]
        if tokens.shape[1] == 1:
            return first.exp()
        n, count = len(seen), len(tokens)
        index = torch.arange(n, device=seen.device).repeat_interleave(count)
        ids = tokens.repeat(n, 1)
        words = ids.clamp(min=0)[:, :-1]
        logits = self.language(
            inputs_embeds=self._embed(words), past_key_values=_taken(read.past_key_values, index),
            attention_mask=torch.cat([whole[index], whole.new_ones(words.shape)], 1), use_cache=True,
        ).logits  # fmt: skip
        return (first + log_likelihoods(logits, ids[:, 1:]).view(n, count)).exp()


def _taken(past: Any, index: Tensor) -> Any:
    """Return what the model keeps, for the rows of ``index``."""
    if isinstance(past, tuple):
        return tuple(tuple(part[index] for part in layer) for layer in past)
    past = copy.deepcopy(past)
    past.batch_select_indices(index)
    return past


def _build(config: Any) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_config(config)


def _load(path: str, size: int) -> Any:
    from transformers import AutoModelForCausalLM

    try:
        language = AutoModelForCausalLM.from_pretrained(
            path, local_files_only=True, torch_dtype=torch.float32
        )
    except Exception as problem:  # OSError, ValueError, safetensors' own kind, ...
        raise DataError(f"{path} holds no causal language model: {str(problem).splitlines()[0]}") from problem
    if size > language.get_input_embeddings().num_embeddings:
        language.resize_token_embeddings(size, mean_resizing=False)
    return language


def _add_adapters(language: Any, rank: int) -> None:
    from peft import LoraConfig, inject_adapter_in_model
    from transformers.pytorch_utils import Conv1D

    # GPT-2 has its weights the other way round.
    turned = any(isinstance(module, Conv1D) for module in language.modules())
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM", fan_in_fan_out=turned
    )
    inject_adapter_in_model(config, language)
