"""Two sets of targets and two sets of attributes in one space, drawn anew: the input of RND, ECT, MAC, RIPA and their kin.

Rows have length 1. The bootstrap resamples every set (pairs as pairs). What a permutation exchanges depends on what
a measure claims: the two target sets (RND, ECT; inside pairs where targets are pairs), which pair is which way
round (RIPA), who is paired with whom (direct bias), which attribute is of which set (RNSB), or targets with
attributes (MAC, which claims an association and no difference).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clipbias.errors import DataError
from clipbias.metrics.checks import unit
from clipbias.metrics.draws import bootstrap, permuted
from clipbias.metrics.inputs import Association
from clipbias.metrics.protocol import Protocol
from clipbias.metrics.record import Metric


@dataclass(frozen=True, eq=False)
class TargetTally:
    """Rows and, per draw, how often each counts.

    Attributes
    ----------
    x, y, a, b : ndarray (n, d)
        Rows of length 1.
    kind : {"observed", "bootstrap", "permuted"}
    size, seed : int
        Draws, and the seed they come from.
    paired : bool
        Whether row i of x and row i of y are a pair.
    """

    x: np.ndarray
    y: np.ndarray
    a: np.ndarray
    b: np.ndarray
    kind: str
    size: int
    seed: int
    paired: bool
    factor: float = 1.0

    def targets(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return all targets (T, d) and the weights (D, T) of each in X and in Y."""
        rows = np.concatenate([self.x, self.y])
        n, m = len(self.x), len(self.y)
        codes = np.repeat([0, 1], [n, m]).astype(np.int16)
        weights = np.ones((1, n + m))
        if self.kind == "bootstrap":
            w = self._weights(codes, 0)
            if self.paired:
                w = np.tile(w[:, :n], 2)
            weights = w
        drawn = codes[None]
        if self.kind == "permuted":
            strata = np.tile(np.arange(n), 2) if self.paired else None
            drawn = permuted(codes, 2, size=self.size, seed=self.seed, strata=strata).codes
        return rows, weights * (drawn == 0), weights * (drawn == 1)

    def attributes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return all attributes (M, d) and the weights (D, M) of each in A and in B; permutations leave them alone."""
        rows = np.concatenate([self.a, self.b])
        codes = np.repeat([0, 1], [len(self.a), len(self.b)]).astype(np.int16)
        weights = self._weights(codes, 1) if self.kind == "bootstrap" else np.ones((1, len(rows)))
        return rows, weights * (codes == 0), weights * (codes == 1)

    def sides(self) -> np.ndarray:
        """Return which attributes are called A in each draw, (D, M) of bool: the null of RNSB."""
        codes = np.repeat([0, 1], [len(self.a), len(self.b)]).astype(np.int16)
        if self.kind == "permuted":
            codes = np.asarray(permuted(codes, 2, size=self.size, seed=self.seed).codes)
        return np.atleast_2d(codes) == 0

    def shuffled(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return all rows and the weights (D, N) of targets, A and B, exchanged with each other by a permutation."""
        rows = np.concatenate([self.x, self.y, self.a, self.b])
        targets = len(self.x) + len(self.y)
        codes = np.repeat([0, 1, 2], [targets, len(self.a), len(self.b)]).astype(np.int16)
        drawn, weights = codes[None], np.ones((1, len(rows)))
        if self.kind == "permuted":
            drawn = permuted(codes, 3, size=self.size, seed=self.seed).codes
        elif self.kind == "bootstrap":
            weights = np.asarray(bootstrap(codes, 3, size=self.size, seed=self.seed).weights, dtype=float)
        return rows, weights * (drawn == 0), weights * (drawn == 1), weights * (drawn == 2)

    def differences(self, *, repair: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return unit differences of pairs, (1 or D, m, d), and how often each counts, (D, m).

        A permutation turns pairs round, or with ``repair`` mixes all targets and pairs them anew.
        """
        m = len(self.x)
        rows = np.concatenate([self.x, self.y])
        weights = np.ones((1, m))
        if self.kind == "bootstrap":
            weights = self._weights(np.zeros(m, dtype=np.int16), 0)
        if self.kind == "permuted" and repair:
            rng = np.random.default_rng([self.seed, 3])
            order = rng.permuted(np.tile(np.arange(2 * m), (self.size, 1)), axis=1)
            away = rows[order[:, :m]] - rows[order[:, m:]]
        else:
            away = (rows[:m] - rows[m:])[None]
        length = np.linalg.norm(away, axis=-1, keepdims=True)
        away = away / np.where(length > 0, length, 1.0)
        if self.kind == "permuted" and not repair:
            weights = np.random.default_rng([self.seed, 3]).choice([-1.0, 1.0], (self.size, m))
        return away, weights

    def _weights(self, codes: np.ndarray, stream: int) -> np.ndarray:
        drawn = bootstrap(codes, 2, size=self.size, seed=self.seed + stream)
        return np.asarray(drawn.weights, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Targets(Association):
    """Target sets X, Y and attribute sets A, B, for example images of two groups and words tied to each.

    Attributes
    ----------
    X, Y : array (n, d)
    A, B : array (m, d)
    paired : bool
        Whether row i of X and row i of Y are one pair, for example counterfactual twins.
    """

    paired: bool = False

    def __post_init__(self) -> None:
        if self.X is None or self.Y is None or self.W is not None:
            raise DataError("Targets needs X and Y (and no single targets W).")
        if self.paired and len(self.X) != len(self.Y):
            raise DataError(f"{len(self.X)} and {len(self.Y)} targets cannot be pairs.")

    def tally(self, kind: str, protocol: Protocol, metric: Metric) -> TargetTally:  # type: ignore[override]
        """Return the rows and how they are drawn."""
        if "rows" not in self._kept:
            self._kept["rows"] = {s.lower(): unit(s, getattr(self, s)) for s in "XYAB"}
        size = {"observed": 1, "bootstrap": protocol.n_boot, "permuted": protocol.n_perm}[kind]
        smallest = min(len(rows) for rows in self._kept["rows"].values())
        factor = float(np.sqrt(smallest / (smallest - 1))) if smallest > 1 else 1.0
        return TargetTally(
            **self._kept["rows"], kind=kind, size=size, seed=protocol.seed, paired=self.paired, factor=factor
        )
