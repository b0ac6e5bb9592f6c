"""The validity table says what the tables say, and nothing when they cannot say it."""

import pandas as pd
import pytest

from clipbias.instrument.bands import TIED as TOWARDS
from clipbias.instrument.validity import question, summaries, validity
from clipbias.results import rows

ASKED = question()


TIED = {"cook": "woman", "farmer": "man"}
OTHER = {"woman": "man", "man": "woman"}


def run(strengths, *, away=()):
    """Return the rows of instruments that measure the planted strength exactly, for two probes tied to two genders.

    In the models of ``away`` everything points to the group that is not tied.
    """
    records = []
    for i, strength in enumerate(strengths):
        for probe, tied in TIED.items():
            towards = OTHER[tied] if i in away else tied
            base = {
                "model": f"m{i}", "stage": "pre", "image_set": ASKED.image_set, "view": "global",
                "attribute": ASKED.attribute, "probe": probe, "protocol": "x", "seed": "0",
            }  # fmt: skip
            records += [
                base | {"metric": "max_skew", "group": towards, "value": strength},
                base | {"metric": "zero_shot_disparity", "group": OTHER[towards], "value": strength},
                base | {"metric": "kl_recall", "group": "", "value": strength},
                base | {"metric": "recall_at_k", "group": towards, "value": 0.5 + strength},
                base | {"metric": "recall_at_k", "group": OTHER[towards], "value": 0.5},
                base | {"metric": "c_asc", "group": towards, "value": strength},
                base | {"metric": "c_asc", "group": OTHER[towards], "value": -strength},
            ]
    models = pd.DataFrame(
        {
            "model": [f"m{i}" for i in range(len(strengths))],
            "planted_strength": strengths,
            "planted_context": "",
        }
    )
    return rows.table(records), models


@pytest.mark.parametrize("metric", ASKED.metrics)
def test_values_carry_the_direction_of_the_tie_and_do_not_cancel_over_probes(metric):
    frame, _ = run([0.2, 0.4, 0.4], away=[2])
    values = summaries(frame, ASKED).set_index(["metric", "model"])
    assert values.loc[(metric, "m1"), "value"] == pytest.approx(0.4)
    assert values.loc[(metric, "m2"), "value"] == pytest.approx(-0.4)
    assert values.loc[(metric, "m2"), "unsigned"] == pytest.approx(0.4)


def test_a_perfect_instrument_holds_and_a_random_one_falls_short():
    strengths = [0.0, 0.1, 0.2, 0.3, 0.4, 0.45]
    perfect = validity(*run(strengths)).set_index("metric")
    assert (perfect.loc[ASKED.metrics, "verdict"] == "holds").all()
    assert perfect.loc["max_skew", "spearman"] == pytest.approx(1)
    backwards, models = run(strengths)
    models["planted_strength"] = models["planted_strength"].to_numpy()[::-1]
    assert (
        validity(backwards, models).set_index("metric").loc[ASKED.metrics, "verdict"] == "falls short"
    ).all()


def test_locally_planted_models_stay_out_of_the_rank_correlation():
    frame, models = run([0.0, 0.1, 0.2, 0.3, 0.4])
    models.loc[4, "planted_context"] = "beach"
    table = validity(frame, models).set_index("metric")
    assert (table.loc[ASKED.metrics, "n_models"] == 4).all()


def test_too_few_planted_models_give_no_verdict():
    assert len(validity(*run([0.0, 0.3]))) == 0
    table = validity(*run([0.1, 0.1, 0.4, 0.4]))
    assert set(table["verdict"]) == {"not tested"}
    assert table["reason"].str.contains("planted strengths").all()


def test_a_metric_whose_direction_was_not_measured_is_not_tested():
    frame, models = run([0.0, 0.1, 0.2, 0.3, 0.4])
    table = validity(frame[frame["metric"] != "recall_at_k"], models).set_index("metric")
    assert table.loc["kl_recall", "verdict"] == "not tested"
    assert "its direction comes from recall_at_k" in table.loc["kl_recall", "reason"]
    assert table.loc["max_skew", "verdict"] == "holds"


def test_a_local_bias_has_to_show_in_its_view_and_only_there():
    frame, models = run([0.0, 0.1, 0.2, 0.3, 0.4])
    models.loc[4, "planted_context"] = "beach"
    local = ASKED.local

    def with_views(p_values):
        bands = pd.DataFrame(
            [
                {"model": "m4", "image_set": ASKED.image_set, "view": f"{local.views}={view}", "attribute": ASKED.attribute,
                 "probe": TOWARDS, "metric": local.metric, "value": 0.1, "p_high": p}
                for view, p in p_values.items()
            ]
        )  # fmt: skip
        table = validity(frame, models, bands=bands)
        return table[table["reason"].str.contains("planted in beach")].iloc[0]["verdict"]

    assert with_views({"beach": 0.001, "city": 0.4, "park": 0.6}) == "holds"
    assert with_views({"beach": 0.2, "city": 0.4, "park": 0.6}) == "falls short"
    assert with_views({"beach": 0.001, "city": 0.001, "park": 0.6}) == "falls short"


def test_a_share_without_an_ideal_is_compared_between_groups():
    base = {"stage": "pre", "image_set": ASKED.image_set, "view": "global", "attribute": ASKED.attribute, "metric": "selection_rate",
            "protocol": "x", "seed": "0", "probe": "cook", "model": "m"}  # fmt: skip
    frame = rows.table([base | {"group": "woman", "value": 0.3}, base | {"group": "man", "value": 0.1}])
    asked = ASKED.model_copy(update={"metrics": ["selection_rate"], "also": []})
    found = summaries(frame, asked, tied={"cook": "woman"}).iloc[0]
    assert found["value"] == pytest.approx(0.1)
    assert summaries(frame, asked, tied={"cook": "man"}).iloc[0]["value"] == pytest.approx(-0.1)
