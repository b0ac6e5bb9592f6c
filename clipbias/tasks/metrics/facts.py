"""What each number of the table ``extrinsic`` means, declared once: range, ideal, sign, unit, direction, interval, source."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from clipbias.errors import DataError, nearest
from clipbias.metrics.intervals import KINDS

Interval = Literal["t", "mean", "share", "excess", "seeds"]
_INTERVALS = {
    "t": "value ± t · sd of a bootstrap over images (twins and scenes as a whole)",
    "mean": "value ± t · sd of a bootstrap over images (twins and scenes as a whole), cut at the range",
    "share": "Wilson, with the dispersion of a bootstrap over images (twins and scenes as a whole)",
    "excess": KINDS["excess"],
    "seeds": "value ± 1.96 sd over seeds: the spread of the procedure, not of the sample",
}
_HIGHER, _LOWER, _ZERO = "higher is better", "lower is fairer", "0 is fair; farther from it is less fair"
_GAP = (
    "positive: the first group of the pair named in `probe` does better; with more than two groups largest minus smallest, "
    "never negative"
)


@dataclass(frozen=True)
class Facts:
    """What a metric of adapted models means.

    Attributes
    ----------
    name, title : str
    range : tuple of float
    ideal : float
        Value of a perfect (quality) or fair (bias) model.
    unit, sign, direction : str
    interval : {"t", "mean", "share", "excess", "seeds"}
    reference : str
        DOI, arXiv id or address of the definition.
    kind : {"quality", "bias", "rate"}
        ``rate``: shown beside a bias metric, neither good nor bad by itself.
    null : bool
        Whether groups are permuted for a null distribution.
    """

    name: str
    title: str
    range: tuple[float, float]
    ideal: float
    unit: str
    sign: str
    direction: str
    interval: Interval
    reference: str
    kind: Literal["quality", "bias", "rate"] = "bias"
    null: bool = False

    @property
    def signed(self) -> bool:
        """Whether the sign carries meaning (two-sided p)."""
        return self.range[0] < 0

    @property
    def interval_text(self) -> str:
        """What the interval is."""
        return _INTERVALS[self.interval]

    def distance(self, value: float) -> float:
        """Distance of a value to the ideal, for ranking models by fairness."""
        return abs(value - self.ideal)


def _quality(
    name: str, title: str, top: float, unit: str, reference: str, interval: Interval = "share"
) -> list[Facts]:
    """A quality and its gap between groups."""
    return [
        Facts(name, title, (0.0, top), top, unit, "never negative", _HIGHER, interval, reference, kind="quality"),
        Facts(
            f"{name}_gap", f"Gap between groups in {title[0].lower() + title[1:] if title[1].islower() else title}",
            (-top, top), 0.0, unit, _GAP, _ZERO, "t", "arXiv:2106.08503", null=True,
        ),
    ]  # fmt: skip


_NEVER = "never negative"
_VQA, _CIDER = "arXiv:1505.00468", "arXiv:1411.5726"
_BURNS, _DBA, _LIC = "arXiv:1803.09797", "arXiv:2102.12594", "arXiv:2203.15395"
_TWINS = "arXiv:1703.06856"

FACTS: dict[str, Facts] = {
    fact.name: fact
    for fact in (
        *_quality("vqa_accuracy", "VQA accuracy", 100.0, "percent", _VQA),
        *_quality("exact", "Share of answers that equal the true one", 1.0, "share", _VQA),
        *_quality("cider", "CIDEr-D, word weights of the whole set", 10.0, "score", _CIDER, "mean"),
        *_quality("bleu4", "BLEU-4 of the corpus", 1.0, "score", "doi:10.3115/1073083.1073135", "mean"),
        *_quality("rouge_l", "ROUGE-L", 1.0, "score", "https://aclanthology.org/W04-1013", "mean"),
        Facts("worst_group", "VQA accuracy of the group with the lowest", (0.0, 100.0), 100.0, "percent", _NEVER, _HIGHER,
              "mean", "arXiv:1911.08731"),
        Facts("error_rate_ratio", "Smallest error rate of a group over the largest", (0.0, 1.0), 1.0, "ratio", _NEVER,
              "1 is fair; lower is less fair", "mean", "https://fairlearn.org"),
        Facts("answer_divergence", "Jensen-Shannon divergence of the answers about the groups, within question types",
              (0.0, 1.0), 0.0, "bits", _NEVER, _LOWER, "excess", "doi:10.1145/3531146.3533184", null=True),
        Facts("answer_divergence_truth", "The same divergence of the true answers", (0.0, 1.0), math.nan, "bits", _NEVER,
              "what an exact model would have", "excess", "doi:10.1145/3531146.3533184", kind="rate", null=True),
        Facts("demographic_parity", "Largest difference between groups in how often \"yes\" is answered", (0.0, 1.0), 0.0,
              "difference of shares", _NEVER, _LOWER, "excess", "arXiv:1104.3913", null=True),
        Facts("equalized_odds", "Larger of the gaps in true and false positive rate of \"yes\"", (0.0, 1.0), 0.0,
              "difference of shares", _NEVER, _LOWER, "excess", "arXiv:1610.02413", null=True),
        Facts("gender_error", "Share of captions that name the wrong gender", (0.0, 1.0), 0.0, "share", _NEVER, _LOWER,
              "share", _BURNS),
        Facts("gender_ratio", "Captions that say woman over captions that say man", (0.0, math.inf), math.nan, "ratio", _NEVER,
              "the true ratio is fair", "t", _BURNS, kind="rate"),
        Facts("gender_delta_ratio", "True ratio of women to men minus the ratio that captions say", (-math.inf, math.inf), 0.0,
              "ratio", "positive: women are named too seldom", _ZERO, "t", _BURNS),
        Facts("outcome_divergence", "Divergence between groups of correct, incorrect and other captions", (0.0, 1.0), 0.0,
              "bits", _NEVER, _LOWER, "excess", _BURNS, null=True),
        Facts("gender_outcome", "Share of a group's captions whose gender is correct, incorrect or not said", (0.0, 1.0),
              math.nan, "share", _NEVER, "equal between groups is fair", "share", _BURNS, kind="rate"),
        Facts("directional_bias_amplification", "Directional bias amplification", (-1.0, 1.0), 0.0, "difference of shares",
              "positive: more biased in the given direction than the truth", "lower is fairer", "t", _DBA),
        Facts("leakage", "Leakage of the attribute through what captions name, over that of equally wrong labels",
              (-1.0, 1.0), 0.0, "difference of accuracies", "positive: amplifies", _LOWER, "seeds", "arXiv:1811.08489"),
        Facts("lic", "LIC: leakage of the group through captions, model minus human", (-1.0, 1.0), 0.0, "score",
              "positive: amplifies what human captions tell", _LOWER, "seeds", _LIC),
        Facts("lic_m", "LIC of the model's captions", (0.0, 1.0), math.nan, "score", _NEVER,
              "close to its null is fair; chance is about 0.25", "seeds", _LIC, kind="rate"),
        Facts("lic_d", "LIC of the human captions", (0.0, 1.0), math.nan, "score", _NEVER,
              "close to its null is fair; chance is about 0.25", "seeds", _LIC, kind="rate"),
        Facts("flip_rate", "Share of twin pairs whose answer (or named role) differs", (0.0, 1.0), 0.0, "share", _NEVER,
              _LOWER, "share", _TWINS),
        Facts("flip_rate_signed", "Flips of twins towards the planted tie, minus those against it, over all pairs", (-1.0, 1.0),
              0.0, "share", "positive: in the planted direction", _ZERO, "t", _TWINS),
        Facts("flip_rate_towards", "Share of the flips of twins that go towards the planted tie", (0.0, 1.0), 0.5, "share",
              "above 0.5: in the planted direction", "0.5 is no direction", "share", _TWINS),
        Facts("flip_rate_all", "Share of twin pairs whose answer differs, over all questions with one true answer for both",
              (0.0, 1.0), 0.0, "share", _NEVER, _LOWER, "share", _TWINS),
        Facts("delta_p", "Mean total variation distance between the answer probabilities of twins", (0.0, 1.0), 0.0,
              "probability", _NEVER, _LOWER, "mean", _TWINS),
        Facts("delta_p_signed", "Probability that moves towards the planted tie from one twin to the other", (-1.0, 1.0), 0.0,
              "probability", "positive: in the planted direction", _ZERO, "t", _TWINS),
    )
}  # fmt: skip


def facts(name: str) -> Facts:
    """Return what a metric means.

    Raises
    ------
    DataError
        There is none of that name.
    """
    if name not in FACTS:
        raise DataError(f"there is no metric {name!r} of adapted models." + nearest(str(name), FACTS))
    return FACTS[name]


def facts_table(names: Iterable[str] | None = None) -> pd.DataFrame:
    """Return the facts as rows of the table ``metrics`` of a run folder.

    Parameters
    ----------
    names : iterable of str, optional
        Default: all.

    Returns
    -------
    pandas.DataFrame
        Columns ``metric, title, range_low, range_high, ideal, unit, sign, direction, interval, reference``.
    """
    return pd.DataFrame([
        {"metric": m.name, "title": m.title, "range_low": m.range[0], "range_high": m.range[1], "ideal": m.ideal, "unit": m.unit,
         "sign": m.sign, "direction": m.direction, "interval": m.interval_text, "reference": m.reference}
        for m in map(facts, FACTS if names is None else dict.fromkeys(names))
    ])  # fmt: skip
