"""One correlation over models, with everything that is needed to judge it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from clipbias.analysis.coefficients import check_method, coefficient, permuted
from clipbias.analysis.intervals import bca, bonett_wright
from clipbias.analysis.partial import design, freedman_lane, residual_pair
from clipbias.analysis.permutations import orders, two_sided
from clipbias.analysis.power import (
    METHODS,
    PowerOptions,
    equivalence_test,
    minimum_detectable_correlation,
    models_to_detect,
    models_to_exclude,
    smallest_equivalence_bound,
)
from clipbias.analysis.result import RELATED, Correlation, decide
from clipbias.errors import DataError, StatusError


def _aligned(x: object, y: object) -> tuple[np.ndarray, np.ndarray, pd.Index | None]:
    if isinstance(x, pd.Series) and isinstance(y, pd.Series):
        for name, side in (("intrinsic", x), ("extrinsic", y)):
            if side.index.has_duplicates:
                twice = side.index[side.index.duplicated()][0]
                raise DataError(f"{name} values have {twice!r} twice: one value for each model is needed.")
        common = x.index.intersection(y.index)
        if len(common) == 0:
            raise DataError(
                f"no model is in both: intrinsic has {list(x.index[:3])}..., extrinsic has {list(y.index[:3])}..."
            )
        return x[common].to_numpy(float), y[common].to_numpy(float), common
    a, b = np.asarray(x, float).ravel(), np.asarray(y, float).ravel()
    if len(a) != len(b):
        raise DataError(f"{len(a)} intrinsic and {len(b)} extrinsic values.")
    return a, b, None


def _pick(values: Any, index: pd.Index | None, n: int, name: str) -> Any:
    """Return families or controls in the order of the aligned models."""
    if values is None:
        return None
    if index is not None and isinstance(values, (pd.Series, pd.DataFrame)):
        gone = index.difference(values.index)
        if len(gone):
            raise DataError(f"{name} are not known for {list(gone[:3])}.")
        return values.loc[index]
    if isinstance(values, Mapping) and index is not None and name == "families":
        unknown = [m for m in index if m not in values]
        if unknown:
            raise DataError(f"{name} are not known for {unknown[:3]}.")
        return [values[m] for m in index]
    if len(values) != n and not isinstance(values, Mapping):
        raise DataError(f"{len(values)} {name} for {n} models.")
    return values


def correlate(
    x: object,
    y: object,
    *,
    method: str = "spearman",
    controls: object = None,
    families: object = None,
    bound: float = 0.3,
    alpha: float = 0.05,
    level: float = 0.95,
    resamples: int = 9999,
    bootstrap: int = 1999,
    seed: int = 0,
    unit: str = "models",
) -> Correlation:
    """Correlate intrinsic with extrinsic bias over models.

    Parameters
    ----------
    x, y : array-like or Series, shape (n,)
        One value for each model; Series are joined on their index. Models with a missing value are left out.
    method : {"spearman", "pearson", "kendall"}
        The one the verdict rests on; the others are reported beside it.
    controls : DataFrame, mapping or array, optional
        Variables to partial out (parameters, pretraining data, accuracy); text columns become indicators.
    families : sequence, Series or mapping, optional
        Models of one family are related: labels are permuted within families, the means of families are tested
        as well, and each family is left out once.
    bound : float
        Largest correlation that counts as none.
    alpha, level : float
    resamples, bootstrap : int
        Random permutations when all are more than 400,000; bootstrap draws of the BCa interval.
    seed : int
    unit : str
        What the values are over: ``"models"``, or ``"concepts"`` within one model, which is another question.

    Returns
    -------
    Correlation

    Raises
    ------
    DataError
        Nothing shared, duplicated models, unequal lengths, unknown method, bound out of range.
    StatusError
        Fewer than 4 models with both values, a constant side, a side that the controls explain.
    """
    check_method(method)
    a, b, index = _aligned(x, y)
    fam = _pick(families, index, len(a), "families")
    z, names = design(_pick(controls, index, len(a), "controls"), len(a))
    keep = np.isfinite(a) & np.isfinite(b) & np.isfinite(z).all(1)
    notes = [] if keep.all() else [f"{int((~keep).sum())} {unit} without all values were left out"]
    a, b, z = a[keep], b[keep], z[keep]
    fam_array = None if fam is None else np.array([str(f) for f in fam], dtype=object)[keep]
    n = len(a)
    count = int(np.linalg.matrix_rank(z - z.mean(0))) if z.size else 0
    if n < 4 + count:
        extra = f" and {count} controls" if count else ""
        raise StatusError(
            "too few models", f"{n} {unit}{extra}; at least {4 + count} are needed for a correlation."
        )
    for name, side in (("intrinsic", a), ("extrinsic", b)):
        if not np.isfinite(coefficient(side, side, method="pearson")):
            raise StatusError(
                "constant column", f"the {name} values of all {n} {unit} are equal ({side[0]:g})."
            )
    if count and method == "kendall":
        raise DataError("partial correlation is offered for spearman and pearson, not kendall.")
    if fam_array is not None and len(set(fam_array)) == n:
        notes.append("every family has one member; labels were permuted over all")
    within = None if fam_array is None or len(set(fam_array)) == n else fam_array
    drawn = orders(n, families=within, resamples=resamples, seed=seed)

    def one(kind: str) -> tuple[float, float]:
        if count:
            value, values = freedman_lane(a, b, z, drawn.indices, ranks=kind == "spearman")
        else:
            value = float(coefficient(a, b, method=kind))
            values = permuted(a, b, drawn.indices, method=kind)
        return value, two_sided(values, value)

    estimate, p_value = one(method)
    others = {kind: one(kind) for kind in METHODS if kind != method and not (count and kind == "kendall")}
    estimate = float(min(1.0, estimate)) if estimate < 1 + 1e-9 else estimate
    estimate = max(-1.0, estimate)
    low, high = _or_nan(lambda: bonett_wright(estimate, n, method=method, level=level, controls=count), 2)
    bx, by = (a, b) if not count else residual_pair(a, b, z, method)
    bca_low, bca_high, lost = bca(
        bx,
        by,
        method="pearson" if count else method,
        level=level,
        resamples=bootstrap,
        seed=seed,
        families=within,
    )
    if lost > 0:
        notes.append(f"{lost:.1%} of bootstrap draws had no spread")
    try:
        test = equivalence_test(estimate, n, bound=bound, alpha=alpha, method=method, controls=count)
        equivalence_p, excluded = test.p_value, test.excluded_bound
    except StatusError:
        equivalence_p, excluded = math.nan, 1.0
    verdict = decide(p_value, equivalence_p, bound=bound, alpha=alpha)
    if verdict == RELATED and equivalence_p < alpha:
        notes.append(f"but no larger than ±{bound:g}")
    if drawn.exact and 1 / len(drawn.indices) * (2 if within is None else 1) >= alpha:
        notes.append(f"the smallest p that {len(drawn.indices)} permutations can give is not below {alpha:g}")
    p_between, between_n, lofo = _over_families(a, b, z, fam_array, method, count, resamples, seed)
    power: PowerOptions = {"method": method, "controls": count, "alpha": alpha}
    return Correlation(
        estimate=estimate,
        p_value=p_value,
        exact=drawn.exact,
        ci_low=low,
        ci_high=high,
        bca_low=bca_low,
        bca_high=bca_high,
        n=n,
        method=method,
        unit=unit,
        minimum_detectable=minimum_detectable_correlation(n, **power),
        bound=bound,
        equivalence_p=equivalence_p,
        excluded_bound=excluded,
        detectable_bound=smallest_equivalence_bound(n, **power),
        models_to_detect=models_to_detect(estimate, **power),
        models_to_exclude=models_to_exclude(bound, **power),
        verdict=verdict,
        alpha=alpha,
        p_between=p_between,
        between_n=between_n,
        left_out_families=lofo,
        methods=others,
        controls=names,
        note="; ".join(notes),
    )


def _or_nan(function, count: int) -> tuple[float, ...]:
    try:
        return function()
    except StatusError:
        return (math.nan,) * count


def _over_families(
    a: np.ndarray,
    b: np.ndarray,
    z: np.ndarray,
    families: np.ndarray | None,
    method: str,
    count: int,
    resamples: int,
    seed: int,
) -> tuple[float, int, pd.DataFrame]:
    """Return the permutation p over family means, their number, and the estimate without each family."""
    lofo = pd.DataFrame(columns=["family", "n", "estimate"])
    if families is None:
        return math.nan, 0, lofo
    if count:
        a, b = residual_pair(a, b, z, method)
        method = "pearson"
    names: Sequence[str] = list(dict.fromkeys(families.tolist()))
    means = np.array([[v[families == f].mean() for f in names] for v in (a, b)])
    p = math.nan
    if len(names) >= 4 and np.isfinite(value := float(coefficient(means[0], means[1], method=method))):
        drawn = orders(len(names), resamples=resamples, seed=seed)
        p = two_sided(permuted(means[0], means[1], drawn.indices, method=method), value)
    rows = []
    for name in names:
        rest = families != name
        value = float(coefficient(a[rest], b[rest], method=method)) if rest.sum() >= 4 else math.nan
        rows.append({"family": name, "n": int(rest.sum()), "estimate": value})
    return p, len(names), pd.DataFrame(rows)
