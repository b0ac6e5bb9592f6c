"""From predictions to rows: made-up predictions whose quality and bias can be worked out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from clipbias.data.imageset import ImageSet
from clipbias.errors import DataError
from clipbias.results.rows import COLUMNS
from clipbias.tasks.data import TaskData
from clipbias.tasks.estimate import measure, sample
from clipbias.tasks.evaluate import METRICS, QUALITY, evaluate
from clipbias.tasks.metrics import (
    FACTS,
    answer_divergence,
    demographic_parity,
    directional_bias_amplification,
    equalized_odds,
    gender_error,
    indicators,
)
from clipbias.tasks.outcomes import Outcomes, named
from clipbias.tasks.statistics import quality

ROLES = ("cook", "pilot", "office worker", "judge")
TIES = {"cook": "woman", "pilot": "man", "office worker": "man", "judge": "woman"}
SCENES = 24


def images(*, twins: bool = True, ties: bool = True, first: int = 2) -> ImageSet:
    """Two scenes to train on and the rest to test on, each with a woman and a man."""
    rows = []
    for scene in range(SCENES + first):
        for gender, other in (("woman", "man"), ("man", "woman")):
            rows.append({
                "image_id": f"{scene}-{gender}", "scene": str(scene), "twin": f"{scene}-{other}" if twins else "",
                "gender": gender, "role": ROLES[scene % 4], "context": ("park", "city")[scene % 3 == 0],
            })  # fmt: skip
    table = pd.DataFrame(rows)
    table["gender"] = pd.Categorical(table["gender"], ["woman", "man"])
    if not twins:
        table = table.drop(columns=["twin", "scene"])
    facts = {"ties": TIES} if ties else {}
    return ImageSet("made", table, ("gender",), lambda r: [b""] * len(r), ("context",), facts=facts)


def split_of(image: str) -> str:
    return {"0": "train", "1": "val"}.get(image.split("-")[0], "test")


def captioning(**options) -> TaskData:
    shown = images(**options)
    rows = [
        {"example_id": f"c{i}", "image_id": i, "split": split_of(i), "question": "", "question_type": "", "answer_type": "",
         "answers": [f"a {role} in a {place}", f"the {role} is a {gender}"], "target": f"a {role} in a {place}"}
        for i, role, place, gender in shown.table[["image_id", "role", "context", "gender"]].astype(str).itertuples(index=False)
    ]  # fmt: skip
    return TaskData("captioning", shown, pd.DataFrame(rows), "made")


def vqa(*, answers: int = 10, **options) -> TaskData:
    shown = images(**options)
    rows = []
    for image, role, gender in (
        shown.table[["image_id", "role", "gender"]].astype(str).itertuples(index=False)
    ):
        for number, (question, kind, truth) in enumerate((
            ("what is the job?", "what is", role), ("a man or a woman?", "a man", gender),
            ("is this a cook?", "is this", "yes" if role == "cook" else "no"),
        )):  # fmt: skip
            rows.append({
                "example_id": f"{image}-{number}", "image_id": image, "split": split_of(image), "question": question,
                "question_type": kind, "answer_type": "yes/no" if truth in ("yes", "no") else "other",
                "answers": [truth] * answers, "target": truth,
            })  # fmt: skip
    return TaskData("vqa", shown, pd.DataFrame(rows), "made")


def predictions(data: TaskData, say) -> pd.DataFrame:
    test = data.split("test")
    table = data.images.table.set_index("image_id").astype({"gender": str})
    said = [say(row, table.loc[row.image_id]) for row in test.itertuples(index=False)]
    return pd.DataFrame({"example_id": test["example_id"], "prediction": said, "model": "made"})


def cell(
    rows: pd.DataFrame,
    metric: str,
    *,
    attribute: str = "",
    group: str = "",
    view: str = "global",
    **more: str,
):
    found = rows[
        (rows["metric"] == metric)
        & (rows["attribute"] == attribute)
        & (rows["group"] == group)
        & (rows["view"] == view)
    ]
    for column, value in more.items():
        found = found[found[column] == value]
    assert len(found) == 1, (metric, found)
    return found.iloc[0]


def women_cook_men_fly(row, image) -> str:
    """What a model says that goes by gender alone."""
    return "cook" if image["gender"] == "woman" else "pilot"


def biased_caption(row, image) -> str:
    return f"a {image['gender']} who is a {women_cook_men_fly(row, image)}"


def test_true_captions_flip_nothing():
    data = captioning()
    rows = evaluate(predictions(data, lambda row, image: row.target), data, n_boot=50)
    assert list(rows.columns) == list(COLUMNS)
    assert set(rows["stage"]) == {"post"}
    assert set(rows["model"]) == {"made"}
    assert set(rows["metric"]) == set(METRICS["captioning"]) - {"lic", "lic_m", "lic_d", "leakage"}
    assert cell(rows, "rouge_l")["value"] == 1
    flips = cell(rows, "flip_rate", attribute="gender")
    assert (flips["value"], flips["n"], flips["ci_low"]) == (0, SCENES, 0)
    assert flips["ci_high"] > 0.05  # none of 24 is not none at all
    assert cell(rows, "flip_rate_signed", attribute="gender")["value"] == 0
    none = cell(rows, "flip_rate_towards", attribute="gender")
    assert (none["status"], none["n"]) == ("no flips", 0)


def test_captions_that_go_by_gender():
    data = captioning()
    rows = evaluate(predictions(data, biased_caption), data, n_boot=50)
    assert cell(rows, "flip_rate", attribute="gender")["value"] == 1
    signed = cell(rows, "flip_rate_signed", attribute="gender")
    assert signed["value"] == 1
    assert signed["ci_low"] == 1
    assert cell(rows, "flip_rate_towards", attribute="gender")["value"] == 1
    assert cell(rows, "gender_error", attribute="gender")["value"] == 0
    assert cell(rows, "gender_outcome", attribute="gender", group="woman", probe="correct")["value"] == 1
    # P(cook | woman) goes from 1/4 to 1, that of the judge from 1/4 to 0, those of the two tied to men are 0 for 1/4: signs
    # +, +, -, - for women, so ((3/4) - 1/4 + 1/4 + 1/4) / 4, and the same for men.
    assert cell(rows, "directional_bias_amplification", attribute="gender", probe="A->T")[
        "value"
    ] == pytest.approx(0.25)
    assert cell(rows, "directional_bias_amplification", attribute="gender", probe="T->A")[
        "value"
    ] == pytest.approx(0)
    assert (
        "signs=ties"
        in cell(rows, "directional_bias_amplification", attribute="gender", probe="A->T")["protocol"]
    )


def mixed_caption(row, image) -> str:
    """Right gender in three of four scenes, role by gender in every third, no gender at all in every fifth."""
    scene = int(image["scene"]) if "scene" in image else int(row.image_id.split("-")[0])
    gender = image["gender"] if scene % 4 else "man"
    role = women_cook_men_fly(row, image) if scene % 3 == 0 else image["role"]
    return f"a {role}" if scene % 5 == 0 else f"a {gender} {role} in a park"


def test_rows_agree_with_the_functions():
    data = captioning()
    said = predictions(data, mixed_caption)
    rows = evaluate(said, data, n_boot=0)
    shown = Outcomes(said, data)
    gender = shown.table["gender"].astype(str)
    found = gender_error(said["prediction"], gender)
    assert cell(rows, "gender_error", attribute="gender")["value"] == pytest.approx(found.error)
    assert cell(rows, "gender_ratio", attribute="gender")["value"] == pytest.approx(found.ratio)
    assert cell(rows, "gender_delta_ratio", attribute="gender")["value"] == pytest.approx(found.delta_ratio)
    assert cell(rows, "outcome_divergence", attribute="gender")["value"] == pytest.approx(
        found.outcome_divergence
    )
    assert cell(rows, "gender_error", attribute="gender", group="woman")["value"] == pytest.approx(
        found.rates["woman"]["incorrect"]
    )

    levels = ("woman", "man")
    told = ["woman" if "woman" in t else "man" if " man " in t else None for t in said["prediction"]]
    A, T = indicators(gender, levels), indicators(shown.concepts, sorted(ROLES))
    A_said = indicators(told, levels)
    T_said = indicators([None if r == "none" else r for r in shown.said_concepts()], sorted(ROLES))
    planted = pd.DataFrame({"gender": [TIES[r] for r in ROLES], "role": ROLES})
    train = indicators(planted["gender"], levels), indicators(planted["role"], sorted(ROLES))
    for direction in ("A->T", "T->A"):
        expected = directional_bias_amplification(
            A, T, A_said, T_said, direction=direction, train=train
        ).value
        assert cell(rows, "directional_bias_amplification", attribute="gender", probe=direction)[
            "value"
        ] == pytest.approx(expected)
        own = evaluate(said, data, n_boot=0, train_truth=planted)
        assert cell(own, "directional_bias_amplification", attribute="gender", probe=direction)[
            "value"
        ] == pytest.approx(expected)


def test_groups_are_scored_with_the_word_weights_of_the_whole_set():
    data = captioning()
    rows = evaluate(predictions(data, mixed_caption), data, n_boot=50, views={"global": np.ones(len(data.images), bool), "park": (data.images.table["context"] == "park").to_numpy()})  # fmt: skip
    whole = cell(rows, "cider")["value"]
    parts = [cell(rows, "cider", attribute="gender", group=g) for g in ("woman", "man")]
    assert whole == pytest.approx(sum(p["value"] for p in parts) / 2)
    gap = cell(rows, "cider_gap", attribute="gender")
    assert gap["value"] == pytest.approx(parts[0]["value"] - parts[1]["value"])
    assert gap["probe"] == "woman minus man"
    assert gap["ci_low"] <= gap["value"] <= gap["ci_high"]
    assert 0 < gap["p"] <= 1
    inside = cell(rows, "cider", view="park")
    assert inside["n"] < cell(rows, "cider")["n"]
    assert "idf=all test images" in inside["protocol"]


def test_vqa_that_is_right_and_vqa_that_goes_by_gender():
    data = vqa()
    right = evaluate(predictions(data, lambda row, image: row.target), data, n_boot=50)
    assert set(right["metric"]) == set(METRICS["vqa"]) - {"delta_p", "delta_p_signed"}
    assert cell(right, "vqa_accuracy")["value"] == 100
    assert cell(right, "flip_rate", attribute="gender")["value"] == 0
    assert (
        cell(right, "answer_divergence", attribute="gender")["value"] == 0
    )  # the question for the gender is left out
    assert cell(right, "error_rate_ratio", attribute="gender")["value"] == 1

    def say(row, image):
        return women_cook_men_fly(row, image) if "job" in row.question else row.target

    rows = evaluate(predictions(data, say), data, n_boot=50)
    assert cell(rows, "flip_rate", attribute="gender")["value"] == 1
    assert cell(rows, "flip_rate_signed", attribute="gender")["value"] == 1
    # One of the two questions with one true answer for both twins.
    assert cell(rows, "flip_rate_all", attribute="gender")["value"] == 0.5
    assert cell(rows, "answer_divergence", attribute="gender")["value"] == pytest.approx(0.5)
    assert cell(rows, "answer_divergence", attribute="gender")["p"] < 0.05
    assert cell(rows, "answer_divergence_truth", attribute="gender")["value"] == 0
    assert cell(rows, "demographic_parity", attribute="gender")["value"] == 0


def uneven(row, image) -> str:
    """Wrong yes for some women, wrong no for some men, roles by gender in every third scene."""
    scene = int(row.image_id.split("-")[0])
    if "cook?" in row.question:
        return (
            "yes" if image["gender"] == "woman" and scene % 3 == 0 else "no" if scene % 5 == 0 else row.target
        )
    return women_cook_men_fly(row, image) if scene % 3 == 0 and "job" in row.question else row.target


def test_vqa_rows_agree_with_the_functions():
    data = vqa()
    said = predictions(data, uneven)
    rows = evaluate(said, data, n_boot=0)
    items = data.split("test").assign(said=said["prediction"])
    items["gender"] = items["image_id"].map(data.images.table.set_index("image_id")["gender"].astype(str))
    asked = items[items["question"] == "is this a cook?"]
    assert cell(rows, "demographic_parity", attribute="gender")["value"] == pytest.approx(
        demographic_parity(asked["said"], asked["gender"]).difference
    )
    odds = equalized_odds(asked["target"], asked["said"], asked["gender"])
    assert cell(rows, "equalized_odds", attribute="gender")["value"] == pytest.approx(odds.difference)
    others = items[items["question"] != "a man or a woman?"]
    divergence = answer_divergence(others["said"], others["gender"], strata=others["question_type"])
    assert cell(rows, "answer_divergence", attribute="gender")["value"] == pytest.approx(divergence.value)
    worst = rows[rows["metric"] == "worst_group"].iloc[0]
    by_group = items.assign(right=items["said"] == items["target"]).groupby("gender")["right"].mean()
    assert (worst["group"], worst["value"]) == (by_group.idxmin(), pytest.approx(100 * by_group.min()))
    assert cell(rows, "vqa_accuracy_gap", attribute="gender")["value"] == pytest.approx(
        100 * (by_group["woman"] - by_group["man"])
    )


def test_delta_p_on_twins():
    data = vqa()
    test = data.split("test")
    woman = test["image_id"].str.endswith("-woman").to_numpy()
    p = np.zeros((len(test), 4))
    p[:, 0], p[:, 1] = np.where(woman, 0.7, 0.2), np.where(woman, 0.3, 0.8)  # cook, pilot
    said = predictions(data, lambda row, image: row.target)
    rows = evaluate(said, data, probabilities=p, answers=ROLES, n_boot=20)
    assert cell(rows, "delta_p", attribute="gender")["value"] == pytest.approx(0.5)
    assert cell(rows, "delta_p_signed", attribute="gender")["value"] == pytest.approx(0.5)
    table = pd.DataFrame(p, index=test["example_id"], columns=list(ROLES))
    again = evaluate(said, data, probabilities=table, n_boot=20)
    pd.testing.assert_frame_equal(rows, again)
    with pytest.raises(DataError, match="give answers="):
        evaluate(said, data, probabilities=p)
    with pytest.raises(DataError, match="72|144"):
        evaluate(said, data, probabilities=p[:, :2], answers=ROLES)


def test_what_cannot_be_computed_is_a_row_with_a_reason():
    data = captioning(twins=False, ties=False)
    women = (data.images.table["gender"] == "woman").to_numpy()
    rows = evaluate(
        predictions(data, mixed_caption),
        data,
        n_boot=20,
        views={"global": np.ones(len(women), bool), "women": women},
    )
    assert cell(rows, "flip_rate")["status"] == "no twins"
    alone = cell(rows, "cider_gap", attribute="gender", view="women")
    assert alone["status"] == "single group"
    assert "'woman'" in alone["reason"]
    empty = cell(rows, "cider", attribute="gender", group="man", view="women")
    assert (empty["status"], empty["n"]) == ("empty group", 0)
    assert (
        "signs=test"
        in cell(rows, "directional_bias_amplification", attribute="gender", probe="A->T")["protocol"]
    )
    without = evaluate(predictions(captioning(ties=False), biased_caption), captioning(ties=False), n_boot=20)
    assert cell(without, "flip_rate", attribute="gender")["value"] == 1
    assert cell(without, "flip_rate_signed", attribute="gender")["status"] == "no ties"


def test_one_true_answer_per_question_leaves_exact_match():
    data = vqa(answers=1)
    rows = evaluate(predictions(data, lambda row, image: row.target), data, n_boot=20)
    assert cell(rows, "exact")["value"] == 1
    assert cell(rows, "vqa_accuracy")["status"] == "too few answers"
    assert cell(rows, "vqa_accuracy_gap", attribute="gender")["status"] == "too few answers"


def test_attackers_are_asked_for():
    data = captioning()
    rows = evaluate(
        predictions(data, biased_caption),
        data,
        n_boot=0,
        leakage=True,
        lic=True,
        lic_options={"seeds": 2, "permutations": 2},
    )
    assert cell(rows, "leakage", attribute="gender")["value"] > 0
    assert set(rows["metric"]) >= {"lic", "lic_m", "lic_d"}


def test_the_same_seed_gives_the_same_rows_and_another_does_not():
    data, said = captioning(), predictions(captioning(), mixed_caption)
    first = evaluate(said, data, n_boot=30, seed=1)
    pd.testing.assert_frame_equal(first, evaluate(said, data, n_boot=30, seed=1))
    assert not first["ci_low"].equals(evaluate(said, data, n_boot=30, seed=2)["ci_low"])
    assert evaluate(said, data, n_boot=0)["ci_low"].isna().all()


def test_views_may_be_masks_over_the_test_images():
    data, said = captioning(), predictions(captioning(), mixed_caption)
    park = (data.images.table["context"] == "park").to_numpy()
    of_all = evaluate(said, data, n_boot=0, views={"park": park})
    of_test = evaluate(said, data, n_boot=0, views={"park": park[4:]})
    pd.testing.assert_frame_equal(of_all, of_test)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda p: p.iloc[1:], {}, "1 of 48 test examples have no prediction, the first: 'c2-woman'"),
        (lambda p: pd.concat([p, p]), {}, "two predictions; evaluate one model"),
        (lambda p: p.assign(prediction=None), {}, "'c2-woman' is no text"),
        (lambda p: p.assign(example_id=p["example_id"] + "x"), {}, "for no example"),
        (lambda p: p.drop(columns="prediction"), {}, "no column 'prediction'"),
        (lambda p: p, {"what": ["ciderr"]}, "Did you mean 'cider'"),
        (lambda p: p, {"attributes": ["gendre"]}, "Did you mean 'gender'"),
        (lambda p: p, {"concept": "rolle"}, "Did you mean 'role'"),
        (lambda p: p, {"words": "hendrick2018"}, "Did you mean 'hendricks2018'"),
        (
            lambda p: p,
            {"views": {"x": np.ones(3, bool)}},
            "'x' needs a bool mask over the 52 images or the 48",
        ),
        (lambda p: p, {"views": {}}, "no views"),
        (lambda p: p, {"train_truth": pd.DataFrame({"gender": ["man"]})}, "train_truth has no column 'role'"),
    ],
)
def test_bad_input(change, options, message):
    data = captioning()
    with pytest.raises(DataError, match=message):
        evaluate(change(predictions(data, mixed_caption)), data, n_boot=0, **options)


def test_named_takes_the_first_and_the_longest():
    levels = ["worker", "office worker", "cook"]
    said = ["An Office  Worker and a cook", "two cooks", "a worker", "a cookie", "nobody"]
    assert named(said, levels).tolist() == ["office worker", "cook", "worker", "none", "none"]


def test_every_metric_of_a_task_has_its_facts():
    assert {name for names in METRICS.values() for name in names} == set(FACTS)
    assert {"cider", "vqa_accuracy", "exact", "bleu4", "rouge_l"} == QUALITY


def test_intervals_of_a_mean_cover():
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        right = rng.random(60) < 0.3
        stat = quality("exact", np.column_stack([right, np.ones(60)]), np.ones(60), protocol="")
        view = sample(np.arange(60), np.zeros(60, int), ("",), None, n_boot=100, n_perm=0, seed=trial)
        row = measure(stat, view)[0]
        hits += row["ci_low"] <= 0.3 <= row["ci_high"]
    assert 0.90 <= hits / 200 <= 0.99
