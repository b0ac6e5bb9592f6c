"""The declared question of validity, and how often a test fires where nothing is to be found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clipbias import content
from clipbias.errors import DataError
from clipbias.instrument.recipe import tomllib_load
from clipbias.metrics.inference import Inputs
from clipbias.metrics.protocol import Protocol
from clipbias.metrics.record import get


class Local(BaseModel):
    """How a bias planted in one context has to show."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: str
    views: str
    alpha: float = Field(0.05, gt=0, lt=1)


class Question(BaseModel):
    """The declared question; see the file for what each key means."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    question: str
    image_set: str
    attribute: str
    probe: str
    view: str = "global"
    metrics: list[str] = Field(min_length=1)
    also: list[str] = Field(default_factory=list)
    statistic: Literal["spearman"] = "spearman"
    bound: float = Field(ge=-1, le=1)
    direction: dict[str, str] = Field(default_factory=dict)
    exclude: str = "planted_context"
    false_positive_bound: float = Field(0.07, ge=0, le=1)
    false_positive_draws: int = Field(1000, ge=100)
    local: Local | None = None


def question() -> Question:
    """Return the validity question of the study.

    Raises
    ------
    DataError
        The file is missing or holds something else.
    """
    path = content.find("analysis", "validity.toml")
    try:
        return Question.model_validate(tomllib_load(path))
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}.") from error


def false_positives(
    asked: Question, inputs: Mapping[str, Inputs], metrics: Sequence[str], protocol: Protocol
) -> dict[str, float]:
    """Measure how often the 5 % permutation test fires on a model with nothing planted, labels drawn afresh.

    Every draw gives each image a new label (twins keep one label each), measures the metric and tests it at
    5 % against permutations drawn independently.

    Parameters
    ----------
    inputs : mapping of str to Inputs
        Input of each metric, by metric.
    metrics : list of str
        Those that the recipe measures; the question's others are left out.

    Returns
    -------
    dict of str to float
        Rate in [0, 1] by metric; 0.05 where the test keeps its level.
    """
    fresh = protocol.model_copy(update={"n_perm": asked.false_positive_draws, "seed": protocol.seed + 1})
    rates = {}
    for name in [*asked.metrics, *asked.also]:
        given = inputs.get(name)
        if name not in metrics or given is None:
            continue
        m = get(name)
        drawn, null = (m.kernel(given.tally("permuted", p, m)) for p in (fresh, protocol))
        if drawn.ndim == 3:  # one value per group: test each group's mean over probes
            drawn, null = (np.moveaxis(a, 2, 1).reshape(len(a), -1, a.shape[1]) for a in (drawn, null))
        else:
            drawn, null = drawn[:, None], null[:, None]
        drawn, null = (np.nanmean(np.where(np.isfinite(a), a, np.nan), axis=2) for a in (drawn, null))
        if m.signed:
            drawn, null = np.abs(drawn - null.mean(0)), np.abs(null - null.mean(0))
        elif m.worse == "low":
            drawn, null = -drawn, -null
        beaten = (null[None] >= drawn[:, None] - 1e-12).sum(1)
        p = (1 + beaten) / (1 + len(null))
        rates[name] = float((p <= 0.05).mean())
    return rates
