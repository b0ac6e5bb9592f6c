"""A metric with its uncertainty: one call gives the rows of a table.

Three questions, three kinds of draw, one kernel. The value comes from the data; the interval from a bootstrap
over images; the null from permuted labels. The mean over probes is taken inside each draw, so that probes
which share images are not counted as independent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np

from clipbias.errors import DataError, StatusError
from clipbias.metrics.checks import resolve_k
from clipbias.metrics.inputs import Association, Classification, Labels, Pronouns, Ranking, Retrieval
from clipbias.metrics.intervals import interval, moved_interval
from clipbias.metrics.protocol import STRICT, Protocol
from clipbias.metrics.record import Metric, get

Inputs = Ranking | Classification | Retrieval | Association | Labels | Pronouns
_ABSENT = ("absent group", "no image of the group is among the first k")


def evaluate(
    metric: str | Metric,
    inputs: Inputs,
    *,
    protocol: Protocol = STRICT,
    each: bool = True,
    excess: bool = False,
) -> list[dict[str, Any]]:
    """Measure one metric with intervals and a permutation null.

    Parameters
    ----------
    metric : str or Metric
    inputs : Ranking, Classification, Retrieval or Association
        Of the kind that the metric needs.
    protocol : Protocol
    each : bool
        Whether every probe gets its rows, or only their mean.
    excess : bool
        Whether rows also have ``excess_low, excess_high``: the interval of z, the value's distance from the mean of
        its null in standard deviations of that null.

    Returns
    -------
    list of dict
        Row parts ``probe, group, value, ci_low, ci_high, n, null_mean, null_sd, z, p, status, reason``: one row
        per probe (and group), and their mean over probes with ``probe=""``. The row of a maximum carries the
        worst group in ``group``. ``n`` is the number of images the value rests on.

    Raises
    ------
    DataError
        The inputs are not of the kind that the metric needs.

    Notes
    -----
    What holds for a whole input (k larger than n, a single group) gives rows with that status, not an error,
    so that the other views of a study go on.
    """
    m = get(metric) if isinstance(metric, str) else metric
    kind = type(inputs).__name__.lower()
    if kind != m.needs:
        raise DataError(f"{m.name} needs a {m.needs} input, this is a {kind}.")
    levels = [str(level) for level in inputs.coded[1]]
    try:
        _refuse(m, inputs, protocol)
        now = inputs.tally("observed", protocol, m)
        value = m.kernel(now)[0]
    except StatusError as error:
        groups = levels if m.per_group and levels else [""]
        return [
            _row(probe, group, n=inputs.n, status=error.status, reason=error.reason)
            for probe in dict.fromkeys([*inputs.probes, ""] if each else [""])
            for group in groups
        ]
    boot, factor, null, centers = None, 1.0, None, None
    if protocol.n_boot:
        tally = inputs.tally("bootstrap", protocol, m)
        boot, factor = m.kernel(tally), tally.factor
        if excess and m.null_center is not None:
            centers = m.null_center(now)[0], m.null_center(tally)
    if protocol.n_perm:
        null = m.kernel(inputs.tally("permuted", protocol, m))
    return _Rows(
        m, inputs, protocol, levels, value, boot, factor, null, now, each, centers if excess else False
    ).all()


def evaluate_all(
    metrics: Iterable[str | Metric], inputs: Inputs, *, protocol: Protocol = STRICT
) -> list[dict[str, Any]]:
    """Measure several metrics of one kind; rows carry ``metric`` and ``protocol`` too."""
    return [
        {"metric": m.name, "protocol": protocol.hash, **row}
        for m in (get(m) if isinstance(m, str) else m for m in metrics)
        for row in evaluate(m, inputs, protocol=protocol)
    ]


def point_values(
    metric: str | Metric,
    inputs: Inputs,
    masks: np.ndarray,
    *,
    protocol: Protocol = STRICT,
    group: str | None = None,
) -> np.ndarray:
    """Values of one metric on many subsets of the images, without intervals.

    Parameters
    ----------
    masks : array of bool (m, n)
    group : str, optional
        Which group's value; needed for a metric with one value per group.

    Returns
    -------
    ndarray (m, P)
        NaN where undefined. A row's mean is the value over all probes.
    """
    m = get(metric) if isinstance(metric, str) else metric
    masks = np.atleast_2d(np.asarray(masks, dtype=bool))
    if masks.shape[1] != inputs.n:
        raise DataError(f"masks have {masks.shape[1]} columns for {inputs.n} images.")
    if not masks.any(1).all():
        raise DataError(f"mask {int(np.argmin(masks.any(1)))} selects no image.")
    levels = [str(level) for level in inputs.coded[1]]
    if m.per_group and group not in levels:
        raise DataError(f"{m.name} has a value for each group; name one with group=: {levels}.")
    out = subset_values([m], inputs, masks, protocol=protocol)[m.name]
    return out[..., levels.index(group)] if m.per_group and group is not None else out


def subset_values(
    metrics: Iterable[str | Metric], inputs: Inputs, weights: np.ndarray, *, protocol: Protocol = STRICT
) -> dict[str, np.ndarray]:
    """Values of several metrics on many subsets (or resamples) of the images; what they count is counted once.

    Parameters
    ----------
    metrics : iterable of str or Metric
        Of the kind that the inputs are for.
    weights : array (m, n)
        Masks, or how often each image counts.

    Returns
    -------
    dict
        Name -> (m, P), or (m, P, G) for a metric with one value per group; NaN where undefined.
    """
    asked = [get(m) if isinstance(m, str) else m for m in metrics]
    # A few hundred rows over ten thousand images: chunks keep the temporary arrays small.
    step = max(1, 4_000_000 // inputs.n)
    parts: dict[str, list[np.ndarray]] = {m.name: [] for m in asked}
    for start in range(0, len(weights), step):
        tally = inputs.subsets(weights[start : start + step], protocol, asked[0])
        for m in asked:
            parts[m.name].append(m.kernel(tally))
    return {name: np.concatenate(found) for name, found in parts.items()}


def _refuse(m: Metric, inputs: Inputs, protocol: Protocol) -> None:
    """Raise where a value could be computed but would mean nothing."""
    if isinstance(inputs, Association):
        return
    codes, levels = inputs.coded
    if np.unique(codes).size < 2:
        raise StatusError("single group", f"all {codes.size} images are of group {levels[codes[0]]!r}.")
    against_itself = isinstance(inputs, Ranking) and m.of_first_k and protocol.reference == "base_rate"
    if against_itself and resolve_k(protocol.k, inputs.n) == inputs.n:
        reason = f"k={inputs.n} takes all images: 0 by construction; choose a smaller k."
        raise StatusError("k equals n", reason)


def _row(probe: str, group: str, **values: Any) -> dict[str, Any]:
    blank = dict.fromkeys(("value", "ci_low", "ci_high", "null_mean", "null_sd", "z", "p"), math.nan)
    return {"probe": probe, "group": group, **blank, "n": 0, "status": "ok", "reason": "", **values}


def _finite(draws: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(draws), draws, np.nan)


def _mean_over_probes(values: np.ndarray) -> np.ndarray:
    """Mean over the probes where a value is defined; −inf stays −inf in the data, see `_Rows`."""
    have = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(have, values, 0).sum(-1) / np.where(have.any(-1), have.sum(-1), np.nan)


class _Rows:
    """Everything of one metric on one input, laid out as rows."""

    def __init__(
        self, m: Metric, inputs: Inputs, protocol: Protocol, levels: list[str], value: np.ndarray,
        boot: np.ndarray | None, factor: float, null: np.ndarray | None, now: Any, each: bool,
        centers: tuple[np.ndarray, np.ndarray] | Literal[False] | None,
    ) -> None:  # fmt: skip
        self.m, self.inputs, self.protocol, self.levels, self.now = m, inputs, protocol, levels, now
        self.value, self.boot, self.null, self.factor = value, boot, null, factor
        self.each, self.centers = each, centers
        self.probes = inputs.probes if len(value) == len(inputs.probes) else [""]
        self.sizes = np.bincount(inputs.coded[0], minlength=len(levels)) if levels else np.zeros(0, int)
        self.note = self._note()

    def _note(self) -> str:
        small = [
            f"{level!r} has {n}"
            for level, n in zip(self.levels, self.sizes, strict=True)
            if n < self.protocol.min_group
        ]
        return (
            f"few images of a group: {', '.join(small)} (min_group {self.protocol.min_group})."
            if small
            else ""
        )

    def all(self) -> list[dict[str, Any]]:
        """Rows per probe (and group), then the mean over probes."""
        if not self.m.per_group:
            return self._column(None)
        return [row for g in range(len(self.levels)) for row in self._column(g)]

    def _column(self, g: int | None) -> list[dict[str, Any]]:
        """Rows of all probes for one group, or for all groups together."""
        pick = (lambda a: a) if g is None else (lambda a: a[..., g])
        value = pick(self.value)
        group = "" if g is None else self.levels[g]
        if g is not None and self.sizes[g] < self.protocol.min_group:
            n = int(self.sizes[g])
            status = "small group" if n else "empty group"
            reason = (
                f"{n} images of {group!r} here, at least {self.protocol.min_group} are asked for (min_group)."
            )
            return [
                _row(p, group, n=n, status=status, reason=reason)
                for p in dict.fromkeys([*self.probes, ""] if self.each else [""])
            ]
        boot = None if self.boot is None else pick(self.boot)
        null = None if self.null is None else pick(self.null)
        number, worst = self._n(g), self._worst()
        trials = number if self.m.trials is None else np.broadcast_to(self.m.trials(self.now), number.shape)
        centers = None
        if self.centers:
            # One center for all groups; levels without a metric per group have none.
            centers = self.centers[0][..., 0], self.centers[1][..., 0]
        rows = []
        if self.each and self.probes != [""]:
            for i, probe in enumerate(self.probes):
                name = group if worst is None else worst[i]
                b, z = (None if a is None else a[:, i] for a in (boot, null))
                rows.append(
                    self._fill(
                        probe,
                        name,
                        float(value[i]),
                        b,
                        z,
                        int(number[i]),
                        float(trials[i]),
                        "",
                        g,
                        None if centers is None else (float(centers[0][i]), centers[1][:, i]),
                    )  # fmt: skip
                )
        missing = [p for p, v in zip(self.probes, value, strict=True) if math.isnan(v)]
        note = f"over {len(value) - len(missing)} of {len(value)} probes; undefined: {', '.join(missing[:5])}." if (
            missing and len(missing) < len(value)
        ) else ""  # fmt: skip
        defined = ~np.isnan(value)
        keep = defined if defined.any() else ~defined
        b, z = (None if a is None else _mean_over_probes(_finite(a[:, keep])) for a in (boot, null))
        mean = float(_mean_over_probes(value))
        total = int(number.sum() if self.m.within_class else number.max())
        rows.append(
            self._fill(
                "",
                group if worst is None else worst[-1],
                mean,
                b,
                z,
                total,
                float(trials[keep].sum()),
                note,
                g,
                None
                if centers is None
                else (
                    float(_mean_over_probes(centers[0][keep])),
                    _mean_over_probes(_finite(centers[1][:, keep])),
                ),
            )
        )
        return rows

    def _n(self, g: int | None) -> np.ndarray:
        """Images that each probe's value rests on."""
        facts = getattr(self.now, "facts", None)
        if facts is not None and "among" in facts and self.m.within_class:
            count = self.now.count(facts["among"])[0]
            return count.sum(-1) if g is None else count[:, g]
        return np.full(len(self.value), self.inputs.n if g is None else self.sizes[g])

    def _df(self, g: int | None) -> float:
        """Degrees of freedom: of the group that a value is about, or of the smallest set of a test."""
        if g is not None:
            return float(max(1, self.sizes[g] - 1))
        return getattr(self.inputs, "df", math.inf)

    def _worst(self) -> list[str] | None:
        """Name the worst group of each probe and of their mean."""
        if self.m.extreme_of is None:
            return None
        name, side = self.m.extreme_of
        each = get(name).kernel(self.now)[0]
        each = np.concatenate([each, _mean_over_probes(each.T)[None]])
        sign = 1 if side == "max" else -1
        each = np.where(np.isnan(each), -np.inf, sign * each)
        return [self.levels[int(i)] for i in each.argmax(-1)]

    def _fill(
        self,
        probe: str,
        group: str,
        value: float,
        boot: np.ndarray | None,
        null: np.ndarray | None,
        n: int,
        trials: float,
        note: str,
        g: int | None,
        center: tuple[float, np.ndarray] | None,
    ) -> dict[str, Any]:
        reason = " ".join(t for t in (note, self.note if not self.m.per_group else "") if t)
        if math.isnan(value):
            status, why = self.m.undefined
            return _row(probe, group, n=n, status=status, reason=why)
        row = _row(probe, group, value=value, n=n, reason=reason)
        if null is not None:
            row |= _null(value, null, self.m.worse)
        if math.isinf(value):
            advice = "; choose a larger k or zero='peer'."
            return row | {"status": _ABSENT[0], "reason": _ABSENT[1] + advice}
        if boot is not None:
            ends = interval(
                self.m.interval_kind, value, boot, null, level=self.protocol.level,
                factor=self.factor * math.sqrt(self.m.spread), df=self._df(g), trials=trials, bounds=self.m.range, ideal=self.m.ideal,
                reference=math.nan if g is None or self.m.needs != "ranking" else float(self.now.reference[0, g]),
            )  # fmt: skip
            row |= dict(zip(("ci_low", "ci_high"), map(float, ends), strict=True))
            if self.centers is not False:
                if center is None:
                    ends = ends[0] - row["null_mean"], ends[1] - row["null_mean"]
                else:
                    ends = moved_interval(value, ends, boot, *center)
                sd = row["null_sd"]
                scaled = [end / sd if sd > 0 else math.nan for end in ends]
                row |= dict(zip(("excess_low", "excess_high"), scaled, strict=True))
        return row


def _null(value: float, null: np.ndarray, worse: str) -> dict[str, float]:
    """Return mean and spread of the permuted values, the excess z and the p value.

    An absent group (−inf) counts by its order in p; mean and spread are over the finite values.
    """
    null = null[~np.isnan(null)]
    finite = null[np.isfinite(null)]
    if finite.size < 2:
        return {}
    mean, sd = float(finite.mean()), float(finite.std(ddof=1))
    # Values that are equal up to rounding are ties and count: the p value must not be too small.
    slack = 1e-6 * max(1.0, abs(value)) if math.isfinite(value) else 0.0
    high = (1 + int((null >= value - slack).sum())) / (1 + null.size)
    low = (1 + int((null <= value + slack).sum())) / (1 + null.size)
    p = {"high": high, "low": low, "both": min(1.0, 2 * min(high, low))}[worse]
    # A value that labels cannot move (a mean over all classes of how often each is named) has a spread of rounding only.
    z = (value - mean) / sd if sd > 1e-12 * max(1.0, abs(mean)) and math.isfinite(value) else math.nan
    return {"null_mean": mean, "null_sd": sd, "z": z, "p": p}
