"""Features with a planted tie between job and gender, and task data around them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from clipbias.data.imageset import ImageSet
from clipbias.tasks.batches import Material
from clipbias.tasks.data import TaskData
from clipbias.tasks.heads.base import Features

JOBS, GENDERS = ("cook", "judge"), ("man", "woman")
ASKED = "what is the job?"


def draw(n: int, rho: float, seed: int, *, cue: float = 2.0, core: float = 0.7, dims: int = 24):
    """Return features (n, d), job (n,), gender (n,) and cue strength (n,); the gender is easier to see than the job."""
    rng = np.random.default_rng([seed, int(rho * 100)])
    job = rng.integers(0, 2, n)
    gender = np.where(rng.random(n) < rho, job, 1 - job)
    strength = 1 + 0.35 * rng.normal(size=n)
    x = rng.normal(size=(n, dims))
    x[:, :4] += core * (2 * job - 1)[:, None]
    x[:, 4:6] += cue * ((2 * gender - 1) * strength)[:, None]
    return x.astype(np.float32), job, gender, strength


def task(n_train=400, rho=0.9, seed=0, *, unknown=0.0, kind="vqa"):
    """Return task data, an encoder and the table of groups."""
    sizes = {"train": (n_train, rho), "val": (120, rho), "test": (160, 0.5)}
    parts, splits = [], []
    for number, (split, (n, r)) in enumerate(sizes.items()):
        parts.append(draw(n, r, 10 * seed + number))
        splits += [split] * n
    x, job, gender = (np.concatenate([part[k] for part in parts]) for k in range(3))
    ids = [f"i{k}" for k in range(len(x))]
    levels = np.array(GENDERS, object)[gender]
    levels[np.random.default_rng(seed).random(len(x)) < unknown] = "unknown"
    table = pd.DataFrame(
        {
            "image_id": ids,
            "gender": pd.Categorical(levels, [*GENDERS, "unknown"]),
            "role": np.array(JOBS, object)[job],
        }
    )
    images = ImageSet("planted", table, ("gender",), lambda rows: [b""] * len(rows))
    rows = []
    for k, split in enumerate(splits):
        role = JOBS[job[k]]
        if kind == "vqa":
            rows.append((f"q{k}", ids[k], split, ASKED, "what", "other", [role] * 10, role))
            rows.append(
                (
                    f"g{k}",
                    ids[k],
                    split,
                    "man or woman?",
                    "",
                    "other",
                    [GENDERS[gender[k]]],
                    GENDERS[gender[k]],
                )
            )
        else:
            rows.append((f"c{k}", ids[k], split, "", "", "", [f"a {role} here"], f"a {role} here"))
    columns = [
        "example_id",
        "image_id",
        "split",
        "question",
        "question_type",
        "answer_type",
        "answers",
        "target",
    ]
    data = TaskData(kind, images, pd.DataFrame(rows, columns=columns), "planted")
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    return data, (lambda rows: unit[rows]), table[["image_id", "gender"]]


def material(data, encoder, split="train") -> Material:
    examples = data.split(split)

    def source(rows):
        pooled = torch.as_tensor(encoder(np.asarray(rows)), dtype=torch.float32)
        return Features(pooled, pooled[:, None, :4].repeat(1, 2, 1))

    return Material(examples, data.image_rows(examples), source)
