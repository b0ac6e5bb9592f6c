"""Further association measures on embeddings: RND, ECT, MAC, RIPA, RNSB, direct bias.

They come from word embeddings and hold for any rows of one space. Mind their directions: some are fairer when
low, some when high, and the cosine form of RND has the opposite sign of the norm form.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from scipy.stats import rankdata

from clipbias.errors import DataError, StatusError, nearest
from clipbias.metrics.checks import as_rows, unit


def rnd(X: Any, Y: Any, A: Any, *, distance: Literal["norm", "cosine"] = "norm") -> float:
    """Relative norm distance: how much closer the attributes are to one target mean than to the other.

    Parameters
    ----------
    X, Y, A : array (n, d)
        Two target sets and an attribute set; lengths of vectors matter for ``"norm"``.
    distance : {"norm", "cosine"}
        Mean of ``|a − mean X| − |a − mean Y|``; or of ``cos(a, mean X) − cos(a, mean Y)``, a *similarity*,
        so that its sign is the other way round.

    Returns
    -------
    float
        0 is fair. Norm: negative is closer to X. Cosine: positive is closer to X.

    Notes
    -----
    Garg et al. (2018), doi:10.1073/pnas.1720347115.
    """
    x, y, a = as_rows("X", X).mean(0), as_rows("Y", Y).mean(0), as_rows("A", A)
    if distance == "norm":
        return float((np.linalg.norm(a - x, axis=1) - np.linalg.norm(a - y, axis=1)).mean())
    if distance != "cosine":
        raise DataError(f"distance={distance!r} is unknown." + nearest(distance, ("norm", "cosine")))
    a = unit("A", A)
    return float((a @ unit("mean of X", x)[0] - a @ unit("mean of Y", y)[0]).mean())


def ect(X: Any, Y: Any, A: Any) -> float:
    """Embedding coherence: rank correlation of the attributes' similarities to two target means.

    Returns
    -------
    float
        Spearman's rho in [−1, 1]; **higher is fairer**, 1 is fair.

    Raises
    ------
    StatusError
        Fewer than two attributes, or all of them equally similar to a mean.

    Notes
    -----
    Dev and Phillips (2019), arXiv:1901.07656.
    """
    a = unit("A", A)
    ranks = [
        rankdata(a @ unit(f"mean of {name}", as_rows(name, rows).mean(0))[0])
        for name, rows in (("X", X), ("Y", Y))
    ]
    if len(a) < 2 or any(np.ptp(r) == 0 for r in ranks):
        raise StatusError(
            "undefined", "the attributes do not differ in similarity: there is no rank correlation."
        )
    return float(np.corrcoef(*ranks)[0, 1])


def mac(targets: Any, attributes: Sequence[Any]) -> float:
    """Mean average cosine distance of targets to attribute sets.

    Parameters
    ----------
    targets : array (n, d)
    attributes : list of array (m, d)
        One or more attribute sets; each counts the same.

    Returns
    -------
    float
        In [0, 2]; 1 is unrelated; **higher is less associated**.

    Notes
    -----
    Manzini et al. (2019), arXiv:1904.04047.
    """
    if len(attributes) == 0:
        raise StatusError("empty set", "mac needs at least one attribute set.")
    rows = unit("targets", targets)
    sets = [unit(f"attribute set {i}", a) for i, a in enumerate(attributes)]
    return float(np.mean([1 - (rows @ a.T).mean() for a in sets]))


def _differences(pairs: Any) -> np.ndarray:
    array = np.asarray(pairs, dtype=np.float64)
    if array.ndim != 3 or array.shape[1] != 2:
        raise DataError(f"pairs need the shape (pairs, 2, dimensions), these have {array.shape}.")
    return array[:, 0] - array[:, 1]


def ripa(pairs: Any, A: Any) -> float:
    """Relational inner product of attributes with the directions of base pairs.

    Parameters
    ----------
    pairs : array (m, 2, d)
        Explicit base pairs, for example "woman" and "man" in one sentence.
    A : array (n, d)

    Returns
    -------
    float
        Mean of ``<a, (x − y)/|x − y|>``; 0 is fair, positive leans to the first of each pair. It depends on
        the length of the attribute vectors: compare within one model only.

    Notes
    -----
    Ethayarajh, Duvenaud, Hirst (2019), arXiv:1908.06361.
    """
    return float((as_rows("A", A) @ unit("pair differences", _differences(pairs)).T).mean())


def direct_bias(W: Any, pairs: Any, *, strictness: float = 1.0) -> float:
    """Mean absolute cosine of targets with the main direction of base pair differences.

    Parameters
    ----------
    W : array (n, d)
        Targets that should be neutral.
    pairs : array (m, 2, d)
    strictness : float
        Exponent on the cosine.

    Returns
    -------
    float
        In [0, 1]; 0 is fair, lower is fairer.

    Notes
    -----
    Bolukbasi et al. (2016), arXiv:1607.06520. The direction is the first singular vector of the (not centred)
    pair differences: their common part is what is looked for, and centring would remove it.
    """
    direction = np.linalg.svd(unit("pair differences", _differences(pairs)), full_matrices=False)[2][0]
    return float((np.abs(unit("W", W) @ direction) ** strictness).mean())


def rnsb(targets: Any, A: Any, B: Any, *, seed: int = 0, holdout: float = 0.0) -> float:
    """Relative negative sentiment bias: how unevenly a sentiment classifier spreads over targets.

    Parameters
    ----------
    targets : array (n, d)
    A, B : array (m, d)
        Positive and negative attributes.
    seed : int
        Of the split and the solver.
    holdout : float
        Share of the attributes that is kept from training (some tools do so by default); 0 uses all.

    Returns
    -------
    float
        KL divergence of ``P(negative | target)``, scaled to add up to 1, from equal shares; in nats, in
        [0, ln n], lower is fairer.

    Notes
    -----
    Sweeney and Najafian (2019), doi:10.18653/v1/P19-1162.
    """
    from sklearn.model_selection import train_test_split

    rows, good, bad = as_rows("targets", targets), as_rows("A", A), as_rows("B", B)
    x = np.concatenate([good, bad])
    y = np.repeat([True, False], [len(good), len(bad)])  # this coding gives the published split for a seed
    if holdout:
        x, _, y, _ = train_test_split(x, y, test_size=holdout, random_state=seed, stratify=y)
    p = negative_shares(rows, x, y, None, seed=seed)
    p = p / p.sum()
    return float(max(0.0, (p * np.log(p * len(p))).sum()))


def negative_shares(
    rows: np.ndarray, attributes: np.ndarray, positive: np.ndarray, weight: np.ndarray | None, *, seed: int
) -> np.ndarray:
    """Return ``P(negative | row)`` of a logistic regression trained on positive and other attributes, (n,)."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(solver="liblinear", max_iter=10_000, random_state=seed)
    return model.fit(attributes, positive.astype(int), sample_weight=weight).predict_proba(rows)[:, 0]
