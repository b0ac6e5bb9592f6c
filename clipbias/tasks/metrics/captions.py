"""Quality of captions: BLEU, ROUGE-L, CIDEr-D and METEOR on pycocoevalcap, without Java except where it is asked for.

Scores of parts of a set come from the per-image scores of the whole set: CIDEr weighs words by how rare they are among all
references, and a group judged by its own rarities is another metric (the sign of a gap can flip).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from clipbias.errors import ClipbiasError, DataError, StatusError, nearest
from clipbias.tasks.metrics.tokens import Tokenizer, library, need_java, tokenize

ORDERS = 4


@dataclass(frozen=True, eq=False)
class CaptionQuality:
    """Scores of captions.

    Attributes
    ----------
    mean : float
        The score of the set as it is usually reported (BLEU: of the corpus, the others: mean over images).
    per_image : dict
        Image id to its score.
    status, reason : str
        ``"ok"``, or why the number says nothing.
    tokenizer : str
    """

    mean: float
    per_image: dict[Any, float] = field(repr=False)
    status: str = "ok"
    reason: str = ""
    tokenizer: str = "treebank"


@dataclass(frozen=True, eq=False)
class Bleu(CaptionQuality):
    """BLEU of a set of captions.

    Attributes
    ----------
    orders : tuple of float
        BLEU-1 to BLEU-4 of the corpus; ``mean`` is the last one asked for.
    counts : ndarray (n, 10)
        Per image, in the order of ``per_image``: matching n-grams (4), n-grams (4), length, closest reference length. Sums
        of rows give the corpus score of any part: `corpus_bleu`.
    """

    orders: tuple[float, ...] = ()
    counts: np.ndarray = field(default_factory=lambda: np.zeros((0, 10)), repr=False)


Pairs = tuple[dict[Any, list[str]], dict[Any, list[str]]]


def _tokenized(
    hypotheses: Mapping[Any, str], references: Mapping[Any, Sequence[str]], tokenizer: Tokenizer
) -> Pairs:
    """Check captions and references; return references and hypotheses as the scorers take them."""
    if not hypotheses:
        raise DataError("there are no captions to score.")
    missing = [key for key in hypotheses if key not in references]
    if missing:
        raise DataError(f"{len(missing)} captions have no references, the first is of image {missing[0]!r}.")
    silent = [key for key in references if key not in hypotheses]
    if silent:
        raise DataError(
            f"{len(silent)} of {len(references)} images have no caption, the first is {silent[0]!r}. "
            "Caption them, or leave their references out."
        )
    keys, texts, owners = list(hypotheses), [], []
    for key in keys:
        given = references[key]
        if isinstance(given, str):
            raise DataError(f"the references of image {key!r} are one string; give a list of captions.")
        for text in (hypotheses[key], *given):
            if not isinstance(text, str):
                raise DataError(f"a caption of image {key!r} is {text!r}, which is no text.")
            texts.append(text)
            owners.append(key)
    res: dict[Any, list[str]] = {key: [] for key in keys}
    gts: dict[Any, list[str]] = {key: [] for key in keys}
    for key, text in zip(owners, tokenize(texts, tokenizer=tokenizer), strict=True):
        if not res[key]:
            res[key].append(text)
        elif text:
            gts[key].append(text)
    bare = [key for key in keys if not gts[key]]
    if bare:
        raise DataError(f"{len(bare)} images have no reference with a word in it, the first: {bare[0]!r}.")
    return gts, res


def bleu(
    hypotheses: Mapping[Any, str],
    references: Mapping[Any, Sequence[str]],
    *,
    n: int = 4,
    tokenizer: Tokenizer = "treebank",
) -> Bleu:
    """Return BLEU-1 to BLEU-4 of captions.

    Parameters
    ----------
    hypotheses : mapping of id to str
    references : mapping of id to list of str
        Of exactly these images. References without a word are left out.
    n : int
        Which BLEU ``mean`` and ``per_image`` are, 1 to 4.
    tokenizer : {"treebank", "ptb"}

    Returns
    -------
    Bleu
        In [0, 1], higher is better. ``mean`` is of the corpus (counts added up, then the formula); the scores per image are
        smoothed, and their mean is another number.

    Raises
    ------
    DataError
        A caption without references, references without a caption, no words in the references, something that is no text.

    Notes
    -----
    Papineni et al. (2002), DOI 10.3115/1073083.1073135; closest reference length.
    """
    if n not in range(1, ORDERS + 1):
        raise DataError(f"n={n}: BLEU-1 to BLEU-4 are there.")
    return _bleu(_tokenized(hypotheses, references, tokenizer), n, tokenizer)


def _bleu(pairs: Pairs, n: int, tokenizer: Tokenizer) -> Bleu:
    gts, res = pairs
    scorer = library("bleu.bleu_scorer").BleuScorer(n=ORDERS)
    for key, refs in gts.items():
        scorer += (res[key][0], refs)
    corpus, per_image = scorer.compute_score(option="closest", verbose=0)
    counts = np.array(
        [
            [
                *c["correct"],
                *c["guess"],
                c["testlen"],
                min((abs(length - c["testlen"]), length) for length in r[0])[1],
            ]
            for c, r in zip(scorer.ctest, scorer.crefs, strict=True)
        ],
        dtype=float,
    )
    scores = dict(zip(gts, map(float, per_image[n - 1]), strict=True))
    return Bleu(
        float(corpus[n - 1]), scores, tokenizer=tokenizer, orders=tuple(map(float, corpus)), counts=counts
    )


def corpus_bleu(counts: np.ndarray, *, n: int = 4) -> np.ndarray:
    """Return BLEU-n from sums of `Bleu.counts`, shape (..., 10) to (...)."""
    c = np.asarray(counts, dtype=float)
    tiny, small = 1e-15, 1e-9  # pycocoevalcap's, so that no n-gram in common is not log 0
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (c[..., :n] + tiny) / (c[..., ORDERS : ORDERS + n] + small)
        score = np.exp(np.log(share).mean(-1))
        ratio = (c[..., 8] + tiny) / (c[..., 9] + small)
        return np.where(c[..., 9] > 0, score * np.where(ratio < 1, np.exp(1 - 1 / ratio), 1.0), np.nan)


def _score(scorer: Any, pairs: Pairs, tokenizer: Tokenizer) -> CaptionQuality:
    gts, res = pairs
    mean, per_image = scorer.compute_score(gts, res)
    return CaptionQuality(
        float(mean), dict(zip(gts, map(float, per_image), strict=True)), tokenizer=tokenizer
    )


def rouge_l(
    hypotheses: Mapping[Any, str],
    references: Mapping[Any, Sequence[str]],
    *,
    tokenizer: Tokenizer = "treebank",
) -> CaptionQuality:
    """Return ROUGE-L of captions (β = 1.2; best precision and best recall over the references).

    Parameters, errors
        As `bleu`.

    Returns
    -------
    CaptionQuality
        In [0, 1], higher is better; ``mean`` over images. An empty caption scores 0.

    Notes
    -----
    Lin (2004), https://aclanthology.org/W04-1013.
    """
    return _rouge(_tokenized(hypotheses, references, tokenizer), tokenizer)


def _rouge(pairs: Pairs, tokenizer: Tokenizer) -> CaptionQuality:
    return _score(library("rouge.rouge").Rouge(), pairs, tokenizer)


def cider(
    hypotheses: Mapping[Any, str],
    references: Mapping[Any, Sequence[str]],
    *,
    tokenizer: Tokenizer = "treebank",
) -> CaptionQuality:
    """Return CIDEr-D of captions; words are weighed by how rare they are among the references of *this* set.

    For parts of a set score the whole set and average ``per_image`` over the part; never call this on a group.

    Parameters, errors
        As `bleu`.

    Returns
    -------
    CaptionQuality
        In [0, 10], higher is better; ``mean`` over images. One image has status ``"one image"`` and scores 0: no word is
        rare among one.

    Notes
    -----
    Vedantam et al. (2015), arXiv:1411.5726; CIDEr-D with σ = 6.
    """
    found = _cider(_tokenized(hypotheses, references, tokenizer), tokenizer)
    if found.status != "ok":
        warnings.warn(found.reason, stacklevel=2)
    return found


def _cider(pairs: Pairs, tokenizer: Tokenizer) -> CaptionQuality:
    found = _score(library("cider.cider").Cider(), pairs, tokenizer)
    if len(found.per_image) > 1:
        return found
    reason = "CIDEr of one image is 0 whatever the caption: no word is rarer than another among one image's references."
    return CaptionQuality(found.mean, found.per_image, "one image", reason, tokenizer)


def meteor(
    hypotheses: Mapping[Any, str],
    references: Mapping[Any, Sequence[str]],
    *,
    tokenizer: Tokenizer = "treebank",
) -> CaptionQuality:
    """Return METEOR 1.5 of captions. Needs Java; about a minute for 1,500 images.

    Parameters, errors
        As `bleu`; ClipbiasError without Java.

    Returns
    -------
    CaptionQuality
        In [0, 1], higher is better; ``mean`` is METEOR of the set, not the mean over images.

    Notes
    -----
    Denkowski and Lavie (2014), DOI 10.3115/v1/W14-3348.
    """
    return _meteor(_tokenized(hypotheses, references, tokenizer), tokenizer)


def _meteor(pairs: Pairs, tokenizer: Tokenizer) -> CaptionQuality:
    need_java("METEOR", "report CIDEr, BLEU and ROUGE-L, which need none")
    try:
        return _score(library("meteor.meteor").Meteor(), pairs, tokenizer)
    except (OSError, ValueError) as error:
        raise ClipbiasError(
            f"METEOR did not run: {error}. Is this Java 8 or later with 2 GB to spare?"
        ) from error


def group_means(per_image: Mapping[Any, float], groups: Mapping[Any, Any]) -> dict[Any, float]:
    """Return the mean score of each group's images, in sorted order of the groups.

    Parameters
    ----------
    per_image : mapping of id to float
        ``cider(...).per_image`` and the like, of the whole set.
    groups : mapping of id to label
        Images that are not in it are left out.
    """
    parts: dict[Any, list[float]] = {}
    for key, score in per_image.items():
        if key in groups:
            parts.setdefault(groups[key], []).append(score)
    if not parts:
        raise StatusError("empty group", "no scored image belongs to a group.")
    return {group: float(np.mean(parts[group])) for group in sorted(parts, key=str)}


def quality(
    hypotheses: Mapping[Any, str],
    references: Mapping[Any, Sequence[str]],
    *,
    metrics: Sequence[str] = ("bleu4", "rouge_l", "cider"),
    tokenizer: Tokenizer = "treebank",
) -> dict[str, CaptionQuality]:
    """Return several qualities by name (``bleu4, rouge_l, cider, meteor``), tokenizing once; no warning for one image."""
    known: dict[str, Callable[[Pairs], CaptionQuality]] = {
        "bleu4": lambda pairs: _bleu(pairs, ORDERS, tokenizer), "rouge_l": lambda pairs: _rouge(pairs, tokenizer),
        "cider": lambda pairs: _cider(pairs, tokenizer), "meteor": lambda pairs: _meteor(pairs, tokenizer),
    }  # fmt: skip
    for name in metrics:
        if name not in known:
            raise DataError(f"there is no caption quality {name!r}." + nearest(name, known))
    pairs = _tokenized(hypotheses, references, tokenizer)
    return {name: known[name](pairs) for name in metrics}
