"""Values and text from data as Markdown shows them, and the metadata that the Hugging Face hub reads."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_ZERO_SHOT = "zero-shot-image-classification"
_TASKS = {
    "vqa": "visual-question-answering",
    "captioning": "image-to-text",
}  # as the Hugging Face hub names them
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~$&])")


def escape(value: object) -> str:
    """Return text from data as Markdown that shows it as it is: no markup, no HTML, one line."""
    return (
        _SPECIAL.sub(r"\\\1", " ".join(str(value).split()))
        .replace("\\<", "&lt;")
        .replace("\\>", "&gt;")
        .replace("\\&", "&amp;")
    )


def code(value: object) -> str:
    """Return text for a code span inside of a table: nothing that ends either."""
    return " ".join(str(value).split()).replace("`", "'").replace("|", "\\|").replace("<", "‹")


def title_of(metric: object, fact: dict[str, Any]) -> str:
    """Return a metric's title, else its name."""
    return str(fact.get("title") or metric).rstrip(".")


def number(value: Any) -> str:
    """Return a number with three decimals, empty where there is none."""
    if value is None or value != value:
        return ""
    value = float(value)
    return f"{value:.3f}" if math.isfinite(value) else ("∞" if value > 0 else "−∞")


def interval(row: dict[Any, Any]) -> str:
    """Return a row's interval, its brackets escaped, or the word none."""
    low, high = number(row["ci_low"]), number(row["ci_high"])
    return rf"\[{low}, {high}\]" if low and high else "none"


def front_matter(model: str, whole: pd.DataFrame, facts: dict[str, dict[str, Any]]) -> str:
    """Return YAML metadata with the values over all images."""
    from huggingface_hub import EvalResult, ModelCardData

    results = []
    for row in whole[whole["status"] == "ok"].to_dict("records"):
        value = float(row["value"])
        if not math.isfinite(value):
            continue  # the hub takes numbers only
        # The hub merges results of one task and data set, so what tells them apart is in the metric's name.
        key = ("attribute", "group", "head", "mode", "intervention", "seed")
        about = ", ".join(f"{k} {row[k]}" for k in key if row[k])
        title = title_of(row["metric"], facts.get(str(row["metric"]), {}))
        results.append(
            EvalResult(
                task_type=_TASKS.get(str(row["task"]), _ZERO_SHOT), dataset_type=f"clipbias/{row['image_set']}",
                dataset_name=str(row["image_set"]), metric_type=str(row["metric"]), metric_value=round(value, 6),
                metric_name=f"{title} ({about})" if about else title,
            )
        )  # fmt: skip
    if not results:
        return "---\ntags:\n- bias\n---\n"
    data = ModelCardData(model_name=model, eval_results=results, tags=["bias"])
    return f"---\n{data.to_yaml()}\n---\n"
