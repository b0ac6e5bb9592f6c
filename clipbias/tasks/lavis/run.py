"""LAVIS's own pipeline from files to predictions: registry, dataset builders, processors, tasks and their loops.

``RunnerBase`` is left out: it needs a GPU and a process group, and adds to the tasks' loops only what is here.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch.utils.data import DataLoader

from clipbias.errors import ClipbiasError, DataError, nearest
from clipbias.tasks.lavis.around import images_named, quiet, seeded
from clipbias.tasks.lavis.bridge import load
from clipbias.tasks.lavis.datasets import BUILDER, builder_config, vocabulary_of
from clipbias.tasks.lavis.files import write_files
from clipbias.tasks.lavis.models import ARCH, ModelConfig
from clipbias.tasks.lavis.words import LavisTokenizer
from clipbias.tasks.material import answer_list
from clipbias.tasks.predict import COLUMNS
from clipbias.tasks.vision import Tower
from clipbias.tasks.vocabulary import Vocabulary

if TYPE_CHECKING:
    from clipbias.models import Clip
    from clipbias.tasks.data import TaskData

_lavis: Any = load()
INFERENCE = ("rank", "generate")


def train_lavis(
    clip: Clip,
    data: TaskData,
    task: str | None = None,
    *,
    epochs: int = 10,
    split: str = "test",
    inference: str = "rank",
    beams: int = 3,
    **options: Any,
) -> pd.DataFrame:
    """Make a LAVIS captioner or VQA model of a CLIP, and let it speak.

    Parameters
    ----------
    clip : Clip
    data : TaskData
    task : {"captioning", "vqa"}, optional
        Default: that of the data.
    epochs : int
    split : {"test", "val", "train"}
    inference : {"rank", "generate"}
        VQA: choose from the answer list, or generate.
    beams : int
        1 is greedy. Ranking has none.
    **options
        Of :class:`LavisRun`: mode, batch_size, learning_rate, seed, device, ...

    Returns
    -------
    DataFrame
        Predictions, `clipbias.tasks.predict.COLUMNS`; LAVIS gives no scores, so ``score`` is missing.

    Raises
    ------
    ClipbiasError
        LAVIS is missing, an option is unknown, or the loss is not finite.
    DataError
        The data are of another task, or an image cannot be read.
    """
    if task is not None and task != data.task:
        raise DataError(f"{data.name!r} is data for {data.task}, not for {task}.")
    with LavisRun(clip, data, **options) as run:
        run.fit(epochs)
        return run.predict(split, inference=inference, beams=beams)


class LavisRun:
    """A model and its data inside LAVIS.

    Parameters
    ----------
    clip : Clip
    data : TaskData
    mode : {"frozen", "lora", "full"}
    lora_rank : int
    batch_size : int
    learning_rate, min_learning_rate, weight_decay : float
        AdamW with LAVIS's schedule: linear warm-up within the first epoch, then a cosine by epoch. The tower, where it is
        trained, has the same rate.
    warmup_steps : int
    vocabulary : Vocabulary, optional
        Default: all words of the training texts.
    answers : sequence of str or int
        Answer list (VQA), or how many of the most frequent training answers it has.
    candidates : int
        Answers ranked, those with the likeliest first token.
    max_new : int
        Tokens of the longest caption or answer.
    model : mapping, optional
        Further fields of `clipbias.tasks.lavis.models.ModelConfig`: width, layers, heads, dropout, max_length.
    folder : path, optional
        Where the files for LAVIS go, and stay. Default: a temporary folder.
    seed : int
        Decides the first weights, data order and dropout; the caller's random state is left as it was.
    device : str, optional
        Default: the CLIP's.
    half : bool
        float16 with loss scaling, on a GPU only.

    Attributes
    ----------
    model : Module
        LAVIS's, from its registry.
    log : DataFrame
        ``epoch, loss, learning_rate, seconds``.
    """

    def __init__(
        self,
        clip: Clip,
        data: TaskData,
        *,
        mode: str = "frozen",
        lora_rank: int = 8,
        batch_size: int = 32,
        learning_rate: float = 1e-3,
        min_learning_rate: float = 0.0,
        weight_decay: float = 0.05,
        warmup_steps: int = 0,
        vocabulary: Vocabulary | None = None,
        answers: tuple[str, ...] | list[str] | int = 3000,
        candidates: int = 128,
        max_new: int = 40,
        model: Mapping[str, Any] | None = None,
        folder: str | Path | None = None,
        seed: int = 0,
        device: str | None = None,
        half: bool = False,
    ) -> None:
        self.clip, self.data, self.mode, self.seed = clip, data, mode, seed
        self.device = torch.device(device or clip.device)
        if self.device.type != clip.device.type:
            raise ClipbiasError(
                f"the CLIP is on {clip.device}, so LAVIS cannot run on {self.device}; load it there."
            )
        self.batch_size, self.candidates, self.max_new = batch_size, candidates, max_new
        self.rates = {"init_lr": learning_rate, "min_lr": min_learning_rate, "warmup_steps": warmup_steps}
        self.weight_decay, self.half = weight_decay, half and self.device.type == "cuda"
        self.answers: tuple[str, ...] = ()
        if data.task == "vqa":
            given = isinstance(answers, int)
            self.answers = answer_list(data.split("train"), answers) if given else tuple(answers)  # type: ignore[arg-type]
        self._stack = contextlib.ExitStack()
        try:
            self.folder = Path(
                folder or self._stack.enter_context(tempfile.TemporaryDirectory(prefix="clipbias-lavis-"))
            )
            files = write_files(data, self.folder, answers=self.answers)
            self.task = self._task("rank", 3)
            with quiet():
                self.datasets = self.task.build_datasets(
                    SimpleNamespace(datasets_cfg=builder_config(clip, data.task, self.folder, files))
                )
            self.datasets = self.datasets[BUILDER[data.task]]
            with seeded(seed, self.device):
                self.model = self._model(
                    vocabulary or vocabulary_of(data, self.answers), lora_rank, model or {}
                )
        except BaseException:
            self.close()
            raise
        self._records: list[dict[str, float]] = []

    def __enter__(self) -> LavisRun:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the temporary files; training and predicting need them."""
        self._stack.close()

    @property
    def log(self) -> pd.DataFrame:
        """``epoch, loss, learning_rate, seconds``, a row per epoch."""
        return pd.DataFrame(self._records, columns=["epoch", "loss", "learning_rate", "seconds"])

    def fit(self, epochs: int, *, on_epoch: Callable[[int, int], None] | None = None) -> None:
        """Train by ``train_epoch`` of LAVIS's task.

        Parameters
        ----------
        epochs : int
        on_epoch : callable, optional
            ``on_epoch(done, of)``.

        Raises
        ------
        ClipbiasError
            The loss is not finite.
        DataError
            An image cannot be read.
        """
        trained = [p for p in self.model.parameters() if p.requires_grad]
        plain = [p for p in trained if p.ndim <= 1]
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.rates["init_lr"], betas=(0.9, 0.999))
        schedule = _lavis.CosineSchedule(optimizer, max_epoch=epochs, **self.rates)
        scaler = torch.amp.GradScaler("cuda") if self.half else None
        order = torch.Generator().manual_seed(self.seed)
        train = self.datasets["train"]
        loader = DataLoader(train, self.batch_size, shuffle=True, generator=order, collate_fn=train.collater)
        with seeded(self.seed + 1, self.device), quiet():
            for epoch in range(epochs):
                began = time.monotonic()
                self.model.train()
                with images_named():
                    found = self.task.train_epoch(
                        epoch=epoch, model=self.model, data_loader=loader, optimizer=optimizer, lr_scheduler=schedule,
                        scaler=scaler, cuda_enabled=self.device.type == "cuda", log_freq=max(1, len(loader)),
                    )  # fmt: skip
                loss = float(found["loss"])
                if loss != loss or loss == float("inf"):
                    raise ClipbiasError(f"the loss became {loss} in epoch {epoch}: lower learning_rate.")
                self._records.append(
                    {"epoch": epoch, "loss": loss, "learning_rate": optimizer.param_groups[0]["lr"],
                     "seconds": time.monotonic() - began}
                )  # fmt: skip
                if on_epoch is not None:
                    on_epoch(epoch + 1, epochs)
        self.model.eval()

    def predict(self, split: str = "test", *, inference: str = "rank", beams: int = 3) -> pd.DataFrame:
        """Return what the model says of a split, by ``evaluation`` of LAVIS's task.

        Parameters
        ----------
        split : {"test", "val", "train"}
        inference : {"rank", "generate"}
        beams : int

        Returns
        -------
        DataFrame
            `clipbias.tasks.predict.COLUMNS`, in the order of the split.
        """
        if inference not in INFERENCE:
            raise ClipbiasError(f"there is no inference {inference!r}." + nearest(inference, INFERENCE))
        examples = self.data.split(split)
        task = self._task(inference, beams)
        task.answer_list = list(self.answers)
        dataset = self._spoken_of(split)
        loader = DataLoader(dataset, self.batch_size, collate_fn=dataset.collater)
        self.model.eval()
        with torch.no_grad(), seeded(self.seed, self.device), quiet(), images_named():
            task.before_evaluation(model=self.model, dataset=dataset)
            found = task.evaluation(self.model, loader, cuda_enabled=self.device.type == "cuda")
        if self.data.task == "captioning":
            said = {record["image_id"]: record["caption"] for record in found}
            keys = self.data.image_rows(examples).tolist()
        else:
            said = {record["question_id"]: record["answer"] for record in found}
            keys = list(range(len(examples)))
        key = {
            "model": str(self.clip.spec), "task": self.data.task, "head": "lavis-" + _SHORT[self.data.task],
            "mode": self.mode, "intervention": "", "seed": str(self.seed),
        }  # fmt: skip
        table = examples[["example_id", "image_id", "question"]].assign(
            **key, prediction=[said[k] for k in keys], score=float("nan")
        )
        return table[COLUMNS]

    def _spoken_of(self, split: str) -> Any:
        """Return a split as LAVIS evaluates it; its training data set is of another class."""
        if split != "train":
            return self.datasets[split]
        like, train = self.datasets["val"], self.datasets["train"]
        paths = [self.folder / f"{self.data.task}_train.json"]
        if self.data.task == "vqa":
            paths.append(self.folder / "answer_list.json")
        return type(like)(like.vis_processor, like.text_processor, train.vis_root, list(map(str, paths)))

    def _task(self, inference: str, beams: int) -> Any:
        settings = {
            "num_beams": beams, "max_len": self.max_new, "min_len": 1, "evaluate": False, "report_metric": False,
            "inference_method": inference, "num_ans_candidates": self.candidates,
        }  # fmt: skip
        made = _lavis.CaptionTask if self.data.task == "captioning" else _lavis.VQATask
        return made.setup_task(cfg=SimpleNamespace(run_cfg=_lavis.OmegaConf.create(settings)))

    def _model(self, vocabulary: Vocabulary, lora_rank: int, more: Mapping[str, Any]) -> Any:
        tower = Tower(self.clip)
        tower.make_trainable(self.mode, rank=lora_rank, seed=self.seed)
        config = ModelConfig(
            ARCH[self.data.task],
            LavisTokenizer.of(vocabulary),
            tower.pooled_width,
            tower.token_width,
            tower=tower,
            **more,
        )
        return self.task.build_model(SimpleNamespace(model_cfg=config)).to(self.device)


_SHORT = {"captioning": "caption", "vqa": "vqa"}
