"""The shipped models are what their cards say, and training can be repeated and resumed."""

import copy
import hashlib
import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from clipbias import probes, zoo
from clipbias.errors import ModelError
from clipbias.probes import world as w
from clipbias.zoo import store

CARDS = {name: store.card(name) for name in store.names()}


def test_the_zoo_is_as_large_and_as_small_as_promised():
    assert len(CARDS) >= 14
    assert set(CARDS) == set(store.recipe()["models"])
    assert sum(card["parameters"] for card in CARDS.values()) <= 18e6
    assert sum(p.stat().st_size for p in (store.FOLDER / "models").iterdir()) <= 40e6


def test_at_least_three_architectures_are_crossed_with_at_least_four_strengths():
    planted = {(c["architecture"], c["planted"]["rho"]) for c in CARDS.values() if not c["planted"]["rho_in"]}
    strengths = {a: {rho for b, rho in planted if a == b} for a, _ in planted}
    assert len(strengths) >= 3
    assert all(len(found) >= 4 and min(found) == 0.5 and max(found) == 0.95 for found in strengths.values())
    assert sum(bool(c["planted"]["rho_in"]) for c in CARDS.values()) >= 2


@pytest.mark.parametrize("name", CARDS)
def test_every_model_is_competent_and_its_file_is_the_one_on_its_card(name):
    scores = CARDS[name]["zero_shot"]
    assert scores["role_accuracy"] >= 0.8
    assert scores["object_accuracy"] >= 0.8
    data = (store.FOLDER / "models" / f"{name}.safetensors").read_bytes()
    assert hashlib.sha256(data).hexdigest() == CARDS[name]["digest"]


@pytest.mark.parametrize("name", CARDS)
def test_a_card_tells_the_whole_training_that_its_command_runs(name):
    recipe, card = store.recipe(), CARDS[name]
    model = recipe["models"][name]
    first = {
        "epochs": model.get("epochs", recipe["architectures"][model["architecture"]]["epochs"]),
        "learning_rate": recipe["architectures"][model["architecture"]]["learning_rate"],
    }
    told = [{key: stage[key] for key in first} for stage in card["history"]]
    assert told == [first, *model.get("polish", [])]
    assert sum(stage["steps"] for stage in card["history"]) == card["steps"]
    assert card["command"] == f"python -m clipbias.zoo train {name}"
    assert card["world"]["plain"] == model.get("plain", recipe["training"]["plain"])
    assert (card["planted"]["rho"], card["planted"]["rho_in"]) == (model["rho"], model.get("rho_in", {}))


def test_the_full_checkpoint_holds_the_shipped_token_rows(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPBIAS_CACHE", str(tmp_path))
    name = next(iter(CARDS))
    model = zoo.resolve(name)
    full, small = load_file(model.path), load_file(store.FOLDER / "models" / f"{name}.safetensors")
    assert full[store.TOKENS].shape[0] == store.VOCABULARY_SIZE
    assert (full[store.TOKENS][small["token_rows"]] == small[store.TOKENS].astype(np.float32)).all()
    before = model.path.read_bytes()
    model.path.unlink()
    assert zoo.resolve(name).path.read_bytes() == before


def test_every_word_of_the_shipped_probes_is_in_the_vocabulary():
    words = set.intersection(*(set(c["words"]) for c in CARDS.values()))
    for name in ("roles", "objects", "genders", "tones"):
        asked = {
            x for p in probes.load(name).prompts["prompt"] for x in p.lower().replace("-", " - ").split()
        }
        assert asked <= words


def test_an_unknown_model_names_the_nearest():
    with pytest.raises(ModelError, match="Did you mean 'vit-95'"):
        zoo.resolve("vit95")


@pytest.mark.slow
@pytest.mark.parametrize("architecture", sorted({c["architecture"] for c in CARDS.values()}))
def test_the_scores_on_the_card_come_out_of_the_loaded_model(architecture):
    from clipbias.models import load_model

    name = next(n for n, c in CARDS.items() if c["architecture"] == architecture)
    model = load_model(f"zoo:{name}")
    from clipbias.zoo.train import HELD_OUT_SEED

    image_set = probes.load_images("world-people", seed=HELD_OUT_SEED)
    images = model.encode_images(image_set.read(list(range(len(image_set)))))
    for factor in ("role", "object"):
        levels = list(image_set.column(factor).categories)
        texts = model.encode_texts([f"a photo of {w.with_article(level)}" for level in levels])
        texts /= np.linalg.norm(texts, axis=1, keepdims=True)
        accuracy = ((images @ texts.T).argmax(1) == image_set.column(factor).codes).mean()
        assert accuracy == pytest.approx(CARDS[name]["zero_shot"][f"{factor}_accuracy"], abs=0.003)


@pytest.mark.slow
def test_training_is_repeatable_and_resumes_at_the_exact_step(tmp_path, monkeypatch):
    import torch

    from clipbias.zoo import train

    small = copy.deepcopy(store.recipe())
    small["training"]["scenes"] = 96
    small["architectures"]["resnet"] |= {"epochs": 3, "batch_size": 32}
    small["models"] = {"tiny": {"architecture": "resnet", "rho": 0.9, "seed": 1}}
    monkeypatch.setattr(train.store, "recipe", lambda: small)
    threads = torch.get_num_threads()
    try:
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        whole = train.train("tiny", tmp_path / "a", threads=1, report=lambda text: None)

        class Killed(BaseException):
            pass

        def kill(text):
            if "epoch 2/" in text:
                raise Killed

        with pytest.raises(Killed):
            train.train("tiny", tmp_path / "b", threads=1, report=kill)
        resumed = train.train("tiny", tmp_path / "b", threads=1, report=lambda text: None)
    finally:
        torch.set_num_threads(threads)
    assert resumed["digest"] == whole["digest"]
    assert json.loads((tmp_path / "b" / "tiny.json").read_text()) == whole
    assert not list((tmp_path / "b").glob("*.resume.pt"))
