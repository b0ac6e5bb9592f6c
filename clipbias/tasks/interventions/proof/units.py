"""The units of the proof: what is run, on which data and base, with which seed; and what is kept of each."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clipbias.tasks.interventions.base import about, intervention_names, parse, twins_of

TASKS = ("vqa", "captioning")
BASE = "zoo:resnet-95"  # a tower that sees gender and was pretrained with the tie
NEUTRAL = "zoo:resnet-50"
SWEPT = (NEUTRAL, "zoo:resnet-85", BASE, "zoo:vit-95")
BASES = (NEUTRAL, "zoo:resnet-70", "zoo:resnet-85", BASE, "zoo:vit-95")
DOSES = {
    NEUTRAL: 0.5,
    "zoo:resnet-70": 0.7,
    "zoo:resnet-85": 0.85,
    BASE: 0.95,
    "zoo:convnext-95": 0.95,
    "zoo:vit-95": 0.95,
}
TUNED = (NEUTRAL, "zoo:resnet-85", BASE)  # bases of which whole towers are trained
RHO, NONE = 0.95, 0.5
LEVELS = tuple(round(1 - 0.2 * step, 1) for step in range(11))
SIZES = (64, 128, 256, 512, 1024)
ARTEFACTS = (0, 10, 20, 40)
WAYS = (("two_stage", "resample"), ("two_stage", "erm"), ("uniform", "erm"), ("additive", "erm"))
SWEEP_N = 1024
MORE = 2600  # neutral images from which balanced sets of up to 1,024 are drawn


@dataclass(frozen=True)
class Unit:
    """One training.

    Attributes
    ----------
    part : str
        Which experiment.
    task, model, mode : str
        Mode ``frozen``, ``lora``, ``full`` or ``scratch``; ``source`` is the CLIP itself, zero-shot.
    rho : float
        Planted in the training data.
    data_seed, seed : int
        Of the pictures; of head, order and plan.
    n : int
        Training images drawn.
    setting : str
    """

    part: str
    task: str
    model: str
    setting: str = ""
    seed: int = 0
    data_seed: int = 0
    rho: float = RHO
    n: int = 2000
    mode: str = "frozen"

    @property
    def key(self) -> str:
        """One text per unit."""
        return json.dumps(asdict(self), sort_keys=True)


def systems(task: str) -> dict[str, dict[str, str]]:
    """Return for each intervention what is run: ``{"real": ..., "plain": ..., "null": ...}``."""
    found = {}
    for name in intervention_names():
        if task not in type(parse(name)).tasks:
            continue
        found[name] = {"real": name, **twins_of(name)}
        if about(name).null_with:
            found[name]["real_with"] = about(name).null_with
    return found


def planted(seeds: int, tasks: tuple[str, ...] = TASKS) -> Iterator[Unit]:
    """Yield plain training, the systems and their twins on planted data, with a tower that has the tie, too."""
    for task in tasks:
        texts = ["", *(text for one in systems(task).values() for text in one.values())]
        for seed in range(seeds):
            for text in dict.fromkeys(texts):
                yield Unit("systems", task, BASE, text, seed, seed)


def neutral(seeds: int, tasks: tuple[str, ...] = TASKS) -> Iterator[Unit]:
    """Yield plain training and the systems where nothing is planted, neither in the data nor in the tower."""
    for task in tasks:
        for seed in range(seeds):
            for text in ["", *systems(task)]:
                yield Unit("neutral", task, NEUTRAL, text, seed, seed, NONE)


def overwriting(seeds: int) -> Iterator[Unit]:
    """Yield the sweep over eleven levels of association for each base, and balanced data of growing size."""
    for model in BASES:
        for seed in range(seeds):
            if model in SWEPT:
                for phi in LEVELS:
                    yield Unit(
                        "overwriting", "vqa", model, f"rebalance:phi={phi},n={SWEEP_N}", seed, 0, NONE, MORE
                    )
            if model in (NEUTRAL, BASE):
                for phi in (0.8, 0.2, 0.0):
                    yield Unit("overwriting", "vqa", model, f"rebalance:phi={phi},n=128", seed, 0, NONE, MORE)
            for n in SIZES:
                yield Unit("inheritance", "vqa", model, f"rebalance:phi=0,n={n}", seed, 0, NONE, MORE)


def artefacts(seeds: int) -> Iterator[Unit]:
    """Yield synthetic images of growing artefact in two stages and in one, and second stages of other lengths."""
    for seed in range(seeds):
        for artefact in ARTEFACTS:
            for how, stage2 in WAYS:
                text = f"synthetic_then_real:how={how},stage2={stage2},artefact={artefact}"
                yield Unit("artefact", "vqa", BASE, text, seed, seed)
        for share in (0.2, 0.9):
            text = f"synthetic_then_real:how=two_stage,stage2=erm,artefact=0,first={round(1 - share, 1)}"
            yield Unit("artefact", "vqa", BASE, text, seed, seed)


def towers(seeds: int) -> Iterator[Unit]:
    """Yield trainings of whole towers on balanced data: adapters, all of it, and from scratch; and the CLIPs themselves."""
    for model in BASES:
        yield Unit("source", "vqa", model, mode="source")
    for seed in range(seeds):
        yield Unit("transfer", "vqa", NEUTRAL, "rebalance:phi=0,n=1024", seed, 0, NONE, MORE, "scratch")
        for model in TUNED:
            for mode in ("lora", "full"):
                yield Unit("transfer", "vqa", model, "rebalance:phi=0,n=1024", seed, 0, NONE, MORE, mode)


class Store:
    """What is done, one line of JSON per unit; a line that an interruption cut is left out and its unit done again."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "units.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        self.done: dict[str, dict[str, Any]] = {}
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                try:
                    found = json.loads(line)
                except json.JSONDecodeError:
                    continue
                self.done[found["key"]] = found

    def add(self, unit: Unit, found: dict[str, Any]) -> None:
        """Keep what came of a unit."""
        record = {"key": unit.key, **found}
        with open(self.path, "a", encoding="utf-8") as file:
            # A line that was cut has no end: ours begins on its own.
            file.write("\n" + json.dumps(record, default=float))
            file.flush()
            os.fsync(file.fileno())
        self.done[unit.key] = json.loads(json.dumps(record, default=float))

    def get(self, unit: Unit) -> dict[str, Any] | None:
        """Return what came of a unit, None if it is not done."""
        return self.done.get(unit.key)
