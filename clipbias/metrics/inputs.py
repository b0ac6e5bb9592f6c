"""What is put into a metric when it is measured with its uncertainty: four kinds of input.

Each knows how to make the tally of its metrics for the data as they are, for bootstrap draws, for permuted
labels and for subsets. Everything that several metrics share is computed once and kept on the input.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from clipbias.errors import DataError
from clipbias.metrics import draws as make
from clipbias.metrics.checks import as_groups, as_scores, resolve_k, unit
from clipbias.metrics.draws import Draws
from clipbias.metrics.eat import AssociationTally, effect_draws
from clipbias.metrics.protocol import Protocol
from clipbias.metrics.record import Metric
from clipbias.metrics.tally import Order, RankingTally, RateTally

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class _Grouped:
    """Items with group labels; the draws over them are the same for every metric."""

    _kept: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    def _keep(self, key: Any, build: Callable[[], T]) -> T:
        if key not in self._kept:
            self._kept[key] = build()
        return self._kept[key]

    @property
    def coded(self) -> tuple[np.ndarray, tuple[Any, ...]]:
        """Group codes and levels."""
        return self._keep("coded", lambda: as_groups(self.groups, self.n, self.levels))  # type: ignore[attr-defined]

    def _draws(self, kind: str, protocol: Protocol, classes: np.ndarray | None) -> Draws:
        codes, levels = self.coded
        strata, blocks = _codes(self.strata), _codes(self.blocks)  # type: ignore[attr-defined]
        g = len(levels)
        if kind == "observed":
            return make.observed(codes, g)
        if kind == "permuted":
            return make.permuted(
                codes, g, size=protocol.n_perm, seed=protocol.seed, strata=_cross(strata, classes)
            )
        cells = codes if classes is None else classes.astype(np.int64) * g + codes
        return make.bootstrap(codes, g, size=protocol.n_boot, seed=protocol.seed, cells=cells, blocks=blocks)

    def draws(self, kind: str, protocol: Protocol, metric: Metric | None = None) -> Draws:
        """Return the observed data, the bootstrap or the permutations."""
        classes = self._classes if metric is not None and metric.within_class else None
        size = {"observed": 0, "bootstrap": protocol.n_boot, "permuted": protocol.n_perm}[kind]
        key = ("draws", kind, size, protocol.seed, classes is None)
        return self._keep(key, lambda: self._draws(kind, protocol, classes))

    @property
    def _classes(self) -> np.ndarray | None:
        return None


def _codes(labels: Any) -> np.ndarray | None:
    return None if labels is None else np.unique(np.asarray(labels), return_inverse=True)[1].ravel()


def _cross(a: np.ndarray | None, b: np.ndarray | None) -> np.ndarray | None:
    """Return codes of the combinations of two partitions; None is the partition with one part."""
    if a is None or b is None:
        return a if b is None else b
    return _codes(a.astype(np.int64) * (int(b.max()) + 1) + b)


@dataclass(frozen=True, eq=False)
class Ranking(_Grouped):
    """Images ranked by their similarity to probes.

    Attributes
    ----------
    scores : array (P, n)
        Higher is ranked first.
    probes : list of str
        Names of the P probes.
    groups : array (n,)
        Perceived group of each image; a pandas Categorical keeps its levels.
    levels : sequence, optional
        Declared levels.
    blocks : array (n,), optional
        Clusters that are resampled as a whole, for example counterfactual twins.
    strata : array (n,), optional
        Parts inside which labels are permuted.
    world : array (P, G), optional
        Shares of the levels in the real world for each probe (occupation), in the order of the levels.
    """

    scores: Any
    probes: Sequence[str]
    groups: Any
    levels: Sequence[Hashable] | None = None
    blocks: Any = None
    strata: Any = None
    world: Any = None

    def __post_init__(self) -> None:
        scores = as_scores(self.scores, 2)
        object.__setattr__(self, "scores", scores)
        if self.world is not None and np.shape(self.world) != (len(scores), len(self.coded[1])):
            shape = (len(scores), len(self.coded[1]))
            raise DataError(
                f"world needs one share per probe and level {shape}, it has shape {np.shape(self.world)}."
            )
        if len(self.probes) != len(scores):
            raise DataError(f"{len(scores)} rows of scores but {len(self.probes)} probe names.")
        _ = self.coded

    @property
    def n(self) -> int:
        """Number of images."""
        return int(np.shape(self.scores)[1])

    def order(self, ties: str) -> Order:
        """Return the order of the images under each probe."""
        return self._keep(("order", ties), lambda: Order(self.scores, ties))

    def _of(self, draws: Draws, protocol: Protocol) -> RankingTally:
        tally = RankingTally(
            self.order(protocol.ties), draws, self.coded[1],
            k=protocol.k, reference=protocol.reference, zero=protocol.zero, bias=protocol.bias_at_k,
        )  # fmt: skip
        tally.world = None if self.world is None else np.asarray(self.world, dtype=np.float64)
        return tally

    def tally(self, kind: str, protocol: Protocol, metric: Metric) -> RankingTally:
        """Return the counts of the data, the bootstrap or the permutations."""
        return self._keep((kind, protocol.hash), lambda: self._of(self.draws(kind, protocol), protocol))

    def subsets(self, masks: np.ndarray, protocol: Protocol, metric: Metric) -> RankingTally:
        """Return the counts of subsets of the images, masks (m, n)."""
        return self._of(make.subsets(self.coded[0], len(self.coded[1]), masks), protocol)


@dataclass(frozen=True, eq=False)
class _Rated(_Grouped):
    """Items that are hit or missed, by probe."""

    def _facts(self) -> dict[str, np.ndarray]:
        raise NotImplementedError

    def _of(self, draws: Draws) -> RateTally:
        return RateTally(self._keep("facts", self._facts), draws)

    def tally(self, kind: str, protocol: Protocol, metric: Metric) -> RateTally:
        """Return the counts of the data, the bootstrap or the permutations."""
        key = (kind, protocol.hash, metric.within_class)
        return self._keep(key, lambda: self._of(self.draws(kind, protocol, metric)))

    def subsets(self, masks: np.ndarray, protocol: Protocol, metric: Metric) -> RateTally:
        """Return the counts of subsets of the items, masks (m, n)."""
        return self._of(make.subsets(self.coded[0], len(self.coded[1]), masks))


@dataclass(frozen=True, eq=False)
class Classification(_Rated):
    """Images with a true and a predicted class; the classes are the probes.

    Attributes
    ----------
    y_true, y_pred : array (n,)
        Class labels. ``y_true`` may be None for metrics that do not need it (harm rate).
    classes : sequence of str
    groups : array (n,)
    harmful : sequence
        Predicted classes that count as harm.
    levels, blocks, strata
        As for `Ranking`.
    """

    y_true: Any
    y_pred: Any
    classes: Sequence[Any]
    groups: Any
    levels: Sequence[Hashable] | None = None
    blocks: Any = None
    strata: Any = None
    harmful: Sequence[Any] = ()

    def __post_init__(self) -> None:
        _ = self.coded
        for name in ("y_true", "y_pred"):
            given = getattr(self, name)
            if given is not None:
                as_groups(given, self.n, self.classes)

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.y_pred)

    @property
    def probes(self) -> list[str]:
        """Names of the classes."""
        return [str(c) for c in self.classes]

    @property
    def _classes(self) -> np.ndarray | None:
        if self.y_true is None:
            raise DataError("this metric needs the true class of each image (y_true).")
        return as_groups(self.y_true, self.n, self.classes)[0]

    def _facts(self) -> dict[str, np.ndarray]:
        predicted = (
            as_groups(self.y_pred, self.n, self.classes)[0][None] == np.arange(len(self.classes))[:, None]
        )
        facts = {"predicted": predicted, "all": np.ones_like(predicted)}
        harm = np.isin(np.asarray(self.classes, dtype=object).astype(str), [str(h) for h in self.harmful])
        facts["harm"] = (predicted & harm[:, None]).any(0, keepdims=True)
        if self.y_true is not None:
            true = self._classes[None] == np.arange(len(self.classes))[:, None]  # type: ignore[index]
            facts |= {"hit": predicted & true, "among": true, "others": ~true}
        return facts


@dataclass(frozen=True, eq=False)
class _ByProbe(_Rated):
    """Items that belong to one probe each; without labels there is one probe, ``""``."""

    @property
    def n(self) -> int:
        """Number of items."""
        raise NotImplementedError

    @property
    def _labels(self) -> Any:
        raise NotImplementedError

    @property
    def _probe(self) -> tuple[np.ndarray, tuple[Any, ...]]:
        labels = [""] * self.n if self._labels is None else self._labels
        return self._keep("probe", lambda: as_groups(labels, self.n))

    @property
    def probes(self) -> list[str]:
        """Names of the probes."""
        return [str(p) for p in self._probe[1]]

    @property
    def _classes(self) -> np.ndarray | None:
        return self._probe[0]

    @property
    def _among(self) -> np.ndarray:
        """Which items belong to which probe, (P, n)."""
        return self._probe[0][None] == np.arange(len(self._probe[1]))[:, None]


@dataclass(frozen=True, eq=False)
class Retrieval(_ByProbe):
    """Queries that each look for one wanted item in a gallery shared by all groups.

    Attributes
    ----------
    similarity : array (n_queries, n_gallery)
    target : array of int (n_queries,)
        Gallery position of the wanted item.
    groups : array (n_queries,)
        Group that the query is about (that of its wanted image).
    probes_of : array (n_queries,), optional
        Probe (for example role) of each query; without it there is one probe, ``""``.
    k : int or float
        Hit if the wanted item is among the first k; tied items give the chance of it.
    """

    similarity: Any
    target: Any
    groups: Any
    probes_of: Any = None
    k: float = 10
    levels: Sequence[Hashable] | None = None
    blocks: Any = None
    strata: Any = None

    def __post_init__(self) -> None:
        as_scores(self.similarity, 2)
        _ = self.coded
        resolve_k(self.k, np.shape(self.similarity)[1], "gallery items")

    @property
    def n(self) -> int:
        """Number of queries."""
        return len(self.similarity)

    @property
    def _labels(self) -> Any:
        return self.probes_of

    def _facts(self) -> dict[str, np.ndarray]:
        among = self._among
        return {"hit": hits(self.similarity, self.target, self.k)[None] * among, "among": among}


@dataclass(frozen=True, eq=False)
class Pronouns(_ByProbe):
    """Images of people whose pronoun (or gender word) a model had to choose; occupations are the probes.

    Attributes
    ----------
    predicted : array (n,)
        The level whose text is closest; a neutral one counts as wrong.
    groups : array (n,)
        Perceived gender.
    occupations : array (n,), optional
        Probe of each image; without it there is one probe, ``""``.
    levels, blocks, strata
        As for `Ranking`.
    """

    predicted: Any
    groups: Any
    occupations: Any = None
    levels: Sequence[Hashable] | None = None
    blocks: Any = None
    strata: Any = None

    def __post_init__(self) -> None:
        _ = self.coded

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.predicted)

    @property
    def _labels(self) -> Any:
        return self.occupations

    def _facts(self) -> dict[str, np.ndarray]:
        among = self._among
        codes, names = self.coded
        said = np.array([str(p) for p in self.predicted], dtype=object)
        right = said == np.array([str(name) for name in names], dtype=object)[codes]
        neutral = ~np.isin(said.astype(str), [str(name) for name in names])
        return {"hit": right[None] & among, "among": among, "neutral": neutral[None] & among}


@dataclass(frozen=True, eq=False)
class Labels(_Rated):
    """Two labels of the same images: what a view is made of. The levels of ``other`` are the probes.

    Attributes
    ----------
    other : array (n,)
        For example the role or the place of each image.
    groups : array (n,)
        Perceived group.
    levels, blocks, strata
        As for `Ranking`.
    """

    other: Any
    groups: Any
    levels: Sequence[Hashable] | None = None
    blocks: Any = None
    strata: Any = None

    def __post_init__(self) -> None:
        _ = self.coded

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.other)

    @property
    def _probe(self) -> tuple[np.ndarray, tuple[Any, ...]]:
        return self._keep("probe", lambda: as_groups(self.other, self.n))

    @property
    def probes(self) -> list[str]:
        """Levels of the other label."""
        return [str(p) for p in self._probe[1]]

    def _draws(self, kind: str, protocol: Protocol, classes: np.ndarray | None) -> Draws:
        """Draw as other inputs do, but for a bootstrap over all images: how many there are of a group is measured here."""
        if kind != "bootstrap":
            return super()._draws(kind, protocol, classes)
        codes, levels = self.coded
        return make.bootstrap(
            codes,
            len(levels),
            size=protocol.n_boot,
            seed=protocol.seed,
            cells=np.zeros_like(codes),
            blocks=_codes(self.blocks),
        )

    def _facts(self) -> dict[str, np.ndarray]:
        return {"among": self._probe[0][None] == np.arange(len(self._probe[1]))[:, None]}


def hits(
    similarity: Any, target: Any, k: float, *, within: tuple[np.ndarray, np.ndarray] | None = None
) -> np.ndarray:
    """Return the chance (n_queries,) that the wanted item is among the first k of the gallery.

    ``within`` holds the group of each query and of each gallery item: only items of the query's group then count.
    """
    similarity = as_scores(similarity, 2)
    wanted = np.asarray(target)
    n, gallery = similarity.shape
    if wanted.shape != (n,) or wanted.min() < 0 or wanted.max() >= gallery:
        raise DataError(f"target needs one gallery position in 0..{gallery - 1} for each of the {n} queries.")
    k = resolve_k(k, gallery, "gallery items")
    mine = similarity[np.arange(n), wanted][:, None]
    offered: np.ndarray | bool = True
    if within is not None:
        queries, items = within
        if items.shape != (gallery,):
            raise DataError(f"{items.size} groups for {gallery} gallery items.")
        if (items[wanted] != queries).any():
            at = int(np.argmax(items[wanted] != queries))
            raise DataError(f"the item wanted by query {at} is not of the query's group {queries[at]!r}.")
        offered = queries[:, None] == items[None]
    better, equal = ((similarity > mine) & offered).sum(1), ((similarity == mine) & offered).sum(1)
    return np.clip((k - better) / equal, 0, 1)


@dataclass(frozen=True, eq=False)
class Association:
    """Sets of embeddings whose association is tested: targets X, Y against attributes A, B.

    Attributes
    ----------
    A, B : array (n, d)
        Attribute sets, for example images of two groups.
    X, Y : array (n, d), optional
        Target sets (WEAT).
    W : array (n, d), optional
        Single targets (SC-WEAT), named by ``words``.
    probe : str
        Name of the test.
    """

    A: Any
    B: Any
    X: Any = None
    Y: Any = None
    W: Any = None
    words: Sequence[str] = ()
    probe: str = ""
    _kept: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.W is not None and len(self.words) != len(self.W):
            raise DataError(f"{len(self.W)} single targets but {len(self.words)} words.")

    coded = (np.zeros(0, dtype=np.int16), ())

    @property
    def n(self) -> int:
        """Number of embeddings."""
        return sum(len(s) for s in (self.A, self.B, self.X, self.Y, self.W) if s is not None)

    @property
    def df(self) -> float:
        """Degrees of freedom of the smallest set that is resampled."""
        return float(max(1, min(len(s) for s in (self.A, self.B, self.X, self.Y) if s is not None) - 1))

    @property
    def probes(self) -> list[str]:
        """The words, or the one test."""
        return [str(w) for w in self.words] if self.W is not None else [self.probe]

    def tally(self, kind: str, protocol: Protocol, metric: Metric) -> AssociationTally:
        """Return the similarities and what each draw takes of them."""
        sets = {s: unit(s, getattr(self, s)) for s in "ABXYW" if getattr(self, s) is not None}
        size = protocol.n_boot if kind == "bootstrap" else protocol.n_perm
        return effect_draws(sets, kind, size=size, seed=protocol.seed)

    def subsets(self, masks: np.ndarray, protocol: Protocol, metric: Metric) -> AssociationTally:
        """Not defined: an association test has no images to leave out."""
        raise DataError(f"{metric.name} works on sets of embeddings; subsets of images do not apply.")
