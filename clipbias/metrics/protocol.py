"""A protocol: every choice that changes a number, in one frozen and hashed object."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, field_validator

from clipbias.errors import DataError

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
    ties : {"expected", "order", "all"}
        Shares averaged over random tie-breaking; ties in the order of the input; or all that tie with the k-th
        image are counted and still divided by ``k``, so that shares can add up to more than 1.
    zero : {"exclude", "peer"}
        A group that is absent from the list has skew −inf and is left out of the maximum, or counts as
        ``1/k`` as earlier tools do (which can give an absent group a *positive* skew).
    bias_at_k : {"corrected", "raw"}
        Bias@K less what the reference shares would give, or as it is.
    prompts : {"ensemble", "each"}
        Rankings by one embedding per concept, the normalised mean over its prompts; or by every prompt, and
        values averaged over prompts.
    normalise : {"both", "texts"}
        Rankings by cosine; or by the dot product with images that keep their length, so that longer image
        embeddings come first for every prompt that they agree with.
    balance : str
        Attribute whose levels are made equally frequent before anything is measured, by drawing as many images
        of each level as the rarest has. Empty: all images.
    balance_seed : int
    decimals : int, optional
        Decimals that accuracies are rounded to before they are subtracted from each other.
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
    ties: Literal["expected", "order", "all"] = "expected"
    zero: Literal["exclude", "peer"] = "exclude"
    bias_at_k: Literal["corrected", "raw"] = "corrected"
    prompts: Literal["ensemble", "each"] = "ensemble"
    normalise: Literal["both", "texts"] = "both"
    balance: str = ""
    balance_seed: Annotated[int, Field(ge=0)] = 0
    decimals: Annotated[int, Field(ge=0)] | None = None
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


def balanced(labels: pd.Categorical, ids: Sequence[str], *, seed: int) -> np.ndarray:
    """Return row positions in which every level that occurs is equally frequent, in ascending order.

    Parameters
    ----------
    labels : pandas.Categorical (n,)
        Rows whose label is "unknown" are left out.
    ids : sequence of str (n,)
        The draw is made of the rows in the order of their ids, so that it does not depend on the order of a file.
    seed : int
        Of pandas' ``sample``: the subset of Berg et al. (2022) comes out for FairFace and seed 1.

    Returns
    -------
    ndarray of int

    Raises
    ------
    DataError
        Fewer than two levels occur.
    """
    text = pd.Series(np.asarray(labels).astype(str))
    order = np.argsort(np.asarray(ids, dtype=str), kind="stable")
    known = text.iloc[order][lambda t: t != "unknown"]
    sizes = known.value_counts()
    if len(sizes) < 2:
        raise DataError(f"balance needs two levels at least; the labels are {sorted(set(text))[:5]}.")
    parts = [known[known == level].sample(n=int(sizes.min()), random_state=seed) for level in sizes.index]
    return np.sort(np.concatenate([part.index.to_numpy() for part in parts]))
