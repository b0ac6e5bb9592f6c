"""``clipbias card``: what a run found of one model, as the bias section of a Hugging Face model card."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipbias.commands.card_words import code, escape, front_matter, interval, number, title_of
from clipbias.commands.common import command_parser, run_command

if TYPE_CHECKING:
    import pandas as pd

    from clipbias.results.run import RunFolder

_LIMITS = (
    "Attributes are *perceived*: what annotators, or the makers of the images, see in a picture. They say nothing about how the "
    "people shown identify themselves, and a small set of levels leaves people out.",
    "The numbers hold for these images, these texts and this protocol. Other images, texts or languages can give others; a value "
    "near its ideal is no proof that the model is fair, only that this instrument found little here.",
    "Intervals are for the value expected on new samples of as many images from the same source. Metrics that are never negative "
    "lie above their ideal by chance in small samples; compare values of the same n only.",
    "Bias measured in a CLIP model does not say by itself how a system built on it will treat people.",
)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the verb."""
    made = command_parser(
        "card",
        "Write the bias section of a Hugging Face model card from a run: values with intervals and n, the protocol, and what "
        "the numbers do not mean.",
        examples=[
            "clipbias card runs/default --model zoo:vit-95",
            "clipbias card runs/default --model zoo:vit-95 --front-matter --out README.md",
        ],
    )
    made.add_argument("run", type=Path, metavar="RUN", help="the run folder")
    made.add_argument("--model", required=True, metavar="SPEC", help="the model")
    made.add_argument(
        "--front-matter",
        action="store_true",
        help="begin with YAML metadata (model-index), as the hub reads it",
    )
    made.add_argument("--out", type=Path, metavar="FILE", help="write to a file instead of printing")
    made.add_argument("--force", action="store_true", help="overwrite the file")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb; return 0 written, 2 bad usage, no such run or no such model."""
    options = parser().parse_args(sys.argv[1:] if argv is None else list(argv))
    return run_command(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    from clipbias.errors import DataError
    from clipbias.results.run import RunFolder

    text = card(RunFolder(options.run), options.model, metadata=options.front_matter)
    if options.out is None:
        print(text, end="")
        return 0
    if options.out.exists() and not options.force:
        raise DataError(f"{options.out} is there already. Name another file, or overwrite it with --force.")
    try:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"{options.out} cannot be written: {error.strerror}.") from error
    print(options.out)
    return 0


def card(folder: RunFolder, model: str, *, metadata: bool = False) -> str:
    """Return the bias section of a model card as Markdown.

    Parameters
    ----------
    folder : RunFolder
    model : str
        A model of the run, as its tables name it.
    metadata : bool
        Begin with YAML metadata that the Hugging Face hub reads (``model-index``). Put it on top of the card.

    Returns
    -------
    str
        Everything that comes from data is escaped.

    Raises
    ------
    ClipbiasError
        No run, or the run has no results of the model (the nearest is named).
    """
    from clipbias.commands.rows_of import narrow, result_rows

    rows = narrow(result_rows(folder), {"model": model}, folder.path)
    whole = rows[(rows["view"] == "global") & (rows["probe"] == "")]
    facts = _facts(folder)
    lines = [
        "## Bias, Risks, and Limitations", "",
        f"Social bias of `{code(model)}`, measured with [clipbias](https://pypi.org/project/clipbias/) {escape(_version(folder))}.", "",
        *_protocol(folder, rows), "",
        *_sections(whole, facts), *_local(rows, facts), *_left_out(folder, model),
        "### What these numbers do not mean", "", *(f"- {text}" for text in _LIMITS), "",
        *_again(folder),
    ]  # fmt: skip
    text = "\n".join(lines).rstrip() + "\n"
    return (front_matter(model, whole, facts) + "\n" + text) if metadata else text


def _facts(folder: RunFolder) -> dict[str, dict[str, Any]]:
    if "metrics" not in folder.tables():
        return {}
    return {str(row["metric"]): row for row in folder.read("metrics").to_dict("records")}  # type: ignore[misc]


def _version(folder: RunFolder) -> str:
    return str(folder.manifest.get("clipbias", ""))


def _protocol(folder: RunFolder, rows: pd.DataFrame) -> Iterator[str]:
    """Yield what was measured and how."""
    manifest = folder.manifest
    protocol = manifest.get("config", {}).get("recipe", {}).get("protocol", {})
    for name in sorted(set(rows["image_set"])):
        mine = rows[rows["image_set"] == name]
        seen = mine.loc[mine["view"] == "global", "n"].dropna()
        attributes = ", ".join(f"perceived {escape(a)}" for a in sorted(set(mine["attribute"])) if a)
        digest = str(manifest.get("data", {}).get(name, ""))[:12]
        yield (
            f"- Images: {escape(name)}" + (f", up to {int(seen.max()):,} for a value" if len(seen) else "")
            + (f"; {attributes}" if attributes else "") + (f"; SHA-256 {digest}..." if digest else "")
        )  # fmt: skip
    if protocol:
        k = protocol.get("k")
        length = (
            f"the first {k:.3g} of the images" if isinstance(k, float) and k < 1 else f"the first {k} images"
        )
        yield (
            f"- Protocol: {escape(protocol.get('name', ''))}; ranked lists are {length}; {protocol.get('n_boot')} bootstrap draws over "
            f"images; {100 * float(protocol.get('level', 0.95)):g} % intervals; seed {protocol.get('seed')}"
        )
    names = sorted({p for p in rows["protocol"] if p})
    if names:
        yield f"- Protocols, as the tables name them: {', '.join(f'`{code(name)}`' for name in names)}"


def _sections(whole: pd.DataFrame, facts: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yield one table for each image set, task and attribute, over all images."""
    for stage, about in (("pre", "The model as it is"), ("post", "Models adapted from it")):
        for key, part in whole[whole["stage"] == stage].groupby(
            ["table", "task", "head", "mode", "intervention", "seed", "image_set", "attribute"], sort=True
        ):
            _, task, head, mode, intervention, seed, image_set, attribute = (str(k) for k in key)
            how = ", ".join(
                escape(t) for t in (task, head, mode, intervention, f"seed {seed}" if seed else "") if t
            )
            what = f"perceived {escape(attribute)}" if attribute else "quality, all people"
            yield f"### {about}: {escape(image_set)}{f', {how}' if how else ''}, {what}"
            yield ""
            part = part.sort_values(["metric", "group"], kind="stable")
            good = part["status"] == "ok"
            if good.any():
                yield "| Metric | Group | Value | Interval | n | Ideal | Reads |"
                yield "| --- | --- | ---: | --- | ---: | ---: | --- |"
                for row in part[good].to_dict("records"):
                    yield _line(row, facts.get(str(row["metric"]), {}))
                yield ""
            for (status, reason), rows in part[~good].groupby(["status", "reason"], sort=False):
                names = ", ".join(f"`{code(m)}`" for m in dict.fromkeys(rows["metric"]))
                yield f"Not computed: {names}. {escape(': '.join(t for t in (str(status), str(reason)) if t))}"
                yield ""


def _line(row: dict[Any, Any], fact: dict[str, Any]) -> str:
    title = f"{escape(title_of(row['metric'], fact))} (`{code(row['metric'])}`)"
    n = "" if row["n"] is None or row["n"] != row["n"] else f"{int(row['n']):,}"
    cells = [
        title,
        escape(row["group"]),
        number(row["value"]),
        interval(row),
        n,
        number(fact.get("ideal")),
        escape(fact.get("direction", "")),
    ]
    return "| " + " | ".join(cells) + " |"


def _local(rows: pd.DataFrame, facts: dict[str, dict[str, Any]], *, most: int = 5) -> Iterator[str]:
    """Yield the views that lie farthest on the unfair side of all images, with intervals that do not touch."""
    mine = rows[(rows["probe"] == "") & (rows["status"] == "ok") & (rows["attribute"] != "")]
    key = [
        "table",
        "stage",
        "task",
        "head",
        "mode",
        "intervention",
        "seed",
        "image_set",
        "attribute",
        "metric",
    ]
    one = mine[mine["view"] == "global"].drop_duplicates(key, keep=False)
    both = mine[mine["view"] != "global"].merge(one, on=key, suffixes=("", "_all"))
    found = []
    for row in both.to_dict("records"):
        ideal = facts.get(str(row["metric"]), {}).get("ideal")
        if ideal is None or ideal != ideal:
            continue
        apart = row["ci_low"] > row["ci_high_all"] or row["ci_high"] < row["ci_low_all"]
        worse = abs(row["value"] - ideal) > abs(row["value_all"] - ideal)
        if apart and worse:
            found.append((-abs(row["value"] - row["value_all"]), str(row["view"]), row))
    if not len(both):
        return
    views = mine.loc[mine["view"] != "global", "view"].nunique()
    yield "### Local findings"
    yield ""
    if not found:
        yield f"On none of the {views} views of the images is the model clearly less fair than on all of them (intervals overlap)."
    else:
        yield f"Of {views} views of the images, these are less fair than all images, with intervals that do not overlap:"
        yield ""
        for _, _, row in sorted(found, key=lambda item: item[:2])[:most]:
            yield (
                f"- {escape(row['image_set'])}, view {escape(row['view'])}, perceived {escape(row['attribute'])}: {escape(row['metric'])} "
                f"{number(row['value'])} {interval(row)}, n {int(row['n']):,}; all images {number(row['value_all'])}"
            )
        if len(found) > most:
            yield f"- and {len(found) - most} more"
    yield ""
    yield "Many views were looked at; a few differ by chance."
    yield ""


def _left_out(folder: RunFolder, model: str) -> Iterator[str]:
    if "left_out" not in folder.tables():
        return
    table = folder.read("left_out")
    mine = table[table["model"].astype(str) == model] if "model" in table else table
    if mine.empty:
        return
    yield "### Left out"
    yield ""
    counts = (
        mine.groupby(["image_set", "reason"], sort=True).size()
        if "image_set" in mine
        else mine.groupby("reason").size()
    )
    for key, count in list(counts.items())[:10]:
        words = ": ".join(escape(k) for k in (key if isinstance(key, tuple) else (key,)))
        yield f"- {count:,} × {words}"
    yield ""


def _again(folder: RunFolder) -> Iterator[str]:
    manifest = folder.manifest
    # The path of the program says something of the machine and nothing of the run.
    command = (
        " ".join(["clipbias", *map(str, manifest.get("command", [])[1:])]) if manifest.get("command") else ""
    )
    yield "### How to get them again"
    yield ""
    commit = (manifest.get("git") or {}).get("commit", "")
    versions = ", ".join(
        f"{k} {v}"
        for k, v in sorted(manifest.get("packages", {}).items())
        if k in ("torch", "open_clip_torch", "numpy")
    )
    yield f"clipbias {escape(_version(folder))}{f' (commit {escape(commit[:12])})' if commit else ''}{f', {escape(versions)}' if versions else ''}; started {escape(str(manifest.get('started', '')))}."
    if command:
        yield ""
        yield f"    {' '.join(command.split())}"
    yield ""


if __name__ == "__main__":
    sys.exit(main())
