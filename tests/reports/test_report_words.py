from __future__ import annotations

import json
import math

import pandas as pd
import pytest
from html_tree import unpacked
from hypothesis import given
from hypothesis import strategies as st

from clipbias.reports import words
from clipbias.reports.shared import Shared, escaped_json


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.6234, "0.62"), (-0.6234, "\u22120.62"), (0.0312, "0.031"), (0, "0"), (1.0, "1"), (12400, "12,400"), (-0.0, "0"),
     (math.nan, "\u2013"), (None, "\u2013"), (math.inf, "\u221e"), (-math.inf, "\u2212\u221e"), (3.14159, "3.14"), (31.4159, "31.4")],
)  # fmt: skip
def test_numbers_read_well(value, text):
    assert words.number(value) == text


def test_a_rounded_zero_has_no_sign():
    assert words.number(-0.0004, 2) == "0.00"
    assert words.number(0.0004, 2, sign=True) == "0.00"
    assert words.number(0.5, 2, sign=True) == "+0.50"


def test_intervals_counts_lists_and_p_values():
    assert words.interval(-0.1, 0.2, 2) == "[\u22120.10, 0.20]"
    assert words.interval(math.nan, 0.2) == ""
    assert words.count(1, "model") == "1 model"
    assert words.count(1200, "entry", "entries") == "1,200 entries"
    assert words.joined(["a"]) == "a"
    assert words.joined(["a", "b", "c"]) == "a, b and c"
    assert words.joined(list("abcdefgh"), limit=2) == "a, b and 6 more"
    assert words.joined([]) == ""
    assert (words.p_value(0.0001), words.p_value(0.031), words.p_value(0.4)) == ("< 0.001", "0.031", "0.40")
    assert (words.percent(0.051), words.percent(0.5), words.percent(0.0)) == (
        "5.1\u202f%",
        "50\u202f%",
        "0\u202f%",
    )
    assert (words.size(480_000), words.size(3.0e6), words.size(1.4e8)) == (
        "480\u202fk",
        "3.0\u202fM",
        "140\u202fM",
    )


@given(st.floats(-1e6, 1e6))
def test_a_shown_number_is_near_the_number(value):
    shown = float(words.number(value, 3).replace("\u2212", "-").replace(",", ""))
    assert abs(shown - value) <= 0.0005 + 1e-9


@given(st.lists(st.one_of(st.text(), st.floats(), st.none(), st.booleans()), max_size=30))
def test_json_is_inert_and_whole(values):
    shared = Shared()
    shared.add("t", pd.DataFrame({"c": pd.Series(values, dtype=object)}))
    text = escaped_json(shared.packed())
    assert not set("<>&") & set(text)
    back = unpacked(json.loads(text)["t"]["c"])
    plain = [None if isinstance(v, float) and not math.isfinite(v) else v for v in values]
    assert back == plain


def test_equal_specs_are_stored_once():
    shared = Shared()
    assert shared.add_spec({"a": 1}) == shared.add_spec({"a": 1}) != shared.add_spec({"a": 2})
    assert len(shared.specs) == 2
