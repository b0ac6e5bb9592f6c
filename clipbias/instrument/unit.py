"""One model, measured by a recipe: the tables of all its measurements, and what they cost."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

import clipbias
from clipbias import probes
from clipbias.embedding import EmbeddingCache
from clipbias.instrument import images as image_sets
from clipbias.instrument.part import Part
from clipbias.instrument.question import question
from clipbias.instrument.recipe import Measurement, Recipe
from clipbias.instrument.work import Measured, Unit
from clipbias.metrics.inference import Inputs
from clipbias.models import load_model
from clipbias.results import rows as result_rows


def measure_unit(unit: Unit, *, on_step: Callable[[str], None] | None = None) -> Measured:
    """Measure one model by a recipe.

    Parameters
    ----------
    unit : Unit
    on_step : callable, optional
        Called with a few words before each step.

    Returns
    -------
    Measured
        Tables ``intrinsic, models, views, null_bands, examples, left_out``; of a model with nothing planted also
        ``false_positives``.

    Raises
    ------
    ModelError
        The model cannot be had.
    DataError
        Something is wrong with the images or the probes, or too many images are unreadable.
    """
    say = on_step or (lambda text: None)
    say(f"{unit.model}: loading")
    model = load_model(unit.model, device=unit.device, precision=unit.precision)
    needs_reference = any(
        "@reference" in v for m in unit.recipe.measurements for v in unit.recipe.views_of(m)
    )
    reference = (
        load_model(unit.reference, device=unit.device, precision=unit.precision)
        if needs_reference and unit.reference
        else None
    )
    sets = [image_sets.load(m, protocol=unit.recipe.protocol) for m in unit.recipe.measurements]
    data = {s.name: image_sets.digest(s, np.arange(len(s))) for s in sets}
    prompts = {
        name: probes.load(name).digest
        for m in unit.recipe.measurements
        for name in (m.probe, m.harmful, m.levels)
        if name
    }
    parts: list[Any] = [
        model.digest,
        model.preprocess_digest,
        reference.digest if reference else "",
        data,
        prompts,
    ]
    neutral = model_facts(model.metadata)["planted_strength"] == 0
    asked = question() if neutral else None
    if asked is not None:
        parts.append(
            [asked.image_set, asked.attribute, asked.metrics, asked.also, asked.false_positive_draws]
        )
    key = unit_key(unit, *parts)
    if key == unit.done:
        return Measured(key, kept=True, data=data)
    cache = EmbeddingCache()
    collected: dict[str, list[pd.DataFrame]] = {}
    for measurement, image_set in zip(unit.recipe.measurements, sets, strict=True):
        say(f"{unit.model}: {image_set.name}")
        part = Part(unit, measurement, image_set, model, reference, cache)
        for name, frame in part.tables().items():
            collected.setdefault(name, []).append(frame)
        if asked is not None and measurement.image_set == asked.image_set:
            say(f"{unit.model}: false positives")
            collected.setdefault("false_positives", []).append(part.false_positives(asked))
    tables = put_together(collected, unit.model, model.metadata, model.digest)
    return Measured(key, False, tables, cache.stats.computed, cache.stats.reused, data)


def put_together(
    collected: dict[str, list[pd.DataFrame]], model: str, metadata: dict, digest: str
) -> dict[str, pd.DataFrame]:
    """Return the tables of a unit: those of its measurements joined, and the model's own row."""
    tables = {name: pd.concat(frames, ignore_index=True) for name, frames in collected.items()}
    tables["intrinsic"] = result_rows.table(tables["intrinsic"].to_dict("records"))
    tables["models"] = pd.DataFrame([{**model_facts(metadata), "model": model, "digest": digest}])
    return tables


def unit_key(unit: Unit, *parts: object) -> str:
    """Return the key of a unit's tables: a digest of everything that they depend on."""
    text = json.dumps(
        [clipbias.__version__, unit.model, unit.precision, unit.recipe.model_dump(mode="json"), *parts],
        sort_keys=True,
        default=str,
    )
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def model_facts(metadata: dict) -> dict:
    """Return a model's metadata in the columns every report and analysis uses."""
    card = metadata.get("card") or {}
    planted = card.get("planted", {})
    simple = {k: v for k, v in metadata.items() if isinstance(v, str | int | float | bool) or v is None}
    return {
        **simple,
        "planted_rho": planted.get("rho"),
        "planted_context": " ".join(planted.get("rho_in", {})),
        "planted_rho_in": json.dumps(planted.get("rho_in", {})),
        "planted_strength": planted.get("strength"),
        **card.get("zero_shot", {}),
    }


def inputs_of(model: str, recipe: Recipe, measurement: Measurement, attribute: str) -> dict[str, Inputs]:
    """Return the metric inputs of one model on all images of a measurement; embeddings come from the cache."""
    part = Part(
        Unit(model, recipe),
        measurement,
        image_sets.load(measurement, protocol=recipe.protocol),
        load_model(model),
        None,
        EmbeddingCache(),
    )
    return part.inputs(attribute)


def plan_unit(spec: str, recipe: Recipe, device: str, precision: str) -> dict[str, object]:
    """Return what a unit would cost: images and prompts to encode, those in the cache, and values to compute."""
    model = load_model(spec, device=device, precision=precision)
    cache = EmbeddingCache()
    images = cached = cells = 0
    for measurement in recipe.measurements:
        image_set = image_sets.load(measurement, protocol=recipe.protocol)
        digests = list(dict.fromkeys(image_set.digests()))
        images += len(digests)
        cached += int(cache.get(model.image_key, digests)[1].sum())
        attributes = len(measurement.attributes or image_set.attributes)
        cells += attributes * len(measurement.metrics) * len(recipe.views_of(measurement))
    return {
        "model": spec,
        "images": images,
        "in the cache": cached,
        "to encode": images - cached,
        "values (at least)": cells,
    }
