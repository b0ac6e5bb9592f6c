"""What heads are put together from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from clipbias.errors import DataError, nearest
from clipbias.tasks.heads.base import Features, HeadSetting


def read_options(name: str, setting: HeadSetting, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the head's options with defaults filled in; a whole number will do for a float.

    Raises
    ------
    DataError
        An option that the head does not know, or of another type.
    """
    options = dict(defaults)
    for key, value in setting.options.items():
        if key not in defaults:
            raise DataError(f"head {name!r} has no option {key!r}." + nearest(key, defaults))
        kind = type(defaults[key])
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not kind:
            raise DataError(f"option {key!r} of head {name!r} is {kind.__name__}, not {value!r}.")
        options[key] = value
    width, heads = options.get("width"), options.get("heads")
    if width and heads and width % heads:
        raise DataError(f"head {name!r}: width {width} is no multiple of {heads} heads.")
    return options


def check_answers(name: str, setting: HeadSetting) -> None:
    """Check that there is an answer list to choose from.

    Raises
    ------
    DataError
        Fewer than two answers, or one of them twice.
    """
    answers = setting.answers
    if len(answers) < 2:
        raise DataError(
            f"head {name!r} chooses between answers and was given {len(answers)}; it needs at least 2. "
            "Are the training questions annotated?"
        )
    if len(set(answers)) < len(answers):
        twice = next(answer for answer in answers if answers.count(answer) > 1)
        raise DataError(f"the answer list of head {name!r} holds {twice!r} more than once.")


class Look(nn.Module):
    """Features of any tower, projected to a fixed width: tokens, and before them the pooled embedding.

    Each vector is standardised first, so that towers with large activations learn as fast as others. Tokens
    are averaged over neighbours down to at most ``most`` (0: all are kept).
    """

    def __init__(self, setting: HeadSetting, width: int, *, most: int = 0) -> None:
        super().__init__()
        self.pooled = nn.Linear(setting.pooled_width, width)
        self.tokens = nn.Linear(setting.token_width, width)
        self.most = most

    def forward(self, features: Features) -> Tensor:
        """Return (B, 1 + N, width)."""
        pooled = self.pooled(standardise(features.pooled))
        tokens = self.tokens(standardise(fewer(features.tokens, self.most)))
        return torch.cat([pooled[:, None], tokens], 1)


def standardise(x: Tensor) -> Tensor:
    """Return vectors of mean 0 and variance 1 (a layer norm without parameters)."""
    return functional.layer_norm(x, x.shape[-1:])


def fewer(tokens: Tensor, most: int) -> Tensor:
    """Return at most ``most`` tokens, means over neighbouring ones; a square of tokens stays one.

    Parameters
    ----------
    tokens : Tensor (B, N, c)
        Row by row of the image.
    most : int
        0 for no limit.
    """
    n = tokens.shape[1]
    if not most or n <= most:
        return tokens
    side, wanted = math.isqrt(n), max(1, math.isqrt(most))
    if side * side != n:
        return functional.adaptive_avg_pool1d(tokens.transpose(1, 2), most).transpose(1, 2)
    maps = tokens.transpose(1, 2).unflatten(2, (side, side))
    return functional.adaptive_avg_pool2d(maps, wanted).flatten(2).transpose(1, 2)


def token_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Return each row's mean negative log-likelihood, (B,).

    Parameters
    ----------
    logits : Tensor (B, T, V)
        Of the token that comes next.
    labels : Tensor, int (B, T)
        That token; -100 where it does not count.
    """
    each = functional.cross_entropy(
        logits.flatten(0, 1).float(), labels.flatten(), reduction="none", ignore_index=-100
    )
    counted = (labels != -100).sum(1).clamp(min=1)
    return each.view_as(labels).sum(1) / counted


def log_likelihoods(logits: Tensor, labels: Tensor) -> Tensor:
    """Return each row's log-likelihood, the sum over its labelled tokens, (B,)."""
    return -token_losses(logits, labels) * (labels != -100).sum(1)
