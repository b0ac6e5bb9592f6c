"""The steps of one training: modules, optimizer, position, and what a stopped run is taken up from."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clipbias.errors import ClipbiasError
from clipbias.tasks.batches import Material, batch_of
from clipbias.tasks.checkpoint import load_progress, save_progress
from clipbias.tasks.heads.base import Features, Head, TextBatch
from clipbias.tasks.optimizing import accelerator, parameter_groups
from clipbias.tasks.plan import Batch, Plan, Stage
from clipbias.tasks.recipe import Training

_EVAL_BATCH = 512


@dataclass
class Progress:
    """Where training stands: everything that a stopped run needs besides modules and optimizer."""

    step: int = 0
    best_step: int = 0
    best: float = math.inf
    waited: int = 0
    total: float = 0.0
    count: int = 0
    seconds: float = 0.0
    over: bool = False
    log: list[dict] = field(default_factory=list)


def mean_loss(head: Head, material: Material) -> float:
    """Return the mean loss over examples, without gradients and with dropout off."""
    head.eval()
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(material), _EVAL_BATCH):
            index = np.arange(start, min(start + _EVAL_BATCH, len(material)))
            total += float(head.loss(material.features(index), material.texts(index))) * len(index)
    return total / len(material)


class Loop:
    """Modules, optimizer and position of one training."""

    def __init__(
        self, head: Head, tower: nn.Module | None, stages: Sequence[Material], val: Material, plan: Plan,
        training: Training, seed: int, device: torch.device, precision: str,
    ) -> None:  # fmt: skip
        self.head, self.tower, self.stages, self.val = head, tower, stages, val
        self.plan, self.training, self.seed = plan, training, seed
        self.accelerator = accelerator(device, precision)
        self.budget = plan.steps(training.steps)
        self.entries = [stage.entries(len(m)) for stage, m in zip(plan.stages, stages, strict=True)]
        self.images = [
            m.rows[index] if training.by_image else None
            for m, (index, _) in zip(stages, self.entries, strict=True)
        ]
        self.total = sum(self.budget)
        self.every = max(1, math.ceil(self.total / training.evaluations))
        self.modules: dict[str, nn.Module] = {"head": head} | ({} if tower is None else {"tower": tower})
        groups = list(parameter_groups(head, tower, training))
        self.trained = [p for group in groups for p in group["params"]]
        if not self.trained:
            raise ClipbiasError(
                "there is nothing to train: no parameter of the head or the tower asks for gradients."
            )
        self.prefixed = {id(p): name for name, p in head.named_parameters()}
        fused = device.type == "cpu"
        optimizer = torch.optim.AdamW(groups, lr=training.learning_rate, fused=fused)
        self.optimizer: Any = self.accelerator.prepare_optimizer(optimizer, device_placement=False)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        self.at = Progress()
        self.best: dict[str, Tensor] = {}

    def _rate(self, step: int) -> float:
        """Warm-up, then a cosine to zero."""
        warm = max(1, round(self.training.warmup * self.total))
        if step < warm:
            return (step + 1) / (warm + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, self.total - warm)))

    def run(
        self, checkpoint: Path | None, key: str, say: Callable[[int, int], None], *, keep: bool = False
    ) -> None:
        """Train until the budget is spent or the validation loss has stopped falling; keep the best weights."""
        began, saved, before = time.monotonic(), time.monotonic(), self.at.seconds
        while self.at.step < self.total and not self.at.over:
            self._step()
            self.at.seconds = before + time.monotonic() - began
            if self.at.step % self.every == 0 or self.at.step == self.total:
                self._evaluate()
            late = time.monotonic() - saved >= self.training.checkpoint_seconds
            if checkpoint is not None and late and self.at.step < self.total:
                save_progress(checkpoint, key, self._state())
                saved = time.monotonic()
            say(self.at.step, self.total)
        if checkpoint is not None and keep:
            save_progress(checkpoint, key, self._state())
        self._restore(self.best)
        for parameter in self.trained:  # a stage may have trained some of them only
            parameter.requires_grad_(True)
        for module in self.modules.values():
            module.eval()

    def _step(self) -> None:
        place, within = self._stage(self.at.step)
        stage, material = self.plan.stages[place], self.stages[place]
        index, weights = self.entries[place]
        entry = batch_of(
            np.arange(len(index)), within, self.training.batch_size, [self.seed, place], self.images[place]
        )
        examples = index[entry]
        for module in self.modules.values():
            module.train()
        self._choose(stage)
        with self.accelerator.autocast():
            features = material.features(examples)
            given = torch.as_tensor(weights[entry], dtype=torch.float32, device=features.pooled.device)
            rng = np.random.default_rng([self.seed, 7, self.at.step])
            batch = Batch(examples, given, self.at.step, rng, material.features)
            if stage.features is not None:
                features = stage.features(features, batch)
            loss = self._loss(stage, features, material.texts(examples), batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ClipbiasError(
                f"the loss became {value} at step {self.at.step}: lower learning_rate, or use --precision fp32."
            )
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.trained, self.training.clip)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()
        self.at.step += 1
        self.at.total += value
        self.at.count += 1

    def _loss(self, stage: Stage, features: Features, texts: TextBatch, batch: Batch) -> Tensor:
        if stage.loss is None and stage.weights is None:
            return self.head.loss(features, texts)
        each = getattr(self.head, "losses", None)
        if each is None:
            raise ClipbiasError(
                f"stage {stage.name!r} weighs examples, which needs a loss per example; "
                f"{type(self.head).__name__} gives none."
            )
        losses = each(features, texts)
        return (losses * batch.weights).mean() if stage.loss is None else stage.loss(losses, batch)

    def _stage(self, step: int) -> tuple[int, int]:
        """Return the stage of a step and the step within it."""
        for place, steps in enumerate(self.budget):
            if step < steps:
                return place, step
            step -= steps
        raise IndexError(step)

    def _choose(self, stage: Stage) -> None:
        """Let a stage train the parameters it names."""
        if len(self.plan.stages) == 1 and not stage.trainable:
            return
        for parameter in self.trained:
            name = self.prefixed.get(id(parameter), "tower.")
            parameter.requires_grad_(not stage.trainable or name.startswith(stage.trainable))

    def _evaluate(self) -> None:
        for module in self.modules.values():
            module.eval()
        with self.accelerator.autocast():
            value = mean_loss(self.head, self.val)
        place, _ = self._stage(self.at.step - 1)
        self.at.log.append(
            {"step": self.at.step, "stage": self.plan.stages[place].name, "loss": self.at.total / self.at.count,
             "val_loss": value, "learning_rate": self.scheduler.get_last_lr()[0], "seconds": self.at.seconds}
        )  # fmt: skip
        self.at.total, self.at.count = 0.0, 0
        last = place == len(self.budget) - 1
        if not last:
            return  # an earlier stage runs its course: it may learn something else than the validation examples
        if value < self.at.best or not self.best:
            self.at.best, self.at.best_step, self.at.waited = value, self.at.step, 0
            self.best = {name: tensor.detach().clone() for name, tensor in self._weights().items()}
        else:
            self.at.waited += 1
            self.at.over = self.at.waited >= self.training.patience

    # -- what is kept -----------------------------------------------------------------------------

    def _weights(self) -> dict[str, Tensor]:
        return {
            f"{part}.{name}": tensor
            for part, module in self.modules.items()
            for name, tensor in module.state_dict().items()
        }

    def _restore(self, weights: Mapping[str, Tensor]) -> None:
        for part, module in self.modules.items():
            mine = {n.removeprefix(f"{part}."): t for n, t in weights.items() if n.startswith(f"{part}.")}
            module.load_state_dict(mine)

    def _state(self) -> dict[str, Any]:
        state = {
            "progress": vars(self.at), "weights": self._weights(), "best": self.best,
            "optimizer": self.optimizer.state_dict(), "scheduler": self.scheduler.state_dict(), "random": torch.get_rng_state(),
            "hooks": [_state_of(stage.loss) for stage in self.plan.stages],
        }  # fmt: skip
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            state["random_cuda"] = torch.cuda.get_rng_state_all()
        if self.accelerator.scaler is not None:
            state["scaler"] = self.accelerator.scaler.state_dict()
        return state

    def resume(self, checkpoint: Path | None, key: str) -> int:
        """Take up a stopped run; return its step."""
        state = load_progress(checkpoint, key) if checkpoint is not None else None
        if state is None:
            return 0
        self.at, self.best = Progress(**state["progress"]), state["best"]
        self._restore(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        torch.set_rng_state(state["random"])
        if "random_cuda" in state:
            torch.cuda.set_rng_state_all(state["random_cuda"])
        if "scaler" in state and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        for stage, kept in zip(self.plan.stages, state["hooks"], strict=True):
            if kept is not None and stage.loss is not None:
                stage.loss.load_state_dict(kept)  # type: ignore[attr-defined]
        return self.at.step


def _state_of(hook: object) -> Any:
    state = getattr(hook, "state_dict", None)
    return state() if state is not None else None
