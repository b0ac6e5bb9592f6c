"""A head and data small enough to train in a moment."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import nn

from clipbias.tasks.batches import Material
from clipbias.tasks.heads.base import Features, Head, HeadSetting, Prediction

ANSWERS = ("cat", "dog", "bird")


class TinyHead(Head):
    """A linear classifier of pooled features, with dropout so that the random state matters."""

    def __init__(self, setting: HeadSetting) -> None:
        super().__init__(setting)
        self.projector = nn.Sequential(nn.Linear(setting.pooled_width, 8), nn.ReLU(), nn.Dropout(0.2))
        self.classifier = nn.Linear(8, len(setting.answers))

    def losses(self, features, texts):
        target = torch.tensor([self.setting.answers.index(t) for t in texts.targets])
        return nn.functional.cross_entropy(
            self.classifier(self.projector(features.pooled)), target, reduction="none"
        )

    def loss(self, features, texts):
        return self.losses(features, texts).mean()

    def answer_probabilities(self, features, texts):
        return self.classifier(self.projector(features.pooled)).softmax(1)

    def predict(self, features, texts, *, beams=1):
        best = self.answer_probabilities(features, texts).max(1)
        return [
            Prediction(self.setting.answers[int(i)], float(p))
            for p, i in zip(best.values, best.indices, strict=True)
        ]

    def states(self, features, texts):
        hidden = self.projector(features.pooled)
        return {"projector": hidden, "classifier": self.classifier(hidden)}


def tiny_head(seed: int = 0) -> TinyHead:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return TinyHead(HeadSetting("vqa", 5, 4, None, ANSWERS))


def material(n: int = 90, seed: int = 0) -> Material:
    """Images of three kinds, one question each; the kind can be seen."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3, n)
    pooled = rng.normal(0, 0.5, (n, 5)).astype(np.float32)
    pooled[np.arange(n), kind] += 2
    tokens = rng.normal(size=(n, 3, 4)).astype(np.float32)
    examples = pd.DataFrame(
        {
            "example_id": [f"q{seed}-{i}" for i in range(n)],
            "image_id": [f"i{seed}-{i}" for i in range(n)],
            "question": "what is it?",
            "target": [ANSWERS[k] for k in kind],
        }
    )
    features = Features(torch.from_numpy(pooled), torch.from_numpy(tokens))

    def source(rows):
        picked = torch.as_tensor(rows)
        return Features(features.pooled[picked], features.tokens[picked])

    return Material(examples, np.arange(n), source)
