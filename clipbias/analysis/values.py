"""From result rows to one value for each model and cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from clipbias.errors import DataError, nearest

AVERAGED = ("protocol", "seed", "image_set", "head", "mode", "intervention", "task", "stage", "view")


def select(table: pd.DataFrame, where: Mapping[str, object], *, name: str) -> pd.DataFrame:
    """Return the rows in which every named column has the given value, or one of a list of values.

    A column that a table from elsewhere does not have restricts nothing, unless no table could have it.

    Raises
    ------
    DataError
        A column that result tables do not know, or one restricted to what no row has.
    """
    known = {"stage", "view", "probe", "group", "attribute", "metric", "kind", *AVERAGED}
    for column, wanted in where.items():
        if column not in table.columns:
            if column not in known:
                raise DataError(
                    f"the {name} table has no column {column!r}." + nearest(column, map(str, table.columns))
                )
            continue
        values = [wanted] if isinstance(wanted, (str, int, float)) else list(wanted)  # type: ignore[call-overload]
        table = table[table[column].astype(object).fillna("").astype(str).isin([str(v) for v in values])]
    return table


def bias_only(table: pd.DataFrame, declared: pd.DataFrame | None) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows of measures of bias, and the names of the others.

    Quality (declared "higher is better") and what has no ideal, such as a rate of the data, say nothing about bias by
    their distance from it; metrics that nobody declared are kept.
    """
    if declared is None or not {"metric", "ideal", "direction"} <= set(declared.columns):
        return table, []
    if "metric" not in table.columns:
        return table, []
    other = declared["ideal"].isna() | (declared["direction"].astype(str) == "higher is better")
    names = set(declared.loc[other, "metric"].astype(str)) & set(table["metric"].astype(str))
    return table[~table["metric"].astype(str).isin(names)].reset_index(drop=True), sorted(names)


def bias_values(
    table: pd.DataFrame,
    *,
    keys: Sequence[str],
    where: Mapping[str, object] | None = None,
    transform: str = "distance",
    ideals: Mapping[str, float] | None = None,
    items: bool = False,
    name: str = "intrinsic",
) -> pd.DataFrame:
    """Return one value of bias for each model and combination of keys.

    Rows with a status other than "ok" and values that are not finite are left out. Within a cell the largest
    distance over groups is taken for each probe, then the mean over probes. The row over all probes stands for
    them where single probes are not there, where ``where`` asks for ``probe = ""``, and under
    ``transform="value"``. What else varies (seed, image set, ...) is averaged.

    Parameters
    ----------
    table : DataFrame
        ``model``, ``value``, the keys, and any of the columns of result rows.
    keys : sequence of str
        Columns that stay.
    where : mapping, optional
        Column -> value or list of values to keep.
    transform : {"distance", "value"}
        Distance to the ideal of the metric (0 where none is declared), or the value itself.
    ideals : mapping, optional
        Metric -> ideal value.
    items : bool
        Keep the probes apart: ``probe`` becomes a key, and only rows of single probes count.
    name : str
        Of the table, for messages.

    Returns
    -------
    DataFrame
        ``model``, the keys, ``value``.

    Raises
    ------
    DataError
        A missing column, or groups with opposite signs under ``transform="value"``.
    """
    keys = list(keys)
    for column in ("model", "value", *keys):
        if column not in table.columns:
            raise DataError(
                f"the {name} table has no column {column!r}." + nearest(column, map(str, table.columns))
            )
    if not pd.api.types.is_numeric_dtype(table["value"]):
        raise DataError(f"column 'value' of the {name} table holds no numbers.")
    table = select(table, where or {}, name=name)
    if "status" in table.columns:
        table = table[table["status"].astype(object).fillna("ok") == "ok"]
    text = {
        c: table[c].astype(object).fillna("").astype(str)
        for c in table.columns
        if c != "value" and c in {"model", "probe", "group", "metric", *keys, *AVERAGED}
    }
    frame = pd.DataFrame(text).assign(value=table["value"].astype(float).to_numpy())
    frame = frame[np.isfinite(frame["value"])]
    if transform == "distance":
        ideal = (
            frame["metric"].map(dict(ideals or {})).fillna(0.0).astype(float) if "metric" in frame else 0.0
        )
        frame["value"] = (frame["value"] - ideal).abs()
    cell = ["model", *keys]
    rest = [c for c in AVERAGED if c in frame.columns and c not in cell]
    if "probe" in frame.columns:
        if items:
            frame = frame[frame["probe"] != ""]
            cell = [*cell, "probe"]
        elif "probe" not in cell:
            # Bias that changes sign from probe to probe would cancel in the mean: distances are taken first.
            wanted = (frame["probe"] != "") if transform == "distance" else (frame["probe"] == "")
            has = wanted.groupby([frame[c] for c in cell]).transform("any") if len(frame) else wanted
            frame = frame[wanted | ~has]
            rest = [*rest, "probe"]
    elif items:  # nothing is known of single probes
        return frame.iloc[:0].assign(probe="")[[*cell, "probe", "value"]]
    if "group" in frame.columns and "group" not in cell:
        over = [*cell, *rest]
        if transform == "value" and len(frame) and frame.groupby(over)["group"].nunique().max() > 1:
            raise DataError(
                f'the {name} table has several groups in one cell; choose one in `where` or use transform = "distance".'
            )
        frame = frame.groupby(over, as_index=False, observed=True)["value"].max()
    return frame.groupby(cell, as_index=False, observed=True)["value"].mean()


def columns_of(
    models: pd.DataFrame | None, names: Sequence[str], shared: pd.Index
) -> tuple[pd.DataFrame | None, list[str]]:
    """Return control columns for models, and the names of those that are missing, incomplete or constant."""
    if models is None or not names:
        return None, list(names)
    by_model = models.drop_duplicates("model").set_index("model")
    found, gone = {}, []
    for name in names:
        if name not in by_model.columns:
            gone.append(name)
            continue
        column = by_model[name].reindex(shared)
        if column.isna().any() or column.nunique() < 2:
            gone.append(name)
        else:
            found[name] = column
    return (pd.DataFrame(found, index=shared) if found else None), gone


def families_of(models: pd.DataFrame | None, name: object, shared: pd.Index) -> pd.Series | None:
    """Return the family of each model; None when unknown, when all are one, or when all differ."""
    if models is None or not isinstance(name, str) or not name or name not in models.columns:
        return None
    column = models.drop_duplicates("model").set_index("model", drop=False)[name].reindex(shared)
    if column.isna().any() or column.nunique() in (1, len(column)):
        return None
    return column.astype(str)
