"""Probe sets: files, templates, errors, registration, plug-ins, and the shipped sets' counts."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pandas as pd
import pytest

from clipbias import content
from clipbias.errors import DataError
from clipbias.probes import sets
from clipbias.probes.articles import article
from clipbias.probes.sets import ProbeSet

SHIPPED = ("genders", "objects", "roles", "tones")
TOML = """
name = "jobs"
version = "3"
title = "Jobs"
kind = "concepts"
templates = ["a photo of {a} {item}", "{A} {item} at work"]
licence = "CC0-1.0"
source = "this test"
"""


@pytest.fixture
def study(tmp_path, monkeypatch) -> Path:
    """A study folder of the user's own with one probe set, `jobs`."""
    folder = tmp_path / "probes" / "jobs"
    folder.mkdir(parents=True)
    (folder / "probe.toml").write_text(TOML)
    (folder / "items.csv").write_text("item,concept\nengineer,engineer\nnurse,nurse\nNA,none\n")
    monkeypatch.setenv("CLIPBIAS_STUDY", str(tmp_path))
    return tmp_path


@pytest.fixture(autouse=True)
def _fresh_registry(monkeypatch):
    monkeypatch.setattr(sets, "_registered", {})


def edit(study: Path, old: str, new: str, file: str = "probe.toml") -> None:
    path = study / "probes" / "jobs" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def jobs(**changes) -> ProbeSet:
    made = {"name": "jobs", "version": "1", "templates": ("{a} {item}",),
            "items": pd.DataFrame({"item": ["cook"], "concept": ["cook"]})}  # fmt: skip
    return ProbeSet(**{**made, **changes})


def test_prompts_are_items_times_templates_with_the_right_article(study):
    found = sets.load("jobs")
    assert found.prompts["prompt"].tolist() == [
        "a photo of an engineer", "An engineer at work", "a photo of a nurse", "A nurse at work",
        "a photo of an NA", "An NA at work",
    ]  # fmt: skip
    assert list(found.prompts.columns) == ["prompt", "item", "concept", "template"]
    assert dict(found)["nurse"] == ["a photo of a nurse", "A nurse at work"]
    assert found.concepts == ("engineer", "nurse", "none")  # "NA" is a word here, not a missing value


@pytest.mark.parametrize(
    ("words", "expected"),
    [("engineer", "an"), ("nurse", "a"), ("hour", "an"), ("house", "a"), ("unicorn", "a"), ("umbrella", "an"),
     ("user", "a"), ("usher", "an"), ("X-ray", "an"), ("UFO", "a"), ("MRI scan", "an"), ("European", "a"),
     ("unimportant act", "an"), ("one-time pad", "a"), ("onerous task", "an"), ("I", "an")],
)  # fmt: skip
def test_article(words, expected):
    assert article(words) == expected


def test_article_column_overrides_the_rule():
    items = pd.DataFrame({"item": ["herb garden"], "concept": ["garden"], "article": ["an"]})
    assert jobs(items=items).prompts["prompt"].tolist() == ["an herb garden"]


def test_other_columns_may_be_used_in_templates_and_unknown_ones_may_not():
    items = pd.DataFrame({"item": ["cook"], "concept": ["cook"], "plural": ["cooks"]})
    made = jobs(items=items, templates=("{item} among {plural}",))
    assert made.prompts["prompt"].tolist() == ["cook among cooks"]
    with pytest.raises(DataError, match=r"asks for \{plurals\}. Did you mean 'plural'"):
        jobs(items=items, templates=("{item} among {plurals}",))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"templates": ()}, "no templates. Give at least one"),
        ({"templates": ("a picture of a cook",)}, r"has no \{item\}. Put \{item\}"),
        ({"templates": ("a {item",)}, "cannot be read"),
        ({"items": pd.DataFrame({"itm": ["a"], "concept": ["a"]})}, "no column 'item'. Did you mean 'itm'"),
        ({"items": pd.DataFrame({"item": [], "concept": []})}, "has no items"),
        ({"items": pd.DataFrame({"item": ["a", " "], "concept": ["a", "b"]})}, "'item' is empty in row 2"),
        ({"items": pd.DataFrame({"item": ["a", "a"], "concept": ["a", "a"]})}, "stands there twice"),
        ({"groups": {"kitchen": ("cok",)}}, "group 'kitchen' names the concept 'cok'.*Did you mean 'cook'"),
    ],
)
def test_a_set_that_is_not_right_says_what_and_where(changes, message):
    with pytest.raises(DataError, match=message):
        jobs(**changes)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('version = "3"', 'verison = "3"', r"probe.toml: key '(verison|version)'"),
        ('version = "3"', 'version = "3"\nlicense = "x"', "key 'license'.*Did you mean 'licence'"),
        ('kind = "concepts"', 'kind = "concept"', "key 'kind'"),
        ('name = "jobs"', 'name = "job"', "folder is called 'jobs'"),
        ('name = "jobs"', 'name = "jobs', "not valid TOML"),
        (
            'title = "Jobs"',
            'title = "Jobs"\nitem = "itm"',
            "items.csv has no column 'itm'.*Did you mean 'item'",
        ),
    ],
)
def test_a_file_that_is_not_right_says_what_and_where(study, old, new, message):
    edit(study, old, new)
    with pytest.raises(DataError, match=message):
        sets.load("jobs")


def test_missing_files_are_named(study):
    (study / "probes" / "jobs" / "items.csv").unlink()
    with pytest.raises(DataError, match="items.csv was not found"):
        sets.load("jobs")
    (study / "probes" / "jobs" / "probe.toml").unlink()
    with pytest.raises(DataError, match="has no probe.toml"):
        sets.load("jobs")


def test_unknown_set_names_the_nearest(study):
    with pytest.raises(DataError, match="no probe set 'jbos'. Did you mean 'jobs'"):
        sets.load("jbos")


@pytest.mark.parametrize(
    ("old", "new", "file"),
    [("a photo", "a picture", "probe.toml"), ("nurse,nurse", "doctor,nurse", "items.csv"),
     ("nurse,nurse", "nurse,doctor", "items.csv"), ('version = "3"', 'version = "4"', "probe.toml")],
)  # fmt: skip
def test_editing_a_file_changes_the_digest(study, old, new, file):
    before = sets.load("jobs").digest
    assert sets.load("jobs").digest == before
    edit(study, old, new, file)
    assert sets.load("jobs").digest != before


def test_a_study_folder_overrides_a_shipped_set(study):
    shipped = sets.load("genders")
    shutil.copytree(content.shipped() / "probes" / "genders", study / "probes" / "genders")
    path = study / "probes" / "genders" / "items.csv"
    path.write_text("item,gender\nlady,woman\ngentleman,man\n")
    own = sets.load("genders")
    assert own.digest != shipped.digest
    assert own.origin == str(study / "probes" / "genders")
    listed = sets.list_sets().set_index("name")
    assert listed.loc["genders", "digest"] == own.digest
    assert {"jobs", *SHIPPED} <= set(listed.index)


def test_a_broken_folder_warns_and_does_not_hide_the_rest(study):
    edit(study, "{item}", "{itm}")
    with pytest.warns(UserWarning, match="'jobs' is left out.*has no {item}"):
        names = sets.list_sets()["name"].tolist()
    assert "jobs" not in names
    assert "roles" in names


def test_image_sets_are_not_probe_sets(study):
    folder = study / "probes" / "faces"
    folder.mkdir()
    (folder / "probe.toml").write_text('name = "faces"\nkind = "images"\n')
    assert "faces" not in sets.list_sets()["name"].tolist()
    with pytest.raises(DataError, match="faces"):
        sets.load("faces")
    with pytest.raises(DataError, match="load_images"):
        sets.read_folder(folder)


def test_registered_sets_are_found_and_not_replaced_by_accident():
    made = sets.register(jobs())
    assert sets.load("jobs") is made
    assert sets.register(jobs()).digest == made.digest  # the same prompts again are no conflict
    with pytest.raises(DataError, match="registered already"):
        sets.register(jobs(templates=("{item}",)))
    other = sets.register(jobs(templates=("{item}",)), replace=True)
    assert sets.load("jobs") is other


def test_plugins_are_lazy_and_a_broken_one_warns(monkeypatch, study):
    good = EntryPoint("plugged", f"{__name__}:plugged_folder", sets.ENTRY_POINTS)
    bad = EntryPoint("broken", "no_such_package_at_all:thing", sets.ENTRY_POINTS)
    monkeypatch.setattr(sets, "entry_points", lambda *, group: [good, bad])
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    monkeypatch.setattr(sys.modules[__name__], "plugged_folder", study / "probes" / "jobs", raising=False)
    assert sets.load("roles").name == "roles"  # a broken plug-in is nobody else's problem
    assert sets.load("plugged").name == "jobs"
    with pytest.warns(UserWarning, match="'broken' is left out"):
        listed = sets.list_sets()
    assert {"plugged", "roles"} <= set(listed["name"])
    assert "broken" not in set(listed["name"])
    with pytest.raises(DataError, match="no_such_package_at_all"):
        sets.load("broken")


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_sets_agree_with_their_cards(name):
    found = sets.load(name)
    head = found.card.split("---")[1]
    stated = dict(line.split(": ", 1) for line in head.strip().splitlines())
    assert int(stated["items"]) == len(found.items)
    assert int(stated["concepts"]) == len(found.concepts)
    assert int(stated["templates"]) == len(found.templates)
    assert int(stated["prompts"]) == len(found.prompts) == len(found.items) * len(found.templates)
    assert stated["version"].strip('"') == found.version
    assert stated["license"].strip('"') == found.licence
    for heading in (
        "Motivation",
        "Groups and how they were assigned",
        "Source and licence",
        "Known faults",
        "Not for",
    ):
        assert f"**{heading}.**" in found.card
    assert found.prompts["prompt"].is_unique
    assert found.suited_for
    assert found.not_for
    assert not found.offensive


def test_shipped_groups_are_the_levels_of_the_world():
    assert sets.load("genders").concepts == ("woman", "man")
    assert sets.load("tones").concepts == ("1", "2", "3", "4", "5")
    assert (sets.load("genders").attribute, sets.load("tones").attribute) == ("gender", "tone")
    assert len(sets.load("roles").concepts) >= 14
    assert len(sets.load("objects").concepts) >= 12


def test_role_prompts_name_no_gender_and_no_tone():
    words = {w for p in sets.load("roles").prompts["prompt"] for w in p.lower().split()}
    assert not words & {
        "woman",
        "man",
        "women",
        "men",
        "female",
        "male",
        "she",
        "he",
        "her",
        "his",
        "tone",
        "skin",
    }


def test_importing_probe_sets_does_not_import_torch():
    code = "import sys; from clipbias.probes import sets; sets.load('roles').prompts; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_shipped_sets_cover_the_embedded_world():
    from clipbias.probes import world

    known = world.definition()
    assert set(sets.load("roles").concepts) == set(known["roles"])
    assert set(sets.load("objects").concepts) == set(known["objects"])
    for name, attribute in (("genders", "gender"), ("tones", "tone")):
        assert set(sets.load(name).concepts) == {str(level) for level in known["attributes"][attribute]}
    words = {
        w
        for texts in known["captions"].values()
        for t in texts
        for w in t.replace("{", " ").replace("}", " ").split()
    }
    for name in SHIPPED:  # the small models know the words of the captions and no others
        for template in sets.load(name).templates:
            assert set(template.replace("{a}", "a").replace("{item}", "").split()) <= words
