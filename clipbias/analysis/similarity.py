"""All models, layers and states in one call: every measure, its error, its null and what was assumed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from clipbias.analysis.align import align, describe
from clipbias.analysis.cca import effective_rank, pairwise_cca
from clipbias.analysis.cka import cka_interval, cka_matrix
from clipbias.analysis.features import Features, gather, working_dtype
from clipbias.analysis.gram import Plan
from clipbias.analysis.gram import plan as plan_gram
from clipbias.analysis.neighbours import pairwise_cknna, pairwise_mutual_knn
from clipbias.analysis.null import Null
from clipbias.analysis.rsa import pairwise_rsa
from clipbias.analysis.shape import HELD, pairwise_procrustes
from clipbias.display import Shown
from clipbias.errors import DataError, StatusError, nearest

CKA_MEASURES = ("cka_debiased", "cka_biased", "cka_rbf")
CCA_MEASURES = ("cca_mean", "cca_r2", "svcca", "pwcca")
DEFAULT = ("cka_debiased", "cka_biased", "mutual_knn", "procrustes", "rsa_spearman")
DISTANCES = frozenset({"procrustes_distance", "procrustes_angular"})  # lower is more alike


def _rsa(compare: str, distance: str) -> Callable[..., np.ndarray]:
    return lambda f, **_: pairwise_rsa(f, distance=distance, compare=compare)


_OTHERS: dict[str, Callable[..., np.ndarray]] = {
    "procrustes": lambda f, **_: pairwise_procrustes(f),
    "procrustes_distance": lambda f, **_: pairwise_procrustes(f, measure="distance"),
    "procrustes_angular": lambda f, **_: pairwise_procrustes(f, measure="angular"),
    "mutual_knn": lambda f, k, **_: pairwise_mutual_knn(f, k=k),
    "cknna": lambda f, k, **_: pairwise_cknna(f, k=k),
    **{
        f"rsa_{compare}{suffix}": _rsa(compare, distance)
        for compare in ("spearman", "pearson", "cosine")
        for distance, suffix in (("euclidean", ""), ("correlation", "_correlation"))
    },
}
MEASURES = (*CKA_MEASURES, *_OTHERS, *CCA_MEASURES)


@dataclass(frozen=True)
class Similarity(Shown):
    """Similarity of all pairs of states.

    Attributes
    ----------
    keys : tuple of tuple
        (model, layer, state) of each row and column.
    values : dict
        (measure, standardized) -> ndarray (N, N).
    standard_error : dict
        As ``values``, for debiased CKA, over images.
    null : dict
        As ``values`` -> `Null`, for both linear CKA.
    ranks : DataFrame
        Effective rank of each state.
    n : int
        Images.
    ids_digest : str
        Of the image ids in order; empty when none were given.
    plan : Plan
    options : dict
        Conventions: k, bandwidth, variance, dtype, device.
    reasons : dict
        (measure, standardized) -> {position: why its row is NaN}.
    """

    keys: tuple[tuple[str, str, str], ...]
    values: dict[tuple[str, bool], np.ndarray]
    standard_error: dict[tuple[str, bool], np.ndarray]
    null: dict[tuple[str, bool], Null]
    ranks: pd.DataFrame
    n: int
    ids_digest: str
    plan: Plan
    options: dict[str, object]
    reasons: dict[tuple[str, bool], dict[int, str]] = field(default_factory=dict)

    def matrix(self, measure: str, *, standardized: bool = False) -> np.ndarray:
        """Return the values of one measure, shape (N, N).

        Raises
        ------
        DataError
            The measure was not computed.
        """
        try:
            return self.values[measure, standardized]
        except KeyError:
            raise DataError(
                f"{measure!r} was not computed." + nearest(measure, {m for m, _ in self.values})
            ) from None

    def table(self) -> pd.DataFrame:
        """Return one row for each pair and measure, with interval, null, status and reason."""
        a, b = np.triu_indices(len(self.keys), 1)
        names = ("model", "layer", "state")
        parts = []
        for (measure, standardized), values in self.values.items():
            frame = pd.DataFrame({f"{n}_a": [self.keys[i][j] for i in a] for j, n in enumerate(names)})
            for j, name in enumerate(names):
                frame[f"{name}_b"] = [self.keys[i][j] for i in b]
            frame["measure"], frame["standardized"], frame["n"] = measure, standardized, self.n
            frame["value"] = values[a, b]
            error = self.standard_error.get((measure, standardized))
            frame["standard_error"] = np.nan if error is None else error[a, b]
            frame["ci_low"] = frame["ci_high"] = np.nan
            if error is not None:
                frame["ci_low"], frame["ci_high"] = cka_interval(values[a, b], error[a, b], self.n)
            null = self.null.get((measure, standardized))
            for column, part in (("null_mean", "mean"), ("null_sd", "sd"), ("z", "z"), ("p", "p")):
                frame[column] = np.nan if null is None else getattr(null, part)[a, b]
            why = self.reasons.get((measure, standardized), {})
            frame["reason"] = [
                why.get(i, why.get(j, "")) for i, j in zip(a.tolist(), b.tolist(), strict=True)
            ]
            if measure == "pwcca":  # asymmetric: the other side is a value too
                frame["value_from_b"] = values[b, a]
            frame["status"] = np.where(frame["value"].notna(), "ok", "not defined")
            frame.loc[frame["value"].notna(), "reason"] = ""
            parts.append(frame)
        return pd.concat(parts, ignore_index=True)


def similarity(
    states: Mapping,
    *,
    measures: Sequence[str] = DEFAULT,
    ids: Sequence | None = None,
    standardize: bool = False,
    errors: bool = True,
    null: bool = True,
    k: int = 10,
    bandwidth: float = 0.5,
    variance: float = 0.99,
    dtype: str = "float32",
    device: str = "cpu",
    memory: int | None = None,
    announce: Callable[[str], None] | None = None,
) -> Similarity:
    """Compare every pair of states with every measure.

    Parameters
    ----------
    states : mapping
        (model, layer, state) -> array (n, p), or (image ids, array). A key may be shorter. Rows in another
        order are aligned by id.
    measures : sequence of str
        Any of `MEASURES`.
    ids : sequence, optional
        Image ids common to all states.
    standardize : bool
        Also compute every measure on features divided by their standard deviation; both are reported.
    errors, null : bool
        Standard errors and the permutation null of CKA; left out where there are fewer than 5 or 6 images.
    k : int
        Neighbours of mutual k-NN and CKNNA, lowered to n - 1 when there are fewer images.
    bandwidth : float
        Of the RBF kernel.
    variance : float
        Share kept by SVCCA.
    dtype, device : str
    memory : int, optional
        Bytes for the largest CKA buffer.
    announce : callable, optional
        Is told the plan with its memory before anything is computed.

    Returns
    -------
    Similarity

    Raises
    ------
    DataError
        Unknown measure; different, duplicated or missing image ids; a value that is not finite, naming model,
        layer and image.
    """
    for name in measures:
        if name not in MEASURES:
            raise DataError(f"measure {name!r} is not known." + nearest(name, MEASURES))
    keys, arrays, common, orders = align(states, ids)
    names = [describe(key) for key in keys]
    digest = "" if common is None else hashlib.sha256("\n".join(map(str, common)).encode()).hexdigest()[:16]
    limits = {} if memory is None else {"memory": memory}
    values: dict[tuple[str, bool], np.ndarray] = {}
    standard_error: dict[tuple[str, bool], np.ndarray] = {}
    nulls: dict[tuple[str, bool], Null] = {}
    reasons: dict[tuple[str, bool], dict[int, str]] = {}
    n, chosen, ranks = 0, None, []
    for standardized in (False, True) if standardize else (False,):
        features = gather(
            [
                Features(
                    a,
                    name=name,
                    ids=common,
                    order=o,
                    standardize=standardized,
                    device=device,
                    dtype=working_dtype(dtype),
                )
                for a, name, o in zip(arrays, names, orders, strict=True)
            ]
        )
        n = features[0].n
        if {"cka_debiased", "cka_rbf"} & set(measures) and n < 4:
            raise DataError(f"debiased CKA needs at least 4 images, there are {n}; ask for cka_biased.")
        errors_here, null_here = errors and n >= 5, null and n >= 6
        if chosen is None:
            chosen = plan_gram(
                n, [f.p for f in features], errors=errors_here, kernel="linear", dtype=dtype, **limits
            )
            if announce is not None:
                others = memory_of_others(measures, n, [f.p for f in features])
                more = f"; other measures up to {others / 1e6:.0f} MB" if others else ""
                announce(f"{len(features)} states of {n} images: {chosen}{more}")
        constant = {
            i: f"{f.name}: all images have the same features." for i, f in enumerate(features) if f.constant
        }
        if {"cka_debiased", "cka_biased"} & set(measures):
            found = cka_matrix(
                features, errors=errors_here, null=null_here, dtype=dtype, device=device, memory=memory
            )
            for name, table, its_null in (
                ("cka_debiased", found.debiased, found.null),
                ("cka_biased", found.biased, found.null_biased),
            ):
                if name in measures:
                    values[name, standardized] = table
                    reasons[name, standardized] = found.reasons
                    if its_null is not None:
                        nulls[name, standardized] = its_null
            if found.standard_error is not None and "cka_debiased" in measures:
                standard_error["cka_debiased", standardized] = found.standard_error
        if "cka_rbf" in measures:
            found = cka_matrix(
                features, kernel="rbf", bandwidth=bandwidth, dtype=dtype, device=device, memory=memory
            )
            values["cka_rbf", standardized], reasons["cka_rbf", standardized] = found.debiased, found.reasons
        for name in measures:
            if name in _OTHERS:
                values[name, standardized] = _OTHERS[name](features, k=min(k, n - 1))
                reasons[name, standardized] = constant
        wanted = [m for m in measures if m in CCA_MEASURES]
        if wanted:
            tables, why = pairwise_cca(features, measures=wanted, variance=variance)
            for name in wanted:
                values[name, standardized], reasons[name, standardized] = tables[name], why
        if not standardized:
            ranks = [_ranks(key, one) for key, one in zip(keys, features, strict=True)]
    ordered = {(m, s): values[m, s] for m in measures for s in (False, True) if (m, s) in values}
    options = {
        "k": min(k, n - 1),
        "bandwidth": bandwidth,
        "variance": variance,
        "dtype": dtype,
        "device": device,
    }
    options["conventions"] = (
        "cka_rbf is debiased, bandwidth times the root of the median of all n^2 squared distances; neighbours by "
        "cosine of uncentred features, ties to the lower index; rsa on Euclidean distances unless named correlation"
    )
    assert chosen is not None
    return Similarity(
        tuple(keys), ordered, standard_error, nulls, pd.DataFrame(ranks), n, digest, chosen, options, reasons
    )


def memory_of_others(measures: Sequence[str], n: int, widths: Sequence[int]) -> int:
    """Return the bytes that the largest of the measures other than CKA holds beyond the input."""
    count, widest = len(widths), max(widths)
    needs = [0]
    if any(m.startswith("rsa") for m in measures):
        needs.append(n * (n - 1) // 2 * (4 * count + 24))
    if {"mutual_knn", "cknna"} & set(measures):
        needs.append((64 << 20) + 16 * n * widest)
    if any(m.startswith("procrustes") for m in measures):
        held = sum(n * min(n, p) for p in widths if p > n or 8 * n * sum(widths) <= HELD)
        needs.append(8 * (3 * n * widest + held))
    if set(CCA_MEASURES) & set(measures):
        needs.append(8 * sum((n + p) * min(n, p) for p in widths))
    return max(needs)


def _ranks(key: tuple[str, str, str], features: Features) -> dict[str, object]:
    row: dict[str, object] = dict(zip(("model", "layer", "state"), key, strict=True))
    try:
        rank = effective_rank(features)
    except StatusError as error:
        return row | {
            "entropy_rank": np.nan,
            "participation": np.nan,
            "status": error.status,
            "reason": error.reason,
        }
    return row | {
        "entropy_rank": rank.entropy,
        "participation": rank.participation,
        "status": "ok",
        "reason": "",
    }
