"""What is known about a model: the covariates of the analysis, and the table that ``clipbias models`` prints.

Sources: parameters were counted by building each open_clip 3.3 architecture (``tables/parameters.csv``; where
its text tower lies on the hub, open_clip's own figure); ImageNet zero-shot top-1 accuracy is open_clip's
published evaluation (docs/openclip_results.csv, ``tables/imagenet.csv``); data set sizes are the nominal ones
of the papers named below. What is not known is missing, never guessed.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pandas as pd

from clipbias.models.spec import ModelSpec
from clipbias.models.weights import local_tag_weights

if TYPE_CHECKING:
    import torch

COLUMNS = (
    "spec", "model", "tag", "family", "architecture", "parameters", "embed_dim", "image_size",
    "pretraining_data", "pretraining_size", "samples_seen", "quick_gelu", "imagenet", "planted_rho",
    "planted_context", "local",
)  # fmt: skip

# Tag pattern (first match) → data set, image-text pairs. Radford 2021 (WIT-400M, YFCC15M), Changpinyo 2021
# (CC12M), Schuhmann 2021 and 2022 (LAION), Gadre 2023 (CommonPool, DataComp), Fang 2023 (DFN), Xu 2023
# (MetaCLIP), Sun 2023 (Merged-2B), Vasu 2024 and Faghri 2025 (MobileCLIP), Bolya 2025 (PE), Chen 2022 (WebLI).
_DATA: tuple[tuple[str, str, float | None], ...] = (
    (r"^openai$", "WIT-400M (OpenAI)", 400e6),
    (r"^yfcc15m$", "YFCC15M", 15e6),
    (r"^cc12m$", "CC12M", 12e6),
    (r"^mscoco_finetuned_laion2b", "LAION-2B, then MS-COCO", 2.3e9),
    (r"laion400m", "LAION-400M", 400e6),
    (r"laion2b", "LAION-2B", 2.3e9),
    (r"laion5b", "LAION-5B", 5.85e9),
    (r"laion_aesthetic", "LAION-Aesthetic", 900e6),
    (r"merged2b", "Merged-2B (LAION, COYO)", 2e9),
    (r"^datacompdr", "DataCompDR-1B", 1.28e9),
    (r"^dfndr2b", "DFNDR-2B", 2e9),
    (r"^dfn2b", "DFN-2B", 2e9),
    (r"^dfn5b", "DFN-5B", 5e9),
    (r"^datacomp_(?:xl|s34b)|^datacomp1b", "DataComp-1B", 1.4e9),
    (r"^datacomp_l_", "DataComp-L", 140e6),
    (r"^datacomp_m_", "DataComp-M", 14e6),
    (r"^datacomp_s_", "DataComp-S", 1.4e6),
    (r"^commonpool_xl_s13b", "CommonPool-XL", 12.8e9),
    (r"^commonpool_l_s1b", "CommonPool-L", 1.28e9),
    (r"^commonpool_m_s128m", "CommonPool-M", 128e6),
    (r"^commonpool_s_s13m", "CommonPool-S", 12.8e6),
    (r"^commonpool_(?P<scale>[a-z]+)_(?P<filter>[a-z]+)_", "CommonPool-{scale}, {filter} filter", None),
    (r"^metaclip_400m", "MetaCLIP-400M", 400e6),
    (r"^metaclip_fullcc", "MetaCLIP-2.5B", 2.5e9),
    (r"^metaclip_altogether", "MetaCLIP, Altogether captions", None),
    (r"^metaclip2_worldwide", "MetaCLIP 2 worldwide", None),
    (r"^webli$", "WebLI", None),
    (r"^meta$", "PE data (Meta)", 5.4e9),
    (r"^(?:v1|mrl)$", "LAION-COCO-NLLB", None),
)
# Epochs of runs whose tag gives no samples seen; the count is then epochs × nominal size.
_EPOCHS = {"openai": 32, "yfcc15m": 32, "cc12m": 32, "laion400m_e31": 31, "laion400m_e32": 32}
_FAMILIES = (
    (r"SigLIP2", "SigLIP 2"),
    (r"nllb", "NLLB-CLIP"),
    (r"SigLIP", "SigLIP"),
    (r"^MobileCLIP2", "MobileCLIP 2"),
    (r"^MobileCLIP", "MobileCLIP"),
    (r"^PE-", "PE"),
    (r"^EVA", "EVA-CLIP"),
    (r"CLIPA", "CLIPA"),
    (r"^ViTamin", "ViTamin"),
    (r"^coca", "CoCa"),
)
_TAG_FAMILIES = (("openai", "OpenAI"), ("metaclip2", "MetaCLIP 2"), ("metaclip", "MetaCLIP"), ("dfn", "DFN"))
_UNITS = {"k": 1e3, "m": 1e6, "b": 1e9}


def describe(
    spec: ModelSpec | str,
    model: str,
    tag: str,
    config: Mapping,
    *,
    network: torch.nn.Module | None = None,
    card: Mapping | None = None,
) -> dict[str, Any]:
    """Return what is known about one model, with the keys of `COLUMNS`.

    Parameters
    ----------
    model, tag : str
        Architecture (or a name of the user's) and pretrained tag (may be empty).
    config : mapping
        open_clip model config.
    network : torch.nn.Module, optional
        Its parameters are counted; without it the table of counts is asked.
    card : mapping, optional
        A zoo model's card; what it says wins.
    """
    kind = spec.kind if isinstance(spec, ModelSpec) else "open_clip"
    data, size = (
        pretraining(tag)
        if tag
        else ("none (random)" if kind == "random" else None, 0 if kind == "random" else None)
    )
    vision = config.get("vision_cfg", {})
    facts: dict[str, Any] = {
        "spec": str(spec),
        "model": model,
        "tag": tag,
        "family": "zoo"
        if kind == "zoo"
        else "random"
        if kind == "random"
        else family(model, tag)
        if tag
        else None,
        "architecture": architecture(config),
        "parameters": sum(p.numel() for p in network.parameters())
        if network is not None
        else _parameters().get(model),
        "embed_dim": config.get("embed_dim"),
        "image_size": _largest(vision.get("image_size", 224)),
        "pretraining_data": data,
        "pretraining_size": size,
        "samples_seen": samples_seen(tag, size) if tag else size,
        "quick_gelu": bool(config.get("quick_gelu", False)),
        "imagenet": imagenet(model, tag, quick_gelu=bool(config.get("quick_gelu", False))),
        "planted_rho": None,
        "planted_context": None,
        "local": True if network is not None else None,
    }
    if card:
        facts.update(_zoo_facts(card, facts["architecture"]))
    return facts


def list_models() -> pd.DataFrame:
    """Return every zoo model and every open_clip (architecture, tag), one row each, with the columns of `COLUMNS`.

    ``local`` says whether the weights are on this machine. Nothing is built, loaded or downloaded.
    ``imagenet`` is zero-shot top-1 accuracy in [0, 1]; sizes are numbers of image-text pairs.
    """
    import open_clip

    from clipbias import zoo

    rows = []
    for name in zoo.names():
        card = zoo.card(name)
        rows.append({**describe(ModelSpec("zoo", name), name, "", card["config"], card=card), "local": True})
    for model, tag in open_clip.list_pretrained():
        config = open_clip.get_model_config(model)
        known = open_clip.get_pretrained_cfg(model, tag)
        config["quick_gelu"] = config.get("quick_gelu", False) or known.get("quick_gelu", False)
        facts = describe(ModelSpec("open_clip", model, tag), model, tag, config)
        rows.append({**facts, "local": local_tag_weights(known) is not None})
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    for name in ("parameters", "embed_dim", "image_size"):
        table[name] = pd.to_numeric(table[name]).astype("Int64")
    for name in ("pretraining_size", "samples_seen", "imagenet", "planted_rho"):
        table[name] = pd.to_numeric(table[name]).astype("float64")
    for name in ("family", "pretraining_data", "planted_context"):
        table[name] = table[name].astype("string")
    return table


def _zoo_facts(card: Mapping, kind: str) -> dict[str, Any]:
    """Read a zoo model's card; a bias planted inside one context has that context and the strength there."""
    planted = card.get("planted", {})
    inside = planted.get("rho_in") or {}
    facts = {
        "family": f"zoo {card.get('architecture', kind)}",
        # The shipped count: without the token rows that no caption ever used.
        "parameters": card.get("parameters"),
        "pretraining_data": "the embedded world",
        "pretraining_size": card.get("world", {}).get("n"),
        "samples_seen": card["steps"] * card["batch_size"] if {"steps", "batch_size"} <= set(card) else None,
        "planted_rho": planted.get("rho")
        if planted.get("rho") is not None
        else max(inside.values(), default=None),
        "planted_context": ", ".join(sorted(inside)) or None,
    }
    return {key: value for key, value in facts.items() if value is not None}


def pretraining(tag: str) -> tuple[str | None, float | None]:
    """Return the pretraining data set of a tag and its nominal number of pairs, each None if not known."""
    for pattern, name, size in _DATA:
        found = re.search(pattern, tag)
        if found:
            groups = {
                key: value.upper() if key == "scale" else value for key, value in found.groupdict().items()
            }
            return name.format(**groups), size
    return None, None


def samples_seen(tag: str, size: float | None) -> float | None:
    """Return the pairs seen in training: what the tag says (``s34b``), else epochs × nominal size, else None."""
    found = re.search(r"_s(\d+)([kmb])(?:_|$)", tag)
    if found:
        return int(found[1]) * _UNITS[found[2]]
    return _EPOCHS[tag] * size if tag in _EPOCHS and size else None


def family(model: str, tag: str) -> str:
    """Return the training programme that a model comes from: models of one family are not independent."""
    for pattern, name in _FAMILIES:
        if re.search(pattern, model):
            return name
    for start, name in _TAG_FAMILIES:
        if tag.startswith(start):
            return name
    return "DataComp" if tag.startswith(("datacomp", "commonpool")) else "OpenCLIP"


def architecture(config: Mapping) -> str:
    """Return the kind of vision tower, for example ``ViT/32``, ``ResNet`` or ``convnext_base``."""
    vision = config.get("vision_cfg", {})
    if vision.get("timm_model_name"):
        return str(vision["timm_model_name"]).split(".")[0]
    if isinstance(vision.get("layers"), (list, tuple)):
        return "ResNet"
    return f"ViT/{vision['patch_size']}" if "patch_size" in vision else "ViT"


def imagenet(model: str, tag: str, *, quick_gelu: bool) -> float | None:
    """Return the published ImageNet zero-shot top-1 accuracy in [0, 1], or None.

    Some rows of the published table were measured with the wrong activation under the plain name
    (ViT-B-32/laion400m_e32: .602 instead of .629), so for QuickGELU weights the ``-quickgelu`` row is asked first.
    """
    plain = model.removesuffix("-quickgelu")
    for name in (f"{plain}-quickgelu", plain) if quick_gelu else (model,):
        if (name, tag) in _imagenet():
            return _imagenet()[name, tag]
    return None


def _largest(size: int | list | tuple) -> int:
    return max(size) if isinstance(size, (list, tuple)) else size


def _table(name: str) -> list[dict[str, str]]:
    text = files("clipbias.models").joinpath("tables", name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


@lru_cache(maxsize=1)
def _parameters() -> dict[str, int]:
    return {row["model"]: int(row["parameters"]) for row in _table("parameters.csv")}


@lru_cache(maxsize=1)
def _imagenet() -> dict[tuple[str, str], float]:
    return {(row["model"], row["tag"]): float(row["accuracy"]) for row in _table("imagenet.csv")}
