"""What a unit's model sees of images: looked up (frozen tower), computed (trained tower), or a black image (blind)."""

from __future__ import annotations

import copy
import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clipbias.data.imageset import ImageSet
from clipbias.errors import DataError
from clipbias.models.clip import Clip
from clipbias.tasks.batches import Source
from clipbias.tasks.frozen import FeatureCache, FrozenFeatures, PixelSource, frozen_features
from clipbias.tasks.heads.base import Features
from clipbias.tasks.recipe import Training
from clipbias.tasks.vision import Tower


class Sight:
    """What a unit's model sees of an image set.

    Attributes
    ----------
    tower : Tower
        Trained in modes ``lora`` and ``full``.
    trained : bool
    source : callable
        Image positions to `Features`.
    missing : numpy.ndarray of int
        Positions of images that cannot be read.
    left_out : DataFrame
        ``item, reason``: their ids, and why.
    """

    def __init__(
        self,
        clip: Clip,
        images: ImageSet,
        *,
        mode: str,
        budget: Training,
        grid: int | None = None,
        seed: int = 0,
    ) -> None:
        self.clip, self.images, self.mode = clip, images, mode
        self.tower = Tower(clip, grid=grid)
        # Looked up for the blind baseline and the trained tower, too: it tells which images can be read.
        self.before: FrozenFeatures = frozen_features(self.tower, images, cache=FeatureCache())
        self.missing = np.setdiff1d(np.arange(len(images)), self.before.rows)
        self.left_out = self.before.left_out
        self.trained = mode in ("lora", "full")
        self.source: Source = self.before
        if self.trained:
            self.tower.make_trainable(mode, rank=budget.lora_rank, seed=seed)
            self.source = PixelSource(self.tower, images)
        elif mode == "blind":
            self.source = constant(black(self.tower))

    def as_given(self) -> Sight:
        """Return the same with the tower as it was before adaptation."""
        before = copy.copy(self)
        before.tower, before.source = Tower(self.clip, grid=self.tower.grid), self.before
        before.mode, before.trained = "frozen", False
        return before

    def source_of(self, images: ImageSet) -> Source:
        """Return the source of another image set (a plan's own training data)."""
        if self.mode == "blind":
            return self.source
        if self.trained:
            return PixelSource(self.tower, images)
        return frozen_features(self.tower, images, cache=FeatureCache(), bad="raise")

    def pooled(self, rows: np.ndarray) -> np.ndarray:
        """Return the embeddings before adaptation, float32 (n, d), L2-normalised: what interventions see."""
        place = np.searchsorted(self.before.rows, rows)
        if not np.isin(rows, self.before.rows).all():
            raise DataError(
                f"image {self.images.ids[int(rows[~np.isin(rows, self.before.rows)][0])]!r} cannot be read."
            )
        return self.before.pooled[torch.from_numpy(place)].cpu().numpy()

    def layers(self, rows: np.ndarray) -> dict[str, Tensor]:
        """Return what each layer of the tower, as it is now, makes of images, (n, p) by layer."""
        self.tower.eval()
        pixels = self.source if isinstance(self.source, PixelSource) else PixelSource(self.tower, self.images)
        return pixels.layers(rows)


def constant(features: Features) -> Source:
    """Return a source that gives the same features, (1, d) and (1, N, c), for every image."""

    def source(rows: np.ndarray) -> Features:
        return Features(features.pooled.expand(len(rows), -1), features.tokens.expand(len(rows), -1, -1))

    return source


def black(tower: Tower) -> Features:
    """Return the features of one black image: what a head sees that is blind to the image."""
    height, width = tower.clip.image_size
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "PNG")
    with torch.no_grad():
        return tower.features(tower.clip.preprocess([file.getvalue()]).pixels)
