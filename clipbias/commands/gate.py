"""``clipbias gate``: an exit code for continuous integration. What exceeds its bound, or has no number, does not pass."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipbias.commands.common import command_parser, run_command

if TYPE_CHECKING:
    import pandas as pd

    from clipbias.results.run import RunFolder

_FILTERS = ("attribute", "image_set", "view")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the verb."""
    made = command_parser(
        "gate",
        "Compare a run with bounds. Exit code 0: every value that the options choose is within its bound; 1: some are not, "
        "or could not be computed, and a table says which; 2: nothing could be judged (unknown metric, no such rows).",
        examples=[
            "clipbias gate runs/default --max max_skew=.2 --max ndkl=.1 --view global",
            "clipbias gate runs/default --max max_skew=.3 --use upper --attribute gender --models zoo:vit-50",
            "clipbias gate runs/default --min vqa_accuracy=60 --max flip_rate=.05",
        ],
    )
    made.add_argument("run", type=Path, metavar="RUN", help="the run folder")
    bounds = made.add_argument_group("bounds")
    bounds.add_argument(
        "--max",
        nargs="+",
        action="extend",
        default=[],
        metavar="METRIC=NUMBER",
        help="no value may be larger",
    )
    bounds.add_argument(
        "--min",
        nargs="+",
        action="extend",
        default=[],
        metavar="METRIC=NUMBER",
        help="no value may be smaller",
    )
    bounds.add_argument(
        "--use", choices=("value", "upper"), default="value",
        help="what is held against the bound: the value, or the end of its interval that is worse for it (the upper end for "
        "--max, the lower for --min), so that only what is shown to be within the bound passes (default: %(default)s)",
    )  # fmt: skip
    what = made.add_argument_group("what is judged (default: every model, image set, attribute and view)")
    what.add_argument("--models", nargs="+", action="extend", metavar="SPEC", help="models")
    what.add_argument("--attribute", nargs="+", metavar="NAME", help="perceived attributes")
    what.add_argument("--image-set", nargs="+", metavar="NAME", help="image sets")
    what.add_argument("--view", nargs="+", metavar="VIEW", help="views, for example global")
    what.add_argument(
        "--where", nargs="+", action="extend", metavar="COLUMN=LEVEL",
        help="rows with a level in any key column, for example stage=pre or intervention=",
    )  # fmt: skip
    what.add_argument(
        "--each-probe", action="store_true", help="judge every probe, not only the value over all of them"
    )
    what.add_argument(
        "--allow-missing",
        action="store_true",
        help="let values pass that could not be computed (they are still listed)",
    )
    how = made.add_argument_group("what is written")
    how.add_argument("--out", type=Path, metavar="FILE", help="write the table as .csv or .parquet too")
    how.add_argument("--quiet", action="store_true", help="print only what exceeds")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb; return 0 within all bounds, 1 not, 2 bad usage or nothing to judge."""
    made = parser()
    options = made.parse_args(sys.argv[1:] if argv is None else list(argv))
    if not options.max and not options.min:
        made.error("give at least one bound: --max METRIC=NUMBER or --min METRIC=NUMBER")
    return run_command(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    from clipbias.commands.rows_of import parse_where, write_table
    from clipbias.results.run import RunFolder

    folder = RunFolder(options.run)
    bounds = [(m, "max", n) for m, n in parse_bounds(options.max, "--max")]
    bounds += [(m, "min", n) for m, n in parse_bounds(options.min, "--min")]
    where: dict[str, Any] = dict(parse_where(options.where))
    where |= {name: getattr(options, name) for name in _FILTERS if getattr(options, name)}
    found = judge(
        folder, bounds, models=options.models, where=where, use=options.use, each_probe=options.each_probe
    )
    wrong = found[found["verdict"] != "within"]
    missing = wrong["verdict"] == "no number"
    if options.out is not None:
        write_table(found, options.out)
    _print(found, wrong, options)
    return int(bool(len(wrong[~missing] if options.allow_missing else wrong)))


def parse_bounds(words: Sequence[str], option: str) -> list[tuple[str, float]]:
    """Return metrics and numbers of ``METRIC=NUMBER`` words.

    Raises
    ------
    DataError
        A word of another form, or a number that is none.
    """
    from clipbias.errors import DataError

    found = []
    for word in words:
        metric, equals, text = word.partition("=")
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not equals or not metric or math.isnan(number):
            raise DataError(f"{option} {word!r} is not METRIC=NUMBER, for example max_skew=0.2.")
        found.append((metric, number))
    return found


def judge(
    folder: RunFolder,
    bounds: Sequence[tuple[str, str, float]],
    *,
    models: Sequence[str] | None = None,
    where: Mapping[str, Any] | None = None,
    use: str = "value",
    each_probe: bool = False,
) -> pd.DataFrame:
    """Hold the values of a run against bounds.

    Parameters
    ----------
    folder : RunFolder
    bounds : sequence of (metric, "max" or "min", number)
    models : sequence of str, optional
    where : mapping, optional
        Column -> level or levels of the rows judged.
    use : {"value", "upper"}
        The value, or the end of its interval that is worse for the bound.
    each_probe : bool
        Judge the rows of single probes too.

    Returns
    -------
    DataFrame
        One row per value and bound: the keys, ``value, ci_low, ci_high, n, judged`` (the number held against the bound),
        ``bound, verdict`` (within, exceeds or no number) and ``reason``. A model that was asked for and has no row of a
        metric has a row with no number.

    Raises
    ------
    ClipbiasError
        No run, a metric or level that it does not have (the nearest is named), or no row that the filters leave.
    """
    import pandas as pd

    from clipbias.commands.rows_of import narrow, result_rows
    from clipbias.errors import DataError, nearest

    rows = result_rows(folder)
    known = set(rows["metric"])
    for metric, _, _ in bounds:
        if metric not in known:
            raise DataError(f"{folder.path} has no metric {metric!r}." + nearest(metric, known))
    asked = _asked(folder)
    everyone = list(dict.fromkeys([*rows["model"], *(m for names in asked.values() for m in names)]))
    for name in models or ():
        if name not in everyone:
            raise DataError(f"{folder.path} has no model {name!r}." + nearest(name, everyone))
    parts = []
    for metric, kind, number in bounds:
        # Levels are looked up among the metric's own rows: others may have views or attributes that it does not.
        wanted = {"metric": metric, **(where or {})}
        if set(rows.loc[rows["metric"] == metric, "attribute"]) == {""} and set(rows["attribute"]) != {""}:
            wanted.pop("attribute", None)  # a quality is of all people; no attribute goes with it
        mine = narrow(rows, wanted, folder.path)
        if not each_probe:
            mine = mine[mine["probe"] == ""]
            if mine.empty:
                raise DataError(
                    f"{folder.path}: {metric} has values of single probes only; add --each-probe."
                )
        if models:
            mine = mine[mine["model"].isin(list(models))]
        parts.append(_held(mine, kind, number, use))
        names = [
            m for table in _tables_of(rows, metric) for m in asked.get(table, ()) if not models or m in models
        ]
        absent = [m for m in dict.fromkeys([*names, *(models or ())]) if m not in set(mine["model"])]
        parts.append(_absent(absent, metric, kind, number))
    found = (
        pd.concat([p for p in parts if len(p)], ignore_index=True) if any(map(len, parts)) else pd.DataFrame()
    )
    if found.empty:
        raise DataError(f"{folder.path} has no row to judge.")
    return found


def _tables_of(rows: pd.DataFrame, metric: str) -> list[str]:
    return sorted(set(rows.loc[rows["metric"] == metric, "table"]))


def _asked(folder: RunFolder) -> dict[str, list[str]]:
    """Return by table the models that the run was asked for: one that failed has no rows, and that is no pass."""
    config = folder.manifest.get("config", {})
    lists = {"intrinsic": config.get("models"), "extrinsic": config.get("adapt", {}).get("models")}
    return {name: [str(m) for m in models] for name, models in lists.items() if isinstance(models, list)}


_RESULT = ("value", "ci_low", "ci_high", "n", "judged", "bound", "verdict", "reason")


def _held(rows: pd.DataFrame, kind: str, number: float, use: str) -> pd.DataFrame:
    import numpy as np

    from clipbias.results.rows import KEY

    end = {"value": "value", "upper": "ci_high" if kind == "max" else "ci_low"}[use]
    judged = rows[end].astype(float).to_numpy()
    value = rows["value"].astype(float).to_numpy()
    ok = (rows["status"] == "ok").to_numpy()
    # A value at infinity has no interval to look at and needs none.
    judged = np.where(np.isinf(value), value, judged)
    nothing = np.isnan(judged) | np.isnan(value) | ~ok
    worse = judged > number if kind == "max" else judged < number
    verdict = np.where(nothing, "no number", np.where(worse, "exceeds", "within"))
    sign = "<=" if kind == "max" else ">="
    why = [
        (
            ""
            if v != "no number"
            else f"{s}: {r}"
            if s != "ok"
            else f"it has no {'interval' if use == 'upper' else 'value'}"
        )
        for v, s, r in zip(verdict, rows["status"], rows["reason"], strict=True)
    ]
    return rows.assign(judged=judged, bound=f"{sign} {number:g}", verdict=verdict, reason=why)[
        [*KEY, "table", *_RESULT]
    ].reset_index(drop=True)


def _absent(models: Sequence[str], metric: str, kind: str, number: float) -> pd.DataFrame:
    import pandas as pd

    from clipbias.results.rows import KEY

    sign = "<=" if kind == "max" else ">="
    reason = "not measured: the run was asked for this model and has no such row of it"
    records = [
        {**dict.fromkeys(KEY, ""), "table": "", "model": model, "metric": metric, "value": math.nan, "ci_low": math.nan,
         "ci_high": math.nan, "n": pd.NA, "judged": math.nan, "bound": f"{sign} {number:g}", "verdict": "no number", "reason": reason}
        for model in models
    ]  # fmt: skip
    return pd.DataFrame(records, columns=[*KEY, "table", *_RESULT])


def _print(found: pd.DataFrame, wrong: pd.DataFrame, options: argparse.Namespace) -> None:
    from clipbias.commands.rows_of import shown
    from clipbias.commands.tables import print_table
    from clipbias.results.rows import KEY

    exceeds, missing = ((wrong["verdict"] == v).sum() for v in ("exceeds", "no number"))
    if len(wrong):
        several = [
            c for c in ("stage", "task", "head", "mode", "intervention", "seed") if found[c].nunique() > 1
        ]
        first = ["model", "image_set", "attribute", "view", *several, "probe", "metric", "group"]
        keys = shown(wrong, [c for c in KEY if c in first])
        table = wrong.sort_values(["metric", "verdict", *first[:4]], kind="stable")
        table = table[[*keys, "value", "ci_low", "ci_high", "n", "bound", "verdict", "reason"]]
        table = table[[c for c in table if c != "reason" or table["reason"].any()]]
        print_table(
            table.rename(columns=lambda c: c.replace("_", " ")), title=f"{options.run}: not within its bound"
        )
    if not options.quiet or len(wrong):
        judged = {"value": "values", "upper": "interval ends"}[options.use]
        allowed = " (allowed)" if missing and options.allow_missing else ""
        print(
            f"{len(found)} {judged} judged: {len(found) - len(wrong)} within, {exceeds} exceed, {missing} without a number{allowed}."
        )


if __name__ == "__main__":
    sys.exit(main())
