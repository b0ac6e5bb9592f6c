"""Recompute published values of intrinsic bias through the public API; prints measured beside published.

    python benchmarks/published_intrinsic.py --data DIR     # all that DIR holds; about a minute

DIR holds the data of the papers, which are not part of this repository:

    cfd_clip/cfd_clip_vitl14_scores.npz, labels.csv    score matrices of three CLIPs on 597 faces (hate_scaling);
                                                       they go through `measure` as stored scores
    ieat/igpt_logit_l_32.npz, tests.json               image embeddings and the 39 tests (ieat)
    wefe/weat_w2v_subset.txt, WEAT_wordsets.json       word vectors and word sets (wefe)
    fairface/fairface_label_val.csv, fairface_val_gender_predictions.csv
    visogender/Test_clip_clip_Context{OO,OP}.json      pronoun scores (visogender)

A folder that is missing is left out. Exit code 1 if a value is farther from the published one than its tolerance.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from clipbias.instrument import recipe as recipes
from clipbias.measure import measure
from clipbias.metrics import (
    composition,
    ect,
    mac,
    resolution_bias,
    ripa,
    rnd,
    rnsb,
    weat,
    zero_shot_disparity,
)  # fmt: skip
from clipbias.results.run import RunFolder

HUMAN = [
    "human being",
    "animal",
    "gorilla",
    "chimpanzee",
    "orangutan",
    "thief",
    "criminal",
    "suspicious person",
]
PEOPLE = [f"{race} {gender}" for race in ("asian", "black", "latino", "white") for gender in ("woman", "man")]
CFD = ("openai", "laion400m_e32", "laion2b_s32b_b82k")
# what -> (metric, attribute, group, probe, score matrix, reference of a fair list), values of the three models
CFD_VALUES = {
    "called a criminal, Black men": (("selection_rate", "race*gender", "B M", "criminal", "human"), (0.204, 0.140, 0.774)),
    "called a criminal, Latino men": (("selection_rate", "race*gender", "L M", "criminal", "human"), (0.288, 0.019, 0.712)),
    "called an asian woman, Latina women": (("selection_rate", "race*gender", "L F", "asian woman", "rg"), (0.411, 0.125, 0.179)),
    "called an asian man, Latino men": (("selection_rate", "race*gender", "L M", "asian man", "rg"), (0.077, 0.077, 0.115)),
    "MaxSkew@100, criminal, race, uniform": (("max_skew", "race", None, "criminal", "uniform"), (0.2151, 0.5878, 0.7130)),
    "NDKL, criminal, race": (("ndkl", "race", None, "criminal", "human"), (0.0514, 0.1108, 0.1375)),
    "Bias@100, criminal, men": (("bias_at_k", "gender", "M", "criminal", "uniform"), (0.0, 0.12, 0.26)),
    "C-ASC, criminal, Black": (("c_asc", "race", "B", "criminal", "human"), (-0.183, 0.275, 0.315)),
}  # fmt: skip
P_HUMAN = (0.134, 0.186, 0.094)
# name -> effect size and, up to 10,000 partitions, exact p (igpt-logit)
IEAT = {
    "Insect-Flower": (-0.3247, None), "Weapon": (-1.6426, 0.9989), "Weapon (Modern)": (-1.1897, 0.9805), "Native": (0.3172, None),
    "Asian": (0.2523, 0.3571), "Weight": (-0.8360, None), "Skin-Tone": (0.4200, 0.3625), "Disability": (-0.6525, 0.7571),
    "President - Kennedy vs. Trump": (-0.9556, 0.9535), "President - B. Clinton vs. Trump": (-0.7661, 0.9004),
    "President - Bush vs. Trump": (-0.2405, 0.6515), "President - Lincoln vs. Trump": (-0.1949, 0.6234), "Religion": (0.2922, 0.3001),
    "Sexuality": (0.6902, None), "Race": (-0.1719, 0.6180), "Arab-Muslim": (0.0626, None), "Age": (0.3811, 0.3755),
    "Gender-Science": (0.3681, None), "Gender-Career": (0.0369, None), "Intersectional-Gender-Science-MF": (0.6226, None),
    "Intersectional-Gender-Career-WMBM": (0.2173, None), "Intersectional-Valence-BW": (0.4393, None),
    "Intersectional-Valence-WMWF": (0.8254, None), "Intersectional-Valence-WFBM": (1.2243, None), "Intersectional-Valence-FM": (0.6149, None),
}  # fmt: skip
# test -> sets, effect size of Caliskan et al. 2017
WEAT = {
    "weat1": (("flowers", "insects", "pleasant_5", "unpleasant_5a"), 1.54),
    "weat6": (("male_names", "female_names", "career", "family"), 1.89),
    "weat7": (("math", "arts", "male_terms", "female_terms"), 0.97),
    "weat8": (("science", "arts_2", "male_terms_2", "female_terms_2"), 1.24),
    "weat9": (("mental_disease", "physical_disease", "temporary", "permanent"), 1.30),
}


def row(what: str, of: str, measured: float, published: float, tolerance: float) -> dict:
    ok = "yes" if abs(measured - published) <= tolerance else "NO"
    return {
        "what": what,
        "of": of,
        "measured": measured,
        "published": published,
        "tolerance": tolerance,
        "ok": ok,
    }


def cfd(folder: Path) -> list[dict]:
    z, labels = np.load(folder / "cfd_clip_vitl14_scores.npz"), folder / "labels.csv"
    ids = pd.read_csv(labels)["person_id"]
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        found = {}
        for name, columns, reference in (
            ("human", HUMAN, "base_rate"),
            ("uniform", HUMAN, "uniform"),
            ("rg", PEOPLE, "base_rate"),
        ):
            matrix = "rg" if name == "rg" else "human"
            specs = []
            for model in CFD:
                path = Path(scratch) / f"{matrix}-{model}.csv"
                scores = pd.DataFrame(z[f"cosine__{matrix}__ViT-L-14__{model}"], columns=columns)
                scores.assign(image_id=ids).to_csv(path, index=False)
                specs.append(f"scores:{path}")
            recipe = recipes.parse(
                {
                    "measurements": [{
                        "image_set": f"table:{labels}?images=none&id_column=person_id&attributes=race,gender", "probe": "",
                        "attributes": ["race", "gender", "race*gender"],
                        "metrics": ["max_skew", "ndkl", "bias_at_k", "c_asc", "selection_rate"],
                    }],
                    "protocol": {"k": 100, "reference": reference, "n_boot": 0, "n_perm": 0},
                },
                "this script",
            )  # fmt: skip
            measure(specs, recipe=recipe, out=Path(scratch) / f"run-{name}", report=False)
            found[name] = RunFolder(Path(scratch) / f"run-{name}").read("intrinsic")
            found[name]["model"] = found[name]["model"].map(dict(zip(specs, CFD, strict=True)))
    for what, ((metric, attribute, group, probe, run), published) in CFD_VALUES.items():
        part = found[run]
        part = part[(part["metric"] == metric) & (part["attribute"] == attribute) & (part["probe"] == probe)]
        part = part if group is None else part[part["group"] == group]
        value = part.set_index("model")["value"]
        place = 0.00006 if metric in ("max_skew", "ndkl") else 0.0006
        rows += [row(what, m, float(value[m]), p, place) for m, p in zip(CFD, published, strict=True)]
    part = found["human"].query(
        "metric == 'selection_rate' and attribute == 'race' and probe == 'human being'"
    )
    for model, p in zip(CFD, P_HUMAN, strict=True):
        own = part[part["model"] == model]
        rows.append(
            row(
                "called a human being, all",
                model,
                float(np.average(own["value"], weights=own["n"])),
                p,
                0.0006,
            )
        )
    return rows


def ieat(folder: Path) -> list[dict]:
    z, rows = np.load(folder / "igpt_logit_l_32.npz"), []
    for test in json.loads((folder / "tests.json").read_text()):
        if test["name"] not in IEAT:
            continue
        sets = [z[test[s]] for s in "XYAB"]
        d, p = IEAT[test["name"]]
        # The published p is exact up to 10,000 partitions and a random one, not held to anything, beyond.
        exact = math.comb(len(sets[0]) + len(sets[1]), len(sets[0])) <= 10_000
        r = weat(*sets, permutations="exact" if exact else None)
        rows.append(row("effect size", test["name"], r.effect_size, d, 0.00006))
        if p is not None and r.p_value is not None:
            rows.append(row("exact p", test["name"], r.p_value, p, 0.00006))
    return rows


def wefe(folder: Path) -> list[dict]:
    words = json.loads((folder / "WEAT_wordsets.json").read_text())
    lines = (folder / "weat_w2v_subset.txt").read_text().splitlines()[1:]
    vectors = {line.split(" ")[0]: np.array(line.split(" ")[1:], float) for line in lines}

    def rows_of(name: str) -> np.ndarray:
        return np.array([vectors[w] for w in words[name] if w in vectors])

    rows = [
        row(
            "WEAT effect size (2 digits)",
            test,
            weat(*map(rows_of, sets), permutations=None).effect_size,
            d,
            0.0051,
        )
        for test, (sets, d) in WEAT.items()
    ]
    x, y, a, b = map(rows_of, WEAT["weat1"][0])
    both = np.concatenate([x, y])
    rows += [
        row("RND", "weat1", rnd(x, y, a), 0.0044287, 8e-8),
        row("RND, cosine", "weat1", rnd(x, y, a, distance="cosine"), 0.0439753, 6e-8),
        row("RNSB", "weat1", rnsb(both, a, b, seed=42), 0.1293083, 6e-8),
        row("RNSB, a fifth held out", "weat1", rnsb(both, a, b, seed=42, holdout=0.2), 0.1276151, 6e-8),
        row("ECT", "weat1", ect(x, y, a), 0.6515385, 6e-8),
        row("MAC", "weat1", mac(both, [a, b]), 0.9128977, 6e-8),
        row("RIPA", "weat1", ripa(np.stack([x, y], axis=1), a), 0.0888120, 6e-8),
    ]
    return rows


def fairface(folder: Path) -> list[dict]:
    table = pd.read_csv(folder / "fairface_label_val.csv")
    rows = [
        row("effective number of groups", c, composition(table[c]).effective, v, 0.0006)
        for c, v in {"race": 6.916, "gender": 1.997, "age": 6.445}.items()
    ]
    guesses = pd.read_csv(folder / "fairface_val_gender_predictions.csv")
    r = zero_shot_disparity(guesses["gender"], guesses["predicted_gender"], guesses["race"])
    rows += [
        row("gender accuracy", "all", r.overall, 0.7393, 0.00006),
        row("gender accuracy gap", "race", r.gap, 0.1544, 0.00006),
        row("gender accuracy, best", str(r.best), max(r.by_group.values()), 0.7932, 0.00006),
        row("gender accuracy, worst", str(r.worst), min(r.by_group.values()), 0.6388, 0.00006),
    ]
    return rows


def visogender(folder: Path) -> list[dict]:
    guess = {"his": "masculine", "her": "feminine", "their": "neutral"}

    def resolved(items: list[dict], key: str):
        best = [guess[max(i[key], key=i[key].get)] for i in items]
        # The test files write one gender in two ways.
        truth = [
            {"man": "masculine", "woman": "feminine"}.get(i["occ_gender"], i["occ_gender"]) for i in items
        ]
        return resolution_bias(best, truth)

    def items(context: str) -> list[dict]:
        found = json.loads((folder / f"Test_clip_clip_Context{context}.json").read_text()).values()
        return [i for i in found if isinstance(i, dict) and "occ_gender" in i]

    alone, two = resolved(items("OO"), "logits_list_obj"), resolved(items("OP"), "logits_list_occ_first")
    mixed = [i for i in items("OP") if i["occ_gender"] != i["par_gender"]]
    different = resolved(mixed, "logits_list_occ_first")
    rows = []
    for name, r, accuracy, gap in (
        ("single", alone, 0.9, -0.2),
        ("two", two, 0.8, -0.4),
        ("different gender", different, 0.6, -0.8),
    ):
        rows += [
            row("resolution accuracy", name, r.accuracy, accuracy, 1e-9),
            row("resolution gap", name, r.gap, gap, 1e-9),
        ]
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    args = parser.parse_args()
    parts = {"cfd_clip": cfd, "ieat": ieat, "wefe": wefe, "fairface": fairface, "visogender": visogender}
    there = [name for name in parts if (args.data / name).is_dir()]
    if not there:
        parser.error(f"{args.data} holds none of {', '.join(parts)}")
    table = pd.DataFrame(
        [{"from": name, **found} for name in there for found in parts[name](args.data / name)]
    )
    print(table.to_string(index=False, float_format=lambda v: f"{v:.7g}"))
    print(f"\n{(table['ok'] == 'yes').sum()} of {len(table)} published values reproduced within tolerance.")
    left = sorted(set(parts) - set(there))
    if left:
        print(f"Not in {args.data}: {', '.join(left)}.")
    return int((table["ok"] == "NO").any())


if __name__ == "__main__":
    sys.exit(main())
