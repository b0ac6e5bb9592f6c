"""Flip rate and ΔP on the twins of a view, as sums over images."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from clipbias.errors import DataError
from clipbias.tasks.estimate import Statistic, ratio
from clipbias.tasks.metrics.counterfactual import delta_p, flip_rate
from clipbias.tasks.metrics.vqa import normalize_answer
from clipbias.tasks.outcomes import Outcomes

FLIPS = ("flip_rate", "flip_rate_signed", "flip_rate_towards")
DELTAS = ("delta_p", "delta_p_signed")
_NO_TIES = (
    "no ties",
    "the image set says nothing of ties between concepts and groups, so a flip has no direction.",
)


class Twins:
    """What twins are called, once for all views.

    Parameters
    ----------
    outcomes : Outcomes
    probabilities : DataFrame, optional
        Answer probabilities: index ``example_id``, one column per answer.

    Attributes
    ----------
    why_not : tuple of str or None
        Status and reason where there is nothing to measure.
    """

    def __init__(self, outcomes: Outcomes, probabilities: pd.DataFrame | None = None) -> None:
        self.outcomes, self.probabilities = outcomes, probabilities
        self.levels: tuple[str, ...] = ()
        self.why_not: tuple[str, str] | None = None
        if not len(outcomes.pairs):
            self.why_not = (
                "no twins",
                "no two test images are marked as twins that differ in one attribute only.",
            )
        elif outcomes.concept is None:
            self.why_not = (
                "no concept",
                "the images have no column of roles or objects whose naming could flip.",
            )
        elif outcomes.task == "vqa" and outcomes.concept_question is None:
            self.why_not = ("no question", f"no question asks for the {outcomes.concept} of an image.")
        if self.why_not is None:
            assert outcomes.twin_attribute is not None
            self.levels = outcomes.attribute(outcomes.twin_attribute)[1]
            self.ties = outcomes.ties_of(self.levels)
            self.said = outcomes.said_concepts()
            codes = outcomes.attribute(outcomes.twin_attribute)[0]
            # Several levels: a pair has the two that it shows.
            self.shown = [(self.levels[codes[a]], self.levels[codes[b]]) for a, b in outcomes.pairs]

    def statistics(self, inside: np.ndarray) -> list[Statistic]:
        """Return the statistics of the pairs that lie in a view; ``inside`` is bool (images,)."""
        pairs = self.outcomes.pairs
        usable = np.array(
            [
                inside[a] and inside[b] and self.said[a] is not None and self.said[b] is not None
                for a, b in pairs
            ]
        )
        found = self._flips(np.flatnonzero(usable))
        if self.outcomes.task == "vqa":
            found.append(self._all_questions(inside))
            if self.probabilities is not None:
                found += self._deltas(np.flatnonzero(usable))
        return found

    def _flips(self, chosen: np.ndarray) -> list[Statistic]:
        outcomes, ties = self.outcomes, self._normal_ties()
        values = self._flip_of_pair[chosen]
        first = outcomes.pairs[chosen, 0]
        differs, direction = values[:, 0], np.nan_to_num(values[:, 1])
        why = ("no twins", "no twin pair lies wholly in this view.")
        counts = self._sum(first, np.ones(len(first)))
        out = [
            Statistic(
                "flip_rate", self._table(first, differs), ratio, counts, undefined=why, protocol=self._about
            )
        ]
        for name, top, units in (
            ("flip_rate_signed", direction, np.ones(len(first))),
            ("flip_rate_towards", (direction > 0).astype(float), (direction != 0).astype(float)),
        ):
            none = why if not len(first) else ("no flips", "no pair here flips towards or against its tie.")
            sums = np.column_stack([self._sum(first, top), self._sum(first, units)])
            if not ties:
                sums, none = sums * 0, _NO_TIES
            out.append(
                Statistic(name, sums, ratio, self._sum(first, units), undefined=none, protocol=self._about)
            )
        return out

    @cached_property
    def _flip_of_pair(self) -> np.ndarray:
        """Whether the outputs of each pair differ, and their direction, (pairs, 2)."""
        outputs = dict(enumerate(self.said))
        return self._of_pairs(lambda pairs, **given: flip_rate(outputs, pairs, **given).per_pair)

    def _of_pairs(self, measure: Callable[..., np.ndarray]) -> np.ndarray:
        """Measure all pairs, those that show the same two levels together, (pairs, 2)."""
        pairs, ties = self.outcomes.pairs, self._normal_ties()
        out = np.zeros((len(pairs), 2))
        for levels in dict.fromkeys(self.shown):
            mine = np.array([shown == levels for shown in self.shown])
            given = {"ties": ties, "levels": levels} if ties else {}
            out[mine] = measure([(int(a), int(b)) for a, b in pairs[mine]], **given)
        return out

    def _all_questions(self, inside: np.ndarray) -> Statistic:
        """Every question asked of both twins whose true answer is the same for both."""
        items = self.outcomes.items
        frame = pd.DataFrame({
            "image": self.outcomes.home, "question": items["question"].astype(str),
            "truth": items["target"].astype(str).map(normalize_answer), "said": items["prediction"].map(normalize_answer),
        }).drop_duplicates(["image", "question"])  # fmt: skip
        pairs = pd.DataFrame(self.outcomes.pairs, columns=["first", "second"])
        pairs = pairs[inside[pairs["first"]] & inside[pairs["second"]]]
        both = pairs.merge(frame, left_on="first", right_on="image").merge(
            frame,
            left_on=["second", "question", "truth"],
            right_on=["image", "question", "truth"],
            suffixes=("", "_twin"),
        )
        first = both["first"].to_numpy(dtype=np.int64)
        differs = (both["said"] != both["said_twin"]).to_numpy(dtype=float)
        why = ("no twins", "no question with one true answer is asked of both twins of a pair in this view.")
        return Statistic(
            "flip_rate_all",
            self._table(first, differs),
            ratio,
            self._sum(first, np.ones(len(first))),
            undefined=why,
        )

    def _deltas(self, chosen: np.ndarray) -> list[Statistic]:
        ties, values = self._normal_ties(), self._delta_of_pair[chosen]
        first = self.outcomes.pairs[chosen, 0]
        why = ("no twins", "no twin pair lies wholly in this view.")
        counts = self._sum(first, np.ones(len(first)))
        signed = self._table(first, np.nan_to_num(values[:, 1]))
        return [
            Statistic("delta_p", self._table(first, values[:, 0]), ratio, counts, undefined=why, protocol=self._about),
            Statistic("delta_p_signed", signed if ties else signed * 0, ratio, counts, undefined=why if ties else _NO_TIES,
                      protocol=self._about),
        ]  # fmt: skip

    @cached_property
    def _delta_of_pair(self) -> np.ndarray:
        """How far the answer probabilities of each pair differ, and towards what, (pairs, 2)."""
        outcomes, probabilities = self.outcomes, self.probabilities
        assert probabilities is not None
        asked = outcomes.items[(outcomes.items["question"] == outcomes.concept_question).to_numpy()]
        example = dict(zip(outcomes.home[asked.index], asked["example_id"].astype(str), strict=True))
        missing = [e for e in example.values() if e not in probabilities.index]
        if missing:
            raise DataError(
                f"{len(missing)} test examples have no answer probabilities, the first: {missing[0]!r}."
            )
        answers = [normalize_answer(str(answer)) for answer in probabilities.columns]
        table = probabilities.loc[list(example.values())].to_numpy(dtype=float)
        of = {int(image): table[row] for row, image in enumerate(example)}

        def measure(pairs: list[tuple[int, int]], **given: Any) -> np.ndarray:
            both = np.array([a in of and b in of for a, b in pairs])  # others are in no view
            out = np.zeros((len(pairs), 2))
            if both.any():
                out[both] = delta_p(
                    of, [p for p, use in zip(pairs, both, strict=True) if use], answers, **given
                ).per_pair
            return out

        return self._of_pairs(measure)

    @property
    def _about(self) -> str:
        return f"concept={self.outcomes.concept}; twins differ in {self.outcomes.twin_attribute}"

    def _normal_ties(self) -> dict[str, str]:
        """Ties by what is said: names in captions, normalised answers in VQA."""
        if self.outcomes.task == "captioning":
            return self.ties
        return {normalize_answer(concept): level for concept, level in self.ties.items()}

    def _sum(self, image: np.ndarray, value: np.ndarray) -> np.ndarray:
        return np.bincount(image, value, self.outcomes.n)

    def _table(self, image: np.ndarray, value: np.ndarray) -> np.ndarray:
        return np.column_stack([self._sum(image, value), self._sum(image, np.ones(len(image)))])
