"""The two sides of a transfer question: one value for each model and measure, and which measures are paired."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from clipbias.analysis.answers.base import matches, side_values
from clipbias.analysis.questions import Question
from clipbias.analysis.values import columns_of, families_of


@dataclass(frozen=True)
class Pairs:
    """Values of both sides over the models they share.

    Attributes
    ----------
    x, y : DataFrame
        Long: ``model``, the columns of ``on``, the keys of the side, ``value``.
    on : list of str
        Columns that must agree within a pair.
    x_keys, y_keys : list of str
    shared : Index
        Models on both sides.
    controls : DataFrame or None
    families : Series or None
    unknown : list of str
        Controls that are not known of all models, or constant.
    """

    x: pd.DataFrame
    y: pd.DataFrame
    on: list[str]
    x_keys: list[str]
    y_keys: list[str]
    shared: pd.Index
    controls: pd.DataFrame | None
    families: pd.Series | None
    unknown: list[str]

    @property
    def keys(self) -> list[str]:
        """Columns of `cells` beside ``on``."""
        return [*(f"intrinsic_{k}" for k in self.x_keys), *(f"extrinsic_{k}" for k in self.y_keys)]

    def cells(self) -> pd.DataFrame:
        """Return one row for each intrinsic with each extrinsic measure: ``on`` and `keys`."""
        left, right = (
            side[[*self.on, *keys]].drop_duplicates().rename(columns={k: f"{name}_{k}" for k in keys})
            for side, keys, name in ((self.x, self.x_keys, "intrinsic"), (self.y, self.y_keys, "extrinsic"))
        )
        both = left.merge(right, on=self.on) if self.on else left.merge(right, how="cross")
        return both.sort_values([*self.on, *self.keys]).reset_index(drop=True)

    def matrices(self, cells: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Return the values of both sides in the given cells, each of shape (models, cells)."""
        out = []
        for side, keys, name in ((self.x, self.x_keys, "intrinsic"), (self.y, self.y_keys, "extrinsic")):
            own = [*self.on, *keys]
            place = cells[[*self.on, *(f"{name}_{k}" for k in keys)]].astype(str).set_axis(own, axis=1)
            place = place.assign(_cell=np.arange(len(cells)))
            found = side.astype(dict.fromkeys(own, str)).merge(place, on=own)
            wide = found.pivot(index="model", columns="_cell", values="value")
            out.append(wide.reindex(index=self.shared, columns=np.arange(len(cells))).to_numpy(float))
        return out[0], out[1]

    def series(self, cell: pd.Series) -> tuple[pd.Series, pd.Series]:
        """Return the values of both sides in one cell, over the shared models."""
        a, b = self.matrices(cell.to_frame().T)
        return pd.Series(a[:, 0], index=self.shared), pd.Series(b[:, 0], index=self.shared)


def pairs_of(
    question: Question,
    tables: Mapping[str, pd.DataFrame],
    left: pd.DataFrame,
    right: pd.DataFrame,
    ideals: Mapping[str, float],
) -> Pairs:
    """Return the two sides of a question from result rows."""
    on = [c for c in question.test("on", ["attribute"]) if c in left.columns and c in right.columns]
    x, x_keys = side_values(question, "intrinsic", left, on, ideals)
    y, y_keys = side_values(question, "extrinsic", right, on, ideals)
    shared = pd.Index(sorted(set(x["model"]) & set(y["model"])), name="model")
    models = tables.get("models")
    controls, unknown = columns_of(models, list(question.test("controls", [])), shared)
    families = families_of(models, question.test("families"), shared)
    if len(shared):
        x, y = x[x["model"].isin(shared)], y[y["model"].isin(shared)]
    return Pairs(x, y, on, x_keys, y_keys, shared, controls, families, unknown)


def primary_cells(cells: pd.DataFrame, wanted: Mapping[str, object]) -> tuple[pd.DataFrame, list[str]]:
    """Return the cells of the primary pair or pairs, and in words those that are not in the tables.

    A column of the primary pair may name several values: one pair for each of them, judged together.
    """
    chosen = cells[matches(cells, wanted)]
    several = {k: list(v) for k, v in wanted.items() if isinstance(v, (list, tuple)) and k in cells.columns}
    gone = [
        f"{column.split('_', 1)[-1].replace('_', ' ')} {value}"
        for column, values in several.items()
        for value in values
        if not (chosen[column].astype(str) == str(value)).any()
    ]
    return chosen, gone
