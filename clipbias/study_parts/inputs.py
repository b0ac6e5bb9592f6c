"""Everything an analysis depends on as one short text: when it is the same, the analysis is not done again."""

from __future__ import annotations

import hashlib
import json

import clipbias
from clipbias import content
from clipbias.results.run import RunFolder
from clipbias.study_parts.jobs import Jobs

TABLES = ("intrinsic", "extrinsic", "models", "views", "planted")


def analysis_key(jobs: Jobs, folder: RunFolder) -> str:
    """Return a digest of version, settings, models, questions, tables and states.

    Parameters
    ----------
    jobs : Jobs
    folder : RunFolder
    """
    given = jobs.options("analyze")
    questions = given.pop("questions", None)
    with jobs.file.content():
        files = {p.name: _digest(p.read_bytes()) for p in content.entries("analysis") if p.suffix == ".toml"}
    tables = {
        name: _digest(path.read_bytes())
        for name in TABLES
        if (path := folder.path / f"{name}.parquet").is_file()
    }
    # States are large: their size and time stand for what is in them.
    states = sorted(
        (str(p.relative_to(folder.path)), p.stat().st_size, p.stat().st_mtime_ns)
        for p in (folder.path / "states").rglob("*.safetensors")
    )
    parts = [clipbias.__version__, given, questions, files, jobs.all_models, tables, states]
    return _digest(json.dumps(parts, sort_keys=True).encode())[:24]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
