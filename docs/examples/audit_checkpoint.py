"""Audit a checkpoint of your own, beside the same architecture without training.

python audit_checkpoint.py 'file:mine.safetensors?model=ViT-B-32' random:ViT-B-32
"""

from __future__ import annotations

import sys
import tempfile

from clipbias.instrument.recipe import parse
from clipbias.measure import measure
from clipbias.results.run import RunFolder

models = sys.argv[1:] or ["zoo:vit-50", "zoo:vit-95"]  # shipped models stand in for yours
recipe = parse(
    {
        "views": ["global"],
        "random_subsets": 0,
        "protocol": {"k": 1 / 14, "n_boot": 200, "n_perm": 200},  # 14 roles: as many places as images of one
        "measurements": [
            {"image_set": "world-people", "probe": "roles", "truth": "role", "attributes": ["gender"],
             "metrics": ["max_skew", "c_asc", "zero_shot_disparity"], "only": {"style": "noto", "context": "park"}}
        ],
    },
    "this script",
)  # fmt: skip
with tempfile.TemporaryDirectory() as folder:
    measure(models, recipe=recipe, out=folder, report=False)
    rows = RunFolder(folder).read("intrinsic")

whole = rows[rows["probe"] == ""]  # over all roles
print(
    whole[["model", "metric", "group", "value", "ci_low", "ci_high", "null_mean", "p", "n"]]
    .round(3)
    .to_string(index=False)
)
