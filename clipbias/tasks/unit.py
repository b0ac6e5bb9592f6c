"""One unit of adaptation: a CLIP, a task, a head, a mode, an intervention, a seed; in, and tables and files out."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from clipbias.errors import ClipbiasError
from clipbias.tasks.recipe import TaskRecipe

if TYPE_CHECKING:
    from clipbias.tasks.data import TaskData
    from clipbias.tasks.plan import Plan

KEY = ("model", "task", "head", "mode", "intervention", "seed")
INTERVENTIONS = "clipbias.tasks.interventions"


@dataclass(frozen=True)
class Hooks:
    """What a unit calls that lies above the tasks: functions of modules, so that they travel to other processes.

    Attributes
    ----------
    intrinsic : callable
        ``intrinsic(clip, adapted, key=..., max_bad=...) -> rows of the table intrinsic``.
    facts : callable
        ``facts(clip) -> row of the table models``.
    """

    intrinsic: Callable[..., pd.DataFrame]
    facts: Callable[..., dict[str, object]]


@dataclass(frozen=True)
class AdaptUnit:
    """What one worker is asked for; it can be pickled.

    Attributes
    ----------
    model : str
        Canonical model spec.
    recipe : TaskRecipe
    head : str
    mode : {"frozen", "lora", "full", "blind"}
        ``"blind"`` is the image-blind baseline: frozen features of a black image.
    intervention : str
        ``"NAME"`` or ``"NAME:key=value,..."``; empty for plain training.
    seed : int
    states : {"post", "second_seed", ""}
        As what the states after training are kept; empty for not at all.
    out : str
        The run folder, an absolute path: predictions, states and checkpoints are written there.
    device, precision, reference : str
        As in ``measure``.
    max_bad : float
    hooks : Hooks, optional
    baseline : str
        Model that the image-blind baseline is trained with, see `clipbias.tasks.baseline`; empty for this one.
    blind : (str, float), optional
        Key of the baseline and its quality, which competence is judged by.
    done : str
        Key of this unit in the run folder, empty if it is not there.
    """

    model: str
    recipe: TaskRecipe
    head: str
    mode: str = "frozen"
    intervention: str = ""
    seed: int = 0
    states: str = "post"
    out: str = ""
    device: str = "cpu"
    precision: str = "fp32"
    reference: str = ""
    max_bad: float = 0.01
    hooks: Hooks | None = None
    baseline: str = ""
    blind: tuple[str, float] | None = None
    done: str = ""

    def but(self, **changes: Any) -> AdaptUnit:
        """Return the same unit with some fields changed."""
        return replace(self, **changes)

    @property
    def task(self) -> str:
        """The recipe's task."""
        return self.recipe.task

    @property
    def columns(self) -> dict[str, Any]:
        """The key columns of this unit's rows."""
        return {name: getattr(self, name) if name != "seed" else str(self.seed) for name in KEY}

    @property
    def name(self) -> str:
        """Name of the unit in the manifest."""
        return "adapt " + " ".join(f"{k}={v}" for k, v in self.columns.items() if v != "")

    @property
    def of_blind(self) -> tuple[str, str, str]:
        """What a unit shares with its baseline."""
        return self.baseline or self.model, self.task, self.head

    @property
    def slug(self) -> str:
        """Name of the unit's files: readable, and different for different units."""
        text = "--".join(str(v) for v in self.columns.values() if v != "")
        clean = re.sub(r"[^A-Za-z0-9._=-]+", "-", text)
        return (
            clean if len(clean) < 120 else f"{clean[:100]}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        )


@dataclass
class Adaptation:
    """What came of a unit: tables by name, and what it cost.

    ``key`` names everything the tables depend on; ``kept`` says that the run folder held them already. ``quality`` is
    the value that competence is judged by.
    """

    key: str
    kept: bool = False
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    quality: float = float("nan")
    data: dict[str, str] = field(default_factory=dict)
    resumed: int = 0


# -- interventions ------------------------------------------------------------------------------


def check_intervention(text: str) -> None:
    """Raise if an intervention cannot be had.

    Raises
    ------
    ClipbiasError
        This installation has none, or none of that name or with these options.
    """
    _interventions(text).parse(text)


def plan_of(
    unit: AdaptUnit, data: TaskData, encoder: Callable[[np.ndarray], np.ndarray], split: str = "train"
) -> Plan:
    """Return what the unit's intervention asks of the training loop; the neutral plan without one.

    Parameters
    ----------
    unit : AdaptUnit
    data : TaskData
    encoder : callable
        Image positions to their pooled embeddings, float32 (n, d), L2-normalised.
    split : str
    """
    from clipbias.tasks.plan import Plan

    if not unit.intervention:
        return Plan()
    groups = data.images.table[["image_id", *data.images.attributes]]
    return _interventions(unit.intervention).parse(unit.intervention).plan(data, encoder, groups, split)


def _interventions(text: str) -> Any:
    """Return the module of interventions: ``parse(text)`` gives an object with ``plan(data, encoder, groups, split)``."""
    there = importlib.util.find_spec(INTERVENTIONS) is not None
    module = importlib.import_module(INTERVENTIONS) if there else None
    if not hasattr(module, "parse"):
        raise ClipbiasError(
            f"intervention {text!r} cannot be run: this version of clipbias has no interventions "
            f"({INTERVENTIONS} is missing). Leave out --intervention."
        )
    return module
