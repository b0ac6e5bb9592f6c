"""One model, measured by a recipe: embeddings, views, metrics, and the tables that come of them."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field

import numpy as np
import pandas as pd

import clipbias
from clipbias import probes, views
from clipbias.data import ImageSet
from clipbias.embedding import EmbeddingCache, embed_images, embed_texts
from clipbias.errors import DataError, StatusError
from clipbias.instrument import images as image_sets
from clipbias.instrument import inputs as more_inputs
from clipbias.instrument import local
from clipbias.instrument.question import Question, false_positives, question
from clipbias.instrument.recipe import Measurement, Recipe
from clipbias.metrics import inference, integrity
from clipbias.metrics.inference import Inputs
from clipbias.metrics.inputs import Association, Classification, Ranking, Retrieval
from clipbias.metrics.record import get
from clipbias.models import ModelWarning, load_model
from clipbias.results import rows as result_rows

EXAMPLES = 3  # pictures shown per model and attribute
MAX_BAD = 0.01
TIED = "towards the planted ties"  # stands for a probe where a band is of the mean over probes in their planted direction
BAND_COLUMNS = [
    "model", "image_set", "view", "attribute", "probe", "metric", "size", "value", "q_low", "q_mid", "q_high", "p_high",
]  # fmt: skip


@dataclass(frozen=True)
class Unit:
    """What one worker is asked for; it can be pickled.

    Attributes
    ----------
    model : str
        Canonical model spec.
    recipe : Recipe
    device, precision : str
    reference : str
        Spec of the model whose space ``@reference`` views use.
    max_bad : float
        Share of unreadable images above which the measurement stops.
    done : str
        Key of this unit in the run folder, empty if it is not there.
    """

    model: str
    recipe: Recipe
    device: str = "cpu"
    precision: str = "fp32"
    reference: str = ""
    max_bad: float = MAX_BAD
    done: str = ""


@dataclass
class Measured:
    """What came of a unit: tables by name, and what it cost.

    ``key`` names everything the tables depend on; ``kept`` says that the run folder held them already.
    """

    key: str
    kept: bool = False
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    encoded: int = 0
    reused: int = 0
    data: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Material:
    """One model's embeddings of one measurement, and the rows of the image set they belong to."""

    images: ImageSet
    values: np.ndarray
    concepts: list[str]
    texts: np.ndarray


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
        for name in (m.probe, m.harmful)
        if name
    }
    parts = [model.digest, model.preprocess_digest, reference.digest if reference else "", data, prompts]
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


class Part:
    """One measurement of one model."""

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
                    bands += self._bands(view, attribute, inputs)
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

    @functools.cached_property
    def _drawn(self) -> dict[tuple[str, bytes], dict[tuple[str, str], np.ndarray]]:
        """What random subsets show, by attribute and the subsets' digest."""
        return {}

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
            inputs["classification"] = Classification(truth, classes[scores.argmax(0)], classes, **shared)
        if m.harmful:
            harmful, more = self.harm(rows)
            fresh = [i for i, name in enumerate(harmful) if name not in self.concepts]
            classes = np.array([*self.concepts, *(harmful[i] for i in fresh)])
            similarity = np.concatenate([scores, more[fresh]])
            inputs["harm"] = Classification(
                None, classes[similarity.argmax(0)], classes, harmful=harmful, **shared
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
        tied = self._tied(attribute) if self.texts is not None else None
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

    def _tied(self, attribute: str) -> tuple[list[int], list[int], tuple[str, str]] | None:
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
            given = _usable(name, inputs.get(input_of(name)))
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
        for name in self.measurement.metrics:
            given = _usable(name, inputs.get(input_of(name)))
            if not draws or given is None or get(name).per_group or isinstance(given, Association):
                continue
            for group in rules.values():
                try:
                    yield local.compare(
                        name, given, group, protocol=protocol, attribute=attribute, relabelled=draws
                    )
                except StatusError:  # the view's own rows say why, for example a view smaller than k
                    continue

    def _bands(self, view: views.View, attribute: str, inputs: dict[str, Inputs]) -> list[dict]:
        """Return the 95 % band of random subsets like a view, and how often they reach the view's own value."""
        draws = self.recipe.random_subsets
        names = [
            n for n in self.measurement.metrics
            if not get(n).per_group and input_of(n) not in ("association", "targets") and _usable(n, inputs.get(input_of(n))) is not None
        ]  # fmt: skip
        if not draws or not names:
            return []
        masks = self._random_masks(view, attribute, draws)
        # Views of one size and make-up (all contexts, for example) are compared with the same subsets: measured once.
        key = attribute, hashlib.sha256(np.packbits(masks).tobytes()).digest()
        if key not in self._drawn:
            self._drawn[key] = self._means(names, attribute, inputs, masks)
        seen = self._means(names, attribute, inputs, view.mask[None])
        bands = []
        for (probe, name), means in self._drawn[key].items():
            own, drawn = seen[probe, name][0], means[~np.isnan(means)]
            if len(drawn) == 0:
                continue
            low, middle, high = np.quantile(drawn, [0.025, 0.5, 0.975], method="nearest")
            reached = np.nan if np.isnan(own) else (1 + (drawn >= own).sum()) / (1 + len(drawn))
            bands.append(
                {"view": view.name, "attribute": attribute, "probe": probe, "metric": name, "size": view.size, "value": own,
                 "q_low": low, "q_mid": middle, "q_high": high, "p_high": reached}
            )  # fmt: skip
        return bands

    def _means(
        self, names: list[str], attribute: str, inputs: dict[str, Inputs], masks: np.ndarray
    ) -> dict[tuple[str, str], np.ndarray]:
        """Return each metric's mean over probes in each subset, and C-ASC towards the ties, by probe and metric."""
        found = {("", name): self._of_subsets(name, inputs[input_of(name)], masks) for name in names}
        tied = self._tied(attribute)
        by_concept = inputs["ranking"].probes == self.concepts  # type: ignore[union-attr]
        wanted = "association" in inputs and "c_asc" in self.measurement.metrics
        if tied is not None and wanted and by_concept:
            found[TIED, "c_asc"] = self._towards_ties(tied, inputs["ranking"], masks)
        return found

    def _of_subsets(self, name: str, given: Inputs, masks: np.ndarray) -> np.ndarray:
        """Return a metric's mean over probes in each subset of the images, (m,); NaN where undefined."""
        try:
            values = inference.point_values(name, given, masks, protocol=self.recipe.protocol)
        except StatusError:  # the view's own row says why, for example k larger than n
            return np.full(len(masks), np.nan)
        have = ~np.isnan(values)
        # −inf (a group absent from a list) stays in the mean over probes, as it does in the view's own row.
        return np.where(have, values, 0).sum(1) / np.where(have.any(1), have.sum(1), np.nan)

    def _towards_ties(
        self, tied: tuple[list[int], list[int], tuple[str, str]], given: Inputs, masks: np.ndarray
    ) -> np.ndarray:
        """Return each subset's C-ASC in the direction of the planted ties, (m,): of the tied group, mean over concepts."""
        try:
            parts = [
                inference.point_values("c_asc", given, masks, protocol=self.recipe.protocol, group=level)[
                    :, concepts
                ]
                for concepts, level in zip(tied[:2], tied[2], strict=True)
            ]
        except StatusError:
            return np.full(len(masks), np.nan)
        return np.concatenate(parts, axis=1).mean(1)

    def _random_masks(self, view: views.View, attribute: str, draws: int) -> np.ndarray:
        """Return random subsets like a view: whole twin groups if it is made of them, else images with its composition."""
        seed = self.recipe.protocol.seed
        if self.blocks is not None:
            names, codes = np.unique(self.blocks, return_inverse=True)
            inside = np.bincount(codes, view.mask, len(names))
            if np.isin(inside / np.bincount(codes), (0, 1)).all():
                return views.random_subsets(len(names), int((inside > 0).sum()), draws=draws, seed=seed)[
                    :, codes
                ]
        labels = self.images.table[attribute].astype(str).to_numpy()
        return views.matched_subsets(view, draws=draws, seed=seed, strata=labels)

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
            for row, png in zip(best, self.images.read(best.tolist()), strict=True):
                records.append(
                    {"model": self.unit.model, "image_set": self.images.name, "attribute": attribute, "probe": worst["probe"],
                     "group": worst["group"], "image_id": self.images.ids[row], "caption": self.images.table.get("caption", pd.Series([""] * len(self.images)))[row],
                     "png": base64.b64encode(png).decode(), "score": float(scores[row])}
                )  # fmt: skip
        return pd.DataFrame(records, columns=columns)


def input_of(metric: str) -> str:
    """Return which input a metric reads: the kind it needs, with harm apart, whose classes are more."""
    return "harm" if metric.startswith("harm") else get(metric).needs


def _usable(metric: str, given: Inputs | None) -> Inputs | None:
    """Return the input if the metric can be taken of it: recalls and odds need the true class."""
    needs_truth = isinstance(given, Classification) and get(metric).within_class
    return None if needs_truth and given.y_true is None else given  # type: ignore[union-attr]


def _missing(metric: str, measurement: Measurement) -> str:
    needs = input_of(metric)
    what = {
        "retrieval": "a column of captions (caption = ...)",
        "classification": "a column with the true concept (truth = ...)",
        "harm": "a probe set of harmful words (harmful = ...)",
        "pronouns": "a probe set with a text for each level of the attribute (levels = ...)",
        "labels": "a column with what an image shows (truth = ...)",
        "targets": "two sets of concepts tied to two levels of the attribute, with at least two images of each level",
        "association": "two sets of concepts tied to two levels of the attribute, with at least two images of each level",
    }.get(needs, "scores")
    return f"{metric} needs {what}; {measurement.image_set} with {measurement.probe} has none."


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
