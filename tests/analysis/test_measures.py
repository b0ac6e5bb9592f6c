import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import ortho_group, pearsonr, spearmanr

from clipbias.analysis.cca import cca, effective_rank, pairwise_cca, pwcca, svcca
from clipbias.analysis.cka import cka
from clipbias.analysis.neighbours import cknna, mutual_knn, pairwise_cknna, pairwise_mutual_knn
from clipbias.analysis.rsa import pairwise_rsa, rsa
from clipbias.analysis.shape import pairwise_procrustes, procrustes
from clipbias.analysis.streaming import MinibatchCKA
from clipbias.errors import DataError, StatusError


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def pair(rng, n=80, p=10, q=14):
    z = rng.normal(size=(n, 5))
    return z @ rng.normal(size=(5, p)) + rng.normal(size=(n, p)), z @ rng.normal(size=(5, q)) + rng.normal(
        size=(n, q)
    )


def brute_knn(x, k):
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    s = x @ x.T
    np.fill_diagonal(s, -np.inf)
    return np.argsort(-s, axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize("k", [1, 5, 79])
def test_mutual_knn_equals_sets(rng, k):
    x, y = pair(rng)
    expected = np.mean(
        [len(set(a) & set(b)) / k for a, b in zip(brute_knn(x, k), brute_knn(y, k), strict=True)]
    )
    assert mutual_knn(x, y, k=k) == pytest.approx(expected, abs=1e-9)
    assert mutual_knn(x, 5 * x @ ortho_group.rvs(10, random_state=0), k=k) == pytest.approx(1)


def test_mutual_knn_chance_level_and_ties(rng):
    n, k = 400, 10
    assert mutual_knn(rng.normal(size=(n, 20)), rng.normal(size=(n, 20)), k=k) == pytest.approx(
        k / (n - 1), abs=0.01
    )
    same = np.repeat([[1.0, 0.0], [0.0, 1.0]], 6, axis=0)  # eleven ties at each edge
    assert mutual_knn(same, same, k=3) == 1
    assert brute_knn(same, 3)[5].tolist() == [0, 1, 2]
    other = np.array([[1.0, 0.0]] * 11 + [[0.0, 1.0]])
    expected = np.mean(
        [len(set(a) & set(b)) / 3 for a, b in zip(brute_knn(same, 3), brute_knn(other, 3), strict=True)]
    )
    assert mutual_knn(same, other, k=3) == pytest.approx(expected)
    with pytest.raises(StatusError, match="same features"):
        mutual_knn(same, np.ones((12, 2)))


def test_mutual_knn_centring_makes_it_invariant_to_translation(rng):
    x, y = pair(rng)
    assert mutual_knn(x + 3, y, center=True) == pytest.approx(mutual_knn(x, y, center=True))
    assert mutual_knn(x + 30, y) != pytest.approx(mutual_knn(x, y), abs=0.02)


def test_knn_standardize_takes_out_an_outlier_feature(rng):
    x, y = pair(rng, 200)
    wide = np.c_[x, 300 * rng.normal(size=200)]
    assert mutual_knn(wide, y) < 0.6 * mutual_knn(x, y)
    assert mutual_knn(wide, y, standardize=True) == pytest.approx(
        mutual_knn(wide / wide.std(0), y / y.std(0)), abs=1e-3
    )


def test_knn_refuses_bad_input(rng):
    x, y = pair(rng, 12)
    with pytest.raises(DataError, match="between 1 and 11"):
        mutual_knn(x, y, k=12)
    x[4] = 0
    with pytest.raises(DataError, match="'i4'.*has no direction"):
        mutual_knn(x, y, ids=[f"i{i}" for i in range(12)])
    x[4, 1] = np.inf
    with pytest.raises(DataError, match="row 4 holds a value that is not finite"):
        mutual_knn(x, y)


def test_cknna_equals_its_definition(rng):
    x, y = pair(rng, 40)
    k = 6

    def masked(a):
        a = a / np.linalg.norm(a, axis=1, keepdims=True)
        s = a @ a.T
        centred = s - s.mean(1, keepdims=True)
        mask = np.zeros_like(s)
        np.put_along_axis(mask, brute_knn(a, k), 1, axis=1)
        return mask * centred

    a, b = masked(x), masked(y)
    expected = (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())
    assert cknna(x, y, k=k) == pytest.approx(expected, abs=1e-6)
    assert pairwise_cknna([x, y, x], k=k)[0, 2] == pytest.approx(1)


@pytest.mark.parametrize(
    ("distance", "compare"),
    [
        ("euclidean", "spearman"),
        ("euclidean", "pearson"),
        ("correlation", "spearman"),
        ("cosine", "pearson"),
        ("euclidean", "cosine"),
    ],
)
def test_rsa_equals_scipy(rng, distance, compare):
    x, y = pair(rng)
    a, b = pdist(x, distance), pdist(y, distance)
    expected = {
        "spearman": lambda: spearmanr(a, b)[0],
        "pearson": lambda: pearsonr(a, b)[0],
        "cosine": lambda: a @ b / np.sqrt((a @ a) * (b @ b)),
    }[compare]()
    assert rsa(x, y, distance=distance, compare=compare) == pytest.approx(expected, abs=5e-6)


def test_rsa_with_duplicated_images_has_ties(rng):
    x, y = pair(rng, 30)
    x[1:4] = x[0]
    y[1:4] = y[0]
    expected = spearmanr(pdist(x), pdist(y))[0]
    assert rsa(x, y, dtype="float64") == pytest.approx(expected, abs=1e-3)


def test_rsa_refuses_what_has_no_distances():
    flat = np.ones((6, 3))
    with pytest.raises(StatusError):
        rsa(flat, np.random.default_rng(0).normal(size=(6, 2)))
    with pytest.raises(DataError, match="spearman"):
        rsa(flat, flat, compare="spearmann")


def test_procrustes_measures_and_invariance(rng):
    x, y = pair(rng)
    a, b = ((m - m.mean(0)) / np.linalg.norm(m - m.mean(0)) for m in (x, y))
    nuclear = np.linalg.svd(a.T @ b, compute_uv=False).sum()
    assert procrustes(x, y) == pytest.approx(nuclear, abs=1e-7)
    assert procrustes(x, y, measure="distance") == pytest.approx(np.sqrt(2 - 2 * nuclear), abs=1e-6)
    assert procrustes(x, y, measure="angular") == pytest.approx(np.arccos(nuclear), abs=1e-6)
    turned = 3 * x @ ortho_group.rvs(10, random_state=1) - 7
    assert procrustes(x, turned) == pytest.approx(1, abs=1e-9)
    assert procrustes(x, x, measure="angular") == pytest.approx(0, abs=1e-6)


def test_procrustes_wide_matrices_and_triangle(rng):
    arrays = [rng.normal(size=(12, p)) for p in (30, 8, 50)]
    found = pairwise_procrustes(arrays)
    a, b = ((m - m.mean(0)) / np.linalg.norm(m - m.mean(0)) for m in (arrays[0], arrays[2]))
    assert found[0, 2] == pytest.approx(np.linalg.svd(a.T @ b, compute_uv=False).sum(), abs=1e-9)
    angle = pairwise_procrustes(arrays, measure="angular")
    assert angle[0, 2] <= angle[0, 1] + angle[1, 2] + 1e-12
    assert np.isnan(pairwise_procrustes([*arrays, np.ones((12, 3))])[3]).all()


def canonical(x, y):
    qx, qy = (np.linalg.qr(m - m.mean(0))[0] for m in (x, y))
    return np.linalg.svd(qx.T @ qy)


def test_cca_family_on_its_formulas(rng):
    x, y = pair(rng, 200)
    u, rho, _ = canonical(x, y)
    assert cca(x, y) == pytest.approx(rho.mean(), abs=1e-10)
    assert cca(x, y, measure="r2") == pytest.approx((rho**2).mean(), abs=1e-10)
    centred = x - x.mean(0)
    h = np.linalg.qr(centred)[0] @ u[:, : len(rho)]
    weights = np.abs(h.T @ centred).sum(1)
    from_x, from_y = pwcca(x, y)
    assert from_x == pytest.approx((weights * rho).sum() / weights.sum(), abs=1e-10)
    assert pwcca(y, x) == pytest.approx((from_y, from_x))
    assert from_x != pytest.approx(from_y, abs=1e-4)
    mixed = x @ rng.normal(size=(10, 10)) + 4
    assert cca(mixed, y) == pytest.approx(cca(x, y), abs=1e-8)


def test_svcca_keeps_a_share_of_the_variance(rng):
    x, y = pair(rng, 200)

    def leading(m, share):
        u, s, _ = np.linalg.svd(m - m.mean(0), full_matrices=False)
        return u[:, : int((np.cumsum(s**2) / np.sum(s**2) < share).sum()) + 1]

    for share in (0.8, 0.99):
        expected = np.linalg.svd(leading(x, share).T @ leading(y, share), compute_uv=False).mean()
        assert svcca(x, y, variance=share) == pytest.approx(expected, abs=1e-10)
    assert svcca(x, y, variance=1.0) == pytest.approx(cca(x, y), abs=1e-10)


def test_cca_refuses_what_is_one_by_construction(rng):
    with pytest.raises(StatusError, match="Y: 19 dimensions for 20 images"):
        cca(rng.normal(size=(20, 3)), rng.normal(size=(20, 40)))
    values, reasons = pairwise_cca(
        [rng.normal(size=(20, 3)), rng.normal(size=(20, 40)), rng.normal(size=(20, 4))]
    )
    assert list(reasons) == [1]
    assert np.isfinite(values["cca_mean"][0, 2])
    low = rng.normal(size=(20, 3)) @ rng.normal(size=(3, 40))  # wide but of rank 3
    assert 0 < cca(low.astype(np.float32), rng.normal(size=(20, 3))) < 1


def test_effective_rank_of_known_spectra():
    basis = ortho_group.rvs(40, random_state=0)[:, :4]
    basis = np.linalg.qr(basis - basis.mean(0))[0]
    found = effective_rank(basis * 5)
    assert found.entropy == pytest.approx(4)
    assert found.participation == pytest.approx(4)
    assert effective_rank(basis * [1, 1e-9, 1e-9, 1e-9]).participation == pytest.approx(1)
    with pytest.raises(StatusError):
        effective_rank(np.ones((5, 2)))


def test_float32_agrees_with_float64(rng):
    arrays = [a for _ in range(4) for a in pair(rng, 150, 40, 64)]
    for function, bound in (
        (pairwise_rsa, 5e-6),
        (pairwise_procrustes, 5e-6),
        (pairwise_mutual_knn, 1e-3),
        (pairwise_cknna, 1e-3),
    ):
        single, double = (
            function([a.astype(np.float32) for a in arrays], dtype=d) for d in ("float32", "float64")
        )
        assert np.abs(single - double).max() < bound


def test_minibatch_cka_approaches_the_full_value_and_keeps_scales(rng):
    x, y = pair(rng, 1200)
    stream = MinibatchCKA()
    for start in range(0, 1200, 60):
        stream.update(x[start : start + 60], 1e-3 * y[start : start + 60])
    assert stream.value()[0, 1] == pytest.approx(cka(x, y), abs=0.01)
    naive = np.mean([cka(x[s : s + 12], y[s : s + 12], estimator="biased") for s in range(0, 1200, 12)])
    assert naive - cka(x, y) > 0.05  # the classical mistake
    assert (stream.images, stream.batches) == (1200, 20)
    with pytest.raises(DataError, match="at least 4"):
        stream.update(x[:3], y[:3])
    with pytest.raises(DataError, match="3 matrices"):
        stream.update(x, y, x)
    one = MinibatchCKA(dtype="float64")
    one.update(x, y)
    assert one.value()[0, 1] == pytest.approx(cka(x, y, dtype="float64"), abs=1e-12)
