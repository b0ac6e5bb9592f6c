"""``python -m clipbias.zoo``: list the shipped models, or train them again."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from clipbias.commands.common import add_verb


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="clipbias zoo",
        description="The zoo: small CLIPs pretrained on the embedded world with bias planted at a known strength.",
        epilog="examples:\n  clipbias zoo list\n  clipbias zoo train                 # all models, resumable\n  clipbias zoo train vit-95 --out my-zoo",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    add_verb(verbs, "list", "the shipped models and their cards", examples=["clipbias zoo list"])
    train = add_verb(
        verbs, "train", "pretrain models of zoo.toml; goes on where it stopped",
        examples=["clipbias zoo train", "clipbias zoo train vit-95 --out my-zoo"],
    )  # fmt: skip
    train.add_argument("names", nargs="*", metavar="NAME", help="models of zoo.toml (default: all)")
    train.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for checkpoints and cards (default: the package's own)",
    )
    train.add_argument(
        "--workers",
        type=int,
        default=2,
        metavar="N",
        help="models trained side by side, one thread each (default: 2)",
    )
    train.add_argument("--force", action="store_true", help="train again what is already there")
    options = parser.parse_args(argv)

    from clipbias.zoo import store

    if options.verb == "list":
        for name in store.names():
            facts = store.card(name)
            planted = facts["planted"]
            where = " ".join(f"{c}={r}" for c, r in planted["rho_in"].items()) or f"rho={planted['rho']}"
            scores = ", ".join(f"{k.replace('_', ' ')} {v:.2f}" for k, v in facts["zero_shot"].items())
            print(
                f"{name:16} {facts['architecture']:9} {facts['parameters'] / 1e6:.2f} M  {where:14} {scores}"
            )
        return 0

    from concurrent.futures import ProcessPoolExecutor, as_completed
    from multiprocessing import get_context

    from clipbias.errors import nearest
    from clipbias.zoo.train import train as train_model

    known = store.recipe()["models"]
    for name in options.names:
        if name not in known:
            parser.error(f"zoo.toml has no model {name!r}." + nearest(name, known))
    folder = options.out or store.FOLDER / "models"
    folder.mkdir(parents=True, exist_ok=True)
    todo = [n for n in options.names or known if options.force or not (folder / f"{n}.json").exists()]
    with ProcessPoolExecutor(max(1, options.workers), mp_context=get_context("spawn")) as pool:
        jobs = {pool.submit(train_model, name, folder, threads=1): name for name in todo}
        failed = 0
        for job in as_completed(jobs):
            if job.exception():
                failed += 1
                print(f"{jobs[job]}: {job.exception()}", file=sys.stderr)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
