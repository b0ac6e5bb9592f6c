"""``make interventions``: run what is not done yet, write the tables, check the thresholds."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clipbias.commands.common import command_parser, run_command

if TYPE_CHECKING:
    import pandas as pd


def main(argv: Sequence[str] | None = None) -> int:
    """Run the proof; return 0 if all that must hold holds, 1 if not, 130 interrupted."""
    made = command_parser(
        "interventions",
        "Prove on planted data that every intervention does what it says and that its null twin does not. What is done is kept "
        "in the folder, so an interrupted command goes on where it stopped.",
    )
    made.add_argument(
        "--out", type=Path, default=Path("runs/interventions"), help="the run folder (default: %(default)s)"
    )
    made.add_argument("--seeds", type=int, default=5, help="seeds (default: %(default)s)")
    made.add_argument(
        "--tables-only", action="store_true", help="run nothing: tables and checks of what is there"
    )
    made.add_argument("--quiet", action="store_true")
    options = made.parse_args(list(sys.argv[1:] if argv is None else argv))
    return run_command(lambda: _main(options))


def _main(options: argparse.Namespace) -> int:
    from clipbias.results.run import RunFolder, new_manifest
    from clipbias.tasks.interventions.proof import summary
    from clipbias.tasks.interventions.proof.checks import all_checks, failed
    from clipbias.tasks.interventions.proof.units import (
        Store,
        artefacts,
        neutral,
        overwriting,
        planted,
        towers,
    )
    from clipbias.tasks.interventions.proof.work import do, keep_in, ranks

    seeds, store = options.seeds, Store(options.out)
    keep_in(options.out / "embeddings")
    parts = (
        planted(seeds),
        overwriting(seeds),
        neutral(seeds),
        artefacts(seeds),
        towers(seeds),
    )
    # Seed by seed, so that an interrupted command leaves something of every table.
    units = sorted((unit for part in parts for unit in part), key=lambda unit: unit.seed)
    missing = [] if options.tables_only else [unit for unit in units if store.get(unit) is None]
    for number, unit in enumerate(missing, start=1):
        store.add(unit, do(unit))
        if not options.quiet:
            print(
                f"{number}/{len(missing)} {unit.part} {unit.task} {unit.model} {unit.setting} seed {unit.seed}",
                flush=True,
            )
    folder = RunFolder(options.out)
    if not folder.exists():
        folder.write_manifest(new_manifest(units={}))
    made = {
        "interventions": summary.interventions(store, seeds), "overwriting": summary.overwriting(store, seeds),
        "inheritance": summary.inheritance(store, seeds), "dose_response": summary.dose_response(store, seeds),
        "artefact_sweep": summary.artefact_sweep(store, seeds), "spuriosity_rank": ranks(),
    }  # fmt: skip
    made["intervention_checks"] = all_checks(store, seeds, made["spuriosity_rank"])
    for name, frame in made.items():
        folder.write(name, frame)
    return _tell(made["intervention_checks"], len(failed(made["intervention_checks"])), options)


def _tell(checks: pd.DataFrame, wrong: int, options: argparse.Namespace) -> int:
    missed = checks[~checks["passed"].astype(bool)]
    for row in missed.to_dict("records"):
        why = row["explanation"] or ("it must hold" if row["kind"] == "hold" else "nobody explained it")
        print(
            f"missed: {row['task']} {row['intervention']}: {row['check']}: {row['measured']:.3f}, not {row['direction']} "
            f"{row['threshold']:g}. {why}"
        )
    print(
        f"{len(checks)} checks, {len(checks) - len(missed)} passed, {len(missed) - wrong} explained, {wrong} failed; {options.out}"
    )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
