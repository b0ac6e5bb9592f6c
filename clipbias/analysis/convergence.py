"""Convergence of states: the test of every layer and measure, with the controls without which it cannot be read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from clipbias.analysis.result import decide
from clipbias.analysis.similarity import DISTANCES, Similarity
from clipbias.analysis.swap import convergence_test, max_over_layers
from clipbias.errors import DataError, StatusError

_BLOCKS = 6  # fewer blocks than this give no p below .05


def pair_weights(count: int, models: int) -> np.ndarray:
    """Return symmetric weights of Delta over 2M states, shape (2M, 2M), for the influence of images."""
    block = (1 - np.eye(models)) / (models * (models - 1))
    out = np.zeros((count, count))
    out[:models, :models] = -block
    out[models : 2 * models, models : 2 * models] = block
    return out


def ordered_states(
    found: Similarity, layer: str, *, before: str = "pre", after: str = "post"
) -> tuple[list[str], list[int]]:
    """Return the models that have both states of a layer, and the rows of their states, before first.

    Raises
    ------
    DataError
        No model has both.
    """
    place = {key: row for row, key in enumerate(found.keys)}
    models = [
        m
        for m in dict.fromkeys(k[0] for k in found.keys)
        if (m, layer, before) in place and (m, layer, after) in place
    ]
    if not models:
        raise DataError(f"layer {layer!r}: no model has both states {before!r} and {after!r}.")
    rows = [place[m, layer, before] for m in models] + [place[m, layer, after] for m in models]
    return models, rows


def convergence(
    results: Similarity | Sequence[Similarity],
    *,
    before: str = "pre",
    after: str = "post",
    families: Mapping[str, str] | None = None,
    influences: Mapping[str, np.ndarray] | None = None,
    bound: float = 0.05,
    alpha: float = 0.05,
    level: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
) -> pd.DataFrame:
    """Test every layer and measure of a similarity result.

    Parameters
    ----------
    results : Similarity or sequence of Similarity
        With states ``before`` and ``after`` of each model in one call for a layer, since cross similarities are
        needed; several results for layers compared apart.
    before, after : str
    families : mapping of str to str, optional
        Model -> family; exchanged as blocks when there are at least 6.
    influences : mapping, optional
        Layer -> influence of every image on Delta of debiased CKA (`image_influence`).
    bound : float
        Change of mean similarity that counts as none.
    alpha, level : float
    resamples, seed : int

    Returns
    -------
    DataFrame
        One row for each layer, measure and standardization: ``before, after, delta, p, p_max`` (over layers of a
        measure), ``model_error, image_error, ci_low, ci_high, equivalence_p, verdict, direction``, and the
        controls: ``untrained_delta`` (states called "untrained"), ``ceiling`` (post against states called
        "second_seed"), ``rank_before, rank_after``. A control that is missing is NaN and named in ``missing_controls``.
    """
    results = [results] if isinstance(results, Similarity) else list(results)
    pairs = [(found, layer) for found in results for layer in dict.fromkeys(k[1] for k in found.keys)]
    tables: dict[tuple[str, bool], dict[str, np.ndarray]] = {}
    rows, members = [], {}
    for found, layer in pairs:
        models, index = ordered_states(found, layer, before=before, after=after)
        labels, note = _blocks(families, models)
        members[layer] = tuple(models)
        for (measure, standardized), values in found.values.items():
            part = values[np.ix_(index, index)]
            if measure == "pwcca":
                part = (part + part.T) / 2
            row: dict[str, object] = {"layer": layer, "measure": measure, "standardized": standardized}
            row |= controls(found, layer, models, values, before=before, after=after)
            influence = (
                (influences or {}).get(layer) if measure == "cka_debiased" and not standardized else None
            )
            try:
                test = convergence_test(
                    part, families=labels, influence=influence, level=level, resamples=resamples, seed=seed
                )
            except StatusError as error:
                rows.append(row | {"models": len(models), "status": error.status, "reason": error.reason})
                continue
            tables.setdefault((measure, standardized), {})[layer] = part
            equivalence_p = test.equivalence_p(bound)
            closer = (test.delta < 0) if measure in DISTANCES else (test.delta > 0)
            reason = note
            if test.smallest_p >= alpha:
                reason = f"{test.units} units can give no p below {test.smallest_p:.3g}; 6 are needed at .05"
            rows.append(
                row
                | {k: getattr(test, k) for k in test.__dataclass_fields__ if k != "p_value"}
                | {
                    "p": test.p_value,
                    "bound": bound,
                    "equivalence_p": equivalence_p,
                    "verdict": decide(test.p_value, equivalence_p, bound=bound, alpha=alpha),
                    "direction": "closer" if closer else "further apart",
                    "status": "ok",
                    "reason": reason,
                }
            )
    frame = pd.DataFrame(rows)
    frame["p_max"] = np.nan
    for (measure, standardized), by_layer in tables.items():
        same = {}
        for layer, part in by_layer.items():  # common exchanges need common models
            if members[layer] == members[next(iter(by_layer))]:
                same[layer] = part
        labels = _blocks(families, members[next(iter(same))])[0] if same else None
        for layer, p in max_over_layers(same, families=labels, resamples=resamples, seed=seed).items():
            where = (
                (frame["layer"] == layer)
                & (frame["measure"] == measure)
                & (frame["standardized"] == standardized)
            )
            frame.loc[where, "p_max"] = p
    return frame


def _blocks(families: Mapping[str, str] | None, models: Sequence[str]) -> tuple[list[str] | None, str]:
    """Return the blocks that are exchanged together, and a note where families are too few to be blocks."""
    if families is None:
        return None, ""
    labels = [families.get(m, m) for m in models]
    if (count := len(set(labels))) < _BLOCKS:
        return (
            None,
            f"{count} families are too few to be exchanged as blocks ({_BLOCKS} are needed); models were",
        )
    return labels, ""


def controls(
    found: Similarity, layer: str, models: Sequence[str], values: np.ndarray, *, before: str, after: str
) -> dict[str, object]:
    """Return the controls of one layer and measure that the states allow, and which are missing."""
    place = {key: row for row, key in enumerate(found.keys)}
    out: dict[str, object] = {
        "untrained_delta": math.nan,
        "ceiling": math.nan,
        "untrained_models": 0,
        "ceiling_models": 0,
    }
    missing = []
    untrained = [m for m in models if (m, layer, "untrained") in place]
    if len(untrained) >= 2:
        upper = np.triu_indices(len(untrained), 1)
        idle, base = ([place[m, layer, s] for m in untrained] for s in ("untrained", before))
        change = values[np.ix_(idle, idle)][upper].mean() - values[np.ix_(base, base)][upper].mean()
        out |= {"untrained_delta": float(change), "untrained_models": len(untrained)}
    else:
        missing.append("untrained adapter")
    twice = [m for m in models if (m, layer, "second_seed") in place]
    if twice:
        pairs = [values[place[m, layer, after], place[m, layer, "second_seed"]] for m in twice]
        out |= {"ceiling": float(np.mean(pairs)), "ceiling_models": len(twice)}
    else:
        missing.append("second seed")
    ranks = found.ranks[(found.ranks["layer"] == layer) & found.ranks["model"].isin(models)]
    for name, state in (("rank_before", before), ("rank_after", after)):
        out[name] = float(ranks.loc[ranks["state"] == state, "participation"].mean())
    return out | {"missing_controls": ", ".join(missing)}


def image_influence(
    states: Mapping,
    layer: str,
    models: Sequence[str],
    *,
    before: str = "pre",
    after: str = "post",
    ids: Sequence | None = None,
) -> np.ndarray:
    """Return the jackknife influence of every image on Delta of debiased CKA in one layer, shape (n,).

    Parameters
    ----------
    states : mapping
        As given to `clipbias.analysis.similarity.similarity`.
    layer : str
    models : sequence of str
        Models with both states, in the order of the test.
    before, after : str
    ids : sequence, optional
    """
    import torch

    from clipbias.analysis.align import align, describe
    from clipbias.analysis.features import Features
    from clipbias.analysis.gram import gram_sums, plan, weighted_influence
    from clipbias.analysis.kernels import make_kernels

    wanted = [(m, layer, s) for s in (before, after) for m in models]
    keys, arrays, common, orders = align({key: states[key] for key in wanted}, ids)
    features = [
        Features(a, name=describe(k), ids=common, order=o)
        for k, a, o in zip(keys, arrays, orders, strict=True)
    ]
    kernels = make_kernels(features, kernel="linear", bandwidth=1.0)
    chosen = plan(features[0].n, [f.p for f in features], errors=True)
    weights = torch.from_numpy(pair_weights(len(keys), len(models)))[None]
    return weighted_influence(kernels, gram_sums(kernels, chosen), weights, rows=chosen.tile)[0].numpy()
