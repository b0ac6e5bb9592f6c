"""One measurement of one model: embeddings, views, inputs of the metrics, and the tables that come of them."""

from __future__ import annotations

import base64
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from clipbias import probes, views
from clipbias.data import ImageSet
from clipbias.data.thumbnails import thumbnail
from clipbias.embedding import EmbeddingCache, embed_images, embed_texts
from clipbias.errors import DataError, StatusError
from clipbias.instrument import inputs as more_inputs
from clipbias.instrument import local
from clipbias.instrument.bands import BAND_COLUMNS, Bands
from clipbias.instrument.inputs import input_of, usable
from clipbias.instrument.question import Question, false_positives
from clipbias.instrument.recipe import Measurement
from clipbias.instrument.work import Unit
from clipbias.metrics import inference, integrity
from clipbias.metrics.inference import Inputs
from clipbias.metrics.inputs import Association, Classification, Ranking, Retrieval
from clipbias.metrics.record import get
from clipbias.models import ModelWarning

EXAMPLES = 3  # pictures shown per model and attribute


class Part:
    """One measurement of one model."""

    # Of stored scores there are no embeddings, and then these are None.
    values: Any
    texts: Any
    cache: Any

    def __init__(
        self,
        unit: Unit,
        measurement: Measurement,
        image_set: ImageSet,
        model,
        reference,
        cache: EmbeddingCache,
    ) -> None:
        self.unit, self.recipe, self.measurement, self.model = unit, unit.recipe, measurement, model
        self.cache = cache
        found = embed_images(model, image_set, cache=cache)
        if len(found.left_out) > unit.max_bad * len(image_set):
            first = found.left_out.iloc[0]
            raise DataError(
                f"{len(found.left_out)} of {len(image_set)} images of {image_set.name!r} cannot be read, first: {first['item']} "
                f"({first['reason']}). Mend or remove them, or raise --max-bad (now {unit.max_bad:g})."
            )
        self.left_out = pd.concat([image_set.left_out, found.left_out], ignore_index=True)
        self.images = image_set if len(found.rows) == len(image_set) else image_set.take(found.rows)
        self.values, self.lengths = found.values, found.lengths
        self.reference = None
        if reference is not None:
            other = embed_images(reference, self.images, cache=cache)
            self.reference = other.values if len(other.rows) == len(self.images) else None
        self._describe()
        probe = probes.load(measurement.probe)
        self.concepts, self.texts = self._ensemble(probe)
        # A protocol may rank by every prompt; everything else is asked of concepts.
        self.ranked = self._each(probe) if self.recipe.protocol.prompts == "each" else None

    def _describe(self) -> None:
        """Note what is measured of the images: attributes, and the clusters that are drawn as a whole."""
        self.attributes = self.measurement.attributes or list(self.images.attributes)
        table = self.images.table
        self.blocks = table["scene"].to_numpy() if "scene" in table else None

    def similarity(self, rows: np.ndarray) -> np.ndarray:
        """Return the scores of images for every concept, (P, rows)."""
        return self.texts @ self.values[rows].T

    def rankings(self, rows: np.ndarray) -> tuple[list[str], np.ndarray]:
        """Return what images are ranked by and their scores, (P, rows), as the protocol asks."""
        if self.ranked is None:
            names, scores = self.concepts, self.similarity(rows)
        else:
            names, texts = self.ranked
            scores = texts @ self.values[rows].T
        return names, scores * self.lengths[rows] if self.recipe.protocol.normalise == "texts" else scores

    def harm(self, rows: np.ndarray) -> tuple[list[str], np.ndarray]:
        """Return the harmful items and the scores of images for them, (H, rows); they are not concepts."""
        if not self.measurement.harmful:
            return [], np.empty((0, len(rows)))
        names, texts = self._ensemble(probes.load(self.measurement.harmful))
        return names, texts @ self.values[rows].T

    def encode(self, texts: list[str]) -> np.ndarray:
        """Return the embeddings of texts."""
        return embed_texts(self.model, texts, cache=self.cache)

    def integrity(self) -> pd.DataFrame:
        """Check the embeddings and report what makes cosines of models incomparable."""
        found = [
            *integrity.check_embeddings(self.values, "images"),
            *integrity.geometry(self.values, self.texts),
        ]
        return pd.DataFrame([asdict(f) for f in found])

    def _ensemble(self, probe: probes.ProbeSet) -> tuple[list[str], np.ndarray]:
        """Return each concept's text embedding: the normalised mean over its prompts."""
        names, prompts, sizes = [], [], []
        for concept, texts in probe:
            names.append(concept)
            prompts += texts
            sizes.append(len(texts))
        each = self._embed(probe, prompts)
        means = np.stack([part.mean(0) for part in np.split(each, np.cumsum(sizes)[:-1])])
        return names, means / np.linalg.norm(means, axis=1, keepdims=True)

    def _each(self, probe: probes.ProbeSet) -> tuple[list[str], np.ndarray]:
        """Return each prompt and its text embedding."""
        prompts = list(dict.fromkeys(probe.prompts["prompt"]))
        return prompts, self._embed(probe, prompts)

    def _embed(self, probe: probes.ProbeSet, prompts: list[str]) -> np.ndarray:
        """Return the embeddings of prompts; a warning that would print offensive words only counts them."""
        if not probe.offensive:
            return embed_texts(self.model, prompts, cache=self.cache)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            values = embed_texts(self.model, prompts, cache=self.cache)
        if said:
            warnings.warn(
                f"{self.unit.model}: some words of {probe.name!r} are unknown to the model or cut off; they are not "
                "shown, as the set is offensive (probes.load(...).shown(offensive=True) shows them).",
                ModelWarning,
                stacklevel=2,
            )
        return values

    def tables(self) -> dict[str, pd.DataFrame]:
        """Measure every view and attribute."""
        found, left_out = self._views()
        records: list[dict] = []
        bands: list[dict] = []
        random = Bands(self)
        deviations: list[dict] = []
        differences: list[dict] = []
        for attribute in self.attributes:
            inputs = self.inputs(attribute)
            for one, other in self._local(found, attribute, inputs):
                deviations += one
                differences += other
            for view in found:
                records += self._measure(view, attribute)
                if view.name != "global":
                    bands += random.band(view, attribute, inputs)
        base = {"model": self.unit.model, "image_set": self.images.name}
        everything = pd.concat(
            [self.left_out, left_out.drop(columns="status", errors="ignore")], ignore_index=True
        )
        return {
            "intrinsic": pd.DataFrame([{**base, "stage": "pre", **record} for record in records]),
            "views": views.slice_cards(
                found,
                self.images,
                model=self.unit.model,
                values=self.values,
                names=self.concepts,
                texts=self.texts,
            ),
            "null_bands": pd.DataFrame([{**base, **band} for band in bands], columns=BAND_COLUMNS),
            "examples": self._examples(),
            "left_out": everything.assign(**base),
            "integrity": self.integrity().assign(**base),
            "local": pd.DataFrame(
                [{**base, **row} for row in deviations], columns=[*base, *local.DEVIATIONS]
            ),
            "view_differences": pd.DataFrame(
                [{**base, **row} for row in differences], columns=[*base, *local.DIFFERENCES]
            ),
        }

    # -- views ------------------------------------------------------------------------------------

    def _views(self) -> tuple[list[views.View], pd.DataFrame]:
        found: list[views.View] = []
        left_out = []
        for spec in self.recipe.views_of(self.measurement):
            try:
                made = views.make(
                    spec, self.images, self.values, reference=self.reference, encode_text=self.encode,
                    min_size=self.recipe.min_view if spec.startswith("kmeans") else None, seed=self.recipe.protocol.seed,
                )  # fmt: skip
            except StatusError as problem:
                left_out.append({"item": spec, "status": problem.status, "reason": problem.reason})
                continue
            found += list(made)
            left_out += made.left_out.to_dict("records")
        return found, pd.DataFrame(left_out, columns=["item", "status", "reason"])

    # -- metrics ----------------------------------------------------------------------------------

    def inputs(self, attribute: str, mask: np.ndarray | None = None) -> dict[str, Inputs]:
        """Return the input of each kind of metric for the images of a view; what the data do not allow is absent."""
        m, table = self.measurement, self.images.table
        rows = np.arange(len(table)) if mask is None else np.flatnonzero(mask)
        groups = table[attribute].iloc[rows]
        shared = {
            "groups": pd.Categorical(groups), "blocks": None if self.blocks is None else self.blocks[rows],
            "strata": None if self.blocks is None else self.blocks[rows],
        }  # fmt: skip
        scores = self.similarity(rows)
        names, ranked = self.rankings(rows)
        inputs: dict[str, Inputs] = {"ranking": Ranking(ranked, names, **shared)}
        truth = table[m.truth].iloc[rows].astype(str).to_numpy() if m.truth else None
        if len(self.concepts) > 1:
            classes = np.array(self.concepts)
            inputs["classification"] = Classification(
                truth, classes[scores.argmax(0)], list(classes), **shared
            )
        if m.harmful:
            harmful, more = self.harm(rows)
            fresh = [i for i, name in enumerate(harmful) if name not in self.concepts]
            classes = np.array([*self.concepts, *(harmful[i] for i in fresh)])
            similarity = np.concatenate([scores, more[fresh]])
            inputs["harm"] = Classification(
                None, classes[similarity.argmax(0)], list(classes), harmful=harmful, **shared
            )
        inputs |= more_inputs.composition(shared, truth)
        if m.levels:
            inputs |= more_inputs.pronouns(shared, truth, *self.level_scores(rows))
        if m.caption:
            # The gallery is the whole image set in every view: recall then does not change with the view's size.
            captions = table[m.caption].iloc[rows].tolist()
            unique, which = np.unique(captions, return_inverse=True)
            queries = self.encode(unique.tolist())
            inputs["retrieval"] = Retrieval(
                queries[which] @ self.values.T, rows, probes_of=table[m.truth].iloc[rows].astype(str).to_numpy() if m.truth else None,
                k=m.recall_k, **shared,
            )  # fmt: skip
        if self.values is not None and self.texts is not None:  # stored scores come without embeddings
            inputs |= more_inputs.single_targets(self.values[rows], groups, self.texts, self.concepts)
        tied = self.tied(attribute) if self.texts is not None else None
        if tied is not None:
            one, two, levels = tied
            first, second = (self.values[rows[(groups == level).to_numpy()]] for level in levels)
            if len(first) > 1 and len(second) > 1:
                inputs["association"] = Association(
                    A=first,
                    B=second,
                    X=self.texts[one],
                    Y=self.texts[two],
                    probe=f"tied to {levels[0]} / tied to {levels[1]}",
                )
            inputs |= more_inputs.group_targets(
                self.values[rows], groups, shared["blocks"], (self.texts[one], self.texts[two]), levels
            )
        return inputs

    def level_scores(self, rows: np.ndarray) -> tuple[list[str], np.ndarray]:
        """Return the levels that have a text, and the scores of images for them, (levels, rows)."""
        names, texts = self._ensemble(probes.load(self.measurement.levels))
        return names, texts @ self.values[rows].T

    def tied(self, attribute: str) -> tuple[list[int], list[int], tuple[str, str]] | None:
        """Return the concepts tied to two levels of an attribute in the world, as positions, and the levels."""
        from clipbias.probes import world

        if attribute not in world.LEVELS:
            return None
        ties = world.ties(attribute)
        levels = tuple(dict.fromkeys(ties.values()))[:2]
        one, two = ([i for i, c in enumerate(self.concepts) if ties.get(c) == level] for level in levels)
        return (one, two, levels) if len(one) > 1 and len(two) > 1 else None  # type: ignore[return-value]

    def _measure(self, view: views.View, attribute: str) -> list[dict]:
        inputs = self.inputs(attribute, view.mask)
        records = []
        for name in self.measurement.metrics:
            given = usable(name, inputs.get(input_of(name)))
            key = {
                "view": view.name,
                "attribute": attribute,
                "metric": name,
                "protocol": self.recipe.protocol.hash,
            }
            if given is None:
                reason = _missing(name, self.measurement)
                records.append({**key, "n": view.size, "status": "no input", "reason": reason})
                continue
            each = (
                view.name == "global"
                or self.recipe.detail == "all"
                or input_of(name) in ("association", "targets")
            )
            rows = inference.evaluate(name, given, protocol=self.recipe.protocol, each=each)
            records += [{**key, **row} for row in rows]
        return records

    def false_positives(self, asked: Question) -> pd.DataFrame:
        """Return how often the question's tests fire on fresh labels: ``model, metric, rate``."""
        metrics = self.measurement.metrics
        inputs = self.inputs(asked.attribute)
        by_metric = {name: inputs[input_of(name)] for name in metrics if input_of(name) in inputs}
        rates = false_positives(asked, by_metric, metrics, self.recipe.protocol)
        return pd.DataFrame(
            {"model": self.unit.model, "metric": list(rates), "rate": list(rates.values())},
        )

    def _local(
        self, found: list[views.View], attribute: str, inputs: dict[str, Inputs]
    ) -> Iterator[tuple[list[dict], list[dict]]]:
        """Compare the views of each rule with all images and with each other, metric by metric."""
        draws = self.recipe.local_draws
        protocol = self.recipe.protocol.model_copy(update={"n_boot": draws})
        rules: dict[str, list[views.View]] = {}
        for view in found:
            if view.kind != "global":
                rules.setdefault(local.grouping_of(view), []).append(view)
        by_input: dict[str, list[str]] = {}  # metrics of one input share its draws
        for name in self.measurement.metrics:
            given = usable(name, inputs.get(input_of(name)))
            if draws and given is not None and not get(name).per_group and not isinstance(given, Association):
                by_input.setdefault(input_of(name), []).append(name)
        for kind, names in by_input.items():
            for group in rules.values():
                try:
                    yield local.compare(
                        names, inputs[kind], group, protocol=protocol, attribute=attribute, relabelled=draws
                    )
                except StatusError:  # the view's own rows say why, for example a view smaller than k
                    continue

    # -- pictures ---------------------------------------------------------------------------------

    def _examples(self) -> pd.DataFrame:
        """Return the top pictures of the concept whose list is most skewed, per attribute."""
        columns = ["model", "image_set", "attribute", "probe", "group", "image_id", "caption", "png", "score"]
        if "max_skew" not in self.measurement.metrics:
            return pd.DataFrame(columns=columns)
        records = []
        bare = self.recipe.protocol.model_copy(update={"n_boot": 0, "n_perm": 0})
        for attribute in self.attributes:
            ranking = self.inputs(attribute)["ranking"]
            rows = [
                r
                for r in inference.evaluate("max_skew", ranking, protocol=bare)
                if r["probe"] and r["status"] == "ok"
            ]
            if not rows:
                continue
            worst = max(rows, key=lambda r: r["value"])
            names, ranked = self.rankings(np.arange(len(self.images)))
            scores = ranked[names.index(worst["probe"])]
            group = self.images.table[attribute].astype(str).to_numpy() == worst["group"]
            best = np.flatnonzero(group)[np.argsort(-scores[group], kind="stable")[:EXAMPLES]]
            for row, file in zip(best, self.images.read(best.tolist()), strict=True):
                records.append(
                    {"model": self.unit.model, "image_set": self.images.name, "attribute": attribute, "probe": worst["probe"],
                     "group": worst["group"], "image_id": self.images.ids[row], "caption": self.images.table.get("caption", pd.Series([""] * len(self.images)))[row],
                     "png": base64.b64encode(thumbnail(file)).decode(), "score": float(scores[row])}
                )  # fmt: skip
        return pd.DataFrame(records, columns=columns)


def _missing(metric: str, measurement: Measurement) -> str:
    needs = input_of(metric)
    what = {
        "retrieval": "a column of captions (caption = ...)",
        "classification": "a column with the true concept (truth = ...)",
        "harm": "a probe set of harmful words (harmful = ...)",
        "pronouns": "a probe set with a text for each level of the attribute (levels = ...)",
        "labels": "a column with what an image shows (truth = ...)",
        "targets": "two sets of concepts tied to two levels of the attribute, with at least two images of each level",
        "words": "an attribute with two known levels and at least two images of each",
        "association": "two sets of concepts tied to two levels of the attribute, with at least two images of each level",
    }.get(needs, "scores")
    return f"{metric} needs {what}; {measurement.image_set} with {measurement.probe} has none."
