"""The arithmetic of learning from failure: losses of the biased twin, and how hard an example is."""

from __future__ import annotations

import numpy as np


def generalised(cross_entropy: np.ndarray, probability: np.ndarray, q: float = 0.7) -> np.ndarray:
    """Return the losses of the biased twin, whose gradient is that of the generalised cross-entropy.

    Parameters
    ----------
    cross_entropy, probability : array (n,)
        Of the right label; the probability is taken as a constant.
    q : float
        The larger, the more the twin keeps to what it is sure of; towards 0 the direction is that of the cross-entropy.
    """
    return cross_entropy * probability**q * q


class Averages:
    """Moving averages of the losses of each example, set against the largest of its class.

    Parameters
    ----------
    classes : numpy.ndarray, int (n,)
    alpha : float
        Weight of the average so far; an example's first loss is taken as it is.
    """

    def __init__(self, classes: np.ndarray, alpha: float = 0.7) -> None:
        self.classes, self.alpha = np.asarray(classes, np.int64), alpha
        self.values = np.full(len(self.classes), np.nan)

    def update(self, index: np.ndarray, losses: np.ndarray) -> None:
        """Take in losses of some examples; of an example that comes twice the last."""
        before = self.values[index]
        self.values[index] = np.where(
            np.isnan(before), losses, self.alpha * before + (1 - self.alpha) * losses
        )

    def relative(self, index: np.ndarray) -> np.ndarray:
        """Return the averages of some examples over the largest of their class, in [0, 1]."""
        largest = np.zeros(self.classes.max() + 1)
        np.maximum.at(largest, self.classes, np.nan_to_num(self.values))
        return self.values[index] / np.maximum(largest[self.classes[index]], 1e-12)


def relative_difficulty(biased: np.ndarray, debiased: np.ndarray) -> np.ndarray:
    """Return ``L_b / (L_b + L_d)`` in [0, 1]: 1 where only the biased twin fails, 1/2 where both are alike."""
    return biased / np.maximum(biased + debiased, 1e-12)
