"""One model's outcomes measured on views: the statistics are made once, and each view draws from them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from clipbias.errors import ClipbiasError, DataError, StatusError
from clipbias.tasks import statistics
from clipbias.tasks.estimate import Sample, Statistic, measure, sample
from clipbias.tasks.metrics.captions import quality as caption_quality
from clipbias.tasks.metrics.vqa import answer_accuracy, exact_match
from clipbias.tasks.metrics.words import load_words
from clipbias.tasks.outcomes import Outcomes
from clipbias.tasks.twins import DELTAS, FLIPS, Twins

CAPTION_QUALITY = ("cider", "bleu4", "rouge_l")


class Measuring:
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
        wanted = [name for name in CAPTION_QUALITY if {name, f"{name}_gap"} & self.asked]
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
