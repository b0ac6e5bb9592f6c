"""Examples ready for a head, and which of them a step takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from clipbias.tasks.heads.base import Features, TextBatch

Source = Callable[[np.ndarray], Features]
"""Image positions to features on the device; a trained tower computes them, a frozen one looks them up."""


@dataclass(frozen=True, eq=False)
class Material:
    """Examples ready for a head.

    Attributes
    ----------
    examples : DataFrame
        Columns as in `clipbias.tasks.data.TaskData`.
    rows : numpy.ndarray, int (n,)
        Image of each example, as the source counts them.
    source : callable
    soft : Tensor (n, A), optional
        Soft targets of an answer classifier.
    """

    examples: pd.DataFrame
    rows: np.ndarray
    source: Source
    soft: Tensor | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def texts(self, index: np.ndarray, *, targets: bool = True) -> TextBatch:
        """Return the texts of some examples, without targets where a head has to predict."""
        questions = self._questions[index].tolist()
        if not targets:
            return TextBatch(questions)
        soft = None if self.soft is None else self.soft[torch.as_tensor(index)]
        return TextBatch(questions, self._targets[index].tolist(), soft)

    def features(self, index: np.ndarray) -> Features:
        """Return the features of some examples' images."""
        return self.source(self.rows[index])

    # Once: a column of text is converted as a whole, which would take longer than a step.
    @cached_property
    def _questions(self) -> np.ndarray:
        return self.examples["question"].to_numpy(dtype=object)

    @cached_property
    def _targets(self) -> np.ndarray:
        return self.examples["target"].to_numpy(dtype=object)


def batch_of(
    order: np.ndarray, step: int, size: int, seed: Sequence[int], images: np.ndarray | None = None
) -> np.ndarray:
    """Return the entries of one step: epoch after epoch, each in an order of its own, without a gap between them.

    Parameters
    ----------
    order : numpy.ndarray (n,)
    step, size : int
        Step within the stage, and entries per step.
    seed : sequence of int
        The order of an epoch depends on this and its number alone, so that a step can be done again.
    images : numpy.ndarray (n,), optional
        Image of each entry: those of an image come one after the other, so that a batch has few images.
    """
    n = len(order)
    places = np.arange(step * size, (step + 1) * size)
    parts = []
    for epoch in np.unique(places // n):
        rng = np.random.default_rng([*seed, int(epoch)])
        shuffled = rng.permutation(order)
        if images is not None:
            _, image = np.unique(images, return_inverse=True)
            place = rng.permutation(image.max() + 1)
            shuffled = order[np.argsort(place[image], kind="stable")]
        parts.append(shuffled[places[places // n == epoch] % n])
    return np.concatenate(parts)
