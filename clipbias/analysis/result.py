"""The three verdicts, and a correlation with everything that is needed to judge it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field

import pandas as pd

from clipbias.display import Shown

RELATED, UNDECIDED = "related", "undecided"


def equivalent_word(bound: float) -> str:
    """Return the verdict for a correlation that is no larger than a bound."""
    return f"equivalent to none within ±{bound:g}"


def decide(p_value: float, equivalence_p: float, *, bound: float, alpha: float) -> str:
    """Return the verdict: related, equivalent to none within a bound, or undecided.

    A correlation that differs from none *and* lies within the bound is related.
    """
    if p_value < alpha:
        return RELATED
    return equivalent_word(bound) if equivalence_p < alpha else UNDECIDED


@dataclass(frozen=True)
class Correlation(Shown):
    """A correlation over units of analysis (models unless stated).

    Attributes
    ----------
    estimate : float
        In [-1, 1]; partial when there are controls or families.
    p_value : float
        Two-sided permutation p, |permuted| >= |observed|; within families when these are given.
    exact : bool
        Whether all permutations were enumerated.
    ci_low, ci_high : float
        Bonett-Wright; ``bca_low``, ``bca_high`` the bootstrap interval (over families when there are six or more,
        over the models within them when there are fewer).
    n : int
    method, unit : str
    minimum_detectable : float
        True |r| that n models would show with 80 % power.
    bound, equivalence_p : float
        The declared bound and the p of the test that |r| is below it.
    excluded_bound : float
        The smallest bound these data exclude at alpha.
    detectable_bound : float
        The smallest bound that n models would confirm with 80 % power if there were no correlation.
    models_to_detect, models_to_exclude : float
        Models needed to find a correlation of the size seen, or to confirm none within the bound.
    verdict : str
        ``"related"``, ``"equivalent to none within ±b"`` or ``"undecided"``.
    p_between : float
        Permutation p over family means; NaN without families.
    left_out_families : DataFrame
        ``family, n, estimate`` with each family left out.
    methods : dict
        The other coefficients: name -> (estimate, p_value).
    controls : tuple of str
    partialled : int
        Degrees of freedom that controls and families take.
    note : str
    """

    estimate: float
    p_value: float
    exact: bool
    ci_low: float
    ci_high: float
    bca_low: float
    bca_high: float
    n: int
    method: str
    unit: str
    minimum_detectable: float
    bound: float
    equivalence_p: float
    excluded_bound: float
    detectable_bound: float
    models_to_detect: float
    models_to_exclude: int
    verdict: str
    alpha: float = 0.05
    p_between: float = math.nan
    between_n: int = 0
    left_out_families: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame(columns=["family", "n", "estimate"])
    )
    methods: dict[str, tuple[float, float]] = field(default_factory=dict)
    controls: tuple[str, ...] = ()
    partialled: int = 0
    note: str = ""

    def row(self) -> dict[str, object]:
        """Return the result as one table row."""
        out = {k: v for k, v in asdict(self).items() if k not in ("left_out_families", "methods", "controls")}
        # Floats: a correlation near zero would need more models than an integer column can hold.
        out |= {k: float(out[k]) for k in ("models_to_detect", "models_to_exclude")}
        for name, (value, p) in self.methods.items():
            out[name], out[f"{name}_p"] = value, p
        lofo = self.left_out_families["estimate"]
        out["leave_one_family_low"] = float(lofo.min()) if len(lofo) else math.nan
        out["leave_one_family_high"] = float(lofo.max()) if len(lofo) else math.nan
        return out | {"controls": ", ".join(self.controls)}

    def __str__(self) -> str:
        text = (
            f"{self.method} {self.estimate:+.2f} [{self.ci_low:+.2f}, {self.ci_high:+.2f}], p {self.p_value:.3g}, "
            f"{self.n} {self.unit}: {self.verdict} (detectable {self.minimum_detectable:.2f})"
        )
        if self.verdict == UNDECIDED:
            text += (
                f"; deciding would take {self.models_to_detect:.0f} {self.unit} at this size or "
                f"{self.models_to_exclude} to exclude ±{self.bound:g}"
            )
        return text
