"""The shipped lines of proof, and that what a study puts in their place is what a run says."""

import numpy as np
import pandas as pd
import pytest

from clipbias.errors import DataError
from clipbias.instrument.inputs import input_of, single_targets
from clipbias.instrument.proven import COLUMNS, metric_validity
from clipbias.metrics import registry, sc_weat
from clipbias.metrics.inference import evaluate
from clipbias.metrics.protocol import Protocol


def test_every_metric_has_its_line():
    table = metric_validity().set_index("metric")
    assert set(table.index) == set(registry())
    for name, line in table.iterrows():
        # What has no number has a reason.
        numbers = line[["spearman", "reliability", "false_positive_rate", "coverage"]]
        assert numbers.notna().all() or line["reason"], name
    assert table["spearman"].dropna().between(-1, 1).all()
    assert table["false_positive_rate"].dropna().le(0.07).all()
    assert metric_validity(["max_skew", "mine"])["metric"].tolist() == ["max_skew"]


def test_a_study_can_put_its_own_lines_there(tmp_path, monkeypatch):
    (tmp_path / "analysis").mkdir()
    path = tmp_path / "analysis" / "metric_validity.csv"
    pd.DataFrame([{**dict.fromkeys(COLUMNS, 0.5), "metric": "mine", "reason": ""}]).to_csv(path, index=False)
    monkeypatch.setenv("CLIPBIAS_STUDY", str(tmp_path))
    assert metric_validity()["metric"].tolist() == ["mine"]
    path.write_text("metric,what\nmine,zoo\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"lacks the columns spearman.*benchmarks/validity.py"):
        metric_validity()


def test_every_text_is_a_single_target_of_an_attribute_with_two_levels():
    rng = np.random.default_rng(0)
    values, texts = rng.normal(size=(9, 4)), rng.normal(size=(2, 4))
    labels = pd.Series(["woman", "man"] * 4 + ["unknown"])
    given = single_targets(values, labels, texts, ["cook", "farmer"])[input_of("sc_weat")]
    rows = evaluate("sc_weat", given, protocol=Protocol(n_boot=20, n_perm=20))
    man, woman = values[labels == "man"], values[labels == "woman"]
    expected = sc_weat(texts, man, woman)
    assert [row["probe"] for row in rows] == ["cook", "farmer", ""]
    assert [row["value"] for row in rows] == pytest.approx([*expected, np.mean(expected)])
    assert single_targets(values, labels.replace("unknown", "child"), texts, ["cook", "farmer"]) == {}
