"""Work that test processes can import."""

from __future__ import annotations

import os
import signal
import time

import numpy as np

from clipbias.errors import DataError, ModelError


def square(unit: int) -> int:
    return unit * unit


def slow_first(unit: int) -> int:
    """The first units finish last."""
    time.sleep(0.3 if unit == 0 else 0)
    return unit


def mixed(unit: str) -> str:
    """Do what the unit says."""
    if unit == "data":
        raise DataError("image set 'x' has no column 'gendr'. Did you mean 'gender'?")
    if unit == "model":
        raise ModelError("no such model")
    if unit == "bug":
        return {}["missing"]
    if unit == "exit":
        raise SystemExit(7)
    return f"did {unit}"


def deadly(unit: str) -> str:
    if unit == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if unit == "leave":
        os._exit(3)
    return f"did {unit}"


def unsendable(unit: int) -> object:
    return (lambda: unit) if unit == 1 else unit


class Unreadable:
    """Pickles, and cannot be read back."""

    def __reduce__(self):
        return (_refuse, ())


def _refuse():
    raise ValueError("refused")


def unreadable(unit: int) -> object:
    return Unreadable() if unit == 1 else unit


def threads(unit: int) -> tuple[str, int, int]:
    import torch

    return os.environ["OMP_NUM_THREADS"], torch.get_num_threads(), os.getpid()


def embed(unit: int) -> np.ndarray:
    """A small matrix product and a nonlinearity, as a model has."""
    import torch

    torch.manual_seed(unit)
    layer = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.GELU(), torch.nn.Linear(64, 8))
    with torch.inference_mode():
        return layer(torch.randn(32, 64)).numpy()


def sleep(unit: float) -> None:
    time.sleep(unit)
