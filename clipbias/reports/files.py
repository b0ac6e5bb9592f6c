"""Writing a text whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write(text: str, out_path: str | Path) -> Path:
    """Write a text under another name, then rename it; the folder is made when it is not there."""
    out = Path(out_path)
    out.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.chmod(part, 0o644)
        os.replace(part, out)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
    return out
