"""What the proof of the interventions found, in short: ``python benchmarks/interventions.py --run runs/interventions``."""

from __future__ import annotations

import argparse
from pathlib import Path

from clipbias.results.run import RunFolder


def main() -> None:
    """Write the checks of a run of `make interventions` as CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="the folder of `make interventions`")
    parser.add_argument("--out", type=Path, required=True, help="CSV file")
    options = parser.parse_args()
    checks = RunFolder(options.run).read("intervention_checks")
    made = checks.assign(
        target=checks["direction"] + " " + checks["threshold"].map("{:g}".format),
        met=checks["passed"].map({True: "yes", False: "no"}),
    )
    columns = ["task", "intervention", "check", "measured", "seed_sd", "target", "met", "explanation"]
    made[columns].to_csv(options.out, index=False)


if __name__ == "__main__":
    main()
