"""Linear probes on embeddings: l1 logistic regression, averages of several, and choice by the worst group."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipbias.errors import DataError


@dataclass(frozen=True, eq=False)
class Scaler:
    """Mean and standard deviation of the training features."""

    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> Scaler:
        """Fit on features (n, d); a constant feature is left unscaled."""
        spread = np.asarray(features, float).std(0)
        return cls(np.asarray(features, float).mean(0), np.where(spread > 1e-12, spread, 1.0))

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Return standardised features."""
        return (np.asarray(features, float) - self.mean) / self.scale


@dataclass(frozen=True, eq=False)
class Probe:
    """A linear classifier.

    Attributes
    ----------
    coef : numpy.ndarray (K, d)
    intercept : numpy.ndarray (K,)
    classes : numpy.ndarray (K,)
    scaler : Scaler
    """

    coef: np.ndarray
    intercept: np.ndarray
    classes: np.ndarray
    scaler: Scaler

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Return the score of each class, (n, K); of two classes they are each other's negative."""
        return self.scaler(features) @ self.coef.T + self.intercept

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Return the class with the highest score."""
        return self.classes[self.scores(features).argmax(1)]


def fit_probe(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    strength: float = 1.0,
    l1: bool = True,
    weights: np.ndarray | None = None,
    scaler: Scaler | None = None,
    steps: int = 300,
    seed: int = 0,
) -> Probe:
    """Fit a logistic regression; with an l1 penalty and more than two classes, one against the rest.

    Parameters
    ----------
    features : numpy.ndarray (n, d)
    labels : numpy.ndarray (n,)
    strength : float
        Inverse of the penalty's strength.
    l1 : bool
        Else l2.
    weights : numpy.ndarray (n,), optional
    scaler : Scaler, optional
        Default: fitted on the features.
    steps : int
        At most so many passes.
    seed : int

    Raises
    ------
    DataError
        One class only.
    """
    from sklearn.exceptions import ConvergenceWarning

    scaler = scaler or Scaler.of(features)
    x, labels = scaler(features), np.asarray(labels)
    classes = np.unique(labels)
    if len(classes) < 2:
        raise DataError("a probe needs two classes or more; all examples have one.")
    if not l1 and len(classes) > 2:  # one smooth problem is solved faster than one per class
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            whole = _logistic(strength, l1, steps, seed).fit(x, labels, sample_weight=weights)
        return Probe(whole.coef_, whole.intercept_, classes, scaler)
    tasks = classes[1:] if len(classes) == 2 else classes
    coef, intercept = [], []
    with warnings.catch_warnings():
        # A probe that is not quite at its optimum is as good a classifier.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for one in tasks:
            model = _logistic(strength, l1, steps, seed).fit(x, labels == one, sample_weight=weights)
            coef.append(model.coef_[0])
            intercept.append(model.intercept_[0])
    w, b = np.array(coef), np.array(intercept)
    if len(classes) == 2:
        w, b = np.vstack([-w, w]), np.concatenate([-b, b])
    return Probe(w, b, classes, scaler)


def _logistic(strength: float, l1: bool, steps: int, seed: int) -> Any:
    """Return a logistic regression; scikit-learn 1.8 changed how its penalty is named."""
    import sklearn
    from sklearn.linear_model import LogisticRegression

    common = {
        "C": strength,
        "max_iter": steps,
        "random_state": seed,
        "solver": "liblinear" if l1 else "lbfgs",
    }
    new = tuple(int(part) for part in sklearn.__version__.split(".")[:2]) >= (1, 8)
    return LogisticRegression(
        **common, **({"l1_ratio": float(l1)} if new else {"penalty": "l1" if l1 else "l2"})
    )


def average(probes: Sequence[Probe]) -> Probe:
    """Return the probe with the mean coefficients of probes that share classes and scaler."""
    first = probes[0]
    if any(not np.array_equal(one.classes, first.classes) for one in probes):
        raise DataError("probes of different classes cannot be averaged.")
    return Probe(
        np.mean([one.coef for one in probes], 0), np.mean([one.intercept for one in probes], 0), first.classes, first.scaler
    )  # fmt: skip


def judged(probe: Probe, features: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """Return the accuracy on the worst cell and the mean over cells, which decides where the worst are equal.

    Cells of a few images are often wholly wrong, whatever the options; their mean still tells them apart.
    """
    right, cells = (probe.predict(features) == labels).astype(float), joint(labels, groups)
    means = np.bincount(cells, right) / np.bincount(cells)
    return float(means.min()), float(means.mean())


def joint(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return one code per pair of label and group that occurs."""
    y, a = (np.unique(np.asarray(v), return_inverse=True)[1] for v in (labels, groups))
    return np.unique(y * (a.max() + 1) + a, return_inverse=True)[1]


def balanced_rows(
    cells: np.ndarray, *, seed: int | list[int] = 0, missing: str = "refuse", labels: np.ndarray | None = None
) -> np.ndarray:
    """Return the largest subset in which all cells have the size of the smallest.

    Parameters
    ----------
    cells : numpy.ndarray (n,)
    seed : int or sequence of int
    labels : numpy.ndarray (n,), optional
        Their cells must all be there: with ``missing="refuse"`` every label needs as many cells as the label that has most.
    missing : {"refuse", "allow"}

    Returns
    -------
    numpy.ndarray, int
        Ascending.

    Raises
    ------
    DataError
        A missing cell.
    """
    cells = np.asarray(cells)
    names, place, counts = np.unique(cells, return_inverse=True, return_counts=True)
    if len(names) == 0:
        raise DataError("there is nothing to balance.")
    if labels is not None and missing == "refuse":
        there = {label: len(np.unique(cells[labels == label])) for label in np.unique(labels)}
        short = min(there, key=lambda label: there[label])
        if there[short] < max(there.values()):
            raise DataError(
                f"label {short!s} has {there[short]} of {max(there.values())} groups in the balanced set: a cell is missing. Give "
                "more labelled data, or use missing=allow."
            )
    rng = np.random.default_rng(seed)
    size = counts.min()
    return np.sort(
        np.concatenate([rng.permutation(np.flatnonzero(place == k))[:size] for k in range(len(names))])
    )
