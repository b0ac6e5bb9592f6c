"""What training runs on: parameter groups, the accelerator of a device and precision, and its random state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from clipbias.tasks.heads.base import Head
from clipbias.tasks.recipe import Training


def parameter_groups(head: Head, tower: nn.Module | None, training: Training) -> Iterator[dict[str, Any]]:
    """Yield parameter groups: no decay on vectors (biases, norms), a lower rate for the tower."""
    for module, factor in ((head, 1.0), (tower, training.tower_rate)):
        parameters = [p for p in module.parameters() if p.requires_grad] if module is not None else []
        for decay, chosen in (
            (training.weight_decay, [p for p in parameters if p.ndim > 1]),
            (0.0, [p for p in parameters if p.ndim <= 1]),
        ):
            if chosen:
                yield {"params": chosen, "lr": training.learning_rate * factor, "weight_decay": decay}


def accelerator(device: torch.device, precision: str) -> Any:
    """Return an Accelerator of this device and precision.

    Its state is one per process and remembers the first device and precision; a unit may need another.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    if device.type == "cuda":
        # Plain "cuda" has no index, which set_device refuses.
        torch.cuda.set_device(device.index or 0)
    mixed = {"fp32": "no"}.get(precision, precision) if device.type == "cuda" else "no"
    return Accelerator(cpu=device.type == "cpu", mixed_precision=mixed, device_placement=False)


@contextmanager
def randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch for the time of training, with convolutions that repeat, and put the caller's state back."""
    devices = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        if device.type != "cuda":
            yield
            return
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
            yield
