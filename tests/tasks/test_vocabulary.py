"""Words to numbers and back."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipbias.errors import DataError
from clipbias.tasks.vocabulary import SPECIAL, Vocabulary

TEXTS = ["A person's job, is it medium-light skin?", "a (red) dog. A dog!", "zebra"]


@pytest.fixture(scope="module")
def words() -> Vocabulary:
    return Vocabulary.build(TEXTS)


def test_special_tokens_come_first(words):
    assert [words.pad_id, words.unk_id, words.bos_id, words.eos_id, words.ans_id, words.sep_id] == list(
        range(6)
    )
    assert words.special_ids == set(range(6))


def test_encode_pads_marks_and_cuts(words):
    ids, mask = words.encode(["a dog", "a red dog", ""], add_bos=True, add_eos=True, max_length=4)
    assert ids.dtype == np.int64
    assert mask.tolist() == [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 0, 0]]
    assert ids[:, 0].tolist() == [words.bos_id] * 3
    assert ids[1, -1] == words.eos_id  # cut in the middle, the end mark stays
    assert ids[2].tolist() == [words.bos_id, words.eos_id, words.pad_id, words.pad_id]
    assert words.decode(ids) == ["a dog", "a red", ""]
    assert words.encode([""]).input_ids.shape == (1, 1)
    assert words.encode([]).input_ids.shape == (0, 1)
    with pytest.raises(ValueError, match="no room"):
        words.encode(["a"], add_bos=True, add_eos=True, max_length=1)


def test_tensors(words):
    import torch

    ids, mask = words.encode(["a dog"], tensors="pt")
    assert ids.dtype == mask.dtype == torch.int64
    assert words.decode(ids) == ["a dog"]


@pytest.mark.parametrize(
    ("text", "back"),
    [
        ("A person's JOB , is it medium-light skin ?", "a person's job, is it medium-light skin?"),
        ("a (red) dog.", "a (red) dog."),
        ("a unicorn dog", "a dog"),
    ],
)
def test_decode(words, text, back):
    assert words.decode(words.encode([text], add_eos=True).input_ids) == [back]


def test_a_text_cannot_spell_a_special_token(words):
    ids = words.encode(["a [EOS] dog [PAD]"]).input_ids[0]
    assert words.unk_id in ids
    assert not {words.eos_id, words.pad_id} & set(ids.tolist())


def test_build_keeps_the_most_frequent():
    some = Vocabulary.build(["b a", "b a c", "b"], max_size=2)
    assert len(some) == len(SPECIAL) + 2
    assert some.decode([[6, 7]]) == ["b a"]
    assert len(Vocabulary.build(["b a", "b a c", "b"], min_count=3)) == len(SPECIAL) + 1
    for texts, options in (([], {}), (["a"], {"min_count": 2})):
        with pytest.raises(DataError, match="no word is left"):
            Vocabulary.build(texts, **options)


def test_order_of_texts_does_not_matter(words):
    assert Vocabulary.build(reversed(TEXTS)).digest == words.digest
    assert Vocabulary.build(TEXTS[:2]).digest != words.digest


def test_save_load_pickle(words, tmp_path):
    words.save(tmp_path / "v.json")
    for back in (Vocabulary.load(tmp_path / "v.json"), pickle.loads(pickle.dumps(words))):
        assert back.digest == words.digest
        assert (back.encode(TEXTS).input_ids == words.encode(TEXTS).input_ids).all()
    for text, message in (("{}", "no vocabulary"), ("{", "no vocabulary"), ('{"format": 9}', "has format 9")):
        (tmp_path / "v.json").write_text(text)
        with pytest.raises(DataError, match=message):
            Vocabulary.load(tmp_path / "v.json")
    with pytest.raises(DataError, match="was not found"):
        Vocabulary.load(tmp_path / "none.json")
    body = json.loads(words.to_json())
    del body["special"]["ans"]
    with pytest.raises(DataError, match="no token for 'ans'"):
        Vocabulary.from_json(json.dumps(body))


def test_transformers_sees_the_same(words):
    other = words.tokenizer
    assert other(TEXTS[1])["input_ids"] == words.encode([TEXTS[1]]).input_ids[0].tolist()
    assert (other.pad_token_id, other.bos_token_id, other.eos_token_id) == (
        words.pad_id, words.bos_id, words.eos_id
    )  # fmt: skip
    assert len(other) == len(words)


def test_pretrained_tokenizer_by_path(tmp_path):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = {c: n for n, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    core = Tokenizer(models.BPE(letters | {"<end>": len(letters)}, []))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<end>", eos_token="<end>", unk_token="<end>"
    ).save_pretrained(tmp_path)
    found = Vocabulary.pretrained(tmp_path)
    assert found.bos_id == found.eos_id == len(letters)
    assert found.pad_id == len(letters) + 1  # what the tokenizer lacks comes after its own tokens
    assert len(found) == len(letters) + 4
    ids = found.encode(["Two dogs.", "a"], add_bos=True, add_eos=True).input_ids
    assert found.decode(ids) == ["Two dogs.", "a"]
    again = Vocabulary.from_json(found.to_json())
    assert again.decode(ids) == ["Two dogs.", "a"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no tokenizer"):
        Vocabulary.pretrained(tmp_path / "empty")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=30), max_size=5))
def test_known_words_come_back(texts):
    made = Vocabulary.build([*texts, "word"])
    once = made.decode(made.encode(texts, add_eos=True).input_ids)
    assert made.decode(made.encode(once, add_eos=True).input_ids) == once
    assert made.unk_id not in made.encode(texts).input_ids


def test_no_torch():
    program = (
        "import sys; from clipbias.tasks.vocabulary import Vocabulary; import clipbias.tasks.world, clipbias.tasks.files; "
        "Vocabulary.build(['a']).encode(['a']); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
