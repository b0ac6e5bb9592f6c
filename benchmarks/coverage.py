"""How often do the intervals cover? Simulation with known effects; prints a table and writes it as CSV.

    python benchmarks/coverage.py --out coverage.csv          # 600 replications a cell, some minutes
    python benchmarks/coverage.py --replications 200 --quick  # the smaller version that the tests run
    python benchmarks/coverage.py --others --out coverage.csv # all other metrics, in three settings each

benchmarks/coverage.csv was made, in 20 to 30 minutes of one core, by

    python benchmarks/coverage.py --sizes 100 --replications 800 --draws 300 --no-means --out benchmarks/coverage.csv
    python benchmarks/coverage.py --sizes 1000 --replications 300 --draws 300 --no-means --out benchmarks/coverage.csv

(one cell again with 800 replications) and benchmarks/coverage_others.csv, in an hour of one core, by

    python benchmarks/coverage.py --others --replications 400 --draws 200 --out benchmarks/coverage_others.csv

What is covered is the expectation of the value over new samples of the same size with the same group sizes: a
population value would be the wrong target for maxima and divergences, which have a floor at finite n. The
excess is the value less the null mean in null standard deviations; its interval is that of the value, moved
and scaled by the row's own null, and where the null moves with the value (recalls) from the joint bootstrap of both. Scores are normal; group g of G has its mean at ``effect * g / (G - 1)``
standard deviations, and hit rates fall from .8 by ``effect * .3 * g / (G - 1)``. Of sets of embeddings, X and Y are n
targets that differ by ``effect`` standard deviations in the direction in which A and B (20 each) differ by 2.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd

from clipbias.metrics import (
    Association,
    Classification,
    Labels,
    Pronouns,
    Protocol,
    Ranking,
    Retrieval,
    Targets,
    evaluate,
    get,
    registry,
)

RANKING = ("skew", "bias_at_k", "c_asc", "max_skew", "min_skew", "ndkl", "normalized_entropy")
RATES = ("zero_shot_recall", "zero_shot_disparity", "recall_at_k", "kl_recall")
OTHERS = tuple(name for name in registry() if name not in RANKING + RATES)
WHERE = ((100, 2, 0.0), (100, 2, 0.5), (1000, 2, 0.5))  # n, groups and effect of the other metrics
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
    if get(metric).needs == "pronouns":
        groups_of = np.tile(g, lists)
        wrong = "neutral" if metric == "resolution_neutral" else "z"
        return Pronouns(np.where(hit, groups_of, wrong), groups_of, own)
    if get(metric).needs == "classification":
        return Classification(own, np.where(hit, own, "other"), [*names, "other"], np.tile(g, lists))
    similarity = np.stack([hit, ~hit], axis=1).astype(float)
    return Retrieval(similarity, np.zeros(code.size, int), np.tile(g, lists), probes_of=own, k=1)


def make(rng, lists, n, groups, effect, metric):
    """Return an input with that many independent probes; `alone` says which metrics have one probe only."""
    g = labels(n, groups)
    if get(metric).needs == "ranking":
        names = [f"c{i:04d}" for i in range(lists)]
        world = np.full((lists, groups), 1 / groups) if metric.startswith("world") else None
        return Ranking(scores(rng, lists, g, groups, effect), names, g, world=world)
    if alone(metric):
        return one(rng, g, groups, effect, metric)
    return rates(rng, lists, g, groups, effect, metric)


def alone(metric: str) -> bool:
    """Whether a metric looks at all classes or sets at once, so that a replication needs an input of its own."""
    needs = get(metric).needs
    return needs in ("labels", "association", "targets") or (
        needs == "classification" and not metric.startswith("zero_shot")
    )


def one(rng: np.random.Generator, g: np.ndarray, groups: int, effect: float, metric: str):
    """Return a sample for a metric that stands `alone`; what is counted there has the probe "c"."""
    n, needs = g.size, get(metric).needs
    if needs == "labels":
        # What an image shows goes with its group; groups are drawn, too, as they are what is counted.
        g = np.array(list("abcdefg"))[rng.choice(groups, n, p=_shares(groups, effect))]
        code = np.unique(g, return_inverse=True)[1]
        shows = rng.random(n) < 0.5 - 0.3 * effect * code / (groups - 1)
        return Labels(np.where(shows, "c", np.where(rng.random(n) < 0.5, "d", "e")), g)
    if needs == "classification":
        code = np.unique(g, return_inverse=True)[1]
        true = np.where(rng.random(n) < 0.5, "c", "d")
        right = rng.random(n) < 0.8 - 0.3 * effect * code / (groups - 1)
        said = np.where(right, true, np.where(true == "c", "d", "c"))
        harm = ["d"] if metric.startswith("harm") else []
        return Classification(true, said, ["c", "d"], g, harmful=harm)
    axis = np.eye(16)[0]
    sets = {
        "X": rng.normal(size=(n // 2, 16)) + axis * effect / 2, "Y": rng.normal(size=(n // 2, 16)) - axis * effect / 2,
        "A": rng.normal(size=(20, 16)) + axis, "B": rng.normal(size=(20, 16)) - axis,
    }  # fmt: skip
    if metric == "sc_weat":
        # The targets are words, fixed and not a sample; images are drawn.
        word = np.linspace(1.0, 0.5, 16)[None] * effect
        images = {s: rng.normal(size=(n // 2, 16)) + axis * sign / 2 for s, sign in (("A", 1), ("B", -1))}
        return Association(**images, W=word + 0.5, words=["c"])
    return Targets(**sets, paired=True, probe="c") if needs == "targets" else Association(**sets, probe="c")


def _shares(groups: int, effect: float) -> np.ndarray:
    share = 1 + effect * np.linspace(-1, 1, groups)
    return share / share.sum()


def expectation(rng, n, groups, effect, metric, protocol, truth) -> np.ndarray:
    """Mean value over many samples, by group for a per-group metric; over the defined ones."""
    m, parts = get(metric), []
    lists = 1 if alone(metric) else 100
    for _ in range(truth // lists):
        given = make(rng, lists, n, groups, effect, metric)
        value = m.kernel(given.tally("observed", protocol, m))[0][:lists]
        parts.append(np.where(np.isfinite(value), value, np.nan))
    return np.nanmean(np.concatenate(parts), axis=0)


def null_moments(frame: pd.DataFrame) -> tuple[float, float]:
    return frame["null_mean"].mean(), frame["null_sd"].mean()


def cell(metric, n, groups, effect, replications, protocol, truth=TRUTH) -> list[dict]:
    """Coverage of one metric in one setting, for the value and for the excess."""
    rng = np.random.default_rng(
        [n, groups, round(effect * 100), RANKING.index(metric) if metric in RANKING else 9]
    )
    single = alone(metric)
    targets = np.atleast_1d(expectation(rng, n, groups, effect, metric, protocol, truth))
    chunk = 1 if single else 25 if get(metric).needs == "ranking" else max(1, 5000 // n)
    rows = []
    for start in range(0, replications, chunk):
        # A new seed for each chunk: all lists of a call share their draws.
        inputs = make(rng, chunk, n, groups, effect, metric)
        rows += evaluate(metric, inputs, protocol=protocol.model_copy(update={"seed": start}), excess=True)
    frame = pd.DataFrame(rows)
    whole = single and not frame["probe"].str.startswith("c").any()
    frame = frame[
        (frame["probe"].eq("") if whole else frame["probe"].str.startswith("c")) & (frame["status"] == "ok")
    ]
    names = sorted(set(labels(n, groups)))
    parts = [(frame[frame.group == g], t) for g, t in zip(names, targets, strict=True)] if get(metric).per_group else [
        (frame, targets[0])
    ]  # fmt: skip
    out = []
    # Permuted labels may leave a count unchanged: it has no null to be in excess of.
    drawn = null_moments(frame)[1] > 1e-12
    for what in ("value", "excess") if drawn else ("value",):
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
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000], help="images of a sample")
    parser.add_argument("--quick", action="store_true", help="two settings, without the means over probes")
    parser.add_argument(
        "--truth", type=int, default=1000, help="samples behind an expectation, of the others"
    )
    parser.add_argument("--others", action="store_true", help="the metrics that the main table leaves out")
    parser.add_argument("--no-means", action="store_true", help="without the means over probes")
    parser.add_argument("--out", type=Path, help="CSV file; cells that it holds are not simulated again")
    args = parser.parse_args()
    few = (
        {"sizes": (100,), "effects": (0.0, 0.5), "means": False}
        if args.quick
        else {"sizes": tuple(args.sizes), "means": not args.no_means}
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

    if args.others:
        protocol = Protocol(n_boot=args.draws, n_perm=args.draws, min_group=1)
        for name in OTHERS:
            for n, groups, effect in WHERE:
                if (name, n, groups, effect) not in done:
                    # A classifier is trained in every draw of RNSB.
                    slow = 4 if name == "rnsb" else 1
                    report(
                        cell(name, n, groups, effect, args.replications // slow, protocol, args.truth // slow)
                    )
        return
    coverage(replications=args.replications, draws=args.draws, report=report, done=done, **few)


if __name__ == "__main__":
    main()
