"""Recipes are validated with messages that name the file, the key and the nearest word."""

import pytest

from clipbias.errors import DataError
from clipbias.instrument import images, recipe


def test_the_shipped_recipe_is_valid_and_global_comes_first():
    shipped = recipe.load()
    assert shipped.protocol.name == "strict"
    for measurement in shipped.measurements:
        assert shipped.views_of(measurement)[0] == "global"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"views": []}, "views"),
        ({"colour": 1}, "colour"),
        ({"protocol": {"k": -1}}, "protocol.k"),
        ({"measurements": [{"image_set": "world-people", "metrics": []}]}, "metrics"),
        ({"measurements": [{"image_set": "world-people", "metrics": ["max_skw"]}]}, "max_skew"),
    ],
)
def test_a_wrong_key_or_value_is_named(change, message):
    with pytest.raises(DataError, match=message):
        recipe.load(**change)


def test_only_narrows_the_images_and_unknown_levels_are_named():
    base = recipe.Measurement(
        image_set="world-people", metrics=["ndkl"], only={"context": "park", "style": "noto"}
    )
    found = images.load(base)
    assert set(found.table["context"]) == {"park"}
    with pytest.raises(DataError, match="Did you mean 'park'"):
        images.load(base.model_copy(update={"only": {"context": "prak"}}))


def test_the_digest_changes_with_a_label():
    found = images.load(
        recipe.Measurement(
            image_set="world-people", metrics=["ndkl"], only={"context": "park", "style": "noto"}
        )
    )
    rows = list(range(6))
    before = images.digest(found, rows)
    assert before == images.digest(found, rows)
    found.table.loc[0, "gender"] = {"woman": "man", "man": "woman"}[found.table.loc[0, "gender"]]
    assert images.digest(found, rows) != before
