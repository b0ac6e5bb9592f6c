"""Neural attackers on captions: the published LSTM, and a pretrained encoder by path. Needs torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence

from clipbias.errors import DataError
from clipbias.tasks.metrics.masking import MASK

Fit = Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]  # as in `attackers`

_PAD, _UNK = 0, 1


@dataclass(frozen=True)
class LstmSetting:
    """The LSTM of Hirota et al. (2022), as in their code (their text says another learning rate)."""

    epochs: int = 20
    learning_rate: float = 5e-5
    batch: int = 64
    embedding: int = 100
    hidden: int = 256
    layers: int = 2
    dropout: float = 0.5
    vocabulary: int = 25_000
    device: str = ""


@dataclass(frozen=True)
class BertSetting:
    """Fine-tuning of a pretrained encoder; ``frozen`` trains the classification layer alone."""

    epochs: int = 5
    learning_rate: float = 1e-5
    batch: int = 64
    length: int = 64
    frozen: bool = False
    device: str = ""


class _Lstm(nn.Module):
    def __init__(self, words: int, groups: int, s: LstmSetting) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, s.embedding, padding_idx=_PAD)
        with torch.no_grad():
            self.embedding.weight[_UNK] = 0
        between = s.dropout if s.layers > 1 else 0.0
        self.rnn = nn.LSTM(
            s.embedding, s.hidden, s.layers, bidirectional=True, dropout=between, batch_first=True
        )
        self.out = nn.Linear(2 * s.hidden, groups)
        self.dropout = nn.Dropout(s.dropout)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(
            self.dropout(self.embedding(ids)), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        _, (hidden, _) = self.rnn(packed)
        return self.out(self.dropout(torch.cat([hidden[-2], hidden[-1]], dim=1)))


def _device(name: str) -> torch.device:
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def _train_and_predict(
    model: nn.Module, forward: Any, y: np.ndarray, train: np.ndarray, test: np.ndarray, s: Any, seed: int
) -> np.ndarray:
    """Train on shuffled batches with Adam, then return probabilities for the test texts."""
    rng = np.random.default_rng(seed)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=s.learning_rate)
    device = _device(s.device)
    target = torch.as_tensor(y, dtype=torch.long, device=device)
    model.to(device).train()
    for _ in range(s.epochs):
        order = rng.permutation(train)
        for start in range(0, order.size, s.batch):
            rows = order[start : start + s.batch]
            loss = nn.functional.cross_entropy(forward(model, rows, device), target[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    model.eval()
    with torch.inference_mode():
        parts = [
            forward(model, test[start : start + s.batch], device).softmax(-1).cpu()
            for start in range(0, test.size, s.batch)
        ]
    return torch.cat(parts).double().numpy()


def lstm(texts: Sequence[str], groups: int, setting: LstmSetting) -> Fit:
    """Prepare the LSTM attacker; its vocabulary is that of the training texts of each split."""
    split = [text.split() for text in texts]

    def fit(y: np.ndarray, train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
        seen = Counter(word for i in train for word in split[i])
        ids = {word: i + 2 for i, (word, _) in enumerate(seen.most_common(setting.vocabulary))}
        # A caption without words is one unknown word: an LSTM needs a step to take.
        coded = [torch.tensor([ids.get(w, _UNK) for w in words] or [_UNK]) for words in split]

        def forward(model: nn.Module, rows: np.ndarray, device: torch.device) -> Tensor:
            batch = [coded[i] for i in rows]
            lengths = torch.tensor([len(b) for b in batch])
            return model(pad_sequence(batch, batch_first=True, padding_value=_PAD).to(device), lengths)

        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = _Lstm(len(ids) + 2, groups, setting)
            return _train_and_predict(model, forward, y, train, test, setting, seed)

    return fit


def bert(texts: Sequence[str], groups: int, path: str, setting: BertSetting) -> Fit:
    """Prepare a pretrained encoder with a classification layer; masked words become its own mask token."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    if not Path(path).is_dir():
        raise DataError(
            f"attacker bert:{path}: there is no such folder; give a folder with a saved model and tokenizer."
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError) as error:
        raise DataError(f"attacker bert:{path}: its tokenizer cannot be loaded: {error}") from error
    hidden = tokenizer.mask_token or MASK
    shown = [" ".join(hidden if w == MASK else w for w in text.split()) for text in texts]
    coded = tokenizer(shown, padding=True, truncation=True, max_length=setting.length, return_tensors="pt")

    def forward(model: nn.Module, rows: np.ndarray, device: torch.device) -> Tensor:
        return model(**{name: values[rows].to(device) for name, values in coded.items()}).logits

    def fit(y: np.ndarray, train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            try:
                model = AutoModelForSequenceClassification.from_pretrained(
                    path, num_labels=groups, local_files_only=True
                )
            except (OSError, ValueError) as error:
                raise DataError(f"attacker bert:{path} cannot be loaded: {error}") from error
            if setting.frozen:
                model.base_model.requires_grad_(False)
            return _train_and_predict(model, forward, y, train, test, setting, seed)

    return fit
