"""One correlation over models, with everything that is needed to judge it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from clipbias.analysis.coefficients import check_method, coefficient, permuted
from clipbias.analysis.intervals import bca, bonett_wright
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
from clipbias.errors import DataError, StatusError

RELATED, UNDECIDED = "related", "undecided"


def equivalent_word(bound: float) -> str:
    """Return the verdict for a correlation that is no larger than a bound."""
    return f"equivalent to none within ±{bound:g}"


def decide(p_value: float, equivalence_p: float, *, bound: float, alpha: float) -> str:
    """Return the verdict: related, equivalent to none within a bound, or undecided.

    A correlation that differs from none *and* lies within the bound is related.
    """
    if p_value < alpha:
        return RELATED
    return equivalent_word(bound) if equivalence_p < alpha else UNDECIDED


@dataclass(frozen=True)
class Correlation:
    """A correlation over units of analysis (models unless stated).

    Attributes
    ----------
    estimate : float
        In [-1, 1]; partial when there are controls.
    p_value : float
        Two-sided permutation p, |permuted| >= |observed|; within families when these are given.
    exact : bool
        Whether all permutations were enumerated.
    ci_low, ci_high : float
        Bonett-Wright; ``bca_low``, ``bca_high`` the bootstrap interval (over families when given).
    n : int
    method, unit : str
    minimum_detectable : float
        True |r| that n models would show with 80 % power.
    bound, equivalence_p : float
        The declared bound and the p of the test that |r| is below it.
    excluded_bound : float
        The smallest bound these data exclude at alpha.
    detectable_bound : float
        The smallest bound that n models would confirm with 80 % power if there were no correlation.
    models_to_detect, models_to_exclude : float
        Models needed to find a correlation of the size seen, or to confirm none within the bound.
    verdict : str
        ``"related"``, ``"equivalent to none within ±b"`` or ``"undecided"``.
    p_between : float
        Permutation p over family means; NaN without families.
    left_out_families : DataFrame
        ``family, n, estimate`` with each family left out.
    methods : dict
        The other coefficients: name -> (estimate, p_value).
    controls : tuple of str
    note : str
    """

    estimate: float
    p_value: float
    exact: bool
    ci_low: float
    ci_high: float
    bca_low: float
    bca_high: float
    n: int
    method: str
    unit: str
    minimum_detectable: float
    bound: float
    equivalence_p: float
    excluded_bound: float
    detectable_bound: float
    models_to_detect: float
    models_to_exclude: int
    verdict: str
    alpha: float = 0.05
    p_between: float = math.nan
    between_n: int = 0
    left_out_families: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame(columns=["family", "n", "estimate"])
    )
    methods: dict[str, tuple[float, float]] = field(default_factory=dict)
    controls: tuple[str, ...] = ()
    note: str = ""

    def row(self) -> dict[str, object]:
        """Return the result as one table row."""
        out = {k: v for k, v in asdict(self).items() if k not in ("left_out_families", "methods", "controls")}
        for name, (value, p) in self.methods.items():
            out[name], out[f"{name}_p"] = value, p
        lofo = self.left_out_families["estimate"]
        out["leave_one_family_low"] = float(lofo.min()) if len(lofo) else math.nan
        out["leave_one_family_high"] = float(lofo.max()) if len(lofo) else math.nan
        return out | {"controls": ", ".join(self.controls)}

    def __str__(self) -> str:
        text = (
            f"{self.method} {self.estimate:+.2f} [{self.ci_low:+.2f}, {self.ci_high:+.2f}], p {self.p_value:.3g}, "
            f"{self.n} {self.unit}: {self.verdict} (detectable {self.minimum_detectable:.2f})"
        )
        if self.verdict == UNDECIDED:
            text += (
                f"; deciding would take {self.models_to_detect:.0f} {self.unit} at this size or "
                f"{self.models_to_exclude} to exclude ±{self.bound:g}"
            )
        return text


def design(controls: Any, n: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return control variables as columns (categories as indicators), and their names.

    Raises
    ------
    DataError
        Wrong length.
    """
    if controls is None:
        return np.empty((n, 0)), ()
    if isinstance(controls, Mapping) and not isinstance(controls, pd.DataFrame):
        controls = pd.DataFrame(dict(controls))
    if not isinstance(controls, pd.DataFrame):
        array = np.asarray(controls)
        array = array.reshape(len(array), -1)
        controls = pd.DataFrame(
            array, columns=[f"control {i}" for i in range(array.shape[1])]
        ).infer_objects()
    if len(controls) != n:
        raise DataError(f"controls have {len(controls)} rows for {n} models.")
    names = tuple(str(c) for c in controls.columns)
    plain = {}
    for column in controls.columns:
        series = controls[column]
        if pd.api.types.is_numeric_dtype(series) or pd.api.types.is_bool_dtype(series):
            plain[str(column)] = series.astype(float).to_numpy()
        else:
            for level in sorted(series.dropna().astype(str).unique())[1:]:
                indicator = np.where(series.isna(), np.nan, (series.astype(str) == level).astype(float))
                plain[f"{column}={level}"] = indicator
    return (np.column_stack(list(plain.values())) if plain else np.empty((n, 0))), names


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
        gone = [m for m in index if m not in values]
        if gone:
            raise DataError(f"{name} are not known for {gone[:3]}.")
        return [values[m] for m in index]
    if len(values) != n and not isinstance(values, Mapping):
        raise DataError(f"{len(values)} {name} for {n} models.")
    return values


def residuals(values: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return what is left of columns after least squares on controls and a constant, shape as given."""
    full = np.column_stack([np.ones(len(z)), z])
    q, r = np.linalg.qr(full)
    keep = np.abs(np.diagonal(r)) > 1e-10 * max(1.0, np.abs(np.diagonal(r)).max())
    if not keep.all():  # a control that the others already contain
        u, s, _ = np.linalg.svd(full, full_matrices=False)
        q = u[:, s > 1e-10 * s[0]]
    return values - q @ (q.T @ values)


def freedman_lane(
    x: np.ndarray, y: np.ndarray, z: np.ndarray, indices: np.ndarray, *, ranks: bool
) -> tuple[float, np.ndarray]:
    """Return the partial correlation and its values under Freedman-Lane permutation.

    Residuals of y on the controls are permuted and added back to the fit; the statistic is the correlation of what
    the controls leave of x and of the new y (Freedman & Lane 1983). Ranks are taken before the regression.

    Parameters
    ----------
    x, y : ndarray, shape (n,)
    z : ndarray, shape (n, c)
    indices : ndarray of int, shape (B, n)
    ranks : bool

    Raises
    ------
    StatusError
        The controls explain one side completely.
    """
    if ranks:
        x, y, z = rankdata(x), rankdata(y), rankdata(z, axis=0)
    left = residuals(x, z)
    rest = residuals(y, z)
    for name, part, whole in (("intrinsic", left, x), ("extrinsic", rest, y)):
        if np.linalg.norm(part) <= 1e-8 * np.linalg.norm(whole - whole.mean()):
            raise StatusError("explained by controls", f"the controls explain the {name} values completely.")
    # The fit is removed again by the residuals of the new y, so only permuted residuals matter.
    again = residuals(rest[indices].T, z)
    left = left / np.linalg.norm(left)
    values = left @ again / np.linalg.norm(again, axis=0)
    return float(left @ rest / np.linalg.norm(rest)), values


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
    bx, by = (a, b) if not count else _residual_pair(a, b, z, method)
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


def _residual_pair(a: np.ndarray, b: np.ndarray, z: np.ndarray, method: str) -> tuple[np.ndarray, np.ndarray]:
    if method == "spearman":
        a, b, z = rankdata(a), rankdata(b), rankdata(z, axis=0)
    return residuals(a, z), residuals(b, z)


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
        a, b = _residual_pair(a, b, z, method)
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
