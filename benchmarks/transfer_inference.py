"""How often is transfer found where there is none?

    python benchmarks/transfer_inference.py                    # 1,000 draws, some minutes
    python benchmarks/transfer_inference.py --run runs/default # permuted model labels of a real run

Simulated: 4 x 6 cells over 20 models, metrics of one side correlated (.6) or not; the joint permutation (mean and
largest cell), Benjamini-Hochberg, and what pooling the cells as independent studies would do. With a run folder:
the primary pair in each mode of adaptation, what its models could detect and exclude, and how often it comes out
"related" when the labels of the models are permuted (within families where the question asks for it): at most 7 %.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from clipbias.analysis import correlate, joint_permutation


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


def permuted_run(path: str, draws: int, rng: np.random.Generator) -> pd.DataFrame:
    """The primary pair of a run in each mode, and how often it would come out related with permuted labels."""
    from clipbias.analysis.questions import load_questions
    from clipbias.analysis.values import bias_only, bias_values, columns_of, families_of
    from clipbias.analyze import analyze, metric_ideals, run_tables
    from clipbias.results.run import RunFolder

    tables = run_tables(RunFolder(Path(path)))
    question = load_questions(["transfer"])[0]
    verdicts = analyze(tables, questions=[question])["verdicts"]
    verdicts = verdicts[verdicts["primary"] & (verdicts["status"] == "ok")]
    ideals, primary = metric_ideals(tables.get("metrics")), question.section("primary")
    rows = []
    for mode in sorted(set(tables["extrinsic"]["mode"].astype(str))):
        sides = []
        for side, more in (("intrinsic", {}), ("extrinsic", {"mode": mode})):
            table, _ = bias_only(tables[side], tables.get("metrics"))
            where = (
                question.section(side)["where"] | primary[side] | {"attribute": primary["attribute"]} | more
            )
            values = bias_values(table, keys=[], where=where, ideals=ideals, name=side)
            sides.append(values.set_index("model")["value"])
        shared = sides[0].index.intersection(sides[1].index).sort_values()
        found = verdicts[verdicts["subject"].str.contains(f"mode {mode}")]
        if len(shared) < 6 or len(found) != 1:
            continue
        x, y = (s[shared].to_numpy() for s in sides)
        controls, _ = columns_of(tables.get("models"), list(question.test("controls", [])), shared)
        families = families_of(tables.get("models"), question.test("families"), shared)
        labels = np.zeros(len(x)) if families is None else families.to_numpy()
        options = {
            "controls": controls,
            "families": families,
            "bound": question.bound,
            "method": question.statistic,
        }
        assert np.isclose(
            correlate(x, y, resamples=99, bootstrap=20, **options).estimate, found["estimate"].iloc[0]
        )
        hits = 0
        for i in range(draws):
            order = np.arange(len(x))
            for g in set(labels.tolist()):
                order[labels == g] = rng.permutation(order[labels == g])
            hits += (
                correlate(x, y[order], resamples=499, bootstrap=20, seed=i, **options).verdict == "related"
            )
        row = found.iloc[0]
        names = (
            "estimate",
            "ci_low",
            "ci_high",
            "p",
            "n",
            "verdict",
            "minimum_detectable",
            "excluded_bound",
            "detectable_bound",
        )
        rows.append(
            {"mode": mode, "pair": row["subject"]}
            | {k: row[k] for k in names}
            | {"related under permuted labels": hits / draws}
        )
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
        ]
        table = pd.DataFrame(rows)
    print(table.to_string(index=False, float_format=lambda v: f"{v:.3f}", na_rep=""))
    if args.out:
        table.to_csv(args.out, index=False)


if __name__ == "__main__":
    main()
