"""CLIPScore and RefCLIPScore by a named judge: quality only, never bias.

A CLIP that judges the captions of the very CLIP under test agrees with itself, and CLIPScore prefers stereotyped captions
(arXiv:2305.14711): so the judge is named, may not be the model under test, and gaps of it are not offered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clipbias.errors import DataError

if TYPE_CHECKING:
    from clipbias.models import Clip

PROMPT = "A photo depicts "
WEIGHT = 2.5


@dataclass(frozen=True, eq=False)
class ClipScore:
    """CLIPScore of captions.

    Attributes
    ----------
    mean : float
    per_image : ndarray (n,)
        2.5 × max(cosine, 0), in [0, 2.5]; for RefCLIPScore in [0, 10/7]. Higher is better.
    judge : str
        The model that judged. Scores of two judges cannot be compared.
    """

    mean: float
    per_image: np.ndarray
    judge: str


def clip_score(
    images: Sequence[bytes], captions: Sequence[str], *, judge: Clip | str, under_test: str | Sequence[str] = (),
    prompt: str = PROMPT,
) -> ClipScore:  # fmt: skip
    """Return CLIPScore.

    Parameters
    ----------
    images : sequence of bytes (n,)
        Encoded images.
    captions : sequence of str (n,)
    judge : Clip or str
        A loaded model, or its spec.
    under_test : str or sequence of str
        Specs of the models whose captions these are.
    prompt : str
        Put before every caption.

    Raises
    ------
    DataError
        Lengths differ, there is nothing, or the judge is a model under test.

    Notes
    -----
    Hessel et al. (2021), arXiv:2104.08718.
    """
    model = _judge(judge, under_test)
    pictures, texts = _embed(model, images, captions, prompt)
    scores = WEIGHT * np.clip((pictures * texts).sum(1), 0, None)
    return ClipScore(float(scores.mean()), scores, str(model.spec))


def ref_clip_score(
    images: Sequence[bytes], captions: Sequence[str], references: Sequence[Sequence[str]], *, judge: Clip | str,
    under_test: str | Sequence[str] = (), prompt: str = PROMPT,
) -> ClipScore:  # fmt: skip
    """Return RefCLIPScore: harmonic mean of CLIPScore and the best cosine with a reference (0 where either is 0).

    Parameters, errors
        As `clip_score`; ``references`` has at least one caption per image.
    """
    if len(references) != len(captions):
        raise DataError(f"{len(captions)} captions but references of {len(references)} images.")
    for place, given in enumerate(references):
        if isinstance(given, str) or len(given) == 0:
            raise DataError(f"image {place} has no list of references.")
    model = _judge(judge, under_test)
    pictures, texts = _embed(model, images, captions, prompt)
    known = _unit(model.encode_texts([prompt + text for given in references for text in given]))
    ends = np.cumsum([len(given) for given in references])
    best = np.array(
        [(known[e - len(g) : e] @ t).max() for t, g, e in zip(texts, references, ends, strict=True)]
    ).clip(0)
    score = WEIGHT * np.clip((pictures * texts).sum(1), 0, None)
    total = score + best
    values = np.divide(2 * score * best, total, out=np.zeros_like(total), where=total > 0)
    return ClipScore(float(values.mean()), values, str(model.spec))


def _judge(judge: Clip | str, under_test: str | Sequence[str]) -> Clip:
    from clipbias.models import load_model, parse_spec

    model = load_model(judge) if isinstance(judge, str) else judge
    for name in [under_test] if isinstance(under_test, str) else under_test:
        if str(parse_spec(name)) == str(model.spec):
            raise DataError(
                f"{name} cannot judge its own captions: CLIPScore would measure how far it agrees with itself. "
                "Choose another judge."
            )
    return model


def _embed(
    model: Clip, images: Sequence[bytes], captions: Sequence[str], prompt: str
) -> tuple[np.ndarray, np.ndarray]:
    if len(images) != len(captions) or not captions:
        raise DataError(
            f"{len(images)} images and {len(captions)} captions: one each, and at least one, are needed."
        )
    return _unit(model.encode_images(list(images))), _unit(model.encode_texts([prompt + c for c in captions]))


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, dtype=np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
