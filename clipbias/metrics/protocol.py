"""A protocol: every choice that changes a number, in one frozen and hashed object."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Share = Annotated[float, Field(ge=0, le=1)]


class Protocol(BaseModel):
    """The choices behind a measured value; the default is ``"strict"``.

    Attributes
    ----------
    k : int or float
        Length of the list that is looked at: a number of images, or (float in (0, 1]) a fraction of the
        images of the view. A fraction keeps views of different sizes comparable.
    reference : {"base_rate", "uniform"} or mapping
        The shares that a fair list would have: those of the view, equal ones, or given by level.
    ties : {"expected", "order"}
        Shares averaged over random tie-breaking, or ties in the order of the input.
    zero : {"exclude", "peer"}
        A group that is absent from the list has skew −inf and is left out of the maximum, or counts as
        ``1/k`` as earlier tools do (which can give an absent group a *positive* skew).
    n_boot, n_perm : int
        Bootstrap draws over images, and permutations of the group labels. 0 leaves that part out.
    level : float
        Confidence level of the intervals.
    seed : int
        Seed of both; the same seed gives every metric the same draws.
    min_group : int
        Groups with fewer images get no row of their own, and rows over all groups name them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "strict"
    k: Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, le=1)] = 0.2
    reference: Literal["base_rate", "uniform"] | Mapping[str, Share] = "base_rate"
    ties: Literal["expected", "order"] = "expected"
    zero: Literal["exclude", "peer"] = "exclude"
    n_boot: Annotated[int, Field(ge=0)] = 500
    n_perm: Annotated[int, Field(ge=0)] = 500
    level: Annotated[float, Field(gt=0, lt=1)] = 0.95
    seed: Annotated[int, Field(ge=0)] = 0
    min_group: Annotated[int, Field(ge=1)] = 5

    @field_validator("reference")
    @classmethod
    def _adds_up(cls, value: str | Mapping[str, float]) -> str | Mapping[str, float]:
        if not isinstance(value, str) and abs(sum(value.values()) - 1) > 1e-6:
            raise ValueError(f"the reference shares add up to {sum(value.values()):.4g} and not to 1")
        return value

    @property
    def hash(self) -> str:
        """First 12 hex digits of the SHA-256 of the canonical JSON; the name is part of it."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]


STRICT = Protocol()
"""The default protocol."""
