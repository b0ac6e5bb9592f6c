"""Views by where images lie in an embedding space: clusters and neighbours of a text."""

from __future__ import annotations

import numpy as np

from clipbias.errors import DataError, StatusError
from clipbias.views.view import View, Views, keep_large

MIN_SIZE = 100
MAX_K = 16
_MINI_BATCH_FROM = 20_000


def kmeans_views(
    embeddings: np.ndarray,
    *,
    space: str = "own",
    k: int | None = None,
    min_size: int = MIN_SIZE,
    max_k: int = MAX_K,
    seed: int = 0,
) -> Views:
    """Return one view per k-means cluster.

    Parameters
    ----------
    embeddings : numpy.ndarray, shape (n, d)
        L2-normalised image embeddings: of the model itself (``space="own"``: clusters differ between
        models) or of one reference model (``space="reference"``: every model is measured on the same
        clusters).
    space : {"own", "reference"}
        Goes into names and definitions; it does not change the computation.
    k : int, optional
        Number of clusters. Default: the largest number, at most ``max_k``, for which every cluster holds
        at least ``min_size`` images.
    min_size : int
        With ``k`` given, smaller clusters are reported in ``left_out`` and not used.
    seed : int
        The same embeddings and seed give the same clusters. Clusters are numbered by falling size.

    Raises
    ------
    StatusError
        ``"small view"``: too few images for two clusters of ``min_size``.
    DataError
        ``k`` does not fit the number of images, or a value is not finite.
    """
    if space not in ("own", "reference"):
        raise DataError(f"k-means space {space!r} is neither 'own' nor 'reference'.")
    embeddings = np.asarray(embeddings)
    n = len(embeddings)
    if not np.isfinite(embeddings).all():
        bad = int((~np.isfinite(embeddings).all(axis=1)).sum())
        raise DataError(
            f"{bad} of {n} embeddings hold values that are not finite; k-means needs finite ones."
        )
    if k is None:
        labels = _largest_k(embeddings, min_size, max_k, seed)
    elif not 1 <= k <= n:
        raise DataError(f"k-means with k={k} needs 1 to {n} clusters, as there are {n} images.")
    else:
        labels = _cluster(embeddings, k, seed)
    sizes = np.bincount(labels)
    k = len(sizes)
    at = "" if space == "own" else "@reference"
    where = "the model's own" if space == "own" else "the shared reference"
    return keep_large(
        [
            (
                f"kmeans:{k}{at}/{i}",
                "kmeans",
                labels == i,
                f"cluster {i} (by falling size) of {k} of k-means in {where} space, "
                f"seed {seed}, {sizes[i]} images",
            )
            for i in range(k)
        ],
        min_size=min_size,
    )


def _largest_k(embeddings: np.ndarray, min_size: int, max_k: int, seed: int) -> np.ndarray:
    """Return the labels of the largest k whose clusters are all large enough."""
    n = len(embeddings)
    for k in range(min(max_k, n // max(min_size, 1)), 1, -1):
        labels = _cluster(embeddings, k, seed)
        if np.bincount(labels, minlength=k).min() >= min_size:
            return labels
    raise StatusError(
        "small view",
        f"{n} images do not fall into two k-means clusters of at least {min_size}; ask for a smaller size.",
    )


def _cluster(embeddings: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Return labels 0..k-1 by falling cluster size, ties by first member."""
    from sklearn.cluster import KMeans, MiniBatchKMeans  # heavy, and most views do without
    from threadpoolctl import threadpool_limits

    many = len(embeddings) > _MINI_BATCH_FROM
    method = MiniBatchKMeans if many else KMeans
    # Sums over threads come in any order: one thread makes the same clusters bit for bit.
    with threadpool_limits(limits=1):
        found = method(n_clusters=k, n_init=4, random_state=seed).fit(embeddings).labels_
    _, first, inverse, sizes = np.unique(found, return_index=True, return_inverse=True, return_counts=True)
    order = np.lexsort((first, -sizes))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return rank[inverse]


def text_neighbours(
    image_embeddings: np.ndarray, text_embedding: np.ndarray, *, size: int, query: str
) -> View:
    """Return the ``size`` images most similar to a text.

    Parameters
    ----------
    image_embeddings : numpy.ndarray, shape (n, d)
        L2-normalised.
    text_embedding : numpy.ndarray, shape (d,) or (1, d)
        Of the text ``query``, L2-normalised, by the same model.
    size : int
    query : str
        Goes into the name and the definition.

    Raises
    ------
    StatusError
        ``"view larger than set"``: ``size`` exceeds the number of images.
    DataError
        Shapes do not fit, or ``size`` is below 1.
    """
    text = np.asarray(text_embedding).reshape(-1)
    n, d = image_embeddings.shape
    if text.shape != (d,):
        raise DataError(
            f"the text embedding of {query!r} has {text.size} numbers, the image embeddings have {d}."
        )
    if size < 1:
        raise DataError(f"a view of the neighbours of {query!r} needs a size of at least 1, not {size}.")
    if size > n:
        raise StatusError(
            "view larger than set",
            f"{size} neighbours of {query!r} were asked for, but there are {n} images.",
        )
    similarity = image_embeddings.astype(np.float64) @ text
    nearest_rows = np.argsort(-similarity, kind="stable")[:size]  # ties go to the earlier row
    mask = np.zeros(n, bool)
    mask[nearest_rows] = True
    return View(
        f"text:{query}@{size}", "text", mask, f"the {size} images most similar (cosine) to the text {query!r}"
    )
