"""What all commands share: the options, and one way to end.

Nothing heavy may be imported here: ``--help`` of every verb passes through this module.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from clipbias.errors import ClipbiasError

DEFAULT_OUT = Path("runs/default")
INTERRUPTED = 130  # 128 + SIGINT
READER_GONE = 141  # 128 + SIGPIPE, what a shell shows for `command | head`


def command_parser(verb: str, description: str, *, examples: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Return the parser of one verb.

    Parameters
    ----------
    verb : str
        The words that call it, for example ``"measure"`` or ``"cache prune"``.
    description : str
        What it does, one sentence or two.
    examples : sequence of str
        Whole commands to copy, shown below the options.
    """
    return argparse.ArgumentParser(
        # Not sys.argv[0]: `python -m clipbias.measure` would call itself measure.py.
        prog=f"clipbias {verb}",
        description=description,
        epilog=_listed(examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_verb(verbs: Any, name: str, text: str, *, examples: Sequence[str]) -> argparse.ArgumentParser:
    """Add a verb's own verb (``study run``, ``cache prune``), with examples below its help.

    Parameters
    ----------
    verbs : the object that ``add_subparsers`` returns
    name, text : str
        The word, and one line of help.
    examples : sequence of str
    """
    return verbs.add_parser(
        name,
        help=text,
        description=f"{text[:1].upper()}{text[1:]}.",
        epilog=_listed(examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _listed(examples: Sequence[str]) -> str | None:
    return "\n".join(["examples:", *(f"  {line}" for line in examples)]) if examples else None


def shared_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that all verbs share.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Gains ``out`` (Path), ``models`` (list of str or None: the verb's default), ``study`` (Path or
        None), ``engine`` (str), ``seed`` (int), ``dry_run`` (bool) and ``quiet`` (bool).
    """
    what = parser.add_argument_group("what to run")
    what.add_argument(
        "--models",
        metavar="SPEC",
        nargs="+",
        action="extend",
        help="models, for example zoo:NAME, ViT-B-32/laion2b_s34b_b79k, hf-hub:ORG/NAME, "
        "'file:PATH?model=ViT-B-32' or 'random:ViT-B-32?seed=0' (default: every zoo model)",
    )
    what.add_argument(
        "--study",
        metavar="FILE",
        type=Path,
        help="a TOML file that sets these options; the command line wins",
    )
    where = parser.add_argument_group("where it goes")
    where.add_argument(
        "--out", metavar="DIR", type=Path, default=DEFAULT_OUT, help="the run folder (default: %(default)s)"
    )
    how = parser.add_argument_group("how it runs")
    how.add_argument(
        "--engine",
        metavar="ENGINE",
        default="local",
        # Checked by clipbias.engine.parse_engine, which knows the forms.
        help="what runs the units: local (this process), workers:N (N processes) or ray (default: %(default)s)",
    )
    how.add_argument(
        "--seed", metavar="N", type=int, default=0, help="seed of everything drawn (default: %(default)s)"
    )
    how.add_argument(
        "--dry-run", action="store_true", help="list the units and what is already done; run nothing"
    )
    how.add_argument("--quiet", action="store_true", help="print only errors and the path of the result")


def run_command(function: Callable[[], int | None]) -> int:
    """Call a command and turn what it raises into an exit code and one message on stderr.

    Parameters
    ----------
    function : callable
        The command, its options already parsed. None counts as 0.

    Returns
    -------
    int
        What ``function`` returned; the ``exit_code`` of a ClipbiasError (1 or 2); 130 on Ctrl-C;
        141 when the reader of stdout has gone. Any other exception is a defect and is not caught.
    """
    try:
        code = function() or 0
        # Here rather than at interpreter exit, where a closed pipe can no longer be caught.
        sys.stdout.flush()
    except ClipbiasError as error:
        print(f"clipbias: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes stdout once more as it ends; give it somewhere to write.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return READER_GONE
    return code
