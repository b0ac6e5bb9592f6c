"""The tables a command prints: models x metrics in short, and the proof on planted truth."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from clipbias.metrics.record import get


def proof(table: pd.DataFrame) -> pd.DataFrame:
    """Return the validity table as text: what was planted, what was found, against the bound declared before."""
    records = []
    for row in table.itertuples(index=False):
        number = {name: "" if pd.isna(getattr(row, name)) else f"{getattr(row, name):.3f}" for name in
                  ("spearman", "ci_low", "ci_high", "spearman_unsigned", "bound", "false_positive_rate")}  # fmt: skip
        between = f" [{number['ci_low']}, {number['ci_high']}]" if number["ci_low"] else ""
        records.append(
            {"metric": row.metric, "Spearman with planted strength": number["spearman"] + between,
             "without direction": number["spearman_unsigned"], "bound": number["bound"],
             "false positives at 5 %": number["false_positive_rate"], "models": str(row.n_models),
             "verdict": f"{row.verdict}. {row.reason}".removesuffix(". ")}
        )  # fmt: skip
    return pd.DataFrame(records)


def overview(intrinsic: pd.DataFrame, models: Sequence[str]) -> dict[tuple[str, str], pd.DataFrame]:
    """Return a table of models x metrics per image set and attribute, as text with intervals."""
    rows = intrinsic[
        (intrinsic["view"] == "global")
        & (intrinsic["stage"] == "pre")
        & intrinsic["model"].isin(list(models))
    ]
    tables = {}
    for key, part in rows.groupby(["image_set", "attribute"], sort=False):
        whole = part[(part["probe"] == "") & ~part["metric"].map(lambda name: get(name).per_group)]
        worst = part[(part["probe"] != "") & (part["group"] != "")]
        texts = {}
        for metric in whole["metric"].unique():
            groups = worst[worst["metric"] == metric].groupby("model", sort=False)["group"]
            often = groups.agg(lambda g: g.value_counts().index[0])
            mine = whole[whole["metric"] == metric].drop_duplicates("model").set_index("model")
            texts[metric] = {m: _cell(row, row["group"] or often.get(m, "")) for m, row in mine.iterrows()}
        if texts:
            table = pd.DataFrame(texts).reindex([m for m in models if m in set(part["model"])]).fillna("")
            tables[key] = table.rename_axis("model").reset_index()
    return tables


def _cell(row: pd.Series, group: str) -> str:
    if row["status"] != "ok":
        return str(row["status"])
    return f"{row['value']:.3f} [{row['ci_low']:.3f}, {row['ci_high']:.3f}] {group}".strip()
