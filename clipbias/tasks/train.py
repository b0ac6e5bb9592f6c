"""The one training: every head, every mode, every plan, the same seed and data order for every CLIP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from clipbias.tasks.batches import Material
from clipbias.tasks.checkpoint import forget
from clipbias.tasks.heads.base import Head
from clipbias.tasks.loop import Loop
from clipbias.tasks.optimizing import randomness
from clipbias.tasks.plan import Plan
from clipbias.tasks.recipe import Training


@dataclass(frozen=True, eq=False)
class Refit:
    """What a plan's head refit is given after the last stage."""

    head: Head
    train: Material
    val: Material
    seed: int


@dataclass
class Trained:
    """What came of training; the best weights are in the modules given.

    Attributes
    ----------
    steps : int
        Steps taken.
    best_step : int
        Step of the weights kept.
    val_loss : float
        Their mean loss on the validation examples, at least 0.
    parameters : int
        Trained parameters.
    seconds : float
        Over all attempts.
    log : DataFrame
        ``step, stage, loss, val_loss, learning_rate, seconds``, a row per evaluation.
    resumed : int
        Step at which a stopped run was taken up, 0 for none.
    """

    steps: int
    best_step: int
    val_loss: float
    parameters: int
    seconds: float
    log: pd.DataFrame
    resumed: int = 0

    def after(self, first: Trained) -> Trained:
        """Return both parts of a training as one: its steps, seconds and log are those of both."""
        log = self.log.assign(
            step=self.log["step"] + first.steps, seconds=self.log["seconds"] + first.seconds
        )
        return replace(
            self, steps=self.steps + first.steps, best_step=self.best_step + first.steps, seconds=self.seconds + first.seconds,
            log=pd.concat([first.log.assign(stage="head: " + first.log["stage"]), log], ignore_index=True),
            resumed=first.steps + self.resumed if self.resumed else first.resumed,
        )  # fmt: skip


def train(
    head: Head,
    stages: Sequence[Material],
    val: Material,
    *,
    plan: Plan | None = None,
    training: Training | None = None,
    tower: nn.Module | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    precision: str = "fp32",
    checkpoint: Path | None = None,
    key: str = "",
    keep: bool = False,
    on_step: Callable[[int, int], None] | None = None,
) -> Trained:
    """Train a head, and its tower where it has one to train.

    Parameters
    ----------
    head : Head
    stages : sequence of Material
        Training examples of each stage of the plan.
    val : Material
    plan : Plan, optional
        Default: plain training.
    training : Training, optional
    tower : Module, optional
        Its parameters that require gradients are trained too.
    seed : int
        Of the data order and of everything drawn; the caller's random state is left as it was.
    device, precision : str
        Mixed precision is used on a GPU only.
    checkpoint : path, optional
        File that a stopped run is taken up from, at the exact step; removed at the end.
    keep : bool
        Leave the file there: the same call again then gives the same result without training.
    key : str
        Names all that the result depends on; a checkpoint of another key is not used.
    on_step : callable, optional
        ``on_step(steps done, steps in all)``.

    Returns
    -------
    Trained

    Raises
    ------
    ClipbiasError
        The loss is not finite, the head cannot do what the plan asks for, or the disk is full.
    """
    plan, training = plan or Plan(), training or Training()
    if len(stages) != len(plan.stages):
        raise ValueError(f"{len(plan.stages)} stages need as many materials, not {len(stages)}")
    device = torch.device(device)
    with randomness(seed, device):
        loop = Loop(head, tower, stages, val, plan, training, seed, device, precision)
        resumed = loop.resume(checkpoint, key)
        loop.run(checkpoint, key, on_step or (lambda done, of: None), keep=keep)
        if plan.refit is not None:
            plan.refit(Refit(head, stages[-1], val, seed))
    if checkpoint is not None and not keep:
        forget(checkpoint)
    at = loop.at
    columns = ["step", "stage", "loss", "val_loss", "learning_rate", "seconds"]
    return Trained(
        at.step, at.best_step, at.best, sum(p.numel() for p in loop.trained), at.seconds,
        pd.DataFrame(at.log, columns=columns), resumed,
    )  # fmt: skip
