"""The work of one unit, step by step: features, head, training, predictions, bias, states, files."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from clipbias import views as view_maker
from clipbias.embedding import EmbeddingCache, embed_images, embed_texts
from clipbias.errors import DataError, StatusError
from clipbias.models import load_model
from clipbias.models.clip import Clip
from clipbias.results import rows as result_rows
from clipbias.tasks import checkpoint, states
from clipbias.tasks.batches import Material
from clipbias.tasks.data import TaskData
from clipbias.tasks.evaluate import METRICS, evaluate
from clipbias.tasks.heads import build_head
from clipbias.tasks.heads.base import Head, HeadSetting
from clipbias.tasks.material import answer_list, material_of, vocabulary_of, without_images
from clipbias.tasks.metrics.facts import facts
from clipbias.tasks.plan import Plan
from clipbias.tasks.predict import answer_probabilities, predict, save_predictions
from clipbias.tasks.recipe import Training
from clipbias.tasks.sources import Sight
from clipbias.tasks.stages import first_captions, plan_with, task_of
from clipbias.tasks.train import Trained, train
from clipbias.tasks.unit import Adaptation, AdaptUnit, plan_of

NUMBERS = ("value", "ci_low", "ci_high", "null_mean", "null_sd", "z", "p")


class Work:
    """One unit being done.

    Parameters
    ----------
    unit : AdaptUnit
    key : str
    clip : Clip
    data : TaskData
    say : callable
        Told a few words before each step.
    """

    def __init__(
        self, unit: AdaptUnit, key: str, clip: Clip, data: TaskData, say: Callable[[str], None]
    ) -> None:
        self.unit, self.key, self.clip, self.say = unit, key, clip, say
        self.recipe = unit.recipe
        self.examples = int((data.examples["split"] == "train").sum())
        self.budget = unit.recipe.training_of(unit.mode).resolved(self.examples)
        self.out = Path(unit.out)
        self.blind = unit.mode == "blind"
        if clip.device.type == "cpu":
            # Sums over more threads differ in their last bits; this way they do not depend on the machine.
            torch.set_num_threads(self.budget.threads)
        say("features")
        self.sight = Sight(
            clip, data.images, mode=unit.mode, budget=self.budget, grid=self.recipe.grid, seed=unit.seed
        )  # fmt: skip
        self.left_out = self._check_images(data)
        self.data = without_images(data, self.sight.missing)
        self.test = self.data.split("test")

    def _check_images(self, data: TaskData) -> pd.DataFrame:
        bad = self.sight.left_out
        if len(bad) > self.unit.max_bad * len(data.images):
            first = bad.iloc[0]
            raise DataError(
                f"{len(bad)} of {len(data.images)} images of {data.name!r} cannot be read, first: {first['item']} "
                f"({first['reason']}). Mend or remove them, or raise --max-bad (now {self.unit.max_bad:g})."
            )
        return pd.concat([data.left_out, bad], ignore_index=True)

    def run(self) -> Adaptation:
        """Do the unit; see `clipbias.tasks.adaptation.adapt_unit`."""
        began = time.monotonic()
        head = self.head()
        plan = plan_with(plan_of(self.unit, self.data, self.sight.pooled), head, self.captions)
        keep = self.unit.states if not self.blind and self.recipe.states else ""
        fixed = self._material(states.state_examples(self.test, self.recipe.states)) if keep else None
        if fixed is not None:
            self._states_before(head, fixed, keep)
        trained = self._train(head, plan)
        if fixed is not None:
            self._states_after(head, fixed, keep)
        predictions = self._predict(head, plan)
        rows, cards = self._evaluate(head, predictions)
        quality = self._quality(rows)
        competent, reason = self._judge(quality)
        rows = self._silence(rows, competent, reason)
        if not self.blind:
            self._save(head)
        tables = {
            "extrinsic": result_rows.table(rows),
            "adapted": pd.DataFrame([self._summary(head, trained, quality, competent, reason, time.monotonic() - began, plan)]),
            "training": trained.log.assign(**self.unit.columns),
            "views": cards,
            "left_out": self.left_out.assign(model=self.unit.model, image_set=self.data.name),
        }  # fmt: skip
        if self.unit.hooks is not None:
            tables["models"] = pd.DataFrame([self.unit.hooks.facts(self.clip)])
            if self.sight.trained:
                self.say("intrinsic bias of the adapted tower")
                tables["intrinsic"] = self.unit.hooks.intrinsic(
                    self.clip,
                    self.sight.tower.adapted_clip(),
                    key=self.unit.columns,
                    max_bad=self.unit.max_bad,
                )
        return Adaptation(
            self.key, False, tables, quality, {self.data.name: self.data.digest}, trained.resumed
        )

    # -- head and training --------------------------------------------------------------------------

    @property
    def _folder(self) -> Path:
        """Where training stands, and then the adapted model."""
        return self.out / "checkpoints" / self.unit.slug

    @cached_property
    def setting(self) -> HeadSetting:
        """What the head is built from: the same for every CLIP but for the widths of its features."""
        options = dict(self.recipe.heads.get(self.unit.head, {}))
        answers = (
            answer_list(self.data.split("train"), self.recipe.answers) if self.unit.task == "vqa" else ()
        )
        language = str(options.get("language_model", ""))
        vocabulary = vocabulary_of([self.data, *filter(None, [self.captions])], self.recipe, language)
        return HeadSetting(
            self.unit.task, self.sight.tower.pooled_width, self.sight.tower.token_width, vocabulary, answers, options
        )  # fmt: skip

    @cached_property
    def captions(self) -> TaskData | None:
        """Captions that the head learns from before the task, if it does."""
        both = task_of(self.unit.head, self.unit.task) == "both"
        return first_captions(self.recipe, self.data) if both else None

    def head(self) -> Head:
        """Return the head with the weights that the seed gives it."""
        return build_head(self.unit.head, self.setting, seed=self.unit.seed).to(self.clip.device)

    def _material(
        self, examples: pd.DataFrame, data: TaskData | None = None, sight: Sight | None = None
    ) -> Material:
        data, sight = data or self.data, sight or self.sight
        source = sight.source if data is self.data else sight.source_of(data.images)
        return material_of(data, examples, source, answers=self.setting.answers)

    def _train(self, head: Head, plan: Plan) -> Trained:
        if not (self.sight.trained and self.budget.head_first):
            return self._fit(head, plan, self.sight, self.budget)
        # The first part is what mode frozen does; its file is kept until the second part is done, which may be stopped too.
        alone = self.recipe.training_of("frozen").resolved(self.examples)
        first = self._fit(
            head, replace(plan, refit=None), self.sight.as_given(), alone, name="head.pt", keep=True
        )
        trained = self._fit(head, plan, self.sight, self.budget).after(first)
        checkpoint.forget(self._folder / "head.pt")
        return trained

    def _fit(
        self, head: Head, plan: Plan, sight: Sight, budget: Training, *, name: str = "progress.pt", keep: bool = False
    ) -> Trained:  # fmt: skip
        stages = [self._material((s.data or self.data).split("train"), s.data, sight) for s in plan.stages]
        return train(
            head, stages, self._material(self.data.split("val"), sight=sight), plan=plan, training=budget,
            tower=sight.tower if sight.trained else None, seed=self.unit.seed, device=self.clip.device,
            precision=self.unit.precision, checkpoint=self._folder / name, key=self.key, keep=keep,
            on_step=self._progress("training" if sight is self.sight else "training the head"),
        )  # fmt: skip

    def _progress(self, what: str) -> Callable[[int, int], None]:
        def tell(done: int, total: int) -> None:
            if done % 10 == 0 or done == total:
                self.say(f"{what} {done}/{total}")

        return tell

    # -- what it says -------------------------------------------------------------------------------

    def _predict(self, head: Head, plan: Plan) -> pd.DataFrame:
        said = predict(
            head, self._material(self.test), beams=self.recipe.beams, plan=plan, on_batch=self._progress("predicting")
        )  # fmt: skip
        said = said.assign(**self.unit.columns)
        save_predictions(self.out / "predictions", said, task=self.unit.task, name=self.unit.slug)
        return said

    def _evaluate(self, head: Head, predictions: pd.DataFrame) -> tuple[list[dict], pd.DataFrame]:
        self.say("measuring")
        found, cards = self._views()
        e = self.recipe.evaluation
        rows = evaluate(
            predictions, self.data, what=self._asked(), views=found, probabilities=self._probabilities(head),
            answers=self.setting.answers or None, n_boot=e.n_boot, n_perm=e.n_perm, **e.options,
        )  # fmt: skip
        base = {"stage": "post", **self.unit.columns, "image_set": self.data.name}
        return rows.assign(**base).to_dict("records"), cards

    def _asked(self) -> list[str] | None:
        """Return the metrics: those of the recipe; of the blind baseline quality alone."""
        if self.blind:
            return sorted({name for name in METRICS[self.unit.task] if facts(name).kind == "quality"})
        return self.recipe.evaluation.metrics or None

    def _probabilities(self, head: Head) -> np.ndarray | None:
        """Return the answer probabilities of the test examples, for differences between twins."""
        if self.unit.task != "vqa" or self.blind:
            return None
        return answer_probabilities(head, self._material(self.test)).numpy()

    def _views(self) -> tuple[list[view_maker.View], pd.DataFrame]:
        """Return the views of the test images in the space of the CLIP before adaptation, and their cards."""
        images = self.data.images.take(np.unique(self.data.image_rows(self.test)))
        specs = ["global"] if self.blind else list(dict.fromkeys(["global", *self.recipe.evaluation.views]))
        cache = EmbeddingCache()
        needs = any(view_maker.needs_embeddings(spec) for spec in specs)
        own = embed_images(self.clip, images, cache=cache, bad="raise").values if needs else None
        other = None
        if any("@reference" in spec for spec in specs):
            judge = load_model(self.unit.reference or self.unit.model, device=self.unit.device)
            other = embed_images(judge, images, cache=cache, bad="raise").values
        found: list[view_maker.View] = []
        gone: list[dict] = []
        for spec in specs:
            try:
                made = view_maker.make(
                    spec, images, own, reference=other, encode_text=lambda t: embed_texts(self.clip, t, cache=cache),
                    min_size=self.recipe.evaluation.min_view if spec.startswith("kmeans") else None, seed=0,
                )  # fmt: skip
            except StatusError as problem:
                gone.append({"item": spec, "reason": problem.reason})
                continue
            found += list(made)
            gone += made.left_out[["item", "reason"]].to_dict("records")
        if gone:
            self.left_out = pd.concat([self.left_out, pd.DataFrame(gone)], ignore_index=True)
        return found, view_maker.slice_cards(found, images, model=self.unit.model)

    # -- competence ---------------------------------------------------------------------------------

    def _quality(self, rows: list[dict]) -> float:
        metric = self.recipe.competence.metric
        for row in rows:
            if (
                row["metric"] == metric
                and row["view"] == "global"
                and not row.get("group")
                and not row.get("attribute")
            ):
                return float(row["value"])
        raise DataError(
            f"competence is judged by {metric!r}, which the evaluation of {self.unit.task} does not give."
        )

    def _judge(self, quality: float) -> tuple[bool | None, str]:
        if self.blind:
            return None, "the image-blind baseline"
        if self.unit.blind is None:
            return None, "no image-blind baseline was trained, so competence is not judged"
        return self.recipe.competence.judge(quality, self.unit.blind[1])

    def _silence(self, rows: list[dict], competent: bool | None, reason: str) -> list[dict]:
        """Take the bias of a model that does not do its task out of the rows, and say so; quality stays."""
        if self.blind:
            return [row for row in rows if is_quality(row)]
        if competent is False:
            empty = {**dict.fromkeys(NUMBERS), "status": "not competent", "reason": reason}
            rows = [row if is_quality(row) else {**row, **empty} for row in rows]
        return rows

    # -- states and files ---------------------------------------------------------------------------

    def _write_states(self, layers: dict[str, np.ndarray], state: str, fixed: Material) -> None:
        about = {name: str(self.unit.columns[name]) for name in ("task", "head", "mode", "intervention")}
        path = self.out / "states" / f"{self.unit.slug}--{state}.safetensors"
        ids = fixed.examples["image_id"].tolist()
        states.save_states(
            path, layers, model=self.unit.model, state=state, ids=ids, image_set=self.data.name, **about
        )

    def _states_before(self, head: Head, fixed: Material, keep: str) -> None:
        if keep != "post":
            return
        self.say("states before")
        untrained = states.head_states(head, fixed)
        before = states.given_states(fixed, list(untrained))
        self._write_states(before | states.tower_states(self.sight.layers, fixed.rows), "pre", fixed)
        self._write_states(untrained, "untrained", fixed)

    def _states_after(self, head: Head, fixed: Material, keep: str) -> None:
        self.say("states after")
        after = states.head_states(head, fixed)
        if self.sight.trained:  # a frozen tower is the same before and after
            after |= states.tower_states(self.sight.layers, fixed.rows)
        self._write_states(after, keep, fixed)

    def _save(self, head: Head) -> None:
        clip = self.sight.tower.adapted_clip() if self.sight.trained else self.clip
        fixtures = checkpoint.fixture_images()
        embeddings = clip.encode_images(fixtures)
        checkpoint.save_adapted(
            self._folder,
            about={**self.unit.columns, "key": self.key, "config": clip.config, "preprocess": clip.preprocess.config,
                   "precision": clip.precision, "grid": self.recipe.grid, "answers": list(self.setting.answers),
                   "head_task": self.setting.task,
                "vocabulary": self.setting.vocabulary.to_json(), "options": self.setting.options,
                   "pooled_width": self.setting.pooled_width, "token_width": self.setting.token_width},
            head=head.state_dict(), tower=clip.network.visual.state_dict() if self.sight.trained else None,
            fixtures=fixtures, embeddings=embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True),
        )  # fmt: skip

    def _summary(
        self,
        head: Head,
        trained: Trained,
        quality: float,
        competent: bool | None,
        reason: str,
        seconds: float,
        plan: Plan,
    ) -> dict[str, object]:
        return {
            **self.unit.columns, "image_set": self.data.name, "steps": trained.steps, "best_step": trained.best_step,
            "seconds": round(seconds, 2), "training_seconds": round(trained.seconds, 2), "parameters": trained.parameters,
            "val_loss": trained.val_loss, "metric": self.recipe.competence.metric, "quality": quality,
            "blind": float("nan") if self.unit.blind is None else self.unit.blind[1],
            "competent": {None: "", True: "yes", False: "no"}[competent], "reason": reason,
            "train_examples": int((self.data.examples["split"] == "train").sum()), "test_images": self.test["image_id"].nunique(),
            "plan": "; ".join(f"{k}: {v}" for k, v in plan.record.items()),
        }  # fmt: skip


def is_quality(row: dict) -> bool:
    """Return whether a row says how well a model does its task, and not how fair it is."""
    return facts(row["metric"]).kind == "quality" and not row.get("attribute")
