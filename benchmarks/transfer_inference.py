"""How often is transfer found where there is none?

    python benchmarks/transfer_inference.py                    # 1,000 draws, some minutes
    python benchmarks/transfer_inference.py --run runs/default # permuted model labels of a real run

Simulated: 4 x 6 cells over 20 models, metrics of one side correlated (.6) or not; the joint permutation (mean and
largest cell), Benjamini-Hochberg, and what pooling the cells as independent studies would do. With a run folder:
the primary question in each mode of adaptation, what its models could detect and exclude, and how often it comes out
"related" when the labels of the models are permuted, over all models and within families: at most 7 %.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from clipbias.analysis import correlate, joint_permutation, mean_correlation
from clipbias.analysis.permutations import orders

BOUND = 0.3
SHOWN = (
    "estimate", "ci_low", "ci_high", "p", "n", "verdict", "minimum_detectable", "excluded_bound", "detectable_bound",
    "status", "reason",
)  # fmt: skip


def simulated(shared: float, draws: int, rng: np.random.Generator) -> dict[str, object]:
    a, b = (m.ravel() for m in np.meshgrid(range(4), range(6), indexing="ij"))
    hits = dict.fromkeys(("mean", "largest", "BH", "pooled"), 0)
    for i in range(draws):
        sides = []
        for count in (4, 6):
            common = rng.normal(size=(20, 1))
            sides.append(np.sqrt(shared) * common + np.sqrt(1 - shared) * rng.normal(size=(20, count)))
        found = joint_permutation(sides[0][:, a], sides[1][:, b], resamples=499, seed=i)
        hits["mean"] += found.mean_p < 0.05
        hits["largest"] += found.any_p < 0.05
        hits["BH"] += np.nanmin(found.q_values) < 0.05
        hits["pooled"] += abs(found.mean_z) * np.sqrt(24 * 17) > 1.96
    return {"cells": f"metrics correlated {shared:g}"} | {k: v / draws for k, v in hits.items()}


def related(models: int, families: int, draws: int, rng: np.random.Generator) -> dict[str, object]:
    """Share of "related" for one pair of unrelated measures with family levels of their own."""
    labels = np.arange(models) % families if families else None
    naive = ours = 0
    for i in range(draws):
        x, y = rng.normal(size=(2, models))
        if labels is not None:
            x, y = x + 2 * rng.normal(size=families)[labels], y + 2 * rng.normal(size=families)[labels]
        options = {"resamples": 499, "bootstrap": 20, "seed": i}
        ours += correlate(x, y, families=labels, **options).verdict == "related"
        naive += correlate(x, y, **options).verdict == "related"
    name = f"{models} models" + (f" in {families} families" if families else "")
    return {"cells": f"one pair, {name}", "related": ours / draws, "without families": naive / draws}


def joint_related(draws: int, rng: np.random.Generator) -> dict[str, object]:
    """Share of "related", and of "none within the bound" at the bound, for the mean of two pairs over 12 models in 3 families."""
    labels = np.arange(12) % 3
    found = {"related": 0, "none at the bound": 0}
    for i in range(draws):
        level = 2 * rng.normal(size=(3, 3))[:, labels]
        x = rng.normal(size=12)
        common = rng.normal(size=12)
        y = np.sqrt(0.5) * common + np.sqrt(0.5) * rng.normal(size=(2, 12))  # two tasks with shared noise
        # Spearman of a normal pair is 6/pi arcsin(r/2): this r has a rank correlation of the bound.
        r = 2 * np.sin(np.pi / 6 * BOUND)
        sides = [np.column_stack([x + level[0]] * 2)]
        options = {"families": labels, "bound": BOUND, "resamples": 499, "bootstrap": 2, "seed": i}
        for name, after in (("related", y), ("none at the bound", r * x + np.sqrt(1 - r * r) * y)):
            one = mean_correlation(sides[0], (after + level[1:]).T, **options)
            found[name] += (one.p_value if name == "related" else one.equivalence_p) < 0.05
    return {"cells": "mean of two pairs, 12 models in 3 families"} | {k: v / draws for k, v in found.items()}


def permuted_run(path: str, draws: int, rng: np.random.Generator) -> pd.DataFrame:
    """The primary question of a run in each mode, and how often it would come out related with permuted labels.

    Labels are permuted over all models, and in another count within families. Raises DataError when the run holds
    nothing that can be permuted, with what it lacks.
    """
    from clipbias.analysis.answers.base import primary_pair
    from clipbias.analysis.answers.pairs import pairs_of, primary_cells
    from clipbias.analysis.questions import load_questions
    from clipbias.analysis.values import bias_only
    from clipbias.analyze import analyze, metric_ideals, run_tables
    from clipbias.errors import DataError, StatusError
    from clipbias.results.run import RunFolder

    tables = run_tables(RunFolder(Path(path)))
    question = load_questions(["transfer"])[0]
    verdicts = analyze(tables, questions=[question])["verdicts"]
    verdicts = verdicts[verdicts["primary"]]
    ideals = metric_ideals(tables.get("metrics"))
    left, right = (bias_only(tables[side], tables.get("metrics"))[0] for side in ("intrinsic", "extrinsic"))
    rows = []
    for mode in sorted(set(right["mode"].astype(str)) - {"blind"}):
        found = verdicts[verdicts["subject"].str.contains(f"mode {mode}")].iloc[0]
        row = {"mode": mode, "question": found["subject"]} | {k: found[k] for k in SHOWN}
        if found["status"] == "ok":
            pairs = pairs_of(question, tables, left, right[right["mode"].astype(str) == mode], ideals)
            x, y = pairs.matrices(primary_cells(pairs.cells(), primary_pair(question))[0])
            families = None if pairs.families is None else pairs.families.tolist()
            options = {"controls": pairs.controls, "families": families, "method": question.statistic}
            same = joint_permutation(x, y, resamples=99, exact_limit=0, **options)
            assert np.isclose(np.tanh(same.mean_z), found["estimate"]), "not the question that was answered"
            for name, labels in (("all models", None), ("families", families)):
                hits = 0
                for i in range(draws):
                    order = orders(
                        len(x), families=labels, resamples=1, seed=int(rng.integers(2**31)), limit=0
                    )
                    moved = y[order.indices[1]]
                    try:
                        one = joint_permutation(x, moved, resamples=499, exact_limit=0, seed=i, **options)
                    except StatusError:
                        continue
                    hits += one.mean_p < question.alpha
                row[f"related, labels permuted over {name}"] = hits / draws
        rows.append(row)
    if not rows or all(r["status"] != "ok" for r in rows):
        why = "; ".join(f"{r['mode']}: {r['reason']}" for r in rows) or "no mode of adaptation"
        raise DataError(f"{path} holds nothing to permute ({why}).")
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--run", help="a run folder with intrinsic and extrinsic tables")
    parser.add_argument("--out")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    if args.run:
        table = permuted_run(args.run, args.draws, rng)
    else:
        rows = [simulated(shared, args.draws, rng) for shared in (0.0, 0.6)]
        rows += [
            related(12, 0, args.draws, rng),
            related(12, 3, args.draws, rng),
            related(24, 4, args.draws, rng),
            joint_related(args.draws, rng),
        ]
        table = pd.DataFrame(rows)
    print(table.to_string(index=False, float_format=lambda v: f"{v:.3f}", na_rep=""))
    if args.out:
        table.to_csv(args.out, index=False)


if __name__ == "__main__":
    main()
