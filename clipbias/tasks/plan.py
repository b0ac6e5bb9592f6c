"""What an intervention asks of the training loop; the loop knows nothing else about interventions.

A plan has six slots: which examples (a multiset), how much each counts, in which stages, through which loss, what is
fitted again afterwards, and how answer probabilities are changed at the end. The neutral plan leaves all as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from clipbias.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from clipbias.tasks.data import TaskData
    from clipbias.tasks.heads.base import Features

LossHook = Callable[["Tensor", "Batch"], "Tensor"]
FeatureHook = Callable[["Features", "Batch"], "Features"]
PosteriorMap = Callable[["Tensor", "pd.DataFrame"], "Tensor"]


@dataclass(frozen=True)
class Batch:
    """What a hook is told about a step.

    Attributes
    ----------
    examples : numpy.ndarray, int (B,)
        Positions in the stage's table of training examples.
    weights : Tensor (B,)
    step : int
        Steps done so far, over all stages.
    generator : numpy.random.Generator
        Drawn from the run's seed and the step, so that a resumed run draws the same.
    features : callable, optional
        Positions of other training examples of the stage to what the tower says of their images.
    """

    examples: np.ndarray
    weights: Tensor
    step: int
    generator: np.random.Generator
    features: Callable[[np.ndarray], Features] | None = None


@dataclass(frozen=True, eq=False)
class Stage:
    """One stage of training.

    Attributes
    ----------
    name : str
    index : numpy.ndarray, int (m,), optional
        Multiset of positions in the table of training examples: an example may be absent or appear many times.
        Default: each example once.
    weights : numpy.ndarray, float (m,), optional
        Factor on the loss of each entry of ``index``, not negative, not all zero; scaled to mean one.
    share : float
        Share of the recipe's steps, above 0; shares of all stages are scaled to sum to one.
    loss : callable, optional
        ``loss(losses (B,), batch) -> scalar``; default the weighted mean. One with ``state_dict`` and ``load_state_dict``
        keeps its state over an interruption.
    features : callable, optional
        ``features(features, batch) -> features``: what the head sees instead.
    trainable : tuple of str
        Prefixes of the names of the head's parameters that are trained; default all.
    data : TaskData, optional
        Other training data for this stage (synthetic images, for example).
    """

    name: str = "train"
    index: np.ndarray | None = None
    weights: np.ndarray | None = None
    share: float = 1.0
    loss: LossHook | None = None
    features: FeatureHook | None = None
    trainable: tuple[str, ...] = ()
    data: TaskData | None = None

    def entries(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the multiset and its weights, mean one, for ``n`` training examples.

        Raises
        ------
        DataError
            A position outside of the examples, nothing to train on, or weights that are no weights.
        """
        index = np.arange(n) if self.index is None else np.asarray(self.index, np.int64)
        if len(index) == 0:
            raise DataError(f"stage {self.name!r} has no training examples.")
        if index.min() < 0 or index.max() >= n:
            raise DataError(
                f"stage {self.name!r} asks for example {int(index.max() if index.max() >= n else index.min())}; "
                f"there are {n}."
            )
        weights = np.ones(len(index)) if self.weights is None else np.asarray(self.weights, np.float64)
        if weights.shape != index.shape or not np.isfinite(weights).all() or (weights < 0).any():
            raise DataError(
                f"stage {self.name!r} needs one finite weight of at least 0 per entry ({len(index)})."
            )
        if not weights.any():
            raise DataError(f"stage {self.name!r}: all weights are 0.")
        return index, weights / weights.mean()


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything an intervention changes.

    Attributes
    ----------
    name : str
        Goes into the column ``intervention``; empty for plain training.
    stages : tuple of Stage
    refit : callable, optional
        ``refit(context) -> None`` after the last stage: changes the head's parameters in place
        (`clipbias.tasks.train.Refit` says what it is given).
    posterior : callable, optional
        ``posterior(probabilities (n, A), examples) -> (n, A)`` on the test examples' answer probabilities.
    record : mapping
        What the report says of it: labels seen by each stage, examples used, effective sample size, seconds.
    """

    name: str = ""
    stages: tuple[Stage, ...] = (Stage(),)
    refit: Callable[[Any], None] | None = None
    posterior: PosteriorMap | None = None
    record: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.stages or any(not stage.share > 0 for stage in self.stages):
            raise DataError(f"plan {self.name!r} needs at least one stage, each with a share above 0.")

    def steps(self, total: int) -> list[int]:
        """Return the steps of each stage: at least one each, in proportion to the shares, ``total`` together."""
        shares = np.array([stage.share for stage in self.stages])
        ends = np.rint(np.cumsum(shares) / shares.sum() * total).astype(int)
        return np.maximum(np.diff(ends, prepend=0), 1).tolist()

    @property
    def plain(self) -> bool:
        """Whether nothing is changed."""
        first = self.stages[0]
        same = len(self.stages) == 1 and all(
            getattr(first, name) is None for name in ("index", "weights", "loss", "features", "data")
        )
        return same and not first.trainable and self.refit is None and self.posterior is None
