"""VQA accuracy: the official rule and its quirks, and the rules of other tools."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipbias.errors import DataError
from clipbias.tasks.metrics import answer_accuracy, exact_match, normalize_answer, vqa_accuracy


def ten(*answers: str) -> list[str]:
    """Ten answers: those given, then answers that nobody else gives."""
    return [*answers, *(f"other {i}" for i in range(10 - len(answers)))]


@pytest.mark.parametrize(("agree", "accuracy"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (9, 1.0)])
def test_people_who_agree(agree, accuracy):
    assert answer_accuracy("red", ten(*["red"] * agree)) == pytest.approx(accuracy)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The two dogs.", "2 dogs"),
        ("a cat\n", "cat"),
        ("black-and-white", "black and white"),
        ("black- and white", "black and white"),
        ("well-made, red", "well made red"),  # the hyphen stands beside no blank, the comma does
        ("1,000 cars/trucks", "1000 carstrucks"),  # a comma between digits drops every mark
        ("3.5", "3.5"),
        ("u.s.", "us"),
        ("dont know", "don't know"),
        ("None", "0"),
        ("What?", "what"),
        ("couldntve", "couldntve"),
        ("couldn'tve", "couldn't've"),
        ("it's: here", "it's: here"),  # neither the apostrophe nor the colon is on the list
    ],
)
def test_normalize_answer(text, normal):
    assert normalize_answer(text) == normal


def test_where_all_agree_answers_are_compared_as_they_are():
    assert answer_accuracy("Black.", ["black"] * 10) == 0
    assert answer_accuracy("Black.", [*["black"] * 9, "dark"]) == 1
    assert answer_accuracy("Black.", ["black"] * 10, rule="lmms-eval") == 1
    assert answer_accuracy("Black.", ["black"] * 10, rule="lavis") == 1
    assert answer_accuracy("Black.", ["black"] * 10, rule="a-okvqa") == 0


def test_the_rules_differ_where_they_are_known_to():
    people = ten(*["the car"] * 5)
    assert answer_accuracy("the car", people) == 1
    # LAVIS takes the article from the prediction alone, so that nothing matches.
    assert answer_accuracy("the car", people, rule="lavis") == 0
    assert answer_accuracy("the car", people, rule="a-okvqa") == 1
    # No one is left out: two of ten are 2/3.
    assert answer_accuracy("x", ten("x", "x"), rule="a-okvqa") == pytest.approx(2 / 3)


@given(st.text(alphabet="ab .,;-/'0123none", max_size=20))
@settings(deadline=None)
def test_normalized_answers_are_trimmed_and_lower_case(text):
    normal = normalize_answer(text)
    assert normal == normal.lower() == " ".join(normal.split())


ANNOTATIONS = {
    "annotations": [
        {"question_id": 1, "question_type": "what", "answer_type": "other", "answers": [{"answer": a, "answer_id": i} for i, a in enumerate(ten("cat", "cat"))]},
        {"question_id": 2, "question_type": "is the", "answer_type": "yes/no", "answers": [{"answer": "yes", "answer_id": i} for i in range(10)]},
        {"question_id": 3, "question_type": "what", "answer_type": "other", "answers": [{"answer": "dog", "answer_id": i} for i in range(10)]},
    ]
}  # fmt: skip


def test_vqa_accuracy_of_a_file():
    found = vqa_accuracy(
        [{"question_id": q, "answer": a} for q, a in ((1, "A cat"), (2, "yes"), (3, "cat"))], ANNOTATIONS
    )
    assert found.per_question == pytest.approx({1: 60, 2: 100, 3: 0})
    assert found.overall == pytest.approx(160 / 3)
    assert found.per_answer_type == pytest.approx({"other": 30, "yes/no": 100})
    assert found.per_question_type == pytest.approx({"what": 30, "is the": 100})
    assert (found.n, found.rule) == (3, "official")


def test_mappings_tables_and_files_agree():
    table = pd.DataFrame(
        {
            "example_id": ["a", "b"],
            "answers": [["x"] * 10, ten("y", "y", "y")],
            "answer_type": ["other", "other"],
        }
    )
    said = pd.DataFrame({"example_id": ["b", "a"], "prediction": ["y", "x"]})
    assert vqa_accuracy(said, table).per_question == pytest.approx({"a": 100, "b": 90})
    assert vqa_accuracy({"a": "x", "b": "y"}, table).overall == pytest.approx(95)


def test_questions_that_a_okvqa_leaves_out():
    table = [
        {"question_id": q, "answers": ["x"] * 10, "difficult_direct_answer": hard}
        for q, hard in ((1, False), (2, True))
    ]
    assert vqa_accuracy({1: "x", 2: "y"}, table, rule="a-okvqa").per_question == {1: 100}
    assert vqa_accuracy({1: "x", 2: "y"}, table).overall == 50


@pytest.mark.parametrize(
    ("said", "asked", "rule", "message"),
    [
        ({1: "x"}, [{"question_id": 1, "answers": ["x"]}], "official", r"question 1: .*1 answer.*at least 4.*exact_match"),
        ({1: "x"}, [{"question_id": q, "answers": ["x"] * 10} for q in (1, 2)], "official", "1 of 2 questions have no prediction.*2"),
        ({1: "x", 5: "y"}, [{"question_id": 1, "answers": ["x"] * 10}], "official", "without an annotation: 5"),
        ({1: "x"}, [{"question_id": 1, "answers": ["x"] * 10}], "oficial", "Did you mean 'official'"),
        ({1: "x"}, [{"question_id": 1, "answers": ["x"] * 10}] * 2, "official", "1 is annotated twice"),
        ({1: 3}, [{"question_id": 1, "answers": ["x"] * 10}], "official", "which is no text"),
        ({1: "x"}, {"questions": []}, "official", "no key 'annotations'"),
        ([{"image_id": 1, "caption": "x"}], [{"question_id": 1, "answers": ["x"] * 10}], "official", "prediction 0 has no 'question_id'"),
        ({}, [{"question_id": 1, "answers": ["x"] * 10}], "official", "no predictions"),
    ],
)  # fmt: skip
def test_bad_input_has_one_clear_message(said, asked, rule, message):
    with pytest.raises(DataError, match=message):
        vqa_accuracy(said, asked, rule=rule)


def test_exact_match_is_after_normalization():
    assert exact_match(["The cat", "2", "dog"], ["cat", "two", "cat"]).tolist() == [True, True, False]
    with pytest.raises(DataError, match="1 predictions but 2"):
        exact_match(["a"], ["a", "b"])
