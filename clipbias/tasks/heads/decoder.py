"""A text decoder that attends to the image: captions, and answers in words.

The decoder is transformers' ``BlipTextLMHeadModel``, built from a config, or loaded from a folder.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from clipbias.errors import ClipbiasError, DataError
from clipbias.tasks.heads.base import Features, Head, HeadSetting, Prediction, TextBatch, head
from clipbias.tasks.heads.parts import Look, check_answers, log_likelihoods, read_options, token_losses
from clipbias.tasks.heads.writing import Writing

OPTIONS = {
    "width": 128, "layers": 2, "heads": 4, "hidden": 256, "dropout": 0.1, "tokens": 16, "max_length": 24,
    "question_length": 24, "language_model": "",
}  # fmt: skip
_PACKED = 256  # tokens of candidate answers scored in one pass
_OUTPUT = {"cls.predictions.decoder.weight"}


@head("decoder", tasks=["vqa", "captioning"])
class BlipDecoder(Head):
    """BLIP's text decoder on the tower's projected features.

    A caption is written as ``[BOS] caption [EOS]``; an answer as ``[BOS] question [ANS] answer [EOS]``, of
    which only ``answer [EOS]`` counts for the loss.

    Options: ``width, layers, heads, hidden, dropout`` of a decoder from scratch; ``tokens`` (at most so many
    image tokens; 0: all); ``max_length`` of a caption or answer, ``question_length``; ``language_model``, a
    folder with a ``BlipTextLMHeadModel`` or a whole BLIP, whose text decoder is taken (then its own sizes
    hold, and the vocabulary is its tokenizer's).

    Raises
    ------
    DataError
        VQA without answers, an unknown option, or a folder that holds no such model.
    """

    def __init__(self, setting: HeadSetting) -> None:
        super().__init__(setting)
        if setting.task == "vqa":
            check_answers("decoder", setting)
        o = read_options("decoder", setting, OPTIONS)
        self.writing = Writing.of(setting, o)
        path = o["language_model"]
        self.text: Any = (
            _load(path, len(setting.vocabulary)) if path else _build(o, setting, self.writing.longest)
        )
        self.look = Look(setting, self.text.config.encoder_hidden_size, most=o["tokens"])

    def losses(self, features: Features, texts: TextBatch) -> Tensor:
        """Return the mean negative log-likelihood per token of each row, (B,)."""
        self.check(features, texts)
        ids, mask, labels = self.writing.sequences(texts.questions, texts.targets, self._device)
        return token_losses(self._logits(self.look(features), ids, mask)[:, :-1], labels[:, 1:])

    @torch.no_grad()
    def predict(self, features: Features, texts: TextBatch, *, beams: int = 1) -> list[Prediction]:
        """Return what is written for each row, and its probability, the product over its tokens."""
        self.check(features, texts)
        seen, config = self.look(features), self.writing.generation(beams)
        said = [""] * len(seen)
        for rows, prompt in self.writing.groups(texts.questions, self._device):
            found = self.text.generate(
                prompt, attention_mask=torch.ones_like(prompt), generation_config=config,
                encoder_hidden_states=seen[rows],
            )  # fmt: skip
            written = self.setting.vocabulary.decode(found[:, prompt.shape[1] :])
            for row, text in zip(rows.tolist(), written, strict=True):
                said[row] = text
        ids, mask, labels = self.writing.sequences(texts.questions, said, self._device)
        logits = self._logits(seen, ids, mask)[:, :-1]
        scores = log_likelihoods(logits, labels[:, 1:]).exp().tolist()
        return [Prediction(text, score) for text, score in zip(said, scores, strict=True)]

    @torch.no_grad()
    def answer_probabilities(self, features: Features, texts: TextBatch) -> Tensor:
        """Return how probable it is that each answer of the list is written, (B, A); rows sum to at most 1.

        All answers are scored at once: they stand one after the other behind the prompt, each seeing the
        prompt and its own words only.

        Raises
        ------
        ClipbiasError
            There is no answer list (captioning).
        """
        if not self.setting.answers:
            raise ClipbiasError(
                "this head was built without an answer list (captioning); only a VQA head has probabilities of answers."
            )
        self.check(features, texts)
        seen = self.look(features)
        ids, mask = self.writing.prompts(texts.questions, self._device)
        rows = torch.arange(len(ids), device=ids.device)
        last = self._logits(seen, ids, mask)[rows, mask.sum(1) - 1]
        first = last.float().log_softmax(-1)
        parts = [self._pack(block, first, seen, ids, mask) for block in self._blocks]
        found = torch.cat(parts, 1).exp()
        return found / found.sum(1, keepdim=True).clamp(min=1)

    @torch.no_grad()
    def states(self, features: Features, texts: TextBatch) -> dict[str, Tensor]:
        """Return ``projector`` (mean of the tokens) and ``decoder.i`` (each layer's mean of the prompt)."""
        self.check(features, texts)
        seen = self.look(features)
        ids, mask = self.writing.prompts(texts.questions, self._device)
        found = self.text.bert(
            ids, attention_mask=mask, encoder_hidden_states=seen, is_decoder=True, output_hidden_states=True
        ).hidden_states
        share = (mask / mask.sum(1, keepdim=True))[..., None]
        layers = {f"decoder.{i}": (x.float() * share).sum(1) for i, x in enumerate(found[1:])}
        return {"projector": seen.float().mean(1), **layers}

    @property
    def _device(self) -> torch.device:
        return self.look.tokens.weight.device

    @property
    def _blocks(self) -> list[list[list[int]]]:
        """The answers' tokens, in blocks of some tokens."""
        blocks: list[list[list[int]]] = []
        held = 0
        for row in self.writing.answer_tokens:
            if not blocks or held + len(row) > _PACKED:
                blocks.append([])
                held = 0
            blocks[-1].append(row)
            held += len(row)
        return blocks

    def _logits(self, seen: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        return self.text(ids, attention_mask=mask, encoder_hidden_states=seen, use_cache=False).logits

    def _pack(
        self, answers: list[list[int]], first: Tensor, seen: Tensor, ids: Tensor, mask: Tensor
    ) -> Tensor:
        """Return the log-probability of each answer of a block, (B, answers of the block)."""
        device = ids.device
        tokens = torch.tensor([token for answer in answers for token in answer], device=device)
        owner = torch.tensor([a for a, answer in enumerate(answers) for _ in answer], device=device)
        within = torch.tensor([i for answer in answers for i in range(len(answer))], device=device)
        n, prompt, packed = len(ids), ids.shape[1], len(tokens)
        own = (owner[:, None] == owner) & (within[:, None] >= within)
        behind = torch.cat([mask[:, None].expand(n, packed, prompt), own.long().expand(n, packed, packed)], 2)
        causal = torch.ones(prompt, prompt, device=device, dtype=torch.long).tril() * mask[:, None]
        before = torch.cat([causal, causal.new_zeros(n, prompt, packed)], 2)
        positions = torch.cat(
            [torch.arange(prompt, device=device).expand(n, prompt), mask.sum(1, keepdim=True) + within], 1
        )
        logits = self.text(
            torch.cat([ids, tokens.expand(n, packed)], 1), attention_mask=torch.cat([before, behind], 1),
            position_ids=positions, encoder_hidden_states=seen, use_cache=False,
        ).logits[:, prompt:]  # fmt: skip
        # The token at a place was foretold by the one before it; an answer's first by the prompt.
        follows = (
            logits[:, :-1].float().log_softmax(-1).gather(2, tokens[1:].expand(n, -1)[..., None])[..., 0]
        )
        each = torch.where(within == 0, first[:, tokens], torch.cat([follows.new_zeros(n, 1), follows], 1))
        return each.new_zeros(n, len(answers)).index_add_(1, owner, each)


def _build(o: dict[str, Any], setting: HeadSetting, longest: int) -> Any:
    from transformers.models.blip.configuration_blip import BlipTextConfig
    from transformers.models.blip.modeling_blip_text import BlipTextLMHeadModel

    v = setting.vocabulary
    config = BlipTextConfig(
        vocab_size=len(v), hidden_size=o["width"], encoder_hidden_size=o["width"], intermediate_size=o["hidden"],
        num_hidden_layers=o["layers"], num_attention_heads=o["heads"], projection_dim=o["width"],
        hidden_dropout_prob=o["dropout"], attention_probs_dropout_prob=0.0,
        max_position_embeddings=longest + 1, is_decoder=True,
        pad_token_id=v.pad_id, bos_token_id=v.bos_id, eos_token_id=v.eos_id, sep_token_id=v.sep_id,
    )  # fmt: skip
    return BlipTextLMHeadModel(config)


def _load(path: str, size: int) -> Any:
    from transformers import BlipForConditionalGeneration, PretrainedConfig
    from transformers.models.blip.modeling_blip_text import BlipTextLMHeadModel

    # A text decoder by itself is tied to its word vectors by default, also where the file has other output weights.
    given = {"local_files_only": True, "output_loading_info": True}
    try:
        found, _ = PretrainedConfig.get_config_dict(path, local_files_only=True)
        whole = found.get("model_type") == "blip"
        if whole:
            model, info = BlipForConditionalGeneration.from_pretrained(path, **given)
            text = model.text_decoder
        else:
            text, info = BlipTextLMHeadModel.from_pretrained(path, tie_word_embeddings=False, **given)
    except Exception as problem:  # OSError, ValueError, safetensors' own kind, ...
        raise DataError(f"{path} holds no BLIP text decoder: {str(problem).splitlines()[0]}") from problem
    missing = set(info["missing_keys"])
    if not whole and _OUTPUT & missing:
        text.cls.predictions.decoder.weight = text.get_input_embeddings().weight
        missing -= _OUTPUT
    if missing:
        raise DataError(
            f"{path} holds no BLIP text decoder: it lacks {len(missing)} tensors, first {min(missing)!r}."
        )
    if size > text.config.vocab_size:
        text.resize_token_embeddings(size, mean_resizing=False)
    return text
