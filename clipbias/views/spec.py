"""Views by text, as the command line and study files name them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from clipbias.data.imageset import ImageSet
from clipbias.errors import DataError, nearest
from clipbias.views.embedding import MIN_SIZE, kmeans_views, text_neighbours
from clipbias.views.metadata import by_level, by_metadata, by_predicate, global_view
from clipbias.views.null import random_subsets
from clipbias.views.view import View, Views

FORMS = {
    "global": "all images",
    "COLUMN": "one view per level of a column",
    "COLUMN=LEVEL": "the images of one level",
    "where:PREDICATE": "the images for which it holds, as in where:context == 'park' and gender == 'woman'",
    "kmeans[:K][@reference]": "clusters in the model's own space, or in the reference model's",
    "text:QUERY@SIZE": "the SIZE images most similar to a text",
    "random:SIZE": "one random subset (a control)",
}
_WORDS = ("global", "kmeans", "text", "where", "random")


def needs_embeddings(spec: str) -> bool:
    """Return whether a view spec depends on a model (and differs between models unless @reference)."""
    return spec.partition(":")[0].partition("@")[0] in ("kmeans", "text")


def make(
    spec: str,
    image_set: ImageSet,
    embeddings: np.ndarray | None = None,
    *,
    reference: np.ndarray | None = None,
    encode_text: Callable[[list[str]], np.ndarray] | None = None,
    min_size: int | None = None,
    seed: int = 0,
) -> Views:
    """Make the views a text names; :data:`FORMS` lists the forms.

    Parameters
    ----------
    spec : str
    image_set : ImageSet
    embeddings : numpy.ndarray, shape (n, d), optional
        The model's image embeddings; needed for ``kmeans`` and ``text``.
    reference : numpy.ndarray, optional
        The reference model's; needed for ``@reference``.
    encode_text : callable, optional
        ``encode_text([query]) -> (1, d)``, L2-normalised; needed for ``text``.
    min_size : int, optional
        Default 100 for k-means, 1 for others.
    seed : int

    Raises
    ------
    DataError
        The text is no view, or names a column or level that does not exist (the nearest is named).
    StatusError
        The one view asked for is empty, too small, or larger than the set.
    """
    spec = spec.strip()
    word, colon, rest = spec.partition(":")
    if spec in image_set.table.columns:  # a column wins over a form of the same name
        return by_metadata(image_set, spec, min_size=min_size or 1)
    if spec == "global":
        return _one(global_view(image_set))
    if word == "where" and colon:
        return _one(by_predicate(image_set, rest.strip(), min_size=min_size or 1))
    if word.partition("@")[0] == "kmeans":
        return _kmeans(spec, embeddings, reference, min_size or MIN_SIZE, seed)
    if word == "text" and colon:
        return _one(_text(spec, rest, embeddings, encode_text))
    if word == "random" and colon:
        size = _number(rest, spec)
        mask = random_subsets(len(image_set), size, draws=1, seed=seed)[0]
        return _one(View(spec, "random", mask, f"a random subset of {size} images, seed {seed}"))
    column, equals, level = spec.partition("=")
    if equals:
        return _one(by_level(image_set, column.strip(), level.strip(), min_size=min_size or 1))
    known = [*_WORDS, *image_set.attributes, *image_set.contexts]
    raise DataError(
        f"there is no view {spec!r} of {image_set.name!r}."
        + nearest(word, known)
        + f" Forms: {', '.join(FORMS)}."
    )


def _one(view: View) -> Views:
    return Views((view,))


def _kmeans(
    spec: str, own: np.ndarray | None, reference: np.ndarray | None, min_size: int, seed: int
) -> Views:
    head, at, space = spec.partition("@")
    space = space or "own"
    if at and space not in ("own", "reference"):
        raise DataError(f"view {spec!r}: {space!r} is no space." + nearest(space, ("own", "reference")))
    _, colon, k = head.partition(":")
    embeddings = own if space == "own" else reference
    if embeddings is None:
        raise DataError(
            f"view {spec!r} needs image embeddings of the {'model' if space == 'own' else 'reference model'}."
        )
    count = _number(k, spec) if colon else None
    return kmeans_views(embeddings, space=space, k=count, min_size=min_size, seed=seed)


def _text(
    spec: str, rest: str, embeddings: np.ndarray | None, encode_text: Callable[[list[str]], np.ndarray] | None
) -> View:
    query, at, size = rest.rpartition("@")
    if not at or not query.strip():
        raise DataError(f"view {spec!r} lacks its size. Write for example 'text:a photo of a park@200'.")
    count = _number(size, spec)
    if embeddings is None or encode_text is None:
        raise DataError(f"view {spec!r} needs a model's image embeddings and its text encoder.")
    query = query.strip()
    return text_neighbours(embeddings, encode_text([query])[0], size=count, query=query)


def _number(text: str, spec: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise DataError(f"view {spec!r}: {text!r} is not a whole number above 0.")
    return int(text)
