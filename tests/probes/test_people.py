"""Emoji people: fully crossed, visible, in every style, and honest about what is left out."""

import io

import numpy as np
import pytest
from PIL import Image

from clipbias import probes
from clipbias.errors import DataError
from clipbias.probes import art


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPBIAS_CACHE", str(tmp_path))


def test_every_kept_role_is_fully_crossed():
    people = probes.load_images("emoji-people", size=16)
    cells = people.table.groupby(["style", "role"], observed=True).size()
    assert set(cells) == {10}
    assert people.table["role"].nunique() >= 79
    assert set(people.table["gender"]) == {"woman", "man"}
    assert people.table["keywords"].str.len().gt(0).all()


def test_pictures_in_which_gender_cannot_be_seen_are_left_out_with_the_reason():
    people = probes.load_images("emoji-people", size=16)
    assert not ((people.table["style"] == "noto") & (people.table["role"] == "astronaut")).any()
    reasons = people.left_out.set_index("item")["reason"]
    assert reasons["noto/astronaut"] == "woman and man differ by 0 of 255 in noto, below 3"
    everyone = probes.load_images("emoji-people", size=16, visible=0)
    assert len(everyone) > len(people)
    assert len(everyone.left_out) == 0


def test_one_attribute_is_dropped_from_the_filter_when_it_is_not_crossed():
    women = probes.load_images("emoji-people", size=16, genders=["woman"])
    assert len(women.left_out) == 0


@pytest.mark.parametrize("style", art.STYLES)
def test_tones_darken_in_every_style(style):
    people = probes.load_images(
        "emoji-people", size=48, styles=[style], roles=["bald"], genders=["man"], visible=0
    )
    pictures = [np.asarray(people.image(i), float).mean(2) for i in range(5)]
    centre = [p[18:26, 20:28].mean() for p in pictures]
    assert all(a > b for a, b in zip(centre, centre[1:], strict=False))


@pytest.mark.parametrize("size", [32, 64, 224])
def test_any_size_can_be_rendered_and_the_cache_gives_the_same_bytes(size):
    first = probes.load_images("emoji-people", size=size, styles=["noto"], roles=["judge"])
    again = probes.load_images("emoji-people", size=size, styles=["noto"], roles=["judge"])
    data = first.read([0])[0]
    assert Image.open(io.BytesIO(data)).size == (size, size)
    assert again.read([0])[0] == data


def test_twins_are_the_other_gender_of_the_same_picture():
    people = probes.load_images("emoji-people", size=16, roles=["judge", "pilot"])
    table = people.table.set_index("image_id")
    other = table.loc[people.table["twin"]]
    assert (other["role"].to_numpy() == people.table["role"].to_numpy()).all()
    assert (other["tone"].to_numpy() == people.table["tone"].to_numpy()).all()
    assert (other["gender"].to_numpy() != people.table["gender"].to_numpy()).all()


def test_every_style_states_its_own_licence():
    assert probes.load_images("emoji-people", size=16, styles=["openmoji"]).licence == "CC-BY-SA-4.0"
    assert "CC-BY-SA" not in probes.load_images("emoji-people", size=16).licence


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"styles": ["notto"]}, "Did you mean 'noto'"),
        ({"roles": ["jugde"]}, "Did you mean 'judge'"),
        ({"genders": ["men"]}, "no gender 'men'"),
        ({"tones": [7]}, "no tone 7"),
        ({"roles": ["astronaut"], "styles": ["noto"]}, "below the visibility threshold"),
        ({"colour": 3}, "colour"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(DataError, match=message):
        probes.load_images("emoji-people", **options)


def test_a_damaged_art_file_is_named(tmp_path, monkeypatch):
    folder = tmp_path / "study" / "probes" / "emoji"
    folder.mkdir(parents=True)
    (folder / "noto.json.xz").write_bytes(b"not xz")
    monkeypatch.setenv("CLIPBIAS_STUDY", str(tmp_path / "study"))
    art.load_art.cache_clear()
    try:
        with pytest.raises(DataError, match="noto.json.xz is damaged"):
            art.load_art("noto")
    finally:
        art.load_art.cache_clear()
