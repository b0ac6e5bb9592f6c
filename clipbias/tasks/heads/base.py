"""What every adaptation head looks like: vision features and texts in, a loss or words out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from clipbias.errors import ClipbiasError, DataError, nearest

if TYPE_CHECKING:
    from clipbias.tasks.vocabulary import Vocabulary


@dataclass(frozen=True)
class Features:
    """What a vision tower says of a batch of images.

    Attributes
    ----------
    pooled : Tensor (B, d)
        The embedding that CLIP compares with texts, L2-normalised.
    tokens : Tensor (B, N, c)
        Spatial tokens of the last layer.
    """

    pooled: Tensor
    tokens: Tensor


@dataclass(frozen=True)
class TextBatch:
    """The texts of a batch.

    Attributes
    ----------
    questions : list of str
        Empty strings for captioning.
    targets : list of str
        What a generative head is trained on; empty at prediction.
    soft : Tensor (B, A) or None
        Soft targets over the answer list, in [0, 1] (answer classifiers).
    """

    questions: list[str]
    targets: list[str] = field(default_factory=list)
    soft: Tensor | None = None


@dataclass(frozen=True)
class HeadSetting:
    """What a head is built from.

    Attributes
    ----------
    task : {"vqa", "captioning"}
    pooled_width, token_width : int
        Widths d and c of the tower's features.
    vocabulary : Vocabulary
    answers : tuple of str
        The answer list (VQA); empty for captioning.
    options : dict
        The head's own options from the recipe (width, layers, language model path, ...).
    """

    task: str
    pooled_width: int
    token_width: int
    vocabulary: Vocabulary
    answers: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Prediction:
    """One output: the text and, where the head gives one, its probability in [0, 1]."""

    text: str
    score: float = float("nan")


class Head(nn.Module):
    """A trainable part on top of a vision tower.

    Subclasses project the tower's features to a fixed width first, so that the number of trained parameters
    hardly depends on the tower. A subclass writes `losses` and `predict`, and what else it can give.
    """

    def __init__(self, setting: HeadSetting) -> None:
        super().__init__()
        self.setting = setting

    def loss(self, features: Features, texts: TextBatch) -> Tensor:
        """Return the training loss, a scalar: the mean of `losses`."""
        return self.losses(features, texts).mean()

    def losses(self, features: Features, texts: TextBatch) -> Tensor:
        """Return the training loss of each row, (B,)."""
        raise NotImplementedError

    def predict(self, features: Features, texts: TextBatch, *, beams: int = 1) -> list[Prediction]:
        """Return one prediction per row, greedy with one beam."""
        raise NotImplementedError

    def answer_probabilities(self, features: Features, texts: TextBatch) -> Tensor:
        """Return probabilities over ``setting.answers``, (B, A); needed for differences on twins."""
        raise NotImplementedError

    def states(self, features: Features, texts: TextBatch) -> dict[str, Tensor]:
        """Return one (B, p) tensor per named layer (``projector``, ``decoder.0``, ...): means over tokens."""
        raise NotImplementedError

    def check(self, features: Features, texts: TextBatch | None = None) -> None:
        """Check that features and texts are those the head was built for.

        Raises
        ------
        DataError
            Another width or number of rows.
        """
        pooled, tokens, setting = tuple(features.pooled.shape), tuple(features.tokens.shape), self.setting
        if len(pooled) != 2 or len(tokens) != 3 or pooled[0] != tokens[0]:
            raise DataError(
                f"features are pooled (B, d) and tokens (B, N, c) of one batch, not {pooled} and {tokens}."
            )
        if (pooled[1], tokens[2]) != (setting.pooled_width, setting.token_width):
            raise DataError(
                f"this head was built for features of width {setting.pooled_width} (pooled) and {setting.token_width} "
                f"(tokens); these have {pooled[1]} and {tokens[2]}. They come from another tower: build a head for it."
            )
        if texts is not None and len(texts.questions) != pooled[0]:
            raise DataError(f"{pooled[0]} images came with {len(texts.questions)} questions.")


_HEADS: dict[str, tuple[frozenset[str], Callable[[HeadSetting], Head]]] = {}


def head(name: str, *, tasks: Sequence[str]) -> Callable[[Callable[[HeadSetting], Head]], Callable]:
    """Register a head class or factory under a name, for the tasks it can do."""

    def add(factory: Callable[[HeadSetting], Head]) -> Callable:
        _HEADS[name] = (frozenset(tasks), factory)
        return factory

    return add


def head_names(task: str = "") -> list[str]:
    """Return the names of the registered heads, or of those that can do a task."""
    return sorted(name for name, (tasks, _) in _HEADS.items() if not task or task in tasks)


def check_head(name: str, task: str) -> None:
    """Check that there is a head of that name and that it can do the task.

    Raises
    ------
    ClipbiasError
        There is none, or it cannot.
    """
    if name not in _HEADS:
        raise ClipbiasError(f"there is no head {name!r}." + nearest(name, _HEADS))
    tasks = _HEADS[name][0]
    if task not in tasks:
        raise ClipbiasError(
            f"head {name!r} does {', '.join(sorted(tasks))}, not {task}; heads for {task}: {', '.join(head_names(task))}."
        )


def build_head(name: str, setting: HeadSetting, *, seed: int = 0) -> Head:
    """Build a head with its own seed; the global random state is left as it was.

    Raises
    ------
    ClipbiasError
        The head is unknown, or cannot do the task.
    DataError
        The setting lacks something that the head needs, or has an option that it does not know.
    """
    check_head(name, setting.task)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _HEADS[name][1](setting)
