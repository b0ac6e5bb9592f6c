"""Do the quality metrics give the published numbers? Prints measured against published values.

    python benchmarks/published_quality.py --data DIR [--captioners oscar sat] [--ptb]

DIR holds what others have published and what may not be shipped here: ``captions/human_refs.csv.gz`` (columns ``img_id, gender,
skin, ref1 ... ref5``), ``lic/gender_captions.csv.gz`` (``img_id`` and one column per captioner), and ``vqa/`` with
``aokvqa_val_annotations.json`` in VQAv2 layout and prediction files ``pred_*.json``. A part that is not there is left out.

The published values are group means of per-image CIDEr-D with the word weights of the whole set, and VQA accuracies of one
answer file under the rules of three tools.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import pandas as pd

from clipbias.tasks.metrics import corpus_bleu, group_means, vqa_accuracy
from clipbias.tasks.metrics.captions import Bleu, quality

# captioner -> (male, female, light, dark)
CIDER = {
    "oscar": (1.296, 1.390, 1.338, 1.357),
    "oscar_xe": (1.173, 1.273, 1.214, 1.229),
    "sat": (0.951, 0.957, 0.958, 0.972),
}
# file -> rule -> percent
VQA = {
    "pred_correct_choice": {"official": 73.18, "lavis": 69.81, "lmms-eval": 73.18},
    "pred_first_human_messy": {"official": 68.41, "lavis": 68.94, "lmms-eval": 72.78},
}
GROUPS = {"gender": ("Male", "Female"), "skin": ("Light", "Dark")}


def captions(folder: Path, captioners: list[str], tokenizer: str) -> pd.DataFrame:
    """Return quality of each captioner, of all images and by group, beside the published value."""
    humans = pd.read_csv(folder / "captions" / "human_refs.csv.gz").set_index("img_id")
    said = pd.read_csv(folder / "lic" / "gender_captions.csv.gz").set_index("img_id")
    both = humans.join(said[captioners], how="inner")
    references = {
        i: list(map(str, row))
        for i, row in zip(both.index, both.filter(regex=r"^ref\d").to_numpy(), strict=True)
    }
    rows = []
    for name in captioners:
        start = time.perf_counter()
        found = quality(dict(both[name].astype(str)), references, tokenizer=tokenizer)
        print(f"{name}: {len(both)} images, {time.perf_counter() - start:.0f} s", flush=True)
        known = dict(
            zip([level for levels in GROUPS.values() for level in levels], CIDER.get(name, ()), strict=False)
        )
        for metric, result in found.items():
            rows.append({"captioner": name, "metric": metric, "group": "all", "measured": result.mean})
            for column, levels in GROUPS.items():
                if isinstance(result, Bleu):
                    labels = both[column].loc[list(result.per_image)].to_numpy()
                    means = {g: float(corpus_bleu(result.counts[labels == g].sum(0))) for g in levels}
                else:
                    means = group_means(result.per_image, dict(both[column]))
                rows += [
                    {"captioner": name, "metric": metric, "group": level, "measured": means[level],
                     "published": known.get(level) if metric == "cider" else None}
                    for level in levels
                ]  # fmt: skip
    return pd.DataFrame(rows)


def answers(folder: Path) -> pd.DataFrame:
    """Return the accuracy of every answer file under every rule."""
    truth = json.loads((folder / "vqa" / "aokvqa_val_annotations.json").read_text())
    rows = []
    for path in sorted((folder / "vqa").glob("pred_*.json")):
        given = json.loads(path.read_text())
        for rule in ("official", "lavis", "lmms-eval", "a-okvqa"):
            value = vqa_accuracy(given, truth, rule=rule).overall
            rows.append(
                {
                    "file": path.stem,
                    "rule": rule,
                    "measured": value,
                    "published": VQA.get(path.stem, {}).get(rule),
                }
            )
    return pd.DataFrame(rows)


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--data", type=Path, required=True, metavar="DIR")
    options.add_argument("--captioners", nargs="+", default=list(CIDER))
    options.add_argument("--ptb", action="store_true", help="tokenize with the Stanford tokenizer (Java)")
    given = options.parse_args()
    if (given.data / "vqa").is_dir():
        print(answers(given.data).round(2).to_string(index=False))
    if (given.data / "captions").is_dir() and (given.data / "lic").is_dir():
        table = captions(given.data, given.captioners, "ptb" if given.ptb else "treebank")
        print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
