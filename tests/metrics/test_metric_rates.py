"""Classification, retrieval, resolution and composition in closed form."""

import math

import numpy as np
import pandas as pd
import pytest

from clipbias.errors import DataError, StatusError
from clipbias.metrics import (
    composition,
    demographic_parity,
    dependence,
    equalized_odds,
    harm_rate,
    kl_recall,
    recall_at_k,
    resolution_bias,
    zero_shot_disparity,
)


def test_zero_shot_disparity():
    true = list("xxxxyyyy")
    pred = list("xxxyyyxx")
    g = list("aabbaabb")
    d = zero_shot_disparity(true, pred, g)
    assert d.by_group == {"a": 1.0, "b": 0.25}
    assert (d.gap, d.ratio, d.worst, d.best) == (0.75, 0.25, "b", "a")
    assert d.overall == 5 / 8
    assert d.sd == pytest.approx(0.375)
    assert d.per_class == {"x": 0.5, "y": 1.0}
    assert math.isnan(zero_shot_disparity(list("xxy"), list("xxy"), list("aba")).per_class["y"])


def test_harm_rate_is_not_composition():
    # Equal rates of one half: the composition still follows the 8:2 base rates.
    pred = ["thief"] * 4 + ["person"] * 4 + ["thief"] + ["person"]
    g = ["big"] * 8 + ["small"] * 2
    h = harm_rate(pred, g, harmful=["thief", "criminal"])
    assert h.rate == {"big": 0.5, "small": 0.5}
    assert h.composition == {"big": 0.8, "small": 0.2}
    assert h.risk_ratio == {"big": 1.0, "small": 1.0}
    assert (h.overall, h.gap) == (0.5, 0.0)
    assert harm_rate(["person"] * 4, list("aabb"), harmful=["thief"]).composition == {}
    with pytest.raises(DataError, match="list"):
        harm_rate(pred, g, harmful="thief")


def test_parity_and_odds():
    true = list("ppnnppnn")
    pred = list("ppnnpnpp")
    g = list("aaaabbbb")
    assert demographic_parity(pred, g, positive="p").by_group == {"a": 0.5, "b": 0.75}
    odds = equalized_odds(true, pred, g, positive="p")
    assert odds.difference == 1.0  # false positive rates 0 and 1; true positive rates 1 and .5
    assert odds.by_group == {"a": 0.0, "b": 1.0}
    with pytest.raises(StatusError, match="'b' has no image of class 'p'"):
        equalized_odds(list("ppnn"), list("pnpn"), list("aabb"), positive="p")
    with pytest.raises(DataError, match="no class 'z'"):
        equalized_odds(true, pred, g, positive="z")


def test_missing_predictions_are_named():
    with pytest.raises(DataError, match="y_pred has no label at position 1"):
        zero_shot_disparity(["x", "y"], ["x", None], ["a", "b"])
    with pytest.raises(StatusError, match="empty|no image"):
        zero_shot_disparity(["x", "y"], ["x", "y"], pd.Categorical(["a", "b"], categories=["a", "b", "c"]))


def test_recall_at_k_by_hand():
    similarity = np.array([[0.9, 0.8, 0.1], [0.9, 0.8, 0.1], [0.3, 0.2, 0.1], [0.5, 0.5, 0.1]])
    target = [0, 1, 2, 1]
    got = recall_at_k(similarity, list("aabb"), k=1, target=target)
    assert got == {"a": 0.5, "b": 0.25}  # the tie for the last one is a hit half of the time
    assert recall_at_k(similarity, list("aabb"), k=3, target=target) == {"a": 1.0, "b": 1.0}
    assert recall_at_k(np.eye(3), list("aab"), k=1) == {"a": 1.0, "b": 1.0}
    with pytest.raises(StatusError, match="only 3 gallery items"):
        recall_at_k(similarity, list("aabb"), k=4, target=target)
    with pytest.raises(DataError, match=r"0\.\.2"):
        recall_at_k(similarity, list("aabb"), k=1, target=[0, 1, 2, 3])


def test_kl_recall_both_directions():
    r = kl_recall({"a": 0.75, "b": 0.25})
    assert r.forward == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert r.reverse == pytest.approx(0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25))
    assert float(r) == r.forward
    assert r.worst == "b"
    assert r.shares == {"a": 0.75, "b": 0.25}
    assert kl_recall({"a": 0.3, "b": 0.3, "c": 0.3}).forward == pytest.approx(0.0, abs=1e-15)
    top = kl_recall({"a": 0.2, "b": 0.0, "c": 0.0})
    assert top.forward == pytest.approx(math.log(3))
    assert top.reverse == math.inf


def test_kl_recall_is_undefined_without_hits():
    with pytest.raises(StatusError, match="all recalls are 0") as caught:
        kl_recall({"a": 0.0, "b": 0.0})
    assert caught.value.status == "undefined"
    with pytest.raises(StatusError, match="two groups"):
        kl_recall({"a": 0.4})
    with pytest.raises(DataError, match="'b'"):
        kl_recall({"a": 0.4, "b": math.nan})
    with pytest.raises(DataError, match="'a'"):
        kl_recall({"a": 1.4, "b": 0.1})


def test_resolution_bias_is_signed_and_not_rounded():
    predicted = ["masculine"] * 3 + ["neutral"] + ["feminine"] * 2 + ["masculine"]
    actual = ["masculine"] * 4 + ["feminine"] * 3
    r = resolution_bias(predicted, actual)
    assert (r.masculine, r.feminine) == (0.75, 2 / 3)
    assert r.gap == pytest.approx(1 / 12)
    assert r.accuracy == pytest.approx(17 / 24)
    assert r.neutral == pytest.approx(1 / 7)
    with pytest.raises(DataError, match="'woman' at position 0"):
        resolution_bias(["woman"], ["feminine"])
    with pytest.raises(StatusError, match="feminine"):
        resolution_bias(["masculine"], ["masculine"])


def test_composition():
    c = composition(pd.Categorical(list("aabb"), categories=list("abc")))
    assert c.counts == {"a": 2, "b": 2, "c": 0}
    assert c.effective == pytest.approx(2.0)
    assert c.evenness == pytest.approx(math.log(2) / math.log(3))
    assert c.imbalance == math.inf
    assert composition(list("aaab")).imbalance == 3.0
    assert composition(list("aa")).entropy == 0.0
    with pytest.raises(DataError, match="no images"):
        composition([])


def test_dependence():
    same = dependence(list("aabb"), list("xxyy"))
    assert same.cramers_v == pytest.approx(1.0)
    assert same.npmi.loc["a", "x"] == pytest.approx(1.0)
    assert same.npmi.loc["a", "y"] == -1.0
    assert same.ducher_z.loc["a", "x"] == pytest.approx(1.0)
    assert same.ducher_z.loc["a", "y"] == pytest.approx(-1.0)
    free = dependence(list("aabb"), list("xyxy"))
    assert free.cramers_v == pytest.approx(0.0, abs=1e-12)
    assert np.allclose(free.npmi, 0)
    assert np.allclose(free.ducher_z, 0)
    assert math.isnan(dependence(list("aa"), list("xy")).cramers_v)
