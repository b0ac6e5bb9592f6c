"""What a probe set is: words x templates -> the prompts put to a model."""

from __future__ import annotations

import hashlib
import json
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from clipbias.errors import DataError, nearest
from clipbias.probes.articles import article

_RESERVED = ("item", "concept", "a", "A")
_SIDES = ("X", "Y", "A", "B")


@dataclass(frozen=True, eq=False)
class ProbeSet:
    """Items in templates, with the concept each belongs to.

    Attributes
    ----------
    name, version : str
    templates : tuple of str
        Each holds ``{item}``; it may hold ``{a}`` or ``{A}`` (the indefinite article that fits the item)
        and any other column of ``items`` in braces.
    items : pandas.DataFrame
        Columns ``item``, ``concept`` and any others, all strings. A column ``article`` overrides the
        article that the spelling suggests.
    kind : {"concepts", "groups"}
        ``"groups"``: the concepts are the levels of ``attribute``; zero-shot classification of it.
    attribute : str
        The image attribute that the concepts name; empty for concepts that are no attribute.
    groups : mapping of str to tuple of str
        Named bundles of concepts.
    tests : mapping of str to mapping of {"X", "Y", "A", "B"} to str
        Association tests: the concepts that are the two targets (X, Y) and the two attributes (A, B).
    licence, source, title : str
    offensive : bool
        The words hurt; reports hide them unless asked.
    suited_for, not_for, card : str
        What the set is for, what it is not for, and its card (Markdown).
    origin : str
        Where it was found.
    """

    name: str
    version: str
    templates: tuple[str, ...]
    items: pd.DataFrame
    kind: str = "concepts"
    attribute: str = ""
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    title: str = ""
    licence: str = "not stated"
    source: str = ""
    offensive: bool = False
    suited_for: str = ""
    not_for: str = ""
    card: str = ""
    origin: str = "registered"
    tests: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        where = f"probe set {self.name!r}"
        object.__setattr__(self, "templates", tuple(self.templates))
        items = self.items.reset_index(drop=True).copy()
        object.__setattr__(self, "items", items)
        object.__setattr__(self, "groups", {name: tuple(members) for name, members in self.groups.items()})
        for column in ("item", "concept"):
            if column not in items:
                raise DataError(
                    f"{where}: its items have no column {column!r}." + nearest(column, items.columns)
                )
        if items.empty:
            raise DataError(f"{where} has no items. Add at least one row to items.csv.")
        for column in ("item", "concept"):
            blank = items.index[items[column].astype(str).str.strip() == ""]
            if len(blank):
                raise DataError(
                    f"{where}: {column!r} is empty in row {blank[0] + 1} of its items. Fill or drop it."
                )
        twice = items[items.duplicated(["item", "concept"])]
        if len(twice):
            row = twice.iloc[0]
            # An offensive word is named by its place.
            which = f"row {twice.index[0] + 1}: its item" if self.offensive else f"item {row['item']!r}"
            raise DataError(f"{where}: {which} of concept {row['concept']!r} stands there twice.")
        self._check_templates(where)
        self._check_concepts(where)

    def _check_concepts(self, where: str) -> None:
        named = [(f"group {name!r}", c) for name, members in self.groups.items() for c in members]
        for name, sides in self.tests.items():
            if set(sides) != set(_SIDES):
                raise DataError(f"{where}: test {name!r} has {', '.join(sides)}; it needs X, Y, A and B.")
            named += [(f"test {name!r}", concept) for concept in sides.values()]
        known = set(self.concepts)
        for what, concept in named:
            if concept not in known:
                raise DataError(
                    f"{where}: {what} names the concept {concept!r}, which no item has."
                    + nearest(concept, known)
                )

    def _check_templates(self, where: str) -> None:
        if not self.templates:
            raise DataError(
                f"{where} has no templates. Give at least one, for example 'a picture of {{a}} {{item}}'."
            )
        known = {*_RESERVED, *self.items.columns}
        for template in self.templates:
            try:
                fields = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
            except ValueError as error:
                raise DataError(f"{where}: template {template!r} cannot be read: {error}.") from error
            if "item" not in fields:
                raise DataError(
                    f"{where}: template {template!r} has no {{item}}. Put {{item}} where the word goes."
                )
            for name in fields:
                if name not in known:
                    raise DataError(
                        f"{where}: template {template!r} asks for {{{name}}}." + nearest(name, known)
                    )

    @cached_property
    def concepts(self) -> tuple[str, ...]:
        """Concepts in the order of their first item."""
        return tuple(dict.fromkeys(self.items["concept"]))

    @cached_property
    def prompts(self) -> pd.DataFrame:
        """Every prompt: columns ``prompt, item, concept, template``; items outer, templates inner."""
        rows = []
        for row in self.items.to_dict("records"):
            a = row.get("article") or article(row["item"])
            fields = {**{str(column): value for column, value in row.items()}, "a": a, "A": a.capitalize()}
            rows += [
                {"prompt": t.format(**fields), "item": row["item"], "concept": row["concept"], "template": t}
                for t in self.templates
            ]
        return pd.DataFrame(rows)

    def shown(self, *, offensive: bool = False) -> pd.DataFrame:
        """Return the prompts for reading: like ``prompts``, with the words of an offensive set covered.

        Parameters
        ----------
        offensive : bool
            Show them all the same.
        """
        if offensive or not self.offensive:
            return self.prompts
        table = self.prompts
        words = {item: f"[word {n}]" for n, item in enumerate(dict.fromkeys(table["item"]), 1)}
        concepts = {concept: f"[concept {n}]" for n, concept in enumerate(self.concepts, 1)}
        hidden = [
            str(prompt).replace(str(item), words[item])
            for prompt, item in zip(table["prompt"], table["item"], strict=True)
        ]
        return table.assign(
            prompt=pd.Series(hidden, table.index),
            item=table["item"].map(words),
            concept=table["concept"].map(concepts),
        )

    def association(self, test: str) -> dict[str, list[str]]:
        """Return the prompts of the four sides of an association test.

        Parameters
        ----------
        test : str
            A name in ``tests``.

        Returns
        -------
        dict
            Keys ``X, Y`` (targets) and ``A, B`` (attributes), each a list of prompts.

        Raises
        ------
        DataError
            No test of that name.
        """
        if test not in self.tests:
            raise DataError(
                f"probe set {self.name!r} has no association test {test!r}." + nearest(test, self.tests)
            )
        by_concept = dict(self)
        return {side: by_concept[self.tests[test][side]] for side in _SIDES}

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the version and every resolved prompt with its item and concept."""
        body = [self.name, self.version, self.attribute, *self.prompts.astype(str).to_numpy().tolist()]
        return hashlib.sha256(json.dumps(body, ensure_ascii=True).encode()).hexdigest()

    def __iter__(self) -> Iterator[tuple[str, list[str]]]:
        """Yield ``(concept, prompts)`` in the order of ``concepts``."""
        by_concept = self.prompts.groupby("concept", sort=False)["prompt"]
        for concept in self.concepts:
            yield concept, by_concept.get_group(concept).tolist()

    def __len__(self) -> int:
        return len(self.concepts)

    def __repr__(self) -> str:
        return (
            f"ProbeSet({self.name!r}, version={self.version!r}, concepts={len(self)}, "
            f"items={len(self.items)}, templates={len(self.templates)})"
        )
