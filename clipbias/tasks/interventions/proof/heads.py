"""Two small heads on the pooled embedding: enough to answer one question and to write the world's captions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from clipbias.tasks.heads.base import Features, Head, HeadSetting, Prediction, TextBatch
from clipbias.tasks.heads.parts import standardise

WIDTH = 128
WORDS_WIDTH = 64
CONTEXT = 3  # words that the next one is written after


class PooledAnswers(Head):
    """A classifier of answers with one hidden layer; questions are not read.

    Its last layer, which refits tune, is linear in the hidden layer as the last layer of a network is.
    """

    def __init__(self, setting: HeadSetting) -> None:
        super().__init__(setting)
        self.hidden = nn.Linear(setting.pooled_width, WIDTH)
        self.classifier = nn.Linear(WIDTH, len(setting.answers))
        self._place = {answer: i for i, answer in enumerate(setting.answers)}

    def losses(self, features: Features, texts: TextBatch) -> Tensor:
        """Return the cross-entropy of each row, (B,)."""
        target = torch.tensor([self._place[text] for text in texts.targets])
        return functional.cross_entropy(self._logits(features), target, reduction="none")

    def answer_probabilities(self, features: Features, texts: TextBatch) -> Tensor:
        """Return (B, A)."""
        return self._logits(features).softmax(1)

    def predict(self, features: Features, texts: TextBatch, *, beams: int = 1) -> list[Prediction]:
        """Return the likeliest answer of each row."""
        scores, places = self.answer_probabilities(features, texts).max(1)
        return [
            Prediction(self.setting.answers[i], p)
            for i, p in zip(places.tolist(), scores.tolist(), strict=True)
        ]

    def _logits(self, features: Features) -> Tensor:
        return self.classifier(functional.relu(self.hidden(standardise(features.pooled))))


class PooledWords(Head):
    """A log-bilinear captioner (after Kiros, Salakhutdinov and Zemel, 2014): three words and the image say the next one.

    ``projector`` stands between image and words, and is what refits tune.
    """

    def __init__(self, setting: HeadSetting) -> None:
        super().__init__(setting)
        words = len(setting.vocabulary)
        self.words = nn.ModuleList(nn.Embedding(words, WORDS_WIDTH) for _ in range(CONTEXT))
        for weight in self.words.parameters():
            nn.init.normal_(weight, std=0.1)
        self.hidden = nn.Linear(setting.pooled_width, WORDS_WIDTH)
        self.projector = nn.Linear(WORDS_WIDTH, WORDS_WIDTH)
        self.out = nn.Linear(WORDS_WIDTH, words)
        self._rows: dict[str, list[int]] = {}

    def losses(self, features: Features, texts: TextBatch) -> Tensor:
        """Return the mean negative log-likelihood over the words of each caption, (B,)."""
        nll, counted = self._words_nll(features, texts.targets, end=True)
        return nll.sum(1) / counted.sum(1)

    def likelihoods(self, features: Features, starts: list[str]) -> Tensor:
        """Return the log-probability that a caption begins with each of some texts, (B, len(starts))."""
        columns = []
        with torch.no_grad():
            for start in starts:
                columns.append(
                    -self._words_nll(features, [start] * len(features.pooled), end=False)[0].sum(1)
                )
        return torch.stack(columns, 1)

    def predict(self, features: Features, texts: TextBatch, *, beams: int = 1) -> list[Prediction]:
        """Return greedy captions."""
        v = self.setting.vocabulary
        image = self._image(features)
        ids = torch.full((len(image), CONTEXT), v.bos_id)
        for _ in range(24):
            logits = self.out(functional.relu(image + self._context(ids[:, -CONTEXT:])))
            logits[:, [v.pad_id, v.bos_id, v.unk_id]] = -torch.inf
            ids = torch.cat([ids, logits.argmax(1, keepdim=True)], 1)
            if (ids[:, CONTEXT:] == v.eos_id).any(1).all():
                break
        return [Prediction(text) for text in v.decode(ids[:, CONTEXT:].tolist())]

    def _image(self, features: Features) -> Tensor:
        return self.projector(functional.relu(self.hidden(standardise(features.pooled))))

    def _context(self, ids: Tensor) -> Tensor:
        return torch.stack([table(ids[..., i]) for i, table in enumerate(self.words)]).sum(0)

    def _words_nll(self, features: Features, texts: list[str], *, end: bool) -> tuple[Tensor, Tensor]:
        v = self.setting.vocabulary
        for text in dict.fromkeys(texts):
            if text not in self._rows:
                ids, mask = v.encode([text], add_eos=True)
                self._rows[text] = ids[0][: int(mask[0].sum())].tolist()
        rows = [self._rows[text] if end else self._rows[text][:-1] for text in texts]
        longest = max(map(len, rows))
        target = torch.tensor([row + [-100] * (longest - len(row)) for row in rows])
        before = torch.cat(
            [torch.full((len(rows), CONTEXT), v.bos_id), target.masked_fill(target == -100, v.pad_id)], 1
        )
        windows = before.unfold(1, CONTEXT, 1)[:, :longest]
        x = functional.relu(self._image(features)[:, None] + self._context(windows))
        nll = functional.cross_entropy(
            self.out(x).flatten(0, 1), target.flatten(), reduction="none", ignore_index=-100
        )
        return nll.view_as(target), target != -100
