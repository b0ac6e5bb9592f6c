"""Which reader a file of captions or questions is for, told from its beginning."""

from __future__ import annotations

import re
from pathlib import Path

from clipbias.errors import DataError

_HEAD = 2**18  # characters read: long enough for the `info` and `licenses` that some files begin with
CAPTIONS = (
    ("karpathy", r'"(sentences|sentids)"\s*:'),
    ("coco-captions", r'"(annotations|images)"\s*:'),
    ("flickr30k", r"\A[^\t\n]+\.\w+#\d+\t"),
)
QUESTIONS = (
    ("aokvqa", r'"(direct_answers|choices|difficult_direct_answer)"\s*:'),
    ("gqa", r'"imageId"\s*:'),
    ("visual-genome-qa", r'"qas"\s*:'),
    ("vqa", r'"questions"\s*:'),
)


def sniff(path: str | Path, kinds: tuple[tuple[str, str], ...]) -> str:
    """Return the kind of reader for a file.

    Parameters
    ----------
    path : str or Path
    kinds : `CAPTIONS` or `QUESTIONS`

    Raises
    ------
    DataError
        The file cannot be read, or is of no known format.
    """
    try:
        with open(path, encoding="utf-8") as file:
            head = file.read(_HEAD)
    except FileNotFoundError as error:
        raise DataError(f"{path} was not found.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text: {error}.") from error
    for kind, sign in kinds:
        if re.search(sign, head):
            return kind
    known = ", ".join(kind for kind, _ in kinds)
    raise DataError(f"{path} is of no known format ({known}). Check the file, or name its reader (kind=).")
