"""Run the ``pycon`` blocks of pages: ``python docs/tools/run_examples.py [FILE ...]`` (default: every page of docs)."""

from __future__ import annotations

import doctest
import re
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent
_PYCON = re.compile(r"^```pycon\n(.*?)^```", re.DOTALL | re.MULTILINE)


def pages() -> list[Path]:
    """Return the pages that hold examples."""
    return sorted(p for p in DOCS.rglob("*.md") if _PYCON.search(p.read_text(encoding="utf-8")))


def failures(path: Path) -> str:
    """Run the blocks of a page one after the other in one namespace; return what went wrong, empty if nothing did."""
    text = path.read_text(encoding="utf-8")
    told: list[str] = []
    names: dict[str, object] = {}
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    for block in _PYCON.finditer(text):
        line = text[: block.start(1)].count("\n")
        test = doctest.DocTestParser().get_doctest(block.group(1), names, path.name, str(path), line)
        runner.run(test, out=told.append, clear_globs=False)
        names = test.globs
    return "".join(told)


if __name__ == "__main__":
    wrong = {path: told for path in map(Path, sys.argv[1:] or pages()) if (told := failures(Path(path)))}
    print("\n".join(wrong.values()) or "all examples give what the pages say")
    sys.exit(bool(wrong))
