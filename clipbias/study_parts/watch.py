"""One progress display for a whole study, fed by the run folder: it sees units whatever runs them, and where."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from clipbias.errors import ClipbiasError
from clipbias.results.run import RunFolder
from clipbias.study_parts.plan import Planned

_EVERY = 1.0  # seconds between two looks at the manifest


class Display:
    """Progress over all units of a study, each weighing as much as it may take.

    Parameters
    ----------
    planned : sequence of Planned
    folder : path
    quiet : bool
        Show nothing.
    """

    def __init__(self, planned: Sequence[Planned], folder: str | Path, *, quiet: bool = False) -> None:
        self.todo = [unit for unit in planned if unit.state == "to do"]
        self.folder = RunFolder(folder)
        self.console = Console(stderr=True, quiet=quiet)
        self.before = self._units()
        self.step = ""
        self.over: set[str] = set()
        self._stop = threading.Event()
        self._progress = Progress(
            BarColumn(30), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.description}"),
            console=self.console, transient=True, disable=quiet,
        )  # fmt: skip
        self._bar = self._progress.add_task("starting", total=sum(u.seconds for u in self.todo) or 1.0)
        self._thread = threading.Thread(target=self._watch, name="study progress", daemon=True)

    def __enter__(self) -> Display:
        self._progress.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(2 * _EVERY)
        self._progress.stop()

    def begin(self, step: str) -> None:
        """Say that a step begins; those before it are over."""
        if self.step:
            self.over.add(self.step)
        self.step = step
        self.look()

    def look(self) -> None:
        """Show what the manifest says is done."""
        now = self._units()
        done = [u for u in self.todo if u.step in self.over or now.get(u.name) != self.before.get(u.name)]
        mine = [u for u in self.todo if u.step == self.step]
        count = f" {sum(u in done for u in mine)}/{len(mine)}" if len(mine) > 1 else ""
        self._progress.update(
            self._bar, completed=sum(u.seconds for u in done), description=f"{self.step}{count}"
        )

    def _watch(self) -> None:
        while not self._stop.wait(_EVERY):
            self.look()

    def _units(self) -> dict[str, object]:
        try:
            return dict(self.folder.manifest.get("units", {})) if self.folder.exists() else {}
        except ClipbiasError:  # the step itself will say what is wrong with it
            return {}
