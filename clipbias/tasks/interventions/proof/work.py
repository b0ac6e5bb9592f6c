"""Doing a unit of the proof."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from clipbias.errors import ClipbiasError
from clipbias.tasks.data import TaskData
from clipbias.tasks.interventions.proof.ground import PAIR, Embeddings, Sizes, ground
from clipbias.tasks.interventions.proof.trial import BUDGET, Result, result_of, run
from clipbias.tasks.interventions.proof.units import BASE, NEUTRAL, Unit
from clipbias.tasks.interventions.synthetic import real_fake_accuracy

TOWER_STEPS, TOWER_BATCH = 48, 64


FOLDER: Path | None = None  # where embeddings are kept; `keep_in` sets it


def keep_in(folder: Path) -> None:
    """Keep embeddings in a folder."""
    global FOLDER
    FOLDER = folder


@lru_cache(maxsize=8)
def _embeddings(model: str) -> Embeddings:
    return Embeddings(model, FOLDER)


@lru_cache(maxsize=4)
def _data(task: str, seed: int, rho: float, n: int, small: bool) -> TaskData:
    sizes = Sizes(train=n, val=200, test=1) if small else Sizes(train=n)
    return ground(task, seed=seed, rho=rho, sizes=sizes)


def do(unit: Unit, *, small: bool = False) -> dict[str, Any]:
    """Run a unit and return its measures, the record of its plan and the seconds; or status and reason.

    Parameters
    ----------
    unit : Unit
    small : bool
        Fewer validation and test images: for tests.
    """
    began = time.monotonic()
    data = _data(unit.task, unit.data_seed, unit.rho, unit.n, small)
    try:
        result = _result(unit, data)
    except ClipbiasError as problem:
        return {
            "status": "refused",
            "reason": str(problem),
            "measures": {},
            "record": {},
            "seconds": time.monotonic() - began,
        }
    found = {
        "measures": result.measures(), "evaluations": three_times(result), "seconds": result.seconds,
        "record": {name: str(value) for name, value in result.record.items()},
    }  # fmt: skip
    if unit.part == "artefact":
        found["real_fake"] = _real_fake(unit, data)
    return found


def three_times(result: Result) -> dict[str, float]:
    """Return accuracy on all test images, on each scene with the tied gender (cued), and with the other (clean)."""
    tied = result.label == result.group
    return {
        "standard": float(result.right.mean()), "all_cued": float(result.right[tied].mean()),
        "all_clean": float(result.right[~tied].mean()),
    }  # fmt: skip


def _result(unit: Unit, data: TaskData) -> Result:
    if unit.mode == "source":
        return _zero_shot(unit, data)
    if unit.mode == "frozen":
        return run(data, _embeddings(unit.model), unit.setting, seed=unit.seed)
    return _tower(unit, data)


def _zero_shot(unit: Unit, data: TaskData) -> Result:
    from clipbias.embedding import embed_texts
    from clipbias.models import load_model

    values = _embeddings(unit.model).of(data.images)
    texts = ["a photo of an artist", "a photo of a construction worker"]
    wanted = np.asarray(embed_texts(load_model(unit.model), texts))
    test = data.split("test")
    rows = data.image_rows(test)
    scores = 100 * values[rows] @ (wanted / np.linalg.norm(wanted, axis=1, keepdims=True)).T
    return result_of(data, scores, [PAIR[k] for k in scores.argmax(1)])


def _tower(unit: Unit, data: TaskData) -> Result:
    """Train the tower with the head; from scratch, its weights are drawn first."""
    from clipbias.models import load_model
    from clipbias.tasks.frozen import PixelSource
    from clipbias.tasks.vision import Tower

    clip = load_model(unit.model)
    tower = Tower(clip)
    tower.make_trainable("lora" if unit.mode == "lora" else "full", seed=unit.seed)
    if unit.mode == "scratch":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(unit.seed)
            for module in tower.visual.modules():
                if hasattr(module, "reset_parameters"):
                    module.reset_parameters()
    training = BUDGET[unit.task].model_copy(
        update={"steps": TOWER_STEPS, "batch_size": TOWER_BATCH, "tower_rate": 1.0 if unit.mode != "full" else 0.3, "learning_rate": 2e-3}
    )  # fmt: skip
    source = PixelSource(tower, data.images)
    return run(
        data,
        _embeddings(unit.model),
        unit.setting,
        seed=unit.seed,
        training=training,
        tower=tower,
        source=source,
    )


@lru_cache(maxsize=16)
def _real_fake_of(model: str, data_seed: int, n: int, artefact: float, small: bool) -> float:
    from clipbias.tasks.interventions.synthetic import synthetic_data

    data = _data("vqa", data_seed, 0.95, n, small)
    fake = synthetic_data(data, artefact=artefact, n=2000)
    values = _embeddings(model)
    real_rows = np.unique(data.image_rows(data.split("train")))[:600]
    fake_rows = np.unique(fake.image_rows(fake.split("train")))[:600]
    return real_fake_accuracy(values.of(data.images)[real_rows], values.of(fake.images)[fake_rows])


def _real_fake(unit: Unit, data: TaskData) -> float:
    artefact = float(dict(part.split("=") for part in unit.setting.split(":")[1].split(","))["artefact"])
    small = len(data.split("test")) < 400
    return _real_fake_of(unit.model, 0, unit.n, artefact, small)


def ranks(models: Sequence[str] = (NEUTRAL, BASE, "zoo:convnext-95")) -> pd.DataFrame:
    """Return the table ``spuriosity_rank`` of some CLIPs, on neutral images."""
    from clipbias.tasks.interventions.proof.ranking import ranking

    data = _data("vqa", 0, 0.5, 2000, False)
    return pd.concat([ranking(data, _embeddings(model)) for model in models], ignore_index=True)
