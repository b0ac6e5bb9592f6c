"""Pretrain the zoo: open_clip's own model and loss on the planted world."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import pandas as pd
import torch

from clipbias.probes import world as planted
from clipbias.zoo import store

MEAN, STD = 0.5, 0.25
PREPROCESS = {"mean": [MEAN] * 3, "std": [STD] * 3, "interpolation": "bicubic"}
HELD_OUT_SEED = 999  # neutral scenes that no model is trained on


def world_of(model: dict, training: dict) -> planted.World:
    """Return the sample of the world a model is pretrained on."""
    return planted.World(
        n=training["scenes"], seed=model["seed"], rho=model.get("rho"), rho_in=model.get("rho_in", {}),
        noise=training["noise"], bystanders=training["bystanders"], plain=model.get("plain", training["plain"]),
    )  # fmt: skip


def config_of(architecture: dict, text: dict, vocabulary: int = store.VOCABULARY_SIZE) -> dict:
    """Return the open_clip model configuration of an architecture."""
    return {
        "embed_dim": architecture["embed_dim"],
        "vision_cfg": architecture["vision"],
        "text_cfg": {**text, "vocab_size": vocabulary},
    }


def to_input(pictures: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Return uint8 pictures (n, h, w, 3) as normalised float32 (n, 3, h, w)."""
    pictures = torch.as_tensor(pictures).permute(0, 3, 1, 2).float() / 255
    return (pictures - MEAN) / STD


class Captions:
    """Every caption of a sample as compact token rows, and the draw of one caption per scene.

    Attributes
    ----------
    rows : numpy.ndarray
        Original positions of the token rows in use; compact ids keep their order, so the end-of-text
        token stays the largest id, which is how open_clip finds it.
    """

    def __init__(self, texts: pd.DataFrame, shares: dict[str, float], context_length: int) -> None:
        unique, inverse = np.unique(texts.to_numpy().ravel(), return_inverse=True)
        self.unique = unique
        self.index = inverse.reshape(texts.shape)
        kinds = [column.rstrip("0123456789") for column in texts]
        self.probability = np.array([shares[kind] / kinds.count(kind) for kind in kinds])
        self.tokenizer = open_clip.SimpleTokenizer(context_length=context_length)
        self.rows, compact = np.unique(self.tokenizer(list(unique)).numpy(), return_inverse=True)
        self.tokens = torch.from_numpy(compact.reshape(len(unique), context_length))

    def draw(self, scenes: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
        """Return the tokens of one randomly chosen caption per scene."""
        kind = rng.choice(len(self.probability), len(scenes), p=self.probability)
        return self.tokens[self.index[scenes, kind]]

    def encode(self, texts: list[str]) -> torch.Tensor:
        """Return compact tokens of any text whose words occur in the captions."""
        return torch.from_numpy(np.searchsorted(self.rows, self.tokenizer(texts).numpy()))

    @property
    def words(self) -> list[str]:
        """Words of the captions, sorted."""
        return sorted({word for text in self.unique for word in text.lower().replace("-", " - ").split()})


def train(name: str, folder: Path, *, threads: int = 2, report: Callable[[str], None] = print) -> dict:
    """Pretrain one model and write its checkpoint and card; an interrupted training is resumed at the exact step.

    Parameters
    ----------
    name : str
        A row of zoo.toml.
    folder : pathlib.Path
        Where ``<name>.safetensors`` and ``<name>.json`` go.

    Returns
    -------
    dict
        The card.
    """
    recipe = store.recipe()
    model, training = recipe["models"][name], recipe["training"]
    architecture = recipe["architectures"][model["architecture"]]
    torch.set_num_threads(threads)
    world = world_of(model, training)
    frame = planted.scenes(world)
    pictures = torch.from_numpy(planted.render(frame, world))
    captions = Captions(planted.captions(frame), training["captions"], recipe["text"]["context_length"])

    torch.manual_seed(model["seed"])
    net = open_clip.CLIP(**config_of(architecture, recipe["text"], len(captions.rows)))
    sample = pictures, captions
    stages = history(model, architecture, training)
    for number, stage in enumerate(stages):
        if number:
            # From the float16 weights, so that this stage can be run again from a shipped checkpoint.
            net.half().float()
        where = folder / (f"{name}.polish{number}" if number else name)
        _fit(
            net,
            sample,
            training,
            architecture["batch_size"],
            stage,
            (model["seed"], 5 + number),
            where,
            report,
        )
    facts = {
        "name": name, "architecture": model["architecture"], "seed": model["seed"],
        "planted": {"attribute": world.attribute, "target": world.target, "rho": model.get("rho"),
                    "rho_in": model.get("rho_in", {}), "strength": planted.strength(world), "neutral": world.neutral},
        "world": world.model_dump(mode="json"), "steps": sum(s["steps"] for s in stages), "history": stages, "batch_size": architecture["batch_size"],
        "parameters": sum(p.numel() for p in net.parameters()),
        "config": config_of(architecture, recipe["text"]),
        "preprocess": {**PREPROCESS, "size": architecture["vision"]["image_size"]},
        "words": captions.words, "command": f"python -m clipbias.zoo train {name}",
    }  # fmt: skip
    net.half().float()  # score what is shipped: float16 weights
    facts["zero_shot"] = zero_shot(net, captions, world)
    path = folder / f"{name}.safetensors"
    store.write_compact({key: value.numpy() for key, value in net.state_dict().items()}, captions.rows, path)
    facts["digest"] = hashlib.sha256(path.read_bytes()).hexdigest()
    part = folder / f"{name}.json.part"
    part.write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")
    part.replace(folder / f"{name}.json")
    for left in folder.glob(f"{name}.*resume.pt"):
        left.unlink()
    report(f"{name}: " + ", ".join(f"{k} {v:.3f}" for k, v in facts["zero_shot"].items()))
    return facts


def history(model: dict, architecture: dict, training: dict) -> list[dict]:
    """Return the stages of a model's training in order: epochs, peak learning rate and optimiser steps of each."""
    first = {
        "epochs": model.get("epochs", architecture["epochs"]),
        "learning_rate": architecture["learning_rate"],
    }
    per_epoch = training["scenes"] // architecture["batch_size"]
    return [stage | {"steps": per_epoch * stage["epochs"]} for stage in (first, *model.get("polish", ()))]


def _fit(
    net: open_clip.CLIP, sample: tuple[torch.Tensor, Captions], training: dict, size: int, stage: dict,
    seed: tuple[int, int], where: Path, report: Callable[[str], None],
) -> None:  # fmt: skip
    """Train one stage, with a checkpoint ``<where>.resume.pt`` after each epoch."""
    pictures, captions = sample
    epochs, learning_rate = stage["epochs"], stage["learning_rate"]
    decayed = [p for p in net.parameters() if p.ndim >= 2]
    plain = [p for p in net.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": training["weight_decay"]}, {"params": plain, "weight_decay": 0.0}],
        lr=learning_rate, betas=(0.9, 0.98),
    )  # fmt: skip
    n = len(pictures)
    per_epoch = n // size
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, learning_rate, total_steps=per_epoch * epochs, pct_start=training["warmup"]
    )
    loss_of = open_clip.ClipLoss()
    checkpoint = where.with_name(f"{where.name}.resume.pt")
    done = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        net.load_state_dict(saved["net"])
        optimizer.load_state_dict(saved["optimizer"])
        schedule.load_state_dict(saved["schedule"])
        done = saved["epochs"]
    for epoch in range(done, epochs):
        # Seeded by epoch, so that a resumed training draws what an uninterrupted one draws.
        rng = np.random.default_rng([*seed, epoch])
        net.train()
        total = 0.0
        for batch in rng.permutation(n)[: per_epoch * size].reshape(-1, size):
            image, text, scale = net(to_input(pictures[batch]), captions.draw(batch, rng))
            loss = loss_of(image, text, scale)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                net.logit_scale.clamp_(0, np.log(100))
            total += loss.item()
        torch.save(
            {
                "net": net.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "epochs": epoch + 1,
            },
            checkpoint.with_suffix(".part"),
        )
        checkpoint.with_suffix(".part").replace(checkpoint)
        report(f"{where.name}: epoch {epoch + 1}/{epochs}, loss {total / per_epoch:.3f}")


@torch.inference_mode()
def zero_shot(net: open_clip.CLIP, captions: Captions, world: planted.World) -> dict[str, float]:
    """Return zero-shot role and object accuracy in [0, 1] on neutral held-out scenes of the training styles."""
    net.eval()
    neutral = planted.World(
        crossed=1, seed=HELD_OUT_SEED, styles=world.styles, size=world.size, noise=world.noise
    )
    frame = planted.scenes(neutral)
    pictures = planted.render(frame, neutral)
    image = torch.cat(
        [net.encode_image(to_input(part), normalize=True) for part in np.array_split(pictures, 8)]
    )
    scores = {}
    for factor in ("role", "object"):
        levels = list(frame[factor].cat.categories)
        text = net.encode_text(
            captions.encode([f"a photo of {planted.with_article(level)}" for level in levels]), normalize=True
        )
        scores[f"{factor}_accuracy"] = float(
            ((image @ text.T).argmax(1).numpy() == frame[factor].cat.codes).mean()
        )
    return scores
