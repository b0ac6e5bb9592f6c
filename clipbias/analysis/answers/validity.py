"""Whether measured bias follows what was planted."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from clipbias.analysis.answers.base import (
    Answer,
)
from clipbias.analysis.mixed import dose_response
from clipbias.analysis.questions import Question
from clipbias.analysis.values import bias_values
from clipbias.analysis.verdicts import correlation_row, not_answered
from clipbias.errors import StatusError


def answer_validity(
    question: Question, tables: Mapping[str, pd.DataFrame], *, ideals: Mapping[str, float], seed: int = 0
) -> Answer:
    """Answer whether measured bias follows the planted one; here the bound is the correlation that must be reached."""
    out = Answer()
    spec = question.spec
    table, models = tables.get("intrinsic"), tables.get("models")
    if table is None or models is None or "planted_rho" not in models.columns:
        out.verdicts.append(
            not_answered(
                question,
                "planted strength",
                "not measured",
                "no intrinsic table with models of planted strength",
            )
        )
        return out
    planted = models.drop_duplicates("model").set_index("model")
    exclude = spec.get("exclude")
    if exclude in planted.columns:
        planted = planted[planted[exclude].fillna("").astype(str).isin(["", "None", "nan"])]
    dose = pd.to_numeric(planted["planted_rho"], errors="coerce").dropna()
    where: dict[str, object] = {k: spec[k] for k in ("image_set", "attribute", "view") if k in spec} | {
        "stage": ["pre", ""]
    }
    for metric in spec.get("metrics", []):
        subject = f"{metric} against planted strength"
        values = _values(tables, table, metric, where, ideals)
        shared = dose.index.intersection(values.index)
        try:
            if len(shared) == 0:
                raise StatusError(
                    "not measured", f"no model with a planted strength has {metric} where {where}"
                )
            found = dose_response(dose[shared], values[shared], bound=0.3, seed=seed)
        except StatusError as error:
            out.verdicts.append(not_answered(question, subject, error.status, error.reason))
            continue
        one = found.correlation
        reached = one.estimate >= question.bound
        row = correlation_row(question, subject, one)
        reason = f"{one.estimate:.3f} {'reaches' if reached else 'falls short of'} {question.bound:g}; slope {found.slope:.3g} [{found.ci_low:.3g}, {found.ci_high:.3g}]"
        out.verdicts.append(
            row
            | {
                "reason": reason,
                "bound": question.bound,
                "verdict": "related" if reached and one.p_value < question.alpha else "undecided",
            }
        )
    return out


def _values(
    tables: Mapping[str, pd.DataFrame],
    intrinsic: pd.DataFrame,
    metric: str,
    where: dict,
    ideals: Mapping[str, float],
) -> pd.Series:
    """Return one value per model: in the planted direction where the run holds it, else the distance to the ideal."""
    directed = tables.get("planted")
    if directed is not None and metric in set(directed["metric"]):
        return directed[directed["metric"] == metric].set_index("model")["value"]
    found = bias_values(intrinsic, keys=["metric"], where={**where, "metric": metric}, ideals=ideals)
    return found.set_index("model")["value"]
