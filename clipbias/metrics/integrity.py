"""Is this data what it says it is? Gates that embeddings and score matrices pass before a bias is read off them.

A published set of scores of zeros (features that were never computed) once gave one model exactly 100 % of one
class; nothing had failed. So constant, duplicated, zero and badly scaled rows are looked for first, and the
geometry that makes cosines of different models incomparable is reported beside every run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipbias.errors import DataError

OK, WARNING, FAILED = "ok", "warning", "failed"
_SAME = 1e-6  # rows closer than this, relative to their size, are the same row
_SUM = 1e-3  # how far a row of probabilities may be from adding up to 1 (or, in percent, to 100)
_MANY = 0.01  # share of duplicated rows from which on something is likely wrong


@dataclass(frozen=True)
class Finding:
    """One check of stored or computed data.

    Attributes
    ----------
    check : str
        For example ``"zero rows"``.
    status : {"ok", "warning", "failed"}
        ``failed``: numbers measured on this would be wrong.
    value : float
        What was counted or measured.
    reason : str
        What was found, where, and what to do; says what the number means where the status is ok.
    """

    check: str
    status: str
    value: float
    reason: str


def check_ids(ids: Sequence[Any] | None, n: int, wanted: Sequence[str] | None = None) -> list[Finding]:
    """Check that every row has one id of its own, and that the ids wanted are there.

    Parameters
    ----------
    ids : sequence (n,) or None
    n : int
        Rows of the data.
    wanted : sequence of str, optional
        Ids that will be looked up, for example those of an image set.

    Returns
    -------
    list of Finding
    """
    if ids is None or len(ids) != n:
        found = "no ids" if ids is None else f"{len(ids)} ids"
        reason = f"{found} for {n} rows: rows cannot be matched to images. Store one id for each row."
        return [Finding("missing ids", FAILED, float(n - len(ids or ())), reason)]
    names = [str(i) for i in ids]
    blank = sum(name in ("", "nan", "None") for name in names)
    if blank:
        first = next(i for i, name in enumerate(names) if name in ("", "nan", "None"))
        return [Finding("missing ids", FAILED, blank, f"{blank} rows have no id, the first is row {first}.")]
    found_ids = [Finding("missing ids", OK, 0.0, f"{n} rows, each with an id.")]
    unique = set(names)
    if len(unique) < n:
        seen: set[str] = set()
        twice = next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        reason = f"{n - len(unique)} ids stand on more than one row, first {twice!r}: which row is meant?"
        found_ids.append(Finding("duplicated ids", FAILED, n - len(unique), reason))
    if wanted is not None:
        absent = [w for w in wanted if w not in unique]
        if absent:
            status = FAILED if len(absent) == len(wanted) else WARNING
            reason = (
                f"{len(absent)} of {len(wanted)} images have no row, first {absent[0]!r}; they are left out."
            )
            found_ids.append(Finding("images without a row", status, len(absent), reason))
    return found_ids


def check_scores(
    scores: Any, names: Sequence[str] = (), *, probabilities: bool | None = None
) -> list[Finding]:
    """Check a score matrix.

    Parameters
    ----------
    scores : array (n, P)
        One row per image, one column per probe.
    names : sequence of str, optional
        Names of the columns, for messages.
    probabilities : bool, optional
        Whether rows should add up to 1 (or to 100, in percent). By default they should where no value is
        negative and at least half of the rows do so.

    Returns
    -------
    list of Finding
        Not finite, zero rows, rows that do not add up, constant columns, constant predictions, duplicated rows.

    Raises
    ------
    DataError
        Not two-dimensional, or empty.
    """
    x = _matrix(scores, "scores")
    found = _not_finite(x)
    if found:
        return found
    found = [_zero_rows(x)]
    total = x.sum(1)
    unit = 100.0 if abs(np.median(total) - 100) < abs(np.median(total) - 1) else 1.0
    off = np.abs(total - unit) > _SUM * unit
    if probabilities or (
        probabilities is None and (x >= 0).all() and (~off).mean() >= 0.5 and x.shape[1] > 1
    ):
        if off.any():
            first = int(np.argmax(off))
            reason = (
                f"{int(off.sum())} of {len(x)} rows do not add up to {unit:g}, first row {first} "
                f"({total[first]:.4g}): part of the columns or of the rows was lost."
            )
            found.append(Finding("row sums", FAILED, float(off.sum()), reason))
        else:
            found.append(Finding("row sums", OK, 0.0, f"every row adds up to {unit:g}."))
    flat = np.ptp(x, axis=0) <= _SAME * np.maximum(np.abs(x).max(0), 1e-12)
    if flat.any() and len(x) > 1:
        first = int(np.argmax(flat))
        name = repr(names[first]) if len(names) > first else str(first)
        reason = f"{int(flat.sum())} of {x.shape[1]} columns are constant, first {name}: they rank nothing."
        found.append(
            Finding("constant columns", FAILED if flat.all() else WARNING, float(flat.sum()), reason)
        )
    if x.shape[1] > 1:
        share = np.bincount(x.argmax(1), minlength=x.shape[1]) / len(x)
        top = int(share.argmax())
        name = repr(names[top]) if len(names) > top else f"column {top}"
        status = WARNING if share[top] > 0.999 else OK
        reason = f"{share[top]:.1%} of the rows have their highest score in {name}" + (
            ": is the model's output the same for every image?" if status == WARNING else "."
        )
        found.append(Finding("largest predicted share", status, float(share[top]), reason))
    return [*found, _duplicates(x)]


def check_embeddings(embeddings: Any, what: str = "embeddings") -> list[Finding]:
    """Check embeddings: not finite, zero, constant and duplicated rows, dead dimensions.

    Parameters
    ----------
    embeddings : array (n, d)
    what : str
        For messages.

    Raises
    ------
    DataError
        Not two-dimensional, or empty.
    """
    x = _matrix(embeddings, what)
    found = _not_finite(x)
    if found:
        return found
    found = [_zero_rows(x), _duplicates(x)]
    dead = np.ptp(x, axis=0) <= 1e-12
    if dead.any() and len(x) > 1:
        status = FAILED if dead.all() else WARNING
        reason = f"{int(dead.sum())} of {x.shape[1]} dimensions are constant" + (
            f": all {what} are the same." if dead.all() else "."
        )
        found.append(Finding("constant dimensions", status, float(dead.sum()), reason))
    return found


def anisotropy(embeddings: Any) -> float:
    """Return the mean cosine between two different rows.

    Parameters
    ----------
    embeddings : array (n, d), n > 1

    Returns
    -------
    float
        In [-1/(n-1), 1]. 0: directions spread evenly; near 1: all rows point one way (a narrow cone), and a
        cosine of .8 is then nothing special. Ethayarajh (2019), doi:10.18653/v1/D19-1006.
    """
    x = _unit(embeddings)
    n = len(x)
    if n < 2:
        raise DataError("anisotropy needs at least two rows.")
    return float((np.square(x.sum(0)).sum() - n) / (n * (n - 1)))


def modality_gap(images: Any, texts: Any) -> float:
    """Return the distance between the mean image and the mean text embedding, rows scaled to length 1.

    Returns
    -------
    float
        In [0, 2]. 0: both modalities share their centre. Liang et al. (2022), arXiv:2203.02053.
    """
    return float(np.linalg.norm(_unit(images).mean(0) - _unit(texts).mean(0)))


def geometry(images: Any, texts: Any = None) -> list[Finding]:
    """Report what makes cosines of different models incomparable; never fails.

    Returns
    -------
    list of Finding
        Anisotropy of images (and texts), modality gap, mean and spread of the cosines between both.
    """
    found = []
    x = _unit(images)
    note = "Cosines of models that differ here are on different scales: compare ranks or z values."
    if len(x) > 1:
        found.append(Finding("anisotropy of images", OK, anisotropy(x), "mean cosine of two images. " + note))
    if texts is None or len(texts) == 0:
        return found
    t = _unit(texts)
    if len(t) > 1:
        found.append(Finding("anisotropy of texts", OK, anisotropy(t), "mean cosine of two texts. " + note))
    cosine = x @ t.T
    found += [
        Finding(
            "modality gap", OK, modality_gap(x, t), "distance of the mean image from the mean text. " + note
        ),
        Finding("mean cosine", OK, float(cosine.mean()), "of an image with a text. " + note),
        Finding("sd of cosines", OK, float(cosine.std()), "of an image with a text. " + note),
    ]
    return found


def gate(findings: Iterable[Finding], where: str) -> None:
    """Raise if a check has failed.

    Raises
    ------
    DataError
        Names every failed check of ``where``.
    """
    failed = [f for f in findings if f.status == FAILED]
    if failed:
        raise DataError(f"{where}: " + " ".join(f"{f.check}: {f.reason}" for f in failed))


def _matrix(values: Any, what: str) -> np.ndarray:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 2 or x.size == 0:
        raise DataError(f"{what} need one row per item and at least one column; these have shape {x.shape}.")
    return x


def _unit(values: Any) -> np.ndarray:
    x = _matrix(values, "embeddings")
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(length > 0, length, 1.0)


def _not_finite(x: np.ndarray) -> list[Finding]:
    bad = ~np.isfinite(x).all(1)
    if not bad.any():
        return []
    reason = (
        f"{int(bad.sum())} of {len(x)} rows hold NaN or infinite numbers, first row {int(np.argmax(bad))}."
    )
    return [Finding("not finite", FAILED, float(bad.sum()), reason)]


def _zero_rows(x: np.ndarray) -> Finding:
    zero = (x == 0).all(1)
    if not zero.any():
        return Finding("zero rows", OK, 0.0, "no row is all zero.")
    reason = (
        f"{int(zero.sum())} of {len(x)} rows are all zero, first row {int(np.argmax(zero))}: "
        "features that were never computed look like this."
    )
    return Finding("zero rows", FAILED, float(zero.sum()), reason)


def _duplicates(x: np.ndarray) -> Finding:
    scale = np.abs(x).max() or 1.0
    _, first, times = np.unique(np.round(x / (scale * _SAME)), axis=0, return_index=True, return_counts=True)
    again = int((times - 1).sum())
    if not again:
        return Finding("duplicated rows", OK, 0.0, "all rows differ.")
    if len(times) == 1 and len(x) > 1:
        return Finding("duplicated rows", FAILED, again, f"all {len(x)} rows are the same.")
    row = int(first[times.argmax()])
    reason = f"{again} of {len(x)} rows repeat another one; row {row} stands {int(times.max())} times."
    return Finding("duplicated rows", WARNING if again > _MANY * len(x) else OK, again, reason)
