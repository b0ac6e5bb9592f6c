"""The embedded world: scenes with planted bias and exact counterfactual twins.

A scene is a row of factors; its picture, captions and questions are pure functions of that row. Twins
share every factor and every random number except the flipped attribute, so they differ in nothing else.
What exists in the world stands in ``probes/world/world.toml``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, model_validator

from clipbias.data.imageset import ImageSet
from clipbias.errors import DataError, nearest
from clipbias.probes import art
from clipbias.probes.scenery import LEVELS, definition, render

__all__ = [
    "LEVELS", "World", "captions", "definition", "image_set", "questions", "render", "scenes", "strength", "ties", "with_article",
    "with_attribute",
]  # fmt: skip


class World(BaseModel):
    """The knobs of one sample of the world.

    Attributes
    ----------
    n : int
        Scenes drawn (``crossed=0``), ignored when the factors are crossed.
    seed : int
    attribute : {"gender", "tone"}
        Which perceived attribute is tied.
    target : {"role", "object"}
        What it is tied to. Objects take the ties of the roles in alphabetical order.
    rho : float or None
        Probability of the tied attribute level given the target; None plants nothing
        (1/2 for gender, 1/5 for tone).
    rho_in : mapping of context to float
        Overrides ``rho`` inside a context, so that a bias can be planted locally.
    styles : tuple of str
    size : int
        Pixels.
    noise : float
        Standard deviation of the pixel noise, grey levels of 255.
    plain : float
        Share of scenes whose person is drawn as a plain one of the same gender and tone: nothing shows the role, so a model
        that has learned the ties falls back on them.
    mixed : float
        Share of scenes whose person is drawn as a mixture of two pictures of the same gender and tone: the role, of which a share
        drawn from (1/2, 1) can be seen, and a role tied to another level. The role that shows more is the true one, so what a
        model says tells how far the attribute moves the point at which it takes the one role for the other.
    bystanders : float
        Share of scenes with a second person of random attributes.
    crossed : int
        > 0: no drawing of factors; role x gender x tone x context x style fully crossed, this many
        scenes per cell, objects and layout drawn per twin group.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int = Field(default=1000, ge=1)
    seed: int = Field(default=0, ge=0)
    attribute: Literal["gender", "tone"] = "gender"
    target: Literal["role", "object"] = "role"
    rho: float | None = Field(default=None, ge=0, le=1)
    rho_in: dict[str, float] = Field(default_factory=dict)
    styles: tuple[str, ...] = ("twemoji", "noto")
    size: int = Field(default=64, ge=16, le=1024)
    noise: float = Field(default=10.0, ge=0)
    plain: float = Field(default=0.0, ge=0, le=1)
    mixed: float = Field(default=0.0, ge=0, le=1)
    bystanders: float = Field(default=0.0, ge=0, le=1)
    crossed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _known(self) -> World:
        for style in self.styles:
            if style not in art.STYLES:
                raise DataError(f"the world has no style {style!r}." + nearest(style, art.STYLES))
        if self.plain + self.mixed > 1:
            raise DataError(
                f"plain ({self.plain:g}) and mixed ({self.mixed:g}) are shares of the same scenes; together at most 1."
            )
        for context, rho in self.rho_in.items():
            if context not in definition()["contexts"]:
                raise DataError(
                    f"the world has no context {context!r}." + nearest(context, definition()["contexts"])
                )
            if not 0 <= rho <= 1:
                raise DataError(f"rho_in[{context!r}] is {rho}; a probability lies in [0, 1].")
        return self

    @property
    def neutral(self) -> float:
        """The rho at which nothing is planted."""
        return 1 / len(LEVELS[self.attribute])


def ties(attribute: str, target: str = "role") -> dict[str, str]:
    """Return the attribute level that planting ties to each role or object."""
    world = definition()
    levels = [tie[attribute] for tie in world["roles"].values()]
    names = list(world["roles"]) if target == "role" else sorted(world["objects"])
    return dict(zip(names, levels, strict=False))


def scenes(world: World) -> pd.DataFrame:
    """Draw the factors of a sample.

    Returns
    -------
    pandas.DataFrame
        One row per scene: ``image_id, scene`` (shared by twins), ``twin`` (the id of the gender twin, empty when it
        is not in the sample), the factors ``style, role, gender, tone, object, context, people, plain`` (the person
        shows no sign of the role), ``other`` (the role mixed in, empty for none), ``share`` (of the role, in [0, 1]),
        ``evidence`` (of the role: ``whole``, ``mixed`` or ``none``) and
        ``planted`` (the probability with which this row's attribute level was drawn from the tie).
    """
    known = definition()
    rng = np.random.default_rng([world.seed, 1])
    if world.crossed:
        cells: list[Iterable] = [
            np.arange(world.crossed),
            list(known["roles"]),
            list(known["contexts"]),
            list(world.styles),
        ]
        base = pd.DataFrame(list(product(*cells)), columns=["repeat", "role", "context", "style"])
        base["object"] = rng.choice(list(known["objects"]), len(base))
        twins = pd.DataFrame(list(product(LEVELS["gender"], LEVELS["tone"])), columns=["gender", "tone"])
        base["scene"] = np.arange(len(base))
        frame = base.merge(twins, how="cross").drop(columns="repeat")
        frame["planted"] = 1 / frame.groupby("scene")["scene"].transform("size")
    else:
        frame = pd.DataFrame({"scene": np.arange(world.n)})
        for name, levels in (
            ("role", known["roles"]),
            ("context", known["contexts"]),
            ("object", known["objects"]),
        ):
            frame[name] = rng.choice(list(levels), world.n)
        frame["style"] = rng.choice(list(world.styles), world.n)
        for name, levels in LEVELS.items():
            frame[name] = rng.choice(list(levels), world.n)
        frame[world.attribute], frame["planted"] = _plant(world, frame, rng)
    each = frame["scene"].max() + 1
    crowd = np.random.default_rng([world.seed, 2]).random(each) < world.bystanders
    frame["people"] = 1 + crowd[frame["scene"]]
    kind = np.random.default_rng([world.seed, 5]).random(each)
    frame["plain"] = (kind < world.plain)[frame["scene"]]
    frame["other"], frame["share"] = _mix(world, frame, kind >= 1 - world.mixed)
    frame["evidence"] = np.where(frame["plain"], "none", np.where(frame["other"] != "", "mixed", "whole"))
    suffix = frame["gender"] + "-" + frame["tone"]
    frame["image_id"] = [
        f"w{world.seed}-{scene:06d}-{rest}" for scene, rest in zip(frame["scene"], suffix, strict=True)
    ]
    flipped = frame["gender"].map({"woman": "man", "man": "woman"}) + "-" + frame["tone"]
    twin = [f"w{world.seed}-{scene:06d}-{rest}" for scene, rest in zip(frame["scene"], flipped, strict=True)]
    frame["twin"] = np.where(np.isin(twin, frame["image_id"]), twin, "")
    for name, levels in LEVELS.items():
        frame[name] = pd.Categorical(frame[name], list(levels))
    for name, levels in (
        ("style", world.styles),
        ("role", known["roles"]),
        ("context", known["contexts"]),
        ("object", known["objects"]),
    ):
        frame[name] = pd.Categorical(frame[name], list(levels))
    columns = [
        "image_id",
        "scene",
        "twin",
        "style",
        "role",
        "gender",
        "tone",
        "object",
        "context",
        "people",
        "plain",
        "other",
        "share",
        "evidence",
        "planted",
    ]
    return frame[columns]


def _plant(world: World, frame: pd.DataFrame, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw the tied attribute: the tied level with probability rho, the others share the rest."""
    levels = np.array(LEVELS[world.attribute])
    base = world.neutral if world.rho is None else world.rho
    rho = frame["context"].map(world.rho_in).astype(float).fillna(base).to_numpy()
    tied = frame[world.target].map(ties(world.attribute, world.target)).to_numpy()
    position = np.searchsorted(np.sort(levels), tied)
    position = np.argsort(levels)[position]
    other = (position + rng.integers(1, len(levels), len(frame))) % len(levels)
    keep = rng.random(len(frame)) < rho
    return levels[np.where(keep, position, other)], rho


def _mix(world: World, frame: pd.DataFrame, mixed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each row's second role, tied to another level than the first, and the share of the first; twins have the same."""
    tied = ties(world.attribute)
    spots = np.random.default_rng([world.seed, 6]).random((len(mixed), 2))[frame["scene"]]
    others = {role: [o for o in tied if tied[o] != tied[role]] for role in tied}
    chosen = [
        others[role][int(spot * len(others[role]))]
        for role, spot in zip(frame["role"], spots[:, 0], strict=True)
    ]
    own = mixed[frame["scene"]]
    share = np.where(own, 0.5 + spots[:, 1] / 2, np.where(frame["plain"], 0.0, 1.0))
    return np.where(own, np.array(chosen, dtype=object), ""), share


def with_attribute(frame: pd.DataFrame, attribute: str, level: str) -> pd.DataFrame:
    """Return the same scenes with one attribute set to a level: the exact counterfactual sample."""
    if level not in LEVELS.get(attribute, ()):
        raise DataError(
            f"attribute {attribute!r} has no level {level!r}." + nearest(level, LEVELS.get(attribute, LEVELS))
        )
    changed = frame.copy()
    changed[attribute] = pd.Categorical([level] * len(frame), list(LEVELS[attribute]))
    return changed


def captions(frame: pd.DataFrame) -> pd.DataFrame:
    """Return every caption of each scene.

    Returns
    -------
    pandas.DataFrame
        Columns ``neutral0..``, ``gendered0..``, ``toned0..``, ``short0..``; neutral ones never name an attribute.
    """
    known = definition()
    words = {name: frame[name].astype(str) for name in ("role", "object", "context")}
    for name, level_words in known["attributes"].items():
        words[name] = frame[name].astype(str).map({str(k): v for k, v in level_words.items()})
    words["place"] = words["context"].map(known["places"])
    for name in ("role", "object"):
        words[f"a_{name}"] = words[name].map(with_article)
    records = pd.DataFrame(words).to_dict("records")
    return pd.DataFrame(
        {
            f"{kind}{i}": [template.format_map(r) for r in records]
            for kind, templates in known["captions"].items()
            for i, template in enumerate(templates)
        },
        index=frame.index,
    )


def with_article(noun: str) -> str:
    """Return a noun with its indefinite article."""
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def questions(frame: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Return question-answer triples drawn from the factors, yes and no equally often.

    Returns
    -------
    pandas.DataFrame
        ``question_id, image_id, question, answer, answer_type``.
    """
    known = definition()
    rng = np.random.default_rng([seed, 4])
    pools = {"role": np.array(list(known["roles"])), "object": np.array(list(known["objects"]))}
    rows = []
    for scene in frame.itertuples(index=False):
        words: dict[str, object] = {
            name: getattr(scene, name) for name in ("role", "object", "context", "gender", "people")
        }
        for name, pool in pools.items():
            truth = getattr(scene, name)
            yes = rng.random() < 0.5
            words[f"some_{name}"] = truth if yes else rng.choice(pool[pool != truth])
            words[f"a_some_{name}"] = with_article(str(words[f"some_{name}"]))
            words[f"is_{name}"] = "yes" if yes else "no"
        for number, question in enumerate(known["questions"]):
            rows.append(
                (
                    scene.image_id,
                    number,
                    question["text"].format_map(words),
                    question["answer"].format_map(words),
                    question["type"],
                )
            )
    table = pd.DataFrame(rows, columns=["image_id", "kind", "question", "answer", "answer_type"])
    table.insert(0, "question_id", np.arange(len(table)))
    return table.drop(columns="kind")


def image_set(world: World, *, name: str = "world") -> ImageSet:
    """Return a sample as an image set with captions, questions and its ground truth.

    Pictures are drawn when they are first read and kept.
    """
    frame = scenes(world)
    texts = captions(frame)
    table = frame.assign(
        caption=texts["neutral0"],
        caption_full=texts["gendered0"],
        captions=pd.Series(
            texts.drop(columns=[c for c in texts if str(c).startswith("short")]).to_numpy().tolist(),
            frame.index,
        ),
    )
    drawn: dict[int, bytes] = {}

    def read(rows: Sequence[int]) -> list[bytes]:
        missing = [r for r in dict.fromkeys(rows) if r not in drawn]
        if missing:
            for r, picture in zip(missing, render(frame.iloc[missing], world), strict=True):
                drawn[r] = art.encode_png(picture)
        return [drawn[r] for r in rows]

    return ImageSet(
        name, table, ("gender", "tone"), read, ("context", "style", "role", "object"),
        questions(frame, seed=world.seed),
        licence=" AND ".join(sorted({art.LICENCES[s] for s in world.styles})),
        source="clipbias world " + definition()["version"],
        facts={"world": world.model_dump(), "ties": ties(world.attribute, world.target)},
    )  # fmt: skip


def strength(world: World | Mapping[str, object]) -> float:
    """Return the planted strength over all contexts: mean rho minus the neutral value, in [0, 1) for a positive tie."""
    world = world if isinstance(world, World) else World.model_validate(world)
    base = world.neutral if world.rho is None else world.rho
    return float(np.mean([world.rho_in.get(c, base) for c in definition()["contexts"]]) - world.neutral)
