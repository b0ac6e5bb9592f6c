"""The recipe of a task: data, head, budget, competence and the evaluation of bias (tasks/vqa.toml, tasks/captioning.toml)."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clipbias import content
from clipbias.errors import ClipbiasError, DataError, nearest

TASKS = ("vqa", "captioning")
MODES = ("frozen", "lora", "full")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WorldData(_Part):
    """The embedded world as training and test data; see `clipbias.tasks.world.world_data`.

    Attributes
    ----------
    n_train, n_val : int
        Scenes.
    crossed : int
        Scenes per cell of the fully crossed test images, which have exact twins.
    seed : int
        Of the scenes; training seeds do not change the data.
    options : dict
        Further knobs of the world: styles, rho, noise, knobs, test_knobs, ...
    """

    n_train: int = Field(default=6000, ge=1)
    n_val: int = Field(default=500, ge=1)
    crossed: int = Field(default=1, ge=1)
    seed: int = Field(default=0, ge=0)
    options: dict[str, Any] = Field(default_factory=dict)


class Files(_Part):
    """Real files instead of the embedded world; see `clipbias.tasks.data.from_files`. Empty means not given."""

    captions: str = ""
    questions: str = ""
    annotations: str = ""
    images: str = ""
    labels: str = ""
    words: str = "hendricks2018"
    n_train: int = Field(default=0, ge=0)
    options: dict[str, Any] = Field(default_factory=dict)

    @property
    def given(self) -> bool:
        """Whether any file is named."""
        return bool(self.captions or self.questions or self.annotations or self.images)

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of `from_files` that are given."""
        named = self.model_dump(exclude={"options"})
        return {name: value for name, value in named.items() if value} | self.options


class Training(_Part):
    """The budget, the same for every CLIP.

    Attributes
    ----------
    steps, batch_size : int
    epochs : float
        Passes over the training examples; 0: as many as ``steps`` make.
    learning_rate, weight_decay, warmup, clip : float
        AdamW; warm-up as a share of the steps, then a cosine to zero; gradient norm above ``clip`` is scaled down.
    tower_rate : float
        Factor on the learning rate for the vision tower (modes ``lora`` and ``full``).
    head_first : bool
        Modes ``lora`` and ``full``: train the head alone first, as in mode ``frozen``, and then head and tower. A head that
        knows nothing yet would distort what the tower knows (Kumar et al. 2022, arXiv 2202.10054).
    by_image : bool
        The examples of an image come into the same batch, which costs a trained tower one pass for all of them.
    evaluations : int
        How often, evenly spread, the validation loss is taken; the weights with the lowest are kept.
    patience : int
        Evaluations without a lower validation loss after which training stops.
    lora_rank : int
    threads : int
        Threads of one unit on a CPU. Fixed, because sums over more threads differ in their last bits.
    checkpoint_seconds : float
        Time between two checkpoints, which is what an interruption costs.
    """

    steps: int = Field(default=400, ge=1)
    epochs: float = Field(default=0.0, ge=0)
    batch_size: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    warmup: float = Field(default=0.1, ge=0, lt=1)
    clip: float = Field(default=1.0, gt=0)
    tower_rate: float = Field(default=0.3, gt=0)
    head_first: bool = False
    by_image: bool = False
    evaluations: int = Field(default=8, ge=1)
    patience: int = Field(default=3, ge=1)
    lora_rank: int = Field(default=8, ge=1)
    threads: int = Field(default=1, ge=1)
    checkpoint_seconds: float = Field(default=20.0, ge=0)

    def resolved(self, examples: int) -> Training:
        """Return the same budget in steps, for so many training examples."""
        if not self.epochs:
            return self
        steps = max(1, math.ceil(self.epochs * examples / self.batch_size))
        return self.model_copy(update={"steps": steps, "epochs": 0.0})


class Competence(_Part):
    """What a model must reach before its bias is reported, against the image-blind baseline.

    Attributes
    ----------
    metric : str
        A quality metric of the table ``extrinsic``.
    rule : {"times", "points"}
        At least ``margin`` times the baseline, or ``margin`` above it (in the metric's own unit).
    margin : float
    """

    metric: str
    rule: Literal["times", "points"]
    margin: float = Field(gt=0)

    def judge(self, value: float, blind: float) -> tuple[bool, str]:
        """Return whether the value is good enough, and the comparison in words."""
        floor = blind * self.margin if self.rule == "times" else blind + self.margin
        how = f"{self.margin:g} times" if self.rule == "times" else f"{self.margin:g} above"
        good = value >= floor
        return good, (
            f"{self.metric} {value:.3f} is {'at least' if good else 'less than'} {floor:.3f}, "
            f"{how} the image-blind baseline ({blind:.3f})"
        )


class Evaluation(_Part):
    """How quality and bias are taken of the predictions.

    Attributes
    ----------
    views : list of str
        The views of ``measure``.
    metrics : list of str
        Empty: all that the task and the data allow.
    n_boot, n_perm : int
        Bootstrap samples of images, and permutations of the groups.
    options : dict
        Further options of `clipbias.tasks.evaluate.evaluate`.
    """

    views: list[str] = Field(default_factory=lambda: ["global"])
    min_view: int = Field(default=100, ge=2)
    metrics: list[str] = Field(default_factory=list)
    n_boot: int = Field(default=500, ge=0)
    n_perm: int = Field(default=200, ge=0)
    options: dict[str, Any] = Field(default_factory=dict)


class TaskRecipe(_Part):
    """Everything ``adapt`` needs for one task besides models.

    Attributes
    ----------
    task : {"vqa", "captioning"}
    head : str
    heads : dict
        Options by head name.
    answers : int
        Length of the answer list (VQA).
    vocabulary : int
        Largest number of words of a vocabulary built from the training texts.
    beams : int
        1 is greedy.
    grid : int, optional
        Tokens of the tower are averaged down to at most ``grid`` x ``grid``.
    states : int
        Test images whose states are kept, 0 for none.
    """

    task: Literal["vqa", "captioning"]
    head: str
    heads: dict[str, dict[str, Any]] = Field(default_factory=dict)
    answers: int = Field(default=3000, ge=2)
    vocabulary: int = Field(default=10000, ge=10)
    beams: int = Field(default=1, ge=1)
    grid: int | None = Field(default=None, ge=1)
    states: int = Field(default=600, ge=0)
    world: WorldData = WorldData()
    files: Files = Files()
    training: Training = Training()
    modes: dict[str, dict[str, Any]] = Field(default_factory=dict)
    competence: Competence
    evaluation: Evaluation = Evaluation()

    def training_of(self, mode: str) -> Training:
        """Return the budget of a mode: the general one with the mode's own changes."""
        return Training.model_validate(self.training.model_dump() | self.modes.get(mode, {}))

    @property
    def digest(self) -> str:
        """SHA-256 of the recipe."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


def load(task: str, **changes: object) -> TaskRecipe:
    """Read a task's recipe; ``changes`` replace its top-level keys.

    Raises
    ------
    ClipbiasError
        Unknown task, not TOML.
    DataError
        A key or value it cannot hold.
    """
    import tomllib

    if task not in TASKS:
        raise ClipbiasError(f"there is no task {task!r}." + nearest(task, TASKS))
    path = content.find("tasks", f"{task}.toml")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise ClipbiasError(f"{path} is not valid TOML: {problem}.") from problem
    return parse(data, path, **changes)


def parse(data: dict, where: str | Path, **changes: object) -> TaskRecipe:
    """Validate a recipe; messages name the file and the key."""
    try:
        recipe = TaskRecipe.model_validate({**data, **changes})
        for mode in recipe.modes:
            if mode not in MODES:
                raise DataError(f"{where}: modes.{mode}: there is no such mode." + nearest(mode, MODES))
            recipe.training_of(mode)
        return recipe
    except ValidationError as problem:
        first = problem.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{where}: {key}: {first['msg']} (found {str(first['input'])[:80]!r}).") from problem
