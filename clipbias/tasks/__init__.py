"""Adaptation: every CLIP becomes a visual-question-answering model and a captioner, and its bias is measured.

``clipbias.tasks.metrics`` holds the metrics, on arrays and tables, and needs no torch; ``data`` and ``recipe`` neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clipbias.tasks.adaptation import adapt_unit
    from clipbias.tasks.checkpoint import Adapted, load_adapted
    from clipbias.tasks.data import TaskData
    from clipbias.tasks.plan import Plan, Stage
    from clipbias.tasks.recipe import TaskRecipe
    from clipbias.tasks.train import Trained, train
    from clipbias.tasks.unit import AdaptUnit

__all__ = [
    "AdaptUnit", "Adapted", "Plan", "Stage", "TaskData", "TaskRecipe", "Trained", "adapt_unit", "load_adapted", "train",
]  # fmt: skip

_LAZY = {
    "AdaptUnit": "unit",
    "Adapted": "checkpoint",
    "Plan": "plan",
    "Stage": "plan",
    "TaskData": "data",
    "TaskRecipe": "recipe",
    "Trained": "train",
    "adapt_unit": "adaptation",
    "load_adapted": "checkpoint",
    "train": "train",
}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(f"clipbias.tasks.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
