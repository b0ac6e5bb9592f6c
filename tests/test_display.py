"""Result objects in a notebook: every field is shown, texts are escaped, intervals stand together."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import pandas as pd

from clipbias.display import Shown

EVIL = "<script>alert(1)</script>"


@dataclass(frozen=True)
class Found(Shown):
    value: float
    ci_low: float
    ci_high: float
    groups: dict
    draws: np.ndarray
    note: str
    table: pd.DataFrame


def test_every_field_is_shown_and_nothing_is_markup():
    shown = Found(
        0.123456, -0.2, 0.4, {EVIL: 1.0}, np.zeros((3, 4)), EVIL, pd.DataFrame({"a": [EVIL]})
    )._repr_html_()
    assert "0.1235" in shown
    assert "[-0.2, 0.4]" in shown
    assert "ci_low" not in shown
    assert "array 3×4" in shown
    assert "<details><summary>DataFrame, 1 rows</summary>" in shown
    assert EVIL not in shown
    assert shown.count("&lt;script&gt;") == 3


def test_results_of_metrics_and_analysis_show_themselves():
    from clipbias.analysis import correlate
    from clipbias.metrics import weat

    rng = np.random.default_rng(0)
    test = weat(*(rng.normal(size=(4, 8)) for _ in range(4)), permutations=50, seed=0)
    assert f"{test.effect_size:.4g}" in test._repr_html_()
    x = pd.Series(rng.normal(size=8), index=list("abcdefgh"))
    found = correlate(x, x + rng.normal(size=8), resamples=99, seed=0)
    assert f"{found.estimate:.4g}" in found._repr_html_()
    assert "interval" in found._repr_html_()


def test_it_imports_nothing_heavy():
    module = sys.modules["clipbias.display"]
    assert not {"np", "pd", "torch"} & set(vars(module))


def test_a_run_folder_lists_its_tables(tmp_path):
    from clipbias.results.run import RunFolder

    run = RunFolder(tmp_path / "run")
    run.write("models", pd.DataFrame({"model": ["a", "b"]}))
    assert "2 rows" in run._repr_html_()
    assert "models" in run._repr_html_()
