"""On planted features each system helps the minority as it must, and its null twin does not. Means over seeds."""

from __future__ import annotations

import numpy as np
import pytest
from planted import draw

from clipbias.tasks.interventions import (
    associated,
    balancing_weights,
    dfr_probe,
    first_errors,
    fit_probe,
    lowest,
    mix_probe,
    rate_differences,
    real_fake_accuracy,
    rebalance_rows,
    resample_rows,
    spuriosity,
    upweighted,
    worst_group,
)
from clipbias.tasks.interventions.measures import check_apart
from clipbias.tasks.interventions.mixing import Mixing

SEEDS = range(3)
N, RHO = 800, 0.95


def sample(seed, n=N, rho=RHO):
    x, job, gender, _ = draw(n, rho, 100 + seed)
    return x, job, gender


def probe(x, y, **more):
    return fit_probe(x, y, l1=False, strength=1.0, **more)


def worst(model, seed):
    x, y, a = sample(50 + seed, 1500, 0.5)
    return worst_group(model.predict(x) == y, 2 * y + a)


def fpr(model, seed, rho=0.5):
    x, y, a = sample(50 + seed, 1500, rho)
    return rate_differences(model.scores(x)[:, 1], y == 1, a == 1)


def gain(make, *, null=False):
    """Return the mean gain over plain training in the accuracy of the worst group."""
    gains = []
    for seed in SEEDS:
        x, y, a = sample(seed)
        if null:
            a = np.random.default_rng(seed).permutation(a)
        gains.append(worst(make(x, y, a, seed), seed) - worst(probe(x, y), seed))
    return float(np.mean(gains))


def reweighted(x, y, a, seed):
    return probe(x, y, weights=balancing_weights(y, a, "joint"))


def resampled(x, y, a, seed):
    index = resample_rows(y, a, seed=seed)
    return probe(x[index], y[index])


def rebalanced(x, y, a, seed):
    index = rebalance_rows(y, a == 1, phi=0, mode="same_n", seed=seed).index
    return probe(x[index], y[index])


def twice(x, y, a, seed):
    index = upweighted(first_errors(x, y, strength=0.01), 10)
    return probe(x[index], y[index])


@pytest.mark.parametrize(("make", "least"), [(reweighted, 0.05), (resampled, 0.05), (twice, 0.02)])
def test_weights_help_the_worst_group(make, least):
    assert gain(make) >= least


@pytest.mark.parametrize("make", [reweighted, resampled])
def test_shuffled_groups_do_not(make):
    assert abs(gain(make, null=True)) < 0.03


def test_random_errors_do_not():
    def random(x, y, a, seed):
        errors = np.random.default_rng(seed).permutation(first_errors(x, y, strength=0.01))
        index = upweighted(errors, 10)
        return probe(x[index], y[index])

    assert gain(random) < 0.03


def test_the_dose_of_association_moves_the_error_rates_through_zero():
    from scipy.stats import spearmanr

    levels = [0.8, 0.4, 0.0, -0.4, -0.8]
    curve = []
    for phi in levels:
        found = []
        for seed in SEEDS:
            x, y, a = sample(seed, 3000, 0.5)
            index = rebalance_rows(y, a == 1, phi=phi, n=600, ties={0: False, 1: True}, seed=seed).index
            found.append(fpr(probe(x[index], y[index]), seed).fpr)
        curve.append(np.mean(found))
    assert spearmanr(levels, curve).statistic >= 0.95
    assert abs(curve[2]) <= 0.05
    assert curve[0] >= 0.2
    assert curve[-1] <= -0.2


def held_out(seed, n=N):
    return sample(30 + seed, n)


def test_dfr_on_balanced_held_out_data():
    gains, plain = [], []
    for seed in SEEDS:
        x, y, a = sample(seed)
        hx, hy, ha = held_out(seed)
        before = worst(probe(x, y), seed)
        gains.append(worst(dfr_probe(hx, hy, ha, strengths=(1.0, 0.1), draws=5, seed=seed), seed) - before)
        plain.append(
            worst(dfr_probe(hx, hy, ha, strengths=(1.0,), draws=5, balanced=False, seed=seed), seed) - before
        )
    assert np.mean(gains) >= 0.10
    assert abs(np.mean(plain)) < 0.05


def mixed_at(seed, s, alpha=1.0, n=N, **more) -> Mixing:
    x, y, a = sample(seed)
    hx, hy, ha = held_out(seed, n)
    sx, sy, sa = sample(60 + seed, 400)
    return mix_probe(
        hx, hy, ha, unlabelled=(x, y), selection=(sx, sy, sa), s=s, alpha=alpha, strengths=(0.3,), draws=4, seed=seed, **more
    )  # fmt: skip


def test_mixing_between_the_plain_probe_and_dfr():
    curve = {s: np.mean([worst(mixed_at(seed, s).probe, seed) for seed in SEEDS]) for s in (0.0, 0.5, 0.9)}
    assert curve[0.0] < curve[0.5] < curve[0.9] + 0.02
    plain = np.mean([worst(probe(*sample(seed)[:2]), seed) for seed in SEEDS])
    assert abs(curve[0.0] - plain) < 0.06  # s = 0 debiases nothing
    assert max(curve.values()) - plain >= 0.09
    none = mixed_at(0, 0.9, alpha=0.0)
    assert none.probe.coef == pytest.approx(mixed_at(0, 0.0).probe.coef)
    chosen = mixed_at(0, (0.0, 0.5, 0.9))
    assert chosen.s > 0
    assert len(chosen.tried) == 3


def test_mixing_all_of_it_is_dfr_on_the_balanced_subset_drawn_again():
    from clipbias.tasks.interventions.mixing import partners
    from clipbias.tasks.interventions.probe import Scaler, balanced_rows, joint

    hx, hy, ha = held_out(0)
    scaler = Scaler.of(hx)
    more = (np.zeros((0, hx.shape[1])), hy[:0])
    found = mix_probe(
        hx, hy, ha, unlabelled=more, selection=sample(9, 200), s=1, strengths=(0.3,), draws=1, scaler=scaler
    )
    b = balanced_rows(joint(hy, ha), seed=[0, 52, 0])
    keep = balanced_rows(hy, seed=[0, 53, 0])
    drawn = b[partners(hy[keep], hy[b], np.random.default_rng([0, 51, 0]))]
    same = fit_probe(hx[drawn], hy[keep], strength=0.3, scaler=scaler)
    assert found.probe.coef == pytest.approx(same.coef)


def test_the_missing_group_path():
    x, y, a = held_out(1)
    gone = ~((y == 1) & (a == 0))
    with pytest.raises(Exception, match="cell is missing"):
        mix_probe(x[gone], y[gone], a[gone], selection=(x, y, a), s=0.5, draws=1)
    shares = a[gone] == 1  # both labels have this cue
    mix_probe(x[gone], y[gone], a[gone], selection=(x, y, a), s=0.5, draws=1, shares_group=shares)


def tuned(seed, choose):
    """Return a probe fitted on all, then continued on k held-out images of each class."""
    from sklearn.linear_model import SGDClassifier

    x, y, a = sample(seed)
    hx, hy, _ = held_out(seed)
    cue = hx[:, 4:6].mean(1)
    features = np.column_stack([cue, -cue])
    score = spuriosity(features, hy, associated(features, hy))
    if choose == "random":
        score = np.random.default_rng(seed).random(len(hy))
    rows = lowest(score, hy, 30)
    start = probe(x, y)
    model = SGDClassifier(
        "log_loss", alpha=1e-4, learning_rate="constant", eta0=0.003, max_iter=60, tol=None, random_state=0
    )
    model.partial_fit(start.scaler(x[:4]), y[:4], classes=[0, 1])
    model.coef_[:], model.intercept_[:] = start.coef[1:], start.intercept[1:]
    for _ in range(60):
        model.partial_fit(start.scaler(hx[rows]), hy[rows])
    coef, intercept = (
        np.vstack([-model.coef_, model.coef_]),
        np.concatenate([-model.intercept_, model.intercept_]),
    )
    return type(start)(coef, intercept, start.classes, start.scaler)


def test_the_low_spuriosity_head_beats_the_plain_head_on_the_minority_and_random_does_not():
    plain = np.mean([worst(probe(*sample(seed)[:2]), seed) for seed in SEEDS])
    low = np.mean([worst(tuned(seed, "low"), seed) for seed in SEEDS])
    random = np.mean([worst(tuned(seed, "random"), seed) for seed in SEEDS])
    assert low - plain >= 0.10
    assert random - plain < 0.4 * (low - plain)  # more data help a little, whichever they are


def test_rebalancing_takes_the_difference_away_and_its_null_does_not():
    def difference(make, null=False):
        found = []
        for seed in SEEDS:
            x, y, a = sample(seed, 2000)
            if null:
                a = np.random.default_rng(seed).permutation(a)
            found.append(fpr(make(x, y, a, seed), seed).fpr)
        return abs(float(np.mean(found)))

    assert difference(lambda x, y, a, s: probe(x, y)) >= 0.25
    assert difference(rebalanced) <= 0.05
    assert difference(rebalanced, null=True) >= 0.25
    assert gain(rebalanced) >= 0.09


def test_in_neutral_data_nothing_changes():
    for make in (reweighted, resampled, rebalanced):
        gains, sizes = [], []
        for seed in SEEDS:
            x, y, a = sample(seed, N, 0.5)
            plain = worst(probe(x, y), seed)
            gains.append(worst(make(x, y, a, seed), seed) - plain)
            sizes.append(plain)
        assert abs(np.mean(gains)) < max(2 * np.std(sizes), 0.03)


def test_synthetic_images_are_told_from_real_by_their_mark():
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(150, 6)), rng.normal(size=(150, 6))
    assert real_fake_accuracy(real, fake) == pytest.approx(0.5, abs=0.12)
    assert real_fake_accuracy(real, fake + 2) > 0.95
    check_apart(np.arange(3), np.arange(3, 6))
