"""A loaded CLIP: images and texts in, embeddings out."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from clipbias.errors import DataError, ModelError
from clipbias.models.build import ModelWarning
from clipbias.models.preprocess import Preprocess
from clipbias.models.spec import ModelSpec

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# Libraries whose version can move the last bits of an embedding.
_NUMERICS = ("torch", "torchvision", "open_clip_torch", "timm", "pillow")
_WORD = re.compile(r"[^\W_]+")
_CONTRACTION = re.compile(r"'(?:s|t|re|ve|m|ll|d)\b")


class BrokenImages(DataError):
    """Some images cannot be decoded; ``positions`` maps each to its reason."""

    def __init__(self, positions: dict[int, str]) -> None:
        first, reason = next(iter(positions.items()))
        more = f" ({len(positions) - 1} more)" if len(positions) > 1 else ""
        super().__init__(f"image at position {first} cannot be read: {reason}{more}.")
        self.positions = positions


class Clip:
    """A CLIP in eval mode with its preprocessing, tokenizer and what is known about it.

    Attributes
    ----------
    spec : ModelSpec
    network : torch.nn.Module
        The open_clip model.
    config : dict
        Resolved open_clip model config.
    preprocess : Preprocess
    tokenizer : callable
        ``tokenizer(list of str) -> int64 (n, context)``.
    metadata : dict
        The columns of `clipbias.models.list_models`, with the parameters counted; ``card`` for a zoo model.
    vocabulary : frozenset of str or None
        Lowercase words that the text tower was trained on, where that is known.
    device : torch.device
    precision : {"fp32", "fp16", "bf16"}
        Weights are float32; the two half precisions run under autocast, which keeps sums in float32.
    """

    def __init__(
        self,
        spec: ModelSpec,
        network: torch.nn.Module,
        *,
        config: dict,
        preprocess: Preprocess,
        tokenizer: Any,
        metadata: dict,
        vocabulary: frozenset[str] | None = None,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
    ) -> None:
        self.spec = spec
        self.device = torch.device(device)
        self.network: Any = network.to(self.device).eval().requires_grad_(False)
        self.config = config
        self.preprocess = preprocess
        self.tokenizer = tokenizer
        self.metadata = metadata
        self.vocabulary = vocabulary
        self.precision = precision
        self._known = (
            None
            if vocabulary is None
            else {part for word in vocabulary for part in _WORD.findall(word.lower())}
        )
        self._named: set[str] = set()

    def __repr__(self) -> str:
        return f"Clip({str(self.spec)!r}, dim={self.dim}, image_size={self.image_size}, device={str(self.device)!r})"

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the state dict's tensors in sorted order: names, shapes, types and bytes."""
        return state_digest(self.network.state_dict())

    @property
    def preprocess_digest(self) -> str:
        """SHA-256 of the resolved image preprocessing."""
        return self.preprocess.digest

    @property
    def logit_scale(self) -> float:
        """Factor on the cosine similarity (100 for most CLIPs): the exponential of the trained parameter."""
        return float(self.network.logit_scale.detach().float().exp())

    @property
    def logit_bias(self) -> float | None:
        """Term added to the scaled similarity (SigLIP), or None."""
        bias = getattr(self.network, "logit_bias", None)
        return None if bias is None else float(bias.detach().float())

    @property
    def dim(self) -> int:
        """Dimension of the shared embedding space."""
        return int(self.config["embed_dim"])

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the pixels that the vision tower sees."""
        return self.preprocess.height, self.preprocess.width

    @cached_property
    def image_key(self) -> str:
        """SHA-256 of everything that an image embedding depends on besides the image."""
        return self._key(tower="image", preprocess=self.preprocess.config)

    @cached_property
    def text_key(self) -> str:
        """SHA-256 of everything that a text embedding depends on besides the text."""
        return self._key(tower="text", preprocess=None)

    def _key(self, **parts: object) -> str:
        facts = {
            **parts,
            "weights": self.digest,
            # The config counts too: the same weights under another activation are another model.
            "config": self.config,
            "precision": self.precision,
            "device": self.device.type,
            "versions": {name: version(name) for name in _NUMERICS},
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=list).encode()).hexdigest()

    def encode_images(self, images: Sequence[bytes], *, batch_size: int = 256) -> np.ndarray:
        """Encode images given as the bytes of their files (PNG, JPEG, ...).

        Returns
        -------
        numpy.ndarray, float32 (n, d)
            Not normalised; rows in the order given.

        Raises
        ------
        BrokenImages
            A `DataError` that names the images that cannot be decoded, before anything is encoded.
        """
        rows = []
        for start in range(0, len(images), batch_size):
            batch = self.preprocess(images[start : start + batch_size])
            if batch.broken:
                raise BrokenImages({start + place: reason for place, reason in batch.broken.items()})
            rows.append(self.encode_pixels(batch.pixels))
        return np.concatenate(rows) if rows else np.empty((0, self.dim), np.float32)

    def encode_pixels(self, pixels: torch.Tensor) -> np.ndarray:
        """Encode one batch of preprocessed images, (n, 3, h, w) to float32 (n, d)."""
        if not len(pixels):
            return np.empty((0, self.dim), np.float32)
        with self._inference():
            return self.network.encode_image(pixels.to(self.device)).float().cpu().numpy()

    def encode_texts(self, texts: Sequence[str], *, batch_size: int = 256) -> np.ndarray:
        """Encode texts.

        Warns once about words that the text tower was not trained on, and about texts that are longer
        than its context and lose their end.

        Returns
        -------
        numpy.ndarray, float32 (n, d)
            Not normalised; rows in the order given.
        """
        self.check_words(texts)
        rows = []
        for start in range(0, len(texts), batch_size):
            tokens = self._tokens(list(texts[start : start + batch_size]))
            with self._inference():
                rows.append(self.network.encode_text(tokens.to(self.device)).float().cpu().numpy())
        return np.concatenate(rows) if rows else np.empty((0, self.dim), np.float32)

    def unknown_words(self, texts: Sequence[str]) -> list[str]:
        """Return the words of the texts that lie outside the model's vocabulary, sorted; none where it is not known."""
        if self._known is None:
            return []
        words = {word for text in texts for word in _WORD.findall(_CONTRACTION.sub("", text.lower()))}
        return sorted(words - self._known)

    def check_words(self, texts: Sequence[str]) -> None:
        """Warn about words outside the vocabulary, each of them once in this model's life."""
        new = [word for word in self.unknown_words(texts) if word not in self._named]
        if new:
            self._named.update(new)
            shown = ", ".join(new[:20]) + (f" and {len(new) - 20} more" if len(new) > 20 else "")
            warnings.warn(
                f"{self.spec}: {len(new)} words were never seen in training, so their embeddings mean nothing: {shown}.",
                ModelWarning,
                stacklevel=3,
            )

    def _tokens(self, texts: list[str]) -> torch.Tensor:
        context = getattr(self.tokenizer, "context_length", None)
        if getattr(self.tokenizer, "reduction_fn", self) is not None or context is None:
            return self.tokenizer(texts)
        # One place more than the model has shows which texts do not fit; 0 is SimpleTokenizer's padding.
        tokens = self.tokenizer(texts, context_length=context + 1)
        cut = tokens[:, context] != 0
        if not cut.any():
            return tokens[:, :context]
        first = texts[int(cut.int().argmax())]
        warnings.warn(
            f"{self.spec}: {int(cut.sum())} texts are longer than the {context} tokens that the model reads and lose "
            f"their end, first: {first[:80]!r}.",
            ModelWarning,
            stacklevel=3,
        )
        return self.tokenizer(texts)

    @contextmanager
    def _inference(self) -> Iterator[None]:
        """No gradients, the asked precision, and on a GPU no TF32 and no non-deterministic convolution."""
        half = self.precision != "fp32"
        with torch.inference_mode(), torch.autocast(self.device.type, _DTYPES[self.precision], enabled=half):
            if self.device.type == "cuda":
                with torch.backends.cudnn.flags(
                    enabled=True, benchmark=False, deterministic=True, allow_tf32=half
                ):
                    yield
            else:
                yield


def state_digest(state: dict[str, torch.Tensor]) -> str:
    """Return the SHA-256 over the tensors of a state dict, in sorted order, names included."""
    total = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        total.update(f"{name}|{tuple(tensor.shape)}|{tensor.dtype}\n".encode())
        if tensor.numel():
            total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def choose_device(device: str, precision: str) -> torch.device:
    """Return the device, checked.

    Raises
    ------
    ModelError
        The device is unknown or absent, or cannot do the precision.
    """
    if precision not in _DTYPES:
        raise ModelError(f"precision {precision!r} is unknown; it is one of {', '.join(_DTYPES)}.")
    try:
        chosen = torch.device(device)
    except RuntimeError as problem:
        raise ModelError(f"device {device!r} is unknown; use cpu, cuda, cuda:1 or mps.") from problem
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ModelError(
            f"device {device!r} is not here: torch sees {torch.cuda.device_count()} CUDA devices. Use cpu."
        )
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise ModelError(f"device {device!r} is not here. Use cpu.")
    if chosen.type == "cpu" and precision == "fp16":
        raise ModelError("precision fp16 needs a GPU; on a CPU use fp32 or bf16.")
    return chosen
