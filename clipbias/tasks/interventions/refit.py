"""Tuning a part of a trained head on a few chosen examples, after the last stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from clipbias.errors import ClipbiasError, nearest
from clipbias.tasks.batches import Material, batch_of
from clipbias.tasks.heads.base import Head
from clipbias.tasks.interventions.cells import Cells
from clipbias.tasks.interventions.spuriosity import lowest, spurious_gap
from clipbias.tasks.train import Refit

if TYPE_CHECKING:
    from clipbias.tasks.interventions.low_spuriosity import LowSpuriosityHead

# What stands last between the image and the words, by head: the answer layer, the projection into the language model, the
# projection that the decoder looks at.
LAST = ("classifier", "projector", "look", "vision_proj")
BATCH = 64


def last_part(head: Head, part: str = "") -> list[tuple[str, nn.Parameter]]:
    """Return the parameters of a head's last part, or of the part named.

    Raises
    ------
    ClipbiasError
        The head has no such part.
    """
    trained = [(name, p) for name, p in head.named_parameters() if p.requires_grad]
    for prefix in [part] if part else LAST:
        found = [(name, p) for name, p in trained if name == prefix or name.startswith(f"{prefix}.")]
        if found:
            return found
    parts = {name.split(".")[0] for name, _ in trained}
    raise ClipbiasError(
        f"{type(head).__name__} has no part {part!r} to tune." + nearest(part, parts)
        if part
        else f"it is not known which part of {type(head).__name__} is its last; name it (part={'|'.join(sorted(parts))})."
    )


def tune(
    head: Head,
    material: Material,
    index: np.ndarray,
    *,
    steps: int,
    rate: float,
    seed: int,
    part: str = "",
    penalty: float = 0.0,
    batch: int = BATCH,
    stop: Callable[[int], bool] | None = None,
) -> int:
    """Tune the last part of a head on some examples; dropout is off.

    Parameters
    ----------
    head : Head
    material : Material
    index : numpy.ndarray, int
        Multiset of examples.
    steps, rate, seed, batch
        Adam; order of the examples as in training.
    part : str
    penalty : float
        Of the l1 norm of weight matrices, as a proximal step of length ``rate``.
    stop : callable, optional
        ``stop(steps done)``, asked before the first step and after each.

    Returns
    -------
    int
        Steps taken.
    """
    parameters = [p for _, p in last_part(head, part)]
    frozen = [p for p in head.parameters() if p.requires_grad and all(p is not mine for mine in parameters)]
    for p in frozen:
        p.requires_grad_(False)
    head.eval()
    optimizer = torch.optim.Adam(parameters, lr=rate)
    done = 0
    try:
        while done < steps and not (stop is not None and stop(done)):
            rows = batch_of(np.asarray(index), done, min(batch, len(index)), [seed, 83])
            loss = head.loss(material.features(rows), material.texts(rows))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if penalty:
                _shrink(parameters, penalty * rate)
            done += 1
    finally:
        for p in frozen:
            p.requires_grad_(True)
    return done


@torch.no_grad()
def _shrink(parameters: Sequence[Tensor], by: float) -> None:
    for p in parameters:
        if p.ndim > 1:
            p.copy_(p.sign() * (p.abs() - by).clamp_min(0))


def tune_balanced(
    context: Refit, *, subsets: Sequence[np.ndarray], steps: int, rate: float, penalty: float, part: str
) -> None:
    """Tune on each of several subsets from the same weights, and keep the mean of what came out."""
    head = context.head
    parameters = last_part(head, part)
    before = [p.detach().clone() for _, p in parameters]
    total = [torch.zeros_like(p) for p in before]
    for draw, index in enumerate(subsets):
        _put(parameters, before)
        tune(
            head,
            context.train,
            index,
            steps=steps,
            rate=rate,
            seed=context.seed + draw,
            part=part,
            penalty=penalty,
        )
        for sum_, (_, p) in zip(total, parameters, strict=True):
            sum_.add_(p.detach(), alpha=1 / len(subsets))
    _put(parameters, total)


@torch.no_grad()
def _put(parameters: Sequence[tuple[str, nn.Parameter]], values: Sequence[Tensor]) -> None:
    for (_, p), value in zip(parameters, values, strict=True):
        p.copy_(value)


def right_of(
    head: Head, material: Material, index: np.ndarray, labels: Sequence[str], *, captions: bool
) -> np.ndarray:
    """Return whether what a head says of examples is the label of their image, bool (n,)."""
    from clipbias.tasks.metrics.vqa import normalize_answer
    from clipbias.tasks.outcomes import named

    said = []
    with torch.no_grad():
        for start in range(0, len(index), 256):
            rows = index[start : start + 256]
            texts = material.texts(rows, targets=False)
            said += [one.text for one in head.predict(material.features(rows), texts)]
    if captions:
        return named(said, sorted(set(labels))) == np.asarray(labels, object)
    return np.array([normalize_answer(text) == label for text, label in zip(said, labels, strict=True)])


def asked_examples(cells: Cells, images: np.ndarray) -> np.ndarray:
    """Return for each image the first example that bears its label."""
    first = np.full(len(cells), -1)
    mine = np.flatnonzero(cells.asked)[::-1]
    first[cells.home[mine]] = mine
    return first[images]


def tune_by_gap(
    context: Refit, *, images: np.ndarray, pool: np.ndarray, cells: Cells, val: Cells, val_scores: np.ndarray,
    val_classes: np.ndarray, captions: bool, setting: LowSpuriosityHead,
) -> None:  # fmt: skip
    """Tune on chosen images until the head is as good on validation images that show the cues as on those that do not."""
    head = context.head
    head.eval()
    if setting.choose == "error":
        images = _wrong(context, pool, cells, captions=captions, setting=setting)
        if len(images) == 0:
            return
    shown = val.known & np.isfinite(val_scores)
    ends = np.union1d(
        lowest(np.where(shown, val_scores, np.nan), val_classes, setting.gap_k),
        lowest(np.where(shown, -val_scores, np.nan), val_classes, setting.gap_k),
    )
    examples = asked_examples(val, ends)
    every = setting.every or (10 if captions else 1)

    def stop(done: int) -> bool:
        if done % every:
            return False
        right = right_of(head, context.val, examples, val_classes[ends].tolist(), captions=captions)
        gap = spurious_gap(right, val_scores[ends], val_classes[ends], k=setting.gap_k)
        # Either sign: a gap of -0.8 is no success.
        return abs(gap.value) <= setting.stop

    index = np.flatnonzero(np.isin(cells.home, images) & cells.asked)
    tune(
        head, context.train, index, steps=setting.steps, rate=setting.rate, seed=context.seed, part=setting.part, stop=stop
    )  # fmt: skip


def _wrong(
    context: Refit, pool: np.ndarray, cells: Cells, *, captions: bool, setting: LowSpuriosityHead
) -> np.ndarray:
    """Return images that the head gets wrong, at most k per class."""
    labels = np.array(cells.labels, object)[cells.label[pool]].astype(str)
    right = right_of(
        context.head, context.train, asked_examples(cells, pool), labels.tolist(), captions=captions
    )
    order = np.random.default_rng([setting.seed, 72]).permutation(np.flatnonzero(~right))
    chosen = [order[labels[order] == name][: setting.k] for name in np.unique(labels)]
    return pool[np.concatenate(chosen)] if len(order) else pool[:0]
