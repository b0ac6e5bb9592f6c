"""The answer to a convergence question, from states."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from clipbias.analysis.answers.base import Answer
from clipbias.analysis.convergence import convergence, image_influence, ordered_states
from clipbias.analysis.questions import Question
from clipbias.analysis.result import UNDECIDED
from clipbias.analysis.similarity import similarity
from clipbias.analysis.values import families_of
from clipbias.analysis.verdicts import not_answered, verdict_row
from clipbias.errors import DataError

CONTROLS = ("untrained", "second_seed")
_SAME = 1e-6  # float32 similarity of a state with its copy


def answer_convergence(
    question: Question,
    studies: Mapping[str, Mapping],
    *,
    models: pd.DataFrame | None = None,
    disjoint: Mapping[str, bool] | None = None,
    seed: int = 0,
    device: str = "cpu",
    announce: Callable[[str], None] | None = None,
) -> Answer:
    """Answer whether spaces converge.

    Parameters
    ----------
    question : Question
    studies : mapping of str to mapping
        Name of an adaptation (task, head, mode) -> states, (model, layer, state) -> (ids, array).
    models : DataFrame, optional
        For the families.
    disjoint : mapping, optional
        Name -> whether the images were kept out of training; a control that the verdict row names when missing.
    seed : int
    device : str
    announce : callable, optional
        Is told the memory plan of each layer.

    Returns
    -------
    Answer
    """
    out = Answer()
    wanted = question.section("primary")
    spec = question.section("states")
    before, after = spec.get("before", "pre"), spec.get("after", "post")
    measure = wanted.get("measure", "cka_debiased")
    if not studies:
        out.verdicts.append(
            not_answered(
                question, measure, "not measured", "the run folder has no states; `adapt` writes them"
            )
        )
        return out
    for name, states in studies.items():
        results, influences, members = [], {}, {}
        for layer in dict.fromkeys(k[1] for k in states):
            part = {k: v for k, v in states.items() if k[1] == layer and k[2] in (before, after, *CONTROLS)}
            part = _complete(part, before, after)
            if len({k[0] for k in part}) < 2:
                continue
            found = similarity(
                part, measures=_measures(question, measure), standardize=bool(question.test("standardize", True)),
                k=int(question.test("neighbours", 10)), device=device, announce=announce,
            )  # fmt: skip
            members[layer], index = ordered_states(found, layer, before=before, after=after)
            if found.n >= 5 and np.isfinite(found.matrix("cka_debiased")[np.ix_(index, index)]).all():
                influences[layer] = image_influence(part, layer, members[layer], before=before, after=after)
            results.append(found)
        if not results:
            out.verdicts.append(
                not_answered(
                    question,
                    f"{name}: {measure}",
                    "not measured",
                    f"no layer has states {before!r} and {after!r} of two models",
                )
            )
            continue
        everyone = pd.Index(sorted({m for names in members.values() for m in names}))
        labels = families_of(models, question.test("families"), everyone)
        table = convergence(
            results, before=before, after=after, families=None if labels is None else {str(k): str(v) for k, v in labels.items()}, influences=influences,
            bound=question.bound, alpha=question.alpha, resamples=question.resamples, seed=seed,
        )  # fmt: skip
        out.add("convergence", table, question, study=name)
        out.add(
            "similarity", pd.concat([r.table() for r in results], ignore_index=True), question, study=name
        )
        out.verdicts += _rows(
            question, name, table, wanted.get("layer", ""), measure, (disjoint or {}).get(name)
        )
    return out


def _measures(question: Question, primary: str) -> list[str]:
    measures = list(question.test("measures", []))
    return list(dict.fromkeys([*measures, primary, "cka_debiased"]))


def _complete(states: Mapping, before: str, after: str) -> dict:
    """Return the states of models that have both, with their controls."""
    models = {k[0] for k in states}
    both = {
        m
        for m in models
        if any(k[0] == m and k[2] == before for k in states)
        and any(k[0] == m and k[2] == after for k in states)
    }
    return {k: v for k, v in states.items() if k[0] in both}


def _rows(
    question: Question, name: str, table: pd.DataFrame, layer: str, measure: str, disjoint: bool | None
) -> list[dict[str, object]]:
    plain = table[(table["measure"] == measure) & ~table["standardized"]]
    layers = list(plain["layer"])
    if layer and layer not in layers:
        return [
            not_answered(
                question,
                f"{name}: {measure}",
                "not measured",
                f"no layer {layer!r}; there are {', '.join(layers)}",
            )
        ]
    primary = layer or layers[-1]
    rows = []
    for _, row in plain.iterrows():
        subject = f"{name}: {measure} in layer {row['layer']}"
        if row["status"] != "ok":
            rows.append(
                not_answered(question, subject, row["status"], row["reason"])
                | {"primary": row["layer"] == primary}
            )
            continue
        notes = [f"spaces are {row['direction']}"] if row["verdict"] == "related" else []
        if abs(row["delta"]) < _SAME and not row["error"] > _SAME:
            notes.append("the states before and after are the same, as in a frozen layer")
        missing = [m for m in [row["missing_controls"]] if m]
        if disjoint is not True:
            missing.append("images known to be disjoint from training")
        if missing:
            notes.append(f"controls missing: {', '.join(missing)}")
        if not math.isnan(row["untrained_delta"]):
            notes.append(f"untrained adapter changes {row['untrained_delta']:+.3f}")
        if not math.isnan(row["ceiling"]):
            notes.append(f"ceiling (two seeds) {row['ceiling']:.3f}")
        notes.append(f"effective rank {row['rank_before']:.1f} to {row['rank_after']:.1f}")
        if row["reason"]:
            notes.append(row["reason"])
        undecided = row["verdict"] == UNDECIDED
        half = (row["ci_high"] - row["ci_low"]) / 2
        to_decide = (
            f"an interval narrower than ±{question.bound:g} around the change (now {row['delta']:+.3f} ± {half:.3f}); "
            f"{int(row['units'])} units give no p below {row['smallest_p']:.2g}"
        )
        rows.append(
            verdict_row(
                question,
                subject,
                primary=row["layer"] == primary,
                statistic="change of mean similarity",
                estimate=row["delta"],
                ci_low=row["ci_low"],
                ci_high=row["ci_high"],
                p=row["p"],
                n=int(row["models"]),
                equivalence_p=row["equivalence_p"],
                excluded_bound=abs(row["delta"]) + half,
                minimum_detectable=2.8 * row["error"],
                verdict=row["verdict"],
                to_decide=to_decide if undecided else "",
                reason="; ".join(notes),
            )  # fmt: skip
        )
    return rows


def study_name(facts: Mapping[str, str]) -> str:
    """Return the name of an adaptation from what its states say about it."""
    parts = [facts[k] for k in ("task", "head", "mode", "intervention", "image_set") if facts.get(k)]
    return " ".join(parts) or "states"


def group_states(found: Mapping[tuple, object], facts: Mapping[tuple, Mapping[str, str]]) -> dict[str, dict]:
    """Return states by adaptation; states before it, which belong to no task, join every one.

    Parameters
    ----------
    found : mapping
        (model, layer, state, file) -> (ids, array).
    facts : mapping
        The same keys -> task, head, mode, ...

    Raises
    ------
    DataError
        Two files hold the same model, layer and state of one adaptation.
    """
    out: dict[str, dict] = {}
    general = {}
    for key, value in found.items():
        name = study_name(facts[key])
        if name == "states":
            general[key[:3]] = value
            continue
        part = out.setdefault(name, {})
        if key[:3] in part:
            raise DataError(
                f"states of model {key[0]!r}, layer {key[1]!r}, state {key[2]!r} ({name}) are there twice."
            )
        part[key[:3]] = value
    if not out:
        return {"states": general} if general else {}
    for part in out.values():
        for key, value in general.items():
            part.setdefault(key, value)
    return out
