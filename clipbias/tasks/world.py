"""Task data of the embedded world: drawn, written in the real formats, and read back by the readers of the real sets.

Training and validation scenes are drawn, with or without a planted tie; the scenes on which bias is measured are
fully crossed, so that each has its exact twins. The written files are kept and used again.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
from filelock import FileLock
from pydantic import ValidationError

from clipbias import content
from clipbias.data import ImageSet, export_coco, export_vqa, read_coco_captions, read_vqa
from clipbias.data.combine import combine
from clipbias.embedding.cache import default_folder
from clipbias.errors import ClipbiasError, DataError, nearest
from clipbias.probes import art, scenery
from clipbias.probes import world as planted
from clipbias.probes.world import World
from clipbias.tasks.data import TASKS, TaskData
from clipbias.tasks.examples import SPLITS, caption_examples, question_examples

VERSION = "1"
REFERENCES = ("neutral", "gendered")  # kinds of caption that a prediction is compared with
_FIRST_SEED = 10_000  # seeds of samples that the zoo was trained on or that `measure` shows are smaller
_MARK = "whole.json"  # written last: what the folder must hold


def world_data(
    task: str,
    *,
    n_train: int = 6000,
    n_val: int = 500,
    crossed: int = 1,
    seed: int = 0,
    styles: Sequence[str] | None = None,
    rho: float | None = None,
    rho_in: Mapping[str, float] | None = None,
    noise: float | None = None,
    caption_kinds: Sequence[str] = ("neutral", "gendered"),
    knobs: Mapping[str, object] | None = None,
    test_knobs: Mapping[str, object] | None = None,
    cache: str | Path | None = None,
    **shared: object,
) -> TaskData:
    """Return a sample of the embedded world as task data.

    Parameters
    ----------
    task : {"vqa", "captioning"}
    n_train, n_val : int
        Scenes drawn for training and validation.
    crossed : int
        Test scenes per cell of role x context x style; each cell holds all ten combinations of gender and tone.
    seed : int
        The three samples have seeds of their own, made of it; both tasks show the same pictures.
    styles : sequence of str, optional
        Default, as for ``noise``: that of the world.
    rho, rho_in : float or None, mapping, optional
        What is planted into training and validation data, see :class:`~clipbias.probes.world.World`. None: nothing.
    noise : float, optional
    caption_kinds : sequence of str
        Kinds of caption in training and validation: ``neutral`` (names no attribute), ``gendered``, ``toned``,
        ``short``. Test references are always the neutral and gendered ones.
    knobs, test_knobs : mapping, optional
        Further knobs of the world for training and validation, and for the test scenes.
    cache : path, optional
        Where the files are kept. Default: ``worlds`` in the user's cache folder.
    **shared
        Further knobs for all samples; ``knobs`` and ``test_knobs`` win.

    Returns
    -------
    TaskData
        ``images`` has the columns ``scene`` (one per twin group over all splits), ``twin``, ``style``, ``role``,
        ``gender``, ``tone``, ``object``, ``context``, ``people``, ``plain``, ``other``, ``share``, ``evidence``, ``planted``. A question has one true answer; it
        stands ten times in ``answers``, so that the official VQA rule counts an exact match.

    Raises
    ------
    DataError
        Unknown task, knob or kind of caption, or a value that the world does not allow.
    ClipbiasError
        The files cannot be written (a full disk).
    """
    if task not in TASKS:
        raise DataError(f"there is no task {task!r}." + nearest(task, TASKS))
    for kind in caption_kinds:
        if kind not in planted.definition()["captions"]:
            raise DataError(
                f"the world has no captions of kind {kind!r}."
                + nearest(kind, planted.definition()["captions"])
            )
    if not caption_kinds:
        raise DataError("caption_kinds is empty; name at least one kind of caption.")
    named = {"styles": tuple(styles) if styles else None, "noise": noise}
    general = {**{knob: value for knob, value in named.items() if value is not None}, **shared}
    drawn = {**general, "rho": rho, "rho_in": dict(rho_in or {}), **(knobs or {})}
    first = _FIRST_SEED + 3 * seed
    worlds = {
        "train": _world({**drawn, "n": n_train, "seed": first}),
        "val": _world({**drawn, "n": n_val, "seed": first + 1}),
        "test": _world({**general, **(test_knobs or {}), "crossed": crossed, "seed": first + 2}),
    }
    if worlds["test"].crossed < 1:
        raise DataError("crossed is 0; the test scenes need at least one scene per cell.")
    kinds = dict.fromkeys(SPLITS, tuple(dict.fromkeys(caption_kinds))) | {"test": REFERENCES}
    folder = Path(cache) if cache is not None else default_folder().parent / "worlds"
    parts = {split: _sample(task, worlds[split], kinds[split], folder) for split in SPLITS}
    splits = {image: split for split, part in parts.items() for image in part.ids}
    name = f"world-{task}"
    facts = {
        "world": {split: world.model_dump() for split, world in worlds.items()},
        "ties": planted.ties(worlds["train"].attribute, worlds["train"].target),
        "caption_kinds": list(caption_kinds),
    }
    images = combine(list(parts.values()), name=name, facts=facts)
    images = replace(images, licence=parts["train"].licence, source=parts["train"].source)
    make = question_examples if task == "vqa" else caption_examples
    return TaskData(
        task, images, make(images, splits), name, images.licence, images.source, images.left_out
    )  # fmt: skip


def _world(knobs: Mapping[str, object]) -> World:
    for knob in knobs:
        if knob not in World.model_fields:
            raise DataError(f"the world has no knob {knob!r}." + nearest(knob, World.model_fields))
    try:
        return World(**knobs)  # type: ignore[arg-type]
    except ValidationError as problem:
        first = problem.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(f"the world's knob {where}: {first['msg']} (found {first['input']!r}).") from problem


def _sample(task: str, world: World, kinds: Sequence[str], root: Path) -> ImageSet:
    """Return one sample as the readers see it, drawing and writing it if it is not there whole."""
    parent = root / f"v{VERSION}" / _digest(world)
    folder = parent / ("vqa" if task == "vqa" else "captions-" + "-".join(kinds))
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with FileLock(parent / ".lock"):
            if not _whole(folder):
                shutil.rmtree(folder, ignore_errors=True)
                _write(task, _source(world, kinds, parent), folder)
    except OSError as problem:
        raise ClipbiasError(
            f"the world's pictures cannot be written to {folder}: {problem.strerror or problem}. Make room, or set "
            "CLIPBIAS_CACHE to another folder."
        ) from problem
    found = _read(task, folder)
    scenes = [f"{world.seed}-{int(scene):06d}" for scene in found.table["scene"]]
    return replace(found, table=found.table.assign(scene=scenes))


def _source(world: World, kinds: Sequence[str], parent: Path) -> ImageSet:
    """Return the sample with its captions of some kinds; pictures come from another export of it if there is one."""
    made = planted.image_set(world)
    texts = planted.captions(made.table)
    chosen = [column for column in map(str, texts) if column.rstrip("0123456789") in kinds]
    asked = made.questions
    assert asked is not None
    number = asked.groupby("image_id").cumcount().astype(str)
    made = replace(
        made,
        table=made.table.drop(columns=["caption", "caption_full"]).assign(
            captions=pd.Series(texts[chosen].to_numpy().tolist(), texts.index)
        ),
        # Numbers start at 0 in each sample; with the image's id they are unique over all.
        questions=asked.assign(question_id=asked["image_id"] + "-q" + number),
    )
    for other in sorted(path for path in parent.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if _whole(other):
            twin = _read("vqa" if other.name == "vqa" else "captioning", other)
            if twin.ids == made.ids:
                return replace(made, read=twin.read)
    return made


def _write(task: str, images: ImageSet, folder: Path) -> None:
    (export_vqa if task == "vqa" else export_coco)(images, folder)
    sizes = {
        str(path.relative_to(folder)): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    texts = {name: _sha(folder / name) for name in sizes if name.endswith(".json")}
    temporary = folder / f".{_MARK}"
    temporary.write_text(json.dumps({"sizes": sizes, "texts": texts}), encoding="utf-8")
    os.replace(temporary, folder / _MARK)


def _whole(folder: Path) -> bool:
    """Return whether a folder holds everything that was written, by sizes, and the texts by checksum."""
    try:
        mark = json.loads((folder / _MARK).read_text(encoding="utf-8"))
        return all((folder / name).stat().st_size == size for name, size in mark["sizes"].items()) and all(
            _sha(folder / name) == digest for name, digest in mark["texts"].items()
        )
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False


def _read(task: str, folder: Path) -> ImageSet:
    if task == "vqa":
        return read_vqa(
            folder / "questions.json", folder / "annotations.json", folder / "images", name="world"
        )
    return read_coco_captions(folder / "annotations" / "captions_world.json", folder / "world", name="world")


def _digest(world: World) -> str:
    """Return what a sample is known by: its knobs, and the art, words and code that it is drawn with."""
    body = json.dumps(world.model_dump(), sort_keys=True, default=str)
    styles = tuple(sorted(set(world.styles)))
    return hashlib.sha256(
        f"{VERSION}|{body}|{_ingredients(styles, os.environ.get('CLIPBIAS_STUDY', ''))}".encode()
    ).hexdigest()[:32]


@functools.cache
def _ingredients(styles: tuple[str, ...], study: str) -> str:
    del study  # another study folder may hold another world
    paths = [
        content.find("probes", "world/world.toml"),
        content.find("probes", "emoji/people.csv"),
        *(content.find("probes", f"emoji/{style}.json.xz") for style in styles),
        *(Path(str(module.__file__)) for module in (planted, scenery, art)),
    ]
    return "|".join(map(_sha, paths))


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
