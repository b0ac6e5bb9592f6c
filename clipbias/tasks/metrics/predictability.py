"""DPA: how predictable labels are from the attribute, or the reverse, beside equally wrong labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from clipbias.errors import DataError, StatusError, nearest
from clipbias.tasks.metrics.attackers import logistic_probabilities
from clipbias.tasks.metrics.pairs import binary
from clipbias.tasks.metrics.splits import seed_list
from clipbias.tasks.metrics.spoiling import Match, spoil

# With so few distinct rows a table of means is the best possible attacker, and needs no fit.
_FEW_ROWS = 64


@dataclass(frozen=True, eq=False)
class Dpa:
    """Directional predictability amplification.

    Attributes
    ----------
    value : float
        Mean over seeds of (Ψ_M − Ψ_D) / (Ψ_M + Ψ_D), in (−1, 1); 0: predictions follow the condition no more
        than equally wrong labels do, positive amplifies, lower is fairer.
    data, model : float
        Ψ_D and Ψ_M, means over seeds.
    sd : float
        Standard deviation over seeds.
    direction, quality : str
    seeds : pandas.DataFrame
        One row per seed: ``seed, data, model, value``.
    """

    value: float
    data: float
    model: float
    sd: float
    direction: str
    quality: str
    seeds: pd.DataFrame


def dpa(
    A: Any, T: Any, A_pred: Any, T_pred: Any, *, direction: Literal["A->T", "T->A"] = "A->T",
    match: Match = "confusion", quality: Literal["mse", "accuracy"] = "mse", seeds: int | Sequence[int] = 10,
    test_share: float = 0.2,
) -> Dpa:  # fmt: skip
    """Return directional predictability amplification.

    A→T: an attacker learns to tell the label from the true attribute, once for spoilt true labels (Ψ_D) and
    once for predicted ones (Ψ_M). T→A: the roles of attribute and label are swapped.

    Parameters
    ----------
    A, T, A_pred, T_pred : array (n, |A|), (n, |T|)
        Zeros and ones; the prediction that the direction does not use may be None.
    direction : {"A->T", "T->A"}
    match : {"confusion", "accuracy", "none"}
        How the truth is spoilt to be as wrong as the model; see `spoil`. Published: ``"accuracy"``; with rare
        labels its flips are nearly all false alarms, which nobody can predict, and the value is large for any
        model.
    quality : {"mse", "accuracy"}
        Ψ: 1 / mean squared error of the attacker's probabilities, or its accuracy. For rare labels accuracy
        cannot tell anything.
    seeds : int or sequence of int
    test_share : float

    Returns
    -------
    Dpa

    Raises
    ------
    DataError
        Shapes do not fit, or an unknown option.
    StatusError
        Too few images, or an attacker without any error.

    Notes
    -----
    Tokas, Nair, Kerner (2024), arXiv:2412.11060, who flip labels at random. Attackers are tables of means
    where the condition has few distinct rows, else logistic regressions, one per target.
    """
    if direction not in ("A->T", "T->A"):
        raise DataError(f"direction={direction!r} is unknown." + nearest(str(direction), ("A->T", "T->A")))
    if quality not in ("mse", "accuracy"):
        raise DataError(f"quality={quality!r} is unknown." + nearest(str(quality), ("mse", "accuracy")))
    names = ("A", "T", "T_pred") if direction == "A->T" else ("T", "A", "A_pred")
    given = {"A": A, "T": T, "A_pred": A_pred, "T_pred": T_pred}
    x = binary(names[0], given[names[0]])
    truth = binary(names[1], given[names[1]], len(x))
    said = binary(names[2], given[names[2]], len(x), truth.shape[1])
    if len(x) < 20:
        raise StatusError("too few images", f"{len(x)} images are too few for an attacker; 20 are needed.")
    rows = []
    for seed in seed_list(seeds):
        rng = np.random.default_rng([seed, 6])
        order = rng.permutation(len(x))
        cut = max(1, round(len(x) * test_share))
        test, train = order[:cut], order[cut:]
        data = _predictability(x, spoil(truth, said, rng, match), train, test, quality)
        model = _predictability(x, said, train, test, quality)
        rows.append({"seed": seed, "data": data, "model": model, "value": _contrast(model, data)})
    table = pd.DataFrame(rows)
    if not np.isfinite(table["value"]).all():
        raise StatusError(
            "undefined",
            "an attacker makes no error (or nothing but errors): there is no predictability to compare.",
        )
    mean = table.mean()
    return Dpa(
        float(mean["value"]), float(mean["data"]), float(mean["model"]), float(table["value"].std(ddof=1)),
        direction, quality, table,
    )  # fmt: skip


def _contrast(model: float, data: float) -> float:
    if not np.isfinite(model) or not np.isfinite(data) or model + data == 0:
        return float("nan")
    return (model - data) / (model + data)


def _predictability(x: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray, quality: str) -> float:
    """Return how well all columns of y are told from x on the test rows."""
    rows, cell = np.unique(x, axis=0, return_inverse=True)
    cell = cell.ravel()
    if len(rows) <= _FEW_ROWS:
        one_hot = np.eye(len(rows))[cell[train]]
        # One image of average kind in each cell: an unseen cell gets the average.
        overall = y[train].mean(0)
        guess = ((one_hot.T @ y[train] + overall) / (one_hot.sum(0)[:, None] + 1))[cell[test]]
    else:
        guess = np.column_stack(
            [logistic_probabilities(x[train], column[train], x[test], 2)[:, 1] for column in y.T.astype(int)]
        )
    if quality == "accuracy":
        return float(((guess > 0.5) == (y[test] == 1)).mean())
    error = float(((guess - y[test]) ** 2).mean())
    return 1 / error if error > 0 else float("inf")
