"""Do the spaces converge: similarity of models before and after, per layer, with the controls beside it."""

from __future__ import annotations

from typing import Any

import pandas as pd

from clipbias.reports import forms, words
from clipbias.reports.blocks import Content, Figure, Grid
from clipbias.reports.sections import Context, section
from clipbias.reports.sections.transfer import verdict_facts, verdict_table
from clipbias.reports.tabular import Show, table

STATES = ("pre", "post", "untrained", "second_seed")
_CALLED = {"pre": "before", "post": "after", "untrained": "untrained control", "second_seed": "second seed"}


@section("convergence")
def convergence(ctx: Context) -> Content | None:
    """Return the change per layer, heat maps before and after, and the table of all measures."""
    frame, told = ctx.tables["convergence"], verdict_facts(ctx, "convergence")
    if frame.empty and not told:
        return None
    measure = str(ctx.options.get("measure", "cka_debiased"))
    blocks: list[Any] = [verdict_table(ctx, ("convergence",), id="convergence-verdicts")]
    if len(frame):
        frame = _shaped(ctx, frame, measure)
        blocks += [_changes(ctx, frame, measure), *_maps(ctx, measure), _table(ctx, frame)]
    kept = [v for v in told if not (v["ok"] and "the same, as in a frozen layer" in v["reason"])]
    facts = {"verdicts": told, "moving": kept, "same": len(told) - len(kept)}
    return Content(facts, tuple(b for b in blocks if b is not None))


def _shaped(ctx: Context, frame: pd.DataFrame, measure: str) -> pd.DataFrame:
    missing = pd.Series(float("nan"), index=frame.index)
    frame = frame.assign(
        row=frame["layer"], value=frame.get("delta", missing), low=frame.get("ci_low", missing), high=frame.get("ci_high", missing),
        control=frame.get("untrained_delta", missing), n=frame.get("models", missing), state=frame.get("verdict", missing),
        headline=(frame["measure"] == measure) & ~frame["standardized"].astype(bool),
    )  # fmt: skip
    if "study" not in frame:
        frame["study"] = ""
    ctx.shared.add("convergence", frame)
    return ctx.shared.frames["convergence"]


def _changes(ctx: Context, frame: pd.DataFrame, measure: str) -> Grid | None:
    figures: list[Figure] = []
    own = frame[frame["headline"] & frame["value"].notna()]
    if own.empty:
        return None
    # Frozen layers are the same before and after: their change of exactly zero is in the table.
    shown = own.assign(x=own["value"])
    ctx.shared.add("changes", shown)
    bound = float(own["bound"].dropna().iloc[0]) if "bound" in own and own["bound"].notna().any() else 0.05
    longest = max(len(str(v)) for v in own["layer"])
    spec = forms.changes(
        ctx.theme, x=f"change of mean {_name(measure)}", bound=bound, label_width=min(150, 18 + 6 * longest)
    )
    for study, part in own.groupby("study", sort=True):
        top = part.loc[part["value"].abs().idxmax()]
        figures.append(
            ctx.draw(
                spec, id=f"change-{len(figures)}", title=words.adaptation(str(study)) or "All models", note=f"{words.number(float(part['n'].max()), 0)} models",
                finding=(
                    f"{words.adaptation(str(study))}: the largest change of mean {_name(measure)} is {words.number(top['value'], 3, sign=True)} "
                    f"{words.interval(top['low'], top['high'], 3)} in layer {top['layer']}."
                ),
                source="changes", where={"study": str(study)}, wide=True,
            )
        )  # fmt: skip
    c = ctx.theme.light
    legend = (
        ("change with its interval", "circle", c["s1"]),
        ("untrained control", "open-triangle", c["s2"]),
        (f"\u00b1{bound:g}: counts as none", "band", c["band"]),
    )
    return Grid(tuple(figures), heading="Change of similarity per layer", legend=legend)


def _maps(ctx: Context, measure: str) -> list[Grid]:
    """Return one grid per adaptation and layer: the models' similarity in each state, side by side."""
    pairs = ctx.tables["similarity"]
    if pairs.empty or "measure" not in pairs:
        return []
    pairs = pairs[(pairs["measure"] == measure) & ~pairs["standardized"].astype(bool)]
    pairs = pairs[(pairs["layer_a"] == pairs["layer_b"]) & (pairs["state_a"] == pairs["state_b"])]
    if pairs.empty:
        return []
    columns = ["study", "layer_a", "state_a", "model_a", "model_b", "value", "ci_low", "ci_high", "n"]
    one = pairs.assign(study=pairs.get("study", ""))[columns]
    other = one.rename(columns={"model_a": "model_b", "model_b": "model_a"})
    # The diagonal holds no pair; its empty cells keep rows and columns in one order.
    same = one.assign(model_b=one["model_a"], value=float("nan"), ci_low=float("nan"), ci_high=float("nan"))
    last = other.assign(
        model_b=other["model_a"], value=float("nan"), ci_low=float("nan"), ci_high=float("nan")
    )
    diagonal = pd.concat([same, last[columns]]).drop_duplicates(["study", "layer_a", "state_a", "model_a"])
    both = pd.concat([one, other[columns], diagonal], ignore_index=True)
    both = both.rename(
        columns={"layer_a": "layer", "state_a": "state_of", "model_a": "row", "model_b": "column", "ci_low": "low", "ci_high": "high"}
    ).sort_values(["study", "layer", "state_of", "row", "column"], kind="stable")  # fmt: skip
    both = both.assign(mark="", state="", model=both["row"])
    ctx.shared.add("similarity", both)
    layers = list(dict.fromkeys(zip(both["study"], both["layer"], strict=True)))
    changed = ctx.shared.frames["changes"] if "changes" in ctx.shared.frames else pd.DataFrame()
    if len(changed):  # the layers that moved most come first; frozen ones did not move at all
        size = {
            (s, n): abs(v)
            for s, n, v in zip(changed["study"], changed["layer"], changed["value"], strict=True)
        }
        layers.sort(key=lambda key: -size.get(key, 0.0))
    count = both["row"].nunique()
    limit = int(ctx.options.get("max_layers", 6)) if count <= 20 else 2
    grids = []
    for place, (study, layer) in enumerate(layers[:limit]):
        part = both[(both["study"] == study) & (both["layer"] == layer)]
        cells = part["row"].nunique()
        spec = forms.matrix(
            ctx.theme, what=_name(measure), diverging=False, cells=cells, label_width=110, order="ascending"
        )
        figures: list[Figure] = []
        for state in (s for s in STATES if s in set(part["state_of"])):
            own = part[part["state_of"] == state]
            if own["row"].nunique() < 3:  # a map of one pair says no more than its number in the table
                continue
            mean = float(own["value"].mean())
            figures.append(
                ctx.draw(
                    spec, id=f"map-{place}-{len(figures)}", title=words.capital(_CALLED[state]), note=f"mean {words.number(mean, 2)}",
                    finding=f"{words.adaptation(str(study))}, layer {layer}, {_CALLED[state]}: mean {_name(measure)} of two models {words.number(mean, 2)}.",
                    source="similarity", where={"study": str(study), "layer": str(layer), "state_of": state}, highlight=("model",),
                    wide=cells > 8,
                )
            )  # fmt: skip
        heading = f"Layer {layer}" + (f" \u00b7 {words.adaptation(str(study))}" if study else "")
        grids.append(Grid(tuple(figures), heading=heading, folded=place > 0))
    return grids


def _table(ctx: Context, frame: pd.DataFrame):
    shows = [
        Show("study", "Adaptation", say=words.adaptation), Show("layer", "Layer"), Show("measure", "Measure", say=_name), Show("standardized", "Standardised", say=lambda v: "yes" if v else "no"),
        Show("before", "Before", "number", decimals=3), Show("after", "After", "number", decimals=3),
        Show("value", "Change", "number", ("low", "high"), decimals=3), Show("p", "p", "p"), Show("p_max", "p over layers", "p"),
        Show("control", "Untrained", "number", decimals=3), Show("ceiling", "Two seeds", "number", decimals=3),
        Show("rank_before", "Rank before", "number", decimals=1), Show("rank_after", "Rank after", "number", decimals=1),
        Show("state", "Verdict"), Show("missing_controls", "Controls missing", "prose"),
    ]  # fmt: skip
    ranked = frame.sort_values(["headline"], ascending=False, kind="stable")
    return table(
        ranked, shows, id="convergence-table", caption="Every layer and measure, with its controls", source="convergence",
        folded=f"All layers and measures ({len(frame):,})", tall=True,
    )  # fmt: skip


def _name(measure: str) -> str:
    known = {
        "cka_debiased": "CKA (debiased)",
        "cka_biased": "CKA (biased)",
        "mutual_knn": "mutual kNN",
        "rsa_spearman": "RSA (Spearman)",
    }
    return known.get(measure, measure.replace("_", " "))
