"""Entropy balancing: weights that take the association of a group with many co-occurring words away, all at once.

The weights are as close to uniform (in Kullback-Leibler divergence) as the constraints allow (Hainmueller, 2012).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from clipbias.errors import DataError
from clipbias.tasks.interventions.base import (
    LEAST,
    Intervention,
    Made,
    Situation,
    refuse_few,
    register,
    stage_of,
)
from clipbias.tasks.interventions.measures import effective_size

if TYPE_CHECKING:
    from clipbias.tasks.data import TaskData

_TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class Balanced:
    """Weights and how well they do.

    Attributes
    ----------
    weights : numpy.ndarray (n,)
        Positive, mean one.
    effective : float
        Effective sample size, at most n.
    before, after : float
        Largest absolute association (correlation) of the group with any word.
    """

    weights: np.ndarray
    effective: float
    before: float
    after: float


def entropy_weights(
    words: np.ndarray,
    group: np.ndarray,
    *,
    kappa: float = 0.0,
    soft: float = 0.0,
    least: float = LEAST,
    steps: int = 200,
) -> Balanced:
    """Return weights under which the covariance of every word with the group is ``kappa`` times what it was.

    How frequent each word and the group are stays the same.

    Parameters
    ----------
    words : numpy.ndarray of bool (n, J)
        Which words an item has.
    group : numpy.ndarray of bool or float (n,)
    kappa : float
        1 changes nothing, 0 takes the association away.
    soft : float
        0: the constraints hold exactly. Above: they may be missed, which costs fewer effective items; the penalty on the
        dual in units of standard deviations.
    least : float
        Effective sample size per item below which the weights are refused.
    steps : int
        Newton steps at most.

    Raises
    ------
    DataError
        The group is constant, the constraints cannot be met together, or the effective sample size is too small.
    """
    o, a = np.asarray(words, float), np.asarray(group, float)
    if o.ndim != 2 or len(o) != len(a):
        raise DataError(f"words are (n, J) with one group per row, not {o.shape} and {a.shape}.")
    n = len(a)
    if a.std() == 0:
        raise DataError("all items are of one group; there is no association to balance.")
    o = o[:, o.std(0) > 0]  # a word that all have, or none, is associated with nothing
    centred, other = a - a.mean(), o - o.mean(0)
    products = centred[:, None] * other
    z = np.column_stack([centred, other, products - kappa * products.mean(0)])
    spread = z.std(0)
    z = z[:, spread > 1e-12] / spread[spread > 1e-12]
    weights, missed = _dual(z, soft, steps)
    if soft == 0 and missed > 1e-6:
        raise DataError(
            f"{o.shape[1]} words cannot be balanced together on {n} items (the best weights still miss by {missed:.2g} standard "
            "deviations): balance fewer words, or allow misses (soft=0.01)."
        )
    before, after = (_strongest(o, a, w) for w in (np.ones(n), weights))
    effective = effective_size(weights)
    refuse_few(effective, n, "entropy_balance", least)
    return Balanced(weights * n / weights.sum(), effective, before, after)


def _dual(z: np.ndarray, soft: float, steps: int) -> tuple[np.ndarray, float]:
    """Minimise ``log mean exp(z x) + soft/2 |x|^2`` by damped Newton steps; return the weights and the largest mean of z."""
    from scipy.special import logsumexp

    n, size = z.shape
    x = np.zeros(size)

    def value(at: np.ndarray) -> float:
        return float(logsumexp(z @ at) - np.log(n) + soft / 2 * at @ at)

    def share(at: np.ndarray) -> np.ndarray:
        raised = z @ at
        grown = np.exp(raised - raised.max())
        return grown / grown.sum()

    now = value(x)
    for _ in range(steps):
        p = share(x)
        mean = p @ z
        gradient = mean + soft * x
        if np.abs(gradient).max() < 1e-13:
            break
        curve = (z * p[:, None]).T @ z - np.outer(mean, mean) + (soft + 1e-10) * np.eye(size)
        move = np.linalg.lstsq(curve, gradient, rcond=1e-12)[0]
        length = 1.0
        while length > 1e-8 and value(x - length * move) > now - 1e-4 * length * gradient @ move + 1e-15:
            length /= 2
        if length <= 1e-8:
            break
        x = x - length * move
        now = value(x)
        if np.abs(x).max() > 1e4:  # the minimum lies at infinity: no weights meet the constraints
            break
    p = share(x)
    return p, float(np.abs(p @ z).max(initial=0.0))


def _strongest(o: np.ndarray, a: np.ndarray, weights: np.ndarray) -> float:
    w = weights / weights.sum()
    x, y = o - w @ o, a - w @ a
    spread = np.sqrt((w @ x**2) * (w @ y**2))
    found = np.divide(w @ (x * y[:, None]), spread, out=np.zeros(o.shape[1]), where=spread > 1e-12)
    return float(np.abs(found).max(initial=0.0))


def said_words(
    data: TaskData, split: str, rows: np.ndarray, *, most: int = 40, rare: float = 0.02
) -> tuple[np.ndarray, list[str]]:
    """Return which words the answers or captions of images use, bool (n, J), and the words.

    Parameters
    ----------
    data : TaskData
    split : str
    rows : numpy.ndarray, int
        Positions of images.
    most : int
        The most frequent ones.
    rare : float
        Words of a smaller share of images, or of almost all, are left out.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    examples = data.split(split)
    texts: dict[int, list[str]] = {int(row): [] for row in rows}
    for row, question, target in zip(
        data.image_rows(examples), examples["question"], examples["target"], strict=True
    ):
        # An answer means something only with its question.
        texts[int(row)].append(f"{question} {target}".strip() if data.task == "vqa" else str(target))
    whole = data.task == "vqa"
    counter = (
        CountVectorizer(analyzer=lambda said: said, binary=True)
        if whole
        else CountVectorizer(
            binary=True, stop_words="english", preprocessor=lambda said: ". ".join(said).lower()
        )
    )
    table = counter.fit_transform([texts[int(row)] for row in rows])
    share = np.asarray(table.mean(0)).ravel()
    names = counter.get_feature_names_out()
    usable = np.flatnonzero((share >= rare) & (share <= 1 - rare))
    chosen = usable[np.argsort(-share[usable], kind="stable")][:most]
    return table[:, chosen].toarray().astype(bool), [str(names[i]) for i in chosen]


@register
class EntropyBalance(Intervention):
    """Train on all images, weighted so that a group goes with no word more than with another.

    Attributes
    ----------
    kappa : float
        Share of the association that stays.
    words : int
        At most so many words, the most frequent ones. Words that name the group itself are left out: they are what it is.
    rare : float
    soft : float
        See `entropy_weights`.
    groups : str
        ``A|B``, as in `Rebalance`. Images of others, or unknown ones, keep weight 1.
    """

    name: ClassVar[str] = "entropy_balance"
    kappa: float = Field(default=0.0, ge=0, le=1)
    words: int = Field(default=40, ge=1)
    rare: float = Field(default=0.02, ge=0, lt=0.5)
    soft: float = Field(default=0.0, ge=0)
    groups: str = ""

    def _make(self, on: Situation) -> Made:
        from clipbias.tasks.interventions.rebalance import two_groups

        cells = on.cells
        one, two = two_groups(cells, self.groups)
        rows = np.flatnonzero(np.isin(cells.group, (one, two)))
        table, names = said_words(on.data, "train", cells.rows[rows], most=self.words, rare=self.rare)
        own = {name.lower() for name in cells.groups}
        first = cells.group[rows] == one
        kept = [
            place for place, name in enumerate(names)
            if not own & set(name.lower().replace("?", " ").split()) and not (table[:, place] == first).all()
        ]  # fmt: skip
        if not kept:
            raise DataError("no word is frequent enough to be balanced; lower rare=.")
        found = entropy_weights(table[:, kept], first, kappa=self.kappa, soft=self.soft)
        weights = np.ones(len(cells))
        weights[rows] = found.weights
        notes = {
            "words": len(kept), "strongest association before": round(found.before, 4),
            "strongest association after": float(f"{found.after:.2g}"),
        }  # fmt: skip
        stage = stage_of(cells, np.arange(len(cells)), weights)
        return Made((stage,), train="words, group", weighted=True, notes=notes)


entropy_balance = EntropyBalance
