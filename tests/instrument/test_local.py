"""Local against global: a planted local difference is found, and views of nothing do not differ."""

import numpy as np
import pytest

from clipbias.instrument import local
from clipbias.metrics import Protocol, Ranking, max_skew
from clipbias.views import View

PROTOCOL = Protocol(k=0.25, n_boot=120, n_perm=0, min_group=1)


def views_of(place):
    return [View(f"place={p}", "metadata", place == p, f"images of {p}") for p in np.unique(place)]


@pytest.fixture
def people():
    rng = np.random.default_rng(0)
    place = np.repeat(["city", "park", "sea"], 80)
    gender = np.tile(["f", "m"], 120)
    return rng, place, gender


def test_a_bias_in_one_view_only_is_found_there(people):
    rng, place, gender = people
    scores = rng.normal(size=(2, 240)) + 3.0 * ((place == "sea") & (gender == "f")) * np.array([[1.0], [1.0]])
    # Ranked inside each view the other places are neutral.
    given = Ranking(scores, ["p", "q"], gender)
    rows, differences = local.compare(
        ["max_skew"], given, views_of(place), protocol=PROTOCOL, attribute="gender", relabelled=60
    )
    by_view = {r["view"]: r for r in rows}
    sea = place == "sea"
    expected = np.mean([max_skew(s[sea], gender[sea], k=0.25) for s in scores])
    assert by_view["place=sea"]["value"] == pytest.approx(expected)
    whole = np.mean([max_skew(s, gender, k=0.25) for s in scores])
    assert by_view["place=sea"]["global"] == pytest.approx(whole)
    assert by_view["place=sea"]["delta"] == pytest.approx(expected - whole)
    assert by_view["place=city"]["ci_high"] < 0
    assert differences[0]["views"] == 3
    assert differences[0]["p"] < 0.05
    assert differences[0]["p_labels"] < 0.05
    assert differences[0]["i2"] > 0.5


def test_views_of_nothing_do_not_differ(people):
    rng, place, gender = people
    p, labels = [], []
    for _ in range(12):
        given = Ranking(rng.normal(size=(2, 240)), ["p", "q"], gender)
        rows, differences = local.compare(
            ["max_skew"], given, views_of(place), protocol=PROTOCOL, attribute="gender", relabelled=40
        )
        p.append(differences[0]["p"])
        labels.append(differences[0]["p_labels"])
        assert all(r["ci_low"] <= r["delta"] <= r["ci_high"] for r in rows)
    assert np.mean(np.array(p) < 0.05) <= 0.25
    assert np.mean(np.array(labels) < 0.05) <= 0.25
    assert np.mean(labels) > 0.25


def test_whole_clusters_are_relabelled_together(people):
    rng, place, gender = people
    twins = np.repeat(np.arange(120), 2)
    given = Ranking(rng.normal(size=(1, 240)), ["p"], gender, blocks=twins, strata=twins)
    _, differences = local.compare(
        ["max_skew"], given, views_of(place), protocol=PROTOCOL, attribute="gender", relabelled=30
    )
    assert 0 < differences[0]["p_labels"] <= 1


def test_overlapping_views_are_compared_with_the_global_one_only(people):
    rng, place, gender = people
    first = View("text:a@100", "text", np.arange(240) < 100, "")
    second = View("text:b@100", "text", np.arange(240) < 150, "")
    given = Ranking(rng.normal(size=(1, 240)), ["p"], gender)
    rows, differences = local.compare(
        ["max_skew"], given, [first, second], protocol=PROTOCOL, attribute="gender", relabelled=10
    )
    assert len(rows) == 2
    assert differences == []


def test_a_view_without_a_group_has_a_reason(people):
    rng, place, gender = people
    given = Ranking(rng.normal(size=(1, 240)), ["p"], gender)
    lonely = View("where:women", "predicate", (gender == "f") & (place == "sea"), "")
    rows, _ = local.compare(["min_skew"], given, [lonely], protocol=PROTOCOL, attribute="gender")
    assert rows[0]["status"] in ("ok", "undefined")
    assert (
        local.grouping_of(View("kmeans:4@reference/2", "kmeans", gender == "f", "")) == "kmeans:4@reference"
    )
    assert local.grouping_of(View("place=sea", "metadata", gender == "f", "")) == "place"
