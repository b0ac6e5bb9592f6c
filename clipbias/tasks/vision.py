"""The vision side: pooled and token features of any open_clip tower, frozen or trained.

`clipbias.tasks.frozen` keeps the features of frozen towers on disk; `clipbias.tasks.lora` says what low-rank
adapters change.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from clipbias.errors import ClipbiasError, ModelError, nearest
from clipbias.models import Clip
from clipbias.tasks.heads.base import Features
from clipbias.tasks.lora import add_adapters, merged

MODES = ("frozen", "lora", "full")
VERSION = "1"  # counts up when the same tower would give other features
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Tower(nn.Module):
    """The vision tower of a CLIP.

    Parameters
    ----------
    clip : Clip
        Stays as it is: a tower that is trained is a copy.
    grid : int, optional
        Tokens are averaged down to at most ``grid`` x ``grid``. Default: all tokens.

    Attributes
    ----------
    clip : Clip
        As given.
    visual : Module
        open_clip's tower.
    mode : {"frozen", "lora", "full"}
    pooled_width, token_width, n_tokens : int
        Of the features.
    adapted : tuple of str
        Modules that carry low-rank adapters (mode ``lora``).

    Raises
    ------
    ModelError
        The tower gives no spatial tokens.
    """

    clip: Clip

    def __init__(self, clip: Clip, *, grid: int | None = None) -> None:
        super().__init__()
        self.__dict__["clip"] = clip  # no submodule: its text tower is not the tower's
        self.visual: Any = clip.network.visual
        self.mode = "frozen"
        self.grid = grid
        self.adapted: tuple[str, ...] = ()
        self.eval()
        probe = self.features(torch.zeros(1, 3, *clip.image_size))
        self.pooled_width = probe.pooled.shape[1]
        self.n_tokens, self.token_width = probe.tokens.shape[1:]

    @property
    def device(self) -> torch.device:
        """Where the tower is."""
        return self.clip.device

    @property
    def parameter_count(self) -> dict[str, int]:
        """Numbers of parameters: ``total`` and ``trained``."""
        return {
            "total": sum(p.numel() for p in self.visual.parameters()),
            "trained": sum(p.numel() for p in self.visual.parameters() if p.requires_grad),
        }

    @property
    def features_key(self) -> str:
        """SHA-256 of everything that the frozen features of an image depend on besides the image."""
        facts = f"features|{VERSION}|{self.clip.image_key}|{self.grid}"
        return hashlib.sha256(facts.encode()).hexdigest()

    def train(self, mode: bool = True) -> Tower:
        """Switch to training, but never batch statistics: features do not depend on the batch."""
        super().train(mode and self.mode != "frozen")
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def forward(self, pixels: Tensor) -> Features:
        """As `features`."""
        return self.features(pixels)

    def features(self, pixels: Tensor) -> Features:
        """Return what the tower makes of preprocessed images.

        Parameters
        ----------
        pixels : Tensor, float32 (B, 3, h, w)

        Returns
        -------
        Features
            float32: ``pooled`` (B, d), L2-normalised, and ``tokens`` (B, N, c) of the last layer, row by row
            of the image, without class tokens.
        """
        with self._computing():
            found = self._run(pixels, 1)
            maps = found["image_intermediates"][-1].float()
            if self.grid is not None and max(maps.shape[-2:]) > self.grid:
                height, width = (min(self.grid, size) for size in maps.shape[-2:])
                maps = functional.adaptive_avg_pool2d(maps, (height, width))
            pooled = functional.normalize(found["image_features"].float(), dim=-1)
            return Features(pooled, maps.flatten(2).transpose(1, 2))

    def layers(self, pixels: Tensor) -> dict[str, Tensor]:
        """Return one float32 (B, p) tensor per block, ``tower.0``, ...: means over space; and the embedding.

        ``tower.embedding`` is the normalised embedding. The number of blocks is the tower's own: a ResNet's
        stem and four stages, a ConvNeXt's stages, a ViT's blocks.
        """
        with self._computing():
            found = self._run(pixels, None)
            states = {
                f"tower.{i}": maps.float().mean((2, 3)) for i, maps in enumerate(found["image_intermediates"])
            }
            states["tower.embedding"] = functional.normalize(found["image_features"].float(), dim=-1)
            return states

    def make_trainable(self, mode: str, *, rank: int = 8, alpha: int | None = None, seed: int = 0) -> None:
        """Choose what is trained; done once, before training.

        Parameters
        ----------
        mode : {"frozen", "lora", "full"}
            ``full`` trains all parameters, ``lora`` adapters on what `clipbias.tasks.lora.add_adapters`
            finds. The statistics of batch norms stay in both.
        rank : int
        alpha : int, optional
            Adapters are scaled by ``alpha / rank``. Default: 2 x rank.
        seed : int
            Of the adapters' first values.

        Raises
        ------
        ClipbiasError
            There is no such mode, or one was chosen before.
        """
        if mode not in MODES:
            raise ClipbiasError(f"there is no mode {mode!r}." + nearest(mode, MODES))
        if self.mode != "frozen":
            raise ClipbiasError(
                f"the tower is already trainable ({self.mode}); make a new Tower for another mode."
            )
        if mode == "frozen":
            return
        self.visual = copy.deepcopy(self.visual)
        if mode == "full":
            self.visual.requires_grad_(True)
        else:
            probe = torch.zeros(1, 3, *self.clip.image_size, device=self.device)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.adapted = add_adapters(self.visual, lambda: self._run(probe, 1), rank=rank, alpha=alpha)
            self.visual.to(self.device)
        self.mode = mode

    def adapted_clip(self) -> Clip:
        """Return the CLIP with the tower as it is now, adapters merged in; its keys and digests are its own.

        The text tower is that of the CLIP before, so image and text need no longer fit together.
        """
        if self.mode == "frozen":
            return self.clip
        network = copy.copy(self.clip.network)
        # A shallow copy shares the text tower and has a table of submodules of its own.
        network.__dict__["_modules"] = dict(self.clip.network._modules)
        network.__dict__["_parameters"] = dict(self.clip.network._parameters)
        network.visual = merged(self.visual)
        return Clip(
            self.clip.spec, network, config=self.clip.config, preprocess=self.clip.preprocess,
            tokenizer=self.clip.tokenizer, metadata=self.clip.metadata, vocabulary=self.clip.vocabulary,
            device=self.device, precision=self.clip.precision,
        )  # fmt: skip

    def _run(self, pixels: Tensor, indices: int | None) -> dict[str, Any]:
        try:
            return self.visual.forward_intermediates(
                pixels.to(self.device), indices=indices, output_fmt="NCHW"
            )
        except (AttributeError, AssertionError, NotImplementedError, TypeError) as problem:
            raise ModelError(
                f"{self.clip.spec}: its vision tower ({type(self.visual).__name__}) gives no spatial tokens: {problem}."
            ) from problem

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """Frozen: as the CLIP computes its embeddings. Trained: as the training loop says."""
        if self.mode != "frozen":
            yield
            return
        device, half = self.device.type, self.clip.precision != "fp32"
        # no_grad and not inference mode: a head is trained on these tensors.
        with torch.no_grad(), torch.autocast(device, _DTYPES[self.clip.precision], enabled=half):
            if device == "cuda":
                with torch.backends.cudnn.flags(
                    enabled=True, benchmark=False, deterministic=True, allow_tf32=half
                ):
                    yield
            else:
                yield
