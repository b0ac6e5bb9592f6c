"""Numbers and names as a reader wants them: two or three digits, true minus, words for what is missing."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

MINUS, DASH = "\u2212", "\u2013"


def decimals_for(values: Iterable[float]) -> int:
    """Return the decimals that show about three significant digits of the largest value."""
    largest = max((abs(v) for v in values if v is not None and math.isfinite(v)), default=1.0)
    if largest >= 100:
        return 0
    if largest >= 10:
        return 1
    return 2 if largest >= 0.1 else 3 if largest >= 0.01 else 4


def number(value: float | None, decimals: int | None = None, *, sign: bool = False) -> str:
    """Return a number for reading, for example ``0.62``, ``−1.4`` or ``12,400``.

    Parameters
    ----------
    value : float or None
        ``None`` and NaN become an en dash; infinities become ``∞``.
    decimals : int, optional
        Fixed decimals (one choice per column keeps the digits aligned); by size when left out.
    sign : bool
        Show ``+`` before positive numbers.
    """
    if value is None or math.isnan(value):
        return DASH
    if math.isinf(value):
        return ("" if value > 0 else MINUS) + "\u221e"
    if decimals is None:
        decimals = 0 if float(value).is_integer() else decimals_for([value])
    text = f"{abs(value):,.{decimals}f}"
    zero = float(text.replace(",", "")) == 0
    lead = MINUS if value < 0 and not zero else "+" if sign and value > 0 and not zero else ""
    return lead + text


def interval(low: float, high: float, decimals: int | None = None) -> str:
    """Return ``[low, high]`` with the same decimals, or nothing when there is no interval."""
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return ""
    return f"[{number(low, decimals)}, {number(high, decimals)}]"


def p_value(p: float) -> str:
    """Return ``0.031``, or ``< 0.001`` below that."""
    if p is None or math.isnan(p):
        return DASH
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def percent(share: float) -> str:
    """Return a share in [0, 1] as a percentage with at most two significant digits below ten."""
    if share is None or math.isnan(share):
        return DASH
    return f"{100 * share:.1f}\u202f%" if 0 < abs(share) < 0.1 else f"{100 * share:.0f}\u202f%"


def count(n: int | float, noun: str, plural: str | None = None) -> str:
    """Return ``1 model`` or ``12 models``."""
    n = int(n)
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def joined(items: Sequence[str], *, limit: int = 6) -> str:
    """Return ``a, b and c``; more than ``limit`` items end in how many were left out."""
    items = [str(i) for i in items]
    if len(items) > limit:
        return ", ".join(items[:limit]) + f" and {len(items) - limit} more"
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def size(n: float) -> str:
    """Return a parameter count such as ``480 k`` or ``3.0 M``."""
    if n is None or math.isnan(n):
        return DASH
    for unit, step in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if n >= step:
            return f"{n / step:.{1 if n < 10 * step else 0}f}\u202f{unit}"
    return f"{n:.0f}"


def acronyms(text: str) -> str:
    """Return the text with "vqa" in capitals."""
    return re.sub(r"\bvqa\b", "VQA", text)


def adaptation(study: str) -> str:
    """Return ``VQA (answers, frozen tower)`` for an adaptation named by task, head, mode and image set."""
    parts = study.split()
    if len(parts) != 4:
        return study
    task, head, mode, _ = parts
    return f"{capital(task)} ({head}, {mode} tower)"


def capital(text: str) -> str:
    """Return the text with its first letter large and the rest as it was; a leading "vqa" is an abbreviation."""
    if text.lower().startswith("vqa"):
        return "VQA" + text[3:]
    return text[:1].upper() + text[1:]
