"""What all tests share: no network, no study of the user's own, and the browser."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Before anything imports the hub's client: it reads this once.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.pop("CLIPBIAS_STUDY", None)

_LOCAL = {"localhost", "127.0.0.1", "::1"}


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Iterator[None]:
    """Let sockets reach only this machine: a test that needs the network fails at once, and says so."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in _LOCAL:  # type: ignore[index]
            raise OSError(f"tests use no network, but one connected to {address!r}")
        connect(self, address)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        yield


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs ``python -m clipbias WORDS`` in a process of its own, from ``tmp_path``."""

    def run(
        *words: object, module: str = "clipbias", cwd: Path = tmp_path, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", module, *map(str, words)],
            cwd=cwd,
            env=os.environ | {"COLUMNS": "100"} | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def chromium() -> str:
    """Return the path of Chromium; without one the test is skipped, or fails under ``CI=true``."""
    names = (os.environ.get("CLIPBIAS_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    if found:
        return found
    message = "no Chromium: install it, or set CLIPBIAS_CHROMIUM to its path"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@dataclass
class Opened:
    """A page open in headless Chromium, and what went wrong while it loaded."""

    page: object  # playwright.sync_api.Page
    errors: list[str] = field(default_factory=list)  # console errors and uncaught exceptions
    requests: list[str] = field(default_factory=list)  # addresses asked for other than the file itself


@pytest.fixture
def open_page(chromium: str) -> Iterator[Callable[[Path], Opened]]:
    """Return a function that opens a local HTML file in headless Chromium with the network cut off."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            # Chromium refuses to run as root inside its sandbox, and CI containers run as root;
            # the other switches stop its own calls home.
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"],
        )

        def open_file(path: Path) -> Opened:
            opened = Opened(browser.new_page(viewport={"width": 1200, "height": 800}))
            page = opened.page
            page.on("console", lambda m: opened.errors.append(m.text) if m.type == "error" else None)
            page.on("pageerror", lambda error: opened.errors.append(str(error)))

            def cut(route: object) -> None:
                opened.requests.append(route.request.url)  # type: ignore[attr-defined]
                route.abort()  # type: ignore[attr-defined]

            page.route(re.compile("^(https?|wss?):"), cut)
            page.goto(path.resolve().as_uri(), wait_until="load")
            return opened

        yield open_file
        browser.close()
