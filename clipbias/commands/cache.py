"""``clipbias cache``: what is in the embedding cache, and making room."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from clipbias.commands.common import add_verb, command_parser, run_command


def main(argv: Sequence[str] | None = None) -> int:
    """List or prune the stored embeddings; see ``clipbias cache --help``."""
    parser = command_parser(
        "cache",
        "List or prune the stored embeddings. Whatever is removed is computed again when it is needed.",
        examples=["clipbias cache ls", "clipbias cache prune --older-than 30", "clipbias cache prune --all"],
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    listing = add_verb(
        verbs, "ls", "list what is stored, one line for each model and tower", examples=["clipbias cache ls"]
    )
    pruning = add_verb(
        verbs, "prune", "remove what is damaged or left over, and what the options name",
        examples=["clipbias cache prune --older-than 30", "clipbias cache prune --model zoo:vit-95"],
    )  # fmt: skip
    which = pruning.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help="everything")
    which.add_argument("--model", metavar="SPEC", help="the embeddings of one model, as `cache ls` names it")
    pruning.add_argument("--older-than", metavar="DAYS", type=float, help="what was written longer ago")
    for one in (listing, pruning):
        one.add_argument("--folder", metavar="DIR", type=Path, help="the cache (default: the user's own)")
    options = parser.parse_args(argv)
    if options.verb == "prune" and options.all and options.older_than is not None:
        pruning.error("argument --older-than: not allowed with argument --all")
    return run_command(lambda: _COMMANDS[options.verb](options))


def _list(options: argparse.Namespace) -> None:
    from clipbias.commands.tables import print_table
    from clipbias.embedding import EmbeddingCache

    cache = EmbeddingCache(options.folder)
    table = cache.ls()
    table["key"] = table["key"].str[:12]  # enough to tell two apart
    table["modified"] = table["modified"].dt.strftime("%Y-%m-%d %H:%M")
    size = table.pop("bytes")
    table.insert(6, "MB", size / 1e6)
    print_table(table, title=f"{cache.folder}: {size.sum() / 1e6:,.1f} MB")


def _prune(options: argparse.Namespace) -> None:
    from clipbias.embedding import EmbeddingCache
    from clipbias.errors import DataError, nearest

    cache = EmbeddingCache(options.folder)
    if options.model is not None:
        known = set(cache.ls()["model"])
        if options.model not in known:
            raise DataError(
                f"the cache {cache.folder} holds nothing of model {options.model!r}."
                + nearest(options.model, known)
            )
    files, freed = cache.prune(model=options.model, older_than=options.older_than, everything=options.all)
    print(f"removed {files:,} files, {freed / 1e6:,.1f} MB")


_COMMANDS = {"ls": _list, "prune": _prune}
