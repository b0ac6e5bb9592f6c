"""Splits by image: what is trained on, what chooses the best state, and what shows the bias."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd

from clipbias.data.files import left_out
from clipbias.data.imageset import UNKNOWN, ImageSet
from clipbias.errors import DataError, nearest

# How files call their splits. `restval` are the images of COCO's validation set that Karpathy's split trains on.
NAMES = {
    **dict.fromkeys(("train", "restval", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testdev"), "test"),
}


def split_images(
    images: ImageSet,
    *,
    test: Collection[str] = (),
    val_share: float = 0.05,
    test_share: float = 0.2,
    n_train: int = 0,
    seed: int = 0,
) -> tuple[dict[str, str], pd.DataFrame]:
    """Give every image its split.

    Parameters
    ----------
    images : ImageSet
        A column ``split`` is followed; what it lacks is drawn from its training images. Images of one ``scene`` stay
        together.
    test : collection of str
        Ids of the bias evaluation; empty: as the column says, else drawn. Drawn are images of which an attribute is
        known, if there are any.
    val_share, test_share : float
        Shares of all images, in (0, 1), that are drawn.
    n_train : int
        Largest number of training images, 0 for all.
    seed : int
        The same seed gives the same splits, whatever the order of the images.

    Returns
    -------
    splits : dict
        Image id to ``train``, ``val`` or ``test``.
    left : pandas.DataFrame
        ``item, reason``.

    Raises
    ------
    DataError
        A split has an unknown name, or there are too few images.
    """
    table = images.table
    for name, share in (("val_share", val_share), ("test_share", test_share)):
        if not 0 < share < 1:
            raise DataError(f"{name} is {share}; a share lies between 0 and 1.")
    frame = pd.DataFrame({"image_id": table["image_id"], "group": _groups(table), "split": _declared(table)})
    if len(test):
        chosen = frame["image_id"].isin(test)
        frame.loc[~chosen & (frame["split"] == "test"), "split"] = "train"
        frame.loc[chosen, "split"] = "test"
    rng = np.random.default_rng([seed, 11])
    order = rng.permutation(np.array(sorted(frame["group"].unique()), dtype=object))
    for name, share in (("test", test_share), ("val", val_share)):
        if (frame["split"] == name).any():
            continue
        pool = frame[frame["split"] == "train"]
        if name == "test" and (known := _known(images))[pool.index].any():
            pool = pool[known[pool.index]]
        free = set(pool["group"]) - set(frame.loc[frame["split"] != "train", "group"])
        wanted = [group for group in order if group in free][: max(1, round(share * len(order)))]
        frame.loc[frame["group"].isin(wanted), "split"] = name
    for name in ("train", "val", "test"):
        if not (frame["split"] == name).any():
            raise DataError(
                f"{images.name!r} has {len(order)} images or scenes, too few for the splits: none is left to {name}. "
                "Give more images, or smaller shares (val_share, test_share)."
            )
    left = left_out([], "")
    rank = {group: place for place, group in enumerate(order)}
    training = frame[frame["split"] == "train"].sort_values("group", key=lambda g: g.map(rank), kind="stable")
    if 0 < n_train < len(training):
        frame = frame.drop(index=training.index[n_train:])
        left = left_out(
            [f"{len(training) - n_train} training images"], f"beyond the {n_train} asked for (n_train)"
        )
    return dict(zip(frame["image_id"], frame["split"], strict=True)), left


def _groups(table: pd.DataFrame) -> pd.Series:
    """Return what an image must stay together with: its scene, or only itself."""
    if "scene" not in table:
        return table["image_id"].astype(str)
    scene = table["scene"].astype(str)
    return scene.where(scene != "", table["image_id"].astype(str))


def _declared(table: pd.DataFrame) -> pd.Series:
    if "split" not in table:
        return pd.Series("train", table.index)
    said = table["split"].astype(str).str.strip().str.casefold()
    wrong = ~said.isin(NAMES)
    if wrong.any():
        raise DataError(
            f"the images have a split {said[wrong].iloc[0]!r}." + nearest(said[wrong].iloc[0], NAMES)
        )
    return said.map(NAMES)


def _known(images: ImageSet) -> np.ndarray:
    """Return which images have a known level of some attribute, bool (n,)."""
    known = [np.asarray(images.column(name)).astype(str) != UNKNOWN for name in images.attributes]
    return np.any(known, axis=0) if known else np.zeros(len(images), bool)
