import numpy as np
import pytest

from clipbias.analysis.reliability import disattenuate, icc, reliability, spearman_brown
from clipbias.errors import DataError, StatusError


def test_icc_equals_shrout_and_fleiss_1979():
    ratings = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    found = icc(ratings)
    expected = {"ICC1": 0.17, "ICC2": 0.29, "ICC3": 0.71, "ICC1k": 0.44, "ICC2k": 0.62, "ICC3k": 0.91}
    assert {k: round(v, 2) for k, v in found.items()} == expected


def test_icc_says_what_is_wrong():
    with pytest.raises(DataError):
        icc([[1.0, np.nan], [2, 3]])
    with pytest.raises(StatusError, match="1 replicates"):
        icc([[1.0], [2.0]])
    with pytest.raises(StatusError, match="do not differ"):
        icc(np.ones((4, 3)))


def test_spearman_brown():
    assert spearman_brown(0.5) == pytest.approx(2 / 3)
    assert spearman_brown(spearman_brown(0.3), factor=0.5) == pytest.approx(0.3)


def test_split_half_recovers_the_reliability_of_a_mean():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(400, 1))
    items = truth + 3 * rng.normal(size=(400, 20))
    found = reliability(items)
    assert found.value == pytest.approx(1 / (1 + 9 / 20), abs=0.06)
    assert found.ci_low < found.value < found.ci_high
    assert found.half < found.value
    assert (found.models, found.items) == (400, 20)


def test_split_half_refuses():
    with pytest.raises(StatusError, match="3 models"):
        reliability(np.zeros((3, 10)))
    with pytest.raises(DataError):
        reliability(np.zeros(5))
    with pytest.raises(StatusError, match="do not differ"):
        reliability(np.ones((6, 10)))


def test_attenuation_is_undone_where_admissible():
    rng = np.random.default_rng(1)
    latent = rng.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], size=300)
    x, y = (latent[:, [i]] + 2 * rng.normal(size=(300, 8)) for i in (0, 1))
    found = disattenuate(x, y, bootstrap=100)
    assert found.admissible
    assert found.observed < 0.65
    assert found.corrected == pytest.approx(0.8, abs=0.1)
    assert found.ci_low < found.corrected < found.ci_high
    assert abs(found.observed) <= found.ceiling


def test_unreliable_metrics_are_not_corrected():
    rng = np.random.default_rng(2)
    found = disattenuate(rng.normal(size=(20, 6)), rng.normal(size=(20, 6)), bootstrap=20)
    assert not found.admissible
    assert np.isnan(found.corrected)
    assert "both must exceed 0.5" in found.reason
    with pytest.raises(DataError, match="20 and 19"):
        disattenuate(rng.normal(size=(20, 6)), rng.normal(size=(19, 6)))
