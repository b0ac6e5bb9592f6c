"""``python -m clipbias.study``: one file in, one page out."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from clipbias.commands.common import add_verb, command_parser, run_command

STEPS = ("measure", "adapt", "analyze", "report")
DEFAULT = Path("study.toml")
DEMO = Path("runs/demo")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the verb."""
    made = command_parser(
        "study",
        "A whole study from one file: measure, adapt, analyze, report. An interrupted study goes on where it stopped.",
        examples=[
            "clipbias study init                             (writes study.toml with every key explained)",
            "clipbias study run study.toml --dry-run         (every unit, what it costs, what is done)",
            "clipbias study run study.toml",
            "clipbias study run study.toml --only analyze report",
            "clipbias study demo                             (a small whole study of shipped models)",
        ],
    )
    verbs = made.add_subparsers(dest="verb", metavar="VERB", required=True)

    init = add_verb(
        verbs, "init", "write a commented study file, and its schema for editors",
        examples=["clipbias study init", "clipbias study init audit/study.toml"],
    )  # fmt: skip
    init.add_argument(
        "file", nargs="?", type=Path, default=DEFAULT, metavar="FILE", help="(default: %(default)s)"
    )
    init.add_argument("--force", action="store_true", help="overwrite the file")

    run = add_verb(
        verbs, "run", "do what a study file says; called again it goes on where it stopped",
        examples=["clipbias study run study.toml --dry-run", "clipbias study run study.toml --only measure report",
                  "clipbias study run study.toml --models zoo:vit-95"],
    )  # fmt: skip
    run.add_argument(
        "file", nargs="?", type=Path, default=DEFAULT, metavar="FILE", help="(default: %(default)s)"
    )
    run.add_argument(
        "--only", nargs="+", metavar="STEP", choices=STEPS, help=f"these steps only: {', '.join(STEPS)}"
    )
    run.add_argument(
        "--models", nargs="+", metavar="SPEC", action="extend",
        help="measure and adapt these models of the study only; analysis and report cover all that are in the run folder",
    )  # fmt: skip

    demo = add_verb(
        verbs, "demo", "a small whole study of shipped models, some minutes on two cores",
        examples=["clipbias study demo", "clipbias study demo --out runs/demo --dry-run"],
    )  # fmt: skip
    demo.add_argument(
        "--out", type=Path, default=DEMO, metavar="DIR", help="the run folder (default: %(default)s)"
    )
    for one in (run, demo):
        one.add_argument(
            "--dry-run", action="store_true", help="list every unit, its cost and what is done; run nothing"
        )
        one.add_argument("--quiet", action="store_true", help="print only errors and the path of the result")

    schema = add_verb(
        verbs, "schema", "print the JSON Schema of study files, for editors",
        examples=["clipbias study schema --out study.schema.json"],
    )  # fmt: skip
    schema.add_argument("--out", type=Path, metavar="FILE", help="write it to a file")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb; return 0 all done, 1 some units failed, 2 bad usage, study or data, 130 interrupted."""
    options = parser().parse_args(sys.argv[1:] if argv is None else list(argv))
    return run_command(lambda: _COMMANDS[options.verb](options))


def _init(options: argparse.Namespace) -> int:
    from clipbias.study_parts.template import write_template

    for path in write_template(options.file, force=options.force):
        print(path)
    return 0


def _schema(options: argparse.Namespace) -> int:
    import json

    from clipbias.errors import DataError
    from clipbias.study_parts.template import json_schema, write_schema

    if options.out is None:
        print(json.dumps(json_schema(), indent=2, ensure_ascii=False))
        return 0
    try:
        write_schema(options.out)
    except OSError as error:
        raise DataError(f"{options.out} cannot be written: {error.strerror}.") from error
    print(options.out)
    return 0


def _run(options: argparse.Namespace) -> int:
    return run(
        options.file, only=options.only or (), models=options.models or (), dry_run=options.dry_run, quiet=options.quiet
    )  # fmt: skip


def run(
    path: str | Path,
    *,
    only: Sequence[str] = (),
    models: Sequence[str] = (),
    dry_run: bool = False,
    quiet: bool = True,
) -> int:
    """Run a study file.

    Parameters
    ----------
    path : path
    only : sequence of str
        Steps to do: measure, adapt, analyze, report; default those of the study.
    models : sequence of str
        Models of the study to measure and adapt; default all.
    dry_run : bool
        Print every unit, its cost and whether it is done; run nothing and write no results.
    quiet : bool
        Print only errors and the path of the result.

    Returns
    -------
    int
        The worst of all steps: 0 all done, 1 some units failed, 2 bad data.

    Raises
    ------
    ClipbiasError
        The file is not a study, or names what is not there; nothing is written then.
    """
    from clipbias.study_parts.jobs import Jobs
    from clipbias.study_parts.reading import read

    file = read(path)
    jobs = Jobs(file, tuple(only), tuple(models))
    with file.content():
        if dry_run:
            return _plan(jobs)
        from clipbias.study_parts.steps import Run

        return Run(jobs, quiet=quiet).go()


def _plan(jobs) -> int:
    from clipbias.commands.tables import print_table
    from clipbias.study_parts import plan

    jobs.check_filter()
    planned = plan.plan(jobs, exact=True)
    print_table(plan.table(planned), title=f"{jobs.file.path} into {jobs.folder}")
    print(plan.summary(planned, jobs))
    return 0


def _demo(options: argparse.Namespace) -> int:
    from clipbias.study_parts.demo import write_demo

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    file = write_demo(options.out, workers=cores)
    return run(file, dry_run=options.dry_run, quiet=options.quiet)


_COMMANDS = {"init": _init, "run": _run, "schema": _schema, "demo": _demo}


if __name__ == "__main__":
    sys.exit(main())
