import numpy as np
import pytest

from clipbias.analysis.cka import cka
from clipbias.analysis.similarity import MEASURES, memory_of_others, similarity
from clipbias.errors import DataError


@pytest.fixture
def states():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(50, 6))
    return {
        (m, layer, state): z @ rng.normal(size=(6, 12)) + noise * rng.normal(size=(50, 12))
        for m in "ab"
        for layer in ("tower", "projector")
        for state, noise in (("pre", 2.0), ("post", 0.5))
    }


def test_every_measure_in_one_call(states):
    found = similarity(states, measures=MEASURES)
    assert len(found.keys) == 8
    assert {m for m, _ in found.values} == set(MEASURES)
    for (name, _), values in found.values.items():
        assert values.shape == (8, 8), name
        assert np.isfinite(values).all(), name
        target = 0.0 if "distance" in name or "angular" in name else 1.0
        assert np.allclose(np.diagonal(values), target, atol=1e-4), name
    a, b = states["a", "tower", "pre"], states["b", "projector", "post"]
    i, j = found.keys.index(("a", "tower", "pre")), found.keys.index(("b", "projector", "post"))
    assert found.matrix("cka_debiased")[i, j] == pytest.approx(cka(a, b), abs=1e-6)


def test_table_has_a_row_for_each_pair_with_interval_and_null(states):
    table = similarity(states).table()
    assert len(table) == 28 * 5
    cka_rows = table[table["measure"] == "cka_debiased"]
    assert (cka_rows["ci_low"] < cka_rows["value"]).all()
    assert cka_rows["p"].between(0, 1).all()
    assert (table["status"] == "ok").all()


def test_standardize_reports_both_values(states):
    rng = np.random.default_rng(1)
    states["a", "tower", "pre"][:, 0] = 500 * rng.normal(size=50)
    found = similarity(states, measures=["cka_biased"], standardize=True)
    both = found.table().groupby("standardized")["value"].first()
    assert both[True] > both[False] + 0.1


def test_rows_are_aligned_by_id(states):
    ids = [f"img{i}" for i in range(50)]
    order = np.random.default_rng(2).permutation(50)
    mixed = {key: (ids, array) for key, array in states.items()}
    last = ("b", "projector", "post")
    mixed[last] = ([ids[i] for i in order], states[last][order])
    plain, aligned = (
        similarity(states, measures=["cka_debiased"]),
        similarity(mixed, measures=["cka_debiased"]),
    )
    assert np.allclose(plain.matrix("cka_debiased"), aligned.matrix("cka_debiased"), atol=1e-6)
    assert aligned.ids_digest
    assert plain.ids_digest == ""


def test_ids_are_checked_by_value(states):
    ids = [f"img{i}" for i in range(50)]
    given = {key: (ids, array) for key, array in states.items()}
    key = ("b", "tower", "pre")
    given[key] = ([*ids[:-1], "other"], states[key])
    with pytest.raises(
        DataError, match="model 'b', layer 'tower', state 'pre' and model 'a'.*different images: 2"
    ):
        similarity(given)
    given[key] = ([*ids[:-1], "img0"], states[key])
    with pytest.raises(DataError, match="'img0' appears twice"):
        similarity(given)
    given[key] = states[key]
    with pytest.raises(DataError, match="no image ids"):
        similarity(given)
    with pytest.raises(DataError, match="49 image ids for 50 rows"):
        similarity(states, ids=ids[:-1])


def test_errors_name_model_layer_and_image(states):
    states["b", "projector", "pre"][7, 3] = np.inf
    with pytest.raises(DataError, match="model 'b', layer 'projector', state 'pre': image 'i7'"):
        similarity(states, ids=[f"i{i}" for i in range(50)])
    with pytest.raises(DataError, match="Did you mean 'mutual_knn'"):
        similarity(states, measures=["mutual-knn"])
    with pytest.raises(DataError, match="no states"):
        similarity({})


def test_a_collapsed_state_is_nan_with_a_reason(states):
    states["a", "tower", "post"] = np.ones((50, 4))
    measures = [m for m in MEASURES if "correlation" not in m]
    found = similarity(states, measures=measures)
    row = found.keys.index(("a", "tower", "post"))
    for name in measures:
        if name not in ("mutual_knn", "cknna"):  # neighbours exist: all are tied
            assert np.isnan(found.matrix(name)[row]).all(), name
    bad = found.table().query("measure == 'cka_debiased' and status != 'ok'")
    assert len(bad) == 7
    assert bad["reason"].str.contains("model 'a', layer 'tower', state 'post'").all()
    assert found.ranks.set_index(["model", "layer", "state"]).loc[("a", "tower", "post"), "status"] != "ok"


def test_the_plan_is_announced_before_and_kept(states):
    said = []
    found = similarity(states, measures=["cka_debiased"], announce=said.append)
    assert "8 states of 50 images" in said[0]
    assert "MB beyond the input" in said[0]
    assert found.plan.form == "strips"


def test_memory_of_the_other_measures_is_announced_too(states):
    said = []
    similarity(states, measures=["cka_debiased", "rsa_spearman"], announce=said.append)
    assert "other measures up to" in said[0]
    assert memory_of_others(["cka_debiased"], 1000, [512] * 240) == 0
    # 240 vectors of 499,500 float32 distances
    assert memory_of_others(["rsa_spearman"], 1000, [512] * 240) == pytest.approx(240 * 499_500 * 4, rel=0.05)
