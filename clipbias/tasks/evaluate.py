"""Predictions and truth in, rows of the table ``extrinsic`` out: quality and bias, on every view, with intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from clipbias.errors import DataError, nearest
from clipbias.results.rows import KEY, table
from clipbias.tasks import statistics
from clipbias.tasks.measuring import CAPTION_QUALITY, Measuring
from clipbias.tasks.metrics.facts import FACTS
from clipbias.tasks.metrics.tokens import Tokenizer
from clipbias.tasks.metrics.words import Words
from clipbias.tasks.outcomes import Outcomes
from clipbias.tasks.twins import DELTAS, FLIPS, Twins

if TYPE_CHECKING:
    from clipbias.tasks.data import TaskData
    from clipbias.views import View

QUALITY = frozenset(name for name, fact in FACTS.items() if fact.kind == "quality")
_SLOW = ("lic", "lic_m", "lic_d", "leakage")
METRICS = {
    "captioning": (
        *CAPTION_QUALITY, *(f"{q}_gap" for q in CAPTION_QUALITY), *statistics.GENDER_METRICS,
        "directional_bias_amplification", *FLIPS, *_SLOW,
    ),
    "vqa": (
        "vqa_accuracy", "exact", "vqa_accuracy_gap", "exact_gap", "worst_group", "error_rate_ratio", "answer_divergence", "answer_divergence_truth",
        "demographic_parity", "equalized_odds", *FLIPS, "flip_rate_all", *DELTAS,
    ),
}  # fmt: skip


def evaluate(
    predictions: pd.DataFrame,
    data: TaskData,
    *,
    what: Sequence[str] | None = None,
    views: Mapping[str, Any] | Iterable[View] | None = None,
    probabilities: Any = None,
    answers: Sequence[str] | None = None,
    n_boot: int = 500,
    n_perm: int | None = None,
    seed: int = 0,
    level: float = 0.95,
    train_truth: pd.DataFrame | None = None,
    attributes: Sequence[str] | None = None,
    concept: str | None = None,
    words: Words = "hendricks2018",
    rule: str = "official",
    tokenizer: Tokenizer = "treebank",
    lic: bool = False,
    lic_options: Mapping[str, Any] | None = None,
    leakage: bool = False,
) -> pd.DataFrame:
    """Measure quality and bias of one model's predictions on the test images.

    Parameters
    ----------
    predictions : DataFrame
        ``example_id, prediction`` for every test example; other key columns (``model``, ``task``, ...) are copied to the rows.
    data : TaskData
    what : sequence of str, optional
        Metrics by name. Default: all that the task has, but ``leakage`` and ``lic`` only where asked for.
    views : mapping of name to bool array, or views, optional
        Masks over all images of ``data.images``, or over its test images in the same order. Default: ``global``.
    probabilities : DataFrame, or array (test examples, A), optional
        Answer probabilities: index ``example_id`` and one column per answer; or an array in the order of the test examples, with
        ``answers``. For ΔP on twins.
    answers : sequence of str (A,), optional
    n_boot, n_perm : int
        Bootstrap draws over images (twins and scenes stay together), and permutations of the groups for the metrics that have
        a null. ``n_perm`` is ``n_boot`` if not given; 0 leaves intervals or nulls out.
    seed : int
        The same draws for every model, so that differences between models are paired.
    level : float
        Of the intervals.
    train_truth : DataFrame, optional
        Columns of the attribute and of the concept: where the signs of bias amplification come from. Default: the planted
        ties, else the test images.
    attributes : sequence of str, optional
        Default: all protected attributes of the images.
    concept : str, optional
        Column of what captions name and questions ask for. Default: what the ties are of, else ``role`` or ``object``.
    words : str, WordList or mapping
        Tells the gender that a caption names.
    rule, tokenizer : str
        See `vqa_accuracy` and `tokenize`.
    lic, leakage : bool
        Whether to train attackers (captioning, view ``global`` only; LIC takes minutes).
    lic_options : mapping, optional
        Further arguments of `clipbias.tasks.metrics.lic`.

    Returns
    -------
    DataFrame
        Columns of `clipbias.results.rows`. ``attribute=""`` is the value over all images; with an attribute, ``group`` names the
        group and ``group=""`` is what compares the groups. Images whose group is ``"unknown"`` count in the first only.
        What cannot be computed is a row with status and reason.

    Raises
    ------
    DataError
        Predictions or probabilities that do not fit the examples; an unknown metric, attribute or concept.

    Notes
    -----
    CIDEr weighs words by the references of all test images, whatever the view or group, and BLEU is that of the corpus of a
    group. Bootstrap intervals hold these weights fixed.
    """
    outcomes = Outcomes(predictions, data, concept=concept)
    asked = _asked(what, data.task, lic, leakage)
    run = Measuring(
        outcomes, asked, n_boot, n_boot if n_perm is None else n_perm, seed, level,
        {"words": words, "rule": rule, "tokenizer": tokenizer, "train": train_truth, "lic": dict(lic_options or {})},
    )  # fmt: skip
    twins = Twins(outcomes, _probabilities(probabilities, answers, outcomes))
    names = list(data.images.attributes) if attributes is None else list(attributes)
    rows: list[dict[str, Any]] = []
    for name, inside in _masks(views, outcomes).items():
        found = run.overall(inside) + run.twins(twins, inside)
        for attribute in names:
            found += [
                {**row, "attribute": attribute}
                for row in run.attribute(attribute, inside, whole=name == "global")
            ]
        rows += [{**row, "view": name} for row in found]
    base = {"stage": "post", "task": data.task, "image_set": data.name, "seed": ""}
    for column in set(KEY) & set(predictions.columns):
        if predictions[column].nunique() == 1:
            base[column] = predictions[column].iloc[0]
    return table([{**base, **row} for row in rows])


def _asked(what: Sequence[str] | None, task: str, lic: bool, leakage: bool) -> frozenset[str]:
    known = METRICS[task]
    if what is not None:
        for name in what:
            if name not in known:
                raise DataError(f"there is no metric {name!r} of {task}." + nearest(str(name), known))
        asked = set(what)
    else:
        asked = {name for name in known if name not in _SLOW}
    if task == "captioning":
        asked |= ({"lic"} if lic else set()) | ({"leakage"} if leakage else set())
    return frozenset(asked)


def _masks(views: Mapping[str, Any] | Iterable[View] | None, outcomes: Outcomes) -> dict[str, np.ndarray]:
    """Return masks over the test images."""
    if views is None:
        return {"global": np.ones(outcomes.n, dtype=bool)}
    given = dict(views) if isinstance(views, Mapping) else {view.name: view.mask for view in views}
    if not given:
        raise DataError("there are no views; leave views out for the global one.")
    out = {}
    for name, mask in given.items():
        array = np.asarray(mask)
        if array.dtype != bool or array.shape not in ((outcomes.n,), (len(outcomes.data.images),)):
            raise DataError(
                f"view {name!r} needs a bool mask over the {len(outcomes.data.images)} images or the {outcomes.n} test images, "
                f"not {array.dtype} of shape {array.shape}."
            )
        out[name] = array if array.size == outcomes.n else array[outcomes.rows]
    return out


def _probabilities(given: Any, answers: Sequence[str] | None, outcomes: Outcomes) -> pd.DataFrame | None:
    if given is None:
        return None
    if isinstance(given, pd.DataFrame):
        return given.set_axis(given.index.astype(str), axis=0)
    array = np.asarray(given)
    if answers is None:
        raise DataError(
            "answer probabilities without the answers; give answers=, or a table whose columns are the answers."
        )
    if array.shape != (len(outcomes.items), len(answers)):
        raise DataError(
            f"probabilities have shape {array.shape}; needed: ({len(outcomes.items)} test examples, {len(answers)} answers)."
        )
    return pd.DataFrame(array, index=outcomes.items["example_id"].astype(str), columns=list(answers))
