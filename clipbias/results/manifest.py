"""What a run was asked for and what it ran on."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import clipbias

SCHEMA = 1  # of the manifest and the tables; a change that old readers trip over makes it 2
_PACKAGES = (
    "numpy", "pandas", "pyarrow", "scipy", "scikit-learn", "statsmodels", "pillow", "resvg-py", "torch",
    "torchvision", "open_clip_torch", "timm", "transformers", "safetensors", "altair", "vl-convert-python",
)  # fmt: skip


def new_manifest(
    *,
    command: Sequence[str] | None = None,
    config: Mapping[str, object] | None = None,
    seeds: Mapping[str, int] | None = None,
    protocols: Mapping[str, str] | None = None,
    data: Mapping[str, object] | None = None,
    **more: object,
) -> dict:
    """Describe a run that starts now: what was asked for, and what it ran on.

    Parameters
    ----------
    command : sequence of str, optional
        Default: the arguments of this process.
    config : mapping, optional
        The resolved study: with it the run can be done again.
    seeds : mapping of str to int, optional
    protocols : mapping of name to hash, optional
    data : mapping of image or probe set to digest, optional
    **more
        Further keys, for example ``models``.

    Returns
    -------
    dict
        Also ``schema_version, clipbias, git, python, platform, packages, started, ended`` (``ended`` is
        None: put it in with :meth:`RunFolder.update_manifest` at the end, as ``ended=now()``).
    """
    return {
        "schema_version": SCHEMA, "clipbias": clipbias.__version__, "git": git_commit(),
        "python": platform.python_version(), "platform": platform.platform(), "packages": packages(),
        "command": list(sys.argv if command is None else command), "config": dict(config or {}),
        "seeds": dict(seeds or {}), "protocols": dict(protocols or {}), "data": dict(data or {}), **more,
        "started": now(), "ended": None,
    }  # fmt: skip


def now() -> str:
    """Return the time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def packages() -> dict[str, str]:
    """Return the versions of the packages that numbers depend on; absent ones are left out."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def git_commit() -> dict | None:
    """Return ``{"commit", "dirty"}`` of the checkout this package runs from, or None (a wheel, no git)."""
    root = Path(clipbias.__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git(root, "status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()
