import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from clipbias.analysis.correlate import correlate
from clipbias.analysis.joint import benjamini_hochberg, joint_permutation
from clipbias.analysis.mean import mean_correlation
from clipbias.analysis.transfer import agreement, transfer_table
from clipbias.errors import DataError, StatusError


@pytest.fixture
def rng():
    return np.random.default_rng(8)


def correlated_cells(rng, models, cells, shared=0.6):
    common = rng.normal(size=(models, 1))
    return np.sqrt(shared) * common + np.sqrt(1 - shared) * rng.normal(size=(models, cells))


def test_joint_estimates_and_p_equal_single_ones(rng):
    x, y = rng.normal(size=(12, 3)), rng.normal(size=(12, 3))
    y[:, 0] += 2 * x[:, 0]
    for method in ("spearman", "pearson"):
        joint = joint_permutation(x, y, method=method, resamples=1999)
        for j in range(3):
            single = correlate(x[:, j], y[:, j], method=method, resamples=1999, bootstrap=20)
            assert joint.estimates[j] == pytest.approx(single.estimate)
            assert joint.p_values[j] == pytest.approx(single.p_value)
        assert (joint.p_max >= joint.p_values - 1e-12).all()
        assert joint.mean_z == pytest.approx(np.arctanh(joint.estimates).mean())
        assert joint.any_p == joint.p_max.min()


def test_joint_with_controls_and_families_equals_single_ones(rng):
    z = rng.normal(size=16)
    x, y = z[:, None] + rng.normal(size=(16, 2)), z[:, None] + rng.normal(size=(16, 2))
    families = np.repeat(list("abcd"), 4)
    joint = joint_permutation(x, y, controls=z, families=families, resamples=999)
    single = correlate(x[:, 1], y[:, 1], controls=z, families=families, resamples=999, bootstrap=20)
    assert joint.estimates[1] == pytest.approx(single.estimate)
    assert joint.p_values[1] == pytest.approx(single.p_value, abs=1e-9)


def test_missing_cells_are_left_out_of_their_cell_only(rng):
    x, y = rng.normal(size=(14, 4)), rng.normal(size=(14, 4))
    full = joint_permutation(x, y, method="pearson", resamples=499)
    x[3, 1] = np.nan
    y[5, 1] = np.nan
    x[:, 2] = np.nan
    y[:, 3] = 7.0
    part = joint_permutation(x, y, method="pearson", resamples=499)
    assert part.estimates[0] == pytest.approx(full.estimates[0])
    assert part.n.tolist() == [14, 12, 0, 14]
    keep = np.isfinite(x[:, 1]) & np.isfinite(y[:, 1])
    assert part.estimates[1] == pytest.approx(stats.pearsonr(x[keep, 1], y[keep, 1])[0])
    assert np.isnan(part.estimates[2:]).all()
    assert np.isfinite(part.mean_p)


def test_type_one_error_with_correlated_metrics():
    """A quick version of benchmarks/transfer_inference.py: pooling cells as independent would reject in half of all cases."""
    rng = np.random.default_rng(0)
    mean, any_, pooled = 0, 0, 0
    for i in range(200):
        x, y = correlated_cells(rng, 20, 4), correlated_cells(rng, 20, 6)
        a, b = (m.ravel() for m in np.meshgrid(range(4), range(6), indexing="ij"))
        joint = joint_permutation(x[:, a], y[:, b], resamples=199, seed=i)
        mean += joint.mean_p < 0.05
        any_ += joint.any_p < 0.05
        z = np.arctanh(joint.estimates)
        pooled += abs(z.mean()) * np.sqrt(24 * 17) > 1.96
    assert mean / 200 <= 0.085
    assert any_ / 200 <= 0.085
    assert pooled / 200 > 0.3


def test_the_mean_over_pairs_has_an_error_that_keeps_what_they_share(rng):
    """Two copies of one pair say no more than the pair; the error is the spread over all orders."""
    x = rng.normal(size=7)
    y = x + rng.normal(size=7)
    pair = mean_correlation(x[:, None], y[:, None], method="pearson", bootstrap=20)
    twice = mean_correlation(np.c_[x, x], np.c_[y, y], method="pearson", bootstrap=20)
    assert twice.error == pytest.approx(pair.error)
    assert twice.p_value == pytest.approx(pair.p_value)
    every = [np.arctanh(stats.pearsonr(x, y[list(o)])[0]) for o in itertools.permutations(range(7))]
    assert pair.error == pytest.approx(np.std(every))
    assert pair.ci_low == pytest.approx(np.tanh(np.arctanh(pair.estimate) - 1.959964 * np.std(every)))
    assert pair.minimum_detectable == pytest.approx(np.tanh(2.801585 * np.std(every)))
    assert pair.excluded_bound > pair.estimate


def test_the_interval_of_the_mean_over_pairs_covers():
    """Two tasks with shared noise, 12 models in 3 families."""
    rng = np.random.default_rng(3)
    families = np.arange(12) % 3
    inside = 0
    for i in range(120):
        shared = rng.normal(size=12)
        y = np.sqrt(0.5) * shared[:, None] + np.sqrt(0.5) * rng.normal(size=(12, 2))
        x = np.column_stack([rng.normal(size=12)] * 2)
        found = mean_correlation(x, y, families=families, resamples=299, bootstrap=2, seed=i)
        inside += found.ci_low <= 0 <= found.ci_high
    assert 0.9 <= inside / 120 <= 0.99


def test_the_mean_over_pairs_compares_within_families(rng):
    families = np.array([*"aaaa", *"bbbbb", *"ccc"])
    shift = 30 * np.array([{"a": 0, "b": 1, "c": -2}[f] for f in families])
    truth = rng.normal(size=12)
    x = np.column_stack([truth + 0.3 * rng.normal(size=12)] * 2)
    y = truth[:, None] + 0.3 * rng.normal(size=(12, 2))
    found = mean_correlation(
        x + shift[:, None], y - shift[:, None], families=families, resamples=999, bootstrap=50
    )
    assert found.estimate > 0.5
    assert found.p_value < 0.05
    assert found.partialled == 2
    assert np.isfinite(found.cell_errors).all()
    nothing = mean_correlation(x[:4], y[:4], families=list("aabb"), resamples=99, bootstrap=10)
    assert np.isnan(nothing.estimate)  # four models in two families leave too little


def test_missing_values_change_the_draws_of_their_cell_only(rng):
    x, y = rng.normal(size=(12, 3)), rng.normal(size=(12, 3))
    whole = mean_correlation(x, y, bootstrap=60)
    x[4, 1] = np.nan
    part = mean_correlation(x, y, bootstrap=60)
    assert part.draws[:, [0, 2]] == pytest.approx(whole.draws[:, [0, 2]])
    rows = np.random.default_rng(0).integers(0, 12, 12)  # the first draw, by hand
    keep = rows != 4
    assert np.tanh(part.draws[0, 1]) == pytest.approx(stats.spearmanr(x[rows[keep], 1], y[rows[keep], 1])[0])


def test_benjamini_hochberg_published_example_and_nan():
    # The fifteen p-values of Benjamini & Hochberg 1995, section 4.1: four are rejected at .05.
    p = np.array([.0001, .0004, .0019, .0095, .0201, .0278, .0298, .0344, .0459, .3240, .4262, .5719, .6528, .7590, 1.0])  # fmt: skip
    assert (benjamini_hochberg(p) <= 0.05).sum() == 4
    mixed = benjamini_hochberg(np.append(p, np.nan))
    assert np.isnan(mixed[-1])
    assert mixed[:-1] == pytest.approx(benjamini_hochberg(p))
    assert np.isnan(benjamini_hochberg(np.array([np.nan]))).all()


def long_tables(rng, models=16):
    names = [f"m{i}" for i in range(models)]
    truth = rng.normal(size=models)
    intrinsic, extrinsic = [], []
    for attribute, strength in (("gender", 2.0), ("tone", 0.0)):
        for metric in ("max_skew", "ndkl"):
            values = truth + 0.3 * rng.normal(size=models)
            intrinsic += [
                {"model": m, "attribute": attribute, "metric": metric, "value": v}
                for m, v in zip(names, values, strict=True)
            ]
        for task in ("vqa", "captioning"):
            values = strength * truth + 0.3 * rng.normal(size=models)
            extrinsic += [
                {"model": m, "attribute": attribute, "task": task, "metric": "gap", "value": v}
                for m, v in zip(names, values, strict=True)
            ]
    return pd.DataFrame(intrinsic), pd.DataFrame(extrinsic)


def test_transfer_table_pairs_cells_and_finds_what_was_put_in(rng):
    intrinsic, extrinsic = long_tables(rng)
    found = transfer_table(intrinsic, extrinsic, resamples=499, bootstrap=50)
    cells = found.cells
    assert len(cells) == 2 * 2 * 2
    assert set(cells.columns) >= {"attribute", "intrinsic_metric", "extrinsic_task", "extrinsic_metric", "estimate",
                                  "pearson", "kendall", "p_max", "q", "minimum_detectable", "verdict"}  # fmt: skip
    gender = cells[cells["attribute"] == "gender"]
    assert (gender["verdict"] == "related").all()
    assert (gender["p_max"] < 0.05).all()
    assert not (cells.loc[cells["attribute"] == "tone", "verdict"] == "related").all()
    assert found.overall["models"] == 16
    assert found.overall["mean_p"] < 0.05


def test_transfer_table_says_what_is_wrong(rng):
    intrinsic, extrinsic = long_tables(rng)
    with pytest.raises(DataError, match="no column 'attribut'.*Did you mean 'attribute'"):
        transfer_table(intrinsic, extrinsic, on=["attribut"])
    with pytest.raises(DataError, match="no model is in both"):
        transfer_table(intrinsic, extrinsic.assign(model=extrinsic["model"] + "x"))
    with pytest.raises(DataError, match="more than one value for"):
        transfer_table(pd.concat([intrinsic, intrinsic[:1]]), extrinsic)
    with pytest.raises(DataError, match="share no value"):
        transfer_table(intrinsic, extrinsic.query("attribute == 'gender'").assign(attribute="age"))
    with pytest.raises(DataError, match="no numbers"):
        transfer_table(intrinsic.assign(value="high"), extrinsic)
    with pytest.raises(DataError, match="controls are not known"):
        transfer_table(intrinsic, extrinsic, controls=pd.DataFrame({"size": [1.0]}, index=["m0"]))
    one = transfer_table(intrinsic.query("model == 'm0'"), extrinsic.query("model == 'm0'"))
    assert set(one.cells["status"]) == {"too few models"}
    assert set(one.cells["verdict"]) == {"undecided"}
    constant = transfer_table(intrinsic.assign(value=1.0), extrinsic, resamples=99, bootstrap=20)
    assert set(constant.cells["status"]) == {"constant column"}
    with pytest.raises(StatusError, match="3 models"):
        joint_permutation(np.zeros((3, 2)), np.zeros((3, 2)))
    with pytest.raises(DataError, match="models by cells"):
        joint_permutation(np.zeros((5, 2)), np.zeros((5, 3)))


def test_agreement_of_metrics(rng):
    base = rng.normal(size=20)
    table = pd.DataFrame(
        {"skew": base, "skew2": base + 0.1 * rng.normal(size=20), "weat": rng.normal(size=20)}
    )
    found = agreement(table, resamples=499).set_index(["metric_a", "metric_b"])
    assert found.loc[("skew", "skew2"), "p_max"] < 0.05
    assert found.loc[("skew", "weat"), "estimate"] == pytest.approx(stats.spearmanr(base, table["weat"])[0])
    with pytest.raises(DataError):
        agreement(table[["skew"]])


def test_mean_correlation_over_cells(rng):
    truth = rng.normal(size=(30, 1))
    x, y = truth + rng.normal(size=(30, 5)), truth + rng.normal(size=(30, 5))
    found = mean_correlation(x, y, resamples=499, bootstrap=200)
    assert found.ci_low < found.estimate < found.ci_high
    assert found.p_value < 0.05
    assert found.estimate == pytest.approx(np.tanh(np.arctanh(found.joint.estimates).mean()))
    assert found.draws.shape == (200, 5)
    none = mean_correlation(
        rng.normal(size=(300, 8)), rng.normal(size=(300, 8)), resamples=199, bootstrap=200
    )
    assert none.equivalence_p < 0.05
    assert none.excluded_bound < 0.3
    x[2, 1] = np.nan
    partial = mean_correlation(x, y, controls=truth, resamples=199, bootstrap=100)
    assert abs(partial.estimate) < found.estimate
