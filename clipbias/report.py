"""``python -m clipbias.report RUN``: make report.html from a run folder's tables."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from clipbias.commands.common import DEFAULT_OUT, command_parser, run_command, shared_options

DESCRIPTION = "Make one self-contained HTML page from the tables of a run. Nothing is measured again."
FORMATS = ("html", "md", "paper")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the verb."""
    made = command_parser(
        "report",
        DESCRIPTION,
        examples=[
            "clipbias report runs/default",
            'clipbias report runs/default --html audit.html --title "Audit of our CLIP"',
            "clipbias report runs/default --format html,md,paper",
        ],
    )
    shared_options(made)
    page = made.add_argument_group("the page")
    page.add_argument("run", nargs="?", metavar="RUN", help="the run folder (the same as --out)")
    page.add_argument(
        "--html", metavar="FILE", help="the page to write (default: report.html in the run folder)"
    )
    page.add_argument(
        "--format",
        metavar="FORMAT",
        nargs="+",
        default=["html"],
        help="html, md (report.md and its charts as SVG), paper (folder of CSV, SVG and LaTeX tables); default: html",
    )
    page.add_argument("--title", default="Bias report", help="the heading of the page (default: %(default)s)")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb and return its exit code: 0 done, 2 bad usage or no such run, 130 interrupted."""
    made = parser()
    args = made.parse_args(argv)
    if args.run and args.out != DEFAULT_OUT and Path(args.run) != args.out:
        made.error(f"RUN ({args.run}) and --out ({args.out}) name two folders; give one of them")
    return run_command(lambda: run(args))


def run(args: argparse.Namespace) -> int:
    """Carry out parsed arguments."""
    folder = Path(args.run or args.out)
    before = os.environ.get("CLIPBIAS_STUDY")
    try:
        if args.study:
            os.environ["CLIPBIAS_STUDY"] = str(args.study if args.study.is_dir() else args.study.parent)
        if args.dry_run:
            _plan(folder)
            return 0
        for name, made in _write(args, folder).items():
            size = f" ({made.stat().st_size / 1e6:.1f} MB)" if name == "html" else ""
            print(made if args.quiet else f"Report: {made}{size}")
        return 0
    finally:
        if before is None:
            os.environ.pop("CLIPBIAS_STUDY", None)
        else:
            os.environ["CLIPBIAS_STUDY"] = before


def formats(given: Sequence[str]) -> list[str]:
    """Return the formats asked for, joined by commas or not, once each.

    Raises
    ------
    ClipbiasError
        There is no such format.
    """
    from clipbias.errors import ClipbiasError, nearest

    asked = list(dict.fromkeys(name for text in given for name in text.split(",") if name))
    for name in asked:
        if name not in FORMATS:
            raise ClipbiasError(f"there is no format {name!r}." + nearest(name, FORMATS))
    return asked


def _write(args: argparse.Namespace, folder: Path) -> dict[str, Path]:
    asked = formats(args.format)
    from clipbias.reports import markdown, paper
    from clipbias.reports.files import write
    from clipbias.reports.render import assembled, page_of

    report = assembled(folder, models=args.models)
    html = Path(args.html or folder / "report.html")
    makers = {
        "html": lambda: write(page_of(report, title=args.title), html),
        "md": lambda: markdown.save(report, html.with_suffix(".md"), title=args.title),
        "paper": lambda: paper.save(report, html.with_name("paper")),
    }
    return {name: makers[name]() for name in asked}


def _plan(folder: Path) -> None:
    from clipbias.reports import markup
    from clipbias.reports.tables import read

    tables = read(folder)
    for file in markup.sections():
        missing = [name for name in file.needs if not tables.has(name)]
        print(f"{file.title:32s} " + (f"left out: no {', '.join(missing)}" if missing else "shown"))


if __name__ == "__main__":
    sys.exit(main())
