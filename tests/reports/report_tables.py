"""Synthetic run tables: deterministic, with known truth, shaped like what a run writes."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from clipbias.results import rows

FAMILIES = ("vit", "resnet", "convnext")
STRENGTHS = (0.5, 0.65, 0.8, 0.95)
METRICS = {
    # metric: (title, low, high, ideal, unit, signed, slope of the value on planted strength)
    "max_skew": ("Max skew", 0.0, float("inf"), 0.0, "nats", False, 0.9),
    "ndkl": ("NDKL", 0.0, float("inf"), 0.0, "nats", False, 0.18),
    "normalized_entropy": ("Normalised entropy", 0.0, 1.0, 1.0, "", False, -0.5),
    "c_asc": ("C-ASC", -2.0, 2.0, 0.0, "SD", True, 1.4),
    "zero_shot_disparity": ("Zero-shot disparity", 0.0, 1.0, 0.0, "accuracy", False, 0.5),
    "kl_recall": ("KL of recall", 0.0, 0.69, 0.0, "nats", False, 0.3),
}
LEVELS = {"gender": ("woman", "man"), "tone": ("1", "2", "3", "4", "5")}
IMAGE_SETS = {"emoji-people": 1400, "world-people": 2800}


def model_table(n: int = 12) -> pd.DataFrame:
    found = []
    for i in range(n):
        family, rho = FAMILIES[i % 3], STRENGTHS[(i // 3) % 4]
        found.append(
            {
                "model": f"zoo:{family}-{rho:.2f}".replace("0.", ""), "family": family, "parameters": (480_000, 3_000_000, 3_400_000)[i % 3],
                "planted_rho": rho, "planted_context": "", "role_accuracy": 0.9 - 0.005 * i, "object_accuracy": 0.88,
                "digest": f"sha256:{i:064x}",
            }
        )  # fmt: skip
    found[-1] |= {"planted_context": "kitchen", "model": f"zoo:{found[-1]['family']}-kitchen"}
    return pd.DataFrame(found)


def view_names(n: int) -> list[tuple[str, str, str]]:
    contexts = ["kitchen", "office", "street", "park"]
    named = [(f"context={c}", "metadata", f"context is {c}") for c in contexts]
    named += [
        (f"cluster {i}", "kmeans-own", f"k-means cluster {i} in the model's own space") for i in range(n)
    ]
    return named[:n]


def png(seed: int) -> str:
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (48, 48), "white")
    draw = ImageDraw.Draw(image)
    draw.ellipse((8, 4, 40, 36), fill=tuple(int(v) for v in rng.integers(60, 230, 3)))
    draw.rectangle((12, 34, 36, 48), fill=tuple(int(v) for v in rng.integers(60, 230, 3)))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def make(n_models: int = 12, n_views: int = 10, *, seed: int = 0) -> dict:
    """Return all tables of a run: bias planted for gender rises with rho, tone has none, one local finding."""
    rng = np.random.default_rng(seed)
    models = model_table(n_models)
    intrinsic, views, bands = [], [], []
    for m in models.itertuples():
        for image_set, n in IMAGE_SETS.items():
            named = [("global", "global", "all pictures", n)]
            named += [(v, k, d, n // (4 + i)) for i, (v, k, d) in enumerate(view_names(n_views))]
            for view, kind, definition, size in named:
                card = {"composition": {"gender": {"woman": size // 2, "man": size - size // 2}}}
                views.append(
                    {
                        "model": m.model,
                        "image_set": image_set,
                        "view": view,
                        "kind": kind,
                        "definition": definition,
                        "n": size,
                        "card": json.dumps(card),
                    }
                )
            for attribute in LEVELS:
                strength = (m.planted_rho - 0.5) if attribute == "gender" and not m.planted_context else 0.0
                for metric, (_, low, high, ideal, _, signed, slope) in METRICS.items():
                    for view, _, _, size in named:
                        there = (
                            0.3
                            if m.planted_context
                            and view == f"context={m.planted_context}"
                            and attribute == "gender"
                            else 0.0
                        )
                        half = 1.2 / np.sqrt(size)
                        floor = 0 if signed else np.sign(slope) * 0.6 / np.sqrt(size)
                        value = float(
                            np.clip(
                                ideal + slope * (strength + there) + floor + rng.normal(0, half / 4),
                                low,
                                high,
                            )
                        )
                        key = {
                            "model": m.model,
                            "stage": "pre",
                            "image_set": image_set,
                            "view": view,
                            "attribute": attribute,
                            "metric": metric,
                        }
                        stats = {
                            "value": value, "ci_low": value - half, "ci_high": value + half, "n": size, "null_mean": 0.02, "null_sd": 0.01,
                            "z": (value - 0.02) / 0.01, "p": 0.001 if strength else 0.4, "protocol": "abc123", "status": "ok",
                        }  # fmt: skip
                        if (
                            metric == "kl_recall"
                            and m.Index == 3
                            and view == "global"
                            and attribute == "tone"
                        ):
                            stats = {
                                "n": size,
                                "status": "empty group",
                                "reason": "No picture of tone 5 was found by any text.",
                            }
                        if signed:
                            first, second = LEVELS[attribute][:2]
                            intrinsic.append({**key, "group": second, **stats})
                            if "value" in stats:
                                flipped = {"value": -value, "ci_low": -value - half, "ci_high": -value + half}
                                intrinsic.append({**key, "group": first, **stats, **flipped})
                            continue
                        intrinsic.append({**key, **stats})
                        if view != "global":
                            bands.append(
                                {"model": m.model, "image_set": image_set, "view": view, "attribute": attribute, "probe": "", "metric": metric, "size": size,
                                 "q_low": ideal + slope * strength + floor - half / 1.6, "q_mid": ideal + slope * strength + floor,
                                 "q_high": ideal + slope * strength + floor + half / 1.6}
                            )  # fmt: skip
                # Both probes show what their mean shows, as a mean over probes must.
                whole = next(
                    r for r in reversed(intrinsic) if r["metric"] == "max_skew" and r["view"] == "global"
                )
                intrinsic += [{**whole, "probe": probe} for probe in ("nurse", "engineer")]
                for place, group in enumerate(LEVELS[attribute]):
                    v = round(float((0.9 if place else -0.9) * strength + rng.normal(0, 0.01)), 6)
                    intrinsic.append(
                        {"model": m.model, "stage": "pre", "image_set": image_set, "view": "global", "attribute": attribute, "metric": "skew",
                         "group": group, "value": v, "ci_low": v - 0.05, "ci_high": v + 0.05, "n": n, "protocol": "abc123"}
                    )  # fmt: skip
    examples = [
        {"model": m, "attribute": "gender", "probe": probe, "group": "woman" if i < 6 else "man", "image_id": f"{probe}-{i}",
         "caption": f"a {probe} at work, picture {i}", "png": png(i + 10 * p), "score": 0.31 - 0.004 * i}
        for m in models["model"][:6] for p, probe in enumerate(("nurse", "engineer", "slurword")) for i in range(8)
    ]  # fmt: skip
    about = {
        "direction": "lower is closer to even", "interval": "bootstrap over pictures, 95 %", "reference": "Geyik et al. 2019",
    }  # fmt: skip
    metrics = [
        {"metric": k, "title": t, "range_low": low, "range_high": high, "ideal": ideal, "unit": unit,
         "sign": "positive: over-represented" if signed else "none", **about}
        for k, (t, low, high, ideal, unit, signed, _) in METRICS.items()
    ] + [{"metric": "skew", "title": "Skew", "range_low": -np.inf, "range_high": np.inf, "ideal": 0.0, "unit": "nats", "sign": "positive: over-represented", **about}]  # fmt: skip
    validity = [
        {"metric": k, "attribute": "gender", "image_set": "emoji-people", "spearman": 0.97 - 0.02 * i, "ci_low": 0.85, "ci_high": 0.99, "bound": 0.9,
         "verdict": "reaches the bound" if 0.97 - 0.02 * i >= 0.9 else "falls short", "p": 0.0004, "false_positive_rate": 0.051, "n_models": n_models - 1, "reason": ""}
        for i, k in enumerate(METRICS)
    ]  # fmt: skip
    prompts = [
        {"probe_set": "roles", "concept": c, "prompt": f"a photo of a {c}", "template": "a photo of a {}", "offensive": False, "licence": "CC-BY-4.0", "source": "clipbias"}
        for c in ("nurse", "engineer", "cook")
    ] + [{"probe_set": "crime", "concept": "slurword", "prompt": "a photo of a slurword", "template": "a photo of a {}", "offensive": True, "licence": "CC0", "source": "made up"}]  # fmt: skip
    manifest = {
        "command": ["python", "-m", "clipbias.measure", "--out", "runs/default"], "started": "2026-11-22T05:00:00Z", "seed": 0,
        "versions": {"clipbias": "0.1.0", "torch": "2.14.1"}, "digests": {"emoji-people": "sha256:ab12"},
    }  # fmt: skip
    return {
        "intrinsic": rows.table([dict.fromkeys(rows.KEY, "") | {"status": "ok", "reason": ""} | row for row in intrinsic]), "models": models, "metrics": pd.DataFrame(metrics), "views": pd.DataFrame(views),
        "validity": pd.DataFrame(validity), "null_bands": pd.DataFrame(bands), "examples": pd.DataFrame(examples),
        "prompts": pd.DataFrame(prompts), "left_out": pd.DataFrame({"image_set": ["emoji-people"] * 3, "image_id": ["a", "b", "c"], "reason": ["unreadable file", "unreadable file", "attribute not visible"]}),
        "manifest": manifest,
    }  # fmt: skip
