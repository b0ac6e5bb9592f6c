"""How often is transfer found where there is none?

    python benchmarks/transfer_inference.py                    # 1,000 draws, some minutes
    python benchmarks/transfer_inference.py --run runs/default # permuted model labels of a real run

Simulated: 4 x 6 cells over 20 models, metrics of one side correlated (.6) or not; the joint permutation (mean and
largest cell), Benjamini-Hochberg, and what pooling the cells as independent studies would do. With a run folder:
the labels of the models of its extrinsic table are permuted, within families where the question asks for it, and
the primary pair is tested each time; "related" may come up in at most 7 %.
"""

from __future__ import annotations

import argparse

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
    """Permute the model labels of the extrinsic table of a run and answer its transfer question each time."""
    from pathlib import Path

    from clipbias.analysis.questions import load_questions, parse
    from clipbias.analyze import analyze, run_tables
    from clipbias.results.run import RunFolder

    tables = run_tables(RunFolder(Path(path)))
    question = load_questions(["transfer"])[0]
    spec = {**question.spec, "test": {**question.section("test"), "resamples": 499}}
    question = parse(question.name, spec, where="transfer.toml")
    models = sorted(set(tables["extrinsic"]["model"].astype(str)))
    family = question.test("families")
    groups = dict.fromkeys(models, "")
    if "models" in tables and family in tables["models"].columns:
        groups |= dict(
            zip(tables["models"]["model"].astype(str), tables["models"][family].astype(str), strict=True)
        )
    seen = []
    for i in range(draws + 1):
        table = tables["extrinsic"]
        if i:  # the first is the run as it is
            moved = {}
            for g in set(groups.values()):
                members = [m for m in models if groups[m] == g]
                moved |= dict(zip(members, rng.permutation(members), strict=True))
            table = table.assign(model=table["model"].astype(str).map(moved))
        found = analyze(tables | {"extrinsic": table}, questions=[question], seed=i)["verdicts"]
        seen.append(found[found["primary"]].assign(draw=i))
    frame = pd.concat(seen)
    real = frame[frame["draw"] == 0].set_index("subject")
    out = real[["estimate", "p", "n", "verdict", "detectable_bound", "excluded_bound"]].copy()
    out["related under permuted labels"] = (
        frame[frame["draw"] > 0].groupby("subject")["verdict"].apply(lambda v: (v == "related").mean())
    )
    return out.reset_index()


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
