"""The world is exact: same seed same bytes, twins differ in one thing, planted strengths are what was asked."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipbias import data, probes
from clipbias.errors import DataError
from clipbias.probes import scenery
from clipbias.probes import world as w


def test_it_has_what_the_design_promises():
    known = w.definition()
    assert len(known["roles"]) >= 14
    assert len(known["objects"]) >= 12
    assert len(known["contexts"]) >= 4
    assert len(known["train_styles"]) >= 2
    assert len(known["held_out_styles"]) >= 1
    assert not set(known["train_styles"]) & set(known["held_out_styles"])


def test_same_seed_same_bytes_and_another_seed_other_bytes():
    def digest(seed):
        image_set = probes.load_images("world", n=12, seed=seed, bystanders=0.5)
        text = image_set.table.astype(str).to_csv() + image_set.questions.to_csv()
        return hashlib.sha256(text.encode() + b"".join(image_set.read(list(range(12))))).hexdigest()

    assert digest(3) == digest(3)
    assert digest(3) != digest(4)


def test_bytes_do_not_depend_on_which_scenes_are_drawn_together():
    image_set = probes.load_images("world", n=6, seed=1)
    assert image_set.read([4])[0] == probes.load_images("world", n=6, seed=1).read([0, 4, 5])[1]


def test_twins_differ_only_inside_the_person():
    world = w.World(crossed=1, seed=5, noise=30)
    frame = w.scenes(world)
    by_id = frame.set_index("image_id")
    one = frame[frame["gender"] == "woman"].iloc[:40]
    two = by_id.loc[one["twin"]].reset_index()
    same = ["scene", "style", "role", "tone", "object", "context", "people"]
    assert (one[same].astype(str).to_numpy() == two[same].astype(str).to_numpy()).all()
    assert (two["gender"] == "man").all()
    changed = (w.render(one, world) != w.render(two, world)).any(-1)
    share = changed.mean((1, 2))
    assert (share > 0).all()
    assert (share < scenery.PERSON**2).all()


def test_a_plain_person_shows_the_group_and_not_the_role():
    world = w.World(n=400, seed=4, plain=0.25)
    frame = w.scenes(world)
    assert 0.18 < frame["plain"].mean() < 0.32
    assert not w.scenes(w.World(n=50, seed=4))["plain"].any()
    plain = frame[frame["plain"]].head(10)
    other_role = plain.assign(
        role=plain["role"].cat.rename_categories(
            dict(zip(*[plain["role"].cat.categories, plain["role"].cat.categories[::-1]], strict=True))
        )
    )
    assert (w.render(plain, world) == w.render(other_role, world)).all()
    flipped = w.with_attribute(plain, "gender", "woman"), w.with_attribute(plain, "gender", "man")
    assert (w.render(flipped[0], world) != w.render(flipped[1], world)).any((1, 2, 3)).all()


def test_twins_share_whether_the_person_is_plain():
    frame = w.scenes(w.World(crossed=1, seed=5, plain=0.5))
    assert (frame.groupby("scene")["plain"].nunique() == 1).all()


def test_a_mixed_person_shows_two_roles_tied_to_different_levels():
    world = w.World(crossed=1, seed=6, mixed=0.5, plain=0.25, noise=0)
    frame = w.scenes(world)
    mixed, tied = frame[frame["other"] != ""], w.ties("gender")
    assert 0.35 < len(mixed) / len(frame) < 0.65
    assert (frame["evidence"] == "mixed").equals(frame["other"] != "")
    assert (frame["evidence"] == "none").equals(frame["plain"])
    assert (mixed["role"].map(tied).astype(str) != mixed["other"].map(tied)).all()
    assert mixed["share"].between(0.5, 1).all()
    assert mixed["share"].max() - mixed["share"].min() > 0.4
    assert set(frame.loc[frame["other"] == "", "share"]) == {0.0, 1.0}
    assert (frame.groupby("scene")[["other", "share"]].nunique() == 1).all(axis=None)


def test_the_share_says_how_much_of_each_role_is_drawn():
    world = w.World(crossed=1, seed=6, mixed=1.0, noise=0)
    mixed = w.scenes(world).iloc[::40]
    alone = mixed.assign(other="")
    second = alone.assign(role=pd.Categorical(mixed["other"], mixed["role"].cat.categories))
    first, other = w.render(alone, world).astype(float), w.render(second, world).astype(float)
    share = mixed["share"].to_numpy()[:, None, None, None]
    assert np.abs(w.render(mixed, world) - (share * first + (1 - share) * other)).max() < 3
    assert (w.render(mixed.assign(share=1.0), world) == w.render(alone, world)).all()


def test_mixing_leaves_every_other_picture_as_it_was():
    frame = w.scenes(w.World(crossed=1, seed=7, mixed=0.4, plain=0.2))
    before = w.scenes(w.World(crossed=1, seed=7, plain=0.2))
    pd.testing.assert_frame_equal(
        frame.drop(columns=["other", "share", "evidence"]),
        before.drop(columns=["other", "share", "evidence"]),
    )
    rest = frame[frame["other"] == ""].head(6)
    assert (w.render(rest, w.World(seed=7)) == w.render(before.loc[rest.index], w.World(seed=7))).all()


def test_every_place_has_a_light():
    known = w.definition()
    assert set(known["light"]) == set(known["contexts"])
    assert all(len(light) == 3 and all(0 <= c <= 255 for c in light) for light in known["light"].values())


def test_the_counterfactual_of_a_counterfactual_is_the_original():
    world = w.World(n=8, seed=2)
    frame = w.scenes(world)
    women = w.with_attribute(frame, "gender", "woman")
    back = women.assign(gender=frame["gender"])
    assert (w.render(back, world) == w.render(frame, world)).all()


@pytest.mark.parametrize(
    ("attribute", "target"), [("gender", "role"), ("tone", "role"), ("gender", "object")]
)
@settings(max_examples=10, deadline=None)
@given(rho=st.floats(0.05, 0.95), seed=st.integers(0, 1000))
def test_the_planted_probability_is_the_one_asked_for(attribute, target, rho, seed):
    frame = w.scenes(w.World(n=4000, seed=seed, attribute=attribute, target=target, rho=rho))
    tied = frame[attribute].astype(str) == frame[target].astype(str).map(w.ties(attribute, target))
    assert abs(tied.mean() - rho) < 5 * np.sqrt(rho * (1 - rho) / 4000)


def test_a_local_bias_hides_in_the_other_contexts():
    frame = w.scenes(w.World(n=8000, seed=0, rho=0.5, rho_in={"beach": 0.95}))
    tied = frame["gender"].astype(str) == frame["role"].astype(str).map(w.ties("gender"))
    share = tied.groupby(frame["context"], observed=True).mean()
    assert share["beach"] > 0.92
    assert share.drop("beach").between(0.45, 0.55).all()


def test_ties_are_balanced_so_that_gender_stays_even_overall():
    for attribute in ("gender", "tone"):
        counts = pd.Series(w.ties(attribute)).value_counts()
        assert counts.nunique() == 1


def test_strength_counts_every_context_equally():
    assert w.strength(w.World(rho=0.8)) == pytest.approx(0.3)
    assert w.strength(w.World()) == 0
    assert w.strength(w.World(rho=0.5, rho_in={"city": 0.9})) == pytest.approx(0.1)


def test_neutral_captions_name_no_attribute():
    texts = w.captions(w.scenes(w.World(n=200, seed=0)))
    words = {"woman", "man", "skin", "light", "dark"}
    for column in texts.columns[texts.columns.str.startswith("neutral")]:
        assert not texts[column].map(lambda text: bool(words & set(text.split()))).any()
    assert texts["gendered0"].str.contains("woman|man").all()


def test_questions_are_answered_by_the_factors_and_yes_is_as_frequent_as_no():
    image_set = probes.load_images("world", n=300, seed=0)
    asked = image_set.questions.merge(image_set.table, on="image_id")
    job = asked[asked["question"] == "what is the person's job?"]
    assert (job["answer"] == job["role"].astype(str)).all()
    yes = asked[asked["answer_type"] == "yes/no"]["answer"].eq("yes").mean()
    assert 0.43 < yes < 0.57
    guess = asked[asked["question"].str.startswith("is the person a") & (asked["answer_type"] == "yes/no")]
    named = guess["question"].str.removeprefix("is the person a").str.removeprefix("n").str.strip(" ?")
    assert ((named == guess["role"].astype(str)) == (guess["answer"] == "yes")).all()


def test_ground_truth_travels_with_every_sample_through_the_real_formats(tmp_path):
    image_set = probes.load_images("world", n=20, seed=0, rho=0.8)
    data.export_coco(image_set, tmp_path / "coco")
    data.export_vqa(image_set, tmp_path / "vqa")
    captions = json.loads(next((tmp_path / "coco").rglob("captions*.json")).read_text())
    assert len(captions["images"]) == 20
    assert len(captions["annotations"]) == sum(map(len, image_set.table["captions"]))
    questions = json.loads(next((tmp_path / "vqa").rglob("*uestions*.json")).read_text())
    assert len(questions["questions"]) == len(image_set.questions)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"styles": ("cubist",)}, "no style 'cubist'"),
        ({"rho_in": {"beech": 0.9}}, "Did you mean 'beach'"),
        ({"rho_in": {"beach": 1.9}}, "a probability lies in"),
        ({"rho": 2.0}, "rho"),
        ({"plain": 0.6, "mixed": 0.6}, "together at most 1"),
        ({"colour": 1}, "colour"),
    ],
)
def test_wrong_knobs_are_named(options, message):
    with pytest.raises(DataError, match=message):
        probes.load_images("world", **options)


def test_an_unknown_set_names_the_nearest():
    with pytest.raises(DataError, match="Did you mean 'emoji-people'"):
        probes.load_images("emoji-peple")
