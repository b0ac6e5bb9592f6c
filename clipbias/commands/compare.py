"""``clipbias compare``: two runs, two models, before and after; differences with intervals."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipbias.commands.common import command_parser, run_command

if TYPE_CHECKING:
    import pandas as pd

    from clipbias.results.run import RunFolder

_FILTERS = ("metric", "attribute", "image_set", "view")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the verb."""
    made = command_parser(
        "compare",
        "Differences, B minus A, of two runs or of two models of one run, for every metric, attribute and view that both "
        "have, with an interval for each and how it was made. Also before and after: --a and --b choose any two sides.",
        examples=[
            "clipbias compare runs/default --models zoo:vit-50 zoo:vit-95",
            "clipbias compare runs/before runs/after",
            "clipbias compare runs/before runs/after --models zoo:vit-95 'file:debiased.pt?model=ViT-B-32'",
            "clipbias compare runs/default --a intervention= --b intervention=reweight",
        ],
    )
    made.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="one run folder, or two: A and B")
    side = made.add_argument_group("the two sides")
    side.add_argument(
        "--models", nargs="+", metavar="SPEC",
        help="A and B; with two runs also one model of both (default for two runs: every model that both have)",
    )  # fmt: skip
    side.add_argument("--a", nargs="+", action="extend", metavar="COLUMN=LEVEL", help="rows that are A")
    side.add_argument("--b", nargs="+", action="extend", metavar="COLUMN=LEVEL", help="rows that are B")
    what = made.add_argument_group("what is compared (default: all)")
    what.add_argument("--metric", nargs="+", metavar="NAME", help="metrics")
    what.add_argument("--attribute", nargs="+", metavar="NAME", help="perceived attributes")
    what.add_argument("--image-set", nargs="+", metavar="NAME", help="image sets")
    what.add_argument("--view", nargs="+", metavar="VIEW", help="views")
    where = made.add_argument_group("what is shown and written")
    where.add_argument("--all", action="store_true", help="print every row (default: the global view)")
    where.add_argument(
        "--out", type=Path, metavar="FILE",
        help="a .csv or .parquet file (default: both, in the folder comparisons/ of the last run)",
    )  # fmt: skip
    where.add_argument("--quiet", action="store_true", help="print only the paths of the files")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb; return 0 compared, 2 bad usage, no such run, or nothing to compare."""
    made = parser()
    options = made.parse_args(sys.argv[1:] if argv is None else list(argv))
    if len(options.runs) > 2:
        made.error("one run, or two")
    if options.models and len(options.models) > 2:
        made.error("--models takes one or two models")
    if len(options.runs) == 1 and not (options.a or options.b or len(options.models or ()) == 2):
        made.error("one run needs two sides: --models A B, or --a COLUMN=LEVEL --b COLUMN=LEVEL")
    return run_command(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    from clipbias.commands.rows_of import parse_where, write_table

    a, b = parse_where(options.a, what="--a"), parse_where(options.b, what="--b")
    if options.models:
        a["model"], b["model"] = options.models[0], options.models[-1]
    wanted = {name: getattr(options, name) for name in _FILTERS if getattr(options, name)}
    first, second = options.runs[0], options.runs[-1]
    table = compare(first, second, a=a, b=b, where=wanted)
    if options.out is not None:
        written = [write_table(table, options.out)]
    else:
        stem = second / "comparisons" / _slug(first, second, a, b)
        written = [write_table(table, stem.with_name(stem.name + end)) for end in (".csv", ".parquet")]
    if not options.quiet:
        _print(table, _title(first, a), _title(second, b), everything=options.all)
    for path in written:
        print(path)
    return 0


def compare(
    first: str | Path,
    second: str | Path,
    *,
    a: dict[str, str] | None = None,
    b: dict[str, str] | None = None,
    where: dict[str, list[str]] | None = None,
) -> pd.DataFrame:
    """Return the differences of two sides, B minus A.

    Parameters
    ----------
    first, second : path
        Run folders of A and B; the same for two sides of one run.
    a, b : dict, optional
        Column -> level of the rows of each side, for example ``{"model": "zoo:vit-50"}``.
    where : dict, optional
        Column -> levels that are compared.

    Returns
    -------
    DataFrame
        See `clipbias.commands.differences.differences`.

    Raises
    ------
    ClipbiasError
        A folder that is no run, a level that is not there, or sides that have nothing in common.
    """
    from clipbias.commands.differences import differences
    from clipbias.commands.rows_of import narrow, result_rows
    from clipbias.errors import DataError
    from clipbias.results.run import RunFolder

    folders = [RunFolder(first), RunFolder(second)]
    a, b = dict(a or {}), dict(b or {})
    rows = [result_rows(folder) for folder in folders]
    if "model" not in a and "model" not in b and Path(first) != Path(second):
        _one_model_each(rows, folders, a, b)
    sides = [narrow(r, s, f.path) for r, s, f in zip(rows, (a, b), folders, strict=True)]
    for column, levels in (where or {}).items():
        for place, folder in enumerate(folders):
            known = sides[place][sides[place][column].isin(levels)]
            # A level that one side lacks is shown as such; one that neither has is a mistake.
            sides[place] = known if len(known) or any(_has(s, column, levels) for s in sides) else narrow(
                sides[place], {column: levels}, folder.path
            )  # fmt: skip
    apart = [c for c in dict.fromkeys([*a, *b]) if a.get(c) != b.get(c)]
    table = differences(
        *sides, apart=apart, same_images=_same_images(folders, sides), ideals=_ideals(folders), per_group=_per_group(),
        level=_level(folders),
    )  # fmt: skip
    if table["status"].str.startswith("only in").all():
        raise DataError(
            f"A ({_title(Path(first), a)}) and B ({_title(Path(second), b)}) have no value in common: "
            "other metrics, image sets, attributes or views."
        )
    return table


def _has(side: pd.DataFrame, column: str, levels: Sequence[str]) -> bool:
    return bool(side[column].isin(levels).any())


def _one_model_each(
    rows: list[pd.DataFrame], folders: list[RunFolder], a: dict[str, str], b: dict[str, str]
) -> None:
    """Pair two runs that have no model in common, if each has one only.

    Raises
    ------
    DataError
        Nothing says which model belongs to which.
    """
    from clipbias.errors import DataError

    one, two = (sorted(set(r["model"])) for r in rows)
    if set(one) & set(two):
        return
    if len(one) == len(two) == 1:
        a["model"], b["model"] = one[0], two[0]
        return
    raise DataError(
        f"{folders[0].path} ({', '.join(one[:5])}) and {folders[1].path} ({', '.join(two[:5])}) have no model in common. "
        "Name one of each with --models A B."
    )


def _same_images(folders: list[RunFolder], sides: list[pd.DataFrame]) -> dict[str, bool]:
    """Return by image set whether both runs saw the same images: one run, or the same digest of them."""
    names = set(sides[0]["image_set"]) & set(sides[1]["image_set"])
    if folders[0].path.resolve() == folders[1].path.resolve():
        return dict.fromkeys(names, True)
    one, two = (f.manifest.get("data", {}) for f in folders)
    return {name: name in one and one.get(name) == two.get(name) for name in names}


def _ideals(folders: list[RunFolder]) -> dict[str, float]:
    found: dict[str, float] = {}
    for folder in folders:
        if "metrics" in folder.tables():
            table = folder.read("metrics")
            found |= {str(m): float(i) for m, i in zip(table["metric"], table["ideal"], strict=True)}
    return found


def _per_group() -> dict[str, bool]:
    from clipbias.metrics.record import registry

    return {name: metric.per_group for name, metric in registry().items()}


def _level(folders: list[RunFolder]) -> float:
    """Return the level of the intervals, as the runs' protocols say.

    Raises
    ------
    DataError
        The runs have different ones.
    """
    from clipbias.errors import DataError

    levels = {
        float(f.manifest.get("config", {}).get("recipe", {}).get("protocol", {}).get("level", 0.95)) for f in folders
    }  # fmt: skip
    if len(levels) > 1:
        raise DataError(
            f"the runs have intervals of different levels: {', '.join(f'{v:g}' for v in sorted(levels))}."
        )
    return levels.pop()


def _title(run: Path, side: dict[str, str]) -> str:
    return " ".join([str(run), *(f"{k}={v}" if k != "model" else v for k, v in side.items())])


def _slug(first: Path, second: Path, a: dict[str, str], b: dict[str, str]) -> str:
    def name(run: Path, side: dict[str, str]) -> str:
        text = "-".join(
            ([run.resolve().name] if first != second else []) + [v or f"no-{k}" for k, v in side.items()]
        )
        return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:80].strip("-")

    return f"{name(first, a)}--{name(second, b)}"


def _print(table: pd.DataFrame, a: str, b: str, *, everything: bool) -> None:
    import pandas as pd

    from clipbias.commands.differences import METHODS
    from clipbias.commands.rows_of import shown
    from clipbias.commands.tables import print_table
    from clipbias.results.rows import KEY

    print(f"A: {a}\nB: {b}")
    mine = table if everything else table[table["view"] == "global"]
    mine = mine[mine["difference"].notna()]
    several = [
        c
        for c in ("stage", "task", "head", "mode", "intervention", "seed")
        if mine.get(c, pd.Series()).nunique() > 1
    ]
    if mine["a"].nunique() > 1:
        several.insert(0, "a")
    keys = shown(
        mine, [*several, *(c for c in KEY if c in ("image_set", "view", "attribute", "metric", "group"))]
    )
    cells: list[dict[str, Any]] = [
        {**{("model" if k == "a" else k.replace("_", " ")): row[k] for k in keys}, "A": row["value_a"], "B": row["value_b"],
         "B - A": row["difference"],
         "interval": f"[{row['ci_low']:.3f}, {row['ci_high']:.3f}]" if row["method"] else "none",
         "p (Holm)": row["p_holm"], "closer to its ideal": row["closer_to_ideal"], "how": row["method"]}
        for row in mine.to_dict("records")
    ]  # fmt: skip
    if cells:
        where = "" if everything else "all images (global view; --all prints every view)"
        print_table(pd.DataFrame(cells), title=where)
    for method in [m for m in METHODS if m in set(mine["method"])]:
        print(f"{method}: {METHODS[method]}.")
    for status, part in table[table["difference"].isna()].groupby("status", sort=False):
        example = (
            "" if str(status).startswith("only in") else f", for example {part['reason'].iloc[0].rstrip('.')}"
        )
        print(f"{len(part)} values have no difference ({status}{example}); the file lists them.")


if __name__ == "__main__":
    sys.exit(main())
