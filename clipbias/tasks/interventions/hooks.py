"""Loss and feature hooks of interventions; the only state they keep is their own, and it survives an interruption."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clipbias.errors import ClipbiasError
from clipbias.tasks.heads.base import Features
from clipbias.tasks.interventions.cells import Cells
from clipbias.tasks.interventions.difficulty import Averages, generalised, relative_difficulty
from clipbias.tasks.interventions.dro import dro_weights, group_means
from clipbias.tasks.interventions.pairing import partners
from clipbias.tasks.plan import Batch


class GroupDROLoss:
    """Sum over groups of weight times mean loss; weights grow with the loss.

    Parameters
    ----------
    groups : numpy.ndarray, int (n,)
        Of each training example.
    sizes : numpy.ndarray (G,)
        Training examples per group.
    eta, adjustment : float
        See `clipbias.tasks.interventions.dro.dro_weights`.
    """

    def __init__(
        self, groups: np.ndarray, sizes: np.ndarray, *, eta: float = 0.01, adjustment: float = 0.0
    ) -> None:
        self.groups, self.sizes, self.eta, self.adjustment = groups, sizes, eta, adjustment
        self.q = np.full(len(sizes), 1 / len(sizes))

    def __call__(self, losses: Tensor, batch: Batch) -> Tensor:
        """Update the weights and return the loss."""
        groups = self.groups[batch.examples]
        means = group_means(losses.detach().double().cpu().numpy(), groups, len(self.sizes))
        self.q = dro_weights(self.q, means, eta=self.eta, adjustment=self.adjustment, sizes=self.sizes)
        counts = np.bincount(groups, minlength=len(self.sizes))
        each = self.q[groups] / counts[groups]
        return (losses * torch.as_tensor(each, dtype=losses.dtype, device=losses.device)).sum()

    def state_dict(self) -> dict[str, Any]:
        """Return the weights."""
        return {"q": self.q.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the weights of a stopped run."""
        self.q = np.array(state["q"])


class LfFLoss:
    """Weighs each example by how much harder it is for a biased twin than for the head.

    The twin learns on the same batches from the embeddings before adaptation. Averages and weights are of the examples that
    bear the label; others count as they are.

    Parameters
    ----------
    embeddings : numpy.ndarray (m, d)
        Of the images.
    labels : numpy.ndarray, int (m,)
    home : numpy.ndarray, int (n,)
        Image of each training example.
    asked : numpy.ndarray, bool (n,)
        Whether the example bears the label.
    q, alpha, rate, hidden, weights, seed
        See `clipbias.tasks.interventions.lff.LfF`.
    """

    def __init__(
        self, embeddings: np.ndarray, labels: np.ndarray, home: np.ndarray, asked: np.ndarray, *, q: float = 0.7,
        alpha: float = 0.7, rate: float = 3e-3, hidden: int = 0, weights: str = "difficulty", seed: int = 0,
    ) -> None:  # fmt: skip
        x = torch.as_tensor(np.asarray(embeddings), dtype=torch.float32)
        self.x = (x - x.mean(0)) / x.std(0).clamp_min(1e-6)
        self.labels, self.home, self.asked = torch.as_tensor(labels), home, asked
        self.q, self.weights = q, weights
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            width, classes = self.x.shape[1], int(labels.max()) + 1
            layers = (
                [nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, classes)]
                if hidden
                else [nn.Linear(width, classes)]
            )
            self.twin = nn.Sequential(*layers)
        self.optimizer = torch.optim.Adam(self.twin.parameters(), lr=rate)
        classes_of = np.asarray(labels)[home]
        self.biased, self.debiased = Averages(classes_of, alpha), Averages(classes_of, alpha)

    def __call__(self, losses: Tensor, batch: Batch) -> Tensor:
        """Teach the twin, and return the weighted mean loss."""
        mine = self.asked[batch.examples]
        weight = np.ones(len(losses))
        if mine.any() and self.weights != "one":
            index = batch.examples[mine]
            self.biased.update(index, self._teach(index))
            self.debiased.update(index, losses.detach().double().cpu().numpy()[mine])
            found = relative_difficulty(self.biased.relative(index), self.debiased.relative(index))
            if self.weights == "shuffled":
                found = batch.generator.permutation(found)
            # Examples that bear no label are set against the same mean.
            weight[mine], weight[~mine] = found, found.mean()
        return (losses * torch.as_tensor(weight, dtype=losses.dtype, device=losses.device)).mean()

    def _teach(self, index: np.ndarray) -> np.ndarray:
        rows = torch.as_tensor(self.home[index])
        with torch.enable_grad():
            logits = self.twin(self.x[rows])
            cross = nn.functional.cross_entropy(logits, self.labels[rows], reduction="none")
            sure = logits.detach().softmax(1).gather(1, self.labels[rows][:, None])[:, 0]
            generalised(cross, sure, self.q).mean().backward()  # type: ignore[arg-type, attr-defined]
        self.optimizer.step()
        self.optimizer.zero_grad()
        return cross.detach().double().numpy()

    def state_dict(self) -> dict[str, Any]:
        """Return the twin, its optimizer and the averages."""
        return {
            "twin": self.twin.state_dict(), "optimizer": self.optimizer.state_dict(),
            "biased": torch.from_numpy(self.biased.values.copy()), "debiased": torch.from_numpy(self.debiased.values.copy()),
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a stopped run."""
        self.twin.load_state_dict(state["twin"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.biased.values, self.debiased.values = (
            state["biased"].numpy().copy(),
            state["debiased"].numpy().copy(),
        )


class MixFeatures:
    """Blends into what the head sees of an image that of a balanced image of the same label.

    Only examples that bear the label are blended: of the others the partner's answer would be another one.

    Parameters
    ----------
    cells : Cells
    pool : numpy.ndarray, int
        Places of the balanced images.
    s, alpha : float
        See `clipbias.tasks.interventions.mixing.mixed`.
    """

    def __init__(self, cells: Cells, pool: np.ndarray, *, s: float, alpha: float = 1.0) -> None:
        self.cells, self.pool, self.s, self.alpha = cells, pool, s, alpha
        first = np.full(len(cells), -1)
        first[cells.home[::-1]] = np.arange(len(cells.home))[::-1]
        self.example = first[pool]

    def __call__(self, features: Features, batch: Batch) -> Features:
        """Return the blended features."""
        if batch.features is None:
            raise ClipbiasError(
                "features of other examples cannot be had in this loop, so nothing can be blended."
            )
        cells, rng = self.cells, batch.generator
        images = cells.home[batch.examples]
        chosen = partners(cells.label[images], cells.label[self.pool], rng)
        there = np.isin(cells.label[images], cells.label[self.pool])
        blend = (rng.random(len(images)) < self.alpha) & cells.asked[batch.examples] & there
        if self.s == 0 or not blend.any():
            return features
        other = batch.features(self.example[chosen])
        share = torch.as_tensor(
            np.where(blend, self.s, 0.0), dtype=features.pooled.dtype, device=features.pooled.device
        )
        return Features(
            torch.lerp(features.pooled, other.pooled, share[:, None]),
            torch.lerp(features.tokens, other.tokens, share[:, None, None].to(features.tokens.dtype)),
        )
