"""What one worker is asked for, and what it brings back."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from clipbias.instrument.recipe import Recipe

MAX_BAD = 0.01


@dataclass(frozen=True)
class Unit:
    """What one worker is asked for; it can be pickled.

    Attributes
    ----------
    model : str
        Canonical model spec.
    recipe : Recipe
    device, precision : str
    reference : str
        Spec of the model whose space ``@reference`` views use.
    max_bad : float
        Share of unreadable images above which the measurement stops.
    done : str
        Key of this unit in the run folder, empty if it is not there.
    """

    model: str
    recipe: Recipe
    device: str = "cpu"
    precision: str = "fp32"
    reference: str = ""
    max_bad: float = MAX_BAD
    done: str = ""


@dataclass
class Measured:
    """What came of a unit: tables by name, and what it cost.

    ``key`` names everything the tables depend on; ``kept`` says that the run folder held them already.
    """

    key: str
    kept: bool = False
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    encoded: int = 0
    reused: int = 0
    data: dict[str, str] = field(default_factory=dict)
