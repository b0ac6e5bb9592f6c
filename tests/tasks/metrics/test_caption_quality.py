"""BLEU, ROUGE-L, CIDEr-D and METEOR on captions whose scores can be worked out."""

from __future__ import annotations

import math
import shutil

import numpy as np
import pytest

from clipbias.errors import ClipbiasError, DataError, StatusError
from clipbias.tasks.metrics import bleu, cider, corpus_bleu, group_means, meteor, rouge_l, tokenize
from clipbias.tasks.metrics.captions import quality

SAID = {"a": "a red dog runs fast", "b": "two cats sleep on a mat", "c": "the tall tree stands alone"}
SAME = {key: [text] for key, text in SAID.items()}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A man, a dog and a cat.", "a man a dog and a cat"),
        ("The man's dog doesn't bark!", "the man 's dog does n't bark"),
        ("A well-known street -- at night...", "a well-known street at night"),
        ("They can't; we cannot.", "they ca n't we can not"),
        ('A sign that says "stop"', "a sign that says stop"),
        ("the dogs' toys", "the dogs toys"),
        ("a 1,000 foot tower at 10:30", "a 1,000 foot tower at 10:30"),
        ("a boy..", "a boy"),
        ("a room (empty)", "a room -lrb- empty -rrb-"),
        ("", ""),
    ],
)
def test_tokens(text, words):
    assert tokenize([text]) == [words]


@pytest.mark.skipif(shutil.which("java") is None, reason="the Stanford tokenizer needs Java")
def test_both_tokenizers_agree():
    texts = [
        "A man's hat, and two dogs!",
        "She doesn't know (yet).",
        "",
        "It's 10:30\nnow",
        "a black-and-white cat...",
    ]
    assert tokenize(texts, tokenizer="ptb") == tokenize(texts)


def test_equal_captions_have_the_top_scores():
    assert bleu(SAID, SAME).orders == pytest.approx((1, 1, 1, 1))
    assert rouge_l(SAID, SAME).mean == pytest.approx(1)
    assert cider(SAID, SAME).mean == pytest.approx(10)
    assert list(cider(SAID, SAME).per_image) == ["a", "b", "c"]


def test_bleu_by_hand():
    found = bleu({"a": "a red dog"}, {"a": ["a red cat here"]})
    # 2 of 3 words, 1 of 2 pairs; 3 words against 4.
    brevity = math.exp(1 - 4 / 3)
    assert found.orders[:2] == pytest.approx((2 / 3 * brevity, math.sqrt(2 / 3 * 1 / 2) * brevity), rel=1e-6)
    assert bleu({"a": "a red dog"}, {"a": ["a red cat here"]}, n=1).mean == pytest.approx(2 / 3 * brevity)


def test_corpus_bleu_is_that_of_the_part():
    refs = {
        "a": ["a red dog runs fast home"],
        "b": ["two cats sleep on the mat"],
        "c": ["the tall tree stands alone"],
    }
    whole = bleu(SAID, refs)
    assert corpus_bleu(whole.counts.sum(0)) == pytest.approx(whole.mean)
    for n in (1, 2, 3, 4):
        assert corpus_bleu(whole.counts.sum(0), n=n) == pytest.approx(whole.orders[n - 1])
    part = bleu({k: SAID[k] for k in "ab"}, {k: refs[k] for k in "ab"})
    assert corpus_bleu(whole.counts[:2].sum(0)) == pytest.approx(part.mean)
    assert np.isnan(corpus_bleu(np.zeros(10)))


def test_rouge_by_hand():
    # Longest common subsequence "a dog runs": 3 of 4 and 3 of 5 words, beta 1.2.
    p, r = 3 / 4, 3 / 5
    expected = (1 + 1.2**2) * p * r / (r + 1.2**2 * p)
    assert rouge_l({"x": "a dog runs home"}, {"x": ["a big dog runs away"]}).mean == pytest.approx(expected)
    assert rouge_l({"x": ""}, {"x": ["a dog"]}).mean == 0


def test_cider_by_hand():
    # One word each: only 1-grams count, all idf are ln 2, the mean is over four orders: 10 / 4 for a match.
    found = cider({"a": "dog", "b": "dog"}, {"a": ["dog"], "b": ["cat"]})
    assert found.per_image == pytest.approx({"a": 2.5, "b": 0.0})


def test_cider_of_one_image_is_zero_and_says_so():
    with pytest.warns(UserWarning, match="one image"):
        found = cider({"a": "a dog"}, {"a": ["a dog"]})
    assert (found.mean, found.status) == (0, "one image")
    assert quality({"a": "a dog"}, {"a": ["a dog"]})["cider"].status == "one image"


def test_group_gaps_use_the_word_weights_of_the_whole_set():
    refs = {"a": ["a red dog"], "b": ["a red cat"], "c": ["a tall tree"], "d": ["a blue tree"]}
    said = {"a": "a red dog", "b": "a red dog", "c": "a tall tree", "d": "a tall tree"}
    groups = {"a": "m", "b": "m", "c": "w", "d": "w"}
    whole = cider(said, refs).per_image
    means = group_means(whole, groups)
    assert means == pytest.approx({"m": (whole["a"] + whole["b"]) / 2, "w": (whole["c"] + whole["d"]) / 2})
    alone = cider({k: said[k] for k in "ab"}, {k: refs[k] for k in "ab"}).mean
    assert means["m"] != pytest.approx(alone)  # the group by itself is another metric
    with pytest.raises(StatusError, match="no scored image"):
        group_means(whole, {"z": "m"})


def test_several_qualities_at_once_are_the_single_ones():
    refs = {"a": ["a dog runs"], "b": ["two cats"], "c": ["a tree", "the tall tree"]}
    found = quality(SAID, refs)
    assert found["bleu4"].mean == bleu(SAID, refs).mean
    assert found["rouge_l"].per_image == rouge_l(SAID, refs).per_image
    assert found["cider"].per_image == cider(SAID, refs).per_image


@pytest.mark.parametrize(
    ("said", "refs", "message"),
    [
        ({}, {}, "no captions"),
        ({"a": "x"}, {}, "1 captions have no references.*'a'"),
        ({"a": "x"}, {"a": ["x"], "b": ["y"]}, "1 of 2 images have no caption.*'b'"),
        ({"a": "x"}, {"a": "x y"}, "one string; give a list"),
        ({"a": "x"}, {"a": ["", "."]}, "no reference with a word.*'a'"),
        ({"a": None}, {"a": ["x"]}, "which is no text"),
    ],
)
def test_bad_input(said, refs, message):
    with pytest.raises(DataError, match=message):
        rouge_l(said, refs)


def test_unknown_names():
    with pytest.raises(DataError, match="Did you mean 'treebank'"):
        cider(SAID, SAME, tokenizer="treebanks")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="there is no caption quality"):
        quality(SAID, SAME, metrics=["spice"])
    with pytest.raises(DataError, match="n=5"):
        bleu(SAID, SAME, n=5)


def test_what_needs_java_says_so(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ClipbiasError, match="METEOR needs Java"):
        meteor(SAID, SAME)
    with pytest.raises(ClipbiasError, match="needs Java.*treebank"):
        tokenize(["a"], tokenizer="ptb")


needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="METEOR needs Java")


@pytest.mark.slow
@needs_java
def test_meteor_by_hand():
    """English parameters of METEOR 1.5: alpha .85, beta .2, gamma .6; stems count .6; only content words here."""
    said = {
        "equal": "dog runs", "turned": "runs dog", "part": "dog", "stem": "dog run", "none": "tree stands", "silent": "",
    }  # fmt: skip
    found = meteor(said, {key: ["dog runs"] for key in said})
    assert list(found.per_image) == list(said)
    half = 0.5 / (0.85 * 1 + 0.15 * 0.5)  # precision 1, recall 1/2
    wanted = {
        "equal": 1.0,
        "turned": 1 - 0.6,  # two chunks of two matches: the whole penalty
        "part": half * (1 - 0.6),  # one chunk of one match
        "stem": (1 + 0.6) / 2,  # all words match in one chunk: no penalty
        "none": 0.0,
        "silent": 0.0,
    }
    assert found.per_image == pytest.approx(wanted, abs=1e-6)


@pytest.mark.slow
@needs_java
def test_meteor_of_many_references_is_that_of_the_best_and_the_process_ends():
    import psutil

    before = {child.pid for child in psutil.Process().children(recursive=True)}
    found = meteor({"a": "dog runs"}, {"a": ["tree stands", "runs dog"]})
    assert found.per_image["a"] == pytest.approx(0.4, abs=1e-6)
    left = [
        c for c in psutil.Process().children(recursive=True) if c.pid not in before and c.status() != "zombie"
    ]
    assert not left
