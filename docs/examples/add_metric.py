"""Add a metric: one decorated function. It gets interval, null, p-value, report and gate without further work.

In a package of your own, name the module under the entry point ``clipbias.metrics`` and every command knows it.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from clipbias.metrics import Protocol, Ranking, evaluate, metric


@metric(
    "share_gap", needs="ranking", range=(0, 1), ideal=0, unit="share", sign="never negative", direction="lower is fairer",
    worse="high", interval="excess", reference="this script",
)  # fmt: skip
def share_gap(t):
    """Largest minus smallest share of the first k."""
    return t.share.max(-1) - t.share.min(-1)


rng = np.random.default_rng(0)
groups = np.repeat(["woman", "man"], 200)
fair, unfair = rng.normal(size=400), rng.normal(size=400) + 0.8 * (groups == "woman")
ranking = Ranking([fair, unfair], ["a fair ranking", "an unfair one"], groups)
rows = pd.DataFrame(evaluate("share_gap", ranking, protocol=Protocol(k=50, n_boot=300, n_perm=300)))
print(
    rows[rows["probe"] != ""][["probe", "value", "ci_low", "ci_high", "null_mean", "z", "p"]]
    .round(3)
    .to_string(index=False)
)
