"""easy-VQA: questions about coloured shapes, a check that a head learns without any people in the pictures."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Unpack

import pandas as pd

from clipbias.data.answers import ten_answers
from clipbias.data.assemble import LabelOptions, finish, read_json
from clipbias.data.imageset import ImageSet
from clipbias.data.registry import reader
from clipbias.errors import DataError


@reader("easy-vqa")
def read_easy_vqa(folder: str | Path | None = None, **options: Unpack[LabelOptions]) -> ImageSet:
    """Read both parts of the Python package ``easy-vqa``.

    Parameters
    ----------
    folder : str or Path, optional
        Holds ``train`` and ``test`` with ``questions.json`` (``[[question, answer, image number]]``) and
        ``images``. Default: that of the installed package.
    **options
        :class:`~clipbias.data.assemble.LabelOptions`.

    Returns
    -------
    ImageSet
        4,000 + 1,000 images of 64 pixels with the column ``split`` (``train``, ``test``); ids such as ``train-17``. The one answer
        stands ten times in ``answers``.

    Raises
    ------
    DataError
        The package is not installed, or a file is of another format.
    """
    root = _installed() if folder is None else Path(folder)
    rows, images = [], []
    for split in ("train", "test"):
        path = root / split / "questions.json"
        body = read_json(path)
        try:
            asked = [(str(question), str(answer), int(image)) for question, answer, image in body]
        except (TypeError, ValueError) as error:
            raise DataError(f"{path} is no list of [question, answer, image number].") from error
        for number, (question, answer, image) in enumerate(asked):
            rows.append(
                {
                    "question_id": f"{split}-q{number}",
                    "image_id": f"{split}-{image}",
                    "question": question,
                    "answer": answer,
                    "answer_type": "yes/no" if answer in ("yes", "no") else "other",
                    "question_type": " ".join(question.split()[:2]),
                    "answers": ten_answers([], answer),
                }
            )
        for image in dict.fromkeys(image for _, _, image in asked):
            key = f"{split}-{image}"
            images.append(
                {"key": key, "image_id": key, "path": f"{split}/images/{image}.png", "split": split}
            )
    if not rows:
        raise DataError(f"{root} holds no questions.")
    about = {"licence": "MIT", "source": "easy-vqa (PyPI)"}
    options = {**options, "name": options.get("name") or "easy-vqa"}
    return finish(pd.DataFrame(images), root, about, path=root, questions=pd.DataFrame(rows), **options)


def _installed() -> Path:
    spec = find_spec("easy_vqa")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("the package easy-vqa is not installed: pip install easy-vqa.")
    return Path(spec.submodule_search_locations[0]) / "data"
