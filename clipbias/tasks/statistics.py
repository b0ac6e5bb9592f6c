"""The metrics of predictions as sums over images: quality, gaps, divergences, rates, amplification, twins."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from scipy import sparse

from clipbias.errors import DataError
from clipbias.tasks.estimate import EMPTY, Statistic, gap_of, rates, ratio, spread
from clipbias.tasks.metrics.captions import Bleu, CaptionQuality, corpus_bleu
from clipbias.tasks.metrics.gender import OUTCOMES, gender_cells, gender_values
from clipbias.tasks.metrics.groups import js_divergence
from clipbias.tasks.metrics.vqa import normalize_answer
from clipbias.tasks.metrics.words import Words, caption_group, group_codes, load_words
from clipbias.tasks.outcomes import NONE, Outcomes

GENDER_METRICS = (
    "gender_error",
    "gender_ratio",
    "gender_delta_ratio",
    "outcome_divergence",
    "gender_outcome",
)


def quality(name: str, sums: np.ndarray, units: np.ndarray, *, protocol: str) -> Statistic:
    """Return a quality of all images of a view; ``sums`` are (n, 2) of score and count, or the counts of BLEU."""
    kernel = _bleu_all if name == "bleu4" else ratio
    return Statistic(
        name, sums, kernel, units, protocol=protocol, undefined=("no data", "nothing was predicted here.")
    )


def by_group(
    name: str, sums: np.ndarray, units: np.ndarray, levels: Sequence[str], *, protocol: str
) -> list[Statistic]:
    """Return a quality per group and its gap."""
    each = corpus_bleu if name == "bleu4" else rates
    return [
        Statistic(name, sums, each, units, per_group=True, protocol=protocol,
                  undefined=(EMPTY, "the group has nothing to score here.")),
        Statistic(f"{name}_gap", sums, lambda t: gap_of(each(t)), units, probe=gap_name(levels), protocol=protocol),
    ]  # fmt: skip


def gap_name(levels: Sequence[str]) -> str:
    """Return what a gap subtracts from what."""
    return f"{levels[0]} minus {levels[1]}" if len(levels) == 2 else "largest minus smallest"


def _bleu_all(totals: np.ndarray) -> np.ndarray:
    return corpus_bleu(totals.sum(1))


def caption_sums(found: CaptionQuality, ids: Sequence[str]) -> np.ndarray:
    """Return score and 1 per image, or the counts of BLEU, in the order of ``ids``."""
    place = {key: row for row, key in enumerate(found.per_image)}
    order = [place[key] for key in ids]
    if isinstance(found, Bleu):
        return found.counts[order]
    return np.column_stack([np.array(list(found.per_image.values()))[order], np.ones(len(order))])


def answer_sums(outcomes: Outcomes, values: np.ndarray, use: np.ndarray | None = None) -> np.ndarray:
    """Return the sum of a value per example and the number of examples, per image (n, 2)."""
    home = outcomes.home if use is None else outcomes.home[use]
    values = values if use is None else values[use]
    return np.column_stack([np.bincount(home, values, outcomes.n), np.bincount(home, minlength=outcomes.n)])


def accuracy_by_group(sums: np.ndarray, units: np.ndarray, protocol: str) -> list[Statistic]:
    """Return the worst group and the ratio of error rates, from accuracies in percent."""
    errors = np.column_stack([100 * sums[:, 1] - sums[:, 0], sums[:, 1]])

    def smallest_over_largest(totals: np.ndarray) -> np.ndarray:
        rate = rates(totals)
        have = np.isfinite(rate)
        low, high = np.where(have, rate, np.inf).min(1), np.where(have, rate, -np.inf).max(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(have.sum(1) > 1, np.where(high > 0, low / high, 1.0), np.nan)

    def lowest(totals: np.ndarray) -> np.ndarray:
        rate = rates(totals)
        have = np.isfinite(rate)
        return np.where(have.sum(1) > 1, np.where(have, rate, np.inf).min(1), np.nan)

    return [
        Statistic("worst_group", sums, lowest, units, protocol=protocol,
                  worst=lambda t: int(np.nan_to_num(rates(t[None])[0], nan=np.inf).argmin())),
        Statistic("error_rate_ratio", errors, smallest_over_largest, units, protocol=protocol),
    ]  # fmt: skip


def divergence(outcomes: Outcomes, levels: Sequence[str], *, truth: bool = False) -> Statistic:
    """Return the divergence of answers between groups, inside question types, weighted by their questions.

    Questions whose true answers are all levels of the attribute ("a man or a woman?") are left out: right answers to them
    differ between the groups. ``truth`` takes the true answers in place of the predictions.
    """
    items = outcomes.items
    kinds = items["question_type"].astype(str)
    if (kinds == "").all():
        kinds = items["question"].astype(str)
    true = items["target"].astype(str).map(normalize_answer)
    named = true.isin([normalize_answer(level) for level in levels])
    use = ~named.groupby(items["question"].astype(str)).transform("all").to_numpy()
    said = true if truth else items["prediction"].map(normalize_answer)
    column, keys = pd.factorize(pd.MultiIndex.from_arrays([kinds[use], said[use]]), sort=True)
    home = outcomes.home[use]
    sums = sparse.csr_matrix(
        (np.ones(len(home)), (home, column)), shape=(outcomes.n, len(keys)), dtype=np.float64
    )
    kind_of = np.array([key[0] for key in keys])
    parts = [np.flatnonzero(kind_of == kind) for kind in dict.fromkeys(kind_of)]

    def kernel(totals: np.ndarray) -> np.ndarray:
        value = np.zeros(len(totals))
        weight = np.zeros(len(totals))
        for part in parts:
            own = totals[..., part]
            each, n = js_divergence(own), own.sum((1, 2))
            there = np.isfinite(each)
            value += np.where(there, each, 0.0) * n
            weight += np.where(there, n, 0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(weight > 0, value / weight, np.nan)

    units = np.bincount(home, minlength=outcomes.n)
    why = (EMPTY, "no kind of question is asked about all groups here.")
    return Statistic(
        "answer_divergence_truth" if truth else "answer_divergence", sums, kernel, units, undefined=why
    )


def yes_no(outcomes: Outcomes) -> list[Statistic]:
    """Return demographic parity and equalized odds of the answer "yes" to questions whose true answer is yes or no."""
    truth = outcomes.items["target"].astype(str).map(normalize_answer).to_numpy()
    said = (outcomes.items["prediction"].map(normalize_answer) == "yes").to_numpy()
    use = np.isin(truth, ("yes", "no"))
    yes = truth == "yes"
    cells = [said & yes, yes, said & ~yes, ~yes]
    sums = np.column_stack(
        [np.bincount(outcomes.home[use], cell[use].astype(float), outcomes.n) for cell in cells]
    )
    units = np.bincount(outcomes.home[use], minlength=outcomes.n)

    def parity(totals: np.ndarray) -> np.ndarray:
        return spread(rates(np.stack([totals[..., 0] + totals[..., 2], totals[..., 1] + totals[..., 3]], -1)))

    def odds(totals: np.ndarray) -> np.ndarray:
        both = [rates(totals[..., 2 * k : 2 * k + 2]) for k in (0, 1)]
        gap = np.maximum(spread(both[0]), spread(both[1]))
        # A rate of nothing is no rate: one group without it and the gap says nothing.
        return np.where(np.isfinite(both[0]).all(1) & np.isfinite(both[1]).all(1), gap, np.nan)

    asked = "" if use.any() else "no question here has a yes or no for its true answer."
    return [
        Statistic("demographic_parity", sums, parity, units, probe="yes", undefined=(EMPTY, asked or "fewer than two groups are asked yes/no questions here.")),
        Statistic("equalized_odds", sums, odds, units, probe="yes", undefined=(EMPTY, asked or "a group has no question here whose true answer is yes, or none whose true answer is no.")),
    ]  # fmt: skip


def gender(outcomes: Outcomes, attribute: str, levels: Sequence[str], words: Words) -> list[Statistic]:
    """Return gender error, ratios, outcome divergence and outcomes of captions.

    Raises
    ------
    DataError
        The attribute's levels are not the groups of the word list.
    """
    listed = load_words(words)
    labels = outcomes.table[attribute].astype(str)
    _, names = group_codes(labels, listed)
    if len(names) < 2:
        raise DataError(
            f"the images show only {list(names.values())} of the groups of word list {listed.name!r}."
        )
    order = [list(levels).index(str(names[group])) for group in listed.levels]
    captions = np.full(outcomes.n, "", dtype=object)
    captions[outcomes.home] = outcomes.items["prediction"].to_numpy(dtype=object)
    cells = gender_cells(captions.tolist(), labels, words=listed).cells
    sums = np.where(cells[:, None] >= 0, cells[:, None] % 3 == np.arange(3), False).astype(float)
    units = np.ones(outcomes.n)

    def of(key: str) -> Callable[[np.ndarray], np.ndarray]:
        return lambda totals: gender_values(totals[:, order])[key]

    def outcome(which: int) -> Callable[[np.ndarray], np.ndarray]:
        back = np.argsort(order)
        return lambda totals: gender_values(totals[:, order])["rates"][..., which][:, back]

    # An image of unknown group never gets here: it is in no sample of the attribute.
    said = f"words={listed.name}"
    none = ("undefined", "no caption here names only the first gender of the word list.")
    return [
        Statistic("gender_error", sums, of("error"), units, protocol=said),
        Statistic("gender_error", sums, outcome(1), units, per_group=True, protocol=said),
        Statistic("gender_ratio", sums, of("ratio"), units, undefined=none, protocol=said),
        Statistic("gender_delta_ratio", sums, of("delta_ratio"), units, undefined=none, protocol=said),
        Statistic("outcome_divergence", sums, of("outcome_divergence"), units, protocol=said),
        *(Statistic("gender_outcome", sums, outcome(k), units, probe=name, per_group=True, protocol=said) for k, name in enumerate(OUTCOMES)),
    ]  # fmt: skip


def amplification(
    outcomes: Outcomes, attribute: str, levels: Sequence[str], words: Words, train: pd.DataFrame | None
) -> list[Statistic]:
    """Return directional bias amplification between the group and the concept that captions name, both ways.

    The signs come from ``train`` (columns: the attribute and the concept) if given, else from the planted ties, else from the
    test images themselves.

    Raises
    ------
    DataError
        The attribute's levels are not the groups of the word list.
    """
    listed = load_words(words)
    _, names = group_codes(outcomes.table[attribute].astype(str), listed)
    concepts = outcomes.concept_levels
    truth = _indicators(outcomes.concepts, concepts)
    said = _indicators(outcomes.said_concepts(), concepts)
    captions = np.full(outcomes.n, "", dtype=object)
    captions[outcomes.home] = outcomes.items["prediction"].to_numpy(dtype=object)
    group = np.array(
        [str(names.get(g, NONE)) for g in caption_group(captions.tolist(), listed)], dtype=object
    )
    named_group = _indicators(group, levels)
    sign, source = _signs(outcomes, attribute, levels, concepts, train)
    a, t = len(levels), len(concepts)
    cross = (named_group[:, :, None] * truth[:, None, :]).reshape(outcomes.n, a * t)
    sums = np.column_stack([truth, said, cross, np.ones(outcomes.n)])

    def kernel(direction: str) -> Callable[[np.ndarray], np.ndarray]:
        def value(totals: np.ndarray) -> np.ndarray:
            both, size = totals[..., :t], totals[..., -1:]
            signs = (
                np.sign(both * size.sum(1)[:, None] - size * both.sum(1)[:, None]) if sign is None else sign
            )
            with np.errstate(divide="ignore", invalid="ignore"):
                if direction == "A->T":
                    delta = (totals[..., t : 2 * t] - both) / size
                else:
                    predicted = totals[..., 2 * t : -1].sum(1).reshape(-1, a, t)
                    delta = (predicted - both) / both.sum(1)[:, None]
            have = np.isfinite(delta)
            count = have.sum((1, 2))
            total = np.where(have, signs * np.where(have, delta, 0.0), 0.0).sum((1, 2))
            return np.where(count > 0, total / np.maximum(count, 1), np.nan)

        return value

    note = f"words={listed.name}; concept={outcomes.concept}; signs={source}"
    why = ("undefined", "no image here fulfils the condition of any pair.")
    return [
        Statistic("directional_bias_amplification", sums, kernel(d), np.ones(outcomes.n), probe=d, undefined=why, protocol=note)
        for d in ("A->T", "T->A")
    ]  # fmt: skip


def _signs(
    outcomes: Outcomes,
    attribute: str,
    levels: Sequence[str],
    concepts: Sequence[str],
    train: pd.DataFrame | None,
) -> tuple[np.ndarray | None, str]:
    if train is not None:
        for column in (attribute, outcomes.concept):
            if column not in train:
                raise DataError(f"train_truth has no column {column!r}.")
        a = _indicators(train[attribute].astype(str).to_numpy(), levels)
        t = _indicators(train[outcomes.concept].astype(str).to_numpy(), concepts)
        n = (a.any(1) | t.any(1)).sum()
        return np.sign(a.T @ t * n - np.outer(a.sum(0), t.sum(0))), "train"
    ties = outcomes.ties_of(levels)
    if ties:
        return np.array(
            [[0.0 if c not in ties else 1.0 if ties[c] == g else -1.0 for c in concepts] for g in levels]
        ), "ties"
    return None, "test"


def _indicators(labels: np.ndarray, levels: Sequence[str]) -> np.ndarray:
    return (np.asarray(labels, dtype=object)[:, None] == np.array(levels, dtype=object)[None]).astype(float)
