"""Low-rank adapters (LoRA) on any vision tower, by peft.

Adapted are the ``Linear`` and the ungrouped ``Conv2d`` modules that the tower calls. Not adapted, because
their weights are used without calling them or peft has no sound adapter for them: depthwise convolutions, the
attention pool of CLIP's ResNets, norms, position and class embeddings. ``torch.nn.MultiheadAttention`` uses
its weights without calling modules, too; it is replaced by an equal module made of ``Linear`` layers, so that
queries, keys, values and output are adapted (peft's own adapter for it adds to the weights and subtracts
again in each pass, which lets them drift).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from clipbias.errors import ModelError


class PlainAttention(nn.Module):
    """Attention equal to a ``MultiheadAttention``, from whose weights it is made."""

    def __init__(self, source: Any) -> None:
        super().__init__()
        self.heads, self.batch_first, self.dropout = source.num_heads, source.batch_first, source.dropout
        width = source.embed_dim
        bias = source.in_proj_bias is not None
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)
        self.qkv.weight, self.out.weight = source.in_proj_weight, source.out_proj.weight
        if bias:
            self.qkv.bias, self.out.bias = source.in_proj_bias, source.out_proj.bias

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        need_weights: bool = False,
        attn_mask: Tensor | None = None,
    ) -> tuple[Tensor, None]:
        """Return the attended values and None, as open_clip's blocks expect."""
        q, k, v = self._parts(query)
        if key is not query:
            k, v = self._parts(key)[1], self._parts(value)[2]
        dropout = self.dropout if self.training else 0.0
        x = functional.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask, dropout_p=dropout)
        x = self.out(x.transpose(1, 2).flatten(2))
        return (x if self.batch_first else x.transpose(0, 1)), None

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, (B, heads, length, width of a head) each."""
        x = x if self.batch_first else x.transpose(0, 1)
        n, length, _ = x.shape
        q, k, v = self.qkv(x).view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return q, k, v

    def original(self) -> nn.MultiheadAttention:
        """Return the ``MultiheadAttention`` with these weights."""
        bias = self.qkv.bias is not None
        made: Any = nn.MultiheadAttention(
            self.out.in_features, self.heads, dropout=self.dropout, bias=bias, batch_first=self.batch_first
        )
        made.in_proj_weight, made.out_proj.weight = self.qkv.weight, self.out.weight
        if bias:
            made.in_proj_bias, made.out_proj.bias = self.qkv.bias, self.out.bias
        return made.train(self.training)


def add_adapters(
    visual: nn.Module, run: Callable[[], object], *, rank: int, alpha: int | None = None
) -> tuple[str, ...]:
    """Put adapters into a tower, in place, and freeze everything else.

    Parameters
    ----------
    visual : Module
    run : callable
        Passes something through the tower; what is called then can be adapted.
    rank : int
    alpha : int, optional
        Default: 2 x rank.

    Returns
    -------
    tuple of str
        Names of the adapted modules. At first the tower computes what it did before.

    Raises
    ------
    ModelError
        The tower has nothing that can be adapted.
    """
    from peft import LoraConfig, inject_adapter_in_model

    for parent, name, child in _children(visual):
        if isinstance(child, nn.MultiheadAttention) and _plain(child):
            setattr(parent, name, PlainAttention(child))
    targets = _called(visual, run)
    if not targets:
        raise ModelError(
            f"the vision tower ({type(visual).__name__}) has no linear or convolution layer to adapt."
        )
    visual.requires_grad_(False)
    # A pattern that is anchored: in a list of names peft takes each as a suffix, too.
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank if alpha is None else alpha, lora_dropout=0.0,
        target_modules="|".join(f"(?:{name.replace('.', chr(92) + '.')})" for name in targets),
    )  # fmt: skip
    inject_adapter_in_model(config, visual)
    return targets


def merged(visual: nn.Module) -> nn.Module:
    """Return a copy of a tower with its adapters added to the weights and its first modules."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    visual = copy.deepcopy(visual).eval().requires_grad_(False)
    for parent, name, child in _children(visual):
        if isinstance(child, BaseTunerLayer):
            child.merge()
            setattr(parent, name, child.get_base_layer())
    for parent, name, child in _children(visual):
        if isinstance(child, PlainAttention):
            setattr(parent, name, child.original())
    if hasattr(visual, "peft_config"):
        del visual.peft_config
    return visual.requires_grad_(False)


def _children(module: nn.Module) -> list[tuple[Any, str, nn.Module]]:
    return [(parent, name, child) for parent in module.modules() for name, child in parent.named_children()]


def _plain(attention: nn.MultiheadAttention) -> bool:
    """Whether it has one width and no extras."""
    same = bool(attention._qkv_same_embed_dim)
    return same and attention.bias_k is None and not attention.add_zero_attn


def _called(visual: nn.Module, run: Callable[[], object]) -> tuple[str, ...]:
    import torch

    seen: set[nn.Module] = set()
    fit = [
        module
        for module in visual.modules()
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
    ]
    hooks = [module.register_forward_hook(lambda m, i, o: seen.add(m)) for module in fit]
    try:
        with torch.no_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(name for name, module in visual.named_modules() if module in seen)
