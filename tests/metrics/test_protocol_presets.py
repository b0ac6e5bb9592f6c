"""Protocols of earlier studies, quirk by quirk: against values worked out by hand and formulas written again here."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from clipbias.errors import DataError
from clipbias.metrics import inference, worked_example
from clipbias.metrics.inputs import Ranking
from clipbias.metrics.presets import differences, list_presets, load_preset
from clipbias.metrics.protocol import STRICT, Protocol, balanced
from clipbias.metrics.resolution import resolution_bias

STUDIES = {"berg2022", "visogender", "sobit", "clip2021", "ghate2025", "ramos2025", "fairerclip"}


def berg_max_skew(scores, groups, k, *, uniform=True):
    """Berg et al. (2022), written from the description of their function: keep ties, peer, largest of 0 and all."""
    scores = np.asarray(scores, float)
    n, labels = len(scores), Counter(groups)
    last = np.sort(scores)[::-1][k - 1]
    first = Counter(g for g, s in zip(groups, scores, strict=True) if s >= last)
    found = 0.0
    for label, count in labels.items():
        share = first[label] / k or 1 / k
        found = max(found, math.log(share) - math.log(1 / len(labels) if uniform else count / n))
    return found


def point(metric, scores, groups, protocol, probe=""):
    ranking = Ranking(
        np.atleast_2d(scores), [f"p{i}" for i in range(len(np.atleast_2d(scores)))], pd.Categorical(groups)
    )
    rows = inference.evaluate(
        metric, ranking, protocol=protocol.model_copy(update={"n_boot": 0, "n_perm": 0, "min_group": 1})
    )
    return {str(r["group"]): r["value"] for r in rows if r["probe"] == probe}


def over_groups(metric, scores, groups, protocol):
    return next(iter(point(metric, scores, groups, protocol).values()))


# -- one quirk after the other ----------------------------------------------------------------------


def test_an_absent_group_gets_positive_skew_with_peer():
    """9:1 groups, K = 5, the minority absent: ln 2 = .693, although the majority's skew is ln(1/.9) = .105."""
    groups, scores = ["a"] * 9 + ["b"], np.arange(10)[::-1].astype(float)
    peer = STRICT.model_copy(update={"k": 5, "zero": "peer"})
    assert over_groups("max_skew", scores, groups, peer) == pytest.approx(math.log(2))
    assert over_groups(
        "max_skew", scores, groups, peer.model_copy(update={"zero": "exclude"})
    ) == pytest.approx(math.log(1 / 0.9))
    assert berg_max_skew(scores, groups, 5, uniform=False) == pytest.approx(math.log(2))


def test_counting_all_ties_makes_shares_add_up_to_more_than_one():
    """All tied, n = 8, K = 2: each of two groups has the share 2, MaxSkew ln 4 = 1.386."""
    groups, scores = ["a", "b"] * 4, np.zeros(8)
    choices = STRICT.model_copy(update={"k": 2, "reference": "uniform", "ties": "all"})
    assert over_groups("max_skew", scores, groups, choices) == pytest.approx(math.log(4))
    assert over_groups(
        "max_skew", scores, groups, choices.model_copy(update={"ties": "expected"})
    ) == pytest.approx(0)


@pytest.mark.parametrize("uniform", [True, False])
@pytest.mark.parametrize("k", [1, 7, 40, 99])
def test_max_skew_under_berg_is_the_published_function(uniform, k):
    rng = np.random.default_rng(k)
    groups = rng.choice(["a", "b", "c"], 100, p=[0.6, 0.37, 0.03])
    scores = np.round(rng.normal(size=(3, 100)), 1)
    choices = {**load_preset("berg2022").choices, "k": k, "reference": "uniform" if uniform else "base_rate"}
    protocol = Protocol.model_validate(choices)
    found = over_groups("max_skew", scores, groups, protocol)
    assert found == pytest.approx(np.mean([berg_max_skew(s, groups, k, uniform=uniform) for s in scores]))


def test_the_bootstrap_counts_whole_blocks_too():
    groups, scores = ["a", "b"] * 30, np.repeat([2.0, 1.0, 0.0], 20)
    ranking = Ranking(scores[None], ["p"], pd.Categorical(groups))
    protocol = Protocol(k=25, ties="all", reference="uniform", n_boot=50, n_perm=0)
    from clipbias.metrics.record import get

    drawn = ranking.tally("bootstrap", protocol, get("skew"))
    total = drawn.topk.sum(-1)
    assert (total >= 25 - 1e-6).all()
    assert total.max() > 25  # a block that begins inside the list is counted to its end
    assert np.allclose(total, np.round(total))


def test_raw_bias_at_k_ignores_the_base_rate():
    groups, scores = ["m"] * 6 + ["w"] * 2, np.arange(8)[::-1].astype(float)
    raw = Protocol(k=4, bias_at_k="raw")
    assert point("bias_at_k", scores, groups, raw)["m"] == pytest.approx(1)  # (4 - 0) / 4
    assert point("bias_at_k", scores, groups, STRICT.model_copy(update={"k": 4}))["m"] == pytest.approx(
        1 - 0.5
    )


def test_rounding_before_subtracting_moves_the_gap():
    truth = ["masculine"] * 120 + ["feminine"] * 120
    guess = ["masculine"] * 83 + ["neutral"] * 37 + ["feminine"] * 70 + ["neutral"] * 50
    assert resolution_bias(guess, truth).gap == pytest.approx(13 / 120)
    assert resolution_bias(guess, truth, decimals=2).gap == pytest.approx(0.69 - 0.58)


def test_balancing_draws_the_subset_of_the_published_code():
    ids = [f"val/{i}.jpg" for i in range(1, 41)]
    gender = np.where(np.arange(40) % 4 == 0, "Female", "Male")
    rows = balanced(pd.Categorical(gender), ids, seed=1)
    labels = pd.DataFrame({"file": ids, "gender": gender}).sort_values("file")
    men, women = (
        labels[labels["gender"] == g].sample(n=10, random_state=1)["file"] for g in ("Male", "Female")
    )
    assert {ids[row] for row in rows} == {*men, *women}
    assert (np.diff(rows) > 0).all()
    shuffled = np.random.default_rng(0).permutation(40)
    again = balanced(pd.Categorical(gender[shuffled]), [ids[i] for i in shuffled], seed=1)
    assert {ids[shuffled[row]] for row in again} == {
        ids[row] for row in rows
    }  # whatever the order of the file


def test_balancing_leaves_unknown_out_and_needs_two_levels():
    labels = pd.Categorical(["a", "unknown", "b", "a"])
    assert set(np.asarray(labels)[balanced(labels, list("wxyz"), seed=0)]) == {"a", "b"}
    with pytest.raises(DataError, match="balance needs two levels"):
        balanced(pd.Categorical(["a", "unknown"]), list("xy"), seed=0)


def test_prompts_and_lengths_change_the_rankings_of_the_example():
    e = worked_example.example()
    each = worked_example.rankings(Protocol(prompts="each", normalise="texts"))
    texts = e.prompts.reshape(-1, e.prompts.shape[-1])
    assert np.allclose(each.scores, np.round(texts @ e.images.T, 2))
    one = worked_example.rankings(STRICT)
    assert (len(one.probes), len(each.probes)) == (4, 12)
    assert np.abs(one.scores).max() <= 1


# -- presets ----------------------------------------------------------------------------------------


def test_every_study_has_a_preset():
    assert set(list_presets()) == STUDIES | {"strict"}
    assert differences(load_preset("strict")) == []


@pytest.mark.parametrize("name", sorted(STUDIES))
def test_presets_say_what_each_choice_does(name):
    from clipbias import probes
    from clipbias.metrics.record import get

    preset = load_preset(name)
    found = differences(preset)
    assert found
    assert {d.choice for d in found} == set(preset.choices)  # nothing is listed that is as in strict
    assert all(d.says.endswith(".") and len(d.says) > 30 for d in found)
    assert preset.protocol().hash != STRICT.hash
    assert preset.protocol(Protocol(seed=3, n_boot=7)).n_boot == 7
    assert preset.limits
    assert "github.com" in preset.source or "arXiv" in preset.source
    for metric in preset.ask.metrics or []:
        get(metric)
    for probe in filter(None, (preset.ask.probe, preset.ask.harmful)):
        assert probe in set(probes.list_sets()["name"])


@pytest.mark.parametrize("name", sorted(STUDIES))
def test_each_difference_moves_a_number_of_the_worked_example(name):
    for difference in differences(load_preset(name)):
        shown = worked_example.effect(difference.choice, difference.study, STRICT)
        if difference.choice in ("min_group", "balance_seed"):
            assert shown is None
        else:
            metric, before, after = shown
            assert before != after, (difference.choice, metric)


def test_a_choice_needs_its_sentence_and_must_exist(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPBIAS_STUDY", str(tmp_path))
    folder = tmp_path / "tasks" / "protocols"
    folder.mkdir(parents=True)
    head = 'name = "mine"\ntitle = "t"\nsource = "s"\nimages = "i"\n'
    path = folder / "mine.toml"
    path.write_text(head + "[protocol]\nk = 7\n")
    with pytest.raises(DataError, match=r"'k' must stand in \[protocol\] and"):
        load_preset("mine")
    path.write_text(head + '[protocol]\nk = 7\n[changes]\nk = "Seven."\n')
    assert load_preset("mine").protocol().k == 7
    path.write_text(head + '[protocol]\ntie = "all"\n[changes]\ntie = "x"\n')
    with pytest.raises(DataError, match="tie: .*Did you mean 'ties'"):
        load_preset("mine")
    path.write_text(head.replace("mine", "other"))
    with pytest.raises(DataError, match="Make name and file agree"):
        load_preset("mine")
    path.write_text("name =")
    with pytest.raises(DataError, match="is not valid TOML"):
        load_preset("mine")
    with pytest.raises(DataError, match="no protocol 'mien'. Did you mean 'mine'"):
        load_preset("mien")
