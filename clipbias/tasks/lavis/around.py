"""What surrounds LAVIS's loops: seeds, quiet, and errors that name the file."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from clipbias.errors import DataError

_log = logging.getLogger("clipbias.lavis")


class _Lines:
    """A stream that logs what is printed to it."""

    def write(self, text: str) -> int:
        if text.strip():
            _log.debug(text.rstrip())
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Send what LAVIS prints to the log ``clipbias.lavis``, and drop warnings about names that torch has renamed."""
    with contextlib.redirect_stdout(_Lines()), warnings.catch_warnings():  # type: ignore[type-var]
        warnings.simplefilter("ignore", FutureWarning)
        # Pinned memory and autocast of a GPU that is not there.
        warnings.filterwarnings("ignore", "User provided device_type of 'cuda'")
        yield


@contextlib.contextmanager
def images_named() -> Iterator[None]:
    """Say which file is broken, where LAVIS would stop with Pillow's error."""
    try:
        yield
    except OSError as problem:
        raise DataError(f"an image cannot be read: {problem}. Leave it out of the image set.") from problem


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch for a while, with convolutions that repeat, and put the caller's state back."""
    devices = [device.index or 0] if device.type == "cuda" else []
    flags: Any = contextlib.nullcontext()
    if devices:
        flags = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
    with torch.random.fork_rng(devices=devices), flags:
        torch.manual_seed(seed)
        yield
