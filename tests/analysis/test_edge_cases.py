"""Every measure on every geometry that has given other tools wrong numbers, against plain float64 numpy."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform
from scipy.stats import pearsonr, spearmanr

from clipbias.analysis.similarity import MEASURES, similarity
from clipbias.errors import DataError

K = 10
NEIGHBOURS = {"mutual_knn", "cknna"}
CCA = {"cca_mean", "cca_r2", "svcca", "pwcca"}
RSA = {"spearman": lambda a, b: spearmanr(a, b)[0], "pearson": lambda a, b: pearsonr(a, b)[0],
       "cosine": lambda a, b: a @ b / np.sqrt((a @ a) * (b @ b))}  # fmt: skip


def shared(rng, n=60, p=24, q=30):
    z = rng.normal(size=(n, 8))
    return [z @ rng.normal(size=(8, d)) + rng.normal(size=(n, d)) for d in (p, q)]


def cone(rng, arrays):
    """Unit norm, all within a narrow cone: the geometry of CLIP's embeddings."""
    out = []
    for a in arrays:
        a = 0.3 * a / np.linalg.norm(a, axis=1, keepdims=True) + rng.normal(size=a.shape[1]) / np.sqrt(
            a.shape[1]
        )
        out.append(a / np.linalg.norm(a, axis=1, keepdims=True))
    return out


def outlier(arrays):
    for a in arrays:
        a[7] *= 100
    return arrays


GEOMETRIES = {
    "plain": lambda rng: shared(rng),
    "mean +100": lambda rng: [a + 100 for a in shared(rng)],
    "scale 1e-3": lambda rng: [a * 1e-3 for a in shared(rng)],
    "unit-norm cone": lambda rng: cone(rng, shared(rng, 200, 64, 48)),
    "n < d": lambda rng: shared(rng, 30, 80, 70),
    "independent, n < d": lambda rng: [rng.normal(size=(50, 512)) for _ in range(2)],
    "one outlier row": lambda rng: outlier([rng.normal(size=(200, d)) for d in (64, 48)]),
    "a constant feature": lambda rng: [np.c_[a, np.full(len(a), 7.0)] for a in shared(rng)],
}


def kernel_cka(k, m, estimator):
    n = len(k)
    if estimator == "biased":
        h = np.eye(n) - 1 / n
        a, b = h @ k @ h, h @ m @ h
    else:
        centred = []
        for g in (k.copy(), m.copy()):
            np.fill_diagonal(g, 0)
            r = g.sum(1) / (n - 2)
            r = r - r.sum() / (2 * (n - 1))
            g = g - r[:, None] - r[None, :]
            np.fill_diagonal(g, 0)
            centred.append(g)
        a, b = centred
    return (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())


def rbf(x):
    square = squareform(pdist(x, "sqeuclidean"))
    return np.exp(-square / (2 * 0.25 * np.median(square)))


def neighbours(x):
    u = x / np.linalg.norm(x, axis=1, keepdims=True)
    s = u @ u.T
    mask = s.copy()
    np.fill_diagonal(mask, -np.inf)
    hot = np.zeros_like(s)
    np.put_along_axis(hot, np.argsort(-mask, axis=1, kind="stable")[:, :K], 1, axis=1)
    return hot, s - s.mean(1, keepdims=True)


def expected(name, x, y):
    cx, cy = x - x.mean(0), y - y.mean(0)
    if name in ("cka_biased", "cka_debiased"):
        return kernel_cka(cx @ cx.T, cy @ cy.T, name[4:])
    if name == "cka_rbf":
        return kernel_cka(rbf(x), rbf(y), "debiased")
    if name.startswith("procrustes"):
        value = np.linalg.svd(cx.T @ cy, compute_uv=False).sum() / np.linalg.norm(cx) / np.linalg.norm(cy)
        return {"procrustes": value, "procrustes_distance": np.sqrt(2 - 2 * value), "procrustes_angular": np.arccos(value)}[name]  # fmt: skip
    if name.startswith("rsa"):
        metric = "correlation" if name.endswith("correlation") else "euclidean"
        return RSA[name.split("_")[1]](pdist(x, metric), pdist(y, metric))
    if name in NEIGHBOURS:
        (a, s), (b, t) = neighbours(x), neighbours(y)
        if name == "mutual_knn":
            return (a * b).sum() / (K * len(x))
        a, b = a * s, b * t
        return (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())
    share = 0.99 if name == "svcca" else 1.0
    bases = []
    for c in (cx, cy):
        u, s, v = np.linalg.svd(c, full_matrices=False)
        rank = int((s > s[0] * np.finfo(np.float32).eps * max(c.shape)).sum())
        if share < 1:
            rank = min(rank, int((np.cumsum(s**2) / np.sum(s**2) < share).sum()) + 1)
        if rank >= len(c) - 1:
            return None
        bases.append((u[:, :rank], s[:rank, None] * v[:rank]))
    (u, a), (v, _) = bases
    left, rho, _ = np.linalg.svd(u.T @ v, full_matrices=False)
    if name == "cca_r2":
        return (rho**2).mean()
    weights = np.abs(left.T @ a).sum(1) if name == "pwcca" else np.ones(len(rho))
    return (weights * rho).sum() / weights.sum()


def made(geometry):
    """The same float32 numbers for both precisions."""
    return [a.astype(np.float32) for a in GEOMETRIES[geometry](np.random.default_rng(5))]


def both(x, y, measures, **options):
    states = {("model a", "proj", "pre"): x, ("model b", "proj", "pre"): y}
    return similarity(states, measures=measures, k=K, **options)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_right_number_in_either_precision(geometry, dtype):
    x, y = made(geometry)
    found = both(x, y, MEASURES, dtype=dtype)
    for name in MEASURES:
        value, truth = found.matrix(name)[0, 1], expected(name, x.astype(float), y.astype(float))
        if truth is None:
            assert np.isnan(value), name
            row = found.table().query("measure == @name").iloc[0]
            assert "model 'model a', layer 'proj', state 'pre'" in row["reason"]
            assert row["status"] == "not defined"
        else:
            assert value == pytest.approx(truth, abs=1e-3 if name in NEIGHBOURS else 5e-6), name


def test_what_other_tools_get_wrong_is_right():
    """Values of the references above that would have told: they are far from what the faults give."""
    x, y = (a.astype(float) for a in made("one outlier row"))
    assert expected("cka_biased", x, y) > 0.99
    assert abs(expected("cka_debiased", x, y)) < 0.1
    x, y = (a.astype(float) for a in made("independent, n < d"))
    assert expected("cka_biased", x, y) == pytest.approx(
        0.911, abs=0.005
    )  # the published figure of this case
    assert expected("cka_debiased", x, y) < 0.05
    x, y = (a.astype(float) for a in made("unit-norm cone"))
    u = x / np.linalg.norm(x, axis=1, keepdims=True)
    assert (u @ u.T).min() > 0.5  # a cone


@pytest.mark.parametrize("name", MEASURES)
def test_a_constant_matrix_is_nan_and_says_whose(name):
    x, y = made("plain")
    found = similarity(
        {("a", "proj", "pre"): x, ("b", "proj", "post"): np.full((60, 5), 0.1, np.float32), ("c", "proj", "pre"): y},
        measures=[name],
    )  # fmt: skip
    values = found.matrix(name)
    assert np.isnan(values[1]).all()
    assert np.isnan(values[:, 1]).all()
    assert np.isfinite(values[0, 2])
    rows = found.table()
    bad = rows[(rows["model_a"] == "b") | (rows["model_b"] == "b")]
    assert len(bad) == 2
    assert bad["reason"].str.contains("model 'b', layer 'proj', state 'post'").all()


@pytest.mark.parametrize("name", MEASURES)
def test_a_nan_row_is_told_by_model_layer_and_image(name):
    x, y = made("plain")
    y[41, 3] = np.nan
    ids = [f"img{i}" for i in range(60)]
    with pytest.raises(
        DataError, match=r"model 'model b', layer 'proj', state 'pre': image 'img41' \(row 41\)"
    ):
        both(x, y, [name], ids=ids)


@pytest.mark.parametrize("name", MEASURES)
def test_three_images(name):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(3, 5)), rng.normal(size=(3, 4))
    if name in ("cka_debiased", "cka_rbf"):
        with pytest.raises(DataError, match="at least 4 images, there are 3"):
            both(x, y, [name])
        return
    found = both(x, y, [name])
    value = found.matrix(name)[0, 1]
    if name in CCA:
        assert np.isnan(value)
        assert found.table()["reason"].str.contains("images").all()
    elif name == "mutual_knn":
        assert value == 1  # each image has only two others
    elif name != "cknna":
        assert value == pytest.approx(expected(name, x, y), abs=5e-6)


def test_duplicated_images_inflate_and_are_refused():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(150, 40)), rng.normal(size=(150, 30))
    again = rng.integers(0, 150, 200)
    plain = both(x, y, ["cka_debiased"]).matrix("cka_debiased")[0, 1]
    inflated = both(x[again], y[again], ["cka_debiased"]).matrix("cka_debiased")[0, 1]
    assert abs(plain) < 0.03
    assert inflated > plain + 0.1
    with pytest.raises(DataError, match="appears twice"):
        both(x[again], y[again], ["cka_debiased"], ids=[f"i{i}" for i in again])
