import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group

from clipbias.analysis.cka import cka, cka_interval, cka_matrix, pairwise_cka
from clipbias.analysis.features import gather
from clipbias.analysis.gram import gram_sums, plan, weighted_influence
from clipbias.analysis.kernels import make_kernels
from clipbias.errors import DataError, StatusError


def reference(x, y, estimator):
    """CKA by the definition, whole centring matrices, float64."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    n = len(x)
    grams = []
    for a in (x, y):
        k = (a - a.mean(0)) @ (a - a.mean(0)).T
        if estimator == "debiased":
            np.fill_diagonal(k, 0)
            m = k.sum(0) / (n - 2)
            m = m - m.sum() / (2 * (n - 1))
            k = k - m[:, None] - m[None, :]
            np.fill_diagonal(k, 0)
        grams.append(k)
    a, b = grams
    return (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())


def song(x, y):
    """Song et al. 2012 eq. 5 with explicit traces."""
    n = len(x)
    a, b = x @ x.T, y @ y.T
    np.fill_diagonal(a, 0)
    np.fill_diagonal(b, 0)
    one = np.ones(n)
    total = np.trace(a @ b) + (one @ a @ one) * (one @ b @ one) / ((n - 1) * (n - 2))
    total -= 2 * (one @ a @ b @ one) / (n - 2)
    return total / (n * (n - 3))


def pair(rng, n=60, p=24, q=30):
    z = rng.normal(size=(n, 8))
    return z @ rng.normal(size=(8, p)) + rng.normal(size=(n, p)), z @ rng.normal(size=(8, q)) + rng.normal(
        size=(n, q)
    )


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.mark.parametrize("estimator", ["biased", "debiased"])
@pytest.mark.parametrize("n", [9, 60, 200])
def test_both_estimators_equal_the_definition(rng, estimator, n):
    x, y = pair(rng, n)
    assert cka(x, y, estimator=estimator, dtype="float64") == pytest.approx(
        reference(x, y, estimator), abs=1e-12
    )
    assert cka(x, y, estimator=estimator) == pytest.approx(reference(x, y, estimator), abs=1e-6)


def test_debiased_equals_the_ratio_of_unbiased_hsic(rng):
    x, y = pair(rng, 40)
    expected = song(x, y) / np.sqrt(song(x, x) * song(y, y))
    assert cka(x, y, dtype="float64") == pytest.approx(expected, abs=1e-12)


def test_debiased_is_unbiased_in_the_numerator_for_unrelated_spaces(rng):
    values = [cka(rng.normal(size=(50, 512)), rng.normal(size=(50, 512))) for _ in range(40)]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(40)
    assert min(values) < 0
    assert cka(rng.normal(size=(50, 512)), rng.normal(size=(50, 512)), estimator="biased") > 0.85


@pytest.mark.parametrize("estimator", ["biased", "debiased"])
@pytest.mark.parametrize(
    "change",
    [
        lambda x: x + 100,
        lambda x: x * 1e-3,
        lambda x: x * 1e-25,
        lambda x: x * 1e25,
        lambda x: x * 1e-3 + 0.05,
    ],
    ids=["mean+100", "scale 1e-3", "scale 1e-25", "scale 1e25", "offset"],
)
def test_offset_and_scale_do_not_matter(rng, estimator, change):
    x, y = pair(rng, 120)
    changed = change(x).astype(np.float32)
    truth = reference(changed.astype(float), y, estimator)
    assert cka(changed, y.astype(np.float32), estimator=estimator) == pytest.approx(truth, abs=5e-6)


def test_unit_norm_cone_as_clip_makes_it(rng):
    x, y = pair(rng, 200, 64, 48)
    cone = []
    for a in (x, y):
        a = a / np.linalg.norm(a, axis=1, keepdims=True) * 0.4 + rng.normal(size=a.shape[1]) / np.sqrt(
            a.shape[1]
        )
        cone.append((a / np.linalg.norm(a, axis=1, keepdims=True)).astype(np.float32))
    for estimator in ("biased", "debiased"):
        assert cka(*cone, estimator=estimator) == pytest.approx(reference(*cone, estimator), abs=5e-6)


def test_one_outlier_image_rules_the_biased_estimate_only(rng):
    x, y = rng.normal(size=(200, 64)), rng.normal(size=(200, 48))
    x[7] *= 100
    y[7] *= 100
    assert cka(x, y, estimator="biased") > 0.99
    assert cka(x, y) == pytest.approx(reference(x, y, "debiased"), abs=5e-6)
    assert abs(cka(x, y)) < 0.2


def test_fewer_images_than_features(rng):
    x, y = rng.normal(size=(30, 300)), rng.normal(size=(30, 200))
    for estimator in ("biased", "debiased"):
        assert cka(x, y, estimator=estimator) == pytest.approx(reference(x, y, estimator), abs=5e-6)


def test_constant_matrix_is_refused_by_name_and_nan_in_a_matrix(rng):
    x, y = pair(rng, 20)
    constant = np.full((20, 5), 0.1, np.float32)
    with pytest.raises(StatusError, match="Y: all images have the same features"):
        cka(x, constant)
    found = cka_matrix([x, constant, y], names=["a", "b", "c"], errors=True, null=True)
    assert np.isnan(found.debiased[1]).all()
    assert np.isnan(found.biased[:, 1]).all()
    assert np.isfinite(found.debiased[0, 2])
    assert np.isfinite(found.null.p[0, 2])
    assert found.reasons == {1: "b: all images have the same features."}


def test_a_constant_feature_contributes_nothing(rng):
    x, y = pair(rng, 30)
    wide = np.c_[x, np.full(30, 7.0)]
    assert cka(wide, y) == pytest.approx(cka(x, y), abs=1e-6)


def test_equidistant_images_have_no_debiased_value():
    found = cka_matrix([np.eye(8), np.random.default_rng(0).normal(size=(8, 3))])
    assert np.isnan(found.debiased[0, 1])
    assert "equally far" in found.reasons[0]
    assert np.isfinite(found.biased[0, 1])


def test_three_images():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(3, 4)), rng.normal(size=(3, 2))
    assert cka(x, y, estimator="biased") == pytest.approx(reference(x, y, "biased"), abs=1e-6)
    with pytest.raises(DataError, match="at least 4 images, there are 3"):
        cka(x, y)
    with pytest.raises(DataError, match="at least 3"):
        cka(x[:2], y[:2])


def test_bad_values_name_matrix_and_image(rng):
    x, y = pair(rng, 20)
    y[13, 2] = np.nan
    with pytest.raises(DataError, match=r"model 'b', layer 'proj': image 'img13' \(row 13\)"):
        pairwise_cka(
            [x, y], names=["model 'a'", "model 'b', layer 'proj'"], ids=[f"img{i}" for i in range(20)]
        )
    with pytest.raises(DataError, match=r"Y: row 13"):
        cka(x, y)
    with pytest.raises(DataError, match="20 images and Y has 19"):
        cka(x, y[:19])
    with pytest.raises(DataError, match=r"\(4, 5, 6\)"):
        cka(np.zeros((4, 5, 6)), x)
    with pytest.raises(DataError, match="debiased"):
        cka(x, x, estimator="debiasd")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [20, 400])
def test_input_is_not_changed(rng, dtype, n):
    x, y = (a.astype(dtype) for a in pair(rng, n))
    kept = x.copy(), y.copy()
    cka_matrix([x, y], errors=True, null=True)
    for options in ({}, {"kernel": "rbf"}, {"dtype": "float64"}, {"standardize": True}):
        cka(x, y, **options)
    assert (x == kept[0]).all()
    assert (y == kept[1]).all()


def test_half_precision_input_is_widened(rng):
    x, y = pair(rng, 50)
    x = (x * 200).astype(np.float16)  # its Gram matrix overflows float16
    assert cka(x, torch.tensor(y).bfloat16()) == pytest.approx(
        reference(x, torch.tensor(y).bfloat16().float().numpy(), "debiased"), abs=5e-6
    )


def test_outlier_feature_and_standardize(rng):
    x, y = pair(rng, 300, 64, 48)
    before = cka(x, y, estimator="biased")
    x[:, 3] = 300 * rng.normal(size=300)  # a privileged dimension that means nothing
    assert cka(x, y, estimator="biased") < 0.3 * before
    sd = (x - x.mean(0)) / x.std(0)
    sdy = (y - y.mean(0)) / y.std(0)
    assert cka(x, y, estimator="biased", standardize=True) == pytest.approx(
        reference(sd, sdy, "biased"), abs=5e-6
    )


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), scale=st.floats(1e-3, 1e3), shift=st.floats(-50, 50))
def test_invariances(seed, scale, shift):
    rng = np.random.default_rng(seed)
    x, y = pair(rng, 30, 6, 7)
    turned = scale * x @ ortho_group.rvs(6, random_state=seed) + shift
    order = rng.permutation(30)
    for estimator in ("biased", "debiased"):
        value = cka(x, y, estimator=estimator, dtype="float64")
        assert cka(turned, y, estimator=estimator, dtype="float64") == pytest.approx(value, abs=1e-9)
        assert cka(y, x, estimator=estimator, dtype="float64") == pytest.approx(value, abs=1e-12)
        assert cka(x[order], y[order], estimator=estimator, dtype="float64") == pytest.approx(
            value, abs=1e-10
        )
        assert cka(x, turned, estimator=estimator, dtype="float64") == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(("n", "memory"), [(31, None), (31, 4000), (64, 9000)])
def test_every_form_gives_the_same_matrix(rng, n, memory):
    arrays = [rng.normal(size=(n, p)) for p in (5, 40, 17)]
    arrays.append(arrays[0] @ rng.normal(size=(5, 9)) + 0.5 * rng.normal(size=(n, 9)))
    expected = np.array([[reference(a, b, "debiased") for b in arrays] for a in arrays])
    limits = {} if memory is None else {"memory": memory}
    kernels = make_kernels(gather(arrays, dtype="float64"), kernel="linear", bandwidth=1)
    widths = [a.shape[1] for a in arrays]
    forms = [
        plan(n, widths, **limits),
        plan(n, widths, errors=True, **limits),
        plan(n, widths, kernel="rbf", **limits),
        plan(10 * n, [1] * 4, **limits),
    ]
    assert {f.form for f in forms} == {"tiles", "strips", "features"}
    for chosen in forms:
        sums = gram_sums(kernels, chosen)
        root = sums.inner.diagonal().sqrt()
        assert np.allclose((sums.inner / torch.outer(root, root)).numpy(), expected, atol=1e-10)
        root = sums.biased.diagonal().sqrt()
        biased = (sums.biased / torch.outer(root, root)).numpy()
        assert biased[0, 3] == pytest.approx(reference(arrays[0], arrays[3], "biased"), abs=1e-10)


@pytest.mark.parametrize("n", [6, 12, 25])
def test_standard_error_is_the_exact_jackknife_of_the_delta_method(rng, n):
    x, y = pair(rng, n, 5, 6)

    def parts(a, b):
        return np.array([song(a, b), song(a, a), song(b, b)])

    a, b = x - x.mean(0), y - y.mean(0)
    full = parts(a, b)
    left = np.array([parts(np.delete(a, i, 0), np.delete(b, i, 0)) for i in range(n)])
    pseudo = (n * full - (n - 1) * left) - full  # jackknife pseudo-values minus the estimate
    theta = full[0] / np.sqrt(full[1] * full[2])
    influence = theta * (pseudo[:, 0] / full[0] - pseudo[:, 1] / full[1] / 2 - pseudo[:, 2] / full[2] / 2)
    expected = np.sqrt(influence.var(ddof=1) / n)
    found = cka_matrix([x, y], errors=True, dtype="float64")
    assert found.standard_error[0, 1] == pytest.approx(expected, rel=1e-9)
    assert found.standard_error[0, 0] == 0
    assert cka_matrix([x, y], errors=True).standard_error[0, 1] == pytest.approx(expected, rel=1e-4)
    kernels = make_kernels(gather([x, y], dtype="float64"), kernel="linear", bandwidth=1)
    sums = gram_sums(kernels, plan(n, [5, 6], errors=True))
    weights = torch.tensor([[[0, 0.5], [0.5, 0]]], dtype=torch.float64)
    psi = weighted_influence(kernels, sums, weights, rows=4)[0].numpy()
    assert np.allclose(psi, influence, atol=1e-9)


def test_interval_stays_below_one_and_is_wider_at_higher_level():
    theta, error = np.array([0.3, 0.97]), np.array([0.05, 0.04])
    low, high = cka_interval(theta, error, 100)
    assert high[1] < 1
    assert (low < theta).all()
    assert (high > theta).all()
    assert (cka_interval(theta, error, 100, level=0.99)[0] < low).all()


def test_interval_covers_the_population_value():
    """A quick version of benchmarks/similarity_coverage.py."""
    rng = np.random.default_rng(1)
    wx, wy = rng.normal(size=(6, 16)), rng.normal(size=(6, 16))

    def draw(n):
        z = rng.normal(size=(n, 6))
        return z @ wx + rng.normal(size=(n, 16)), z @ wy + rng.normal(size=(n, 16))

    truth = cka(*draw(60_000), dtype="float64")
    inside = 0
    for _ in range(200):
        low, high = cka_matrix(draw(80), errors=True).interval()
        inside += low[0, 1] <= truth <= high[0, 1]
    assert 0.90 <= inside / 200 <= 0.99


def enumerate_null(x, y, estimator):
    return np.array(
        [reference(x, y[list(order)], estimator) for order in itertools.permutations(range(len(x)))]
    )


@pytest.mark.parametrize(("n", "p", "q"), [(6, 3, 9), (6, 2, 2), (7, 4, 12)])
@pytest.mark.parametrize("estimator", ["biased", "debiased"])
def test_null_moments_equal_full_enumeration(n, p, q, estimator):
    rng = np.random.default_rng(n + p)
    x, y = rng.normal(size=(n, p)) ** 3, rng.exponential(size=(n, q))
    values = enumerate_null(x, y, estimator)
    found = cka_matrix([x, y], null=True, dtype="float64")
    null = found.null if estimator == "debiased" else found.null_biased
    centred = values - values.mean()
    assert null.mean[0, 1] == pytest.approx(values.mean(), abs=1e-12)
    assert null.sd[0, 1] == pytest.approx(values.std(), rel=1e-10)
    assert null.skewness[0, 1] == pytest.approx((centred**3).mean() / values.std() ** 3, rel=1e-8)


def test_null_of_the_rbf_kernel_equals_enumeration():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(6, 3)), rng.normal(size=(6, 4))
    values = [cka(x, y[list(o)], kernel="rbf", dtype="float64") for o in itertools.permutations(range(6))]
    null = cka_matrix([x, y], kernel="rbf", null=True, dtype="float64").null
    assert np.mean(values) == pytest.approx(0, abs=1e-12)
    assert null.sd[0, 1] == pytest.approx(np.std(values), rel=1e-9)
    assert null.skewness[0, 1] == pytest.approx(
        np.mean(np.array(values) ** 3) / np.std(values) ** 3, rel=1e-7
    )


def test_null_variance_of_debiased_cka_does_not_depend_on_the_data(rng):
    x, y = pair(rng, 90)
    null = cka_matrix([x, y], null=True).null
    assert null.sd[0, 1] == pytest.approx(np.sqrt(2 / (90 * 87)), rel=1e-4)


def test_null_p_values_are_calibrated(rng):
    p = [
        cka_matrix([rng.normal(size=(40, 12)), rng.exponential(size=(40, 20))], null=True).null.p[0, 1]
        for _ in range(300)
    ]
    assert 0.02 <= np.mean(np.array(p) < 0.05) <= 0.09
    assert cka_matrix(pair(rng, 60), null=True).null.p[0, 1] < 1e-6


def rbf_reference(x, y, bandwidth):
    grams = []
    for a in (x, y):
        square = ((a[:, None] - a[None]) ** 2).sum(-1)
        grams.append(np.exp(-square / (2 * bandwidth**2 * np.median(square))))
    h = np.eye(len(x)) - 1 / len(x)
    a, b = (h @ g @ h for g in grams)
    return (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())


@pytest.mark.parametrize("n", [15, 60])
def test_rbf_kernel(rng, n):
    x, y = pair(rng, n)
    for bandwidth in (0.5, 1.0):
        expected = rbf_reference(x, y, bandwidth)
        assert cka(x, y, kernel="rbf", estimator="biased", bandwidth=bandwidth) == pytest.approx(
            expected, abs=5e-6
        )
    assert cka_matrix([x, y], kernel="rbf", errors=True).standard_error[0, 1] > 0


def test_float32_agrees_with_float64_on_many_matrices(rng):
    arrays = [a for _ in range(5) for a in pair(rng, 150, 40, 64)]
    for kernel in ("linear", "rbf"):
        single, double = (cka_matrix(arrays, kernel=kernel, dtype=d) for d in ("float32", "float64"))
        assert np.abs(single.debiased - double.debiased).max() < 5e-6
        assert np.abs(single.biased - double.biased).max() < 5e-6


def test_memory_mapped_input(tmp_path, rng):
    x, y = pair(rng, 200)
    mapped = np.memmap(tmp_path / "x.npy", np.float32, "w+", shape=x.shape)
    mapped[:] = x
    mapped.flush()
    read = np.memmap(tmp_path / "x.npy", np.float32, "r", shape=x.shape)
    assert cka(read, y, estimator="biased") == pytest.approx(reference(x, y, "biased"), abs=5e-6)
    small = cka_matrix([read, y], errors=True, memory=16_000)
    assert small.plan.tile < 200
    assert small.debiased[0, 1] == pytest.approx(reference(x, y, "debiased"), abs=5e-6)


def test_plan_states_memory_before_it_starts():
    chosen = plan(1000, [512] * 240)
    assert chosen.form == "tiles"
    assert chosen.memory < 100e6
    assert "MB beyond the input" in str(chosen)
    assert plan(20_000, [512] * 2).form == "features"
    assert plan(20_000, [512] * 240).form == "tiles"
    assert plan(1000, [512] * 240, errors=True).memory < 110e6
    with pytest.raises(DataError, match="for one row"):
        plan(10**6, [64] * 1000, errors=True)
