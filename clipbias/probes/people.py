"""Emoji people: one person per picture, role x gender x skin tone fully crossed, in independent styles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from platformdirs import user_cache_path

from clipbias.data.imageset import ImageSet
from clipbias.errors import DataError, nearest
from clipbias.probes import art

# A difference between two genders' pictures smaller than this (mean absolute grey level at 64 px, median over
# tones) cannot be seen reliably: hats and helmets hide what the label says.
VISIBLE = 3.0
DEFAULT_STYLES = ("twemoji", "noto", "fluent")


def emoji_people(
    *,
    styles: Sequence[str] = DEFAULT_STYLES,
    size: int = 224,
    roles: Sequence[str] | None = None,
    genders: Sequence[str] = ("woman", "man"),
    tones: Sequence[int] = (1, 2, 3, 4, 5),
    visible: float = VISIBLE,
) -> ImageSet:
    """Return the emoji people as an image set.

    Parameters
    ----------
    styles : sequence of {"twemoji", "noto", "fluent", "openmoji"}
        OpenMoji is ShareAlike: pictures made from it must be released under CC-BY-SA-4.0.
    size : int
        Pixels.
    roles : sequence of str, optional
        CLDR roles such as ``"judge"``; all 82 by default.
    genders : sequence of {"woman", "man", "person"}
        "person" encodes no gender; in some styles it is drawn exactly like "man".
    tones : sequence of int
        Fitzpatrick tone 1 (type I-II) to 5 (VI); 0 is the unmarked yellow.
    visible : float
        Roles in which any two of ``genders`` differ by less than this in a style are left out of that style and
        listed in ``left_out``.

    Returns
    -------
    ImageSet
        Attributes ``gender`` and ``tone``; contexts ``style``, ``role``, ``subgroup``; ``twin`` is the same picture
        with the other gender; ``caption`` names the role only.

    Raises
    ------
    DataError
        Unknown style, role, gender or tone, or nothing left.
    """
    people = art.table("people")
    _check("role", roles or (), people["role"])
    _check("gender", genders, people["gender"])
    _check("tone", tones, people["tone"])
    for style in styles:
        art.load_art(style)
    people = people[people["gender"].isin(genders) & people["tone"].isin(tones)]
    if roles is not None:
        people = people[people["role"].isin(roles)]
    seen = art.table("visibility").set_index(["style", "role"])
    pairs = [p for p in ("woman_man", "man_person", "woman_person") if set(p.split("_")) <= set(genders)]
    kept, left_out = [], []
    for style in styles:
        gaps = (
            seen.loc[style].reindex(people["role"].unique())[pairs].apply(pd.to_numeric)
            if pairs
            else pd.DataFrame()
        )
        for role in people["role"].unique():
            gap = gaps.loc[role] if pairs else pd.Series(dtype=float)
            hidden = gap[~(gap >= visible)]
            if len(hidden):
                pair, value = hidden.index[0].replace("_", " and "), hidden.iloc[0]
                reason = (
                    f"{style} lacks this role"
                    if np.isnan(value)
                    else f"{pair} differ by {value:g} of 255 in {style}, below {visible:g}"
                )
                left_out.append({"item": f"{style}/{role}", "reason": reason})
        bad = {entry["item"].split("/", 1)[1] for entry in left_out if entry["item"].startswith(f"{style}/")}
        part = people[~people["role"].isin(bad) & people["hexcode"].isin(art.load_art(style).svg)]
        kept.append(part.assign(style=style))
    table = pd.concat(kept, ignore_index=True)
    if table.empty:
        raise DataError(
            "no emoji person is left: every role asked for is below the visibility threshold in every style."
        )
    table["image_id"] = table["style"] + "-" + table["hexcode"]
    cell = table.set_index(["style", "role", "gender", "tone"])["image_id"].to_dict()
    other = {"woman": "man", "man": "woman"}
    table["twin"] = [
        cell.get((r.style, r.role, other.get(str(r.gender), ""), r.tone), "")
        for r in table.itertuples(index=False)
    ]
    table["scene"] = table.groupby(["style", "role"], sort=False).ngroup()
    table["caption"] = table["role"].str.replace(r" \(facing right\)", "", regex=True)
    table["tone"] = pd.Categorical(table["tone"].astype(str), [str(t) for t in tones])
    table["gender"] = pd.Categorical(table["gender"], list(genders))
    for name in ("style", "role", "subgroup"):
        table[name] = pd.Categorical(table[name], table[name].unique())
    codes, drawn = table[["style", "hexcode"]].astype(str).to_numpy(), {}

    def read(rows: Sequence[int]) -> list[bytes]:
        for row in rows:
            if row not in drawn:
                style, hexcode = codes[row]
                drawn[row] = picture(style, hexcode, size)
        return [drawn[row] for row in rows]

    return ImageSet(
        "emoji-people", table, ("gender", "tone"), read, ("style", "role", "subgroup"),
        left_out=pd.DataFrame(left_out, columns=["item", "reason"]),
        licence=" AND ".join(sorted({art.LICENCES[s] for s in styles})),
        source="Emoji art packed from npm packages; see probes/emoji/card.md",
        facts={"visible": visible, "size": size},
    )  # fmt: skip


def picture(style: str, hexcode: str, size: int) -> bytes:
    """Return one picture on white as PNG, rendered once per machine and kept in the user's cache."""
    path = _cache() / "emoji" / style / str(size) / f"{hexcode}.png"
    if path.exists():
        return path.read_bytes()
    data = art.encode_png(art.pixels(art.load_art(style).svg[hexcode], size))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{id(data)}.part")
    part.write_bytes(data)
    part.replace(path)
    return data


def _cache() -> Path:
    import os

    folder = os.environ.get("CLIPBIAS_CACHE")
    return Path(folder) if folder else user_cache_path("clipbias")


def _check(kind: str, asked: Sequence, known: pd.Series) -> None:
    for value in asked:
        if value not in set(known):
            raise DataError(
                f"emoji people have no {kind} {value!r}."
                + nearest(str(value), (str(k) for k in known.unique()))
            )
