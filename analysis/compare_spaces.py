"""How alike are the spaces of several models on the same images? An example of `clipbias.analysis.similarity`.

    python analysis/compare_spaces.py a.npy b.npy c.npy
    python analysis/compare_spaces.py a.npy b.npy --measures cka_debiased mutual_knn --standardize

One .npy file for each model, shape (images, features), rows in the same order; files are mapped, not loaded. Pairs are
printed with the interval over images and the permutation null where a measure has them.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from clipbias.analysis.similarity import DEFAULT, MEASURES, similarity
from clipbias.errors import ClipbiasError

COLUMNS = ["model_a", "model_b", "measure", "standardized", "value", "ci_low", "ci_high", "null_mean", "z", "p", "reason"]  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Print the table; 2 when the files cannot be compared."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--measures", nargs="+", choices=MEASURES, default=DEFAULT, metavar="NAME")
    parser.add_argument("--standardize", action="store_true", help="also with features of equal spread")
    args = parser.parse_args(argv)
    try:
        states = {(str(path.with_suffix("")),): np.load(path, mmap_mode="r") for path in args.files}
        found = similarity(
            states,
            measures=args.measures,
            standardize=args.standardize,
            announce=lambda text: print(text, file=sys.stderr),
        )
    except (ClipbiasError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    print(found.table()[COLUMNS].to_string(index=False, na_rep="", float_format=lambda v: f"{v:.3f}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
