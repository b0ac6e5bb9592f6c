"""LAVIS's BLIP captioner and VQA model with a CLIP tower for eyes, registered as ``clipbias_caption`` and ``clipbias_vqa``.

Importing this imports LAVIS.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from clipbias.errors import ClipbiasError
from clipbias.tasks.heads.base import Features, HeadSetting
from clipbias.tasks.heads.parts import Look
from clipbias.tasks.lavis.bridge import load, register
from clipbias.tasks.lavis.words import LavisTokenizer

if TYPE_CHECKING:
    from clipbias.tasks.vision import Tower

_lavis: Any = load()
# Numbers in the largest tensor of logits that scoring answers makes (256 MB in float32).
_LOGITS = 2**26
ARCH = {"captioning": "clipbias_caption", "vqa": "clipbias_vqa"}


@dataclass(frozen=True)
class ModelConfig:
    """What a model is built from; stands where LAVIS has the ``model`` part of a YAML file.

    Attributes
    ----------
    arch : str
        Name in LAVIS's registry.
    tokenizer : LavisTokenizer
    pooled_width, token_width : int
        Of the tower's features.
    tower : Tower or None
        None: the model is given :class:`Seen` instead of images.
    tokens : int
        The most image tokens that the text sees, besides the pooled one; 0 for all.
    width, layers, heads : int
        Of the text transformers; the defaults are small enough for a CPU.
    dropout : float
    max_length : int
        Tokens of a caption or question, marks included.
    """

    arch: str
    tokenizer: LavisTokenizer
    pooled_width: int
    token_width: int
    tower: Tower | None = None
    tokens: int = 0
    width: int = 128
    layers: int = 2
    heads: int = 4
    dropout: float = 0.1
    max_length: int = 40

    def bert(self, **more: Any) -> Any:
        """Return the configuration of one text transformer."""
        if self.width % self.heads:
            raise ClipbiasError(f"width {self.width} cannot be divided among {self.heads} heads.")
        return _lavis.BertConfig(
            vocab_size=len(self.tokenizer), hidden_size=self.width, num_hidden_layers=self.layers,
            num_attention_heads=self.heads, intermediate_size=4 * self.width, hidden_dropout_prob=self.dropout,
            attention_probs_dropout_prob=self.dropout, pad_token_id=self.tokenizer.pad_token_id,
            bos_token_id=self.tokenizer.bos_token_id, eos_token_id=self.tokenizer.sep_token_id,
            add_cross_attention=True, add_type_embeddings=False, encoder_width=self.width, **more,
        )  # fmt: skip


class Seen(Features):
    """Features where LAVIS expects a batch of images: it asks for their number."""

    def size(self, dim: int) -> int:
        """Return the number of images (``dim`` 0)."""
        return self.tokens.size(dim)

    def __getitem__(self, rows: slice) -> Seen:
        return Seen(self.pooled[rows], self.tokens[rows])


class TowerEncoder(_lavis.BaseEncoder):  # type: ignore[misc]
    """A CLIP tower as LAVIS's visual encoder, projected to the width of the text side.

    The projection makes the number of trained parameters nearly the same for every CLIP. The pooled embedding stands
    before the tokens, where LAVIS's own encoder has its class token.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        sizes = HeadSetting("", config.pooled_width, config.token_width, config.tokenizer.vocabulary)
        self.look = Look(sizes, config.width, most=config.tokens)
        self.tower = config.tower

    def forward_features(self, samples: Any, **unused: Any) -> Tensor:
        """Return (B, 1 + N, width): of preprocessed images if there is a tower, else of :class:`Seen`."""
        return self.look(samples if self.tower is None else self.tower(samples))


class TowerCaption(_lavis.BlipCaption):  # type: ignore[misc]
    """LAVIS's ``BlipCaption`` on a CLIP tower."""

    def __init__(self, config: ModelConfig) -> None:
        # BlipCaption asks for the tokenizer inside its own __init__.
        self.__dict__["_tokenizer"] = config.tokenizer
        super().__init__(
            TowerEncoder(config), _lavis.TextDecoder(config=config.bert()), prompt="",
            max_txt_len=config.max_length,
        )  # fmt: skip

    def init_tokenizer(self) -> LavisTokenizer:
        """Return the local tokenizer, where LAVIS would fetch BERT's."""
        return self.__dict__["_tokenizer"]

    @classmethod
    def from_config(cls, cfg: ModelConfig) -> TowerCaption:
        """Build the model; LAVIS's tasks call this."""
        return cls(cfg)

    def losses(self, samples: dict) -> Tensor:
        """Return LAVIS's loss of each caption, (B,): the mean over its tokens, with its label smoothing."""
        image = self.forward_encoder(samples)
        tokens = _tokens(self, samples["text_input"], self.max_txt_len)
        there = tokens.attention_mask.bool()
        output = self.text_decoder(
            tokens.input_ids, attention_mask=tokens.attention_mask, encoder_hidden_states=image,
            labels=tokens.input_ids.masked_fill(~there, -100), reduction="none", return_dict=True,
        )  # fmt: skip
        return output.loss / there[:, 1:].sum(1)

    def log_likelihood(self, samples: dict, texts: Sequence[str]) -> Tensor:
        """Return the log-probability of a text for each image, (B,)."""
        image = self.forward_encoder(samples)
        return _log_likelihood(self, _tokens(self, texts, self.max_txt_len), image, None)

    def states(self, samples: dict) -> dict[str, Tensor]:
        """Return (B, p) per layer: the projected image, and the decoder as it is about to say the first word."""
        image = self.forward_encoder(samples)
        return {"projector": image.mean(1), **_first_word(self, image, None)}


class TowerVQA(_lavis.BlipVQA):  # type: ignore[misc]
    """LAVIS's ``BlipVQA`` on a CLIP tower."""

    def __init__(self, config: ModelConfig) -> None:
        self.__dict__["_tokenizer"] = config.tokenizer
        super().__init__(
            TowerEncoder(config), _lavis.TextEncoder(config=config.bert(), add_pooling_layer=False),
            _lavis.TextDecoder(config=config.bert()), max_txt_len=config.max_length,
        )  # fmt: skip

    def init_tokenizer(self) -> LavisTokenizer:
        """Return the local tokenizer, where LAVIS would fetch BERT's."""
        return self.__dict__["_tokenizer"]

    @classmethod
    def from_config(cls, cfg: ModelConfig) -> TowerVQA:
        """Build the model; LAVIS's tasks call this."""
        return cls(cfg)

    def losses(self, samples: dict) -> Tensor:
        """Return LAVIS's loss of each question that has one answer, (B,): the sum over the answer's tokens."""
        encoded, _ = self.forward_encoder(samples)
        _, output, _ = self.forward_decoder(samples, encoded)
        return output.loss

    def _generate_answers(
        self, samples: dict, num_beams: int = 3, max_length: int = 10, min_length: int = 1
    ) -> list[str]:
        # LAVIS lets the decoder look at the padding of the questions here, though neither in training nor in ranking:
        # the answer would depend on which other questions are in the batch.
        encoded, _ = self.forward_encoder(samples)
        states = encoded.last_hidden_state
        rows = self.text_decoder.generate(
            input_ids=torch.full((len(states), 1), self.tokenizer.bos_token_id, device=states.device),
            max_length=max_length, min_length=min_length, num_beams=num_beams,
            eos_token_id=self.tokenizer.sep_token_id, pad_token_id=self.tokenizer.pad_token_id,
            encoder_hidden_states=states.repeat_interleave(num_beams, 0),
            encoder_attention_mask=samples["tokenized_text"].attention_mask.repeat_interleave(num_beams, 0),
        )  # fmt: skip
        return self.tokenizer.batch_decode(rows)

    def rank(self, samples: dict, answers: Sequence[str], *, candidates: int = 128) -> list[str]:
        """Return LAVIS's choice from a list of answers, in pieces that fit into memory."""
        candidates = min(candidates, len(answers))
        length = _tokens(self, answers, None).input_ids.shape[1]
        size = max(1, _LOGITS // (candidates * length * len(self.tokenizer)))
        found: list[str] = []
        for start in range(0, len(samples["text_input"]), size):
            piece = {
                key: value[start : start + size]
                for key, value in samples.items()
                if key in ("image", "text_input")
            }
            found += self.predict_answers(
                piece, inference_method="rank", answer_list=list(answers), num_ans_candidates=candidates
            )
        return found

    def log_likelihood(self, samples: dict, texts: Sequence[str]) -> Tensor:
        """Return the log-probability of an answer for each question, (B,)."""
        encoded, _ = self.forward_encoder(samples)
        mask = samples["tokenized_text"].attention_mask
        return _log_likelihood(self, _tokens(self, texts, None), encoded.last_hidden_state, mask)

    def answer_log_likelihoods(self, samples: dict, answers: Sequence[str]) -> Tensor:
        """Return the log-probability of every answer of a list for each question, (B, A)."""
        encoded, _ = self.forward_encoder(samples)
        states, mask = encoded.last_hidden_state, samples["tokenized_text"].attention_mask
        rows = len(states)
        length = _tokens(self, answers, None).input_ids.shape[1]
        size = max(1, _LOGITS // (rows * length * len(self.tokenizer)))
        parts = []
        for some in _pieces(answers, size):
            tokens = _tokens(self, [answer for _ in range(rows) for answer in some], None)
            seen = states.repeat_interleave(len(some), 0), mask.repeat_interleave(len(some), 0)
            parts.append(_log_likelihood(self, tokens, *seen).view(rows, len(some)))
        return torch.cat(parts, 1)

    def states(self, samples: dict) -> dict[str, Tensor]:
        """Return (B, p) per layer: projected image, question with image (means over tokens), decoder at the first word."""
        image = self.visual_encoder.forward_features(samples["image"])
        tokens = _tokens(self, samples["text_input"], self.max_txt_len)
        tokens.input_ids[:, 0] = self.tokenizer.enc_token_id
        output = self.text_encoder(
            tokens.input_ids, attention_mask=tokens.attention_mask, encoder_hidden_states=image,
            output_hidden_states=True, return_dict=True,
        )  # fmt: skip
        share = tokens.attention_mask / tokens.attention_mask.sum(1, keepdim=True)
        encoder = {
            f"encoder.{number}": (hidden * share[:, :, None]).sum(1)
            for number, hidden in enumerate(output.hidden_states[1:])
        }
        return {
            "projector": image.mean(1), **encoder,
            **_first_word(self, output.last_hidden_state, tokens.attention_mask),
        }  # fmt: skip


def _tokens(model: Any, texts: Sequence[str], longest: int | None) -> Any:
    """Tokenize with the first token overwritten by the decoder's mark, as LAVIS does."""
    limit: dict = {} if longest is None else {"truncation": True, "max_length": longest}
    tokens = model.tokenizer(list(texts), padding="longest", return_tensors="pt", **limit).to(model.device)
    tokens.input_ids[:, 0] = model.tokenizer.bos_token_id
    return tokens


def _log_likelihood(model: Any, tokens: Any, seen: Tensor, mask: Tensor | None) -> Tensor:
    logits = model.text_decoder(
        tokens.input_ids, attention_mask=tokens.attention_mask, encoder_hidden_states=seen,
        encoder_attention_mask=mask, return_dict=True,
    ).logits[:, :-1]  # fmt: skip
    ids, there = tokens.input_ids[:, 1:], tokens.attention_mask[:, 1:].bool()
    each = logits.float().log_softmax(-1).gather(2, ids[:, :, None])[:, :, 0]
    return each.where(there, torch.zeros_like(each)).sum(1)


def _first_word(model: Any, seen: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
    start = torch.full((len(seen), 1), model.tokenizer.bos_token_id, device=seen.device)
    output = model.text_decoder(
        start,
        encoder_hidden_states=seen,
        encoder_attention_mask=mask,
        output_hidden_states=True,
        return_dict=True,
    )
    return {f"decoder.{number}": hidden[:, 0] for number, hidden in enumerate(output.hidden_states[1:])}


def _pieces(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


register("model", ARCH["captioning"], TowerCaption)
register("model", ARCH["vqa"], TowerVQA)
