"""The demonstration: a small study of shipped models on the embedded world, as files to look at and to change."""

from __future__ import annotations

from pathlib import Path

from clipbias.errors import DataError

_HERE = Path(__file__).resolve().parent
FILES = ("study.toml", "tasks/measure.toml", "tasks/vqa.toml", "tasks/captioning.toml")


def write_demo(out: Path, *, workers: int = 1) -> Path:
    """Write the demonstration's study into ``OUT/study`` and return the path of its study file.

    Parameters
    ----------
    out : Path
        The run folder.
    workers : int
        Units side by side.

    Raises
    ------
    DataError
        The folder cannot be written.
    """
    folder = out / "study"
    engine = f"workers:{workers}" if workers > 1 else "local"
    try:
        for name in FILES:
            text = (_HERE / name).read_text(encoding="utf-8")
            if name == "study.toml":
                quoted = str(out).replace("\\", "\\\\").replace('"', '\\"')
                text = text.replace("@OUT@", quoted).replace("@ENGINE@", engine)
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"{error.filename or folder} cannot be written: {error.strerror}.") from error
    return folder / FILES[0]
