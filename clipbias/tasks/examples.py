"""Image sets turned into examples: what a head is asked, and what people said."""

from __future__ import annotations

import pandas as pd

from clipbias.data.answers import majority
from clipbias.data.imageset import ImageSet
from clipbias.errors import DataError

COLUMNS = (
    "example_id", "image_id", "split", "question", "question_type", "answer_type", "answers", "target",
)  # fmt: skip
SPLITS = ("train", "val", "test")


def caption_examples(images: ImageSet, splits: dict[str, str]) -> pd.DataFrame:
    """Return captioning examples.

    Parameters
    ----------
    images : ImageSet
        With the column ``captions``.
    splits : mapping of image id to split
        Images that it does not name are not used.

    Returns
    -------
    pandas.DataFrame
        Columns `COLUMNS`. One row per image and caption in ``train`` and ``val``, one per image in ``test``;
        ``answers`` are all captions of the image.
    """
    if "captions" not in images.table:
        raise DataError(f"image set {images.name!r} has no captions, so it cannot be used for captioning.")
    rows = []
    for image, captions in zip(images.ids, images.table["captions"], strict=True):
        split = splits.get(image)
        if split is None:
            continue
        used = captions[:1] if split == "test" else captions
        for number, caption in enumerate(used):
            key = image if split == "test" else f"{image}#{number}"
            rows.append((key, image, split, "", "", "", list(captions), caption))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def question_examples(images: ImageSet, splits: dict[str, str]) -> pd.DataFrame:
    """Return VQA examples, one per question; ``target`` is the majority answer.

    Parameters
    ----------
    images : ImageSet
        With questions.
    splits : mapping of image id to split
        Questions about other images are not used.

    Returns
    -------
    pandas.DataFrame
        Columns `COLUMNS`.
    """
    asked = images.questions
    if asked is None:
        raise DataError(f"image set {images.name!r} has no questions, so it cannot be used for VQA.")
    asked = asked[asked["image_id"].isin(splits)]
    table = pd.DataFrame(
        {
            "example_id": asked["question_id"].astype(str),
            "image_id": asked["image_id"],
            "split": asked["image_id"].map(splits),
            "question": asked["question"],
            "question_type": asked.get("question_type", pd.Series("", asked.index)),
            "answer_type": asked["answer_type"],
            "answers": [list(a) for a in asked["answers"]],
            "target": [
                str(given) if given else majority(answers)
                for given, answers in zip(asked["answer"], asked["answers"], strict=True)
            ],
        }
    )
    return table[list(COLUMNS)].reset_index(drop=True)
