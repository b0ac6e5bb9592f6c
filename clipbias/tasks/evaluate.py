"""Predictions and truth in, rows of the table ``extrinsic`` out: quality and bias, on every view, with intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from clipbias.errors import ClipbiasError, DataError, StatusError, nearest
from clipbias.results.rows import KEY, table
from clipbias.tasks import statistics
from clipbias.tasks.estimate import Sample, Statistic, measure, sample
from clipbias.tasks.metrics.captions import Tokenizer
from clipbias.tasks.metrics.captions import quality as caption_quality
from clipbias.tasks.metrics.facts import FACTS
from clipbias.tasks.metrics.vqa import answer_accuracy, exact_match
from clipbias.tasks.metrics.words import Words, load_words
from clipbias.tasks.outcomes import Outcomes
from clipbias.tasks.twins import DELTAS, FLIPS, Twins

if TYPE_CHECKING:
    from clipbias.tasks.data import TaskData
    from clipbias.views import View

QUALITY = frozenset(name for name, fact in FACTS.items() if fact.kind == "quality")
_CAPTION_QUALITY = ("cider", "bleu4", "rouge_l")
_SLOW = ("lic", "lic_m", "lic_d", "leakage")
METRICS = {
    "captioning": (
        *_CAPTION_QUALITY, *(f"{q}_gap" for q in _CAPTION_QUALITY), *statistics.GENDER_METRICS,
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
    run = _Run(
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


class _Run:
    """One evaluation: the statistics are made once and measured on every view."""

    def __init__(
        self, outcomes: Outcomes, asked: frozenset[str], n_boot: int, n_perm: int, seed: int, level: float, options: dict[str, Any]
    ) -> None:  # fmt: skip
        self.outcomes, self.asked, self.options = outcomes, asked, options
        self.n_boot, self.n_perm, self.seed, self.level = n_boot, n_perm, seed, level
        self.protocol: dict[str, str] = {}
        self.failed: dict[str, tuple[str, str]] = {}
        self.sums = self._captions() if outcomes.task == "captioning" else self._answers()
        self._made: dict[str, list[Statistic]] = {}
        self._broken: dict[str, list[tuple[str, str, str]]] = {}

    def _captions(self) -> dict[str, np.ndarray]:
        items = self.outcomes.items
        wanted = [name for name in _CAPTION_QUALITY if {name, f"{name}_gap"} & self.asked]
        if not wanted:
            return {}
        ids = self.outcomes.table["image_id"].astype(str).tolist()
        keys = [ids[i] for i in self.outcomes.home]
        references: dict[str, list[str]] = {}
        for key, given in zip(keys, items["answers"], strict=True):
            references.setdefault(key, []).extend(given)
        said = dict(zip(keys, items["prediction"], strict=True))
        tokenizer = self.options["tokenizer"]
        found = caption_quality(said, references, metrics=wanted, tokenizer=tokenizer)
        for name, result in found.items():
            self.protocol[name] = f"tokenizer={tokenizer}" + (
                "; idf=all test images" if name == "cider" else ""
            )
            if result.status != "ok":
                self.failed[name] = (result.status, result.reason)
        return {name: statistics.caption_sums(result, ids) for name, result in found.items()}

    def _answers(self) -> dict[str, np.ndarray]:
        items, rule = self.outcomes.items, self.options["rule"]
        exact = exact_match(items["prediction"].tolist(), items["target"].astype(str).tolist()).astype(float)
        sums = {"exact": statistics.answer_sums(self.outcomes, exact)}
        try:
            scores = [
                100 * answer_accuracy(said, [str(a) for a in given], rule=rule)
                for said, given in zip(items["prediction"], items["answers"], strict=True)
            ]
            sums["vqa_accuracy"] = statistics.answer_sums(self.outcomes, np.array(scores))
            self.protocol["vqa_accuracy"] = f"rule={rule}"
        except DataError as error:
            if "needs at least" not in str(error):
                raise
            # One true answer per question, as in GQA: exact match is the accuracy there.
            self.failed["vqa_accuracy"] = ("too few answers", str(error))
        return sums

    def _units(self) -> np.ndarray:
        if self.outcomes.task == "captioning":
            return np.ones(self.outcomes.n)
        return np.bincount(self.outcomes.home, minlength=self.outcomes.n)

    def _failures(self, names: Iterable[str], n: int, **more: Any) -> list[dict[str, Any]]:
        return [
            {"metric": name, "value": math.nan, "n": n, "status": self.failed[quality][0], "reason": self.failed[quality][1], **more}
            for name in names
            if name in self.asked and (quality := name.removesuffix("_gap")) in self.failed
        ]  # fmt: skip

    def overall(self, inside: np.ndarray) -> list[dict[str, Any]]:
        """Quality over all images of a view."""
        drawn = self._sample(np.zeros(self.outcomes.n, dtype=np.int64), ("",), inside)
        out = self._failures(sorted(self.failed), int(inside.sum()))
        for name, sums in self.sums.items():
            if name in self.asked and name not in self.failed:
                found = statistics.quality(name, sums, self._units(), protocol=self.protocol.get(name, ""))
                out += measure(found, drawn, level=self.level)
        return out

    def twins(self, twins: Twins, inside: np.ndarray) -> list[dict[str, Any]]:
        """What flips between twins; the attribute is the one in which they differ."""
        names = [m for m in (*FLIPS, "flip_rate_all", *DELTAS) if m in self.asked]
        attribute = self.outcomes.twin_attribute or ""
        if twins.probabilities is None:
            names = [m for m in names if m not in DELTAS]
        if not names:
            return []
        if twins.why_not is not None:
            status, reason = twins.why_not
            return [
                {
                    "metric": m,
                    "attribute": attribute,
                    "value": math.nan,
                    "n": 0,
                    "status": status,
                    "reason": reason,
                }
                for m in names
            ]
        drawn = self._sample(np.zeros(self.outcomes.n, dtype=np.int64), ("",), inside)
        return [
            {**row, "attribute": attribute}
            for found in twins.statistics(inside)
            if found.metric in names
            for row in measure(found, drawn, level=self.level)
        ]

    def attribute(self, name: str, inside: np.ndarray, *, whole: bool) -> list[dict[str, Any]]:
        """Everything that compares the groups of one attribute."""
        codes, levels = self.outcomes.attribute(name)
        inside = inside & (codes >= 0)
        present = np.unique(codes[inside])
        out = self._failures([f"{q}_gap" for q in self.failed], int(inside.sum()))
        made, broken = self._statistics(name, levels)
        single = len(present) < 2
        if single:
            who = (
                f"only group {levels[present[0]]!r} is" if len(present) else "no image with a known group is"
            )
            reason = f"{who} in this view: there is nothing to compare."
            names = dict.fromkeys((found.metric, found.probe) for found in made if not found.per_group)
            out += [
                {"metric": m, "probe": probe, "value": math.nan, "n": int(inside.sum()), "status": "single group", "reason": reason}
                for m, probe in names
            ]  # fmt: skip
        if len(levels) and inside.any():
            drawn = self._sample(codes, levels, inside)
            out += [
                row
                for found in made
                if found.per_group or not single
                for row in measure(found, drawn, level=self.level)
            ]
        out += [
            {"metric": m, "value": math.nan, "n": int(inside.sum()), "status": s, "reason": r}
            for m, s, r in broken
        ]
        if whole:
            out += self._attackers(name, inside)
        return out

    def _statistics(
        self, name: str, levels: Sequence[str]
    ) -> tuple[list[Statistic], list[tuple[str, str, str]]]:
        if name not in self._made:
            self._made[name], self._broken[name] = self._make(name, levels)
        return self._made[name], self._broken[name]

    def _make(self, name: str, levels: Sequence[str]) -> tuple[list[Statistic], list[tuple[str, str, str]]]:
        units, out, broken = self._units(), [], []
        for quality, sums in self.sums.items():
            if quality not in self.failed and levels:
                out += statistics.by_group(
                    quality, sums, units, levels, protocol=self.protocol.get(quality, "")
                )
        if self.outcomes.task == "vqa":
            if "vqa_accuracy" in self.sums:
                out += statistics.accuracy_by_group(
                    self.sums["vqa_accuracy"], units, self.protocol["vqa_accuracy"]
                )
            if levels:
                out += [statistics.divergence(self.outcomes, levels, truth=truth) for truth in (False, True)]
            out += statistics.yes_no(self.outcomes)
        elif load_words(self.options["words"]).attribute == name:
            wanted = [m for m in statistics.GENDER_METRICS if m in self.asked]
            try:
                out += statistics.gender(self.outcomes, name, levels, self.options["words"])
            except DataError as error:
                broken += [(m, "no words", str(error)) for m in wanted]
            if "directional_bias_amplification" in self.asked:
                broken += self._amplification(name, levels, out)
        return [found for found in out if found.metric in self.asked], broken

    def _amplification(
        self, name: str, levels: Sequence[str], out: list[Statistic]
    ) -> list[tuple[str, str, str]]:
        metric = "directional_bias_amplification"
        if self.outcomes.concept is None:
            return [
                (
                    metric,
                    "no concept",
                    "the images have no column of roles or objects that captions could name.",
                )
            ]
        try:
            out += statistics.amplification(
                self.outcomes, name, levels, self.options["words"], self.options["train"]
            )
        except DataError as error:
            if "train_truth" in str(error):
                raise
            return [(metric, "no words", str(error))]
        return []

    def _attackers(self, name: str, inside: np.ndarray) -> list[dict[str, Any]]:
        """Leakage and LIC, which train classifiers: on all images only."""
        from clipbias.tasks.attackers import leakage_rows, lic_rows

        jobs = {
            "leakage": (leakage_rows, ("leakage",), {}),
            "lic": (lic_rows, ("lic", "lic_m", "lic_d"), self.options["lic"]),
        }
        out = []
        for job, (work, names, options) in jobs.items():
            if job not in self.asked:
                continue
            try:
                out += work(self.outcomes, name, inside, words=self.options["words"], **options)
            except (StatusError, ClipbiasError) as error:
                status = error.status if isinstance(error, StatusError) else "not computed"
                out += [
                    {"metric": m, "value": math.nan, "n": int(inside.sum()), "status": status, "reason": str(error)} for m in names
                ]  # fmt: skip
        return out

    def _sample(self, codes: np.ndarray, levels: Sequence[str], inside: np.ndarray) -> Sample:
        rows = np.flatnonzero(inside)
        blocks = self.outcomes.blocks
        return sample(
            rows, codes[rows], levels, None if blocks is None else blocks[rows], n_boot=self.n_boot, n_perm=self.n_perm,
            seed=self.seed,
        )  # fmt: skip


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
