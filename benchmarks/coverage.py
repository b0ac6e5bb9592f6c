"""How often do the intervals cover? Simulation with known effects; prints a table and writes it as CSV.

    python benchmarks/coverage.py --out coverage.csv          # 600 replications a cell, some minutes
    python benchmarks/coverage.py --replications 200 --quick  # the smaller version that the tests run

What is covered is the expectation of the value over new samples of the same size with the same group sizes: a
population value would be the wrong target for maxima and divergences, which have a floor at finite n. The
excess is the value less the null mean in null standard deviations; its interval is that of the value, moved
and scaled by the row's own null, and where the null moves with the value (recalls) from the joint bootstrap of both. Scores are normal; group g of G has its mean at ``effect * g / (G - 1)``
standard deviations, and hit rates fall from .8 by ``effect * .3 * g / (G - 1)``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd

from clipbias.metrics import Classification, Protocol, Ranking, Retrieval, evaluate, get

RANKING = ("skew", "bias_at_k", "c_asc", "max_skew", "min_skew", "ndkl", "normalized_entropy")
RATES = ("zero_shot_recall", "zero_shot_disparity", "recall_at_k", "kl_recall")
TRUTH = 4000  # samples behind the expectation that is to be covered


def labels(n: int, groups: int) -> np.ndarray:
    return np.array(list("abcdefg"))[np.sort(np.arange(n) % groups)]


def scores(
    rng: np.random.Generator, lists: int, g: np.ndarray, groups: int, effect: float, common: float = 0.0
):
    """Scores of ``lists`` rankings; ``common`` is the share of variance that the rankings share."""
    shift = effect * (np.unique(g, return_inverse=True)[1]) / (groups - 1)
    own = rng.normal(size=(lists, g.size))
    return shift + np.sqrt(1 - common) * own + np.sqrt(common) * rng.normal(size=g.size)


def rates(rng: np.random.Generator, lists: int, g: np.ndarray, groups: int, effect: float, metric: str):
    """Hits of ``lists`` classes (or roles) with the same group sizes, as the input of the metric."""
    code = np.tile(np.unique(g, return_inverse=True)[1], lists)
    hit = rng.random(code.size) < 0.8 - 0.3 * effect * code / (groups - 1)
    names = [f"c{i:04d}" for i in range(lists)]
    own = np.repeat(names, g.size)
    if get(metric).needs == "classification":
        return Classification(own, np.where(hit, own, "other"), [*names, "other"], np.tile(g, lists))
    similarity = np.stack([hit, ~hit], axis=1).astype(float)
    return Retrieval(similarity, np.zeros(code.size, int), np.tile(g, lists), probes_of=own, k=1)


def make(rng, lists, n, groups, effect, metric):
    g = labels(n, groups)
    if metric in RANKING:
        return Ranking(scores(rng, lists, g, groups, effect), [f"c{i:04d}" for i in range(lists)], g)
    return rates(rng, lists, g, groups, effect, metric)


def expectation(rng, n, groups, effect, metric, protocol, truth) -> np.ndarray:
    """Mean value over many samples, by group for a per-group metric; over the defined ones."""
    m, parts = get(metric), []
    for _ in range(truth // 100):
        value = m.kernel(make(rng, 100, n, groups, effect, metric).tally("observed", protocol, m))[0][:100]
        parts.append(np.where(np.isfinite(value), value, np.nan))
    return np.nanmean(np.concatenate(parts), axis=0)


def null_moments(frame: pd.DataFrame) -> tuple[float, float]:
    return frame["null_mean"].mean(), frame["null_sd"].mean()


def cell(metric, n, groups, effect, replications, protocol, truth=TRUTH) -> list[dict]:
    """Coverage of one metric in one setting, for the value and for the excess."""
    rng = np.random.default_rng(
        [n, groups, round(effect * 100), RANKING.index(metric) if metric in RANKING else 9]
    )
    targets = np.atleast_1d(expectation(rng, n, groups, effect, metric, protocol, truth))
    chunk = 25 if metric in RANKING else max(1, 5000 // n)
    rows = []
    for start in range(0, replications, chunk):
        # A new seed for each chunk: all lists of a call share their draws.
        inputs = make(rng, chunk, n, groups, effect, metric)
        rows += evaluate(metric, inputs, protocol=protocol.model_copy(update={"seed": start}), excess=True)
    frame = pd.DataFrame(rows).query("probe.str.startswith('c') and status == 'ok'", engine="python")
    names = sorted(set(labels(n, groups)))
    parts = [(frame[frame.group == g], t) for g, t in zip(names, targets, strict=True)] if get(metric).per_group else [
        (frame, targets[0])
    ]  # fmt: skip
    out = []
    for what in ("value", "excess"):
        hits, widths = [], []
        for part, target in parts:
            low, high = part["ci_low"], part["ci_high"]
            if what == "excess":
                mean, sd = null_moments(part)
                target = (target - mean) / sd
                low, high = part["excess_low"], part["excess_high"]
            hits.append(100 * ((low <= target) & (target <= high)).mean())
            widths.append((high - low).replace(np.inf, np.nan).mean())
        out.append(
            {
                "metric": metric, "of": what, "interval": get(metric).interval, "n": n, "groups": groups,
                "effect": effect, "replications": len(parts[0][0]), "covered_percent": np.mean(hits),
                "worst_group": min(hits), "best_group": max(hits), "width": np.mean(widths),
            }
        )  # fmt: skip
    return out


def mean_cell(n, groups, effect, replications, protocol, lists=4) -> list[dict]:
    """Coverage of the mean over probes that share half of their variance."""
    rng = np.random.default_rng([n, groups, round(effect * 100), 77])
    g = labels(n, groups)
    names = [f"c{i}" for i in range(lists)]
    truth: dict[str, list[np.ndarray]] = {m: [] for m in RANKING}
    for _ in range(TRUTH // lists):
        inputs = Ranking(scores(rng, lists, g, groups, effect, 0.5), names, g)
        for m in RANKING:
            value = get(m).kernel(inputs.tally("observed", protocol, get(m)))[0]
            truth[m].append(np.where(np.isfinite(value), value, np.nan))
    rows = []
    for i in range(replications):
        inputs = Ranking(scores(rng, lists, g, groups, effect, 0.5), names, g)
        p = protocol.model_copy(update={"seed": i})
        rows += [
            {"metric": m, **r} for m in RANKING for r in evaluate(m, inputs, protocol=p) if not r["probe"]
        ]
    frame = pd.DataFrame(rows).query("status == 'ok'")
    out = []
    for m, values in truth.items():
        target = np.atleast_1d(np.nanmean(np.concatenate(values), axis=0))
        own = frame[frame.metric == m]
        parts = [own[own.group == x] for x in sorted(set(g))] if get(m).per_group else [own]
        hits = [100 * ((p.ci_low <= t) & (t <= p.ci_high)).mean() for p, t in zip(parts, target, strict=True)]
        out.append(
            {
                "metric": m, "of": f"mean of {lists} probes", "interval": get(m).interval, "n": n, "groups": groups,
                "effect": effect, "replications": len(parts[0]), "covered_percent": np.mean(hits),
                "worst_group": min(hits), "best_group": max(hits),
                "width": np.mean([(p.ci_high - p.ci_low).replace(np.inf, np.nan).mean() for p in parts]),
            }
        )  # fmt: skip
    return out


def coverage(
    *, replications=600, draws=400, sizes=(100, 1000), groups=(2, 7), effects=(0.0, 0.25, 0.5), metrics=RANKING + RATES,
    means=True, truth=TRUTH, report=lambda rows: None, done=frozenset(),
) -> pd.DataFrame:  # fmt: skip
    """Return the table: one row per metric, statistic and setting; ``report`` gets the rows of each cell at once.

    ``done`` holds the cells ``(metric, n, groups, effect)`` that are left out; a mean over probes is the metric "means".
    """
    protocol = Protocol(n_boot=draws, n_perm=draws, min_group=1)
    rows = []
    for n in sizes:
        for number in groups:
            for effect in effects:
                for m in (*metrics, *(["means"] if means else [])):
                    if (m, n, number, effect) in done:
                        continue
                    if m == "means":
                        fewer = protocol.model_copy(update={"n_boot": 200, "n_perm": 200})
                        found = mean_cell(n, number, effect, replications, fewer)
                    else:
                        found = cell(m, n, number, effect, replications, protocol, truth)
                    report(found)
                    rows += found
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--replications", type=int, default=600)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--quick", action="store_true", help="two settings, without the means over probes")
    parser.add_argument("--no-means", action="store_true", help="without the means over probes")
    parser.add_argument("--out", type=Path, help="CSV file; cells that it holds are not simulated again")
    args = parser.parse_args()
    few = (
        {"sizes": (100,), "effects": (0.0, 0.5), "means": False}
        if args.quick
        else {"means": not args.no_means}
    )
    start = time.time()
    done = set()
    if args.out and args.out.exists():
        old = pd.read_csv(args.out)
        name = old["metric"].where(~old["of"].str.startswith("mean"), "means")
        done = set(zip(name, old["n"], old["groups"], old["effect"], strict=True))

    def report(rows):
        frame = pd.DataFrame(rows)
        if args.out:
            fresh = not args.out.exists()
            frame.round(4).to_csv(args.out, mode="a", header=fresh, index=False)
        shown = frame.drop(columns=["interval", "replications", "best_group", "width"])
        print(
            shown.round(1).to_string(index=False, header=False),
            f"\n  {time.time() - start:.0f} s",
            flush=True,
        )

    coverage(replications=args.replications, draws=args.draws, report=report, done=done, **few)


if __name__ == "__main__":
    main()
