"""The LAVIS backend: BLIP captioning and VQA of Salesforce's LAVIS on top of any CLIP.

Importing this imports neither LAVIS nor torch. :func:`train_lavis` runs LAVIS's own dataset builders, processors and
task loop end to end; the heads ``lavis-caption`` and ``lavis-vqa`` put the same models behind the interface of all
heads. VQA answers are scored by `clipbias.tasks.metrics`, not by LAVIS, whose scorer is not the official one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipbias.tasks.lavis.bridge import INSTALL, installed

if TYPE_CHECKING:
    from clipbias.tasks.lavis.run import LavisRun, train_lavis

__all__ = ["INSTALL", "LavisRun", "installed", "train_lavis"]


def __getattr__(name: str) -> object:
    if name in ("LavisRun", "train_lavis"):
        from importlib import import_module

        return getattr(import_module("clipbias.tasks.lavis.run"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
