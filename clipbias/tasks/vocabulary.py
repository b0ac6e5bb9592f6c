"""Words and their numbers: the tokenizer of heads that are trained from scratch, or that of a language model by path."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from clipbias.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Role of a token in a sequence -> how it is written. Their order is the order of their numbers.
SPECIAL = {"pad": "[PAD]", "unk": "[UNK]", "bos": "[BOS]", "eos": "[EOS]", "ans": "[ANS]", "sep": "[SEP]"}
FORMAT = 1
# A word keeps its inner apostrophes and hyphens ("person's", "medium-light"), so that decoding gives back what the
# tokenizers of the caption metrics read in the references; every other mark is a token of its own.
_WORD = r"\w+(?:['\u2019\-]\w+)*|[^\w\s]"
_TIGHT = re.compile(r"\s+([,.;:?!%)\]}])|([(\[{$#])\s+")


class Encoded(NamedTuple):
    """Padded token numbers: ``input_ids`` and ``attention_mask``, int64 (n, length), 1 where there is a token."""

    input_ids: Any
    attention_mask: Any


class Vocabulary:
    """A tokenizer with the special tokens that the heads need.

    Attributes
    ----------
    pad_id, unk_id, bos_id, eos_id, ans_id, sep_id : int
        ``ans`` stands before an answer, ``sep`` between question and answer.
    """

    pad_id: int
    unk_id: int
    bos_id: int
    eos_id: int
    ans_id: int
    sep_id: int

    def __init__(self, core: Tokenizer, special: dict[str, str], *, words: bool) -> None:
        self._core = core
        self._special = dict(special)
        self._words = words
        for role in SPECIAL:
            number = core.token_to_id(special.get(role, ""))
            if number is None:
                raise DataError(f"the tokenizer has no token for {role!r} ({special.get(role)!r}).")
            setattr(self, f"{role}_id", number)
        self.special_ids = frozenset(getattr(self, f"{role}_id") for role in SPECIAL)

    @classmethod
    def build(cls, texts: Iterable[str], *, min_count: int = 1, max_size: int | None = None) -> Vocabulary:
        """Make a word-level, lower-case vocabulary of texts.

        Parameters
        ----------
        texts : iterable of str
        min_count : int
            Words that are rarer are unknown.
        max_size : int, optional
            Largest number of words, besides the special tokens; the most frequent are kept, of equals the first in
            the alphabet.

        Raises
        ------
        DataError
            No word is left.
        """
        core = _word_tokenizer({})
        counts: Counter[str] = Counter()
        for text in texts:
            line = core.normalizer.normalize_str(text)
            counts.update(word for word, _ in core.pre_tokenizer.pre_tokenize_str(line))
        kept = sorted((w for w, n in counts.items() if n >= min_count), key=lambda w: (-counts[w], w))
        kept = kept[:max_size]
        if not kept:
            raise DataError(
                f"no word is left for the vocabulary: {len(counts)} words, none of them {min_count} times or more."
            )
        numbers = {word: number for number, word in enumerate([*SPECIAL.values(), *kept])}
        return cls(_word_tokenizer(numbers), SPECIAL, words=True)

    @classmethod
    def pretrained(cls, path: str | Path) -> Vocabulary:
        """Take the tokenizer of a language model in a local folder.

        Special tokens that it lacks are added at the end, so the model's embeddings must be resized to
        ``len(vocabulary)``.

        Raises
        ------
        DataError
            The folder holds no fast tokenizer.
        """
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(str(path), local_files_only=True, use_fast=True)
            core = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        except (OSError, ValueError, AttributeError) as error:
            raise DataError(
                f"{path} holds no tokenizer that can be used: {error}. It needs tokenizer.json."
            ) from error
        # BERT-like tokenizers begin with [CLS] and end with [SEP]; GPT-like ones have one token for both ends.
        found = {
            "pad": tokenizer.pad_token, "unk": tokenizer.unk_token, "bos": tokenizer.bos_token or tokenizer.cls_token,
            "eos": tokenizer.eos_token or tokenizer.sep_token,
        }  # fmt: skip
        special = {role: str(found.get(role) or text) for role, text in SPECIAL.items()}
        core.add_special_tokens([text for text in special.values() if core.token_to_id(text) is None])
        core.no_padding()
        core.no_truncation()
        return cls(core, special, words=False)

    def __len__(self) -> int:
        return self._core.get_vocab_size(with_added_tokens=True)

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} tokens, {'words' if self._words else 'pretrained'})"

    def __getstate__(self) -> dict:
        return {"text": self.to_json()}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(Vocabulary.from_json(state["text"]).__dict__)

    @property
    def digest(self) -> str:
        """SHA-256 of everything that decides how a text is encoded."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def encode(
        self,
        texts: Sequence[str],
        *,
        add_bos: bool = False,
        add_eos: bool = False,
        max_length: int | None = None,
        tensors: Literal["np", "pt"] = "np",
    ) -> Encoded:
        """Encode texts, padded on the right to the longest.

        Parameters
        ----------
        texts : sequence of str, length n
        add_bos, add_eos : bool
            Begin and end marks. They stay when a text is cut.
        max_length : int, optional
            Longest sequence, marks included.
        tensors : {"np", "pt"}

        Returns
        -------
        Encoded
            ``input_ids, attention_mask``, int64 (n, length); length is at least 1.
        """
        front = [self.bos_id] if add_bos else []
        back = [self.eos_id] if add_eos else []
        room = None if max_length is None else max_length - len(front) - len(back)
        if room is not None and room < 0:
            raise ValueError(f"max_length {max_length} leaves no room for the marks.")
        found = self._core.encode_batch(list(texts), add_special_tokens=False)
        rows = [[*front, *one.ids[:room], *back] for one in found]
        ids = np.full((len(rows), max([1, *map(len, rows)])), self.pad_id, np.int64)
        mask = np.zeros_like(ids)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = row
            mask[place, : len(row)] = 1
        if tensors == "np":
            return Encoded(ids, mask)
        import torch

        return Encoded(torch.from_numpy(ids), torch.from_numpy(mask))

    def decode(self, rows: Iterable[Iterable[int]]) -> list[str]:
        """Return the text of each row of token numbers, up to its end mark and without special tokens."""
        rows = rows.tolist() if hasattr(rows, "tolist") else rows  # arrays and tensors
        texts = []
        for row in rows:
            kept: list[int] = []
            for number in map(int, row):
                # Where one token marks both ends, the first one begins the text.
                if number == self.eos_id and (kept or number != self.bos_id):
                    break
                if number not in self.special_ids:
                    kept.append(number)
            texts.append(self._join(kept))
        return texts

    def _join(self, numbers: list[int]) -> str:
        if not self._words:
            return self._core.decode(numbers, skip_special_tokens=True).strip()
        words = " ".join(self._core.id_to_token(number) or "" for number in numbers)
        return _TIGHT.sub(lambda found: found.group(1) or found.group(2), words)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The same tokenizer as transformers knows it."""
        from transformers import PreTrainedTokenizerFast

        first = {f"{role}_token": self._special[role] for role in ("pad", "unk", "bos", "eos")}
        more = [self._special[role] for role in ("ans", "sep")]
        return PreTrainedTokenizerFast(
            tokenizer_object=self._core, **first, additional_special_tokens=more, clean_up_tokenization_spaces=False
        )  # fmt: skip

    def to_json(self) -> str:
        """Return the vocabulary as JSON."""
        body = {
            "format": FORMAT,
            "words": self._words,
            "special": self._special,
            "core": json.loads(self._core.to_str()),
        }
        return json.dumps(body, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, *, where: str = "the vocabulary") -> Vocabulary:
        """Read what `to_json` wrote.

        Raises
        ------
        DataError
            It is no vocabulary, or one of another format.
        """
        try:
            body = json.loads(text)
            if body["format"] != FORMAT:
                raise DataError(f"{where} has format {body['format']!r}; this version reads {FORMAT}.")
            core = Tokenizer.from_str(json.dumps(body["core"]))
            return cls(core, body["special"], words=body["words"])
        except DataError:
            raise
        except Exception as error:  # tokenizers raises plain Exception
            raise DataError(f"{where} is no vocabulary of clipbias: {error!r}.") from error

    def save(self, path: str | Path) -> None:
        """Write the vocabulary to a JSON file."""
        Path(path).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Vocabulary:
        """Read what `save` wrote.

        Raises
        ------
        DataError
            The file is missing or no vocabulary.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise DataError(f"{path} was not found.") from error
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is no vocabulary of clipbias: it is not UTF-8.") from error
        return cls.from_json(text, where=str(path))


def _word_tokenizer(numbers: dict[str, int]) -> Tokenizer:
    # Special tokens are words that the pattern cannot produce: a caption that spells "[EOS]" does not end itself.
    core = Tokenizer(models.WordLevel(numbers, unk_token=SPECIAL["unk"]))
    core.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    core.pre_tokenizer = pre_tokenizers.Split(Regex(_WORD), behavior="removed", invert=True)
    return core
