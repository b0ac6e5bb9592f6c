"""Which models share an image-blind baseline: those whose towers give features of the same shape.

A head that sees one black image learns the texts and nothing else. What it sees is a constant, so two towers of the same
architecture give it the same size and the same knowledge, and it is trained once for both.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from clipbias.errors import ClipbiasError
from clipbias.models.spec import parse_spec


def stand_ins(models: Sequence[str]) -> dict[str, str]:
    """Return, for each model, the first model of the same architecture: the one its baseline is trained with.

    Parameters
    ----------
    models : sequence of str
        Model specs.

    Returns
    -------
    dict
        Model to model. A model whose architecture is not known without loading it stands for itself.
    """
    first: dict[str, str] = {}
    return {model: first.setdefault(_architecture(model), model) for model in models}


def _architecture(model: str) -> str:
    """Return all that decides the shape of a model's features, without reading weights."""
    try:
        spec = parse_spec(model)
        if spec.kind == "zoo":
            from clipbias import zoo

            config: Any = zoo.card(spec.name)["config"]
        elif spec.kind in ("open_clip", "random"):
            import open_clip

            config = open_clip.get_model_config(spec.name)
        else:
            return model
    except ClipbiasError:  # the unit will say what is wrong
        return model
    if config is None:
        return model
    options = sorted(pair for pair in spec.options if pair[0] != "seed")
    return json.dumps([config["embed_dim"], config["vision_cfg"], options], sort_keys=True, default=str)
