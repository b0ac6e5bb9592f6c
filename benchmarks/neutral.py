"""Do random slices look biased? For every metric: its excess over the null where nothing is there to find.

    python benchmarks/neutral.py --out neutral.csv          # 8,000 draws a metric, some minutes

Each of `sets` data sets has scores, predictions or embeddings that do not depend on the labels. `labels` fresh
labellings of each are measured, and every one is compared with the permutation null of that data set exactly as
`evaluate` does it. If slices do not look biased, the excess z has mean 0 and standard deviation 1, and 5 % of the
tests fire. Exit code 1 if a metric's mean is beyond .05, its sd is off by more than .1, or more than 6.5 % fire.

`detected` checks the minimum detectable value: of data whose expected value lies there, the test should find 80 %.
Only c_asc is checked so, whose expected value is known in closed form.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

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
    minimum_detectable,
    registry,
)  # fmt: skip
from clipbias.metrics.inference import _mean_over_probes, _null
from clipbias.metrics.record import Metric

N, GROUPS, PROBES, K = 240, 3, 4, 60
HALF = 2  # probes averaged: over all classes, how often each is named has no freedom left
MEAN, SD, FIRES = 0.05, 0.1, 0.065


def neutral(needs: str, rng: np.random.Generator) -> Any:
    """Data in which nothing depends on the group, as the input of a kind of metric."""
    groups = np.array(list("abc"))[rng.permutation(N) % GROUPS]
    names = [f"c{i}" for i in range(PROBES)]
    role = np.array(names)[rng.integers(0, PROBES, N)]
    if needs == "ranking":
        world = rng.dirichlet(np.full(GROUPS, 20.0), PROBES)
        return Ranking(rng.normal(size=(PROBES, N)), names, groups, world=world)
    if needs == "classification":
        named = np.where(rng.random(N) < 0.6, role, np.array(names)[rng.integers(0, PROBES, N)])
        return Classification(role, named, names, groups, harmful=names[:1])
    if needs == "retrieval":
        similarity = rng.normal(size=(N, N)) + 2.5 * np.eye(N)
        return Retrieval(similarity, np.arange(N), groups, probes_of=role, k=10)
    if needs == "pronouns":
        said = np.where(rng.random(N) < 0.6, groups, "nobody")
        return Pronouns(said, groups, role)
    if needs == "labels":
        return Labels(role, groups)
    # X and Y (and A and B) come from one distribution: what is exchanged has no difference.
    sets = {s: rng.normal(size=(m, 12)) for s, m in zip("XYAB", (20, 20, 12, 12), strict=True)}
    return Targets(**sets, paired=True) if needs == "targets" else Association(**sets)


def single(rng: np.random.Generator) -> Association:
    return Association(
        A=rng.normal(size=(12, 12)),
        B=rng.normal(size=(12, 12)),
        W=rng.normal(size=(PROBES, 12)),
        words=list("wxyz"),
    )


def excess(m: Metric, *, sets: int, labels: int, permutations: int) -> pd.DataFrame:
    """Return z and p of fresh labellings: one row per data set, labelling and group."""
    rows = []
    for i in range(sets):
        rng = np.random.default_rng([i, 99])
        given = single(rng) if m.name == "sc_weat" else neutral(m.needs, rng)
        protocol = Protocol(k=K, n_boot=0, n_perm=permutations, min_group=1)
        fresh = protocol.model_copy(update={"n_perm": labels, "seed": 5000 + i})
        drawn, null = (m.kernel(given.tally("permuted", p, m)) for p in (fresh, protocol))
        if drawn.ndim == 2:
            drawn, null = drawn[..., None], null[..., None]
        for g in range(drawn.shape[2]):
            values, base = (
                _mean_over_probes(np.where(np.isfinite(a), a, np.nan)[:, :HALF, g]) for a in (drawn, null)
            )
            for v in values[np.isfinite(values)]:
                found = _null(float(v), base, m.worse)
                rows.append({"set": i, "group": g, "z": found.get("z", np.nan), "p": found.get("p", np.nan)})
    return pd.DataFrame(rows)


def table(
    names: list[str] | None = None,
    *,
    sets: int = 100,
    labels: int = 80,
    permutations: int = 1000,
    report=lambda row: None,
) -> pd.DataFrame:
    """Return one row per metric: mean and sd of the excess, share of 5 % tests that fire, draws."""
    rows = []
    for name, m in registry().items():
        if names is not None and name not in names:
            continue
        found = excess(m, sets=sets, labels=labels, permutations=permutations)
        z = found["z"].dropna()
        row: dict[str, Any] = {"metric": name, "draws": sets * labels, "values": len(z)}
        if len(z) == 0:
            row |= {"verdict": "does not depend on the labels"}
        else:
            # A value whose null is all but discrete fires at other rates than 5 %; never at more.
            row |= {"mean": z.mean(), "sd": z.std(ddof=1), "fires": (found["p"] <= 0.05).mean()}
            fine = abs(row["mean"]) <= MEAN and abs(row["sd"] - 1) <= SD and row["fires"] <= FIRES
            row["verdict"] = "holds" if fine else "FALLS SHORT"
        rows.append(row)
        report(row)
    return pd.DataFrame(rows)


def detected(*, sets: int = 400, permutations: int = 300) -> dict[str, float]:
    """Return how often the test finds an association that lies at the minimum detectable value, and that value."""
    m, hits, values = registry()["c_asc"], [], []
    protocol = Protocol(k=K, n_boot=0, n_perm=permutations, min_group=1)
    groups = np.repeat(["a", "b"], N // 2)
    for i in range(sets):
        rng = np.random.default_rng([i, 7])
        noise = rng.normal(size=(1, N))
        null = m.kernel(Ranking(noise, ["p"], groups).tally("permuted", protocol, m))[:, 0, 0]
        smallest = float(minimum_detectable(null.mean(), null.std(ddof=1), worse="both"))
        # c_asc of two equal groups d apart, in units of the whole spread: d / sqrt(1 + d^2 / 4).
        d = smallest / np.sqrt(1 - smallest**2 / 4)
        shifted = Ranking(noise + d * (groups == "a"), ["p"], groups)
        value = float(m.kernel(shifted.tally("observed", protocol, m))[0, 0, 0])
        null = m.kernel(shifted.tally("permuted", protocol, m))[:, 0, 0]
        hits.append(_null(value, null, m.worse)["p"] <= 0.05)
        values.append(smallest)
    return {"found": float(np.mean(hits)), "minimum_detectable": float(np.mean(values))}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sets", type=int, default=100)
    parser.add_argument("--labels", type=int, default=80)
    parser.add_argument("--permutations", type=int, default=1000)
    parser.add_argument("--metrics", nargs="+")
    parser.add_argument("--out", type=Path, help="CSV file")
    args = parser.parse_args()
    start = time.time()

    def report(row: dict) -> None:
        numbers = "  ".join(f"{k} {row[k]:+.3f}" for k in ("mean", "sd", "fires") if k in row)
        print(f"{row['metric']:24}{numbers:48}{row['verdict']}  {time.time() - start:.0f} s", flush=True)

    found = table(
        args.metrics, sets=args.sets, labels=args.labels, permutations=args.permutations, report=report
    )
    print("minimum detectable c_asc:", detected())
    if args.out:
        found.round(4).to_csv(args.out, index=False)
    return int((found["verdict"] == "FALLS SHORT").any())


if __name__ == "__main__":
    sys.exit(main())
