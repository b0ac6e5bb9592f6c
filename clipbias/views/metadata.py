"""Views by what the table says: the whole set, a column's levels, a predicate."""

from __future__ import annotations

import ast
import io
import re
import tokenize

import numpy as np
import pandas as pd

from clipbias.data.imageset import ImageSet
from clipbias.errors import DataError, StatusError, nearest
from clipbias.views.view import View, Views, keep_large

MAX_LEVELS = 200


def global_view(image_set: ImageSet) -> View:
    """Return the view of all images."""
    return View(
        "global", "global", np.ones(len(image_set), bool), f"all {len(image_set)} images of {image_set.name}"
    )


def by_metadata(image_set: ImageSet, column: str, *, min_size: int = 1) -> Views:
    """Return one view per level of a column.

    Parameters
    ----------
    image_set : ImageSet
    column : str
        An attribute, a context or any other labelled column. ``"unknown"`` is a level like others.
    min_size : int
        Levels with fewer images are reported in ``left_out`` and not used; declared levels without
        any image are always reported.

    Raises
    ------
    DataError
        The column does not exist (the message names the nearest), or it has so many values that it is no
        column of labels.
    """
    labels = image_set.column(column)
    if len(labels.categories) > MAX_LEVELS:
        raise DataError(
            f"column {column!r} of {image_set.name!r} has {len(labels.categories)} different values, more than "
            f"{MAX_LEVELS}; use a predicate (where:...) for a column that holds no labels."
        )
    return keep_large(
        [
            (
                f"{column}={level}",
                "metadata",
                np.asarray(labels == level),
                f"images whose {column} is {level!r}",
            )
            for level in labels.categories
        ],
        min_size=min_size,
    )


def by_level(image_set: ImageSet, column: str, level: str, *, min_size: int = 1) -> View:
    """Return the view of one level of a column.

    Raises
    ------
    DataError
        The column or the level does not exist; the message names the nearest.
    StatusError
        The level is declared and empty (``"empty view"``), or has fewer images than ``min_size`` (``"small
        view"``).
    """
    labels = image_set.column(column)
    names = {str(category): category for category in labels.categories}
    if level not in names:
        raise DataError(
            f"column {column!r} of {image_set.name!r} has no level {level!r}." + nearest(level, names)
        )
    mask = np.asarray(labels == names[level])
    return _checked(
        View(f"{column}={level}", "metadata", mask, f"images whose {column} is {level!r}"), min_size
    )


def by_predicate(image_set: ImageSet, predicate: str, *, name: str | None = None, min_size: int = 1) -> View:
    """Return the view of the images for which a predicate holds.

    Parameters
    ----------
    image_set : ImageSet
    predicate : str
        A pandas query on the table, for example ``"context == 'park' and gender == 'woman'"``. Names with
        spaces stand in backticks. Function calls, attributes and ``@`` variables are not allowed: a study
        file must not be able to run code.
    name : str, optional
        Default: the predicate itself.
    min_size : int

    Raises
    ------
    DataError
        Unknown column or level (nearest named), or the text is no predicate.
    StatusError
        No image fulfils it, or fewer than ``min_size``.
    """
    table = image_set.table
    # Columns get plain identifiers, so that any column name works and no name can mean something else.
    safe = {column: f"c{i}_" for i, column in enumerate(table.columns)}
    quoted = re.sub(r"`([^`]*)`", lambda m: _safe_name(m.group(1), safe, image_set), predicate)
    try:
        tree = ast.parse(_words_for_signs(quoted.strip()), mode="eval")
    except (SyntaxError, tokenize.TokenError) as error:
        raise DataError(
            f"view predicate {predicate!r} cannot be read: {error.args[0]}. "
            "Write for example \"context == 'park'\"."
        ) from error
    checked = _Checked(safe, image_set, predicate).visit(tree)
    frame = table.rename(columns=safe)
    try:
        found = frame.eval(ast.unparse(checked), engine="python")
    except Exception as error:
        raise DataError(f"view predicate {predicate!r} cannot be computed: {error}.") from error
    mask = np.asarray(found)
    if mask.shape != (len(table),) or mask.dtype != bool:
        raise DataError(
            f"view predicate {predicate!r} is not true or false per image; compare a column with a value."
        )
    return _checked(View(name or predicate, "predicate", mask, f"images for which {predicate}"), min_size)


def _safe_name(column: str, safe: dict[str, str], image_set: ImageSet) -> str:
    image_set.column(column)  # names the nearest if it does not exist
    return safe[column]


def _words_for_signs(predicate: str) -> str:
    """Write & | ~ as and, or, not: they then bind as loosely as people expect (and as in a pandas query)."""
    words = {"&": "and", "|": "or", "~": "not"}
    tokens = tokenize.generate_tokens(io.StringIO(predicate).readline)
    return tokenize.untokenize(
        (tokenize.NAME if text in words else kind, words.get(text, text)) for kind, text, *_ in tokens
    ).strip()


class _Checked(ast.NodeTransformer):
    """Let comparisons, and/or/not and arithmetic through; rename columns, check levels."""

    _allowed = (
        ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.Compare, ast.Eq,
        ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn, ast.BinOp, ast.Add, ast.Sub,
        ast.Mult, ast.Div, ast.Name, ast.Load, ast.Constant, ast.List, ast.Tuple,
    )  # fmt: skip

    def __init__(self, safe: dict[str, str], image_set: ImageSet, predicate: str) -> None:
        self.safe, self.image_set, self.predicate = safe, image_set, predicate
        self.columns = {short: column for column, short in safe.items()}

    def visit(self, node: ast.AST) -> ast.AST:
        if not isinstance(node, self._allowed):
            raise DataError(
                f"view predicate {self.predicate!r}: {type(node).__name__.lower()} is not allowed. "
                "Use columns, values, comparisons, in, and, or, not."
            )
        return super().visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id not in self.columns:
            node.id = _safe_name(node.id, self.safe, self.image_set)
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        sides = [node.left, *node.comparators]
        for side in sides:
            if not isinstance(side, ast.Name):
                continue
            labels = self.image_set.table[self.columns[side.id]]
            if isinstance(labels.dtype, pd.CategoricalDtype):
                for other in sides:
                    self._check_levels(other, self.columns[side.id], labels.cat.categories)
        return node

    def _check_levels(self, node: ast.AST, column: str, levels: pd.Index) -> None:
        for constant in (child for child in ast.walk(node) if isinstance(child, ast.Constant)):
            if constant.value not in levels:
                raise DataError(
                    f"view predicate {self.predicate!r}: column {column!r} has no level {constant.value!r}."
                    + nearest(str(constant.value), map(str, levels))
                )


def _checked(view: View, min_size: int) -> View:
    if view.size < min_size:
        raise StatusError(
            "small view", f"view {view.name!r} holds {view.size} images, fewer than {min_size}."
        )
    return view
