"""The registry, what metrics declare, and the protocol."""

import importlib.metadata

import numpy as np
import pydantic
import pytest

from clipbias.errors import DataError
from clipbias.metrics import (
    Classification,
    Metric,
    Protocol,
    Ranking,
    Retrieval,
    evaluate,
    get,
    metric,
    record,
    registry,
)
from clipbias.metrics.intervals import KINDS

FAMILY = {
    "skew", "max_skew", "min_skew", "ndkl", "bias_at_k", "normalized_entropy", "c_asc", "weat", "sc_weat",
    "zero_shot_disparity", "harm_rate", "recall_at_k", "kl_recall",
}  # fmt: skip


def test_the_first_family_is_registered():
    assert set(registry()) >= FAMILY


@pytest.mark.parametrize("name", sorted(FAMILY))
def test_every_metric_says_what_it_means(name):
    m = get(name)
    assert m.about.endswith(".")
    assert m.interval in KINDS
    assert "same n" in m.interval_text
    assert m.reference.startswith(("doi:", "arXiv:"))
    assert all((m.unit, m.sign, m.direction))
    low, high = m.range
    assert low <= m.ideal <= high
    assert m.distance(m.ideal) == 0


def test_unknown_metric_names_the_near_one():
    with pytest.raises(DataError, match="Did you mean 'max_skew'"):
        get("maxskew")


@pytest.fixture
def clean_registry(monkeypatch):
    registry()
    monkeypatch.setattr(record, "_registered", dict(record._registered))


def test_a_new_metric_is_one_decorated_function(clean_registry):
    @metric(
        "share_gap", needs="ranking", range=(0, 1), ideal=0, unit="share", sign="never negative",
        direction="lower is fairer", worse="high", interval="excess", reference="arXiv:0000.00000",
    )  # fmt: skip
    def share_gap(t):
        """Largest minus smallest share of the first k."""
        return t.share.max(-1) - t.share.min(-1)

    scores = np.stack([np.arange(40.0), np.arange(40.0)[::-1]])
    rows = evaluate(
        "share_gap", Ranking(scores, ["up", "down"], ["a"] * 20 + ["b"] * 20), protocol=Protocol(k=10)
    )
    assert [r["probe"] for r in rows] == ["up", "down", ""]
    assert all(r["value"] == 1.0 and r["p"] < 0.01 and r["z"] > 3 for r in rows)


def test_two_metrics_of_one_name_are_an_error(clean_registry):
    def kernel(t):
        """Foreign."""

    with pytest.raises(DataError, match="declared twice"):
        metric(
            "skew", needs="ranking", range=(0, 1), ideal=0, unit="", sign="", direction="", worse="high",
            interval="t", reference="",
        )(kernel)  # fmt: skip


class Point:
    """An entry point of another package."""

    name, value = "theirs", "their.module:metric"

    def __init__(self, result):
        self.result = result

    def load(self):
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def test_entry_points_are_loaded_and_a_broken_one_warns(clean_registry, monkeypatch):
    theirs = Metric(
        "theirs", lambda t: t.share[..., 0], "ranking", (0, 1), 0, "share", "s", "d", "high", "t", "arXiv:1"
    )
    points = [Point(ImportError("no such module")), Point(theirs)]
    monkeypatch.setattr(record, "entry_points", lambda group: points if group == "clipbias.metrics" else [])
    monkeypatch.setattr(record, "_loaded", [])
    with pytest.warns(UserWarning, match="'theirs'.*no such module"):
        assert registry()["theirs"] is theirs
    assert set(registry()) >= FAMILY


def test_the_entry_point_group_is_the_documented_one():
    assert list(importlib.metadata.entry_points(group="clipbias.metrics")) is not None
    assert record.entry_points is importlib.metadata.entry_points


def test_protocol_is_frozen_and_hashed():
    p = Protocol()
    assert p.name == "strict"
    assert len(p.hash) == 12
    assert int(p.hash, 16) >= 0
    assert p.hash == Protocol().hash
    changes = [
        {"k": 10}, {"k": 0.5}, {"reference": "uniform"}, {"reference": {"a": 0.5, "b": 0.5}}, {"ties": "order"},
        {"zero": "peer"}, {"n_boot": 9}, {"n_perm": 9}, {"level": 0.9}, {"seed": 1}, {"min_group": 2}, {"name": "mine"},
    ]  # fmt: skip
    assert len({p.hash, *(Protocol(**c).hash for c in changes)}) == len(changes) + 1
    with pytest.raises(pydantic.ValidationError):
        p.k = 3
    assert Protocol(k=1).k == 1
    assert isinstance(Protocol(k=1).k, int)
    assert isinstance(Protocol(k=1.0).k, float)
    assert Protocol(reference={"a": 0.5, "b": 0.5}).hash == Protocol(reference={"b": 0.5, "a": 0.5}).hash


@pytest.mark.parametrize(
    "bad",
    [
        {"K": 3}, {"k": 0}, {"k": 1.5}, {"k": -1}, {"level": 1.0}, {"ties": "random"}, {"zero": "drop"},
        {"reference": "base"}, {"reference": {"a": 0.5, "b": 0.6}}, {"n_boot": -1}, {"seed": -1}, {"min_group": 0},
    ],
)  # fmt: skip
def test_protocol_refuses(bad):
    with pytest.raises(pydantic.ValidationError):
        Protocol(**bad)


def test_protocol_round_trips():
    p = Protocol(name="mine", k=25, reference={"a": 0.25, "b": 0.75}, seed=3)
    again = Protocol.model_validate_json(p.model_dump_json())
    assert again.hash == p.hash
    assert again.k == 25


def test_inputs_check_themselves():
    with pytest.raises(DataError, match="2 rows of scores but 1 probe"):
        Ranking(np.zeros((2, 4)), ["x"], list("abab"))
    with pytest.raises(DataError, match=r"\(1, 2\)"):
        Ranking([[0, 1, 2, 3], [0, 1, np.nan, 3]], ["x", "y"], list("abab"))
    with pytest.raises(DataError, match="'c'.*not one of the levels"):
        Ranking(np.zeros((1, 4)), ["x"], list("abac"), levels=["a", "b"])
    with pytest.raises(DataError, match="'z'"):
        Classification(["x", "z"], ["x", "x"], ["x", "y"], ["a", "b"])
    with pytest.raises(DataError, match="max_skew needs a ranking input, this is a retrieval"):
        evaluate("max_skew", Retrieval(np.eye(4), [0, 1, 2, 3], list("abab"), k=1))
