"""A tiny image set made by hand: three pictures, their labels, captions and questions."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from clipbias.data import ImageSet


def picture(colour: tuple[int, int, int], kind: str = "PNG") -> bytes:
    """Return an encoded 8x6 image with some structure."""
    pixels = np.full((6, 8, 3), colour, np.uint8)
    pixels[::2] //= 2
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


PICTURES = [picture((200, 10, 10)), picture((10, 200, 10)), picture((10, 10, 200), "JPEG")]


@pytest.fixture
def pictures() -> list[bytes]:
    return PICTURES


@pytest.fixture
def tiny() -> ImageSet:
    table = pd.DataFrame(
        {
            "image_id": ["s-1", "s-2", "s-3"],
            "gender": pd.Categorical(["woman", "man", "woman"], ["woman", "man", "unknown"]),
            "tone": pd.Categorical(["1", "5", "5"], list("12345")),
            "context": pd.Categorical(["park", "city", "park"], ["park", "city", "moon"]),
            "role": pd.Categorical(["cook", "cook", "judge"]),
            "twin": ["s-2", "s-1", ""],
            "planted": [0.95, 0.95, 0.5],
            "caption": ["a cook in the park", "a cook, in the city", "the judge"],
            "captions": [["a cook in the park", "a picture of a cook"], ["a cook, in the city"], ["the judge", "r\u00e4tsel"]],
        }
    )  # fmt: skip
    questions = pd.DataFrame(
        {
            "question_id": [0, 1, 2, 3],
            "image_id": ["s-1", "s-1", "s-2", "s-3"],
            "question": [
                "what is the job?",
                "is this a cook?",
                "how many people are there?",
                "is this a cook?",
            ],
            "answer": ["cook", "yes", "2", "no"],
            "answer_type": ["other", "yes/no", "number", "yes/no"],
        }
    )
    return ImageSet(
        "tiny", table, ("gender", "tone"), lambda rows: [PICTURES[r] for r in rows], ("context", "role"), questions,
        licence="CC0-1.0", source="these tests", facts={"rho": 0.95},
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """A folder with three image files and a table beside them."""
    images = tmp_path / "images"
    images.mkdir()
    for name, data in zip(("a.png", "b.png", "c.jpg"), PICTURES, strict=True):
        (images / name).write_bytes(data)
    (tmp_path / "people.csv").write_text(
        "file,who,gender,place\na.png,p1,woman,park\nb.png,p2,man,city\nc.jpg,p3,,park\n", encoding="utf-8"
    )
    return tmp_path
