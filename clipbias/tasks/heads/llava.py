"""LLaVA's way: all tokens, through a two-layer projector, go before a causal language model's words.

After H. Liu et al.: Improved Baselines with Visual Instruction Tuning (2023). It is trained in two stages
(`LlavaHead.protocol`): first the projector alone on captions, then the projector with the language model on
questions and captions; one model does both tasks.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from clipbias.errors import DataError
from clipbias.tasks.heads.base import Features, HeadSetting, head
from clipbias.tasks.heads.causal import CausalHead
from clipbias.tasks.heads.parts import fewer, read_options, standardise

OPTIONS = {
    "width": 128, "layers": 2, "heads": 4, "hidden": 256, "tokens": 0, "max_length": 24, "question_length": 24,
    "language_model": "", "tuning": "full", "rank": 8,
}  # fmt: skip


class LlavaStage(NamedTuple):
    """A stage of training: name, task of the examples, prefixes of the parameters that are trained."""

    name: str
    task: str
    trainable: tuple[str, ...]


@head("llava", tasks=["vqa", "captioning", "both"])
class LlavaHead(CausalHead):
    """A two-layer GELU projector into a causal language model.

    With task ``both`` a row without a question is captioned, one with a question is answered.

    Options: ``tokens`` (at most so many image tokens; 0: all); ``width, layers, heads, hidden`` of a Llama
    from scratch, or ``language_model``, a folder with any causal language model; ``tuning`` in the second
    stage (``"full"``, ``"lora"`` with ``rank``, ``"frozen"``); ``max_length, question_length``.

    Raises
    ------
    DataError
        As `CausalHead`; an unknown option.
    """

    def __init__(self, setting: HeadSetting) -> None:
        o = read_options("llava", setting, OPTIONS)
        from transformers import LlamaConfig

        v = setting.vocabulary
        config = LlamaConfig(
            vocab_size=len(v), hidden_size=o["width"], intermediate_size=o["hidden"], num_hidden_layers=o["layers"],
            num_attention_heads=o["heads"], max_position_embeddings=4096, tie_word_embeddings=True,
            bos_token_id=v.bos_id, eos_token_id=v.eos_id, pad_token_id=v.pad_id,
        )  # fmt: skip
        super().__init__(setting, o, "llava", config)
        self.projector = nn.Sequential(
            nn.Linear(setting.token_width, self.width), nn.GELU(), nn.Linear(self.width, self.width)
        )
        self._later = [name for name, p in self.named_parameters() if p.requires_grad]

    def visual(self, features: Features) -> Tensor:
        """Return the projected tokens, (B, N, width)."""
        return self.projector(standardise(fewer(features.tokens, self.options["tokens"])))

    @property
    def protocol(self) -> tuple[LlavaStage, LlavaStage]:
        """The two stages, in order: captions, then what the head is for.

        A language model from scratch is trained in the first stage, too: there is nothing yet that a
        projector could fit.
        """
        first = ("projector",) if self.options["language_model"] else ("projector", "language")
        return (
            LlavaStage("align", "captioning", first),
            LlavaStage("tune", self.setting.task, ("projector", "language")),
        )

    def stage(self, number: int) -> LlavaStage:
        """Set what stage 1 or 2 trains, and return the stage.

        A trainer that chooses parameters by name can use ``protocol[number - 1].trainable`` instead.
        """
        if number not in (1, 2):
            raise DataError(f"LLaVA is trained in stages 1 and 2; there is no stage {number!r}.")
        stage = self.protocol[number - 1]
        parameters = dict(self.named_parameters())
        for name in self._later:
            parameters[name].requires_grad_(name.startswith(stage.trainable))
        return stage
