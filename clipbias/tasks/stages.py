"""Stages that a head asks for itself (LLaVA: first the projector on captions, then all of it on the task)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from clipbias.errors import DataError
from clipbias.tasks.data import TaskData
from clipbias.tasks.given import task_data
from clipbias.tasks.heads.base import Head, head_names
from clipbias.tasks.plan import Plan, Stage
from clipbias.tasks.recipe import TaskRecipe


def task_of(head: str, task: str) -> str:
    """Return the task that a head is built for: ``both`` for one that learns to caption on its way to answering."""
    return "both" if task == "vqa" and head in head_names("both") else task


def first_captions(recipe: TaskRecipe, data: TaskData) -> TaskData:
    """Return the captions of the images that a VQA recipe trains on.

    Images of the bias evaluation are never trained on: captions of those that questions are asked about are left out.

    Raises
    ------
    DataError
        Real questions without captions.
    """
    if recipe.files.given and not recipe.files.captions:
        raise DataError("a head that learns to caption first needs captions: add --captions to --questions.")
    found = task_data(recipe.model_copy(update={"task": "captioning"}))
    kept_out = set(data.split("test")["image_id"]) | set(data.split("val")["image_id"])
    examples = found.examples
    wrong = (examples["split"] == "train") & examples["image_id"].isin(kept_out)
    return replace(found, examples=examples[~wrong].reset_index(drop=True)) if wrong.any() else found


def plan_with(plan: Plan, head: Head, captions: TaskData | None) -> Plan:
    """Return the plan with the stages of the head's own protocol in it, if it has one.

    An intervention's stages go into the last of them.
    """
    protocol: Any = getattr(head, "protocol", None)
    if protocol is None:
        return plan
    total = sum(stage.share for stage in plan.stages)
    last = tuple(replace(s, trainable=s.trainable or tuple(protocol[-1].trainable)) for s in plan.stages)
    first = tuple(
        Stage(
            one.name,
            trainable=tuple(one.trainable),
            share=total,
            data=captions if one.task == "captioning" else None,
        )
        for one in protocol[:-1]
    )
    return replace(plan, stages=(*first, *last))
