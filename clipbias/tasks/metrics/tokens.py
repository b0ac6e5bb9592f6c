"""Captions as words: the rules of the Penn Treebank in Python, or the official Stanford tokenizer, which needs Java."""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import re
import shutil
from collections.abc import Sequence
from typing import Any, Literal

from clipbias.errors import ClipbiasError, DataError, nearest

Tokenizer = Literal["treebank", "ptb"]
TOKENIZERS = ("treebank", "ptb")

# Marks that the official evaluation drops after tokenizing. It means to drop brackets too, but spells them in capitals
# and looks for them among lower-case words; they stay in, here as there.
_DROPPED = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])
_SPLITS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), to)
    for pattern, to in (
        (r"[“”„«»]", '"'),
        (r"[‘’]", "'"),
        (r"[–—]", "--"),
        (r"…", "..."),
        (r'"', " '' "),
        (r"\.{2,}", " ... "),
        (r"\(", " -lrb- "),
        (r"\)", " -rrb- "),
        (r"\[", " -lsb- "),
        (r"\]", " -rsb- "),
        (r"\{", " -lcb- "),
        (r"\}", " -rcb- "),
        (r"([;@#$%&?!=<>])", r" \1 "),
        (r",(?!\d)|(?<!\d),", " , "),
        (r":(?!\d)|(?<!\d):", " : "),
        (r"-{2,}", " -- "),
        (r"(?<!\S)-(?=\w)(?![lr][rsc]b-)", " - "),
        (r"/(?=\s|$)", " / "),
        (r"(?<=\w)(?<!\.\w)\.(?=\W*$)", " . "),
        (r"(?<=\w)(?<!\b[a-z])\.(?=\s|$|\s*['\"])", " . "),
        (r"(?<![\w.])\.(?![\d.])", " . "),
        (r"(^|\s)'(?=\S)(?!(?:s|m|d|ll|re|ve|em|tis|twas)\b)", r"\1 ' "),
        (r"(?<=\w)('(?:s|m|d|ll|re|ve))\b(?!')", r" \1 "),
        (r"(?<=\w)(n't)\b", r" \1 "),
        (r"(?<=\S)'(?=\s|$)", " ' "),
        (r"\b(can)(not)\b", r"\1 \2"),
        (r"\b(gon|wan)(na)\b", r"\1 \2"),
        (r"\b(got)(ta)\b", r"\1 \2"),
        (r"\b(gim|lem)(me)\b", r"\1 \2"),
    )
)

_WORDS = _SPLITS[-4:]
_PLAIN = re.compile(r"[a-z0-9 ]*[a-z0-9][a-z0-9]\.?")


def tokenize(texts: Sequence[str], *, tokenizer: Tokenizer = "treebank") -> list[str]:
    """Return captions as lower-case words with blanks between them, without punctuation.

    Parameters
    ----------
    texts : sequence of str
    tokenizer : {"treebank", "ptb"}
        ``"treebank"`` follows the rules of the Penn Treebank in Python; ``"ptb"`` is the official Stanford tokenizer, which
        needs Java. On 35,000 captions of COCO they agree on 99.9 %.

    Raises
    ------
    DataError
        Unknown tokenizer.
    ClipbiasError
        ``"ptb"`` without Java.
    """
    if tokenizer not in TOKENIZERS:
        raise DataError(f"there is no tokenizer {tokenizer!r}." + nearest(str(tokenizer), TOKENIZERS))
    if tokenizer == "treebank":
        return [_treebank(text) for text in texts]
    need_java("tokenizer='ptb'", "use tokenizer='treebank', which agrees on 99.9 % of captions")
    module = library("tokenizer.ptbtokenizer")
    # One caption per line: every other kind of line end would shift the rest.
    lines = {place: [{"caption": " ".join(text.split())}] for place, text in enumerate(texts)}
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            found = module.PTBTokenizer().tokenize(lines)
    except OSError as error:
        raise ClipbiasError(
            f"the Stanford tokenizer did not run: {error}. Use tokenizer='treebank'."
        ) from error
    if len(found) != len(lines):
        raise ClipbiasError(f"the Stanford tokenizer gave {len(found)} lines for {len(lines)} captions.")
    return [found[place][0] for place in range(len(lines))]


@functools.lru_cache(maxsize=100_000)
def _treebank(text: str) -> str:
    out = " ".join(text.lower().split())
    # Most captions have nothing to split, and twenty patterns take their time.
    plain = _PLAIN.fullmatch(out) is not None
    out = out.removesuffix(".") if plain else out
    for pattern, to in _WORDS if plain else _SPLITS:
        out = pattern.sub(to, out)
    return " ".join(word for word in out.split() if word not in _DROPPED)


def need_java(what: str, instead: str) -> None:
    """Raise a ClipbiasError that names the way around where there is no Java."""
    if shutil.which("java") is None:
        raise ClipbiasError(
            f"{what} needs Java, and there is no `java` on the path. Install Java 8 or later, or {instead}."
        )


def library(module: str) -> Any:
    """Return a module of pycocoevalcap, or raise a ClipbiasError that says how to get it."""
    try:
        return importlib.import_module(f"pycocoevalcap.{module}")
    except ImportError as error:
        raise ClipbiasError(
            f"caption quality needs the package pycocoevalcap ({error}). Install it: pip install pycocoevalcap."
        ) from error
