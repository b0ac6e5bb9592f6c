"""Whether representation spaces come closer together when their models are adapted.

Delta is the mean similarity of all pairs of models after adaptation minus before. Pairs share models, so a test
over pairs rejects a true null in half of all studies; the unit is the model. Under the null pre and post of a
model can be exchanged. Delta of any exchange is a *linear* function of the signs, so the exact test is a sign flip
of one number for each model, ``w_i``, made from the pre-pre, post-post and cross similarities.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from clipbias.display import Shown
from clipbias.errors import DataError, StatusError

_EXACT = 20


def swap_weights(values: np.ndarray) -> np.ndarray:
    """Return w with Delta = sum(w), and sum(s * w) after exchanging pre and post of the models with s = -1.

    Parameters
    ----------
    values : ndarray, shape (2M, 2M)
        Similarities: M models before, then the same models after.

    Returns
    -------
    ndarray, shape (M,)
    """
    m = len(values) // 2
    before, after, cross = values[:m, :m], values[m:, m:], values[m:, :m]  # cross[i, j]: post of i, pre of j
    change = after - before + cross - cross.T
    np.fill_diagonal(change, 0)
    return change.sum(1) / (m * (m - 1))


def sign_flips(count: int, *, resamples: int = 9999, seed: int = 0) -> np.ndarray:
    """Return signs, all of them up to 20 units (half: a flip of all is the mirror image), else a sample.

    Returns
    -------
    ndarray of int8, shape (F, count)
        The first row is all ones.
    """
    if count <= _EXACT:
        bits = np.arange(2 ** (count - 1), dtype=np.int64)[:, None] >> np.arange(count - 1)[None, :] & 1
        return np.c_[np.ones(len(bits), np.int8), 1 - 2 * bits.astype(np.int8)]
    rng = np.random.default_rng(seed)
    signs = rng.choice(np.array([-1, 1], np.int8), (resamples + 1, count))
    signs[0] = 1
    return signs


@dataclass(frozen=True)
class Convergence(Shown):
    """The change of mean similarity and its tests, for one layer and measure.

    Attributes
    ----------
    before, after, delta : float
        Mean over pairs of models; for a distance measure a negative delta is convergence.
    p_value : float
        Two-sided label swap over models, or over families when given.
    exact : bool
    smallest_p : float
        2 / 2^units.
    model_error : float
        Node jackknife: models (or families) left out one at a time.
    image_error : float
        Jackknife over images; NaN for measures other than debiased CKA.
    error : float
        The two combined; the joint term is left in, so it is never too small.
    ci_low, ci_high : float
        t interval with units - 1 degrees of freedom from ``error``.
    units, models : int
    """

    before: float
    after: float
    delta: float
    p_value: float
    exact: bool
    smallest_p: float
    model_error: float
    image_error: float
    error: float
    ci_low: float
    ci_high: float
    units: int
    models: int

    def equivalence_p(self, bound: float) -> float:
        """Return the p of the two one-sided tests that \\|delta\\| is below a bound."""
        if not self.error > 0:  # the states before and after are the same
            return float(abs(self.delta) >= bound) if self.error == 0 else math.nan
        return float(stats.t.sf((bound - abs(self.delta)) / self.error, self.units - 1))


def _delta(values: np.ndarray, keep: np.ndarray) -> float:
    m = len(values) // 2
    upper = np.triu_indices(int(keep.sum()), 1)
    before, after = values[:m, :m][np.ix_(keep, keep)], values[m:, m:][np.ix_(keep, keep)]
    return float(after[upper].mean() - before[upper].mean())


def convergence_test(
    values: np.ndarray,
    *,
    families: Sequence | None = None,
    influence: np.ndarray | None = None,
    level: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
) -> Convergence:
    """Test whether M models are more alike after adaptation than before.

    Parameters
    ----------
    values : ndarray, shape (2M, 2M)
        Similarity of M models before, then of the same models after, in the same order.
    families : sequence, optional
        Label of each model; whole families are exchanged and left out, because their members are not independent.
    influence : ndarray, shape (n,), optional
        Jackknife influence of every image on Delta (`clipbias.analysis.gram.weighted_influence`).
    level : float
    resamples, seed : int
        Random exchanges above 20 units.

    Returns
    -------
    Convergence

    Raises
    ------
    DataError
        Not a square matrix of even size, or families of another length.
    StatusError
        Fewer than 3 models or families, or a similarity that is not defined.
    """
    values = np.asarray(values, float)
    if values.ndim != 2 or values.shape[0] != values.shape[1] or len(values) % 2:
        raise DataError(
            f"shape {values.shape}: a square matrix of M models before and the same M after is needed."
        )
    m = len(values) // 2
    if not np.isfinite(values).all():
        raise StatusError("not defined", "a similarity of one model is not defined; leave that model out.")
    labels = np.arange(m) if families is None else np.array([str(f) for f in families])
    if len(labels) != m:
        raise DataError(f"{len(labels)} families for {m} models.")
    names = list(dict.fromkeys(labels.tolist()))
    units = len(names)
    if m < 3 or units < 3:
        raise StatusError("too few models", f"{m} models in {units} families: at least 3 are needed.")
    weights = swap_weights(values)
    grouped = np.array([weights[labels == f].sum() for f in names])
    signs = sign_flips(units, resamples=resamples, seed=seed)
    swapped = np.abs(signs @ grouped)
    delta = float(weights.sum())
    p = float(np.mean(swapped >= abs(delta) - 1e-12 * max(1.0, np.abs(weights).sum())))
    left = np.array([_delta(values, labels != f) for f in names])
    left = left[np.isfinite(left)]
    model_error = (
        math.sqrt((len(left) - 1) / len(left) * ((left - left.mean()) ** 2).sum())
        if len(left) > 1
        else math.nan
    )
    image_error = (
        math.nan if influence is None else float(np.std(influence, ddof=1) / math.sqrt(len(influence)))
    )
    error = model_error if math.isnan(image_error) else math.hypot(model_error, image_error)
    width = stats.t.ppf((1 + level) / 2, units - 1) * error
    upper = np.triu_indices(m, 1)
    return Convergence(
        before=float(values[:m, :m][upper].mean()),
        after=float(values[m:, m:][upper].mean()),
        delta=delta,
        p_value=p,
        exact=units <= _EXACT,
        smallest_p=2 / 2**units if units <= _EXACT else 1 / len(signs),
        model_error=model_error,
        image_error=image_error,
        error=error,
        ci_low=delta - width,
        ci_high=delta + width,
        units=units,
        models=m,
    )


def max_over_layers(
    tables: Mapping[str, np.ndarray],
    *,
    families: Sequence | None = None,
    resamples: int = 9999,
    seed: int = 0,
) -> dict[str, float]:
    """Return p of every layer against the largest change over all layers, with common exchanges.

    Parameters
    ----------
    tables : mapping of str to ndarray, each (2M, 2M)
        The same models in the same order for every layer (or layer and measure).
    families, resamples, seed
        As `convergence_test`.

    Returns
    -------
    dict of float
        Adjusted for having looked at all layers (max-T; each layer in units of its own swap spread).
    """
    if not tables:
        return {}
    weights = np.array([swap_weights(np.asarray(v, float)) for v in tables.values()])
    if families is not None:
        labels = np.array([str(f) for f in families])
        weights = np.column_stack([weights[:, labels == f].sum(1) for f in dict.fromkeys(labels.tolist())])
    spread = np.sqrt((weights**2).sum(1))  # standard deviation over all sign flips
    spread = np.where(spread > 0, spread, np.inf)
    signs = sign_flips(weights.shape[1], resamples=resamples, seed=seed)
    highest = np.zeros(len(signs))
    for w, s in zip(weights, spread, strict=True):
        np.maximum(highest, np.abs(signs @ w) / s, out=highest)
    seen = np.abs(weights.sum(1)) / spread
    return {name: float(np.mean(highest >= t - 1e-12)) for name, t in zip(tables, seen, strict=True)}
