"""Classifiers that guess a group from captions: what a leakage metric calls an attacker.

An attacker is prepared once for a set of texts and then fitted to many splits of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from clipbias.errors import DataError, nearest

# fit(y, train, test, seed) -> probabilities of the groups for the test texts, (test, groups)
Fit = Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]
Attacker = Callable[[Sequence[str], int], Fit]
NAMES = ("logistic", "lstm", "bert:PATH")


def text_attacker(attacker: str | Attacker, options: Mapping[str, Any] | None = None) -> Attacker:
    """Return an attacker by name.

    Parameters
    ----------
    attacker : str or callable
        ``"logistic"``: uni- and bigrams, L2, C = 0.1 (seconds). ``"lstm"``: two bidirectional layers trained
        from nothing, as published (minutes). ``"bert:PATH"``: a pretrained encoder of that path, fine-tuned.
        Or a scikit-learn classifier that takes texts (a pipeline with a vectoriser); it is cloned for every fit. Or a
        callable ``(texts, groups) -> fit(y, train, test, seed) -> probabilities``.
    options : mapping, optional
        Settings of the attacker, for example ``{"C": 1.0}`` or ``{"epochs": 5}``.

    Raises
    ------
    DataError
        Unknown name or setting.
    """
    given = dict(options or {})
    if is_classifier(attacker):
        return lambda texts, groups: _estimator(texts, groups, attacker)
    if callable(attacker):
        return attacker
    name, _, path = str(attacker).partition(":")
    if name == "logistic" and not path:
        _known(name, given, ("C", "ngrams", "binary"))
        return lambda texts, groups: _logistic(texts, groups, **given)
    if name == "lstm" and not path:
        from clipbias.tasks.metrics.attackers_torch import LstmSetting, lstm

        _known(name, given, LstmSetting.__dataclass_fields__)
        return lambda texts, groups: lstm(texts, groups, LstmSetting(**given))
    if name == "bert" and path:
        from clipbias.tasks.metrics.attackers_torch import BertSetting, bert

        _known(name, given, BertSetting.__dataclass_fields__)
        return lambda texts, groups: bert(texts, groups, path, BertSetting(**given))
    raise DataError(f"attacker={attacker!r} is unknown." + nearest(str(attacker), NAMES))


def is_classifier(attacker: Any) -> bool:
    """Return whether something is used as scikit-learn's classifiers are: ``fit(X, y)`` and ``predict_proba(X)``.

    Raises
    ------
    DataError
        It can be fitted and gives no probabilities.
    """
    if isinstance(attacker, type) or not hasattr(attacker, "fit"):
        return False
    if not hasattr(attacker, "predict_proba"):
        raise DataError(
            f"{type(attacker).__name__} has no predict_proba; wrap it in sklearn's CalibratedClassifierCV, which adds it."
        )
    return True


def estimator_probabilities(
    estimator: Any, train_x: Any, train_y: np.ndarray, test_x: Any, groups: int, *, seed: int = 0
) -> np.ndarray:
    """Fit a copy of a scikit-learn classifier; return probabilities of all groups, (test, groups), 0 for those never seen."""
    from sklearn.base import clone

    model = clone(estimator)
    seeds = {name: seed for name in model.get_params() if name.split("__")[-1] == "random_state"}
    out = np.zeros((len(test_x), groups))
    model.set_params(**seeds).fit(train_x, train_y)
    out[:, model.classes_.astype(int)] = model.predict_proba(test_x)
    return out


def _estimator(texts: Sequence[str], groups: int, estimator: Any) -> Fit:
    """Prepare a scikit-learn classifier of texts."""
    all_texts = np.asarray(texts, dtype=object)

    def fit(y: np.ndarray, train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
        return estimator_probabilities(
            estimator, all_texts[train], y[train], all_texts[test], groups, seed=seed
        )

    return fit


def _known(attacker: str, given: Mapping[str, Any], settings: Iterable[str]) -> None:
    for key in given:
        if key not in settings:
            raise DataError(f"attacker {attacker!r} has no setting {key!r}." + nearest(key, settings))


def _logistic(
    texts: Sequence[str], groups: int, *, C: float = 0.1, ngrams: int = 2, binary: bool = True
) -> Fit:
    """Prepare a logistic regression on word n-grams.

    All texts are counted once. N-grams that a training split lacks get the weight 0 from the L2 penalty, so
    this is the same as counting the training texts alone.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    try:
        counts = CountVectorizer(
            ngram_range=(1, ngrams), binary=binary, lowercase=False, token_pattern=r"\S+"
        ).fit_transform(texts)
    except ValueError as error:  # no words at all
        raise DataError(f"the captions hold no words to learn from: {error}.") from error

    def fit(y: np.ndarray, train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
        return logistic_probabilities(counts[train], y[train], counts[test], groups, C=C, seed=seed)

    return fit


def logistic_probabilities(
    train_x: Any, train_y: np.ndarray, test_x: Any, groups: int, *, C: float = 1.0, seed: int = 0
) -> np.ndarray:
    """Return class probabilities of a logistic regression, (test, groups); 0 for classes never seen."""
    from sklearn.linear_model import LogisticRegression

    out = np.zeros((test_x.shape[0], groups))
    present = np.unique(train_y)
    if present.size == 1:
        out[:, int(present[0])] = 1.0
        return out
    solver = "liblinear" if present.size == 2 else "lbfgs"
    model = LogisticRegression(C=C, solver=solver, max_iter=1000, random_state=seed)
    out[:, present.astype(int)] = model.fit(train_x, train_y).predict_proba(test_x)
    return out
