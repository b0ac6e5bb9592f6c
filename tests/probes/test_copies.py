"""Sets that are not shipped: read from the user's copy, and one clear error without it."""

from __future__ import annotations

import json

import pytest

from clipbias import probes
from clipbias.errors import DataError

TAXONOMY = {"looks": ["tall", "odd"], "work": ["baker", "odd", "artist"]}
SPEECH = {"tall": "ADJECTIVE", "odd": "ADJECTIVE", "baker": "NOUN", "artist": "NOUN"}


def layout(name: str, x: int = 2) -> dict:
    return {
        key: {"category": f"{name}{key}", "examples": [f"This is {key} {i}." for i in range(x)]}
        for key in ("targ1", "targ2", "attr1", "attr2")
    }


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPBIAS_STUDY", str(tmp_path))
    for name in ("sobit", "seat"):
        (tmp_path / "probes" / name).mkdir(parents=True)
    return tmp_path / "probes"


def put_sobit(folder, taxonomy=TAXONOMY, speech=SPEECH):
    (folder / "So-B-IT_taxonomy.json").write_text(json.dumps(taxonomy))
    (folder / "So-B-IT_categories.json").write_text(json.dumps(speech))


@pytest.mark.parametrize("name", ["sobit", "seat"])
def test_without_a_copy_one_error_says_how_to_get_it(name):
    with pytest.raises(
        DataError, match=rf"'{name}' is not shipped \(.*github.com/.*probes/{name}/ of your study"
    ):
        probes.load(name)
    listed = probes.list_sets().set_index("name").loc[name]
    assert listed["status"] == "needs your copy"
    assert listed["prompts"] == 0


def test_sobit_from_a_study_folder(study):
    put_sobit(study / "sobit")
    found = probes.load("sobit")
    assert found.concepts == ("tall", "odd", "baker", "artist")
    assert found.groups == {"looks": ("tall", "odd"), "work": ("baker", "odd", "artist")}
    assert found.prompts["prompt"].tolist() == [
        "a photo of a tall person", "a photo of an odd person", "a photo of a baker", "a photo of an artist",
    ]  # fmt: skip
    assert found.offensive
    assert found.licence == "no licence stated"
    assert "tall" not in " ".join(found.shown().astype(str).to_numpy().ravel())
    assert probes.list_sets().set_index("name").loc["sobit", "status"] == "ready"


def test_another_copy_has_another_version(study):
    put_sobit(study / "sobit")
    first = probes.load("sobit")
    put_sobit(study / "sobit", {**TAXONOMY, "more": ["tall"]})
    assert probes.load("sobit").version != first.version


def test_half_a_copy_names_the_missing_file(study):
    put_sobit(study / "sobit")
    (study / "sobit" / "So-B-IT_categories.json").unlink()
    with pytest.raises(DataError, match=r"Put So-B-IT_categories\.json into"):
        probes.load("sobit")


def test_sobit_errors_do_not_print_words(study):
    put_sobit(study / "sobit", speech={**SPEECH, "odd": "VERB"})
    with pytest.raises(DataError, match="word number 2 of .* neither ADJECTIVE nor NOUN") as problem:
        probes.load("sobit")
    assert "odd" not in str(problem.value).replace("word", "")
    put_sobit(study / "sobit", taxonomy=["tall"])
    with pytest.raises(DataError, match="should map categories to lists of words"):
        probes.load("sobit")


def test_seat_reads_any_tests_of_that_layout(tmp_path):
    path = tmp_path / "sent-weat6.jsonl"
    path.write_text(json.dumps(layout("c-"), indent=1))
    found = probes.read_seat(path)
    assert list(found.tests) == ["sent-weat6"]
    sides = found.association("sent-weat6")
    assert sides["A"] == ["This is attr1 0.", "This is attr1 1."]
    assert found.concepts[0] == "sent-weat6 c-targ1"
    path.write_text(json.dumps({"targ1": {"examples": ["x"]}}))
    with pytest.raises(DataError, match="has no 'targ2' with examples"):
        probes.read_seat(path)


def test_a_study_can_describe_a_copy_of_its_own(study):
    (study / "seat2").mkdir()
    (study / "seat2" / "copy.toml").write_text(
        'name="seat2"\ntitle="t"\nreader="seat"\nfiles=["a.json"]\nterms="private"\nsource="s"\nhow="Ask."\n'
    )
    with pytest.raises(DataError, match="Ask. Put a.json into probes/seat2/"):
        probes.load("seat2")
    (study / "seat2" / "a.json").write_text(json.dumps(layout("z")))
    assert probes.load("seat2").tests["a"]["X"] == "a ztarg1"
    (study / "seat2" / "copy.toml").write_text('name="seat2"\nreader="nothing"\n')
    with pytest.raises(DataError, match="seat2.*title"):
        probes.load("seat2")
