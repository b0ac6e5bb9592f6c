"""Views: masks, sizes, errors, and the random null."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipbias import views
from clipbias.data import ImageSet
from clipbias.errors import DataError, StatusError
from clipbias.views import View
from clipbias.views.card import nearest_words, typical


def image_set(n: int = 12) -> ImageSet:
    """Return n images: gender alternates, context is park/kitchen in halves, 'moon' is declared and empty."""
    table = pd.DataFrame(
        {
            "image_id": [f"i{i}" for i in range(n)],
            "gender": pd.Categorical(["woman", "man"] * (n // 2), ["woman", "man"]),
            "context": pd.Categorical(
                ["park"] * (n // 2) + ["kitchen"] * (n // 2), ["park", "kitchen", "moon"]
            ),
            "age in years": np.arange(n) * 10.0,
        }
    )
    return ImageSet("made", table, ("gender",), lambda rows: [b""] * len(rows), ("context",))


def blobs(sizes: list[int], d: int = 8, seed: int = 0) -> np.ndarray:
    """Return tight clusters around unit axes, in blocks."""
    rng = np.random.default_rng(seed)
    x = np.repeat(np.eye(d)[: len(sizes)], sizes, axis=0) + rng.normal(0, 0.02, (sum(sizes), d))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def test_global_is_everything():
    view = views.global_view(image_set())
    assert view.size == 12
    assert view.mask.all()
    with pytest.raises(ValueError, match="read-only"):
        view.mask[0] = False


def test_by_metadata_gives_each_level_and_reports_the_empty_one():
    found = views.by_metadata(image_set(), "context")
    assert found.names == ["context=park", "context=kitchen"]
    assert sum(v.mask.astype(int) for v in found).tolist() == [1] * 12  # a partition
    assert found.left_out[["item", "status"]].to_numpy().tolist() == [["context=moon", "empty view"]]
    small = views.by_metadata(image_set(), "context", min_size=7)
    assert len(small) == 0
    assert small.left_out["status"].tolist() == ["small view", "small view", "empty view"]
    assert len(views.by_metadata(image_set(), "context", min_size=6)) == 2  # exactly the minimum is enough


@pytest.mark.parametrize(
    ("predicate", "rows"),
    [
        ("context == 'park'", [0, 1, 2, 3, 4, 5]),
        ("context == 'park' and gender == 'woman'", [0, 2, 4]),
        ("context == 'park' & gender == 'woman'", [0, 2, 4]),
        ("(context == 'park') | (gender == 'woman')", [0, 1, 2, 3, 4, 5, 6, 8, 10]),
        ("not (context == 'park')", [6, 7, 8, 9, 10, 11]),
        ("context in ['kitchen', 'moon'] and gender != 'man'", [6, 8, 10]),
        ("`age in years` >= 90", [9, 10, 11]),
        ("20 < `age in years` < 50", [3, 4]),
    ],
)
def test_by_predicate(predicate, rows):
    assert views.by_predicate(image_set(), predicate).rows.tolist() == rows


@pytest.mark.parametrize(
    ("predicate", "message"),
    [
        ("contxt == 'park'", "no column 'contxt'. Did you mean 'context'"),
        ("`age in year` > 3", "no column 'age in year'. Did you mean 'age in years'"),
        ("context == 'prak'", "column 'context' has no level 'prak'. Did you mean 'park'"),
        ("context in ['park', 'ktchen']", "no level 'ktchen'"),
        ("context ==", "cannot be read"),
        ("image_id", "not true or false per image"),
        ("`age in years` > 'x'", "cannot be computed"),
        ("context.map(print) == 'park'", "call is not allowed"),
        ("__import__('os').system('true')", "call is not allowed"),
        ("gender.values == 'man'", "attribute is not allowed"),
        ("@x == 'man'", "cannot be read"),
    ],
)
def test_a_predicate_that_is_not_right_says_what(predicate, message):
    with pytest.raises(DataError, match=message):
        views.by_predicate(image_set(), predicate)


def test_an_empty_view_is_a_status():
    with pytest.raises(StatusError, match="holds no image") as caught:
        views.by_predicate(image_set(), "context == 'moon'")
    assert caught.value.status == "empty view"
    with pytest.raises(StatusError) as caught:
        views.by_level(image_set(), "context", "moon")
    assert caught.value.status == "empty view"
    with pytest.raises(StatusError) as caught:
        views.by_level(image_set(), "context", "park", min_size=100)
    assert caught.value.status == "small view"


def test_kmeans_finds_blobs_numbered_by_size_and_is_deterministic():
    x = blobs([30, 60, 40])
    found = views.kmeans_views(x, k=3, min_size=10)
    assert [v.size for v in found] == [60, 40, 30]
    assert found[0].rows.tolist() == list(range(30, 90))
    assert found.names == ["kmeans:3/0", "kmeans:3/1", "kmeans:3/2"]
    again = views.kmeans_views(x, k=3, min_size=10, space="reference")
    assert all((a.mask == b.mask).all() for a, b in zip(found, again, strict=True))
    assert again.names[0] == "kmeans:3@reference/0"
    assert "reference" in again[0].definition


def test_kmeans_reports_small_clusters():
    found = views.kmeans_views(blobs([50, 40, 5]), k=3, min_size=20)
    assert [v.size for v in found] == [50, 40]
    assert found.left_out[["item", "status"]].to_numpy().tolist() == [["kmeans:3/2", "small view"]]


def test_kmeans_chooses_k_so_that_all_clusters_are_large_enough():
    found = views.kmeans_views(blobs([40, 40, 40, 40]), min_size=30)
    assert [v.size for v in found] == [40] * 4
    assert len(found.left_out) == 0
    assert sum(v.mask.astype(int) for v in found).tolist() == [1] * 160
    with pytest.raises(StatusError) as caught:
        views.kmeans_views(blobs([40]), min_size=30)
    assert caught.value.status == "small view"


def test_kmeans_bad_input():
    x = blobs([10, 10])
    with pytest.raises(DataError, match="1 to 20 clusters"):
        views.kmeans_views(x, k=21)
    with pytest.raises(DataError, match="neither 'own' nor"):
        views.kmeans_views(x, space="mine")
    x[3, 0] = np.nan
    with pytest.raises(DataError, match="1 of 20 embeddings"):
        views.kmeans_views(x, k=2)


def test_text_neighbours_are_the_most_similar():
    x = blobs([10, 10])
    view = views.text_neighbours(x, np.eye(8)[1], size=10, query="a park")
    assert view.rows.tolist() == list(range(10, 20))
    assert view.name == "text:a park@10"
    ties = views.text_neighbours(np.ones((5, 2)), np.ones(2), size=2, query="q")
    assert ties.rows.tolist() == [0, 1]
    with pytest.raises(StatusError, match="21 neighbours") as caught:
        views.text_neighbours(x, np.eye(8)[1], size=21, query="a park")
    assert caught.value.status == "view larger than set"
    with pytest.raises(DataError, match="has 3 numbers"):
        views.text_neighbours(x, np.ones(3), size=2, query="q")


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.data())
def test_random_subsets_have_the_size_and_the_strata(n, data):
    size = data.draw(st.integers(1, n))
    seed = data.draw(st.integers(0, 99))
    masks = views.random_subsets(n, size, draws=7, seed=seed)
    assert masks.shape == (7, n)
    assert (masks.sum(axis=1) == size).all()
    assert (masks == views.random_subsets(n, size, draws=7, seed=seed)).all()
    strata = np.array(data.draw(st.lists(st.sampled_from("abc"), min_size=n, max_size=n)))
    within = views.random_subsets(n, size, draws=7, seed=seed, strata=strata)
    assert (within.sum(axis=1) == size).all()
    for label in np.unique(strata):
        counts = within[:, strata == label].sum(axis=1)
        assert len(set(counts.tolist())) == 1
        assert abs(counts[0] - size * (strata == label).mean()) < 1


def test_random_subsets_draw_every_image_equally_often():
    masks = views.random_subsets(10, 3, draws=20_000, seed=1)
    # Each image: binomial(20000, .3), sd of the share .0032.
    assert np.abs(masks.mean(axis=0) - 0.3).max() < 5 * 0.0033
    together = (masks[:, 0] & masks[:, 1]).mean()
    assert abs(together - 3 / 10 * 2 / 9) < 0.009


def test_matched_subsets_keep_the_composition_of_the_view():
    made = image_set()
    gender = np.asarray(made.table["gender"])
    view = views.by_predicate(made, "context == 'park' and gender == 'woman'")
    masks = views.matched_subsets(view, draws=50, seed=0, strata=gender)
    assert (masks[:, gender == "woman"].sum(axis=1) == 3).all()
    assert (masks[:, gender == "man"].sum(axis=1) == 0).all()
    assert len({m.tobytes() for m in masks}) > 5
    pool = np.arange(12) >= 6
    assert not views.matched_subsets(view, draws=5, seed=0, within=pool)[:, :6].any()
    with pytest.raises(StatusError, match="no image of 'woman'"):
        views.matched_subsets(view, draws=5, seed=0, within=gender == "man", strata=gender)


def test_random_subsets_too_large_or_empty():
    with pytest.raises(StatusError) as caught:
        views.random_subsets(10, 11, draws=1, seed=0)
    assert caught.value.status == "view larger than set"
    with pytest.raises(StatusError) as caught:
        views.random_subsets(10, 0, draws=1, seed=0)
    assert caught.value.status == "empty view"
    with pytest.raises(StatusError, match="4 images of 'a'"):
        views.random_subsets(5, 4, draws=1, seed=0, strata=np.array(list("aaabb")), counts=[4, 0])


def test_slice_card():
    made = image_set()
    card = views.slice_card(views.by_predicate(made, "context == 'park'", name="park"), made)
    assert (card["view"], card["n"], card["share"]) == ("park", 6, 0.5)
    assert card["composition"] == {
        "gender": {"woman": 0.5, "man": 0.5}, "context": {"park": 1.0, "kitchen": 0.0, "moon": 0.0}
    }  # fmt: skip
    assert card["effective_groups"]["gender"] == pytest.approx(2.0)
    frame = views.slice_cards([views.global_view(made)], made, model="zoo:x")
    assert frame.loc[0, ["model", "image_set", "view", "n"]].tolist() == ["zoo:x", "made", "global", 12]
    assert json.loads(frame.loc[0, "composition"])["context"]["moon"] == 0.0


def test_slice_card_counts_images_without_a_label_as_unknown():
    table = pd.DataFrame(
        {
            "image_id": list("abcd"),
            "gender": pd.Categorical(["woman", None, None, "unknown"], ["woman", "unknown"]),
        }
    )
    made = ImageSet("gaps", table, ("gender",), lambda rows: [b""] * len(rows))
    card = views.slice_card(views.global_view(made), made)
    assert card["composition"]["gender"] == {"woman": 0.25, "unknown": 0.75}
    assert card["unknown"] == {"gender": 3}


def test_effective_number_of_groups():
    assert views.effective_number([1, 0, 0]) == pytest.approx(1)
    assert views.effective_number([0.25] * 4) == pytest.approx(4)
    # H = -(.7 ln .7 + .3 ln .3) = .610864
    assert views.effective_number([7, 3]) == pytest.approx(1.842023, abs=1e-6)
    assert views.effective_number([0, 0]) == 0.0


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ("global", ["global"]),
        ("context", ["context=park", "context=kitchen"]),
        ("context=park", ["context=park"]),
        ("where:gender == 'man'", ["gender == 'man'"]),
        ("kmeans:2", ["kmeans:2/0", "kmeans:2/1"]),
        ("kmeans", ["kmeans:2/0", "kmeans:2/1"]),
        ("kmeans:2@reference", ["kmeans:2@reference/0", "kmeans:2@reference/1"]),
        ("text:a photo of a park@3", ["text:a photo of a park@3"]),
        ("text:me@home@3", ["text:me@home@3"]),
        ("random:4", ["random:4"]),
    ],
)
def test_make(spec, names):
    x = blobs([6, 6])
    found = views.make(
        spec, image_set(), x, reference=x, encode_text=lambda texts: np.eye(8)[: len(texts)],
        min_size=4 if spec.startswith("kmeans") else None,
    )  # fmt: skip
    assert found.names == names
    assert views.needs_embeddings(spec) == spec.startswith(("kmeans", "text"))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("globl", "Did you mean 'global'"),
        ("contxt", "Did you mean 'context'"),
        ("kmeens:8", "Did you mean 'kmeans'"),
        ("contxt=park", "no column 'contxt'. Did you mean 'context'"),
        ("context=prak", "no level 'prak'. Did you mean 'park'"),
        ("kmeans:many", "'many' is not a whole number"),
        ("kmeans:0", "'0' is not a whole number"),
        ("kmeans:2@refrence", "no space. Did you mean 'reference'"),
        ("kmeans:2@reference", "embeddings of the reference model"),
        ("text:a park", "lacks its size"),
        ("text:@3", "lacks its size"),
        ("text:a park@3", "text encoder"),
        ("random:", "'' is not a whole number"),
    ],
)
def test_make_names_what_is_wrong(spec, message):
    with pytest.raises(DataError, match=message):
        views.make(spec, image_set(), blobs([6, 6]))


def test_a_view_checks_itself():
    with pytest.raises(ValueError, match="bool vector"):
        View("x", "global", np.arange(3), "")
    with pytest.raises(ValueError, match="kind 'glob'"):
        View("x", "glob", np.ones(3, bool), "")
    with pytest.raises(StatusError, match="holds no image"):
        View("x", "global", np.zeros(3, bool), "")


def test_cards_name_the_words_and_pictures_that_set_a_view_apart():
    values = np.array([[1.0, 0, 0], [0.9, 0.1, 0], [0.2, 0.9, 0], [0, 1.0, 0], [0, 0.8, 0.6]])
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    texts = np.eye(3)
    view = View("half", "predicate", np.array([False, False, True, True, True]), "")
    assert nearest_words(view, values, ["dog", "cat", "tree"], texts, number=2) == ["cat", "tree"]
    assert nearest_words(View("global", "global", np.ones(5, bool), ""), values, ["dog"], texts[:1]) == []
    mean = values[2:].mean(0)
    assert typical(view, values, number=1).tolist() == [2 + int((values[2:] @ mean).argmax())]
