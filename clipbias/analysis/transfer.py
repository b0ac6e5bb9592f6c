"""Tables of correlations: every intrinsic with every extrinsic measure, and metrics with each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pandas as pd

from clipbias.analysis.correlate import correlate
from clipbias.analysis.joint import joint_permutation
from clipbias.analysis.result import Correlation
from clipbias.display import Shown
from clipbias.errors import DataError, StatusError, nearest

_Table = TypeVar("_Table", pd.DataFrame, pd.Series)


@dataclass(frozen=True)
class Transfer(Shown):
    """Correlations of every intrinsic with every extrinsic measure, judged one by one and together.

    Attributes
    ----------
    cells : DataFrame
        One row for each cell: its keys, everything of `Correlation.row`, ``p_max`` and ``q`` from the joint
        permutation, ``status`` and ``reason``.
    overall : dict
        ``cells, models, mean_correlation, mean_p, any_p, exact, unit``.
    """

    cells: pd.DataFrame
    overall: dict[str, object]


def _wide(table: pd.DataFrame, side: str, keys: Sequence[str], model: str, value: str) -> pd.DataFrame:
    for column in (model, value, *keys):
        if column not in table.columns:
            raise DataError(
                f"the {side} table has no column {column!r}." + nearest(column, map(str, table.columns))
            )
    if not pd.api.types.is_numeric_dtype(table[value]):
        raise DataError(f"column {value!r} of the {side} table holds no numbers.")
    index = [model, *keys]
    twice = table.duplicated(index)
    if twice.any():
        first = {c: table.loc[twice, c].iloc[0] for c in index}
        raise DataError(
            f"the {side} table has more than one value for {first}: choose a group, seed or view, or average first."
        )
    if not keys:
        return table.set_index(model)[[value]].astype(float)
    return (
        table.assign(**{k: table[k].astype(str) for k in keys})
        .pivot(index=model, columns=list(keys), values=value)
        .astype(float)
    )


def transfer_table(
    intrinsic: pd.DataFrame,
    extrinsic: pd.DataFrame,
    *,
    on: Sequence[str] = ("attribute",),
    intrinsic_keys: Sequence[str] = ("metric",),
    extrinsic_keys: Sequence[str] = ("task", "metric"),
    model: str = "model",
    value: str = "value",
    method: str = "spearman",
    controls: pd.DataFrame | None = None,
    families: pd.Series | None = None,
    bound: float = 0.3,
    alpha: float = 0.05,
    resamples: int = 9999,
    bootstrap: int = 999,
    seed: int = 0,
    unit: str = "models",
) -> Transfer:
    """Correlate every intrinsic with every extrinsic measure over the models they share.

    Parameters
    ----------
    intrinsic, extrinsic : DataFrame
        Long tables with one value for each model and key; higher is more bias.
    on : sequence of str
        Columns of both tables that must agree within a cell (attribute, view).
    intrinsic_keys, extrinsic_keys : sequence of str
        Further columns that make a measure.
    model, value : str
    method : {"spearman", "pearson"}
    controls : DataFrame, optional
        Index: model.
    families : Series, optional
        Index: model.
    bound, alpha, resamples, bootstrap, seed, unit
        As `correlate`; all orders are enumerated where they are no more than ``resamples``.

    Returns
    -------
    Transfer

    Raises
    ------
    DataError
        A missing column, two values for one model and cell, no shared model, no shared cell.
    """
    on = list(on)
    left = _wide(intrinsic, "intrinsic", [*on, *intrinsic_keys], model, value)
    right = _wide(extrinsic, "extrinsic", [*on, *extrinsic_keys], model, value)
    shared = left.index.intersection(right.index).sort_values()
    if len(shared) == 0:
        raise DataError(
            f"no model is in both tables: intrinsic has {list(left.index[:3])}, extrinsic has {list(right.index[:3])}."
        )
    left, right = left.loc[shared], right.loc[shared]
    if controls is not None:
        controls = _known(controls, shared, "controls")
    if families is not None:
        families = _known(families, shared, "families")

    def as_tuple(key: object) -> tuple:
        return key if isinstance(key, tuple) else (key,)

    pairs = [
        (a, b)
        for a in left.columns
        for b in right.columns
        if as_tuple(a)[: len(on)] == as_tuple(b)[: len(on)]
    ]
    if not pairs:
        raise DataError(f"the tables share no value of {on}: nothing can be paired.")
    joint = None
    if len(shared) >= 4:
        joint = joint_permutation(
            np.column_stack([left[a] for a, _ in pairs]),
            np.column_stack([right[b] for _, b in pairs]),
            method=method,
            controls=controls,
            families=None if families is None else families.tolist(),
            resamples=resamples,
            seed=seed,
            exact_limit=resamples,
        )
    rows = []
    for j, (a, b) in enumerate(pairs):
        row: dict[str, object] = dict(zip(on, as_tuple(a), strict=False))
        row |= {f"intrinsic_{k}": v for k, v in zip(intrinsic_keys, as_tuple(a)[len(on) :], strict=True)}
        row |= {f"extrinsic_{k}": v for k, v in zip(extrinsic_keys, as_tuple(b)[len(on) :], strict=True)}
        try:
            result: Correlation = correlate(
                left[a], right[b], method=method, controls=controls, families=families, bound=bound, alpha=alpha,
                resamples=resamples, bootstrap=bootstrap, seed=seed, unit=unit, exact_limit=resamples,
            )  # fmt: skip
            row |= result.row() | {"status": "ok", "reason": ""}
        except StatusError as error:
            row |= {"status": error.status, "reason": error.reason, "verdict": "undecided", "unit": unit}
        if joint is not None:
            row |= {"p_max": joint.p_max[j], "q": joint.q_values[j]}
        rows.append(row)
    overall: dict[str, object] = {"cells": len(pairs), "models": len(shared), "unit": unit}
    if joint is not None:
        overall |= {
            "mean_correlation": float(np.tanh(joint.mean_z)),
            "mean_p": joint.mean_p,
            "any_p": joint.any_p,
            "exact": joint.exact,
        }
    return Transfer(pd.DataFrame(rows), overall)


def _known(values: _Table, models: pd.Index, name: str) -> _Table:
    gone = models.difference(values.index)
    if len(gone):
        raise DataError(f"{name} are not known for {list(gone[:3])}.")
    return values.loc[models]


def agreement(
    table: pd.DataFrame, *, method: str = "spearman", resamples: int = 9999, seed: int = 0
) -> pd.DataFrame:
    """Return which metrics measure the same thing over models.

    Parameters
    ----------
    table : DataFrame
        Rows are models, columns are metrics.
    method : {"spearman", "pearson"}
    resamples, seed : int

    Returns
    -------
    DataFrame
        One row for each pair of metrics: ``metric_a, metric_b, estimate, p, p_max, q, n``.

    Raises
    ------
    DataError
        Fewer than two metrics.
    """
    if table.shape[1] < 2:
        raise DataError("agreement needs at least two metrics.")
    a, b = np.triu_indices(table.shape[1], 1)
    values = table.to_numpy(float)
    joint = joint_permutation(values[:, a], values[:, b], method=method, resamples=resamples, seed=seed)
    names = table.columns.astype(str)
    return pd.DataFrame(
        {
            "metric_a": names[a], "metric_b": names[b], "estimate": joint.estimates, "p": joint.p_values,
            "p_max": joint.p_max, "q": joint.q_values, "n": joint.n,
        }
    )  # fmt: skip
