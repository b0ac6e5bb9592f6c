"""Stored scores and embeddings: every form is read, and what is wrong with a file is said."""

import numpy as np
import pandas as pd
import pytest

from clipbias.errors import ModelError
from clipbias.models import load_model, parse_spec, split_specs
from clipbias.models.stored import is_stored, load_stored


@pytest.fixture
def scores(tmp_path):
    frame = pd.DataFrame({"image_id": ["x", "y", "z"], "cook": [0.1, 0.2, 0.3], "judge": [0.3, 0.1, 0.2]})
    frame.to_csv(tmp_path / "s.csv", index=False)
    frame.to_parquet(tmp_path / "s.parquet")
    numbers = frame[["cook", "judge"]].to_numpy()
    np.savez(
        tmp_path / "s.npz",
        scores=numbers,
        ids=frame["image_id"].to_numpy(str),
        names=np.array(["cook", "judge"]),
    )
    np.save(tmp_path / "s.npy", numbers)
    (tmp_path / "ids.txt").write_text("x\ny\nz\n")
    (tmp_path / "names.txt").write_text("cook\njudge\n")
    return tmp_path


@pytest.mark.parametrize("name", ["s.csv", "s.parquet", "s.npz", "s.npy?ids={0}/ids.txt&names={0}/names.txt"])
def test_every_format_of_scores_is_the_same(scores, name):
    found = load_stored(f"scores:{scores}/{name.format(scores)}")
    assert found.ids == ["x", "y", "z"]
    assert found.names == ["cook", "judge"]
    assert found.texts is None
    np.testing.assert_allclose(found.values, [[0.1, 0.3], [0.2, 0.1], [0.3, 0.2]])


def test_embeddings_with_their_texts(tmp_path):
    rng = np.random.default_rng(0)
    images, texts = rng.normal(size=(4, 3)), rng.normal(size=(2, 3))
    np.savez(
        tmp_path / "e.npz",
        images=images,
        ids=np.array(list("abcd")),
        texts=texts,
        names=np.array(["cook", "judge"]),
    )
    found = load_stored(f"embeddings:{tmp_path}/e.npz")
    np.testing.assert_array_equal(found.texts, texts)
    pd.DataFrame(images).assign(image_id=list("abcd")).to_csv(tmp_path / "i.csv", index=False)
    pd.DataFrame(texts).assign(text=["cook", "judge"]).to_csv(tmp_path / "t.csv", index=False)
    again = load_stored(f"embeddings:{tmp_path}/i.csv?texts={tmp_path}/t.csv")
    np.testing.assert_allclose(again.values, images)
    np.testing.assert_allclose(again.texts, texts)
    assert again.names == found.names == ["cook", "judge"]
    assert again.digest != found.digest
    with pytest.raises(ModelError, match="no text embeddings"):
        load_stored(f"embeddings:{tmp_path}/i.csv")
    pd.DataFrame(texts[:, :2]).assign(text=["cook", "judge"]).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(ModelError, match="3 dimensions and texts 2"):
        load_stored(f"embeddings:{tmp_path}/i.csv?texts={tmp_path}/t.csv")


def test_what_is_wrong_is_said(scores):
    with pytest.raises(ModelError, match="there is no file .*Did you mean 's.csv'"):
        load_stored(f"scores:{scores}/s.cvs")
    with pytest.raises(ModelError, match="no array 'probs'"):
        load_stored(f"scores:{scores}/s.npz?array=probs")
    with pytest.raises(ModelError, match="no column 'person'"):
        load_stored(f"scores:{scores}/s.csv?id=person")
    with pytest.raises(ModelError, match="0 names for 2 columns"):
        load_stored(f"scores:{scores}/s.npy")
    with pytest.raises(ModelError, match="none of .npz"):
        load_stored(f"scores:{scores}/ids.txt")
    (scores / "t.csv").write_text("face,cook\na,high\n")
    with pytest.raises(ModelError, match="something else than numbers"):
        load_stored(f"scores:{scores}/t.csv")
    (scores / "twice.txt").write_text("cook\ncook\n")
    with pytest.raises(ModelError, match="'cook' stands twice"):
        load_stored(f"scores:{scores}/s.npy?names={scores}/twice.txt")
    # An empty cell is a missing score; the gate finds it.
    (scores / "t.csv").write_text("image_id,cook\na,\nb,1\n")
    assert np.isnan(load_stored(f"scores:{scores}/t.csv").values[0, 0])


def test_a_stored_file_is_a_spec_and_no_model(scores):
    text = f"scores:{scores}/s.csv?probabilities=no"
    assert is_stored(text)
    assert not is_stored("zoo:vit-95")
    spec = parse_spec(text)
    assert (spec.kind, spec.option("probabilities")) == ("scores", "no")
    assert load_stored(spec).probabilities is False
    assert split_specs([text]) == [text]
    with pytest.raises(ModelError, match="probabilities is one of yes, no"):
        parse_spec(f"scores:{scores}/s.csv?probabilities=maybe")
    with pytest.raises(ModelError, match="stored numbers and no model"):
        load_model(text)
