"""Predictions: from a head and its features to words, as a table and in the official result formats."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from clipbias.errors import ClipbiasError
from clipbias.tasks.batches import Material
from clipbias.tasks.checkpoint import whole_file
from clipbias.tasks.heads.base import Head, Prediction
from clipbias.tasks.plan import Plan

KEY = ("model", "task", "head", "mode", "intervention", "seed")
COLUMNS = [*KEY, "example_id", "image_id", "question", "prediction", "score"]
BATCH = 256


def predict(
    head: Head,
    material: Material,
    *,
    beams: int = 1,
    plan: Plan | None = None,
    batch_size: int = BATCH,
    on_batch: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Return one prediction per example.

    Parameters
    ----------
    head : Head
    material : Material
        Its targets are not looked at.
    beams : int
        1 is greedy.
    plan : Plan, optional
        Its posterior map is applied to the answer probabilities.
    on_batch : callable, optional
        ``on_batch(done, of)``.

    Returns
    -------
    DataFrame
        ``example_id, image_id, question, prediction, score``; score is the probability of the prediction, in [0, 1],
        missing where the head gives none.
    """
    head.eval()
    said: list[Prediction] = []
    mapped = plan.posterior if plan is not None else None
    if mapped is not None:
        table = mapped(answer_probabilities(head, material, batch_size=batch_size), material.examples)
        best = table.argmax(1)
        said = [
            Prediction(head.setting.answers[int(a)], float(p))
            for a, p in zip(best, table.gather(1, best[:, None])[:, 0], strict=True)
        ]
    with torch.no_grad():
        for index in _batches(len(material), batch_size) if mapped is None else ():
            texts = material.texts(index, targets=False)
            said += head.predict(material.features(index), texts, beams=beams)
            if on_batch is not None:
                on_batch(len(said), len(material))
    kept = material.examples[["example_id", "image_id", "question"]].reset_index(drop=True)
    return kept.assign(prediction=[p.text for p in said], score=[float(p.score) for p in said])


def answer_probabilities(head: Head, material: Material, *, batch_size: int = BATCH) -> Tensor:
    """Return each example's probabilities over the head's answers, (n, A), rows sum to at most 1.

    Raises
    ------
    ClipbiasError
        The head gives none (a captioner).
    """
    head.eval()
    parts = []
    try:
        with torch.no_grad():
            for index in _batches(len(material), batch_size):
                texts = material.texts(index, targets=False)
                parts.append(head.answer_probabilities(material.features(index), texts).float().cpu())
    except NotImplementedError as problem:
        raise ClipbiasError(f"{type(head).__name__} gives no answer probabilities.") from problem
    return torch.cat(parts)


def _batches(n: int, size: int) -> list[np.ndarray]:
    return [np.arange(start, min(start + size, n)) for start in range(0, n, size)]


def save_predictions(
    folder: Path,
    predictions: pd.DataFrame,
    *,
    task: str,
    name: str,
    question_ids: Sequence[object] | None = None,
) -> list[Path]:
    """Write predictions as parquet and in the official result JSON.

    Parameters
    ----------
    folder : path
    predictions : DataFrame
        Columns :data:`COLUMNS`.
    task : {"vqa", "captioning"}
        ``[{"question_id", "answer"}]`` or ``[{"image_id", "caption"}]``.
    name : str
        Stem of the two files.
    question_ids : sequence, optional
        Default: ``example_id``; whole numbers are written as such, as the official files have them.

    Returns
    -------
    list of Path
    """
    table = predictions[COLUMNS]
    with whole_file(folder / f"{name}.parquet") as file:
        table.to_parquet(file, index=False)
    texts = table["prediction"].tolist()
    if task == "captioning":
        unique = ~table["image_id"].duplicated()
        records: list[dict] = [
            {"image_id": _number(i), "caption": text}
            for i, text, first in zip(table["image_id"], texts, unique, strict=True)
            if first
        ]
    else:
        ids = table["example_id"] if question_ids is None else question_ids
        records = [{"question_id": _number(i), "answer": text} for i, text in zip(ids, texts, strict=True)]
    with whole_file(folder / f"{name}.json") as file:
        file.write(json.dumps(records, ensure_ascii=False).encode())
    return [folder / f"{name}.parquet", folder / f"{name}.json"]


def _number(text: object) -> object:
    """Return a whole number where the text is one as it would be written (no leading zeros)."""
    plain = str(text)
    return int(plain) if plain.isdecimal() and str(int(plain)) == plain else plain
