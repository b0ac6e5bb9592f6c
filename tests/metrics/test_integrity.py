"""Gates on stored and computed data: each finds the fault it is named after, and nothing in good data."""

import numpy as np
import pytest

from clipbias.errors import DataError
from clipbias.metrics.integrity import (
    anisotropy,
    check_embeddings,
    check_ids,
    check_scores,
    gate,
    geometry,
    modality_gap,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def failed(findings):
    return {f.check for f in findings if f.status == "failed"}


def warned(findings):
    return {f.check for f in findings if f.status == "warning"}


def test_good_data_pass(rng):
    found = check_scores(rng.normal(size=(40, 5)))
    assert not failed(found)
    assert not warned(found)
    found = check_embeddings(rng.normal(size=(40, 8)))
    assert not failed(found)
    assert not warned(found)
    gate(found, "here")


def test_rows_of_zeros_are_missing_data(rng):
    # Zeros in the place of features that were never computed gave a model 100 % of its first class.
    x = rng.normal(size=(10, 4))
    x[3] = 0
    for found in (check_scores(x), check_embeddings(x)):
        assert failed(found) == {"zero rows"}
        with pytest.raises(DataError, match="here: zero rows: 1 of 10 rows are all zero, first row 3"):
            gate(found, "here")


def test_rows_that_should_add_up(rng):
    p = rng.dirichlet(np.ones(4), size=20)
    assert not failed(check_scores(p))
    assert not failed(check_scores(100 * p))
    p[7] *= 0.19
    assert failed(check_scores(p)) == {"row sums"}
    assert next(f for f in check_scores(p) if f.check == "row sums").reason.startswith(
        "1 of 20 rows do not add up to 1, first row 7"
    )
    assert not failed(check_scores(p, probabilities=False))
    # Said to be probabilities, most of them wrong: not guessed, asked for.
    assert failed(check_scores(0.5 * rng.dirichlet(np.ones(4), size=20), probabilities=True)) == {"row sums"}
    assert not failed(check_scores(rng.normal(size=(20, 4))))


def test_constant_columns_and_predictions(rng):
    x = rng.normal(size=(30, 3))
    x[:, 1] = 9.0
    found = check_scores(x, ["a", "b", "c"])
    assert warned(found) == {"constant columns", "largest predicted share"}
    assert "'b'" in next(f.reason for f in found if f.check == "constant columns")
    assert "constant columns" in failed(check_scores(np.ones((5, 3))))


def test_duplicates_and_dead_dimensions(rng):
    x = rng.normal(size=(20, 3))
    x[5] = x[6] = x[0]
    found = check_embeddings(x)
    assert warned(found) == {"duplicated rows"}
    assert next(f.value for f in found if f.check == "duplicated rows") == 2
    assert failed(check_embeddings(np.ones((5, 3)))) == {"duplicated rows", "constant dimensions"}
    x = rng.normal(size=(20, 3))
    x[:, 2] = 0.5
    assert warned(check_embeddings(x)) == {"constant dimensions"}


def test_not_finite(rng):
    x = rng.normal(size=(5, 3))
    x[2, 1] = np.nan
    assert failed(check_scores(x)) == failed(check_embeddings(x)) == {"not finite"}
    with pytest.raises(DataError, match="one row per item"):
        check_scores(np.zeros(3))


def test_ids():
    assert failed(check_ids(None, 3)) == {"missing ids"}
    assert failed(check_ids(["a", "b"], 3)) == {"missing ids"}
    assert failed(check_ids(["a", "", "c"], 3)) == {"missing ids"}
    assert failed(check_ids(["a", "b", "a"], 3)) == {"duplicated ids"}
    assert warned(check_ids(["a", "b"], 2, ["a", "c"])) == {"images without a row"}
    assert failed(check_ids(["a", "b"], 2, ["x", "y"])) == {"images without a row"}
    assert [f.status for f in check_ids(["a", "b"], 2, ["b"])] == ["ok"]


def test_geometry_by_hand():
    x = np.array([[1.0, 0], [0, 2.0]])
    assert anisotropy(x) == pytest.approx(0.0)
    assert anisotropy(np.array([[1.0, 1], [3.0, 3]])) == pytest.approx(1.0)
    assert anisotropy(np.array([[1.0, 0], [-1.0, 0]])) == pytest.approx(-1.0)
    # Means (.5, .5) and (-1, 0).
    assert modality_gap(x, np.array([[-3.0, 0]])) == pytest.approx(np.hypot(1.5, 0.5))
    values = {f.check: f.value for f in geometry(x, np.array([[-3.0, 0], [0, -1.0]]))}
    assert values["mean cosine"] == pytest.approx(-0.5)
    assert values["sd of cosines"] == pytest.approx(0.5)
    with pytest.raises(DataError, match="two rows"):
        anisotropy(x[:1])
