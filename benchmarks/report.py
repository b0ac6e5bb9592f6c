"""Size and build time of the report on synthetic tables of a whole chain: 12 models, and 50 models with 20 views.

    python benchmarks/report.py [--out benchmarks/results/report.csv] [--clock cpu]

Bounds: under 5 MB for 12 models, under 30 MB for 50 models and 20 views. The exit code is 1 when one is exceeded.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "reports"))

import chain_tables

from clipbias.reports import render

CLOCKS = {"wall": time.monotonic, "cpu": time.process_time}
CASES = ((12, 10, 5.0), (50, 20, 30.0))  # models, views, MB


def main(argv: list[str] | None = None) -> int:
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("--out", type=Path, help="write the table as CSV")
    made.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu on a busy machine")
    options = made.parse_args(argv)
    now = CLOCKS[options.clock]
    found = []
    for models, views, bound in CASES:
        tables = chain_tables.make(models, views)
        with tempfile.TemporaryDirectory() as folder:
            began = now()
            size = render(tables, Path(folder) / "report.html").stat().st_size / 1e6
            seconds = now() - began
        found.append(
            {
                "models": models,
                "views": views,
                "intrinsic_rows": len(tables["intrinsic"]),
                "megabytes": round(size, 2),
                "bound_megabytes": bound,
                "seconds": round(seconds, 1),
            }
        )
        print(found[-1], flush=True)
    table = pd.DataFrame(found)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(options.out, index=False)
    return int((table["megabytes"] > table["bound_megabytes"]).any())


if __name__ == "__main__":
    sys.exit(main())
