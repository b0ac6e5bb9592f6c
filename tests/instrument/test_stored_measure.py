"""`measure` on stored numbers: no weights, no pictures, the same tables."""

import numpy as np
import pandas as pd
import pytest

from clipbias import measure
from clipbias.metrics import harm_rate, max_skew
from clipbias.results.run import RunFolder

CONCEPTS = ["friend", "thief", "judge"]


@pytest.fixture
def audit(tmp_path):
    """Sixty people with labels, and scores in which one group is called a thief more often."""
    rng = np.random.default_rng(4)
    people = pd.DataFrame({
        "person": [f"p{i:02d}" for i in range(60)], "gender": np.tile(["F", "M"], 30), "race": np.repeat(["A", "B", "C"], 20),
    })  # fmt: skip
    people.to_csv(tmp_path / "labels.csv", index=False)
    scores = pd.DataFrame(rng.normal(size=(60, 3)), columns=CONCEPTS)
    scores.loc[people["gender"] == "M", "thief"] += 1.0
    scores.insert(0, "image_id", people["person"])
    # The rows of the file are in another order than the labels: ids decide.
    scores.sample(frac=1, random_state=1).to_csv(tmp_path / "scores.csv", index=False)
    return tmp_path, people, scores


def image_set(folder):
    return f"table:{folder}/labels.csv?images=none&id_column=person&attributes=gender,race"


def run(*words):
    return measure.main([str(word) for word in words])


def rows_of(folder, **where):
    frame = RunFolder(folder).read("intrinsic")
    for column, value in where.items():
        frame = frame[frame[column] == value]
    return frame


def test_scores_are_measured_with_their_ids(audit, capsys):
    folder, people, scores = audit
    out = folder / "run"
    code = run(
        "--models", f"scores:{folder}/scores.csv", "--image-set", image_set(folder), "--attributes", "gender", "race*gender",
        "--views", "global", "race", "--k", 12, "--harmful", "thief", "--out", out, "--quiet",
    )  # fmt: skip
    assert code == 0
    for concept in CONCEPTS:
        row = rows_of(out, metric="max_skew", attribute="gender", view="global", probe=concept).iloc[0]
        assert row["value"] == pytest.approx(max_skew(scores[concept], people["gender"], k=12))
    named = np.array(CONCEPTS)[scores[CONCEPTS].to_numpy().argmax(1)]
    expected = harm_rate(named, people["gender"], harmful=["thief"])
    found = rows_of(out, metric="harm_rate", attribute="gender", view="global", probe="").set_index("group")[
        "value"
    ]
    assert found.to_dict() == pytest.approx(expected.rate)
    cells = rows_of(
        out, metric="selection_rate", attribute="race*gender", view="global", probe="thief"
    ).set_index("group")
    own = (people["race"] == "B") & (people["gender"] == "M")
    assert cells.loc["B M", "value"] == pytest.approx((named[own] == "thief").mean())
    assert len(cells) == 6
    assert set(rows_of(out)["view"]) == {"global", "race=A", "race=B", "race=C"}
    checks = RunFolder(out).read("integrity").set_index("check")
    assert checks.loc["missing ids", "status"] == checks.loc["zero rows", "status"] == "ok"
    assert (out / "report.html").is_file()


def test_embeddings_are_measured_and_their_geometry_is_told(audit):
    folder, people, _ = audit
    rng = np.random.default_rng(5)
    images, texts = rng.normal(size=(60, 8)), rng.normal(size=(3, 8))
    np.savez(
        folder / "e.npz",
        images=images,
        ids=people["person"].to_numpy(str),
        texts=texts,
        names=np.array(CONCEPTS),
    )
    out = folder / "run"
    assert run(
        "--models", f"embeddings:{folder}/e.npz", "--image-set", image_set(folder), "--attributes", "gender",
        "--views", "global", "text:judge@20", "--k", 10, "--metrics", "max_skew", "--out", out, "--quiet", "--no-report",
    ) == 0  # fmt: skip
    cosine = (images / np.linalg.norm(images, axis=1, keepdims=True)) @ texts[2]
    row = rows_of(out, view="global", probe="judge").iloc[0]
    assert row["value"] == pytest.approx(max_skew(cosine, people["gender"], k=10))
    assert rows_of(out, view="text:judge@20", probe="").iloc[0]["n"] == 20
    assert {"modality gap", "anisotropy of images"} <= set(RunFolder(out).read("integrity")["check"])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: s.assign(**dict.fromkeys(CONCEPTS, 0.0)), "zero rows"),
        (lambda s: s.drop(columns="image_id"), "missing ids: no ids for 60 rows"),
        (lambda s: s.assign(image_id=s["image_id"].iloc[0]), "duplicated ids"),
        (lambda s: s.iloc[:40], "20 of 60 images have no row"),
        (lambda s: s.assign(thief=np.nan), "not finite"),
    ],
)
def test_gates_stop_before_anything_is_measured(audit, capsys, spoil, message):
    folder, _, scores = audit
    spoil(scores).to_csv(folder / "bad.csv", index=False)
    words = (
        "--models",
        f"scores:{folder}/bad.csv",
        "--image-set",
        image_set(folder),
        "--views",
        "global",
        "--k",
        12,
    )
    assert run(*words, "--out", folder / "run", "--quiet") == 2
    assert message in capsys.readouterr().err.replace("\n", " ")
    assert not (folder / "run" / "intrinsic.parquet").exists()
