"""Leakage: how well a classifier reads the protected attribute off labels and off a model's predictions.

A model that makes mistakes leaks less than the truth for that reason alone. So predictions are compared with
true labels that were spoilt until they are as wrong as the model, and only the difference is the model's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from clipbias.errors import DataError
from clipbias.tasks.metrics.attackers import estimator_probabilities, is_classifier, logistic_probabilities
from clipbias.tasks.metrics.pairs import binary
from clipbias.tasks.metrics.predictability import Dpa, dpa
from clipbias.tasks.metrics.splits import as_blocks, balanced_split, group_labels, seed_list
from clipbias.tasks.metrics.spoiling import Match, check_match, spoil, spoil_labels

__all__ = ["Dpa", "Leakage", "dpa", "leakage"]


@dataclass(frozen=True, eq=False)
class Leakage:
    """Leakage of an attribute through labels and predictions.

    Attributes
    ----------
    value : float
        ``model − data``, in [−1, 1]; 0: the predictions tell no more than equally wrong labels, positive
        amplifies, lower is fairer.
    data, model : float
        Accuracy of the attacker on spoilt true labels and on predictions, on balanced groups; 1/groups is
        chance.
    truth : float
        The same on the true labels as they are.
    sd : float
        Standard deviation of the difference over seeds (splits and spoiling; not a standard error).
    seeds : pandas.DataFrame
        One row per seed: ``seed, data, model, truth, value``.
    null : pandas.DataFrame
        The same with the attribute permuted, one row per permutation.
    p : float
        Share of permutations whose ``model`` is at least as large (one-sided, the observed one counted).
    match : str
    n, left_out : int
        Images used per seed, and those whose group is unknown.
    """

    value: float
    data: float
    model: float
    truth: float
    sd: float
    seeds: pd.DataFrame
    null: pd.DataFrame
    p: float
    match: Match
    n: int
    left_out: int


def leakage(
    attribute: Any, truth: Any, predictions: Any, *, match: Match = "confusion",
    seeds: int | Sequence[int] = 5, permutations: int = 20, test_share: float = 0.25, C: float = 1.0, blocks: Any = None,
    attacker: Any = None,
) -> Leakage:  # fmt: skip
    """Return leakage of an attribute through a model's predictions, over that of equally wrong labels.

    Parameters
    ----------
    attribute : array (n,)
        Protected group; images with ``"unknown"`` are left out.
    truth, predictions : array (n, t) of zeros and ones, or array (n,) of labels
        True and predicted labels; one column per label (an image may have several), or one label per image.
    match : {"confusion", "accuracy", "none"}
        How the true labels are spoilt; see `spoil`.
    seeds : int or sequence of int
    permutations : int
        How often the attribute is permuted for the null.
    test_share : float
    C : float
        Inverse strength of the L2 penalty of the attacker, a logistic regression.
    blocks : array (n,), optional
        Images that must stay on one side of a split.
    attacker : scikit-learn classifier, optional
        In place of the logistic regression: anything with ``fit`` and ``predict_proba``; it is cloned for every fit.

    Returns
    -------
    Leakage

    Raises
    ------
    DataError
        Shapes do not fit.
    StatusError
        Fewer than two groups, or fewer than ten images of one.

    Notes
    -----
    Wang, Zhao, Yatskar, Chang, Ordonez (2019), arXiv:1811.08489, who match F1 by random flips.
    """
    check_match(match)
    other = attacker is not None and is_classifier(attacker)
    if attacker is not None and not other:
        raise DataError(f"attacker={attacker!r} is no classifier: it needs fit and predict_proba.")
    codes, levels = group_labels(attribute)
    true, said, single = _labels(truth, predictions, codes.size)
    together, drawn = as_blocks(blocks, codes.size), seed_list(seeds)
    wide = (lambda x: np.eye(int(max(true.max(), said.max())) + 1)[x]) if single else (lambda x: x)

    def row(own: np.ndarray, seed: int, parts: Sequence[str]) -> dict[str, float]:
        rng = np.random.default_rng([seed, 5])
        train, test = balanced_split(own, rng, test_share=test_share, blocks=together)
        spoilt = (spoil_labels if single else spoil)(true, said, rng, match)
        found: dict[str, float] = {"seed": seed}
        for name, x in (("data", spoilt), ("model", said), ("truth", true)):
            if name in parts:
                x = wide(x)
                parts_of = (x[train], own[train], x[test], len(levels))
                if other:
                    guess = estimator_probabilities(attacker, *parts_of, seed=seed)
                else:
                    guess = logistic_probabilities(*parts_of, C=C, seed=seed)
                found[name] = float((guess.argmax(1) == own[test]).mean())
        if "data" in found and "model" in found:
            found["value"] = found["model"] - found["data"]
        return found

    table = pd.DataFrame([row(codes, seed, ("data", "model", "truth")) for seed in drawn])
    rng, null = np.random.default_rng([20190101, codes.size]), []
    for number in range(permutations):
        shuffled = codes.copy()
        shuffled[codes >= 0] = rng.permutation(codes[codes >= 0])
        null.append(row(shuffled, 1000 + number, ("data", "model")))
    null_table = pd.DataFrame(null, columns=["seed", "data", "model", "value"])
    mean = table.mean()
    larger = (null_table["model"] >= mean["model"]).sum()
    return Leakage(
        value=float(mean["value"]), data=float(mean["data"]), model=float(mean["model"]),
        truth=float(mean["truth"]), sd=float(table["value"].std(ddof=1)), seeds=table, null=null_table,
        p=float((1 + larger) / (1 + permutations)) if permutations else float("nan"), match=match,
        n=int(np.bincount(codes[codes >= 0]).min()) * len(levels), left_out=int((codes < 0).sum()),
    )  # fmt: skip


def _labels(truth: Any, predictions: Any, n: int) -> tuple[np.ndarray, np.ndarray, bool]:
    """Return indicators (n, t), or codes (n,) of one label per image, and whether they are codes."""
    if np.ndim(truth) == 2:
        true = binary("truth", truth, n)
        return true, binary("predictions", predictions, n, true.shape[1]), False
    first, second = np.asarray(truth, dtype=object), np.asarray(predictions, dtype=object)
    if first.shape != (n,) or second.shape != (n,):
        raise DataError(
            f"labels have shapes {first.shape} and {second.shape}; one for each of {n} images is needed."
        )
    codes, _ = pd.factorize(np.concatenate([first, second]).astype(str), sort=True)
    return codes[:n], codes[n:], True
