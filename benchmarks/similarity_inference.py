"""Do the intervals of CKA cover, does the analytic null hold its level, and the convergence test?

    python benchmarks/similarity_inference.py            # 1,000 replications, some minutes
    python benchmarks/similarity_inference.py --replications 60

Coverage: debiased CKA of fresh images against its value in 40,000 images of the same population; beside it the
percentile bootstrap that other tools use. Null: unrelated spaces of Gaussian, heavy-tailed and cone-shaped features.
Convergence: similarities with a level for each model and state (sd .05) and noise for each pair (sd .02), no change;
beside it the paired t test over pairs.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
import torch
from scipy import stats

from clipbias.analysis import cka, convergence_test
from clipbias.analysis.cka import cka_matrix

CELLS = ((50, 32), (100, 256), (300, 256))


def coverage(n: int, d: int, replications: int, rng: np.random.Generator, draws: int) -> dict[str, object]:
    wx, wy = rng.normal(size=(8, d)), rng.normal(size=(8, d))

    def sample(size: int) -> list[np.ndarray]:
        z = rng.normal(size=(size, 8))
        return [(z @ w + 2 * rng.normal(size=(size, d))).astype(np.float32) for w in (wx, wy)]

    truth = cka(*sample(40_000 if d < 100 else 12_000))
    ours, boot, drawn = 0, 0, 0
    for i in range(replications):
        x, y = sample(n)
        low, high = cka_matrix([x, y], errors=True).interval()
        ours += low[0, 1] <= truth <= high[0, 1]
        if i % 25:  # a rough figure is enough for what fails by far
            continue
        drawn += 1
        values = []
        for _ in range(draws):
            rows = rng.integers(0, n, n)
            values.append(cka(x[rows], y[rows]))
        low, high = np.quantile(values, [0.025, 0.975])
        boot += low <= truth <= high
    return {
        "what": f"coverage n={n} d={d}",
        "ours": ours / replications,
        "percentile bootstrap": boot / drawn,
        "target": ".93-.97",
    }


def null_level(kind: str, replications: int, rng: np.random.Generator) -> dict[str, object]:
    def one(p: int) -> np.ndarray:
        x = rng.normal(size=(100, p)) if kind != "heavy" else rng.standard_t(3, size=(100, p))
        if kind == "cone":
            x = 0.4 * x / np.linalg.norm(x, axis=1, keepdims=True) + rng.normal(size=p) / np.sqrt(p)
            x /= np.linalg.norm(x, axis=1, keepdims=True)
        return x

    found = [cka_matrix([one(48), one(64)], null=True) for _ in range(replications)]
    return {
        "what": f"null at .05, {kind}",
        "ours": np.mean([f.null.p[0, 1] < 0.05 for f in found]),
        "target": "<= .07",
    }


def convergence_level(m: int, replications: int, rng: np.random.Generator) -> dict[str, object]:
    swap = jackknife = pairs = 0
    upper = np.triu_indices(m, 1)
    for _ in range(replications):
        level = rng.normal(scale=0.05, size=2 * m)
        noise = rng.normal(scale=0.02, size=(2 * m, 2 * m))
        s = 0.5 + level[:, None] + level[None, :] + (noise + noise.T) / np.sqrt(2)
        found = convergence_test(s, resamples=999)
        swap += found.p_value < 0.05
        jackknife += not found.ci_low <= 0 <= found.ci_high
        pairs += stats.ttest_rel(s[m:, m:][upper], s[:m, :m][upper]).pvalue < 0.05
    return {
        "what": f"convergence at .05, {m} models", "ours": swap / replications, "node jackknife": jackknife / replications,
        "t over pairs": pairs / replications, "target": "<= .07",
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--replications", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=100, help="bootstrap draws of the other tools' interval")
    parser.add_argument("--what", nargs="+", choices=("coverage", "levels"), default=("coverage", "levels"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rng = np.random.default_rng(0)
    rows = []
    if "coverage" in args.what:
        rows += [coverage(n, d, args.replications, rng, args.draws) for n, d in CELLS]
    if "levels" in args.what:
        rows += [null_level(kind, args.replications, rng) for kind in ("gaussian", "heavy", "cone")]
        rows += [convergence_level(m, args.replications, rng) for m in (6, 10, 16)]
    table = pd.DataFrame(rows)
    print(table.to_string(index=False, float_format=lambda v: f"{v:.3f}", na_rep=""))
    if args.out:
        table.to_csv(args.out, index=False)


if __name__ == "__main__":
    main()
