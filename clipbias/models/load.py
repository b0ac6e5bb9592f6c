"""One function that loads every kind of model."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import open_clip
from open_clip.transform import PreprocessCfg, merge_preprocess_dict

from clipbias.errors import ModelError
from clipbias.models import names, outside, weights
from clipbias.models.build import ModelWarning, build_network, build_tokenizer, load_weights
from clipbias.models.clip import Clip, choose_device
from clipbias.models.metadata import describe
from clipbias.models.preprocess import Preprocess
from clipbias.models.spec import STORED, ModelSpec, check_spec, parse_spec


@dataclass(frozen=True)
class Source:
    """Where a model comes from, resolved: what every kind of spec boils down to.

    Attributes
    ----------
    model_cfg, preprocess_cfg : mapping
        open_clip's configs.
    checkpoint : path or None
        Weights; None means random ones drawn from ``seed``.
    """

    model_cfg: Mapping
    preprocess_cfg: Mapping
    checkpoint: Path | None = None
    seed: int = 0
    model: str = ""
    tag: str = ""
    vocabulary: frozenset[str] | None = None
    card: Mapping | None = None


def load_model(spec: str | ModelSpec, *, device: str = "cpu", precision: str = "fp32") -> Clip:
    """Load a CLIP with its own preprocessing, tokenizer, logit scale and bias.

    Parameters
    ----------
    spec : str or ModelSpec
        See `clipbias.models.spec`.
    device : str
        ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.
    precision : {"fp32", "fp16", "bf16"}
        Half precisions run under autocast and keep sums in float32. A ``precision=`` in the spec wins.

    Raises
    ------
    ModelError
        There is no such model, its weights cannot be had or read, or they do not fit the architecture;
        the message says what was tried and what to do.
    """
    spec = parse_spec(spec) if isinstance(spec, str) else check_spec(spec)
    if spec.kind in STORED:
        raise ModelError(f"{spec} is stored numbers and no model: it can be measured, not loaded or adapted.")
    precision = spec.option("precision") or precision
    chosen = choose_device(device, precision)
    source = resolve(spec)
    what = str(spec)
    wanted = merge_preprocess_dict(source.preprocess_cfg, spec.preprocess)
    # The tokenizer first: it is the cheapest thing that can be missing.
    folder = source.checkpoint.parent if source.checkpoint is not None else None
    tokenizer = build_tokenizer(source.model_cfg, folder=folder, what=what)
    network = build_network(source.model_cfg, wanted, seed=source.seed, what=what)
    if source.checkpoint is not None:
        load_weights(network, source.checkpoint, what=what)
    metadata = describe(spec, source.model, source.tag, source.model_cfg, network=network, card=source.card)
    if source.card is not None:
        metadata["card"] = dict(source.card)
    preprocess = Preprocess(open_clip.get_model_preprocess_cfg(network))
    return Clip(
        spec,
        network,
        config=dict(source.model_cfg),
        preprocess=preprocess,
        tokenizer=tokenizer,
        metadata=metadata,
        vocabulary=source.vocabulary,
        device=chosen,
        precision=precision,
    )


def resolve(spec: ModelSpec) -> Source:
    """Return the config, preprocessing and checkpoint of a spec, downloading the weights if it must."""
    known = {"open_clip": _tag, "hf-hub": _hub, "file": _file, "zoo": _zoo, "random": _random}
    return known.get(spec.kind, _outside)(spec)


def _outside(spec: ModelSpec) -> Source:
    added: Callable = outside.function(spec.kind)  # type: ignore[assignment]
    found = added(spec)
    if not isinstance(found, Source):
        raise ModelError(
            f"{spec}: {outside.kinds()[spec.kind].value} returned {type(found).__name__}, not a clipbias.models.Source."
        )
    return found


def _tag(spec: ModelSpec) -> Source:
    config, preprocess = _architecture(spec.name, spec.tag)
    known = open_clip.get_pretrained_cfg(spec.name, spec.tag)
    return Source(
        config, preprocess, weights.tag_weights(known, what=str(spec)), model=spec.name, tag=spec.tag
    )


def _hub(spec: ModelSpec) -> Source:
    from open_clip.constants import HF_CONFIG_NAME, HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME

    what, revision = str(spec), spec.option("revision")
    path = weights.hub_file(spec.name, [HF_CONFIG_NAME], revision=revision, what=what)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        model_cfg = config["model_cfg"]
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise ModelError(f"{what}: {path} is not an open_clip config with a 'model_cfg'.") from problem
    checkpoint = weights.hub_file(
        spec.name, [HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME], revision=revision, what=what
    )
    return Source(model_cfg, _preprocess(config.get("preprocess_cfg")), checkpoint, model=spec.name)


def _file(spec: ModelSpec) -> Source:
    path = names.checkpoint(spec)
    beside = names.sidecar(path)
    model, tag = spec.option("model") or "", spec.option("tag") or ""
    tag = names.tag(model, tag) if tag else ""
    if model:
        config, preprocess = _architecture(model, tag)
        _check_activation(spec, path, config, beside, model, tag)
        if not tag and not beside.get("preprocess_cfg") and not spec.preprocess:
            _check_agreement(spec, model)
    else:
        config, preprocess = beside["model_cfg"], _preprocess(None)
    if not tag:
        preprocess = merge_preprocess_dict(preprocess, beside.get("preprocess_cfg") or {})
    return Source(config, preprocess, path, model=model or path.stem, tag=tag)


def _zoo(spec: ModelSpec) -> Source:
    from clipbias import zoo

    found = zoo.resolve(spec.name)
    preprocess = _preprocess(found.preprocess)
    return Source(
        found.config,
        preprocess,
        Path(found.path),
        model=spec.name,
        vocabulary=found.vocabulary,
        card=found.card,
    )


def _random(spec: ModelSpec) -> Source:
    config, preprocess = _architecture(spec.name, "")
    return Source(config, preprocess, seed=int(spec.option("seed") or 0), model=spec.name)


def _preprocess(overlay: Mapping | None) -> dict:
    return merge_preprocess_dict(asdict(PreprocessCfg()), dict(overlay or {}))


def _architecture(model: str, tag: str) -> tuple[dict, dict]:
    """Return an architecture's config and preprocessing, as a tag trained it or as most of its tags do."""
    config = open_clip.get_model_config(model)
    tags = [tag] if tag else open_clip.list_pretrained_tags_by_model(model)
    trained = [open_clip.get_pretrained_cfg(model, name) for name in tags]
    if tag and trained[0].get("quick_gelu"):
        # open_clip itself only warns here and goes on with the wrong activation.
        config["quick_gelu"] = True
    choices = [json.dumps(_preprocess(one), sort_keys=True) for one in trained]
    return config, json.loads(max(choices, key=choices.count)) if choices else _preprocess(None)


def _check_agreement(spec: ModelSpec, model: str) -> None:
    """Warn when the tags of an architecture were trained with different preprocessing."""
    tags = open_clip.list_pretrained_tags_by_model(model)
    kinds: dict[str, list[str]] = {}
    for tag in tags:
        kinds.setdefault(json.dumps(_architecture(model, tag)[1], sort_keys=True), []).append(tag)
    if len(kinds) > 1:
        most, *others = sorted(kinds.values(), key=len, reverse=True)
        rare = ", ".join(tag for group in others for tag in group)
        warnings.warn(
            f"{spec}: models of this architecture were trained with different preprocessing; that of {most[0]!r} is "
            f"used. If the file comes from {rare}, add &tag=NAME, or give mean, std and resize_mode.",
            ModelWarning,
            stacklevel=4,
        )


def _check_activation(
    spec: ModelSpec, path: Path, config: Mapping, beside: Mapping, model: str, tag: str
) -> None:
    """Warn when the checkpoint seems to want QuickGELU and the named architecture has none.

    A checkpoint does not record its activation and loads without complaint into either (open_clip #771),
    so this goes by the config beside the file and by what its path says.
    """
    if tag or config.get("quick_gelu") or "timm_model_name" in config.get("vision_cfg", {}):
        return
    if "model_cfg" in beside:
        reason = "its config says so" if beside["model_cfg"].get("quick_gelu") else ""
    else:
        where = re.sub(r"[^a-z0-9]+", "_", "/".join(path.absolute().parts[-4:]).lower())
        known = [
            name for name in open_clip.list_pretrained_tags_by_model(model) if f"_{name}_" in f"_{where}_"
        ]
        named = max(known, key=len, default="")  # dfn2b_s39b is not dfn2b
        quick = bool(named) and open_clip.get_pretrained_cfg(model, named).get("quick_gelu", False)
        reason = f"its path names the tag {named!r}" if quick else ""
    if reason:
        has_variant = f"{model}-quickgelu" in open_clip.list_models()
        remedy = (
            f"model={model}-quickgelu"
            if has_variant
            else f"model={model}&tag=NAME with the tag it comes from"
        )
        warnings.warn(
            f"{spec}: the checkpoint seems to be trained with the QuickGELU activation ({reason}), which {model} does "
            f"not have; its embeddings would be wrong without any error. Use ?{remedy}.",
            ModelWarning,
            stacklevel=4,
        )
