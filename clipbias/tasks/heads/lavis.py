"""LAVIS's BLIP captioner and VQA model as heads on tokens that a tower has made: ``lavis-caption`` and ``lavis-vqa``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from clipbias.errors import ClipbiasError, DataError, nearest
from clipbias.tasks.heads.base import Features, Head, HeadSetting, Prediction, TextBatch, head
from clipbias.tasks.heads.parts import check_answers, read_options

_MODEL = {
    "width": 128, "layers": 2, "heads": 4, "dropout": 0.1, "tokens": 16, "max_length": 40,
}  # fmt: skip
_VQA = {"inference": "rank", "candidates": 128}
_INFERENCE = ("rank", "generate")


class LavisHead(Head):
    """What both heads share: the model is LAVIS's, built through its registry, and sees features in place of images.

    Options: ``width, layers, heads, dropout`` of the text transformers, ``tokens`` (at most so many image tokens; 0: all),
    ``max_length`` of a text; for VQA also ``inference`` (``"rank"`` the answer list or ``"generate"`` freely) and
    ``candidates`` (answers ranked, those with the likeliest first token).

    Raises
    ------
    ClipbiasError
        LAVIS is missing.
    DataError
        VQA without answers, or an option that is unknown or wrong.
    """

    name = "lavis"

    def __init__(self, setting: HeadSetting) -> None:
        super().__init__(setting)
        vqa = setting.task == "vqa"
        self.options = read_options(self.name, setting, {**_MODEL, **(_VQA if vqa else {})})
        if vqa:
            check_answers(self.name, setting)
            if self.options["inference"] not in _INFERENCE:
                wrong = self.options["inference"]
                raise DataError(
                    f"option 'inference' of head {self.name!r} is {wrong!r}." + nearest(wrong, _INFERENCE)
                )
        # Not before a head is built: importing LAVIS takes seconds, and it may be missing.
        from clipbias.tasks.lavis import models
        from clipbias.tasks.lavis.bridge import load
        from clipbias.tasks.lavis.words import LavisTokenizer

        config = models.ModelConfig(
            models.ARCH[setting.task], LavisTokenizer.of(setting.vocabulary), setting.pooled_width, setting.token_width,
            **{name: self.options[name] for name in _MODEL},
        )  # fmt: skip
        self.model: Any = load().registry.get_model_class(config.arch).from_config(config)
        self._seen = models.Seen

    def losses(self, features: Features, texts: TextBatch) -> Tensor:
        """Return LAVIS's loss of each row, (B,), label smoothing included."""
        return self.model.losses(self._samples(features, texts))

    @torch.no_grad()
    def states(self, features: Features, texts: TextBatch) -> dict[str, Tensor]:
        """Return one (B, p) tensor per layer: ``projector``, ``encoder.i`` (VQA), ``decoder.i`` at the first word."""
        return self.model.states(self._samples(features, texts))

    def _samples(self, features: Features, texts: TextBatch) -> dict[str, Any]:
        """Return the batch as LAVIS's data sets would have made it."""
        raise NotImplementedError

    def _image(self, features: Features, texts: TextBatch) -> Any:
        self.check(features, texts)
        return self._seen(features.pooled, features.tokens)

    def _scored(self, samples: dict[str, Any], found: Sequence[str]) -> list[Prediction]:
        """Add the probability of each text under the model, the product over its tokens."""
        scores = self.model.log_likelihood(samples, found).exp().tolist()
        return [Prediction(text, score) for text, score in zip(found, scores, strict=True)]


@head("lavis-caption", tasks=("captioning",))
class LavisCaption(LavisHead):
    """LAVIS's ``BlipCaption``."""

    name = "lavis-caption"

    def _samples(self, features: Features, texts: TextBatch) -> dict[str, Any]:
        return {"image": self._image(features, texts), "text_input": _each(texts.targets, "blip_caption")}

    @torch.no_grad()
    def predict(self, features: Features, texts: TextBatch, *, beams: int = 1) -> list[Prediction]:
        """Return one caption per row; the score is its probability."""
        samples = self._samples(features, TextBatch(texts.questions))
        found = self.model.generate(
            samples, num_beams=beams, min_length=1, max_length=self.options["max_length"]
        )
        return self._scored(samples, found)

    def answer_probabilities(self, features: Features, texts: TextBatch) -> Tensor:
        """Captions are not chosen from a list."""
        raise ClipbiasError("a captioner has no answer list; only a VQA head has probabilities of answers.")


@head("lavis-vqa", tasks=("vqa",))
class LavisVQA(LavisHead):
    """LAVIS's ``BlipVQA``."""

    name = "lavis-vqa"

    def _samples(self, features: Features, texts: TextBatch) -> dict[str, Any]:
        samples: dict[str, Any] = {
            "image": self._image(features, texts), "text_input": _each(texts.questions, "blip_question"),
        }  # fmt: skip
        if texts.targets:
            ones = torch.ones(len(texts.targets), device=features.tokens.device)
            samples |= {"answer": list(texts.targets), "weight": ones, "n_answers": ones.long()}
        return samples

    @torch.no_grad()
    def predict(self, features: Features, texts: TextBatch, *, beams: int = 1) -> list[Prediction]:
        """Return one answer per row; the score is its probability."""
        samples = self._samples(features, TextBatch(texts.questions))
        if self.options["inference"] == "rank":
            found = self.model.rank(samples, self.setting.answers, candidates=self.options["candidates"])
        else:
            found = self.model.predict_answers(
                samples, inference_method="generate", num_beams=beams, max_len=self.options["max_length"]
            )
        return self._scored(samples, found)

    @torch.no_grad()
    def answer_probabilities(self, features: Features, texts: TextBatch) -> Tensor:
        """Return the probability of each answer of the list given that it is one of them, (B, A); rows sum to 1."""
        samples = self._samples(features, TextBatch(texts.questions))
        return self.model.answer_log_likelihoods(samples, self.setting.answers).softmax(1)


def _each(texts: Sequence[str], processor: str) -> list[str]:
    """Put texts through one of LAVIS's text processors, as its data sets do."""
    from clipbias.tasks.lavis.bridge import load

    process: Callable[[str], str] = load().registry.get_processor_class(processor).from_config()
    return [process(text) for text in texts]
