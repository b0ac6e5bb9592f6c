"""VQA as a choice among the top answers, trained on how right each answer would be."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from clipbias.errors import DataError
from clipbias.tasks.heads.base import Features, Head, HeadSetting, Prediction, TextBatch, head
from clipbias.tasks.heads.parts import Look, check_answers, read_options
from clipbias.tasks.vocabulary import Vocabulary

OPTIONS = {
    "width": 128, "layers": 1, "heads": 4, "hidden": 256, "dropout": 0.1, "tokens": 16, "question_length": 24,
}  # fmt: skip


@head("answers", tasks=["vqa"])
class AnswerClassifier(Head):
    """Question and image, each projected to one width, multiplied, and classified.

    The question's state looks over the image's tokens (attention) and takes up the pooled embedding. The loss
    is the binary cross-entropy with soft targets ``min(1, n / 3)`` for an answer that n people gave, summed
    over the answers.

    Options: ``width, layers`` and ``heads`` of the question's transformer, ``hidden`` of the classifier,
    ``dropout``, ``tokens`` (at most so many image tokens; 0: all), ``question_length`` (in words).

    Raises
    ------
    DataError
        Fewer than two answers, or an unknown option.
    """

    def __init__(self, setting: HeadSetting) -> None:
        super().__init__(setting)
        check_answers("answers", setting)
        o = read_options("answers", setting, OPTIONS)
        width = o["width"]
        self.question = QuestionEncoder(
            setting.vocabulary, width, o["layers"], o["heads"], o["dropout"], o["question_length"]
        )
        self.look = Look(setting, width, most=o["tokens"])
        self.attention = nn.MultiheadAttention(width, o["heads"], batch_first=True)
        self.of_image, self.of_question = nn.Linear(width, width), nn.Linear(width, width)
        self.hidden = nn.Linear(width, o["hidden"])
        self.drop = nn.Dropout(o["dropout"])
        self.classifier = nn.Linear(o["hidden"], len(setting.answers))
        # One answer of A is right: the loss begins where it would settle without looking.
        nn.init.constant_(self.classifier.bias, -math.log(len(setting.answers) - 1 or 1))
        self._place = {answer: i for i, answer in enumerate(setting.answers)}

    def losses(self, features: Features, texts: TextBatch) -> Tensor:
        """Return the cross-entropy of each row, summed over answers, (B,)."""
        logits = self._layers(features, texts)["logits"].float()
        soft = self._soft(texts, len(logits)).to(logits.device)
        return functional.binary_cross_entropy_with_logits(logits, soft, reduction="none").sum(1)

    def predict(self, features: Features, texts: TextBatch, *, beams: int = 1) -> list[Prediction]:
        """Return the likeliest answer of each row; ``beams`` changes nothing, as nothing is searched."""
        scores, places = self.answer_probabilities(features, texts).max(1)
        return [
            Prediction(self.setting.answers[i], score)
            for i, score in zip(places.tolist(), scores.tolist(), strict=True)
        ]

    @torch.no_grad()
    def answer_probabilities(self, features: Features, texts: TextBatch) -> Tensor:
        """Return probabilities over the answers, (B, A): each answer's own, divided by their sum."""
        rightness = self._layers(features, texts)["logits"].float().sigmoid()
        return rightness / rightness.sum(1, keepdim=True)

    @torch.no_grad()
    def states(self, features: Features, texts: TextBatch) -> dict[str, Tensor]:
        """Return ``projector`` (mean of the tokens), ``fusion`` (question x image), ``classifier`` (hidden)."""
        found = self._layers(features, texts)
        return {name: found[name].float() for name in ("projector", "fusion", "classifier")}

    def _layers(self, features: Features, texts: TextBatch) -> dict[str, Tensor]:
        self.check(features, texts)
        seen = self.look(features)
        question = self.question(texts.questions)
        found, _ = self.attention(question[:, None], seen, seen, need_weights=False)
        image = self.of_image(found[:, 0] + seen[:, 0])
        fusion = functional.gelu(image) * self.of_question(question)
        hidden = functional.gelu(self.hidden(self.drop(fusion)))
        logits = self.classifier(self.drop(hidden))
        return {"projector": seen.mean(1), "fusion": fusion, "classifier": hidden, "logits": logits}

    def _soft(self, texts: TextBatch, n: int) -> Tensor:
        if texts.soft is not None:
            if tuple(texts.soft.shape) != (n, len(self.setting.answers)):
                raise DataError(
                    f"soft targets are {tuple(texts.soft.shape)}; {n} questions and {len(self.setting.answers)} answers "
                    "need one number for each pair."
                )
            return texts.soft.float()
        if len(texts.targets) != n:
            raise DataError(f"{n} questions came with {len(texts.targets)} answers and no soft targets.")
        soft = torch.zeros(n, len(self.setting.answers))
        for row, target in enumerate(texts.targets):
            if target in self._place:  # an answer outside of the list: no answer is right
                soft[row, self._place[target]] = 1.0
        return soft


class QuestionEncoder(nn.Module):
    """A small transformer over the words of a question; its output is their mean."""

    def __init__(
        self, vocabulary: Vocabulary, width: int, layers: int, heads: int, dropout: float, length: int
    ) -> None:
        super().__init__()
        self.vocabulary, self.length = vocabulary, length
        self.words = nn.Embedding(len(vocabulary), width, padding_idx=vocabulary.pad_id)
        self.positions = nn.Parameter(torch.randn(length, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, heads, 2 * width, dropout, functional.gelu, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)

    def forward(self, questions: list[str]) -> Tensor:
        """Return (B, width); equal questions are encoded once."""
        different = {question: i for i, question in enumerate(dict.fromkeys(questions))}
        ids, mask = self.vocabulary.encode(
            list(different), add_bos=True, max_length=self.length, tensors="pt"
        )
        device = self.positions.device
        ids, mask = ids.to(device), mask.to(device)
        x = self.words(ids) + self.positions[: ids.shape[1]]
        x = self.norm(self.layers(x, src_key_padding_mask=mask == 0))
        mean = (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return mean[torch.tensor([different[question] for question in questions], device=device)]
