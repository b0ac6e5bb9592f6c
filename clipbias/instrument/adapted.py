"""Intrinsic bias measured again, on the vision tower that adaptation has left."""

from __future__ import annotations

import numpy as np
import pandas as pd

from clipbias.embedding import EmbeddingCache
from clipbias.instrument import images as image_sets
from clipbias.instrument.part import Part
from clipbias.instrument.recipe import Measurement, Recipe
from clipbias.instrument.recipe import load as load_recipe
from clipbias.instrument.unit import model_facts
from clipbias.instrument.work import Unit
from clipbias.models.clip import Clip
from clipbias.results import rows as result_rows
from clipbias.tasks.unit import Hooks

FITS = 0.5  # share of the recognition above chance that must be left for texts to count as fitting


def measure_adapted(
    clip: Clip, adapted: Clip, *, key: dict[str, object], max_bad: float = 0.01
) -> pd.DataFrame:
    """Measure intrinsic bias on an adapted tower with the recipe of ``measure``.

    The text tower was not adapted along. It counts as fitting while zero-shot recognition of the concepts keeps at least
    half of what it had above chance; where it does not, the rows have the status ``text does not fit`` and no value.

    Parameters
    ----------
    clip, adapted : Clip
        Before and after.
    key : dict
        Columns ``model, task, head, mode, intervention, seed`` of the rows.
    max_bad : float

    Returns
    -------
    DataFrame
        Rows of the table ``intrinsic`` with ``stage`` post.
    """
    recipe = _without_bands(load_recipe())
    records: list[dict] = []
    cache = EmbeddingCache()
    for measurement in recipe.measurements:
        images = image_sets.load(measurement, protocol=recipe.protocol)
        unit = Unit(str(key["model"]), recipe, str(adapted.device), adapted.precision, max_bad=max_bad)
        before, after = (Part(unit, measurement, images, c, None, cache) for c in (clip, adapted))
        fits, reason = _texts_fit(before, after, measurement)
        found: list[dict] = after.tables()["intrinsic"].to_dict("records")
        for row in found:
            row |= {**key, "stage": "post"}
            if not fits and row.get("status", "ok") in ("ok", None):
                numbers = ("value", "ci_low", "ci_high", "null_mean", "null_sd", "z", "p")
                row |= dict.fromkeys(numbers) | {"status": "text does not fit", "reason": reason}
            records.append(row)
    return result_rows.table(records)


def model_row(clip: Clip) -> dict[str, object]:
    """Return a model's row of the table ``models``."""
    return {**model_facts(clip.metadata), "model": str(clip.spec), "digest": clip.digest}


def _without_bands(recipe: Recipe) -> Recipe:
    """Return a recipe for the adapted tower: views in a reference model's space and random subsets are left out."""
    views = [v for v in recipe.views if "@reference" not in v]
    measurements = [
        m.model_copy(update={"views": [v for v in m.views if "@reference" not in v]})
        for m in recipe.measurements
    ]
    return recipe.model_copy(
        update={"views": views, "measurements": measurements, "random_subsets": 0, "local_draws": 0}
    )


def _texts_fit(before: Part, after: Part, measurement: Measurement) -> tuple[bool, str]:
    """Return whether texts still find their images, and the comparison in words."""
    if not measurement.truth:
        return True, ""
    truth = before.images.table[measurement.truth].astype(str).to_numpy()
    names = np.array(before.concepts)
    was, now = (
        float(np.mean([(names[(part.texts @ part.values.T).argmax(0)] == truth)[truth == t].mean() for t in names if (truth == t).any()]))
        for part in (before, after)
    )  # fmt: skip
    chance = 1 / len(names)
    fits = now - chance >= FITS * (was - chance)
    return fits, (
        f"the tower was adapted without its texts: they name {now:.0%} of the images right, {was:.0%} before "
        f"and {chance:.0%} by chance"
    )


HOOKS = Hooks(measure_adapted, model_row)
