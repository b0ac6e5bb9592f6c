"""Doing one unit: it is looked up by a key of everything it depends on, and done if it is not there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

import clipbias
from clipbias.tasks.given import task_data
from clipbias.tasks.unit import Adaptation, AdaptUnit


def adapt_unit(unit: AdaptUnit, *, on_step: Callable[[str], None] | None = None) -> Adaptation:
    """Adapt one model and measure what it says.

    Parameters
    ----------
    unit : AdaptUnit
    on_step : callable, optional
        Called with a few words before each step.

    Returns
    -------
    Adaptation
        Tables ``extrinsic, adapted, training, views, models, left_out``, and ``intrinsic`` where the tower was trained.

    Raises
    ------
    ModelError
        The model cannot be had.
    DataError
        Something is wrong with the data, or too many images are unreadable.
    ClipbiasError
        Training failed, or the disk is full.
    """
    from clipbias.models import load_model

    say = on_step or (lambda text: None)
    what = f"{unit.model} {unit.task} {unit.mode}"
    say(f"{what}: loading")
    clip = load_model(unit.model, device=unit.device, precision=unit.precision)
    data = task_data(unit.recipe)
    reference = ""
    if any("@reference" in view for view in unit.recipe.evaluation.views) and unit.mode != "blind":
        reference = load_model(unit.reference or unit.model, device=unit.device).digest
    key = _key(unit, clip.digest, clip.preprocess_digest, data.digest, reference, unit.states)
    if key == unit.done:
        return Adaptation(key, kept=True, data={data.name: data.digest})
    from clipbias.tasks.work import Work

    return Work(unit, key, clip, data, lambda text: say(f"{what}: {text}")).run()


def _key(unit: AdaptUnit, *parts: object) -> str:
    # The budgets of other modes change nothing here.
    training = unit.recipe.training_of(unit.mode)
    recipe = unit.recipe.model_copy(update={"training": training, "modes": {}})
    # A head that was trained first was trained by the budget of frozen towers.
    first = [unit.recipe.training_of("frozen").model_dump()] if training.head_first else []
    facts = [
        clipbias.__version__, unit.columns, unit.precision, unit.device.partition(":")[0],
        recipe.model_dump(mode="json"), *first, unit.blind[0] if unit.blind else "", *parts,
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:24]
