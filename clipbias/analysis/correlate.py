"""One correlation over models, with everything that is needed to judge it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from clipbias.analysis.coefficients import check_method, coefficient, permuted
from clipbias.analysis.intervals import bca, bonett_wright
from clipbias.analysis.partial import degrees, design, family_indicators, freedman_lane, residual_pair
from clipbias.analysis.permutations import EXACT_LIMIT, orders, two_sided
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

FEW_FAMILIES = 6  # below this, an interval from drawing whole families means nothing


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
    exact_limit: int = EXACT_LIMIT,
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
        Models of one family are related: what families differ by is partialled out and labels are permuted within
        them, as in a block design, whatever the size of each. A control that is the same in every family (the
        parameters of an architecture) is held by this and takes nothing more. The means of families are tested
        as well, and each family is left out once.
    bound : float
        Largest correlation that counts as none.
    alpha, level : float
    resamples, bootstrap : int
        Random permutations when all are more than ``exact_limit``; bootstrap draws of the BCa interval.
    seed : int
    unit : str
        What the values are over: ``"models"``, or ``"concepts"`` within one model, which is another question.
    exact_limit : int
        Largest number of orders that is enumerated.

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
    within = None if fam_array is None or len(set(fam_array)) in (1, n) else fam_array
    own, own_count = z, degrees(z)
    if within is not None:
        z = np.column_stack([family_indicators(within), own])
    count = degrees(z)
    if within is not None and own_count and count == degrees(family_indicators(within)):
        notes.append(f"{', '.join(names)} held by comparing within families")
    if n < 4 + count:
        extra = f" in {len(set(within))} families" if within is not None else ""
        extra += f" and {own_count} controls" if own_count else ""
        raise StatusError(
            "too few models", f"{n} {unit}{extra}; at least {4 + count} are needed for a correlation."
        )
    for name, side in (("intrinsic", a), ("extrinsic", b)):
        if not np.isfinite(coefficient(side, side, method="pearson")):
            raise StatusError(
                "constant column", f"the {name} values of all {n} {unit} are equal ({side[0]:g})."
            )
    if own_count and method == "kendall":
        raise DataError("partial correlation is offered for spearman and pearson, not kendall.")
    if fam_array is not None and len(set(fam_array)) == n:
        notes.append("every family has one member; labels were permuted over all")
    drawn = orders(n, families=within, resamples=resamples, seed=seed, limit=exact_limit)

    def one(kind: str) -> tuple[float, float]:
        if count and kind != "kendall":
            value, values = freedman_lane(a, b, z, drawn.indices, ranks=kind == "spearman")
        else:
            values = permuted(a, b, drawn.indices, method=kind, families=within)
            value = float(values[0])
        return value, two_sided(values, value)

    estimate, p_value = one(method)
    others = {kind: one(kind) for kind in METHODS if kind != method and not (own_count and kind == "kendall")}
    estimate = float(min(1.0, estimate)) if estimate < 1 + 1e-9 else estimate
    estimate = max(-1.0, estimate)
    low, high = _or_nan(lambda: bonett_wright(estimate, n, method=method, level=level, controls=count), 2)
    bca_low, bca_high, lost = math.nan, math.nan, 0.0
    if not count or method != "kendall":  # of pairs within families there are too few to draw from
        bx, by = (a, b) if not count else residual_pair(a, b, z, method)
        few = within is not None and len(set(within)) < FEW_FAMILIES
        bca_low, bca_high, lost = bca(
            bx, by, method="pearson" if count else method, level=level, resamples=bootstrap, seed=seed, families=within, within=few,
        )  # fmt: skip
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
    p_between, between_n, lofo = _over_families(a, b, own, fam_array, method, resamples, seed)
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
        partialled=count,
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
    resamples: int,
    seed: int,
) -> tuple[float, int, pd.DataFrame]:
    """Return the permutation p over family means, their number, and the estimate without each family."""
    lofo = pd.DataFrame(columns=["family", "n", "estimate"])
    if families is None:
        return math.nan, 0, lofo
    names: Sequence[str] = list(dict.fromkeys(families.tolist()))
    x, y, kind = (*residual_pair(a, b, z, method), "pearson") if z.size else (a, b, method)
    means = np.array([[v[families == f].mean() for f in names] for v in (x, y)])
    p = math.nan
    if len(names) >= 4 and np.isfinite(value := float(coefficient(means[0], means[1], method=kind))):
        drawn = orders(len(names), resamples=resamples, seed=seed)
        p = two_sided(permuted(means[0], means[1], drawn.indices, method=kind), value)
    rows = []
    for name in names:
        rest = families != name
        value = _one_estimate(a[rest], b[rest], z[rest], families[rest], method)
        rows.append({"family": name, "n": int(rest.sum()), "estimate": value})
    return p, len(names), pd.DataFrame(rows)


def _one_estimate(a: np.ndarray, b: np.ndarray, z: np.ndarray, families: np.ndarray, method: str) -> float:
    """Return the correlation within families given controls; NaN where it is not defined."""
    if 1 < len(set(families)) < len(families):
        z = np.column_stack([family_indicators(families), z])
    else:
        families = np.zeros(len(a))
    if len(a) < 4 + degrees(z):
        return math.nan
    if method == "kendall":
        return float(permuted(a, b, np.arange(len(a))[None], method=method, families=families)[0])
    x, y = residual_pair(a, b, z, method)
    small = [
        float(np.linalg.norm(v)) <= 1e-8 * max(1.0, float(np.linalg.norm(w))) for v, w in ((x, a), (y, b))
    ]
    return math.nan if any(small) else float(coefficient(x, y, method="pearson"))
