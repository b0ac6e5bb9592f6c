"""``python -m clipbias.analyze RUN``: does bias transfer, do the spaces converge, and how sure are we.

Reads the tables of a run folder (or any two tables with columns model, attribute and value), asks the questions of
the study (analysis/*.toml) and writes the tables ``verdicts, transfer, similarity, convergence, heterogeneity,
reliability, agreement``. States are read from ``RUN/states/*.safetensors``: every tensor is a layer, one row per image;
the file's metadata holds ``model``, ``state`` (pre, post, untrained, second_seed), ``ids`` (JSON list of image ids) and
what applies of ``task, head, mode, intervention, image_set`` and ``disjoint`` ("true": images kept out of training).
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clipbias.commands.common import DEFAULT_OUT, command_parser, run_command, shared_options

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    import pandas as pd

    from clipbias.analysis.answers import Answer
    from clipbias.analysis.questions import Question
    from clipbias.results.run import RunFolder

TABLES = ("verdicts", "transfer", "similarity", "convergence", "heterogeneity", "reliability", "agreement")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the verb."""
    found = command_parser(
        "analyze",
        "Ask the questions of a study of a run folder: does bias transfer, do the spaces converge, how sure are we. "
        "Every question ends in one of three verdicts: related, equivalent to none within a declared bound, or "
        "undecided with what it would take to decide.",
        examples=[
            "clipbias analyze runs/default",
            "clipbias analyze runs/default --questions transfer convergence",
            "clipbias analyze --intrinsic intrinsic.csv --extrinsic downstream.csv --out runs/mine",
        ],
    )
    found.add_argument(
        "run", nargs="?", type=Path, metavar="RUN", help="the run folder (default: that of --out)"
    )
    found.add_argument(
        "--questions", nargs="+", metavar="NAME", help="files of analysis/, without .toml (default: all)"
    )
    pair = found.add_argument_group(
        "two tables instead of a run folder (CSV or parquet: model, attribute, value, ...)"
    )
    pair.add_argument(
        "--intrinsic", type=Path, metavar="FILE", help="bias before adaptation, higher is more bias"
    )
    pair.add_argument(
        "--extrinsic", type=Path, metavar="FILE", help="bias after adaptation, higher is more bias"
    )
    pair.add_argument(
        "--table-models", type=Path, metavar="FILE", help="columns model, and families or controls"
    )
    found.add_argument("--device", default="cpu", help="where similarity is computed (default: %(default)s)")
    shared_options(found)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb and return its exit code: 0 answered, 2 bad usage, tables or questions, 130 interrupted."""
    found = parser()
    args = found.parse_args(sys.argv[1:] if argv is None else list(argv))
    if args.run and args.out != DEFAULT_OUT and args.run != args.out:
        found.error(f"RUN ({args.run}) and --out ({args.out}) name two folders; give one of them")
    if (args.intrinsic is None) != (args.extrinsic is None):
        found.error("--intrinsic and --extrinsic go together")
    if args.study is None:
        return run_command(lambda: _run(args))
    before = os.environ.get("CLIPBIAS_STUDY")
    os.environ["CLIPBIAS_STUDY"] = str(args.study if args.study.is_dir() else args.study.parent)
    try:
        return run_command(lambda: _run(args))
    finally:
        if before is None:
            del os.environ["CLIPBIAS_STUDY"]
        else:
            os.environ["CLIPBIAS_STUDY"] = before


def _run(args: argparse.Namespace) -> int:
    from clipbias.analysis.questions import load_questions
    from clipbias.errors import DataError
    from clipbias.results.run import RunFolder, new_manifest

    folder = RunFolder(args.run or args.out)
    questions = load_questions(args.questions)
    if args.intrinsic:
        tables = two_tables(args.intrinsic, args.extrinsic, args.table_models)
        questions = [without_primary(q, tables) for q in questions]
    else:
        tables = run_tables(folder)
    if args.models:
        tables = {
            name: t[t["model"].astype(str).isin(args.models)].reset_index(drop=True)
            if "model" in t.columns
            else t
            for name, t in tables.items()
        }
        if all(len(t) == 0 for name, t in tables.items() if name in ("intrinsic", "extrinsic")):
            raise DataError(f"none of the models {args.models} is in the tables.")
    if args.dry_run:
        for question in questions:
            print(f"{question.name:16s} {question.kind:14s} {question.text}")
        print(
            f"tables: {', '.join(f'{n} ({len(t)} rows)' for n, t in tables.items())}; states: {len(state_files(folder.path))} files"
        )
        return 0
    say = (lambda _: None) if args.quiet else print
    results = analyze(
        tables,
        questions=questions,
        states=folder.path,
        models=args.models,
        seed=args.seed,
        device=args.device,
        announce=say,
    )
    if args.intrinsic and not folder.exists():
        folder.write_manifest(
            new_manifest(command=["clipbias", "analyze", *sys.argv[1:]], seeds={"analyze": args.seed})
        )
    for name, frame in results.items():
        folder.write(name, frame)
    for name in set(TABLES) - set(results):  # what an earlier analysis left does not belong to this one
        (folder.path / f"{name}.parquet").unlink(missing_ok=True)
    if not args.quiet:
        print(summary(results["verdicts"]))
    print(f"Tables: {folder.path} ({', '.join(results)})")
    return 0


def analyze(
    tables: Mapping[str, pd.DataFrame],
    *,
    questions: Sequence | None = None,
    states: Path | Mapping | None = None,
    models: Sequence[str] | None = None,
    seed: int = 0,
    device: str = "cpu",
    announce: object = None,
) -> dict[str, pd.DataFrame]:
    """Answer the questions of a study.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        ``intrinsic``, ``extrinsic``, ``models``, ``views`` of a run folder, or tables like them.
    questions : sequence of Question, optional
        Default: all files of analysis/.
    states : path of a run folder, or mapping, optional
        For convergence: (model, layer, state) -> (ids, array).
    models : sequence of str, optional
        Only these.
    seed : int
    device : str
    announce : callable, optional
        Is told what similarity will need before it starts.

    Returns
    -------
    dict of DataFrame
        ``verdicts`` always; of the others those that have rows.

    Raises
    ------
    DataError
        A table, state or question that is not what it should be.
    """
    import pandas as pd

    from clipbias.analysis.answers import answer, answer_convergence
    from clipbias.analysis.questions import load_questions
    from clipbias.analysis.values import bias_only
    from clipbias.analysis.verdicts import verdict_table

    questions = load_questions() if questions is None else questions
    ideals = metric_ideals(tables.get("metrics"))
    tables = dict(tables)
    for side in ("intrinsic", "extrinsic"):
        if side in tables:
            tables[side], left = bias_only(tables[side], tables.get("metrics"))
            if left and callable(announce):
                announce(f"not measures of bias, left out of the {side} side: {', '.join(left)}")
    answers: list[Answer] = []
    for question in questions:
        if question.kind != "convergence":
            answers.append(answer(question, tables, ideals=ideals, seed=seed))
            continue
        studies, disjoint = read_states(states, question.section("states").get("where", {}), models)
        answers.append(
            answer_convergence(
                question,
                studies,
                models=tables.get("models"),
                disjoint=disjoint,
                seed=seed,
                device=device,
                announce=announce,  # type: ignore[arg-type]
            )  # fmt: skip
        )
    out = {"verdicts": verdict_table([row for a in answers for row in a.verdicts])}
    for name in TABLES[1:]:
        parts = [a.tables[name] for a in answers if name in a.tables]
        if parts:
            out[name] = pd.concat(parts, ignore_index=True)
    return out


def metric_ideals(declared: pd.DataFrame | None = None) -> dict[str, float]:
    """Return the ideal of every metric that declares one, here or in the table ``metrics`` of a run."""
    from clipbias.metrics.record import registry

    out = {name: float(metric.ideal) for name, metric in registry().items()}
    if declared is not None and {"metric", "ideal"} <= set(declared.columns):
        known = declared.dropna(subset=["ideal"])
        out |= dict(zip(known["metric"].astype(str), known["ideal"].astype(float), strict=True))
    return out


def run_tables(folder: RunFolder) -> dict[str, pd.DataFrame]:
    """Return the tables of a run folder that questions use.

    Raises
    ------
    ClipbiasError
        There is no run, or a table is damaged.
    DataError
        The run has no results.
    """
    from clipbias.errors import DataError

    _ = folder.manifest
    names = [
        n for n in ("intrinsic", "extrinsic", "models", "views", "planted", "metrics") if n in folder.tables()
    ]
    if not {"intrinsic", "extrinsic"} & set(names):
        raise DataError(f"{folder.path} has no table 'intrinsic' or 'extrinsic': measure or adapt first.")
    return {name: folder.read(name) for name in names}


def two_tables(intrinsic: Path, extrinsic: Path, models: Path | None) -> dict[str, pd.DataFrame]:
    """Return tables read from files.

    Raises
    ------
    DataError
        No such file, not a table, no column model or value.
    """
    import pandas as pd

    from clipbias.errors import DataError, nearest

    out = {}
    for name, path in (("intrinsic", intrinsic), ("extrinsic", extrinsic), ("models", models)):
        if path is None:
            continue
        try:
            frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
        except FileNotFoundError:
            raise DataError(f"{path} does not exist.") from None
        except (OSError, ValueError) as error:
            raise DataError(f"{path} is not a table: {str(error).splitlines()[0]}.") from error
        for column in ("model",) if name == "models" else ("model", "value"):
            if column not in frame.columns:
                raise DataError(
                    f"{path} has no column {column!r}." + nearest(column, map(str, frame.columns))
                )
        if name != "models":
            for column, default in (("attribute", "all"), ("metric", name)):
                if column not in frame.columns:
                    frame[column] = default
            _once(frame, path)
        out[name] = frame
    return out


def without_primary(question: Question, tables: Mapping[str, pd.DataFrame]) -> Question:
    """Return a question that rests on all cells when its primary pair is not in the user's own tables."""
    from dataclasses import replace

    for side, table in tables.items():
        wanted = question.section("primary").get(side, {})
        for column, value in wanted.items() if isinstance(wanted, dict) else ():
            values = value if isinstance(value, list) else [value]
            if column not in table.columns or not set(map(str, values)) & set(table[column].astype(str)):
                return replace(question, spec={**question.spec, "primary": {}})
    return question


def _once(frame: pd.DataFrame, path: Path) -> None:
    """Refuse a table that has two values for one model: a mean would hide a mistake in joining."""
    from clipbias.errors import DataError

    keys = [c for c in frame.columns if c not in ("value", "ci_low", "ci_high", "n", "p", "z")]
    twice = frame.duplicated(keys)
    if twice.any():
        raise DataError(
            f"{path}: two rows for {frame.loc[twice, keys].iloc[0].to_dict()}; one value for each is needed."
        )


def state_files(folder: Path) -> list[Path]:
    """Return the state files of a run folder."""
    return sorted((folder / "states").rglob("*.safetensors"))


def read_states(
    states: Path | Mapping | None, where: Mapping[str, object], models: Sequence[str] | None
) -> tuple[dict[str, dict], dict[str, bool]]:
    """Return states by adaptation, and whether their images were kept out of training.

    Raises
    ------
    DataError
        A file that is damaged or lacks model, state or ids.
    """
    import json

    from clipbias.analysis.answers import group_states, study_name
    from clipbias.errors import DataError

    if states is None:
        return {}, {}
    if not isinstance(states, Path):
        return ({"states": dict(states)} if states else {}), {}
    from safetensors import SafetensorError, safe_open

    found: dict[tuple[str, ...], object] = {}
    facts: dict[tuple[str, ...], dict[str, str]] = {}
    disjoint: dict[str, list[bool]] = {}
    for path in state_files(states):
        try:
            with safe_open(path, framework="np") as file:
                about = file.metadata() or {}
                missing = [k for k in ("model", "state", "ids") if k not in about]
                if missing:
                    raise DataError(f"{path}: its metadata lacks {', '.join(missing)}.")
                if models and about["model"] not in models:
                    continue
                if any(str(about.get(k, v)) != str(v) for k, v in where.items()):
                    continue
                ids = json.loads(about["ids"])
                for layer in file.keys():  # noqa: SIM118 - not a dict
                    key = (about["model"], layer, about["state"], str(path))
                    found[key], facts[key] = (ids, file.get_tensor(layer)), about
                disjoint.setdefault(study_name(about), []).append(about.get("disjoint") == "true")
        except (SafetensorError, OSError, json.JSONDecodeError) as error:
            raise DataError(f"{path} is damaged ({error}). Delete it and run adapt again.") from error
    return group_states(found, facts), {name: all(values) for name, values in disjoint.items()}


def summary(verdicts: pd.DataFrame) -> str:
    """Return the verdicts as text."""
    lines = []
    for name, part in verdicts.groupby("question", sort=False):
        lines.append(f"{name}: {part['text'].iloc[0]}")
        for row in part.to_dict("records"):
            if row["status"] != "ok":
                lines.append(f"  {row['verdict']}: {row['subject']}: {row['reason']}")
                continue
            numbers = f"{row['statistic']} {row['estimate']:+.3f} [{row['ci_low']:+.3f}, {row['ci_high']:+.3f}], p {row['p']:.3g}, n {row['n']}"
            if not math.isnan(row["minimum_detectable"]):
                numbers += f", detectable {row['minimum_detectable']:.2f}"
            lines.append(f"  {row['verdict']}: {row['subject']}: {numbers}")
            lines += [f"    {text}" for text in (row["to_decide"], row["reason"]) if text]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
