"""Features of scenes with a role and an object, small enough to be learned by heart in a moment."""

from __future__ import annotations

from itertools import product

import torch

from clipbias.tasks.heads.base import Features, HeadSetting, TextBatch
from clipbias.tasks.vocabulary import Vocabulary

ROLES, OBJECTS = ("nurse", "chef", "judge", "police officer"), ("apple", "dog", "red ball", "kite")
QUESTIONS = ("who is in the picture?", "which object is there?")
POOLED, TOKEN, SIDE = 12, 10, 2
SCENES = list(product(ROLES, OBJECTS))

_draws = torch.Generator().manual_seed(5)
_POOLED = torch.nn.functional.normalize(torch.randn(len(SCENES), POOLED, generator=_draws), dim=1)
_TOKENS = torch.randn(len(SCENES), SIDE * SIDE, TOKEN, generator=_draws)


def features(copies: int = 1) -> Features:
    """The 16 scenes, each as many times."""
    return Features(_POOLED.repeat(copies, 1), _TOKENS.repeat(copies, 1, 1))


def captions() -> TextBatch:
    return TextBatch([""] * len(SCENES), [f"a {role} with a {thing}" for role, thing in SCENES])


def questions() -> TextBatch:
    """32 questions: of each scene its role, then its object."""
    asked = [question for question in QUESTIONS for _ in SCENES]
    said = [role for role, _ in SCENES] + [thing for _, thing in SCENES]
    return TextBatch(asked, said)


VOCABULARY = Vocabulary.build([*captions().targets, *questions().targets, *QUESTIONS])


def setting(task: str, **options: object) -> HeadSetting:
    answers = () if task == "captioning" else (*ROLES, *OBJECTS)
    return HeadSetting(task, POOLED, TOKEN, VOCABULARY, answers, dict(options))


def batch(task: str) -> tuple[Features, TextBatch]:
    return (features(), captions()) if task == "captioning" else (features(2), questions())


def learn(head, task: str, *, steps: int = 150, rate: float = 5e-3) -> float:
    """Train on all examples; return the last loss."""
    seen, texts = batch(task)
    optimizer = torch.optim.AdamW([p for p in head.parameters() if p.requires_grad], rate)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head.train()
        for _ in range(steps):
            optimizer.zero_grad()
            loss = head.loss(seen, texts)
            loss.backward()
            optimizer.step()
    head.eval()
    return float(loss.detach())
