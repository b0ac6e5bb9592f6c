"""`clipbias measure --protocol`: the choices reach the numbers, and `--explain` says what they are."""

from __future__ import annotations

import numpy as np
import pytest

from clipbias import measure, probes
from clipbias.embedding import EmbeddingCache, embed_images, embed_texts
from clipbias.instrument import images as image_sets
from clipbias.instrument.recipe import Measurement, Recipe
from clipbias.instrument.unit import inputs_of
from clipbias.metrics.presets import load_preset
from clipbias.metrics.protocol import Protocol
from clipbias.models import load_model
from clipbias.results.run import RunFolder

MODEL = "zoo:resnet-70"
ROLES = ["judge", "cook", "teacher", "mechanic"]


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("CLIPBIAS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def asked(**more) -> Measurement:
    options = {"size": 64, "styles": ["noto"], "roles": ROLES}
    return Measurement(image_set="emoji-people", options=options, probe="roles", metrics=["max_skew"], **more)


def scores(protocol: Protocol):
    measurement = asked()
    recipe = Recipe(measurements=[measurement], protocol=protocol)
    return inputs_of(MODEL, recipe, measurement, "gender")["ranking"]


def test_prompts_each_ranks_by_every_prompt():
    found = scores(Protocol(prompts="each"))
    prompts = probes.load("roles").prompts["prompt"].tolist()
    assert found.probes == prompts
    model, cache = load_model(MODEL), EmbeddingCache()
    images = embed_images(model, image_sets.load(asked()), cache=cache)
    assert np.allclose(found.scores, embed_texts(model, prompts, cache=cache) @ images.values.T, atol=1e-6)
    assert scores(Protocol()).probes == list(probes.load("roles").concepts)


def test_normalise_texts_keeps_the_length_of_images():
    strict, kept = scores(Protocol()), scores(Protocol(normalise="texts"))
    lengths = kept.scores / strict.scores
    assert np.allclose(lengths, lengths[:1], rtol=1e-3)  # one factor per image
    found = embed_images(load_model(MODEL), image_sets.load(asked()), cache=EmbeddingCache())
    assert np.allclose(lengths[0], found.lengths, rtol=1e-3)
    assert found.lengths.std() > 0
    assert np.allclose(np.linalg.norm(found.values, axis=1), 1, atol=1e-5)


def test_no_warning_prints_an_offensive_word():
    measurement = asked(harmful="clip2021-harm")
    with pytest.warns(UserWarning, match="some words of 'clip2021-harm' are unknown") as said:
        inputs_of(MODEL, Recipe(measurements=[measurement]), measurement, "gender")
    words = {w for item in probes.load("clip2021-harm").items["item"] for w in item.split()} - {"person"}
    assert not any(word in str(warning.message) for warning in said for word in words)


def test_balance_narrows_the_image_set():
    whole = image_sets.load(asked(only={"role": "probe"}))
    tones = image_sets.load(asked(), protocol=Protocol(balance="tone", balance_seed=1))
    counts = tones.table["tone"].value_counts()
    assert counts.nunique() == 1
    assert len(tones) <= len(whole)
    with pytest.raises(Exception, match="no column 'sex'"):
        image_sets.load(asked(), protocol=Protocol(balance="sex"))


def test_explain_prints_and_writes_nothing(tmp_path, capsys):
    assert measure.main(["--protocol", "berg2022", "--explain", "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    for choice, sentence in load_preset("berg2022").changes.items():
        assert f"- {choice} = " in said
        assert sentence.split(";")[0][:40] in said.replace("\n  ", " ")
    assert "Worked example: max_skew" in said
    assert "Not known or not reproduced" in said
    assert not (tmp_path / "run").exists()
    assert measure.main(["--explain"]) == 0
    assert "Other protocols: berg2022" in capsys.readouterr().out
    assert measure.main(["--protocol", "berg", "--explain"]) == 2
    assert "Did you mean 'berg2022'" in capsys.readouterr().err


RECIPE = """
views = ["global"]
random_subsets = 0
[protocol]
n_boot = 20
n_perm = 20
[[measurements]]
image_set = "emoji-people"
options = { size = 64, styles = ["noto"], roles = ["judge", "cook", "teacher", "mechanic"] }
probe = "roles"
attributes = ["gender"]
metrics = ["max_skew"]
"""


def test_measure_by_a_preset_end_to_end(tmp_path, monkeypatch):
    (tmp_path / "study" / "tasks").mkdir(parents=True)
    (tmp_path / "study" / "tasks" / "measure.toml").write_text(RECIPE)
    monkeypatch.setenv("CLIPBIAS_STUDY", str(tmp_path / "study"))
    out = tmp_path / "run"
    words = [
        "--protocol",
        "berg2022",
        "--k",
        "10",
        "--models",
        MODEL,
        "--out",
        str(out),
        "--quiet",
        "--no-report",
    ]
    assert measure.main(words) == 0
    folder = RunFolder(out)
    rows = folder.read("intrinsic")
    assert set(rows["metric"]) == {"max_skew", "ndkl"}
    expected = load_preset("berg2022").protocol(Protocol(n_boot=20, n_perm=20)).model_copy(update={"k": 10})
    assert set(rows["protocol"]) == {expected.hash}
    prompts = set(probes.load("berg2022").prompts["prompt"])
    one = rows[(rows["metric"] == "max_skew") & (rows["probe"] != "")]
    assert set(one["probe"]) == prompts
    mean = rows[(rows["metric"] == "max_skew") & (rows["probe"] == "")]["value"].item()
    assert mean == pytest.approx(one["value"].mean())
