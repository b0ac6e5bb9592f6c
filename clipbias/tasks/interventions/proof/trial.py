"""One training on frozen embeddings: a plan in, what the head says of the test images and the record of the plan out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from clipbias.tasks.batches import Material, Source
from clipbias.tasks.data import TaskData
from clipbias.tasks.heads.base import Features, Head, HeadSetting
from clipbias.tasks.interventions.base import parse
from clipbias.tasks.interventions.measures import rate_differences, worst_group
from clipbias.tasks.interventions.proof.ground import GROUPS, PAIR, Embeddings
from clipbias.tasks.interventions.proof.heads import PooledAnswers, PooledWords
from clipbias.tasks.material import answer_list
from clipbias.tasks.outcomes import named
from clipbias.tasks.plan import Plan
from clipbias.tasks.predict import answer_probabilities, predict
from clipbias.tasks.recipe import Training
from clipbias.tasks.train import train
from clipbias.tasks.vocabulary import Vocabulary

# The weights after the last step are kept: validation data that are as biased as training would choose a biased state.
_BUDGET = {"steps": 300, "batch_size": 128, "learning_rate": 3e-3, "evaluations": 1}
BUDGET = {task: Training.model_validate(_BUDGET) for task in ("vqa", "captioning")}
BIAS = ("fpr_difference", "tpr_difference", "flip_rate", "spurious_gap")
QUALITY = ("auc", "accuracy", "balanced_accuracy")
STARTS = ("a picture of an artist", "a picture of a construction worker")


@dataclass(frozen=True, eq=False)
class Result:
    """What a trained head says of the test images.

    Attributes
    ----------
    scores : numpy.ndarray (n, 2)
        Probability of either role of the pair.
    right, label, group : numpy.ndarray (n,)
        Whether the role that is said is the true one; the true role and gender, 0 or 1, as places in `PAIR` and `GROUPS`.
    said : numpy.ndarray (n,)
        Role that is said, -1 for none.
    twin : numpy.ndarray, int (n,)
        Position of the picture that differs in gender alone.
    record : dict
        Of the plan: labels seen, images used, effective images.
    seconds : float
    """

    scores: np.ndarray
    right: np.ndarray
    said: np.ndarray
    label: np.ndarray
    group: np.ndarray
    twin: np.ndarray
    record: Mapping[str, object] = field(default_factory=dict)
    seconds: float = 0.0

    def measures(self) -> dict[str, float]:
        """Return bias and quality by name.

        ``worst_group`` (accuracy in the worst of four cells, higher is fairer), ``fpr_difference`` and ``tpr_difference`` (tied
        gender minus the other, mean over the two roles, at the base-rate-matched threshold; 0 is fair), ``flip_rate`` (pairs of
        twins that are called differently; 0 is fair), ``auc``, ``accuracy`` and ``balanced_accuracy`` (mean over cells).
        """
        tied = self.label == self.group
        cells = 2 * self.label + self.group
        found = [rate_differences(self.scores[:, k], self.label == k, self.group == k) for k in (0, 1)]
        means = np.bincount(cells, self.right) / np.bincount(cells)
        return {
            "worst_group": worst_group(self.right, cells),
            "fpr_difference": float(np.mean([one.fpr for one in found])),
            "tpr_difference": float(np.mean([one.tpr for one in found])),
            "flip_rate": float((self.said != self.said[self.twin]).mean()),
            "spurious_gap": float(self.right[tied].mean() - self.right[~tied].mean()),
            "auc": float(np.mean([one.auc for one in found])),
            "accuracy": float(self.right.mean()),
            "balanced_accuracy": float(means.mean()),
        }  # fmt: skip


def run(
    data: TaskData,
    embeddings: Embeddings,
    setting: str = "",
    *,
    seed: int = 0,
    steps: int = 0,
    training: Training | None = None,
    tower: nn.Module | None = None,
    source: Source | None = None,
) -> Result:
    """Train a head as an intervention plans, and let it speak of the test images.

    Parameters
    ----------
    data : TaskData
        From `ground`.
    embeddings : Embeddings
    setting : str
        Intervention as on the command line; empty for plain training.
    seed : int
        Of the head, the order of the data and everything that the plan draws.
    steps : int
        Default: those of `BUDGET`.
    training : Training, optional
        Default: that of `BUDGET`.
    tower, source : Module and callable, optional
        A tower that is trained too, and the features that it gives of image positions.
    """
    began = time.monotonic()
    torch.set_num_threads(1)
    encoder = embeddings.rows(data)
    plan = Plan()
    if setting:
        groups = data.images.table[["image_id", "gender"]]
        plan = parse(setting_of(setting, seed)).plan(data, encoder, groups)
    head = _head(data, embeddings, seed)
    budget = training or BUDGET[data.task]
    if steps:
        budget = budget.model_copy(update={"steps": steps})
    stages = [
        _material(stage.data or data, "train", embeddings, source if stage.data is None else None)
        for stage in plan.stages
    ]
    val = _material(data, "val", embeddings, source)
    train(head, stages, val, plan=plan, training=budget, tower=tower, seed=seed)
    head.eval()
    scores, words = _said(head, _material(data, "test", embeddings, source), plan)
    record = dict(plan.record)
    calibrated = getattr(plan.posterior, "last", None)
    if calibrated is not None:  # known only when it has seen all test images
        record |= {
            "violations before": calibrated.violated_before,
            "violations after": calibrated.violated_after,
        }
    return result_of(data, scores, words, record, time.monotonic() - began)


def _head(data: TaskData, embeddings: Embeddings, seed: int) -> Head:
    train_examples = data.split("train")
    vocabulary = Vocabulary.build(list(train_examples["target"]) + list(STARTS) + list(PAIR))
    answers = answer_list(train_examples, 10) if data.task == "vqa" else ()
    width = embeddings.of(data.images).shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        kind: Any = PooledAnswers if data.task == "vqa" else PooledWords
        return kind(HeadSetting(data.task, width, 1, vocabulary, answers))


def setting_of(setting: str, seed: int) -> str:
    """Return a setting with the seed of its plan in it."""
    return setting if "seed=" in setting else setting + ("," if ":" in setting else ":") + f"seed={seed}"


def _material(data: TaskData, split: str, embeddings: Embeddings, source: Source | None = None) -> Material:
    # Columns of text as objects: the loop takes rows out of them at every step, which arrow columns are slow at.
    examples = data.split(split).astype(object)
    if source is not None:
        return Material(examples, data.image_rows(examples), source)
    values = torch.from_numpy(embeddings.of(data.images))

    def look_up(rows: np.ndarray) -> Features:
        pooled = values[torch.as_tensor(rows)]
        return Features(pooled, pooled[:, None, :1])

    return Material(examples, data.image_rows(examples), look_up)


def _said(head: Head, test: Material, plan: Plan) -> tuple[np.ndarray, list[str]]:
    """Return the probability of either role, (n, 2), and what is said."""
    words = predict(head, test, plan=plan)["prediction"].tolist()
    if isinstance(head, PooledWords):
        features = test.features(np.arange(len(test)))
        return head.likelihoods(features, list(STARTS)).double().softmax(1).numpy(), words
    probabilities = answer_probabilities(head, test)
    if plan.posterior is not None:
        probabilities = plan.posterior(probabilities, test.examples)
    place = [head.setting.answers.index(role) for role in PAIR]
    return probabilities[:, place].double().numpy(), words


def result_of(
    data: TaskData,
    scores: np.ndarray,
    words: list[str],
    record: Mapping[str, object] | None = None,
    seconds: float = 0.0,
) -> Result:
    """Return scores (n, 2) and texts about the test examples beside what is true of them."""
    table = data.images.table.iloc[data.image_rows(data.split("test"))].reset_index(drop=True)
    names = named(words, PAIR)
    said = np.array([PAIR.index(name) if name in PAIR else -1 for name in names])
    label = np.array([PAIR.index(role) for role in table["role"].astype(str)])
    group = np.array([GROUPS.index(gender) for gender in table["gender"].astype(str)])
    where = {image: row for row, image in enumerate(table["image_id"])}
    twin = np.array([where[image] for image in table["twin"]])
    return Result(scores, (said == label).astype(float), said, label, group, twin, record or {}, seconds)
