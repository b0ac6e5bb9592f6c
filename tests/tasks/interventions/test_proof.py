"""A small slice of the proof: one seed, few images, the plans that ``make interventions`` runs in full."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from clipbias.tasks.heads.base import Features, HeadSetting, TextBatch
from clipbias.tasks.interventions.proof import summary, units
from clipbias.tasks.interventions.proof.checks import check, failed
from clipbias.tasks.interventions.proof.ground import GROUPS, PAIR, Sizes, ground
from clipbias.tasks.interventions.proof.heads import CONTEXT, PooledWords
from clipbias.tasks.interventions.proof.trial import Result
from clipbias.tasks.interventions.proof.units import Store, Unit
from clipbias.tasks.interventions.tables import TABLES, table
from clipbias.tasks.vocabulary import Vocabulary


def result(scores, said, label, group, twin) -> Result:
    label = np.array(label)
    return Result(
        np.array(scores),
        (np.array(said) == label).astype(float),
        np.array(said),
        label,
        np.array(group),
        np.array(twin),
    )


def test_measures_by_hand():
    # Label and group fully crossed; what is said follows the group alone.
    label, group = [0, 0, 1, 1], [0, 1, 0, 1]
    found = result(
        [[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.1, 0.9]], group, label, group, [1, 0, 3, 2]
    ).measures()
    assert found["worst_group"] == 0
    assert found["fpr_difference"] == 1
    assert found["tpr_difference"] == 1
    assert found["flip_rate"] == 1
    assert found["spurious_gap"] == 1
    assert found["auc"] == 0.5
    fair = result(
        [[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8]], label, label, group, [1, 0, 3, 2]
    ).measures()
    assert (fair["worst_group"], fair["fpr_difference"], fair["flip_rate"], fair["auc"]) == (1, 0, 0, 1)


def test_the_ground_is_planted_and_its_test_images_are_crossed():
    data = ground("vqa", seed=3, rho=0.95, sizes=Sizes(400, 100, 1))
    table_ = data.images.table.set_index("image_id")
    train = table_.loc[data.split("train")["image_id"]]
    tied = train["role"].astype(str).map(dict(zip(PAIR, GROUPS, strict=True))) == train["gender"].astype(str)
    assert tied.mean() == pytest.approx(0.95, abs=0.04)
    test = table_.loc[data.split("test")["image_id"]]
    assert test.groupby(["role", "gender"], observed=True).size().nunique() == 1
    assert set(test["twin"]) <= set(test.index)
    assert set(data.examples["target"]) == set(PAIR)
    captions = ground("captioning", seed=3, rho=0.95, sizes=Sizes(400, 100, 1))
    assert captions.images.ids == data.images.ids  # both tasks show the same pictures


def test_the_small_captioner_learns_texts_by_heart_and_its_likelihoods_are_those_of_its_words():
    texts = ["a picture of an artist", "a picture of a construction worker"]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = PooledWords(HeadSetting("captioning", 4, 1, Vocabulary.build(texts)))
        pooled = torch.eye(4)[:2]
        features, said = Features(pooled, pooled[:, None]), TextBatch(["", ""], texts)
        optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
        for _ in range(150):
            loss = head.loss(features, said)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert [one.text for one in head.predict(features, said)] == texts
    likely = head.likelihoods(features, texts).exp()
    assert likely.argmax(1).tolist() == [0, 1]
    assert (likely <= 1).all()
    assert CONTEXT == 3


def test_a_store_goes_on_where_it_was_cut(tmp_path):
    store, one, two = (
        Store(tmp_path),
        Unit("systems", "vqa", "m", seed=0),
        Unit("systems", "vqa", "m", seed=1),
    )
    store.add(one, {"measures": {"worst_group": 0.5}, "record": {}, "seconds": 1.0})
    with open(store.path, "a", encoding="utf-8") as file:
        file.write("\n" + json.dumps({"key": two.key, "measures": {}})[:-9])  # cut
    again = Store(tmp_path)
    assert again.get(one)["measures"] == {"worst_group": 0.5}
    assert again.get(two) is None
    again.add(two, {"measures": {"worst_group": 0.7}, "record": {}, "seconds": 1.0})
    assert Store(tmp_path).get(two)["measures"] == {"worst_group": 0.7}


def planted_store(tmp_path, seeds=2) -> Store:
    store = Store(tmp_path)
    for seed in range(seeds):
        measures = dict.fromkeys(summary.MEASURES, 0.4 + 0.1 * seed)
        store.add(
            Unit("systems", "vqa", units.BASE, "", seed, seed),
            {"measures": measures, "record": {}, "seconds": 1.0},
        )
        better = dict.fromkeys(summary.MEASURES, 0.7 + 0.1 * seed)
        record = {"seen in training": "label, group", "images used": "100", "effective images": "100.0"}
        store.add(
            Unit("systems", "vqa", units.BASE, "rebalance", seed, seed),
            {"measures": better, "record": record, "seconds": 2.0},
        )
    return store


def test_tables_of_a_store(tmp_path):
    found = summary.interventions(planted_store(tmp_path), 2)
    assert list(found) == list(TABLES["interventions"])
    real = found[
        (found["setting"] == "rebalance") & (found["metric"] == "worst_group") & (found["world"] == "planted")
    ].iloc[0]
    assert real["change_base"] == pytest.approx(0.3)
    assert math.isnan(real["change"])  # the plain twin was not run
    assert (found["status"] == "not run").any()
    for make in (summary.overwriting, summary.inheritance, summary.dose_response, summary.artefact_sweep):
        assert make(Store(tmp_path / "none"), 2).empty


def test_a_missed_check_needs_an_explanation():
    rows = [
        check("x", "must hold", [0.1], ">=", 0.2),
        check("x", "is explained", [0.1], ">=", 0.2, kind="explain", explanation="measured 0.1: half of the images show nothing"),
        check("x", "is not explained", [0.1], ">=", 0.2, kind="explain"),
        check("x", "cannot be computed", [], "<=", 0.2),
        check("x", "holds", [0.1, 0.3], "<=", 0.2),
    ]  # fmt: skip
    found = table("intervention_checks", rows)
    assert found["passed"].tolist() == [False, False, False, False, True]
    assert failed(found)["check"].tolist() == ["must hold", "is not explained", "cannot be computed"]


@pytest.mark.slow
@pytest.mark.parametrize("task", units.TASKS)
def test_a_slice(task):
    """On 600 images, one seed: the tie is learned, balancing takes it away, shuffled groups do not."""
    from clipbias.tasks.interventions.proof.work import do

    def measured(text):
        found = do(Unit("systems", task, units.BASE, text, 0, 0, n=600), small=True)
        return found["measures"], found["record"]

    plain, _ = measured("")
    assert plain["fpr_difference"] >= 0.25
    better, record = measured("reweight")
    assert better["worst_group"] >= plain["worst_group"] + 0.02
    assert abs(better["fpr_difference"]) < plain["fpr_difference"] - 0.1
    assert record["seen in training"] == "label, group"
    null, _ = measured("reweight:shuffled=true")
    assert null["worst_group"] <= plain["worst_group"] + 0.03
    assert null["fpr_difference"] >= plain["fpr_difference"] - 0.1
