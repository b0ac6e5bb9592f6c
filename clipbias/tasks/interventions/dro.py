"""The arithmetic of group DRO: mean losses of groups, and how their weights grow."""

from __future__ import annotations

import numpy as np


def group_means(losses: np.ndarray, groups: np.ndarray, size: int) -> np.ndarray:
    """Return the mean loss of each group, float (size,); 0 for a group that does not occur."""
    counts = np.bincount(groups, minlength=size)
    return np.bincount(groups, losses, size) / np.maximum(counts, 1)


def dro_weights(
    q: np.ndarray,
    means: np.ndarray,
    *,
    eta: float = 0.01,
    adjustment: float = 0.0,
    sizes: np.ndarray | None = None,
) -> np.ndarray:
    """Return the weights of the groups after one step.

    Parameters
    ----------
    q : numpy.ndarray (G,)
        Weights before, sum 1.
    means : numpy.ndarray (G,)
        Mean loss of each group in the batch.
    eta : float
        Step; 0 leaves the weights as they are.
    adjustment : float
        ``C``: groups of ``sizes`` training examples get ``C / sqrt(size)`` on top of their loss, as small groups generalise
        worse.
    sizes : numpy.ndarray (G,), optional

    Returns
    -------
    numpy.ndarray (G,)
        Sum 1.
    """
    loss = np.asarray(means, float)
    if adjustment > 0 and sizes is not None:
        loss = loss + adjustment / np.sqrt(np.maximum(sizes, 1))
    raised = np.log(np.maximum(q, 1e-300)) + eta * loss
    grown = np.exp(raised - raised.max())
    return grown / grown.sum()
