"""LAVIS's data sets: the CLIP's preprocessing as a processor, and the configuration of the builders.

Importing this imports LAVIS.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipbias.models.preprocess import Preprocess
from clipbias.tasks.lavis.bridge import load, register
from clipbias.tasks.lavis.files import said_of
from clipbias.tasks.vocabulary import Vocabulary

if TYPE_CHECKING:
    from clipbias.models import Clip
    from clipbias.tasks.data import TaskData

_lavis: Any = load()
BUILDER = {"captioning": "coco_caption", "vqa": "coco_vqa"}
TEXT = {"captioning": "blip_caption", "vqa": "blip_question"}


class ClipImageProcessor(_lavis.BaseProcessor):  # type: ignore[misc]
    """A CLIP's own preprocessing as a LAVIS processor; LAVIS's have OpenAI's mean and standard deviation built in."""

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__()
        self.transform = preprocess.transform

    @classmethod
    def from_config(cls, cfg: Any = None) -> ClipImageProcessor:
        """Build it from ``cfg.preprocess``, open_clip's fields."""
        return cls(Preprocess(_lavis.OmegaConf.to_container(cfg.preprocess)))


register("processor", "clipbias_image", ClipImageProcessor)


def builder_config(clip: Clip, task: str, folder: Path, files: dict[str, list[Path]]) -> Any:
    """Return the configuration of a builder; ``url`` and ``storage`` are the same file, so nothing is fetched."""
    image = {"name": "clipbias_image", "preprocess": dict(clip.preprocess.config)}
    text = {"name": TEXT[task]}
    annotations = {
        split: {"url": list(map(str, paths)), "storage": list(map(str, paths))}
        for split, paths in files.items()
    }
    builder = {
        "data_type": "images",
        "build_info": {"annotations": annotations, "images": {"storage": str(folder / "images")}},
        "vis_processor": {"train": image, "eval": image},
        "text_processor": {"train": text, "eval": text},
    }
    return _lavis.OmegaConf.create({BUILDER[task]: builder})


def vocabulary_of(data: TaskData, answers: tuple[str, ...]) -> Vocabulary:
    """Return the words of the training texts as LAVIS's processors and the answer list write them."""
    process = _lavis.registry.get_processor_class(TEXT[data.task]).from_config()
    train = data.split("train")
    if data.task == "captioning":
        return Vocabulary.build(map(process, train["target"]))
    said = [text for pair in zip(train["answers"], train["target"], strict=True) for text in said_of(*pair)]
    return Vocabulary.build([*map(process, train["question"]), *said, *answers])
