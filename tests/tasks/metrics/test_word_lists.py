"""Word lists as data files, and what captions say with them."""

import pytest

from clipbias.errors import DataError
from clipbias.tasks.metrics.masking import MASK, mask_captions, vocabulary_of
from clipbias.tasks.metrics.words import (
    WordList,
    caption_group,
    group_codes,
    list_words,
    load_words,
    mentions,
    missed_words,
    tokens,
)

COUNTS = {
    "hendricks2018": (26, 18, 103),
    "wang2021": (5, 5, 0),
    "lic2022": (27, 23, 0),
    "libra2023": (31, 27, 26),
    "pronouns": (4, 4, 6),
}


@pytest.mark.parametrize("name", COUNTS)
def test_published_lists_have_their_published_sizes(name):
    words = load_words(name)
    assert words.levels == ("masculine", "feminine")
    assert (*(len(ws) for ws in words.groups.values()), len(words.neutral)) == COUNTS[name]
    assert words.name == name
    assert words.source
    assert words.licence
    assert words.caution


def test_published_lists_keep_their_quirks():
    hendricks = load_words("hendricks2018")
    assert {"mans", "his", "obama", "policeman", "fireman"} <= set(hendricks.groups["masculine"])
    assert not {"he", "him"} & hendricks.words
    assert {"her", "she", "nun"} <= set(hendricks.groups["feminine"])
    assert {"queen", "pregnant"} <= set(load_words("lic2022").groups["feminine"])
    assert not {"mom", "dad", "grandma", "boyfriend"} & load_words("lic2022").words
    assert {"parent", "child", "officer", "surfer"} <= set(load_words("libra2023").neutral)
    lic, libra = load_words("lic2022"), load_words("libra2023")
    assert lic.words < libra.words


def test_the_list_of_lists():
    table = list_words().set_index("name")
    assert set(COUNTS) <= set(table.index)
    assert table.loc["wang2021", "groups"] == {"masculine": 5, "feminine": 5}
    assert table["licence"].str.len().min() > 0


def test_a_study_adds_and_overrides_lists(tmp_path, monkeypatch):
    folder = tmp_path / "probes" / "words"
    folder.mkdir(parents=True)
    said = 'name = "NAME"\nversion = "1"\ntitle = "t"\nattribute = "age"\nrule = "r"\nsource = "s"\n'
    said += 'licence = "CC0-1.0"\ncaution = "c"\n[groups]\nold = ["Elderly", "old"]\nyoung = ["young"]\n'
    (folder / "ages.toml").write_text(said.replace("NAME", "ages"))
    (folder / "wang2021.toml").write_text(said.replace("NAME", "wang2021"))
    monkeypatch.setenv("CLIPBIAS_STUDY", str(tmp_path))
    assert load_words("ages").groups == {"old": ("elderly", "old"), "young": ("young",)}
    assert load_words("wang2021").attribute == "age"
    assert {"ages", "hendricks2018"} <= set(list_words()["name"])
    assert caption_group(["An elderly man"], "ages").tolist() == ["old"]
    for old, new, message in (
        ('name = "ages"', 'name = "age"', "agree"),
        ('title = "t"', 'titel = "t"', "title"),
        ("young = [", "young = [[", "not valid TOML"),
    ):
        (folder / "ages.toml").write_text(said.replace("NAME", "ages").replace(old, new))
        with pytest.raises(DataError, match=message):
            load_words("ages")


def test_unknown_and_impossible_lists():
    with pytest.raises(DataError, match="Did you mean 'hendricks2018'"):
        load_words("hendricks2019")
    with pytest.raises(DataError, match="belongs to 'a' and to 'b'"):
        load_words({"a": ["x"], "b": ["X"]})
    with pytest.raises(DataError, match="at least two"):
        WordList("one", {"a": ("x",)})
    with pytest.raises(DataError, match="no words"):
        load_words({"a": ["x"], "b": []})


def test_tokens():
    assert tokens("A man's T-shirt, <unk> Woman.") == ["a", "man", "s", "t-shirt", "<unk>", "woman"]


def test_what_captions_say():
    captions = ["A man.", "a woman and a man", "two people", "a snowboard", "", "The WOMAN's hat"]
    assert caption_group(captions).tolist() == ["masculine", "both", "neutral", "none", "none", "feminine"]
    # All captions of an image count together.
    together = [["a man", "a person"], ["a man", "a lady"], ["a person", "a dog"], []]
    assert caption_group(together).tolist() == ["masculine", "both", "neutral", "none"]
    assert mentions(captions[:2]).tolist() == [[True, False], [True, True]]
    assert mentions([]).shape == (0, 2)
    with pytest.raises(DataError, match="position 1"):
        caption_group([["a man", None]])
    with pytest.raises(DataError, match="list of captions"):
        mentions("a man")


def test_words_that_a_list_does_not_know_are_counted():
    captions = ["he rides", "a mom and her dad", "He sits, he rests", "a woman"]
    assert missed_words(captions, "hendricks2018") == {"he": 2}
    assert missed_words(captions, "lic2022") == {"dad": 1, "mom": 1}
    assert missed_words(captions, "english-gender") == {}


def test_labels_meet_groups():
    words = load_words("wang2021")
    codes, names = group_codes(["Female", "man", "unknown", None, "Male"], words)
    assert codes.tolist() == [1, 0, -1, -1, 0]
    assert names == {"feminine": "Female", "masculine": "man"}
    with pytest.raises(DataError, match="nonbinary"):
        group_codes(["man", "nonbinary"], words)
    codes, _ = group_codes(["x", "y", "z"], words, {"x": "masculine", "y": "feminine", "z": None})
    assert codes.tolist() == [0, 1, -1]


def test_masking():
    captions = ["A Man rides his horse", "the UNK horse", "a mom <unk>"]
    assert mask_captions(captions) == [f"a {MASK} rides {MASK} horse", "the <unk> horse", "a mom <unk>"]
    assert mask_captions(captions, None)[0] == "a man rides his horse"
    short = mask_captions(["a man rides a zebra"], vocabulary={"a", "rides"})
    assert short == [f"a {MASK} rides a <unk>"]
    assert vocabulary_of(["A b", "b c"]) == {"a", "b", "c"}
