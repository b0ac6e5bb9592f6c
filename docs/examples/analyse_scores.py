"""Analyse what is stored already: a CSV of scores and one of labels, without a model and without pictures.

On the command line:

clipbias measure --models scores:scores.csv --image-set 'table:labels.csv?images=none&id_column=image_id&attributes=gender' --metrics max_skew
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier

from clipbias.instrument.recipe import parse
from clipbias.measure import measure
from clipbias.results.run import RunFolder
from clipbias.tasks.metrics import leakage

# Stand-ins for your files: 400 pictures, two prompts; "nurse" is closer to women.
rng = np.random.default_rng(0)
ids = [f"p{i}" for i in range(400)]
gender = np.repeat(["woman", "man"], 200)
scores = pd.DataFrame(
    {"nurse": rng.normal(size=400) + 0.8 * (gender == "woman"), "chef": rng.normal(size=400)}
)

with tempfile.TemporaryDirectory() as folder:
    scores.assign(image_id=ids).to_csv(Path(folder, "scores.csv"), index=False)
    pd.DataFrame({"image_id": ids, "gender": gender}).to_csv(Path(folder, "labels.csv"), index=False)
    recipe = parse(
        {
            "views": ["global"],
            "random_subsets": 0,
            "protocol": {"k": 50, "n_boot": 200, "n_perm": 200},
            "measurements": [
                {"image_set": f"table:{folder}/labels.csv?images=none&id_column=image_id&attributes=gender", "probe": "", "attributes": ["gender"], "metrics": ["max_skew"]}
            ],
        },
        "this script",
    )  # fmt: skip
    measure([f"scores:{folder}/scores.csv"], recipe=recipe, out=Path(folder, "run"), report=False)
    rows = RunFolder(Path(folder, "run")).read("intrinsic")
print(
    rows[["probe", "metric", "group", "value", "ci_low", "ci_high", "null_mean", "p"]]
    .round(3)
    .to_string(index=False)
)

# What the labels of a classifier give away, with an attacker of your choice: anything that has fit and predict_proba.
said = np.where(rng.random(400) < 0.7, gender == "woman", rng.random(400) < 0.5).astype(int)
true = rng.integers(0, 2, 400)
found = leakage(
    gender, true, said, attacker=RandomForestClassifier(50, random_state=0), seeds=3, permutations=5
)
print(
    f"a random forest guesses the gender from the predictions with accuracy {found.model:.2f}, from equally wrong labels {found.data:.2f}"
)
