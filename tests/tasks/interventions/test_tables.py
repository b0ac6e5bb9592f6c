"""The tables of the interventions hold what they say, and nothing silently."""

from __future__ import annotations

import pytest

from clipbias.tasks.interventions.tables import TABLES, table


def test_rows_get_all_columns_in_order():
    frame = table("inheritance", [{"model": "zoo:vit-50", "n": 64, "metric": "auc", "value": 0.7}])
    assert list(frame) == list(TABLES["inheritance"])
    assert frame["status"].tolist() == ["ok"]


def test_a_strange_column_is_refused():
    with pytest.raises(ValueError, match="no columns"):
        table("inheritance", [{"modle": "x", "value": 1.0}])


def test_a_missing_value_needs_a_reason():
    with pytest.raises(ValueError, match="no reason"):
        table("inheritance", [{"value": None}])
    frame = table("inheritance", [{"value": None, "status": "missing cell", "reason": "no man is a cook"}])
    assert frame["reason"][0] == "no man is a cook"
