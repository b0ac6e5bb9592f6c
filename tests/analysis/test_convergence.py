import itertools

import numpy as np
import pytest
from scipy import stats

from clipbias.analysis.cka import cka
from clipbias.analysis.convergence import convergence, image_influence
from clipbias.analysis.similarity import similarity
from clipbias.analysis.swap import convergence_test, max_over_layers, sign_flips, swap_weights
from clipbias.errors import DataError, StatusError


def random_similarities(rng, m, *, node=0.05, pair=0.02, shift=0.0):
    """Similarities of m models before and after, with a level of each model and state."""
    level = rng.normal(scale=node, size=2 * m)
    noise = rng.normal(scale=pair, size=(2 * m, 2 * m))
    s = 0.5 + level[:, None] + level[None, :] + (noise + noise.T) / np.sqrt(2)
    s[m:, m:] += shift
    np.fill_diagonal(s, 1)
    return s


def brute_delta(s, swapped):
    m = len(s) // 2
    before = [i + m * w for i, w in enumerate(swapped)]
    after = [i + m * (1 - w) for i, w in enumerate(swapped)]
    pairs = list(itertools.combinations(range(m), 2))
    return np.mean([s[after[i], after[j]] - s[before[i], before[j]] for i, j in pairs])


@pytest.fixture
def rng():
    return np.random.default_rng(6)


def test_exchange_of_labels_is_a_sign_flip(rng):
    s = random_similarities(rng, 6)
    weights = swap_weights(s)
    every = [brute_delta(s, w) for w in itertools.product([0, 1], repeat=6)]
    for w, value in zip(itertools.product([0, 1], repeat=6), every, strict=True):
        assert (1 - 2 * np.array(w)) @ weights == pytest.approx(value, abs=1e-12)
    found = convergence_test(s)
    assert found.delta == pytest.approx(every[0])
    assert found.p_value == pytest.approx(np.mean(np.abs(every) >= abs(every[0]) - 1e-12))
    assert found.exact
    assert found.smallest_p == pytest.approx(2 / 64)


def test_node_jackknife_by_hand(rng):
    s = random_similarities(rng, 7)
    left = []
    for i in range(7):
        keep = [j for j in range(7) if j != i]
        left.append(
            brute_delta(s[np.ix_(keep + [j + 7 for j in keep], keep + [j + 7 for j in keep])], [0] * 6)
        )
    expected = np.sqrt(6 / 7 * np.sum((np.array(left) - np.mean(left)) ** 2))
    found = convergence_test(s)
    assert found.model_error == pytest.approx(expected)
    assert found.ci_high - found.delta == pytest.approx(stats.t.ppf(0.975, 6) * expected)


@pytest.mark.parametrize("m", [6, 10])
def test_type_one_error_with_model_effects(m):
    """A quick version of benchmarks/similarity_inference.py, and why a t test over pairs is not used."""
    rng = np.random.default_rng(m)
    swap, jackknife, pairs = 0, 0, 0
    for _ in range(300):
        s = random_similarities(rng, m)
        found = convergence_test(s)
        swap += found.p_value < 0.05
        jackknife += not found.ci_low < 0 < found.ci_high
        upper = np.triu_indices(m, 1)
        pairs += stats.ttest_rel(s[m:, m:][upper], s[:m, :m][upper]).pvalue < 0.05
    assert swap / 300 <= 0.085
    assert jackknife / 300 <= 0.095
    assert pairs / 300 > 0.25


def test_finds_a_large_change(rng):
    found = convergence_test(random_similarities(rng, 12, node=0.02, shift=0.15))
    assert found.p_value < 0.01
    assert found.ci_low > 0
    assert found.equivalence_p(0.05) > 0.5
    assert convergence_test(random_similarities(rng, 12, node=0.001, pair=0.001)).equivalence_p(0.05) < 0.001


def test_families_are_exchanged_as_blocks(rng):
    s = random_similarities(rng, 8)
    found = convergence_test(s, families=list("aabbccdd"))
    every = []
    for w in itertools.product([0, 1], repeat=4):
        every.append(brute_delta(s, np.repeat(w, 2)))
    assert found.units == 4
    assert found.p_value == pytest.approx(np.mean(np.abs(every) >= abs(every[0]) - 1e-12))


def test_many_models_are_sampled_and_counted(rng):
    signs = sign_flips(25, resamples=99)
    assert signs.shape == (100, 25)
    assert (signs[0] == 1).all()
    assert convergence_test(random_similarities(rng, 25, shift=1.0), resamples=99).p_value == pytest.approx(
        0.01
    )


def test_maximum_over_layers_with_common_exchanges(rng):
    tables = {f"layer {i}": random_similarities(rng, 8) for i in range(5)}
    adjusted = max_over_layers(tables)
    for name, s in tables.items():
        assert adjusted[name] >= convergence_test(s).p_value - 1e-12
    rejected = 0
    for _ in range(200):
        tables = {f"layer {i}": random_similarities(rng, 8) for i in range(5)}
        rejected += min(max_over_layers(tables).values()) < 0.05
    assert rejected / 200 <= 0.09
    assert max_over_layers({}) == {}


def test_bad_input_says_what_is_wrong(rng):
    with pytest.raises(DataError, match="square"):
        convergence_test(np.zeros((5, 5)))
    with pytest.raises(StatusError, match="2 models"):
        convergence_test(np.zeros((4, 4)))
    s = random_similarities(rng, 6)
    with pytest.raises(DataError, match="3 families for 6 models"):
        convergence_test(s, families="abc")
    s[0, 1] = np.nan
    with pytest.raises(StatusError, match="not defined"):
        convergence_test(s)


@pytest.fixture
def states(rng):
    """Eight models that all move towards one shared space in layer 'decoder', and do not in 'tower'."""
    shared = rng.normal(size=(60, 8))
    out = {}
    for m in "abcdefgh":
        own = rng.normal(size=(60, 8))
        mix = rng.normal(size=(8, 20))
        out[m, "decoder", "pre"] = (own + 0.7 * shared) @ mix + 0.2 * rng.normal(size=(60, 20))
        out[m, "decoder", "post"] = (own + 2 * shared) @ mix + 0.2 * rng.normal(size=(60, 20))
        out[m, "tower", "pre"] = own @ mix + shared @ rng.normal(size=(8, 20))
        out[m, "tower", "post"] = out[m, "tower", "pre"] + 0.05 * rng.normal(size=(60, 20))
        if m in "abc":
            out[m, "decoder", "untrained"] = out[m, "decoder", "pre"] @ rng.normal(size=(20, 20))
            out[m, "decoder", "second_seed"] = out[m, "decoder", "post"] + 0.1 * rng.normal(size=(60, 20))
    return out


def test_convergence_of_states_with_controls(states):
    found = similarity(states, measures=["cka_debiased", "mutual_knn", "procrustes_distance"])
    influences = {layer: image_influence(states, layer, list("abcdefgh")) for layer in ("decoder", "tower")}
    table = convergence(found, influences=influences).set_index(["layer", "measure"])
    decoder = table.loc[("decoder", "cka_debiased")]
    assert decoder["verdict"] == "related"
    assert decoder["direction"] == "closer"
    assert decoder["delta"] > 0.2
    assert decoder["ceiling"] > decoder["after"]
    assert decoder["untrained_delta"] < decoder["delta"] / 2
    assert decoder["missing_controls"] == ""
    assert decoder["error"] == pytest.approx(np.hypot(decoder["model_error"], decoder["image_error"]))
    assert decoder["p"] <= decoder["p_max"] <= 0.05
    distance = table.loc[("decoder", "procrustes_distance")]
    assert distance["delta"] < 0
    assert distance["direction"] == "closer"
    tower = table.loc[("tower", "cka_debiased")]
    assert tower["verdict"] == "equivalent to none within ±0.05"
    assert tower["missing_controls"] == "untrained adapter, second seed"
    assert decoder["rank_before"] > 1


def test_image_influence_is_the_jackknife_of_delta(states):
    models = list("abc")
    influence = image_influence(states, "decoder", models)

    def delta(keep):
        pairs = list(itertools.combinations(models, 2))
        return np.mean(
            [
                cka(states[a, "decoder", "post"][keep], states[b, "decoder", "post"][keep], dtype="float64")
                - cka(states[a, "decoder", "pre"][keep], states[b, "decoder", "pre"][keep], dtype="float64")
                for a, b in pairs
            ]
        )

    n = 60
    left = np.array([delta(np.delete(np.arange(n), i)) for i in range(n)])
    direct = np.sqrt((n - 1) / n * ((left - left.mean()) ** 2).sum())
    assert np.std(influence, ddof=1) / np.sqrt(n) == pytest.approx(direct, rel=0.06)


def test_convergence_reports_what_cannot_be_tested(states):
    few = {k: v for k, v in states.items() if k[0] in "ab"}
    table = convergence(similarity(few, measures=["cka_debiased"]))
    assert set(table["status"]) == {"too few models"}
    five = {k: v for k, v in states.items() if k[0] in "abcde" and k[2] in ("pre", "post")}
    table = convergence(similarity(five, measures=["cka_debiased"]))
    assert table["reason"].str.contains("6 are needed").all()
    with pytest.raises(DataError, match="no model has both"):
        convergence(similarity({k: v for k, v in states.items() if k[2] == "pre"}, measures=["cka_debiased"]))
