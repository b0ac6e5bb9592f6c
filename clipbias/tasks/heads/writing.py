"""What heads that write read and write, as token numbers: prompts, targets, answers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from clipbias.errors import DataError
from clipbias.tasks.heads.base import HeadSetting
from clipbias.tasks.vocabulary import Vocabulary


@dataclass(frozen=True)
class Writing:
    """The form of texts: ``[BOS] caption [EOS]``, or ``[BOS] question [ANS] answer [EOS]``.

    What comes before the caption or answer is the prompt. With task ``both`` a row without a question is a
    caption.

    Attributes
    ----------
    task : {"vqa", "captioning", "both"}
    vocabulary : Vocabulary
    answers : tuple of str
    question_length, max_length : int
        Most tokens of a question with its ``[BOS]``, and of what is written with its ``[EOS]``.
    """

    task: str
    vocabulary: Vocabulary
    answers: tuple[str, ...]
    question_length: int
    max_length: int

    @classmethod
    def of(cls, setting: HeadSetting, options: dict[str, Any]) -> Writing:
        """Return the form that a head's setting and options ask for."""
        return cls(
            setting.task,
            setting.vocabulary,
            setting.answers,
            options["question_length"],
            options["max_length"],
        )

    @property
    def longest(self) -> int:
        """Most tokens of a prompt and what is written behind it."""
        return self.question_length + 1 + self.max_length

    def prompts(self, questions: list[str], device: torch.device) -> tuple[Tensor, Tensor]:
        """Return prompts padded on the right and their masks, int64 (B, T)."""
        v = self.vocabulary
        rows = [[v.bos_id]] * len(questions)
        if self.task != "captioning":
            ids, mask = v.encode(questions, add_bos=True, max_length=self.question_length)
            rows = [
                row[: int(n)].tolist() + [v.ans_id] * (self.task == "vqa" or bool(question))
                for row, n, question in zip(ids, mask.sum(1), questions, strict=True)
            ]
        return _padded(rows, v.pad_id, device)

    def groups(self, questions: list[str], device: torch.device) -> list[tuple[Tensor, Tensor]]:
        """Return row numbers and prompts of equal length, so that none is padded when it is continued."""
        ids, mask = self.prompts(questions, device)
        lengths = mask.sum(1)
        found = []
        for length in lengths.unique().tolist():
            rows = torch.nonzero(lengths == length)[:, 0]
            found.append((rows, ids[rows, :length]))
        return found

    def sequences(
        self, questions: list[str], targets: list[str], device: torch.device
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return prompts followed by targets, their masks, and labels: -100 but for the targets.

        Raises
        ------
        DataError
            The numbers of questions and targets differ.
        """
        if len(targets) != len(questions):
            raise DataError(f"{len(questions)} images came with {len(targets)} texts to learn.")
        cpu, v = torch.device("cpu"), self.vocabulary
        ids, mask = self.prompts(questions, cpu)
        starts = mask.sum(1)
        written, kept = v.encode(targets, add_eos=True, max_length=self.max_length)
        rows = [
            prompt[:start] + target[:n]
            for prompt, start, target, n in zip(
                ids.tolist(), starts.tolist(), written.tolist(), kept.sum(1).tolist(), strict=True
            )
        ]
        joined, whole = _padded(rows, v.pad_id, cpu)
        counted = (whole == 1) & (torch.arange(joined.shape[1]) >= starts[:, None])
        labels = joined.masked_fill(~counted, -100)
        return joined.to(device), whole.to(device), labels.to(device)

    @cached_property
    def answer_tokens(self) -> list[list[int]]:
        """Each answer of the list, with its end mark."""
        ids, mask = self.vocabulary.encode(list(self.answers), add_eos=True, max_length=self.max_length)
        return [row[: int(n)].tolist() for row, n in zip(ids, mask.sum(1), strict=True)]

    def generation(self, beams: int) -> Any:
        """Return transformers' settings: greedy with one beam, else beam search; no special tokens."""
        from transformers import GenerationConfig

        v = self.vocabulary
        unwanted = {v.pad_id, v.unk_id, v.bos_id, v.ans_id, v.sep_id} - {v.eos_id}
        return GenerationConfig(
            num_beams=beams, do_sample=False, max_new_tokens=self.max_length, min_new_tokens=1,
            eos_token_id=v.eos_id, pad_token_id=v.pad_id, bos_token_id=v.bos_id, suppress_tokens=sorted(unwanted),
        )  # fmt: skip


def _padded(rows: list[list[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    longest = max(map(len, rows), default=1)
    ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return ids.to(device), mask.to(device)
