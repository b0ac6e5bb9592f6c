"""``clipbias peers``: its arithmetic, and what it says without the other package."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest

from clipbias.commands import peers


def test_without_spuco_it_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "spuco", None)
    assert peers.main(["spuco"]) == 2
    assert "peers/bin/pip install clipbias spuco" in capsys.readouterr().err


def test_one_seed_has_no_noise(capsys):
    assert peers.main(["spuco", "--seeds", "1"]) == 2
    assert "two seeds" in capsys.readouterr().err


def test_agreement_is_judged_against_the_noise_of_the_seeds():
    found = pd.DataFrame({
        "system": ["A"] * 3 + ["B"] * 3, "seed": [0, 1, 2] * 2, "spuco": [0.60, 0.62, 0.64, 0.60, 0.61, 0.62],
        "clipbias": [0.62, 0.64, 0.66, 0.80, 0.81, 0.82],
    })  # fmt: skip
    table = peers.agreement(found).set_index("system")
    assert table.loc["A", "difference"] == pytest.approx(0.02)
    assert table.loc["A", "seed_sd"] == pytest.approx(0.02)
    assert table["agree"].tolist() == [True, False]


@pytest.mark.parametrize("ours", [peers._our_dfr, peers._our_dispel, peers._our_dro])
def test_ours_learn_the_label_and_not_the_tie(ours):
    rng = np.random.default_rng(0)

    def draw(n, rho):
        y = rng.integers(0, 2, n)
        a = np.where(rng.random(n) < rho, y, 1 - y)
        x = rng.normal(size=(n, 8)).astype(np.float32)
        x[:, 0] += 2 * (2 * y - 1)
        x[:, 1] += 3 * (2 * a - 1)
        return x, y, 2 * y + a

    parts = {"train": draw(600, 0.9), "held": draw(400, 0.9), "val": draw(300, 0.9), "test": draw(600, 0.5)}
    sample = peers.Sample(*({name: part[k] for name, part in parts.items()} for k in range(3)))
    assert ours(sample, 0) > 0.85
