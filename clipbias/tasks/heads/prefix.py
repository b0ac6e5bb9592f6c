"""ClipCap's way: the pooled embedding becomes a prefix of a causal language model.

After R. Mokady, A. Hertz, A. H. Bermano: ClipCap: CLIP Prefix for Image Captioning (2021). Other than its
code, captions end with an end mark that is learned and generated, the padding is masked by place and not by
token number, and token 0 counts like any other.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from clipbias.errors import DataError, nearest
from clipbias.tasks.heads.base import Features, HeadSetting, head
from clipbias.tasks.heads.causal import CausalHead
from clipbias.tasks.heads.parts import read_options, standardise

OPTIONS = {
    "mapper": "mlp", "prefix": 8, "width": 128, "layers": 2, "heads": 4, "hidden": 256, "dropout": 0.1,
    "mapper_layers": 2, "max_length": 24, "question_length": 24, "language_model": "", "tuning": "full", "rank": 8,
}  # fmt: skip
MAPPERS = ("mlp", "transformer")


@head("prefix", tasks=["vqa", "captioning"])
class PrefixHead(CausalHead):
    """A mapper from the pooled embedding to ``prefix`` vectors before the words of a causal language model.

    Options: ``mapper`` (``"mlp"`` or ``"transformer"``), ``prefix`` and ``mapper_layers`` (transformer);
    ``width, layers, heads, hidden, dropout`` of a GPT-2 from scratch, or ``language_model``, a folder with
    any causal language model; ``tuning`` (``"full"``, ``"lora"`` with ``rank``, or ``"frozen"``);
    ``max_length, question_length``.

    Raises
    ------
    DataError
        As `CausalHead`; an unknown option or mapper.
    """

    def __init__(self, setting: HeadSetting) -> None:
        o = read_options("prefix", setting, OPTIONS)
        if o["mapper"] not in MAPPERS:
            raise DataError(f"head 'prefix': mapper is {o['mapper']!r}." + nearest(o["mapper"], MAPPERS))
        from transformers import GPT2Config

        v = setting.vocabulary
        room = o["prefix"] + o["question_length"] + 1 + o["max_length"]
        config = GPT2Config(
            vocab_size=len(v), n_positions=room, n_embd=o["width"], n_layer=o["layers"], n_head=o["heads"],
            n_inner=o["hidden"], resid_pdrop=o["dropout"], embd_pdrop=o["dropout"], attn_pdrop=0.0,
            bos_token_id=v.bos_id, eos_token_id=v.eos_id, pad_token_id=v.pad_id,
        )  # fmt: skip
        super().__init__(setting, o, "prefix", config)
        if o["mapper"] == "mlp":
            self.projector: nn.Module = MLPMapper(setting.pooled_width, o["width"], o["prefix"], self.width)
        else:
            self.projector = TransformerMapper(
                setting.pooled_width, o["width"], o["prefix"], self.width, o["mapper_layers"], o["heads"]
            )

    def visual(self, features: Features) -> Tensor:
        """Return the prefix, (B, prefix, width)."""
        return self.projector(standardise(features.pooled))


class MLPMapper(nn.Module):
    """Pooled embedding to a fixed width, to all prefix vectors at once."""

    def __init__(self, pooled: int, width: int, prefix: int, out: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(pooled, width), nn.Linear(width, prefix * out)
        self.shape = (prefix, out)

    def forward(self, pooled: Tensor) -> Tensor:
        """Return (B, prefix, out)."""
        return self.second(functional.gelu(self.first(pooled))).unflatten(1, self.shape)


class TransformerMapper(nn.Module):
    """Learned queries that look at the projected embedding; what becomes of them is the prefix."""

    def __init__(self, pooled: int, width: int, prefix: int, out: int, layers: int, heads: int) -> None:
        super().__init__()
        self.first = nn.Linear(pooled, prefix * width)
        self.queries = nn.Parameter(torch.randn(prefix, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, heads, 2 * width, 0.0, functional.gelu, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.last = nn.Linear(width, out)

    def forward(self, pooled: Tensor) -> Tensor:
        """Return (B, prefix, out)."""
        prefix, width = self.queries.shape
        image = self.first(pooled).unflatten(1, (prefix, width))
        x = self.layers(torch.cat([image, self.queries.expand(len(pooled), -1, -1)], 1))
        return self.last(x[:, prefix:])
