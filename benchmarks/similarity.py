"""How fast is similarity of many models? Ratios to loops over pairs, in one run on the same threads.

    python benchmarks/similarity.py                     # 240 matrices of 1000 x 512, 28,680 pairs; some minutes
    python benchmarks/similarity.py --matrices 24       # a small version
    python benchmarks/similarity.py --threads 1

The better of two runs counts, for CKA and for pytorch-cka; loops over pairs are timed on a sample of pairs and scaled up. "limit" is the time of the floating-point
operations of the plan at the speed of one plain matrix product of 2048 x 2048. Memory is what the process gains
beyond its input while CKA runs (peak resident size, Linux). pytorch-cka is timed when it is installed
(``pip install --no-deps pytorch-cka``); it takes 4 GB.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from clipbias.analysis import pairwise_mutual_knn, pairwise_rsa, plan
from clipbias.analysis.cka import cka_matrix

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
now = [time.perf_counter]


def clock(function, repeat: int = 1) -> float:
    best = np.inf
    for _ in range(repeat):
        start = now[0]()
        function()
        best = min(best, now[0]() - start)
    return best


def clip_like(count: int, n: int, d: int, seed: int = 0) -> list[np.ndarray]:
    """Unit-norm features in a cone that share some structure."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 32)).astype(np.float32)
    out = []
    for _ in range(count):
        x = z @ rng.normal(size=(32, d)).astype(np.float32) * 0.05 + 0.3 * rng.normal(size=(n, d)).astype(
            np.float32
        )
        x += rng.normal(size=d).astype(np.float32)
        out.append(x / np.linalg.norm(x, axis=1, keepdims=True))
    return out


def cka_loop(x: np.ndarray, y: np.ndarray) -> float:
    """One pair by a careful user of numpy: feature form, float32."""
    x, y = x - x.mean(0), y - y.mean(0)
    return np.square(x.T @ y).sum() / np.sqrt(np.square(x.T @ x).sum() * np.square(y.T @ y).sum())


def knn_loop(x: np.ndarray, y: np.ndarray, k: int) -> float:
    """One pair as the usual published code does it: both searches for every pair, full sorts, masks of n x n."""
    masks = []
    for a in (torch.from_numpy(x), torch.from_numpy(y)):
        s = a @ a.T
        s.fill_diagonal_(-1e8)
        found = torch.argsort(s, dim=1, descending=True)[:, :k]
        masks.append(torch.zeros_like(s).scatter_(1, found, 1.0))
    return float((masks[0] * masks[1]).sum() / (k * len(x)))


def rsa_loop(x: np.ndarray, y: np.ndarray) -> float:
    from scipy.spatial.distance import pdist
    from scipy.stats import spearmanr

    return spearmanr(pdist(x), pdist(y))[0]


def peak() -> float:
    """Largest resident size so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def resident() -> float:
    """Resident size now, MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def gflops(size: int = 2048) -> float:
    a, b = torch.randn(size, size), torch.randn(size, size)
    return 2 * size**3 / clock(lambda: a @ b, 5) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--matrices", type=int, default=240)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sample", type=int, default=10, help="pairs timed in a loop")
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu on a busy machine, with --threads 1"
    )
    parser.add_argument("--skip-rsa", action="store_true")
    parser.add_argument("--out")
    args = parser.parse_args()
    now[0] = CLOCKS[args.clock]
    torch.set_num_threads(args.threads)
    arrays = clip_like(args.matrices, args.images, args.width)
    pairs = args.matrices * (args.matrices - 1) // 2
    some = [(arrays[i % args.matrices], arrays[(7 * i + 1) % args.matrices]) for i in range(args.sample)]
    chosen = plan(args.images, [args.width] * args.matrices)
    print(f"{pairs} pairs, {args.threads} threads; {chosen}")
    speed = gflops()
    cka_matrix(arrays[:4])  # warm
    before = resident()
    ours = clock(lambda: cka_matrix(arrays), 2)
    gained = peak() - before
    rows = [
        {"what": "CKA, biased and debiased", "seconds": ours, "ratio": 1.0, "target": ""},
        {"what": "share of the matrix-multiply limit", "seconds": chosen.flop / speed / 1e9, "ratio": chosen.flop / speed / 1e9 / ours, "target": ">= .35"},
        {"what": "MB beyond the input", "seconds": np.nan, "ratio": gained, "target": "<= 100"},
    ]  # fmt: skip

    def against(name: str, other: float, base: float, target: str) -> None:
        rows.append({"what": name, "seconds": other, "ratio": other / base, "target": target})

    loop = clock(lambda: [cka_loop(x, y) for x, y in some]) / len(some) * pairs
    against("numpy loop over pairs / CKA", loop, ours, ">= 100")
    try:
        from cka import cka_from_features  # type: ignore[import-not-found]  # the package is called pytorch-cka
    except ImportError:
        rows.append(
            {
                "what": "pytorch-cka, both stacks / CKA: not installed",
                "seconds": np.nan,
                "ratio": np.nan,
                "target": ">= 2.5",
            }
        )
    else:
        stack = torch.from_numpy(np.stack(arrays))
        against(
            "pytorch-cka, both stacks / CKA",
            clock(lambda: cka_from_features(stack, stack), 2),
            ours,
            ">= 2.5",
        )
        del stack
    errors = clock(lambda: cka_matrix(arrays, errors=True))
    against("CKA with standard errors / CKA: more by", errors - ours, ours, "<= 1.5")
    against(
        "CKA with analytic null / CKA: more by",
        clock(lambda: cka_matrix(arrays, null=True)) - ours,
        ours,
        "<= 2",
    )
    knn = clock(lambda: pairwise_mutual_knn(arrays))
    loop = clock(lambda: [knn_loop(x, y, 10) for x, y in some]) / len(some) * pairs
    against("loop over pairs / mutual k-NN", loop, knn, ">= 100")
    if not args.skip_rsa:
        few = max(2, min(args.sample, 3))
        loop = clock(lambda: [rsa_loop(x, y) for x, y in some[:few]]) / few * pairs
        against("pdist and spearmanr over pairs / RSA", loop, clock(lambda: pairwise_rsa(arrays)), ">= 300")
    table = pd.DataFrame(rows)
    print(table.to_string(index=False, float_format=lambda v: f"{v:.3g}"))
    if args.out:
        table.to_csv(args.out, index=False)


if __name__ == "__main__":
    main()
