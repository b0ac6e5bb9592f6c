"""What ``clipbias adapt`` does around its units: phases, progress, the run folder, the tables it prints."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from clipbias.commands.tables import print_table
from clipbias.engine import Outcome, run_units
from clipbias.errors import DataError, ModelError
from clipbias.results.run import RunFolder, new_manifest, now
from clipbias.tasks.adaptation import adapt_unit
from clipbias.tasks.checkpoint import cannot_write
from clipbias.tasks.metrics.facts import facts_table
from clipbias.tasks.unit import KEY, Adaptation, AdaptUnit

# Table -> the columns that name what a unit replaces in it.
UNITS: dict[str, tuple[str, ...]] = {
    "extrinsic": (*KEY, "image_set"), "intrinsic": (*KEY, "stage"), "adapted": KEY, "training": KEY,
    "views": ("model", "image_set"), "left_out": ("model", "image_set"), "models": ("model",),
}  # fmt: skip
# Bias in the order in which it is printed; the table `extrinsic` holds all of it.
SHOWN = (
    "flip_rate", "delta_p", "gender_error", "gender_ratio", "outcome_divergence", "vqa_accuracy_gap", "cider_gap",
    "answer_divergence", "lic",
)  # fmt: skip


class Run:
    """One call of ``adapt``.

    Parameters
    ----------
    out : path
        The run folder.
    config : dict
        The resolved options, for the manifest.
    quiet : bool
    """

    def __init__(self, out: str | Path, config: dict[str, Any], *, quiet: bool = True) -> None:
        self.folder, self.config, self.quiet = RunFolder(out), config, quiet
        self.console = Console(stderr=True, quiet=quiet)
        self.old: dict[str, Any] = self.folder.manifest.get("units", {}) if self.folder.exists() else {}
        self.failed: list[tuple[AdaptUnit, str, int]] = []
        self.done: list[Adaptation] = []

    def go(self, units: Sequence[AdaptUnit], *, engine: str, report: bool) -> int:
        """Do the units, the baselines first; return 0 if all are done, 1 if some failed.

        Raises
        ------
        DataError, ModelError
            No unit could be done.
        StorageError
            The run folder cannot be written.
        """
        columns = (
            BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.description}"),
        )  # fmt: skip
        with Progress(*columns, console=self.console, transient=True, disable=self.quiet) as progress:
            bar = progress.add_task("units", total=len(units))
            blind = [u for u in units if u.mode == "blind"]
            baselines = self._phase(blind, engine, progress, bar)
            ready = []
            for unit in (u for u in units if u.mode != "blind"):
                if unit.of_blind in baselines:
                    ready.append(unit.but(blind=baselines[unit.of_blind]))
                elif any(unit.of_blind == b.of_blind for b in blind):
                    self._fail(
                        unit, "its image-blind baseline failed, so its competence cannot be judged.", 1
                    )
                    progress.advance(bar)
                else:
                    ready.append(unit)
            self._phase(ready, engine, progress, bar)
        if not self.done:
            unit, text, code = max(self.failed, key=lambda item: item[2])
            raise (DataError if code == 2 else ModelError)(text)
        self._finish(units, report)
        for unit, text, _ in self.failed:
            print(f"clipbias: {unit.name} was not done: {text}", file=sys.stderr)
        return int(bool(self.failed))

    def _phase(
        self, units: list[AdaptUnit], engine: str, progress: Progress, bar: Any
    ) -> dict[tuple[str, str, str], tuple[str, float]]:
        """Run units and store what comes of them; return key and quality of each."""
        units = [u.but(done=self.old.get(u.name, {}).get("key", "")) for u in units]
        tell = partial(adapt_unit, on_step=lambda text: progress.update(bar, description=text))
        quality: dict[tuple[str, str, str], tuple[str, float]] = {}

        def store(outcome: Outcome) -> None:
            progress.advance(bar)
            unit: AdaptUnit = outcome.unit
            if not outcome.ok:
                self._fail(unit, outcome.error or "", outcome.exit_code)
                return
            found: Adaptation = outcome.value
            try:
                self._store(unit, found, outcome.seconds)
            except OSError as problem:
                raise cannot_write(self.folder.path, problem) from problem
            self.done.append(found)
            quality[unit.of_blind] = (found.key, self._known(unit) if found.kept else found.quality)

        if units:
            run_units(units, tell if engine == "local" else adapt_unit, engine=engine, on_done=store)
        return quality

    def _fail(self, unit: AdaptUnit, text: str, code: int) -> None:
        self.failed.append((unit, text, code))
        self.console.print(f"[red]failed[/red] {unit.name}: {text}", highlight=False)

    def _known(self, unit: AdaptUnit) -> float:
        """Return the quality of a unit that the run folder holds."""
        table = self.folder.read("adapted")
        mine = table[(table[list(KEY)].astype(str) == pd.Series(unit.columns).astype(str)).all(axis=1)]
        return float(mine["quality"].iloc[0])

    def _store(self, unit: AdaptUnit, found: Adaptation, seconds: float) -> None:
        if found.kept:
            return
        if not self.folder.exists():
            self.folder.write_manifest(new_manifest(units={}))
        for name, frame in found.tables.items():
            if len(frame):
                self.folder.merge(
                    name, frame, unit=UNITS[name], order=name in ("extrinsic", "intrinsic", "adapted")
                )
        manifest = self.folder.manifest
        # Last, so that a unit that is listed is whole.
        self.folder.update_manifest(
            units={**manifest.get("units", {}), unit.name: {"key": found.key, "seconds": round(seconds, 1)}},
            data={**manifest.get("data", {}), **found.data},
            config={**manifest.get("config", {}), "adapt": self.config},
        )

    def _compare_interventions(self) -> None:
        """Write the table ``interventions``: those asked for beside their twins and plain training."""
        if not self.config.get("interventions"):
            return
        from clipbias.tasks.interventions.compare import WITHIN, compared

        table = compared(
            self.folder.read("extrinsic"), self.folder.read("adapted"), self.config["interventions"]
        )
        if len(table):
            self.folder.merge("interventions", table, unit=["source", *WITHIN, "intervention"], order=False)

    def _finish(self, units: Sequence[AdaptUnit], report: bool) -> None:
        kept = sum(d.kept for d in self.done)
        resumed = sum(bool(d.resumed) for d in self.done)
        if kept < len(self.done):
            facts = facts_table(self.folder.read("extrinsic")["metric"].unique())
            self.folder.merge("metrics", facts, unit=["metric"], order=False)
            self._compare_interventions()
            self._follow_planted()
            self.folder.update_manifest(ended=now(), adapt_command=list(sys.argv))
        self.console.print(
            f"{len(self.done)} units, {kept} of them done before{' (nothing was trained)' if kept == len(self.done) else ''}"
            + (f", {resumed} taken up where they had stopped" if resumed else "") + ".", highlight=False,
        )  # fmt: skip
        if not self.quiet:
            models = list(dict.fromkeys(u.model for u in units))
            for title, table in overview(
                self.folder.read("extrinsic"), self.folder.read("adapted"), models
            ).items():
                print_table(table, title=title)
        if report:
            from clipbias.reports import render

            with self.console.status("writing the report"):
                page = render(self.folder, self.folder.path / "report.html")
            print(page)
        else:
            print(self.folder.path)

    def _follow_planted(self) -> None:
        """Write how bias downstream follows what was planted, over all models of the run folder."""
        if "models" not in self.folder.tables():
            return
        from clipbias.analysis.planted import planted_transfer

        found = planted_transfer(self.folder.read("extrinsic"), self.folder.read("models"))
        if len(found):
            self.folder.write("planted_transfer", found)


def overview(
    extrinsic: pd.DataFrame, adapted: pd.DataFrame, models: Sequence[str]
) -> dict[str, pd.DataFrame]:
    """Return a table of models x quality and bias per task, head and attribute, as text with intervals.

    All test images; values of an incompetent model are replaced by the words.
    """
    rows = extrinsic[
        (extrinsic["view"] == "global") & extrinsic["model"].isin(list(models)) & (extrinsic["group"] == "")
    ]
    units = adapted[adapted["model"].isin(list(models))].set_index(list(KEY))
    tables: dict[str, pd.DataFrame] = {}
    attributes = [a for a in rows["attribute"].unique() if a]
    for (task, head), part in rows.groupby(["task", "head"], sort=False):
        for attribute in attributes or [""]:
            records = []
            for found, mine in part.groupby(list(KEY), sort=False):
                key: Any = found
                if key[KEY.index("mode")] == "blind" or key not in units.index:
                    continue
                records.append(
                    _record(dict(zip(KEY, key, strict=True)), mine, units.loc[key], str(attribute))
                )
            table = pd.DataFrame(records)
            if len(table):
                order = {m: i for i, m in enumerate(models)}
                table = table.sort_values("model", key=lambda s: s.map(order), kind="stable").reset_index(
                    drop=True
                )
                empty = [c for c in table if c != "model" and (table[c].astype(str) == "").all()]
                title = f"{task} ({head}), perceived {attribute or 'attributes'}, all test images (value and interval)"
                tables[title] = table.drop(columns=empty)
    return tables


def _record(key: dict[str, str], rows: pd.DataFrame, unit: pd.Series, attribute: str) -> dict[str, object]:
    found: dict[str, object] = {name: key[name] for name in ("model", "mode", "intervention", "seed")}
    found[str(unit["metric"])] = f"{unit['quality']:.3f}"
    found["blind"] = "" if pd.isna(unit["blind"]) else f"{unit['blind']:.3f}"
    found["competent"] = unit["competent"]
    for metric in SHOWN:
        mine = rows[(rows["metric"] == metric) & (rows["attribute"] == attribute) & (rows["probe"] == "")]
        found[metric] = _cell(mine.iloc[0]) if len(mine) else ""
    return found


def _cell(row: pd.Series) -> str:
    if row["status"] != "ok":
        return str(row["status"])
    between = "" if pd.isna(row["ci_low"]) else f" [{row['ci_low']:.3f}, {row['ci_high']:.3f}]"
    return f"{row['value']:.3f}{between}"


def plan_table(units: Sequence[AdaptUnit], out: str | Path) -> None:
    """Print the units, what is in the run folder and what they cost; write nothing."""
    from clipbias.models import load_model
    from clipbias.tasks.frozen import FeatureCache
    from clipbias.tasks.vision import Tower

    folder = RunFolder(out)
    old = folder.manifest.get("units", {}) if folder.exists() else {}
    encoded: dict[str, str] = {}
    records = []
    for unit in units:
        if unit.model not in encoded:
            tower = Tower(
                load_model(unit.model, device=unit.device, precision=unit.precision), grid=unit.recipe.grid
            )
            encoded[unit.model] = (
                "yes" if any((FeatureCache().folder / tower.features_key).glob("*.safetensors")) else "no"
            )
        records.append(
            {**unit.columns, "steps": unit.recipe.training_of(unit.mode).steps, "features in the cache": encoded[unit.model],
             "in the run folder": "yes" if unit.name in old else "no", "seconds last time": old.get(unit.name, {}).get("seconds", "")}
        )  # fmt: skip
    print_table(pd.DataFrame(records), title=f"{len(units)} units would go into {out}")
