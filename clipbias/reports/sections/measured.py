"""What was measured: models, image sets, views, probes, and what was left out."""

from __future__ import annotations

import json

import pandas as pd

from clipbias.reports import words
from clipbias.reports.blocks import Body, Cell, Column, Content, Row, Table, Words
from clipbias.reports.cited import Cited, cited, table
from clipbias.reports.cited import rows as table_rows
from clipbias.reports.sections import Context, section


@section("measured")
def measured(ctx: Context) -> Content | None:
    """Return the tables of models and views, the prompts used, and the counts left out."""
    rows = ctx.tables["intrinsic"]
    sizes = picture_counts(ctx)
    failed = rows[rows["status"] != "ok"]
    source = table("intrinsic", ctx.tables.chosen)
    facts = {
        "models": _counted(ctx, "model", "model"),
        "image_set_names": [
            {"name": name, "pictures": cited(words.count(n, "picture"), _size_code(ctx, name))}
            for name, n in sizes.items()
        ],
        "pictures": cited(words.count(sum(sizes.values()), "picture"), " + ".join(_size_code(ctx, s) for s in sizes)),
        "views": _counted(ctx, "view", "view"),
        "metrics": _counted(ctx, "metric", "metric"),
        "probes": _counted(ctx, "probe", "probe"),
        "attributes": words.joined([ctx.theme.attribute(a) for a in ctx.attributes(rows)]),
        "values": cited(f"{len(rows):,}", f"len({source})"),
        "failed": cited(f"{len(failed):,}", f"""({source}["status"] != "ok").sum()"""),
        "left_out": _left_out_count(ctx),
    }  # fmt: skip
    blocks = [_models(ctx), _views(ctx), _left_out(ctx), *_prompts(ctx)]
    return Content(facts, tuple(b for b in blocks if b is not None))


def picture_counts(ctx: Context) -> dict[str, int]:
    """Return the pictures per image set: the global view's size, else the largest n of its rows."""
    views, rows = ctx.tables["views"], ctx.tables["intrinsic"]
    measured_on = set(rows["image_set"]) if len(rows) else set(views["image_set"])
    views = views[views["image_set"].isin(measured_on)]
    sizes = views[views["view"] == "global"].groupby("image_set")["n"].max().to_dict()
    for name, n in rows[rows["view"] == "global"].groupby("image_set")["n"].max().items():
        sizes.setdefault(str(name), n)
    return {k: int(v) for k, v in sizes.items() if k and not pd.isna(v)}


def offensive_words(ctx: Context) -> set[str]:
    """Return the probe words of sets marked offensive; the page covers them until asked."""
    prompts = ctx.tables["prompts"]
    if "offensive" not in prompts:
        return set()
    marked = prompts[prompts["offensive"].fillna(False).astype(bool)]
    return {str(w) for c in ("probe", "concept", "item", "prompt") if c in marked for w in marked[c]}


def _counted(ctx: Context, column: str, noun: str) -> Cited | str:
    """Return ``12 models``; "" when there is none."""
    n = len(set(ctx.tables["intrinsic"][column]) - {""})
    code = f"""{table("intrinsic", ctx.tables.chosen)}["{column}"].replace("", None).nunique()"""
    return cited(words.count(n, noun), code) if n else ""


def _size_code(ctx: Context, image_set: str) -> str:
    if (ctx.tables["views"]["image_set"] == image_set).any():
        return f"""{table_rows("views", image_set=image_set, view="global")}["n"].max()"""
    return f"""{table_rows("intrinsic", image_set=image_set, view="global")}["n"].max()"""


def _left_out_count(ctx: Context) -> Cited | str:
    n = int(_left_out_items(ctx)["n"].sum())
    frame = ctx.tables["left_out"]
    source = table("left_out", ctx.tables.chosen if "model" in frame else ())
    once = [c for c in ("image_set", "item", "image_id", "reason") if c in frame]
    code = f"""{source}["n"].sum()""" if "n" in frame else f"len({source}.drop_duplicates({once!r}))"
    return cited(f"{n:,}", code) if n else ""


def _left_out_items(ctx: Context) -> pd.DataFrame:
    """Return one row per thing left out with its count ``n``; what every model leaves out counts once."""
    frame = ctx.tables["left_out"]
    if "n" in frame:
        return frame
    item = next((c for c in ("item", "image_id") if c in frame), None)
    if item:
        frame = frame.drop_duplicates([c for c in ("image_set", item, "reason") if c in frame])
        frame = frame.drop(columns=["model"], errors="ignore")
    return frame.assign(n=1)


def _models(ctx: Context) -> Table | None:
    frame = ctx.tables["models"]
    if frame.empty:
        return None
    ctx.shared.add("models", frame)
    rows = []
    for r in frame.itertuples():
        context = f"only in {r.planted_context}" if r.planted_context else ""
        rows.append(
            Row(
                (
                    Cell(r.model), Cell(r.family), Cell(words.size(r.parameters)),
                    Cell(words.number(r.planted_rho, 2), sub=(context,) if context else ()),
                    Cell(words.number(r.role_accuracy, 2)), Cell(words.number(r.object_accuracy, 2)),
                    Cell(r.digest[:12], css="mono"),
                ),
                {"model": r.model},
            )
        )  # fmt: skip
    heads = (
        "Model",
        "Architecture",
        "Parameters",
        "Planted \u03c1",
        "Role accuracy",
        "Object accuracy",
        "Digest",
    )
    numeric = heads[2:6]
    return Table(
        id="models-table", caption="The models", bodies=(Body(tuple(rows)),), source="models",
        columns=tuple(Column(h, kind="number" if h in numeric else "text") for h in heads),
    )  # fmt: skip


def composition(card: str) -> str:
    """Return a view's composition in a line: ``gender: woman 52, man 48``; "" when the card holds none."""
    try:
        content = json.loads(card) if card else {}
    except ValueError:
        return ""
    content = content.get("composition", content) if isinstance(content, dict) else {}
    parts = []
    for name, counts in content.items() if isinstance(content, dict) else ():
        if isinstance(counts, dict) and all(isinstance(v, (int, float)) for v in counts.values()):
            top = sorted(counts.items(), key=lambda kv: (-kv[1], kv[0]))[:5]
            shares = abs(sum(counts.values()) - 1) < 1e-6
            show = words.percent if shares else words.number
            parts.append(f"{name}: " + ", ".join(f"{k} {show(float(v))}" for k, v in top if v))
    return "; ".join(parts)


def _views(ctx: Context) -> Table | None:
    frame = ctx.tables["views"]
    if frame.empty:
        return None
    frame = frame.assign(
        composition=[composition(c) for c in frame["composition" if "composition" in frame else "card"]]
    )
    ctx.shared.add("views", frame.drop(columns=["card"]))
    # A view that is the same pictures for every model is one row.
    same = ["image_set", "view", "kind", "definition", "n", "composition"]
    whose = frame.groupby(same, sort=False, dropna=False)["model"].agg(list).reset_index()
    whose = whose.sort_values(["image_set", "kind", "view"], kind="stable")
    limit, everyone = int(ctx.options.get("max_rows", 200)), frame["model"].nunique()
    rows = []
    for r in whose.head(limit).itertuples():
        owners = [m for m in r.model if m]
        whom = "all" if len(owners) in (0, everyone) else words.joined(owners, limit=2)
        tags = {"view": r.view, "image_set": r.image_set}
        if len(owners) == 1:
            tags["model"] = owners[0]
        rows.append(
            Row(
                (
                    Cell(r.view), Cell(r.image_set), Cell(r.kind), Cell(words.number(r.n, 0)), Cell(r.definition, css="prose"),
                    Cell(r.composition, css="prose"), Cell(whom),
                ),
                tags,
            )
        )  # fmt: skip
    heads = ("View", "Image set", "Kind", "Pictures", "Definition", "Who is in it", "Models")
    note = (f"{limit} of {len(whose):,} views are shown; the CSV holds all.",) if len(whose) > limit else ()
    return Table(
        id="views-table", caption="The views: which pictures each one holds", bodies=(Body(tuple(rows)),), source="views",
        columns=tuple(Column(h, kind="number" if h == "Pictures" else "text") for h in heads), notes=note, tall=True,
        folded=f"The views ({len(whose):,})",
    )  # fmt: skip


def _left_out(ctx: Context) -> Table | None:
    frame = ctx.tables["left_out"]
    if frame.empty:
        return None
    ctx.shared.add("left_out", frame)
    counted = _left_out_items(ctx)
    by = [c for c in ("image_set", "model", "kind", "reason") if c in counted]
    grouped = counted.groupby(by, dropna=False)["n"].sum().reset_index() if by else counted[["n"]]
    rows = tuple(
        Row(
            (
                *(Cell("" if pd.isna(v) else str(v)) for v in row[:-1]),
                Cell(words.number(float(row[-1]), 0)),
            )
        )
        for row in grouped.itertuples(index=False, name=None)
    )
    columns = [Column(words.capital(c.replace("_", " "))) for c in by] + [Column("Count", kind="number")]
    return Table(
        id="left-out",
        caption="What was left out, and why",
        columns=tuple(columns),
        bodies=(Body(rows),),
        source="left_out",
    )


def _prompts(ctx: Context) -> list[Words]:
    frame = ctx.tables["prompts"]
    if frame.empty or "prompt" not in frame:
        return []
    ctx.shared.add("prompts", frame)
    name = next((c for c in ("probe_set", "set", "probes") if c in frame), None)
    groups = frame.groupby(name, sort=True) if name else [("Prompts", frame)]
    blocks = []
    for title, part in groups:
        about = [
            f"{c}: {words.joined(sorted({str(v) for v in part[c] if not pd.isna(v) and str(v)}))}"
            for c in ("version", "source", "licence")
            if c in part and part[c].notna().any()
        ]
        bad = bool("offensive" in part and part["offensive"].fillna(False).astype(bool).any())
        prompts = tuple(dict.fromkeys(str(p) for p in part["prompt"]))
        blocks.append(
            Words(
                f"{title} ({words.count(len(prompts), 'prompt')})",
                " \u00b7 ".join(about),
                prompts,
                offensive=bad,
            )
        )
    return blocks
