"""A mixed-effects model for rows of (model, attribute), and dose-response on planted truth.

Rows of one model are not independent: least squares over (model, attribute) rows rejects a true null in a fifth to a
third of all cases. statsmodels fits the random intercepts; around it are guards for what goes wrong there: the
optimiser lbfgs can return exact zeros with ``converged=True``, a group variance of zero floods warnings, and its
z-tests are too sure of themselves with few models.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from clipbias.analysis.correlate import correlate
from clipbias.analysis.result import Correlation
from clipbias.display import Shown
from clipbias.errors import DataError, StatusError, nearest

_OPTIMISERS = ("bfgs", "powell", "nm")  # never lbfgs


@dataclass(frozen=True)
class MixedEffect(Shown):
    """Slope of an outcome on a predictor with a random intercept for each model.

    Attributes
    ----------
    slope, error : float
        In units of the outcome per unit of the predictor.
    t, p_value : float
        Against Student's t with models - 2 - (controls) degrees of freedom, not the normal.
    ci_low, ci_high : float
    group_sd, residual_sd : float
    singular : bool
        Whether the variance between models came out as zero; the slope is then that of least squares.
    means_slope, means_p : float
        The same on one mean for each model, which is valid when the predictor belongs to the model.
    models, rows : int
    optimiser : str
    """

    slope: float
    error: float
    t: float
    p_value: float
    ci_low: float
    ci_high: float
    group_sd: float
    residual_sd: float
    singular: bool
    means_slope: float
    means_p: float
    models: int
    rows: int
    optimiser: str


def mixed_effects(
    table: pd.DataFrame,
    *,
    outcome: str,
    predictor: str,
    group: str = "model",
    fixed: tuple[str, ...] = (),
    level: float = 0.95,
) -> MixedEffect:
    """Fit outcome ~ predictor + fixed + (1 | group).

    Parameters
    ----------
    table : DataFrame
        Long table.
    outcome, predictor : str
        Numeric columns.
    group : str
        The model.
    fixed : tuple of str
        Further columns; text becomes indicators (attribute, task).
    level : float

    Returns
    -------
    MixedEffect

    Raises
    ------
    DataError
        A missing column.
    StatusError
        Too few models, one row for each model, no variation, or no optimiser that converges.
    """
    import statsmodels.api as sm

    for column in (outcome, predictor, group, *fixed):
        if column not in table.columns:
            raise DataError(f"no column {column!r}." + nearest(column, map(str, table.columns)))
    data = table[[outcome, predictor, group, *fixed]].dropna()
    groups = data[group].astype(str).to_numpy()
    models = len(set(groups))
    terms = (
        pd.get_dummies(data[list(fixed)], drop_first=True, dtype=float)
        if fixed
        else pd.DataFrame(index=data.index)
    )
    free = models - 2 - _between(terms, groups)
    if free < 2:
        raise StatusError("too few models", f"{models} models; at least {4 + models - 2 - free} are needed.")
    if len(data) == models:
        raise StatusError(
            "one row per model", "each model has one row: use correlate, there is nothing to group."
        )
    y, x = data[outcome].to_numpy(float), data[predictor].to_numpy(float)
    for name, values in ((outcome, y), (predictor, x)):
        if np.ptp(values) == 0:
            raise StatusError("constant column", f"{name!r} is {values[0]:g} everywhere.")
    # Optimisers see numbers of size one, the answer is put back on the scale of the table.
    scale_y, scale_x = y.std(), x.std()
    exog = np.column_stack([np.ones(len(data)), (x - x.mean()) / scale_x, terms.to_numpy(float)])
    if np.linalg.matrix_rank(exog) < exog.shape[1]:
        raise StatusError("explained by controls", f"{predictor!r} and {list(fixed)} say the same thing.")
    fitted, optimiser = None, ""
    for optimiser in _OPTIMISERS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                trial = sm.MixedLM((y - y.mean()) / scale_y, exog, groups=groups).fit(
                    method=[optimiser], reml=True
                )
            except (np.linalg.LinAlgError, ValueError):
                continue
        if np.isfinite(trial.bse_fe[1]) and trial.fe_params[1] != 0.0:
            fitted = trial
            if trial.converged:
                break
    singular = fitted is not None and float(fitted.cov_re[0, 0]) < 1e-6 * float(fitted.scale)
    if fitted is None:
        raise StatusError("did not converge", f"none of {_OPTIMISERS} could fit the mixed model.")
    factor = scale_y / scale_x
    slope, error = float(fitted.fe_params[1]) * factor, float(fitted.bse_fe[1]) * factor
    t = slope / error
    width = stats.t.ppf((1 + level) / 2, free) * error
    means = data.assign(_g=groups).groupby("_g")[[outcome, predictor]].mean()
    line = stats.linregress(means[predictor], means[outcome]) if np.ptp(means[predictor]) > 0 else None
    return MixedEffect(
        slope,
        error,
        t,
        float(2 * stats.t.sf(abs(t), free)),
        slope - width,
        slope + width,
        math.sqrt(max(0.0, float(fitted.cov_re[0, 0]))) * scale_y,
        math.sqrt(float(fitted.scale)) * scale_y,
        bool(singular),
        float(line.slope) if line else math.nan,
        float(line.pvalue) if line else math.nan,
        models,
        len(data),
        optimiser,
    )


def _between(terms: pd.DataFrame, groups: np.ndarray) -> int:
    """Return how many indicator columns belong to the model: each costs a degree of freedom between models."""
    if terms.shape[1] == 0:
        return 0
    return int((terms.groupby(groups).nunique().max() == 1).sum())


@dataclass(frozen=True)
class DoseResponse(Shown):
    """How a measured bias follows a planted one.

    Attributes
    ----------
    correlation : Correlation
    slope, ci_low, ci_high : float
        Measured per unit of planted bias, least squares with a t interval.
    concordance : float
        Share of pairs of different doses that are measured in the right order, 0.5 is chance.
    at_zero, zero_low, zero_high : float
        Mean measured value where nothing was planted, with its t interval; NaN without such models.
    doses, n : int
    """

    correlation: Correlation
    slope: float
    ci_low: float
    ci_high: float
    concordance: float
    at_zero: float
    zero_low: float
    zero_high: float
    doses: int
    n: int


def dose_response(
    planted: object, measured: object, *, bound: float = 0.3, families: object = None, seed: int = 0
) -> DoseResponse:
    """Compare measured with planted bias over models.

    Parameters
    ----------
    planted, measured : array-like, shape (n,)
        Known dose and metric value of each model.
    bound : float
        As `clipbias.analysis.correlate.correlate`.
    families, seed
        As there.

    Returns
    -------
    DoseResponse

    Raises
    ------
    StatusError
        Fewer than 4 models or one dose only.
    """
    dose, value = np.asarray(planted, float), np.asarray(measured, float)
    keep = np.isfinite(dose) & np.isfinite(value)
    families = None if families is None else np.asarray(list(families))[keep]  # type: ignore[call-overload]
    dose, value = dose[keep], value[keep]
    found = correlate(dose, value, bound=bound, families=families, seed=seed)
    line = stats.linregress(dose, value)
    width = stats.t.ppf(0.975, len(dose) - 2) * line.stderr
    order = np.sign(dose[:, None] - dose[None, :]) * np.sign(value[:, None] - value[None, :])
    apart = dose[:, None] != dose[None, :]
    zero = value[dose == 0]
    middle = float(zero.mean()) if len(zero) else math.nan
    half = (
        float(stats.t.ppf(0.975, len(zero) - 1) * zero.std(ddof=1) / math.sqrt(len(zero)))
        if len(zero) > 1
        else math.nan
    )
    return DoseResponse(
        found,
        float(line.slope),
        float(line.slope - width),
        float(line.slope + width),
        float((1 + order[apart].mean()) / 2),
        middle,
        middle - half,
        middle + half,
        len(np.unique(dose)),
        len(dose),
    )
