"""Errors that are messages to the user: what was wrong, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ClipbiasError(Exception):
    """A problem the user can mend; printed as one message without a traceback.

    ``exit_code`` is what a command ends with: 2 for bad usage, study, data set, column or level.
    """

    exit_code = 2


class DataError(ClipbiasError):
    """An image set, table or probe set is not what it should be."""


class ModelError(ClipbiasError):
    """A model cannot be had or read. One unit of work fails; the others go on (exit code 1)."""

    exit_code = 1


class StatusError(ClipbiasError, ValueError):
    """A value cannot be computed from valid input; the reason goes into the row's ``status``.

    Parameters
    ----------
    status : str
        One lowercase phrase, for example ``"empty group"``.
    reason : str
        The sentence shown to the user.
    """

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the closest known word, else the known words."""
    known = sorted(set(known))
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if close:
        return f" Did you mean {close[0]!r}?"
    shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
    return f" Known: {shown}." if known else ""
