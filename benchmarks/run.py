"""Run the benchmarks and write benchmarks/RESULTS.md.

    python benchmarks/run.py                        # every part that has no result yet
    python benchmarks/run.py similarity transfer    # these parts
    python benchmarks/run.py similarity --again     # measure anew
    python benchmarks/run.py --busy                 # one thread and its CPU time, beside other work
    python benchmarks/run.py --write                # only the page, from what is there

Every part is a script of its own and leaves ``results/NAME.csv`` and what it was run on in ``results/NAME.json``, so a
run that was stopped goes on with the next part. Times are given as ratios within one run of one script.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas as pd

HERE = Path(__file__).resolve().parent
PACKAGES = ("numpy", "scipy", "torch", "pytorch-cka")


@dataclass(frozen=True)
class Part:
    """One script: what its table shows, the options it always gets, whether it is about time, or about a run folder."""

    title: str
    script: str
    options: tuple[str, ...] = ()
    timed: bool = False
    needs_run: bool = False


PARTS = {
    "similarity": Part(
        "Similarity of 240 spaces of 1000 x 512: speed and memory", "similarity.py", timed=True
    ),
    "transfer": Part("Joint permutation over 40 models and 200 cells: speed", "transfer.py", timed=True),
    "similarity_coverage": Part(
        "Coverage of the interval of debiased CKA (target .93 to .97)",
        "similarity_inference.py",
        ("--what", "coverage", "--threads", "1"),
    ),
    "similarity_levels": Part(
        "Type-I error at 5 % of the analytic null and of the convergence test (target at most .07)",
        "similarity_inference.py",
        ("--what", "levels", "--threads", "1"),
    ),
    "transfer_inference": Part(
        "How often transfer is found where there is none (shares of 1,000 draws)", "transfer_inference.py"
    ),
    "zoo_transfer": Part(
        "The zoo's own transfer, by mode of adaptation, and under permuted labels (at most .07)",
        "transfer_inference.py",
        needs_run=True,
    ),
    "interventions": Part(
        "Thresholds of the interventions on planted data, 5 seeds (`make interventions`)",
        "interventions.py",
        needs_run=True,
    ),
    "neutral": Part(
        "Excess values where labels are random: mean 0 ± .05, standard deviation 1 ± .1 over 4,000 draws a metric",
        "neutral.py",
        ("--sets", "50", "--labels", "80"),
    ),
    "report": Part("The report of a whole chain: size and build time", "report.py", timed=True),
}


def processor() -> str:
    """Return the model of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def facts() -> dict[str, str]:
    """Return what numbers depend on: processor, cores, versions, the day."""
    out = {"processor": processor(), "cores": str(os.cpu_count()), "Python": platform.python_version()}
    for name in PACKAGES:
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            out[name] = "not installed"
    return out | {"date": date.today().isoformat()}


def run(name: str, results: Path, *, busy: bool = False, folder: Path | None = None) -> bool:
    """Run one part; its table and facts are there only when it came to its end."""
    part = PARTS[name]
    results.mkdir(parents=True, exist_ok=True)
    unfinished = results / f"{name}.part.csv"
    own = list(part.options)
    source = ["--run", str(folder)] if part.needs_run else []
    if part.timed and busy:
        own += ["--clock", "cpu"]
        own += ["--threads", "1"] if name == "similarity" else []
    print(f"{name}: {part.title}", flush=True)
    start = time.monotonic()
    environment = os.environ | ({"OMP_NUM_THREADS": "1"} if busy else {})
    command = [sys.executable, str(HERE / part.script), "--out", str(unfinished), *own, *source]
    if subprocess.run(command, env=environment, check=False).returncode != 0 or not unfinished.exists():
        unfinished.unlink(missing_ok=True)
        print(f"{name}: did not finish", file=sys.stderr)
        return False
    unfinished.replace(results / f"{name}.csv")
    about = facts() | {
        "minutes": f"{(time.monotonic() - start) / 60:.1f}",
        "options": " ".join(own) or "none",
        "clock": "CPU time of one thread" if busy else "wall",
    }
    (results / f"{name}.json").write_text(json.dumps(about, indent=1) + "\n")
    return True


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value).replace("|", "\\|")


def page(results: Path) -> str:
    """Return RESULTS.md from the tables that are there."""
    lines = ["# Benchmarks", "", "Written by `benchmarks/run.py` (`make bench`); do not edit.", ""]
    lines += [
        "The coverage of the intervals of bias metrics is in [coverage.csv](coverage.csv) and",
        "[coverage_others.csv](coverage_others.csv).",
        "",
    ]
    for name, part in PARTS.items():
        table, about = results / f"{name}.csv", results / f"{name}.json"
        lines += [f"## {part.title}", ""]
        if not table.exists() or not about.exists():
            lines += [f"Not run: `python benchmarks/run.py {name}`.", ""]
            continue
        frame, known = pd.read_csv(table), json.loads(about.read_text())
        lines += ["| " + " | ".join(map(str, frame.columns)) + " |", "|" + " --- |" * frame.shape[1]]
        lines += ["| " + " | ".join(_cell(v) for v in row) + " |" for row in frame.itertuples(index=False)]
        lines += [
            "",
            f"`benchmarks/{part.script}`: " + ", ".join(f"{k} {v}" for k, v in known.items()) + ".",
            "",
        ]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Return 0 when every part that was asked for has a result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--again", action="store_true", help="also where there is a result")
    parser.add_argument("--busy", action="store_true", help="CPU time of one thread instead of wall time")
    parser.add_argument("--write", action="store_true", help="write the page only")
    parser.add_argument(
        "--run",
        type=Path,
        metavar="RUN",
        help="the run folder that a part reads: of the zoo, measured and adapted; of `make interventions`",
    )
    parser.add_argument("--results", type=Path, default=HERE / "results", metavar="DIR")
    args = parser.parse_args(argv)
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    done = True
    for name in () if args.write else args.parts or PARTS:
        if args.again or not (args.results / f"{name}.json").exists():
            if PARTS[name].needs_run and args.run is None:
                print(f"{name}: left out, it needs --run", file=sys.stderr)
                continue
            done &= run(name, args.results, busy=args.busy, folder=args.run)
    target = (HERE if args.results == HERE / "results" else args.results) / "RESULTS.md"
    target.write_text(page(args.results), encoding="utf-8")
    print(f"{target.name} written")
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
