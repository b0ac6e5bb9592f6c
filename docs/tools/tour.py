"""Run the commands of the tour and put their output into the page: ``python docs/tools/tour.py`` (one or two minutes).

In ``docs/tour.md`` the comment ``<!-- run: COMMAND -->`` stands before the block that holds what the command printed. A command
beginning with ``python:`` is a line of Python.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "tour.md"
_RUN = re.compile(r"<!-- run: (.*?) -->\n```text\n(.*?)```", re.DOTALL)


def blocks() -> list[tuple[str, str]]:
    """Return the commands of the page and the output that stands there."""
    return [(m.group(1), m.group(2)) for m in _RUN.finditer(PAGE.read_text(encoding="utf-8"))]


def output(command: str, folder: Path) -> str:
    """Return what a command prints, called from a folder; its exit code is named where it is not 0."""
    python = command.startswith("python: ")
    words = ["-c", command.removeprefix("python: ")] if python else ["-m", *shlex.split(command)]
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "110", "CLIPBIAS_CACHE": str(folder / "cache")},
    )  # fmt: skip
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stderr}")
    lines = [line.rstrip() for line in done.stdout.strip("\n").splitlines()]
    return "\n".join([*lines, *([f"(exit code {done.returncode})"] if done.returncode else [])]) + "\n"


def rewrite() -> None:
    """Run all commands in one new folder and write the page."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def one(match: re.Match[str]) -> str:
            return f"<!-- run: {match.group(1)} -->\n```text\n{output(match.group(1), folder)}```"

        PAGE.write_text(_RUN.sub(one, PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    rewrite()
