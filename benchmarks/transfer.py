"""How fast is the joint permutation? 10,000 orders of 40 models in 200 cells, against scipy cell by cell.

python benchmarks/transfer.py
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd
from scipy import stats

from clipbias.analysis import joint_permutation

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=int, default=40)
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--permutations", type=int, default=10_000)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu on a busy machine")
    parser.add_argument("--out")
    args = parser.parse_args()
    now = CLOCKS[args.clock]
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, args.models, args.cells))
    joint_permutation(x[:, :2], y[:, :2], resamples=99)
    start = now()
    found = joint_permutation(x, y, resamples=args.permutations)
    ours = now() - start
    start = now()
    count = min(args.permutations, 300)
    stats.permutation_test(
        (y[:, 0],),
        lambda v: stats.spearmanr(x[:, 0], v)[0],
        permutation_type="pairings",
        n_resamples=count,
        vectorized=False,
    )
    loop = (now() - start) * args.permutations / count * args.cells
    what = f"{args.permutations} permutations, {args.models} models, {args.cells} cells"
    rows = [
        {"what": what, "seconds": ours, "ratio": 1.0, "target": "<= 2 s"},
        {"what": f"scipy.stats.permutation_test cell by cell, from {count}", "seconds": loop, "ratio": loop / ours, "target": ""},
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    print(table.to_string(index=False, float_format=lambda v: f"{v:.3g}"))
    print(f"mean over cells: p {found.mean_p:.3f}; largest: p {found.any_p:.3f}")
    if args.out:
        table.to_csv(args.out, index=False)


if __name__ == "__main__":
    main()
