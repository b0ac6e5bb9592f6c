"""Mixing embeddings: a few balanced examples are blended into all others of the same class.

Xue et al.: DISPEL (arXiv 2305.14521 v1), later MixPro (ICML 2024). Labels are never mixed, which sets it apart from mixup.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from clipbias.errors import DataError
from clipbias.tasks.interventions.base import Intervention, Made, Situation, register, stage_of
from clipbias.tasks.interventions.cells import Cells, stratified
from clipbias.tasks.interventions.measures import check_apart
from clipbias.tasks.interventions.pairing import partners
from clipbias.tasks.interventions.probe import (
    Probe,
    Scaler,
    average,
    balanced_rows,
    fit_probe,
    joint,
    judged,
)
from clipbias.tasks.plan import Stage

if TYPE_CHECKING:
    from clipbias.tasks.interventions.base import Encoder

STRENGTHS = (1.0, 0.3, 0.1, 0.03)
SHARES = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0)


def mixed(
    features: np.ndarray,
    labels: np.ndarray,
    balanced: np.ndarray,
    balanced_labels: np.ndarray,
    *,
    s: float,
    alpha: float = 1.0,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return features of which a share is blended with balanced ones of the same class.

    Parameters
    ----------
    features : numpy.ndarray (n, d)
    labels : numpy.ndarray (n,)
    balanced : numpy.ndarray (m, d)
    balanced_labels : numpy.ndarray (m,)
    s : float
        In [0, 1]: weight of the balanced one. 0 changes nothing, 1 replaces.
    alpha : float
        In [0, 1]: probability that an item is blended at all.
    rng : numpy.random.Generator

    Returns
    -------
    numpy.ndarray (n, d)
    """
    for name, value in (("s", s), ("alpha", alpha)):
        if not 0 <= value <= 1:
            raise DataError(f"{name} is {value}; it lies between 0 and 1.")
    chosen = partners(labels, balanced_labels, rng)
    share = np.where(rng.random(len(features)) < alpha, s, 0.0)[:, None]
    return share * np.asarray(balanced, float)[chosen] + (1 - share) * np.asarray(features, float)


@dataclass(frozen=True, eq=False)
class Mixing:
    """A probe on mixed features and how it was chosen.

    Attributes
    ----------
    probe : Probe
        Mean of the draws.
    s, alpha, strength : float
    tried : dict
        Accuracy of the worst cell on the selection data and the mean over cells, by (strength, s, alpha).
    """

    probe: Probe
    s: float
    alpha: float
    strength: float
    tried: dict[tuple[float, float, float], tuple[float, float]]


def mix_probe(
    features: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    *,
    unlabelled: tuple[np.ndarray, np.ndarray] | None = None,
    selection: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
    s: float | Sequence[float] = SHARES,
    alpha: float | Sequence[float] = 1.0,
    strengths: Sequence[float] = STRENGTHS,
    draws: int = 20,
    missing: Literal["refuse", "allow"] = "refuse",
    shares_group: np.ndarray | None = None,
    scaler: Scaler | None = None,
    ids: tuple[np.ndarray, np.ndarray] | None = None,
    seed: int = 0,
) -> Mixing:
    """Fit linear probes on mixed features, choose by the worst group, average over draws.

    Parameters
    ----------
    features : numpy.ndarray (n, d)
        With known groups.
    labels, groups : numpy.ndarray (n,)
    unlabelled : (features, labels), optional
        More data whose groups are not known.
    selection : (features, labels, groups), optional
        What options are chosen by. Default: a half of the data with groups, which is then not fitted.
    s, alpha : float or sequence of float
        See `mixed`; of several the best is taken.
    strengths : sequence of float
        Inverse strengths of the l1 penalty.
    draws : int
    missing : {"refuse", "allow"}
        What to do if a label lacks a group: refuse, or balance over the cells there are.
    shares_group : numpy.ndarray of bool (n,), optional
        The missing-group path: only these items, which share the spurious feature, enter the balanced subset.
    scaler : Scaler, optional
        Default: fitted on all features.
    ids : (ids, selection ids), optional
        Images of both, which must not overlap.
    seed : int

    Returns
    -------
    Mixing

    Raises
    ------
    DataError
        A missing cell, or selection data that overlap.
    """
    features, labels, groups = np.asarray(features), np.asarray(labels), np.asarray(groups)
    if ids is not None:
        check_apart(*ids)
    more = unlabelled or (np.zeros((0, features.shape[1])), labels[:0])
    rows = np.arange(len(labels))
    if selection is None:
        half = stratified(joint(labels, groups), 0.5, seed)
        rows, chosen_by = np.flatnonzero(~half), np.flatnonzero(half)
        selection = features[chosen_by], labels[chosen_by], groups[chosen_by]
    scaler = scaler or Scaler.of(np.vstack([features[rows], more[0]]))
    x = np.vstack([features[rows], more[0]])
    y = np.concatenate([labels[rows], more[1]])
    pool = rows if shares_group is None else rows[np.asarray(shares_group, bool)[rows]]
    if len(pool) == 0:
        raise DataError("no labelled example shares the spurious feature, so there is no balanced subset.")
    cells = joint(labels[pool], groups[pool])

    def fit(strength: float, share: float, often: float, draw: int) -> Probe:
        rng = np.random.default_rng([seed, 51, draw])
        b = pool[balanced_rows(cells, seed=[seed, 52, draw], missing=missing, labels=labels[pool])]
        keep = balanced_rows(y, seed=[seed, 53, draw])
        blended = mixed(x[keep], y[keep], features[b], labels[b], s=share, alpha=often, rng=rng)
        return fit_probe(blended, y[keep], strength=strength, scaler=scaler, seed=seed)

    grid = list(product(strengths, _several(s), _several(alpha)))
    tried = {one: judged(fit(*one, 0), *selection) for one in grid} if len(grid) > 1 else {}
    best = max(grid, key=lambda one: tried.get(one, (0.0, 0.0)))
    probe = average([fit(*best, draw) for draw in range(draws)])
    return Mixing(probe, best[1], best[2], best[0], tried)


def _several(value: float | Sequence[float]) -> tuple[float, ...]:
    return (float(value),) if isinstance(value, (int, float)) else tuple(float(one) for one in value)


@register
class MixEmbeddings(Intervention):
    """Train plainly, then tune the head on features into which balanced ones of the same class are blended.

    What the head sees is blended: the pooled embedding and the visual tokens alike, never the text.

    Attributes
    ----------
    s : float or "select"
        ``"select"``: chosen by the worst group of linear probes on embeddings of a half of the held-out images.
    alpha : float
    share : float
        Of the training images held out, whose groups are known: a half to blend in, a half to select by.
    tune : float
        Share of the steps for the second stage.
    part : str
        Prefix of the head's parameters that the second stage trains. Default: all.
    missing : {"allow", "refuse"}
    """

    name: ClassVar[str] = "mix_embeddings"
    s: float | Literal["select"] = "select"
    alpha: float = Field(default=1.0, ge=0, le=1)
    share: float = Field(default=0.3, gt=0, lt=1)
    tune: float = Field(default=0.4, gt=0, lt=1)
    part: str = ""
    missing: Literal["allow", "refuse"] = "allow"

    def _make(self, on: Situation) -> Made:
        from clipbias.tasks.interventions.hooks import MixFeatures

        cells = on.cells
        stays, held = cells.part(self.share, self.seed)
        half = stratified(cells.joint[held], 0.5, self.seed + 1)
        labelled, chosen_by = held[~half], held[half]
        s, notes = (
            (float(self.s), {})
            if self.s != "select"
            else self._select(on.encoder, cells, labelled, chosen_by)
        )
        pool = labelled[
            balanced_rows(
                cells.joint[labelled],
                seed=[self.seed, 52],
                missing=self.missing,
                labels=cells.label[labelled],
            )
        ]
        drawn = balanced_rows(cells.label[stays], seed=[self.seed, 53])
        first = stage_of(cells, stays, name="train", share=1 - self.tune)
        second = stage_of(cells, np.concatenate([stays[drawn], labelled]), name="mix", share=self.tune)
        hook = MixFeatures(cells, pool, s=s, alpha=self.alpha)
        second = Stage(
            "mix", second.index, share=self.tune, features=hook, trainable=(self.part,) if self.part else ()
        )
        notes = {"s": s, "alpha": self.alpha, "balanced subset": len(pool), "held out": len(held), **notes}
        seen = "label; label, group of the balanced images"
        by = "label, group" if self.s == "select" else "none"
        return Made((first, second), train=seen, selection=by, notes=notes)

    def _select(
        self, encoder: Encoder, cells: Cells, labelled: np.ndarray, chosen_by: np.ndarray
    ) -> tuple[float, dict[str, object]]:
        known = [rows[cells.known[rows]] for rows in (labelled, chosen_by)]
        x = [encoder(cells.rows[rows]) for rows in known]
        found = mix_probe(
            x[0], cells.label[known[0]], cells.group[known[0]], alpha=self.alpha, strengths=(0.3,), draws=1, missing=self.missing,
            selection=(x[1], cells.label[known[1]], cells.group[known[1]]),
            ids=(cells.rows[known[0]], cells.rows[known[1]]), seed=self.seed,
        )  # fmt: skip
        return found.s, {"worst group of the selection": round(max(found.tried.values())[0], 4)}


mix_embeddings = MixEmbeddings
