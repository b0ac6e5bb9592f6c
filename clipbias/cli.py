"""The console script ``clipbias``: one table from verb to module, loaded only when it is chosen."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from clipbias import __version__
from clipbias.commands.common import run_command

# verb -> (module with a ``main(argv) -> int``, one line of help). A new verb is one line here.
VERBS: dict[str, tuple[str, str]] = {
    "measure": ("clipbias.measure", "measure the bias of CLIP models and write a run folder with a report"),
    "adapt": ("clipbias.adapt", "make VQA models and captioners of CLIPs and measure their bias"),
    "analyze": ("clipbias.analyze", "correlate and compare what a run measured; a verdict for each question"),
    "study": ("clipbias.study", "do all of this from one file: measure, adapt, analyze, report"),
    "report": ("clipbias.report", "write the report of a run folder again from its tables"),
    "compare": ("clipbias.commands.compare", "differences of two runs or two models, with intervals"),
    "gate": ("clipbias.commands.gate", "fail (exit code 1) where a run exceeds a bound"),
    "card": ("clipbias.commands.card", "write the bias section of a model card"),
    "models": ("clipbias.commands.models", "list the models that can be named, and which are here"),
    "zoo": ("clipbias.zoo.__main__", "list or train the small CLIPs with planted bias"),
    "cache": ("clipbias.commands.cache", "list or prune the stored embeddings"),
    "peers": ("clipbias.commands.peers", "run systems of other packages beside ours, on the same embeddings"),
}

_EXAMPLES = """\
examples:
  clipbias measure
  clipbias measure --models ViT-B-32/laion2b_s34b_b79k --out runs/laion
  clipbias models --local
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command itself; what follows the verb is left to the verb's module."""
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:{width}}  {line}" for verb, (_, line) in VERBS.items())
    top = argparse.ArgumentParser(
        prog="clipbias",
        usage="clipbias [-h] [--version] VERB ...",
        description="Measure the social bias of CLIP models and follow it into the models built on them.",
        epilog=f"verbs:\n{verbs}\n\n{_EXAMPLES}\nclipbias VERB --help shows the options of one verb.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"clipbias {__version__}")
    top.add_argument("verb", metavar="VERB", choices=VERBS, help=argparse.SUPPRESS)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``clipbias VERB ...`` and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        The words after ``clipbias``; those of this process by default.

    Returns
    -------
    int
        0 all done; 1 some units failed; 2 bad usage; 130 interrupted.

    Raises
    ------
    SystemExit
        Code 2 on an unknown verb or option, 0 after ``--help`` and ``--version``.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words:
        parser().print_help()
        return 2
    # Only the first word is parsed here: the verb's own module knows its options.
    module, _ = VERBS[parser().parse_args(words[:1]).verb]
    return run_command(lambda: importlib.import_module(module).main(words[1:]))
