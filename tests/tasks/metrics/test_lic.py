"""LIC on captions with planted leaks, its parts in closed form, and the neural attackers."""

import math

import numpy as np
import pytest

from clipbias.errors import DataError, StatusError
from clipbias.tasks.metrics import lic
from clipbias.tasks.metrics.attackers import text_attacker
from clipbias.tasks.metrics.lic import guess_scores

NOUNS = ["dog", "cat", "car", "tree", "boat", "lamp"]


def captions(gender: np.ndarray, rng: np.random.Generator, leak: float) -> list[str]:
    """Captions that name the gender, and hold 'pan' or 'drill' to go with it as often as ``leak`` says."""
    out = []
    for g in gender:
        tell = ("drill", "pan")[g if rng.random() < leak else rng.integers(2)]
        out.append(f"a {('man', 'woman')[g]} with a {tell} and a {rng.choice(NOUNS)}")
    return out


@pytest.fixture(scope="module")
def people():
    rng = np.random.default_rng(0)
    g = rng.integers(0, 2, 400)
    human = [captions(np.repeat(x, 2), rng, 0.2) for x in g]
    return g, np.where(g, "Female", "Male"), human, rng


def test_scores_of_guesses():
    p = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.5, 0.5]])
    score, right = guess_scores(p, np.array([0, 0, 1, 1]))
    assert score.tolist() == [0.9, 0.0, 0.8, 0.5]
    assert right.tolist() == [True, False, True, True]


def test_amplified_and_not(people):
    g, labels, human, rng = people
    same, more = (lic(captions(g, rng, leak), human, labels, seeds=10, permutations=5) for leak in (0.2, 0.9))
    assert more.value > 0.15
    assert more.value > same.value + 0.15
    assert abs(same.value) < 0.1
    assert more.lic_m == pytest.approx(more.seeds["lic_m"].mean())
    assert more.value == pytest.approx(more.lic_m - more.lic_d)
    assert more.sd == pytest.approx((more.seeds["lic_m"] - more.seeds["lic_d"]).std(ddof=1))
    assert more.accuracy_m > 0.85
    assert more.p_m == pytest.approx(1 / 6)
    assert more.null["accuracy_m"].mean() == pytest.approx(0.5, abs=0.12)
    assert len(more.seeds) == 10
    assert np.mean(list(more.by_group.values())) == pytest.approx(more.lic_m)
    assert (more.groups, more.undefined, more.missed) == (("Female", "Male"), {}, {})


def test_gender_words_are_masked(people):
    g, labels, _, _ = people
    plain = [("a man rides", "a woman rides")[x] for x in g]
    r = lic(plain, None, labels, permutations=0)
    # Every caption is the same once masked: half the guesses are right, with confidence one half.
    assert r.lic_m == pytest.approx(0.25, abs=0.01)
    assert r.accuracy_m == pytest.approx(0.5)
    open_eyed = lic(plain, None, labels, permutations=0, words=None)
    assert open_eyed.accuracy_m == 1
    leaky = lic([("a dad rides", "a mom rides")[x] for x in g], None, labels, permutations=0)
    assert leaky.accuracy_m == 1
    assert set(leaky.missed) == {"dad", "mom"}


def test_without_human_captions_the_rest_says_why(people):
    _, labels, human, _ = people
    r = lic([h[0] for h in human], None, labels, seeds=2, permutations=0)
    assert math.isnan(r.value)
    assert math.isnan(r.lic_d)
    assert "human" in r.undefined["value"]
    assert "permutations" in r.undefined["p_m"]
    assert r.null.empty


def test_human_captions_speak_with_the_vocabulary_of_the_model(people):
    g, labels, _, rng = people
    told = [[("the zebra", "the okapi")[x]] for x in g]
    r = lic([f"a dog and a {rng.choice(NOUNS)}" for _ in g], told, labels, seeds=3, permutations=0)
    assert r.accuracy_d == 0.5  # both animals are <unk>
    known = lic(["a dog"] * g.size, told, labels, seeds=3, permutations=0, vocabulary={"zebra", "okapi"})
    assert known.accuracy_d == 1


def test_images_without_human_captions_or_group_are_left_out(people):
    _, labels, human, _ = people
    labels = labels.astype(object)
    labels[:9] = "unknown"
    some = [h if i % 2 else [] for i, h in enumerate(human)]
    r = lic([h[0] for h in human], some, labels, seeds=2, permutations=1)
    assert r.left_out == 9
    assert np.isfinite(r.value)
    with pytest.raises(StatusError, match="human caption"):
        lic([h[0] for h in human], [[]] * 400, labels)


def test_twins_on_both_sides_would_turn_the_attack_round():
    # Twins share their words and differ in the label: an attacker that has seen the one is wrong about the other.
    words = [f"scene{i}" for i in range(150) for _ in range(2)]
    labels = ["man", "woman"] * 150
    split = lic(words, None, labels, permutations=0)
    kept = lic(words, None, labels, permutations=0, blocks=np.repeat(np.arange(150), 2))
    assert split.accuracy_m < 0.2
    assert kept.accuracy_m == pytest.approx(0.5)


def test_it_repeats_and_takes_other_attackers(people):
    _, labels, human, _ = people
    texts = [h[0] for h in human]
    first, again = (lic(texts, human, labels, seeds=[3, 5], permutations=1) for _ in range(2))
    assert first.seeds.equals(again.seeds)
    assert first.null.equals(again.null)
    assert first.seeds["seed"].tolist() == [3, 5]

    def certain(texts, groups):
        return lambda y, train, test, seed: np.eye(groups)[y[test]]

    r = lic(texts, human, labels, attacker=certain, permutations=0)
    assert (r.lic_m, r.lic_d, r.value, r.sd, r.attacker) == (1, 1, 0, 0, "certain")


def test_three_groups(people):
    rng = people[3]
    labels = rng.choice(["young", "adult", "old"], 300)
    r = lic([f"{x} {rng.choice(NOUNS)}" for x in labels], None, labels, words=None, permutations=0)
    assert r.accuracy_m == 1
    assert len(r.by_group) == 3


def test_bad_input(people):
    _, labels, human, _ = people
    texts = [h[0] for h in human]
    for wrong, message in (
        (lambda: lic(texts, human, labels[:3]), "400 captions but 3"),
        (lambda: lic(texts, human[:3], labels), "human captions of 3"),
        (lambda: lic([*texts[:-1], None], None, labels), "position 399"),
        (lambda: lic(texts, None, labels, attacker="logistics"), "Did you mean 'logistic'"),
        (lambda: lic(texts, None, labels, options={"c": 1}), "no setting 'c'"),
        (lambda: lic(texts, None, labels, words="lic2021"), "Did you mean 'lic2022'"),
        (lambda: lic(texts, None, labels, seeds=1), "two different"),
        (lambda: lic(texts, None, labels, blocks=[1, 2]), "blocks have shape"),
        (lambda: lic([""] * 400, None, labels), "no words"),
    ):
        with pytest.raises(DataError, match=message):
            wrong()
    with pytest.raises(StatusError, match="at least 10"):
        lic(texts[:12], None, ["man"] * 6 + ["woman"] * 6)


SMALL = {
    "epochs": 8,
    "learning_rate": 0.02,
    "embedding": 8,
    "hidden": 8,
    "layers": 1,
    "dropout": 0.0,
    "device": "cpu",
}


@pytest.mark.slow
def test_lstm_attacker(people):
    g, labels, _, rng = people
    g, labels = g[:120], labels[:120]
    texts = [*captions(g, rng, 1.0)[:-1], ""]  # one caption without words
    run = {"attacker": "lstm", "seeds": 2, "permutations": 1, "options": SMALL}
    r, again = (lic(texts, None, labels, **run) for _ in range(2))
    assert r.accuracy_m > 0.9
    assert r.null["accuracy_m"].mean() < 0.9
    assert r.seeds.equals(again.seeds)
    with pytest.raises(DataError, match="Did you mean 'epochs'"):
        text_attacker("lstm", {"epoch": 3})


@pytest.mark.slow
def test_bert_attacker_by_path(people, tmp_path):
    from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast

    g, labels, rng = people[0][:200], people[1][:200], people[3]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "with", "and", "pan", "drill", *NOUNS]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    BertForMaskedLM(config).save_pretrained(tmp_path)
    options = {"epochs": 8, "learning_rate": 3e-3, "batch": 16, "device": "cpu"}
    r = lic(
        captions(g, rng, 1.0),
        None,
        labels,
        attacker=f"bert:{tmp_path}",
        seeds=2,
        permutations=0,
        options=options,
    )
    assert r.accuracy_m > 0.9
    still = lic(
        captions(g, rng, 1.0), None, labels, attacker=f"bert:{tmp_path}", seeds=2, permutations=0,
        options={**options, "frozen": True, "epochs": 1},
    )  # fmt: skip
    assert 0 <= still.lic_m <= 1
    with pytest.raises(DataError, match="no such folder"):
        lic(["a"] * len(labels), None, labels, attacker="bert:nowhere")


def test_a_scikit_learn_pipeline_can_be_the_attacker():
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.pipeline import make_pipeline

    said = ["a woman in the kitchen"] * 30 + ["a man in the street"] * 30
    people = [["a woman in a room"]] * 30 + [["a man in a room"]] * 30
    found = lic(
        said, people, ["woman"] * 30 + ["man"] * 30, seeds=2, permutations=0,
        attacker=make_pipeline(CountVectorizer(), MultinomialNB()),
    )  # fmt: skip
    assert found.accuracy_m == 1.0
    assert found.value > 0.3
