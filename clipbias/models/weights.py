"""Where weights lie: the local caches first, then the network, if there is one.

A weight file that is already on this machine is used without asking the network about it, so a run
never waits for a hub that it does not need. When the network is needed, one short request says whether
it is there: no retries for minutes.
"""

from __future__ import annotations

import os
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from clipbias.errors import ModelError

PATIENCE = 5.0  # seconds to wait for a sign of life from a host


def offline() -> bool:
    """Return whether the user has switched the Hugging Face hub off."""
    from huggingface_hub import constants

    switches = (os.environ.get(name, "") for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    return constants.HF_HUB_OFFLINE or any(value.upper() in {"1", "ON", "YES", "TRUE"} for value in switches)


def reachable(url: str, *, patience: float = PATIENCE) -> bool:
    """Return whether a host answers at all within ``patience`` seconds (remembered for a minute)."""
    return _reachable(url, patience, int(time.monotonic() // 60))


@lru_cache(maxsize=64)
def _reachable(url: str, patience: float, minute: int) -> bool:
    answer: list[bool] = []

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=patience).close()
            answer.append(True)
        except urllib.error.HTTPError as problem:
            # An error page is an answer; a gateway that cannot reach the host is not.
            answer.append(problem.code not in (407, 502, 503, 504))
        except (OSError, ValueError):
            answer.append(False)

    # In a thread of its own because name resolution knows no timeout.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(patience + 1)
    return bool(answer and answer[0])


def cached(repo: str, filenames: Sequence[str], *, revision: str | None = None) -> Path | None:
    """Return the first of the files that lies in the local hub cache, without any network call."""
    from huggingface_hub import constants, try_to_load_from_cache

    for name in filenames:
        try:
            found = try_to_load_from_cache(repo, name, cache_dir=constants.HF_HUB_CACHE, revision=revision)
        except ValueError:  # not a valid repository name; the download says so properly
            return None
        if isinstance(found, str):
            return Path(found)
    return None


def hub_file(repo: str, filenames: Sequence[str], *, revision: str | None = None, what: str) -> Path:
    """Return a file of a hub repository, downloaded if it must be.

    Parameters
    ----------
    filenames : sequence of str
        Names to try in order; the first that exists is taken.
    what : str
        What the file is for, used in the error.

    Raises
    ------
    ModelError
        The file is neither in the cache nor to be had; the message says what was tried.
    """
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    found = cached(repo, filenames, revision=revision)
    if found is not None:
        return found
    tried = f"{what}: {' or '.join(filenames)} of {repo!r} is not in the local cache {constants.HF_HUB_CACHE}"
    if offline():
        raise ModelError(
            f"{tried}, and the hub is switched off (HF_HUB_OFFLINE). Unset it, or fetch the file first."
        )
    if not reachable(constants.ENDPOINT):
        raise ModelError(
            f"{tried}, and {constants.ENDPOINT} does not answer. Connect this machine, or copy the cache from one "
            f"that has the file, or load a checkpoint with file:PATH?model=NAME."
        )
    problem: Exception | None = None
    for name in filenames:
        try:
            return Path(hf_hub_download(repo, name, revision=revision))
        except EntryNotFoundError as missing:
            problem = problem or missing
        except Exception as other:  # the hub client raises many kinds; each is one failed attempt
            problem = other
            break
    raise ModelError(f"{tried}, and the download from {constants.ENDPOINT} failed: {first_line(problem)}")


def tag_candidates(config: dict) -> tuple[str, list[str]]:
    """Return the hub repository and the file names that hold the weights of an open_clip tag."""
    from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME

    repo, _, filename = config.get("hf_hub", "").rpartition("/")
    if not filename:
        return repo, [HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME]
    stem, suffix = os.path.splitext(filename)
    return repo, [f"{stem}.safetensors", filename] if suffix in (".bin", ".pth", ".pt") else [filename]


def local_tag_weights(config: dict) -> Path | None:
    """Return the weights of an open_clip tag if they are on this machine, without any network call."""
    if "file" in config:
        return Path(config["file"]) if os.path.isfile(config["file"]) else None
    repo, filenames = tag_candidates(config)
    found = cached(repo, filenames) if repo else None
    if found is None and config.get("url"):
        # open_clip keeps direct downloads here; OpenAI's own are TorchScript programs, which are not read.
        path = Path.home() / ".cache" / "clip" / os.path.basename(config["url"])
        if path.is_file() and not is_torchscript(path):
            found = path
    return found


def tag_weights(config: dict, *, what: str) -> Path:
    """Return the weights of an open_clip tag, downloaded if they must be; see `hub_file`."""
    import open_clip

    found = local_tag_weights(config)
    if found is not None:
        return found
    repo, filenames = tag_candidates(config)
    if repo:
        return hub_file(repo, filenames, what=what)
    url = config.get("url", "")
    if not url or offline() or not reachable(url):
        raise ModelError(
            f"{what}: the weights are not on this machine and {url or 'no address'} cannot be reached."
        )
    try:
        return Path(open_clip.download_pretrained_from_url(url))
    except Exception as problem:
        raise ModelError(f"{what}: the download from {url} failed: {first_line(problem)}") from problem


def is_torchscript(path: Path) -> bool:
    """Return whether a file is a TorchScript archive: a program, not only tensors."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def first_line(problem: BaseException | None) -> str:
    """Return the first line of an error's text that says something."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return lines[0] if lines else type(problem).__name__
