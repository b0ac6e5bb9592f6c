"""Leakage and LIC of captions as rows: classifiers that guess the group."""

from __future__ import annotations

from typing import Any

import numpy as np

from clipbias.errors import StatusError
from clipbias.tasks.metrics.leakage import leakage
from clipbias.tasks.metrics.lic import lic
from clipbias.tasks.metrics.words import Words, load_words
from clipbias.tasks.outcomes import Outcomes

_Z = 1.959963984540054


def leakage_rows(
    outcomes: Outcomes, attribute: str, inside: np.ndarray, *, words: Words = ""
) -> list[dict[str, Any]]:
    """Return leakage of the attribute through the concept that captions name.

    Raises
    ------
    StatusError
        The images have no concept, or too few groups or images.
    """
    if outcomes.concept is None:
        raise StatusError(
            "no concept", "the images have no column of roles or objects that captions could name."
        )
    found = leakage(
        outcomes.table.loc[inside, attribute].astype(str).to_numpy(), outcomes.concepts[inside].astype(str),
        outcomes.said_concepts()[inside].astype(str), blocks=_blocks(outcomes, inside),
    )  # fmt: skip
    about = f"concept={outcomes.concept}; match={found.match}"
    null = found.null["value"].to_numpy(float) if len(found.null) else np.zeros(0)
    row = _row("leakage", found.value, found.sd, found.n, null, found.p, about)
    # The p of the result is of the model's accuracy, which is what the null is of.
    return [row | {"p": (1 + int((null >= found.value).sum())) / (1 + null.size)} if null.size else row]


def lic_rows(
    outcomes: Outcomes, attribute: str, inside: np.ndarray, *, words: Words = "", **options: Any
) -> list[dict[str, Any]]:
    """Return LIC and its two parts; words of the groups are masked where a word list knows the attribute.

    Raises
    ------
    StatusError
        Too few groups or images.
    """
    captions = np.full(outcomes.n, "", dtype=object)
    captions[outcomes.home] = outcomes.items["prediction"].to_numpy(dtype=object)
    humans: list[list[str]] = [[] for _ in range(outcomes.n)]
    for image, given in zip(outcomes.home, outcomes.items["answers"], strict=True):
        humans[image] = list(given)
    chosen = np.flatnonzero(inside)
    masked = options.pop("words", "lic2022" if load_words("lic2022").attribute == attribute else None)
    found = lic(
        captions[chosen].tolist(), [humans[i] for i in chosen], outcomes.table.loc[inside, attribute].astype(str).to_numpy(),
        words=masked, blocks=options.pop("blocks", _blocks(outcomes, inside)), **options,
    )  # fmt: skip
    about = f"attacker={found.attacker}; words={found.words}; seeds={len(found.seeds)}"
    parts = (
        ("lic", found.value, found.sd, found.p, "lic"),
        ("lic_m", found.lic_m, found.lic_m_sd, found.p_m, "lic_m"),
        ("lic_d", found.lic_d, found.lic_d_sd, found.p_d, "lic_d"),
    )
    return [
        _row(
            name,
            value,
            sd,
            found.n,
            found.null[column].to_numpy(float) if len(found.null) else np.zeros(0),
            p,
            about,
        )
        for name, value, sd, p, column in parts
    ]


def _blocks(outcomes: Outcomes, inside: np.ndarray) -> np.ndarray | None:
    return None if outcomes.blocks is None else outcomes.blocks[inside]


def _row(
    name: str, value: float, sd: float, n: int, null: np.ndarray, p: float, about: str
) -> dict[str, Any]:
    row: dict[str, Any] = {"metric": name, "value": value, "n": n, "protocol": about, "status": "ok"}
    if not np.isfinite(value):
        return row | {"status": "undefined", "reason": f"{name} is not defined for these captions."}
    if np.isfinite(sd):
        row |= {"ci_low": value - _Z * sd, "ci_high": value + _Z * sd}
    known = null[np.isfinite(null)]
    if known.size > 1:
        mean, spread = float(known.mean()), float(known.std(ddof=1))
        row |= {
            "null_mean": mean,
            "null_sd": spread,
            "z": (value - mean) / spread if spread > 0 else np.nan,
            "p": p,
        }
    return row
