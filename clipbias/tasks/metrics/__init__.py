"""Metrics of adapted models: quality of captions and answers, and their bias. Importing this imports no torch.

from clipbias.tasks.metrics import vqa_accuracy, cider, gender_error, flip_rate
"""

# Not lazily: `leakage` and `lic` are modules as well as functions, and only an import here makes the function win always.
from clipbias.tasks.metrics.amplification import (
    DirectionalAmplification,
    MultiAmplification,
    directional_bias_amplification,
    directional_draws,
    multi_attribute_bias_amplification,
    multi_attribute_draws,
)
from clipbias.tasks.metrics.captions import (
    Bleu,
    CaptionQuality,
    bleu,
    cider,
    corpus_bleu,
    group_means,
    meteor,
    rouge_l,
)
from clipbias.tasks.metrics.clipscore import ClipScore, clip_score, ref_clip_score
from clipbias.tasks.metrics.counterfactual import DeltaP, FlipRate, delta_p, flip_rate
from clipbias.tasks.metrics.facts import FACTS, Facts, facts, facts_table
from clipbias.tasks.metrics.gender import GenderError, gender_error
from clipbias.tasks.metrics.groups import (
    Divergence,
    GroupGap,
    RateGap,
    WorstGroup,
    answer_divergence,
    demographic_parity,
    equalized_odds,
    error_rate_ratio,
    group_gap,
    js_divergence,
    worst_group,
)
from clipbias.tasks.metrics.leakage import Dpa, Leakage, dpa, leakage
from clipbias.tasks.metrics.lic import Lic, lic
from clipbias.tasks.metrics.mals import (
    MalsAmplification,
    bias_amplification_mals,
    mals_draws,
    mals_from_shares,
)
from clipbias.tasks.metrics.pairs import indicators
from clipbias.tasks.metrics.pronouns import best_pronoun, pronoun_of, pronoun_resolution
from clipbias.tasks.metrics.tokens import tokenize
from clipbias.tasks.metrics.vqa import (
    VqaAccuracy,
    answer_accuracy,
    exact_match,
    normalize_answer,
    vqa_accuracy,
)
from clipbias.tasks.metrics.words import WordList, caption_group, list_words, load_words, missed_words

__all__ = [
    "FACTS", "Bleu", "CaptionQuality", "ClipScore", "DeltaP", "DirectionalAmplification", "Divergence", "Dpa", "Facts",
    "FlipRate", "GenderError", "GroupGap", "Leakage", "Lic", "MalsAmplification", "MultiAmplification", "RateGap",
    "VqaAccuracy", "WordList", "WorstGroup", "answer_accuracy", "answer_divergence", "best_pronoun",
    "bias_amplification_mals", "bleu", "caption_group", "cider", "clip_score", "corpus_bleu", "delta_p",
    "demographic_parity", "directional_bias_amplification", "directional_draws", "dpa", "equalized_odds",
    "error_rate_ratio", "exact_match", "facts", "facts_table", "flip_rate", "gender_error", "group_gap", "group_means",
    "indicators", "js_divergence", "leakage", "lic", "list_words", "load_words", "mals_draws", "mals_from_shares",
    "meteor", "missed_words", "multi_attribute_bias_amplification", "multi_attribute_draws", "normalize_answer",
    "pronoun_of", "pronoun_resolution", "ref_clip_score", "rouge_l", "tokenize", "vqa_accuracy", "worst_group",
]  # fmt: skip
