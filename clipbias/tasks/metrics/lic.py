"""LIC: what captions tell of a person's group beside its own words (Hirota et al. 2022)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from clipbias.errors import DataError, StatusError
from clipbias.tasks.metrics.attackers import Attacker, Fit, text_attacker
from clipbias.tasks.metrics.masking import mask_captions, vocabulary_of
from clipbias.tasks.metrics.splits import as_blocks, balanced_split, enough, group_labels, seed_list
from clipbias.tasks.metrics.words import Words, as_captions, load_words, missed_words

REFERENCE = "arXiv:2203.15395"


@dataclass(frozen=True, eq=False)
class Lic:
    """Leakage of a group through captions in which its words are masked.

    Attributes
    ----------
    value : float
        LIC = ``lic_m − lic_d``, in [−1, 1]; positive amplifies what human captions tell, lower is fairer. NaN
        without human captions.
    lic_m, lic_d : float
        Mean over test captions of (probability of the guessed group, if the guess is right, else 0), of the
        model's and of human captions; in [0, 1]. Chance is not 0.5: an untrained classifier on two groups has
        about 0.25. Compare with the null.
    sd, lic_m_sd, lic_d_sd : float
        Standard deviation over seeds. The seeds share the images: it is the spread of the procedure, not a
        standard error.
    accuracy_m, accuracy_d : float
        Share of right guesses, which calibration does not touch.
    by_group : dict
        Group to its part of ``lic_m`` (mean over its own test captions).
    seeds : pandas.DataFrame
        One row per seed: ``seed, lic_m, lic_d, lic, accuracy_m, accuracy_d``.
    null : pandas.DataFrame
        The same with labels permuted, one row per permutation; empty with ``permutations=0``.
    p_m, p_d, p : float
        Share of permutations with a value at least as large (one-sided, with the observed one counted), for
        ``lic_m``, ``lic_d`` and LIC. At ten permutations the smallest is 1/11.
    groups : tuple
    n, left_out : int
        Captions of the smallest group times the number of groups, which are used per seed; images without a
        group.
    attacker, words : str
    missed : dict
        Gendered words of the model's captions that were not masked.
    undefined : dict
        Field to reason, for each NaN.
    """

    value: float
    lic_m: float
    lic_d: float
    sd: float
    lic_m_sd: float
    lic_d_sd: float
    accuracy_m: float
    accuracy_d: float
    by_group: dict[Any, float]
    seeds: pd.DataFrame
    null: pd.DataFrame
    p_m: float
    p_d: float
    p: float
    groups: tuple
    n: int
    left_out: int
    attacker: str
    words: str
    missed: dict[str, int] = field(default_factory=dict)
    undefined: dict[str, str] = field(default_factory=dict)


def lic(
    model_captions: Iterable[str],
    human_captions: Sequence[Sequence[str]] | None,
    attribute: Any,
    *,
    attacker: str | Attacker = "logistic",
    seeds: int | Sequence[int] = 10,
    permutations: int = 10,
    words: Words | None = "lic2022",
    vocabulary: Collection[str] | None = None,
    test_share: float = 0.1,
    blocks: Any = None,
    options: Mapping[str, Any] | None = None,
) -> Lic:
    """Return LIC of a captioner.

    For each seed: draw as many images of each group, mask the group's words, train a classifier on 90 % of
    the captions and score it on the others. The same with each of the human captions of an image (their
    first, second, ... caption apart, then averaged), in which words that the captioner never writes become
    ``<unk>``.

    Parameters
    ----------
    model_captions : iterable of str (n,)
    human_captions : sequence (n,) of sequences of str, or None
        Human captions of each image; an empty one leaves the image out of LIC_D. None gives LIC_M alone.
    attribute : array (n,)
        Group of the person; images with ``"unknown"`` are left out. More than two groups are fine: chance
        changes.
    attacker : str or callable
        ``"logistic"`` (default), ``"lstm"`` or ``"bert:PATH"``; see
        `clipbias.tasks.metrics.attackers.text_attacker`.
    seeds : int or sequence of int
        Fewer than ten are for trying out: one seed is off by 1 to 3 points, and models differ by 1 to 4.
    permutations : int
        How often the labels are permuted for the null.
    words : str, WordList, mapping or None
        Words to mask; None masks nothing.
    vocabulary : collection of str, optional
        The captioner's words. Default: those of its captions.
    test_share : float
    blocks : array (n,), optional
        Images that must stay on one side of a split, for example counterfactual twins.
    options : mapping, optional
        Settings of the attacker.

    Returns
    -------
    Lic

    Raises
    ------
    DataError
        Lengths differ, a caption is no text, an unknown attacker or word list.
    StatusError
        Fewer than two groups, or fewer than ten images of one.

    Notes
    -----
    Differences from the published code: model captions are lower-cased as the human ones are, and the groups'
    own scores divide by their captions rather than by padded batches.
    """
    texts = as_captions(model_captions, "model_captions")
    if len(attribute) != len(texts):
        raise DataError(f"{len(texts)} captions but {len(attribute)} labels: one each is needed.")
    codes, groups = group_labels(attribute)
    listed = load_words(words) if words is not None else None
    together = as_blocks(blocks, len(texts))
    drawn = seed_list(seeds)
    prepare = text_attacker(attacker, options)
    masked = mask_captions(texts, listed)
    sources = [(prepare(masked, len(groups)), codes)]
    if human_captions is not None:
        known = vocabulary if vocabulary is not None else vocabulary_of(masked)
        humans = _human_sets(human_captions, codes, groups, listed, known)
        sources += [(prepare(captions, len(groups)), own) for captions, own in humans]
    run = _Runner(sources, together, test_share, len(groups))
    seed_table = pd.DataFrame([run.row(codes, seed, seed) for seed in drawn])
    rng = np.random.default_rng([20220315, len(texts)])
    null_rows = []
    for number in range(permutations):
        shuffled = np.where(codes >= 0, 0, -1)
        shuffled[codes >= 0] = rng.permutation(codes[codes >= 0])
        null_rows.append(run.row(shuffled, 1000 + number, drawn[number % len(drawn)]))
    columns = ["seed", "lic_m", "lic_d", "lic", "accuracy_m", "accuracy_d"]
    null = pd.DataFrame(null_rows, columns=columns)
    mean, sd = seed_table[columns].mean(), seed_table[columns].std(ddof=1)
    undefined = {}
    if human_captions is None:
        undefined = dict.fromkeys(
            ("value", "lic_d", "sd", "lic_d_sd", "accuracy_d", "p", "p_d"), "no human captions were given."
        )
    if permutations == 0:
        undefined |= dict.fromkeys(("p", "p_m", "p_d"), "no permutations were asked for.")
    return Lic(
        value=float(mean["lic"]), lic_m=float(mean["lic_m"]), lic_d=float(mean["lic_d"]),
        sd=float(sd["lic"]), lic_m_sd=float(sd["lic_m"]), lic_d_sd=float(sd["lic_d"]),
        accuracy_m=float(mean["accuracy_m"]), accuracy_d=float(mean["accuracy_d"]),
        by_group={g: float(seed_table[f"group {i}"].mean()) for i, g in enumerate(groups)},
        seeds=seed_table[columns], null=null,
        p_m=_p(float(mean["lic_m"]), null["lic_m"]), p_d=_p(float(mean["lic_d"]), null["lic_d"]),
        p=_p(float(mean["lic"]), null["lic"]), groups=groups,
        n=int(np.bincount(codes[codes >= 0]).min()) * len(groups), left_out=int((codes < 0).sum()),
        attacker=attacker if isinstance(attacker, str) else getattr(attacker, "__name__", "custom"),
        words=listed.name if listed is not None else "",
        missed=missed_words(texts, listed) if listed is not None and listed.attribute == "gender" else {},
        undefined=undefined,
    )  # fmt: skip


def guess_scores(probabilities: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each caption the confidence of a right guess (0 if wrong), and whether the guess is right.

    A tie of two groups goes to the second, as at p ≥ 0.5 in the published code.
    """
    guess = probabilities.shape[1] - 1 - probabilities[:, ::-1].argmax(1)
    right = guess == truth
    return np.where(right, probabilities.max(1), 0.0), right


class _Runner:
    """Fit the attacker to the model's and to each set of human captions, with one split per seed."""

    def __init__(
        self, sources: list[tuple[Fit, np.ndarray]], blocks: np.ndarray | None, test_share: float, groups: int
    ) -> None:
        self.sources, self.blocks, self.test_share, self.groups = sources, blocks, test_share, groups

    def row(self, codes: np.ndarray, seed: int, split_seed: int) -> dict[str, float]:
        """Return one row of the table of seeds; ``codes`` are the labels to be learnt, true or permuted."""
        found = []
        for number, (fit, own) in enumerate(self.sources):
            here = np.where(own >= 0, codes, -1)
            rng = np.random.default_rng([split_seed, 4])
            train, test = balanced_split(here, rng, test_share=self.test_share, blocks=self.blocks)
            score, right = guess_scores(fit(here, train, test, seed), here[test])
            if number == 0:
                by_group = {f"group {g}": score[here[test] == g].mean() for g in range(self.groups)}
            found.append((score.mean(), right.mean()))
        human = np.mean(found[1:], axis=0) if len(found) > 1 else (np.nan, np.nan)
        return {
            "seed": seed, "lic_m": found[0][0], "lic_d": human[0], "lic": found[0][0] - human[0],
            "accuracy_m": found[0][1], "accuracy_d": human[1], **by_group,
        }  # fmt: skip


def _human_sets(
    captions: Sequence[Sequence[str]],
    codes: np.ndarray,
    groups: tuple,
    words: Any,
    vocabulary: Collection[str],
) -> list[tuple[list[str], np.ndarray]]:
    """Return the first, the second, ... human captions of all images, masked, with the images' labels."""
    if len(captions) != codes.size:
        raise DataError(
            f"{codes.size} images but human captions of {len(captions)}; give an empty list for none."
        )
    several = [as_captions(c, f"human_captions of image {i}") for i, c in enumerate(captions)]
    counts = np.array([len(c) for c in several])
    own = np.where(counts > 0, codes, -1)
    if (own < 0).all():
        raise StatusError("no human captions", "no image with a known group has a human caption.")
    enough(own, groups)
    number = int(counts[own >= 0].min())
    return [
        (mask_captions([c[k] if len(c) > k else "" for c in several], words, vocabulary=vocabulary), own)
        for k in range(number)
    ]


def _p(value: float, null: pd.Series) -> float:
    if np.isnan(value) or null.empty:
        return float("nan")
    return float((1 + (null >= value).sum()) / (1 + len(null)))
