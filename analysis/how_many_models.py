"""What can a study of n models show, and how many does a bound need? An example of `clipbias.analysis.power`.

    python analysis/how_many_models.py                      # the usual sizes
    python analysis/how_many_models.py 14 --bounds 0.3 0.5  # your own

Printed for rank correlations at 5 %: the correlation that is found with 80 % power, and the smallest bound within which
"no correlation" would be confirmed with 80 % power if there were none.
"""

import argparse
import sys

from clipbias.analysis.power import (
    minimum_detectable_correlation,
    models_to_exclude,
    smallest_equivalence_bound,
)
from clipbias.errors import ClipbiasError


def main(argv: list[str] | None = None) -> int:
    """Print both tables; 2 for a bound that is none."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", type=int, default=[8, 12, 14, 20, 40, 60, 100])
    parser.add_argument("--bounds", nargs="+", type=float, default=[0.2, 0.3, 0.4, 0.5])
    args = parser.parse_args(argv)
    try:
        needed = {bound: models_to_exclude(bound, method="spearman") for bound in args.bounds}
    except ClipbiasError as error:
        print(error, file=sys.stderr)
        return 2
    print("models  finds |r| of at least  confirms none within")
    for n in args.models:
        found = minimum_detectable_correlation(n, method="spearman")
        print(f"{n:6d}  {found:21.2f}  {smallest_equivalence_bound(n, method='spearman'):20.2f}")
    for bound, n in needed.items():
        print(f"none within ±{bound:g} takes {n} models")
    return 0


if __name__ == "__main__":
    sys.exit(main())
