"""Running a study: measure, adapt, analyze, report, each by its own verb's function, and a truthful end."""

from __future__ import annotations

import contextlib
import io
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from clipbias.commands.tables import print_table
from clipbias.errors import ClipbiasError, DataError
from clipbias.results.run import RunFolder, now
from clipbias.study_parts.inputs import analysis_key
from clipbias.study_parts.jobs import Jobs
from clipbias.study_parts.plan import duration, plan, summary
from clipbias.study_parts.watch import Display

# What `measure` writes anew in the manifest although other steps have put it there.
_KEPT = ("adapt_command", "study")


@dataclass
class Done:
    """What became of one step."""

    step: str
    code: int = 0
    seconds: float = 0.0
    note: str = ""


@dataclass
class Run:
    """One call of ``study run``.

    Parameters
    ----------
    jobs : Jobs
    quiet : bool
        Print only errors and the path of the result.
    """

    jobs: Jobs
    quiet: bool = True
    done: list[Done] = field(default_factory=list)
    verdicts: pd.DataFrame | None = None
    page: Path | None = None

    def go(self) -> int:
        """Do the steps and return the exit code: the worst of all steps, 0 only if all is done.

        Raises
        ------
        ClipbiasError
            The study cannot begin.
        """
        self.folder = RunFolder(self.jobs.folder)
        self.jobs.check_filter()
        planned = plan(self.jobs)
        self._tell(summary(planned, self.jobs))
        with Display(planned, self.folder.path, quiet=self.quiet) as display:
            for step in self.jobs.steps:
                display.begin(step)
                if not self._step(step):
                    break
        self._end()
        return max((d.code for d in self.done), default=0)

    def _step(self, step: str) -> bool:
        """Do one step; return whether the others can go on."""
        began = time.monotonic()
        found = Done(step)
        self.done.append(found)
        work: Callable[[Done], int] = getattr(self, f"_{step}")
        try:
            found.code = work(found)
        except ClipbiasError as error:
            found.code, found.note = error.exit_code, "failed"
            print(f"clipbias: error: {step}: {error}", file=sys.stderr)
        except KeyboardInterrupt:
            print(
                f"clipbias: interrupted in {step}; call it again and it goes on from here.", file=sys.stderr
            )
            raise
        found.seconds = time.monotonic() - began
        # Without models there is nothing to go on with; a failed analysis still leaves a report to write.
        return not (found.note == "failed" and (step == "measure" or found.code == 2 and step == "adapt"))

    # -- the steps ------------------------------------------------------------------------------------

    def _measure(self, found: Done) -> int:
        from clipbias.measure import measure

        models = self.jobs.chosen("measure")
        if not models:
            found.note = "no model chosen"
            return 0
        before = self.folder.manifest if self.folder.exists() else {}
        written = self._written("validity")
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                code = measure(
                    models, recipe=self.jobs.recipe, report=False, quiet=True, **self.jobs.measuring
                )
        finally:
            self._keep(before)
        self._settle(written)
        return self._partly(found, code)

    def _written(self, table: str) -> int:
        path = self.folder.path / f"{table}.parquet"
        return path.stat().st_mtime_ns if path.is_file() else 0

    def _settle(self, written: int) -> None:
        """Write the tables over all models again if a call was ended after its last unit and before it did.

        ``measure`` writes them when it has measured a model; then there is nothing to do here.
        """
        from rich.console import Console

        from clipbias.measure import _finish

        units = self.folder.manifest.get("units", {})
        key = sorted((m, facts["key"]) for m, facts in units.items() if not m.startswith("adapt "))
        past = self.folder.manifest.get("study", {}).get("measure", {}).get("units")
        if self._written("validity") == written and past != [list(unit) for unit in key]:
            _finish(self.folder, self.jobs.recipe, Console(quiet=True))
        self._facts()
        self._note("measure", units=key)

    def _keep(self, before: dict[str, Any]) -> None:
        """Put back what other steps had written into the manifest."""
        if not self.folder.exists():
            return
        manifest = self.folder.manifest
        config = {k: v for k, v in before.get("config", {}).items() if k in ("adapt", "study")}
        self.folder.update_manifest(
            config={**config, **manifest.get("config", {})},
            data={**before.get("data", {}), **manifest.get("data", {})},
            **{k: before[k] for k in _KEPT if k in before and k not in manifest},
        )

    def _adapt(self, found: Done) -> int:
        from clipbias.adapt import adapt

        given = dict(self.jobs.adapting)
        models = given.pop("models")
        if not models:
            found.note = "no model chosen"
            return 0
        with contextlib.redirect_stdout(io.StringIO()):
            code = adapt(models, report=False, quiet=True, **given)
        self._facts()
        return self._partly(found, code)

    def _facts(self) -> None:
        """Say what the metrics of adapted models mean, also where an earlier call was ended before it did."""
        from clipbias.tasks.metrics.facts import FACTS, facts_table

        if "extrinsic" not in self.folder.tables():
            return
        known = set(self.folder.read("metrics")["metric"]) if "metrics" in self.folder.tables() else set()
        missing = [
            m for m in self.folder.read("extrinsic")["metric"].unique() if m not in known and m in FACTS
        ]
        if missing:
            self.folder.merge("metrics", facts_table(missing), unit=["metric"], order=False)

    def _analyze(self, found: Done) -> int:
        from clipbias.analysis.questions import load_questions
        from clipbias.analyze import TABLES, analyze, run_tables

        with self.jobs.file.content():
            key = analysis_key(self.jobs, self.folder)
            past = self.folder.manifest.get("study", {}).get("analyze", {})
            if past.get("key") == key and "verdicts" in self.folder.tables():
                found.note = "done before"
                self.verdicts = self.folder.read("verdicts")
                return 0
            began = time.monotonic()
            given = self.jobs.options("analyze")
            tables = {name: self._mine(frame) for name, frame in run_tables(self.folder).items()}
            if not any(len(tables.get(name, ())) for name in ("intrinsic", "extrinsic")):
                raise DataError(f"{self.folder.path} holds no model of this study.")
            results, unanswered = self._answers(given, tables, analyze, load_questions)
        for name, frame in results.items():
            self.folder.write(name, frame)
        for name in set(TABLES) - set(results):  # what an earlier analysis left does not belong to this one
            (self.folder.path / f"{name}.parquet").unlink(missing_ok=True)
        self.verdicts = results["verdicts"]
        # Without a key it is asked again next time.
        self._note("analyze", key="" if unanswered else key, seconds=round(time.monotonic() - began, 1))
        found.note = "some questions failed" if unanswered else ""
        return int(unanswered)

    def _answers(
        self,
        given: dict[str, Any],
        tables: dict[str, pd.DataFrame],
        analyze: Callable[..., Any],
        load: Callable[..., Any],
    ) -> tuple[dict[str, pd.DataFrame], bool]:
        """Ask one question after the other, so that one which cannot be asked leaves the others their answers.

        Raises
        ------
        ClipbiasError
            No question could be asked; the error of the first.
        """
        parts: dict[str, list[pd.DataFrame]] = {}
        errors: list[ClipbiasError] = []
        for question in load(given.get("questions")):
            try:
                answer = analyze(
                    tables,
                    questions=[question],
                    states=self.folder.path,
                    models=self.jobs.all_models,
                    seed=given.get("seed", 0),
                    device=given.get("device", "cpu"),
                )
            except ClipbiasError as error:
                errors.append(error)
                print(f"clipbias: question {question.name!r} was not answered: {error}", file=sys.stderr)
                continue
            for name, frame in answer.items():
                parts.setdefault(name, []).append(frame)
        if not parts:
            raise errors[0]
        return {name: pd.concat(frames, ignore_index=True) for name, frames in parts.items()}, bool(errors)

    def _mine(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of the study's models, in its order: the folder may hold others."""
        if "model" not in frame:
            return frame
        place = frame["model"].astype(str).map({name: n for n, name in enumerate(self.jobs.all_models)})
        # In the order of the study, not in that in which units happened to end: what is drawn depends on it.
        return (
            frame[place.notna()]
            .loc[lambda rows: place[rows.index].sort_values(kind="stable").index]
            .reset_index(drop=True)
        )

    def _report(self, found: Done) -> int:
        from clipbias.reports import render

        began = time.monotonic()
        given = self.jobs.options("report")
        have = (
            set(self.folder.read("models")["model"].astype(str))
            if "models" in self.folder.tables()
            else set()
        )
        mine = [m for m in self.jobs.all_models if m in have]
        page = Path(given["html"]) if "html" in given else self.folder.path / "report.html"
        with self.jobs.file.content():
            self.page = render(
                self.folder,
                page,
                title=given.get("title", "Bias report"),
                models=mine if have - set(mine) else None,
            )
        self._note("report", seconds=round(time.monotonic() - began, 1))
        return 0

    def _note(self, step: str, **facts: object) -> None:
        """Write into the manifest what was asked for and how a step ended."""
        manifest = self.folder.manifest
        study = self.jobs.file.study.model_dump(mode="json", exclude_none=True)
        self.folder.update_manifest(
            study={**manifest.get("study", {}), step: facts},
            config={**manifest.get("config", {}), "study": study},
            ended=now(),
        )

    # -- what is said ---------------------------------------------------------------------------------

    @staticmethod
    def _partly(found: Done, code: int) -> int:
        found.note = "some units failed" if code else ""
        return code

    def _tell(self, text: str) -> None:
        if not self.quiet:
            print(text, file=sys.stderr)

    def _end(self) -> None:
        if not self.quiet:
            if self.verdicts is not None:
                from clipbias.analyze import summary as in_words

                print(in_words(self.verdicts))
            undone = [step for step in self.jobs.steps if step not in {d.step for d in self.done}]
            rows = [
                {"step": d.step, "ended": d.note or "done", "took": duration(d.seconds)} for d in self.done
            ]
            rows += [{"step": step, "ended": "not begun", "took": ""} for step in undone]
            print_table(pd.DataFrame(rows), title=str(self.jobs.file.path))
        if self.page is not None:
            print(self.page)
        elif self.folder.exists():
            print(self.folder.path)
