"""Small run folders made up for tests, with values that can be worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from clipbias.results import rows
from clipbias.results.run import RunFolder, new_manifest

PROBES = ("nurse", "pilot", "chef", "judge", "clerk", "baker")
OFFSETS = (-0.05, -0.03, -0.01, 0.01, 0.03, 0.05)
METRICS = pd.DataFrame(
    {
        "metric": ["max_skew", "c_asc", "normalized_entropy", "flip_rate"],
        "title": ["Max skew", "C-ASC", "Normalised entropy", "Share of twin pairs | that differ"],
        "ideal": [0.0, 0.0, 1.0, 0.0],
        "direction": ["lower is fairer", "0 is fair", "higher is fairer", "lower is fairer"],
    }
)


def row(model: str, metric: str, value: float | None, half: float = 0.1, **more: object) -> dict:
    """Return one row; the interval is value ± half."""
    found: dict = {
        "model": model, "stage": "pre", "image_set": "people", "view": "global", "attribute": "gender", "metric": metric,
        "value": value, "n": 100, "protocol": "p1", "status": "ok", "reason": "",
    }  # fmt: skip
    if value is not None:
        found |= {"ci_low": value - half, "ci_high": value + half}
    return found | more


def with_probes(
    model: str, metric: str, value: float, shift: tuple[float, ...] = OFFSETS, **more: object
) -> list[dict]:
    """Return a value and the values of six probes whose mean it is."""
    each = [
        row(model, metric, value + s, probe=p, group="man", **more)
        for p, s in zip(PROBES, shift, strict=True)
    ]
    return [row(model, metric, value, group="man", **more), *each]


def write(
    path: Path, intrinsic: list[dict], extrinsic: list[dict] | None = None, **manifest: object
) -> RunFolder:
    """Write a run folder."""
    folder = RunFolder(path)
    models = list(dict.fromkeys(r["model"] for r in intrinsic))
    given = {"config": {"models": models}, "data": {"people": "d" * 64}, **manifest}
    folder.write_manifest(new_manifest(command=["clipbias", "measure"], **given))
    if intrinsic:
        folder.write("intrinsic", rows.table(intrinsic))
    if extrinsic:
        folder.write("extrinsic", rows.table(extrinsic))
    folder.write("metrics", METRICS)
    folder.write("models", pd.DataFrame({"model": models}))
    return folder
