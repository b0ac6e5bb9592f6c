"""Add an image set: a folder with a CSV, and a Hugging Face ``datasets`` object, without a line of reader code.

The pictures are drawn from the embedded art; yours come from your disk.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from clipbias import data, probes
from clipbias.instrument.recipe import parse
from clipbias.measure import measure
from clipbias.results.run import RunFolder

art = probes.load_images("emoji-people", styles=["noto"], size=64)
with tempfile.TemporaryDirectory() as folder:
    photos = Path(folder, "photos")
    photos.mkdir()
    for row, picture in zip(art.table.itertuples(), art.read(range(len(art))), strict=True):
        (photos / f"{row.Index}.png").write_bytes(picture)
    table = art.table[["role", "gender", "tone"]].assign(
        image_id=art.table.index.astype(str), path=[f"{i}.png" for i in art.table.index]
    )
    table.to_csv(Path(folder, "people.csv"), index=False)

    # On the command line: clipbias measure --image-set 'table:people.csv?images=photos&attributes=gender,tone'
    mine = f"table:{folder}/people.csv?images={photos}&attributes=gender,tone&contexts=role"
    recipe = parse(
        {
            "views": ["global"],
            "random_subsets": 0,
            "protocol": {"k": 20, "n_boot": 100, "n_perm": 100},
            "measurements": [
                {
                    "image_set": mine,
                    "probe": "roles",
                    "attributes": ["gender", "tone"],
                    "metrics": ["max_skew", "ndkl"],
                }
            ],
        },
        "this script",
    )
    measure(["zoo:resnet-85"], recipe=recipe, out=Path(folder, "run"), report=False)
    rows = RunFolder(Path(folder, "run")).read("intrinsic")
print(
    rows[rows["probe"] == ""][["attribute", "metric", "value", "ci_low", "ci_high", "null_mean", "n"]]
    .round(3)
    .to_string(index=False)
)

try:
    import datasets  # optional: pip install datasets
except ImportError:
    print("datasets is not installed; data.load('datasets', ds, attributes=[...]) reads one of its objects")
else:
    ds = datasets.Dataset.from_dict(
        {
            "image": [{"bytes": b, "path": None} for b in art.read(range(6))],
            "gender": [str(g) for g in art.table["gender"][:6]],
        }
    ).cast_column("image", datasets.Image())
    print(data.load("datasets", ds, attributes=["gender"]))
