"""Heads turn a tower's features into answers and captions; importing this package registers them."""

from clipbias.tasks.heads import answers, decoder, lavis, llava, prefix
from clipbias.tasks.heads.base import (
    Features,
    Head,
    HeadSetting,
    Prediction,
    TextBatch,
    build_head,
    check_head,
    head,
    head_names,
)

__all__ = [
    "Features", "Head", "HeadSetting", "Prediction", "TextBatch", "answers", "build_head", "check_head", "decoder",
    "head", "head_names", "lavis", "llava", "prefix",
]  # fmt: skip
