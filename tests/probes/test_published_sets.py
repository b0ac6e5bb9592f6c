"""The sets of published studies: their counts, their cards, and what is known of their words."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from clipbias import probes
from clipbias.data.fairface import AGES, GENDERS, RACES
from clipbias.errors import DataError
from clipbias.probes import art

# items, concepts, templates, offensive
COUNTS = {
    "berg2022": (29, 29, 11, False),
    "fairerclip": (10, 10, 1, False),
    "weat": (425, 31, 1, False),
    "clip2021-race": (7, 7, 1, False),
    "clip2021-gender": (2, 2, 1, False),
    "clip2021-age": (9, 9, 1, False),
    "clip2021-people": (14, 14, 1, False),
    "clip2021-harm": (7, 7, 1, True),
    "visogender": (23, 23, 3, False),
    "visogender-resolution": (69, 3, 3, False),
    "emoji-occupations": (20, 20, 3, False),
    "emoji-activities": (20, 20, 3, False),
}
SECTORS = {"office": 9, "service": 6, "medical": 4, "education": 2, "retail": 2}
HEADINGS = (
    "Motivation",
    "Groups and how they were assigned",
    "Source and licence",
    "Known faults",
    "Not for",
)


@pytest.mark.parametrize("name", COUNTS)
def test_counts_and_cards(name):
    found = probes.load(name)
    items, concepts, templates, offensive = COUNTS[name]
    assert (len(found.items), len(found.concepts), len(found.templates)) == (items, concepts, templates)
    assert len(found.prompts) == items * templates
    assert found.offensive is offensive
    stated = dict(line.split(": ", 1) for line in found.card.split("---")[1].strip().splitlines())
    assert [int(stated[k]) for k in ("items", "concepts", "templates", "prompts")] == [
        items, concepts, templates, items * templates,
    ]  # fmt: skip
    assert stated["license"].strip('"') == found.licence
    for heading in HEADINGS:
        assert f"**{heading}.**" in found.card
    assert all((found.source, found.suited_for, found.not_for, found.title))


def test_every_shipped_set_with_published_words_names_a_source_that_can_be_found():
    for name in COUNTS:
        if not name.startswith("emoji-"):
            assert re.search(r"arXiv:\d{4}\.\d{5}|doi:10\.", probes.load(name).source), name


def test_berg_prompts_are_the_published_ones():
    found = probes.load("berg2022")
    assert len(found.prompts) == 319
    assert found.prompts["prompt"].is_unique
    assert "This is a evil" in set(found.prompts["prompt"])  # the article is not adapted
    assert "villainous" in set(found.prompts["prompt"])  # one template is the bare word
    assert not any("{a}" in template for template in found.templates)


def test_fairerclip_pairs_are_opposites():
    found = probes.load("fairerclip")
    assert sorted(found.groups) == [
        "attractive-unattractive", "friendly-unfriendly", "good-evil", "lawful-criminal", "smart-dumb",
    ]  # fmt: skip
    pole = found.items.set_index("item")["pole"]
    assert all([pole[a], pole[b]] == ["praise", "blame"] for a, b in found.groups.values())
    assert "A photo of a evil celebrity." in set(found.prompts["prompt"])


WEAT_SIZES = {
    "weat1": (25, 25, 25, 25), "weat2": (25, 25, 25, 25), "weat3": (32, 32, 25, 25), "weat4": (16, 16, 25, 25),
    "weat5": (16, 16, 8, 8), "weat6": (8, 8, 8, 8), "weat7": (8, 8, 8, 8), "weat8": (8, 8, 8, 8),
    "weat9": (6, 6, 7, 7), "weat10": (8, 8, 8, 8),
}  # fmt: skip


def test_weat_sets_have_the_sizes_of_the_paper():
    found = probes.load("weat")
    assert list(found.tests) == list(WEAT_SIZES)
    for name, sizes in WEAT_SIZES.items():
        sides = found.association(name)
        assert tuple(len(set(sides[s])) for s in "XYAB") == sizes, name
        assert not set(sides["X"]) & set(sides["Y"]), name
        assert not set(sides["A"]) & set(sides["B"]), name
    assert "Billy" in found.association("weat10")["X"]
    assert "short-term" in found.association("weat9")["A"]
    with pytest.raises(DataError, match="no association test 'weat11'"):
        found.association("weat11")


def test_clip2021_classes_are_the_levels_of_fairface():
    for attribute, levels in (("race", RACES), ("gender", GENDERS), ("age", AGES)):
        found = probes.load(f"clip2021-{attribute}")
        assert found.kind == "groups"
        assert (found.attribute, set(found.concepts)) == (attribute, set(levels))
    people = probes.load("clip2021-people").items
    assert set(zip(people["race"], people["gender"], strict=True)) == {(r, g) for r in RACES for g in GENDERS}
    assert "a photo of an east asian male." in set(probes.load("clip2021-people").prompts["prompt"])
    harm = probes.load("clip2021-harm")
    assert {name: len(members) for name, members in harm.groups.items()} == {"crime": 3, "non-human": 4}


def test_offensive_words_are_covered_unless_asked_for():
    harm = probes.load("clip2021-harm")
    words = {word for item in harm.items["item"] for word in item.split()} - {"person"}
    covered = " ".join(harm.shown().astype(str).to_numpy().ravel())
    assert not any(word in covered for word in words)
    assert not any(word in repr(harm) + str(harm) for word in words)
    pd.testing.assert_frame_equal(harm.shown(offensive=True), harm.prompts)
    plain = probes.load("roles")
    pd.testing.assert_frame_equal(plain.shown(), plain.prompts)


def test_visogender_has_its_occupations_and_the_labour_table():
    found = probes.load("visogender")
    share = found.items.set_index("item")["female_share"].astype(float)
    assert share.between(0, 1).all()
    assert (share["hairdresser"], share["engineer"], share["clerk"]) == (0.931, 0.215, 0.843)
    assert found.items["sector"].value_counts().to_dict() == SECTORS
    prompts = set(found.prompts["prompt"])
    assert {
        "The doctor and their clipboard",
        "The doctor and their patient",
        "The patient and their doctor",
    } <= prompts
    resolution = probes.load("visogender-resolution")
    assert {"The doctor and his patient", "The doctor and her patient"} <= set(resolution.prompts["prompt"])
    assert dict(resolution)["feminine"][0] == "The teacher and her board"
    assert set(resolution.items["item"]) == set(found.items["item"])


@pytest.mark.parametrize("name", ["emoji-occupations", "emoji-activities"])
def test_emoji_sets_name_roles_that_are_drawn(name):
    people = art.table("people")
    found = probes.load(name)
    drawn = people.groupby("role").size()
    assert (drawn[list(found.concepts)] == 18).all()  # woman, man, person x six tones
    words = {w.strip(".,").lower() for prompt in found.prompts["prompt"] for w in prompt.split()}
    assert not words & {"woman", "man", "women", "men", "he", "she", "his", "her"}


def test_a_test_with_a_missing_side_or_concept_is_an_error():
    items = pd.DataFrame({"item": list("abcd"), "concept": list("abcd")})
    with pytest.raises(DataError, match="test 't' has X, Y; it needs X, Y, A and B"):
        probes.ProbeSet("p", "1", ("{item}",), items, tests={"t": {"X": "a", "Y": "b"}})
    with pytest.raises(DataError, match="test 't' names the concept 'e'"):
        probes.ProbeSet("p", "1", ("{item}",), items, tests={"t": dict(zip("XYAB", "abce", strict=True))})
