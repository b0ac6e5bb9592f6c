"""Who is in a view: what must be known before its numbers are read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from clipbias.data.imageset import UNKNOWN, ImageSet
from clipbias.views.view import View


def slice_card(view: View, image_set: ImageSet) -> dict:
    """Describe a view's size and composition.

    Returns
    -------
    dict
        ``view, kind, definition, n``; ``share`` of the whole set; ``composition``: for each attribute and
        context the share of every declared level (absent ones are 0), summing to 1; ``effective_groups``:
        for each attribute exp of the entropy of those shares (1: one level only, up to the number of
        levels: all equal); ``unknown``: images of unknown level per attribute.
    """
    if len(view.mask) != len(image_set):
        raise ValueError(
            f"view {view.name!r} is over {len(view.mask)} images, {image_set.name!r} has {len(image_set)}"
        )
    composition, effective, unknown = {}, {}, {}
    for column in (*image_set.attributes, *image_set.contexts):
        labels = image_set.column(column)
        codes = labels.codes[view.mask]
        counts = dict.fromkeys(map(str, labels.categories), 0)
        counts.update(
            zip(counts, np.bincount(codes[codes >= 0], minlength=len(counts)).tolist(), strict=True)
        )
        if (codes < 0).any():  # a missing label is an unknown one, not one image fewer
            counts[UNKNOWN] = counts.get(UNKNOWN, 0) + int((codes < 0).sum())
        composition[column] = {level: count / view.size for level, count in counts.items()}
        if column in image_set.attributes:
            effective[column] = effective_number(np.array(list(counts.values())))
            unknown[column] = counts.get(UNKNOWN, 0)
    return {
        "view": view.name, "kind": view.kind, "definition": view.definition, "n": view.size,
        "share": view.size / len(view.mask), "composition": composition, "effective_groups": effective,
        "unknown": unknown,
    }  # fmt: skip


def nearest_words(
    view: View, values: np.ndarray, names: Sequence[str], texts: np.ndarray, *, number: int = 5
) -> list[str]:
    """Return the words that set a view apart: their texts lie closest to where its mean departs from that of all images.

    Parameters
    ----------
    view : View
    values : ndarray (n, d)
        L2-normalised image embeddings.
    names : sequence of str
    texts : ndarray (m, d)
        Text embeddings of the names, L2-normalised.
    number : int

    Returns
    -------
    list of str
        Closest first; empty for the view of all images, which departs nowhere.
    """
    away = values[view.mask].mean(0) - values.mean(0)
    if np.linalg.norm(away) <= 1e-9:
        return []
    order = np.argsort(-(texts - texts.mean(0)) @ away, kind="stable")
    return [str(names[i]) for i in order[:number]]


def typical(view: View, values: np.ndarray, *, number: int = 3) -> np.ndarray:
    """Return the rows of the images closest (cosine) to a view's mean embedding, closest first."""
    rows = view.rows
    order = np.argsort(-values[rows] @ values[rows].mean(0), kind="stable")
    return rows[order[:number]]


def slice_cards(
    views: Iterable[View],
    image_set: ImageSet,
    *,
    model: str = "",
    values: np.ndarray | None = None,
    names: Sequence[str] = (),
    texts: np.ndarray | None = None,
) -> pd.DataFrame:
    """Return one row per view for the run folder's table ``views``.

    With embeddings of the images (``values``) a card holds typical pictures (ids of those closest to the view's mean), and
    with texts the words that set the view apart; both are JSON lists.

    ``composition``, ``effective_groups`` and ``unknown`` are JSON, as their keys differ between image sets.
    ``model`` is the model whose space made the view; empty when the view does not depend on one.
    """
    rows = []
    for view in views:
        card = slice_card(view, image_set)
        for name in ("composition", "effective_groups", "unknown"):
            card[name] = json.dumps(card[name])
        words = [] if values is None or texts is None else nearest_words(view, values, names, texts)
        examples = [] if values is None else [image_set.ids[i] for i in typical(view, values)]
        card |= {"words": json.dumps(words), "examples": json.dumps(examples)}
        rows.append({"model": model, "image_set": image_set.name, **card})
    columns = [
        "model",
        "image_set",
        "view",
        "kind",
        "definition",
        "n",
        "share",
        "composition",
        "effective_groups",
    ]
    return pd.DataFrame(rows, columns=[*columns, "unknown", "words", "examples"])


def effective_number(shares: np.ndarray) -> float:
    """Return exp of the Shannon entropy of shares: the number of equally large groups with the same entropy.

    Range 1 to the number of shares above zero; 0 for all-zero shares.
    """
    shares = np.asarray(shares, float)
    present = shares[shares > 0]
    if present.size == 0:
        return 0.0
    present = present / present.sum()
    return float(np.exp(-(present * np.log(present)).sum()))
