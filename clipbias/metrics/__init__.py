"""Metrics of social bias: functions on arrays, records of what they mean, and inference.

from clipbias.metrics import max_skew, evaluate, Ranking
"""

from clipbias.metrics.association import AssociationTest, sc_weat, weat
from clipbias.metrics.classification import (
    Disparity,
    Harm,
    Parity,
    demographic_parity,
    equalized_odds,
    harm_rate,
    zero_shot_disparity,
)
from clipbias.metrics.composition import Composition, Dependence, composition, dependence
from clipbias.metrics.exposure import Exposure, awrf, exposure, pairwise
from clipbias.metrics.inference import evaluate, evaluate_all, point_values
from clipbias.metrics.inputs import Association, Classification, Labels, Pronouns, Ranking, Retrieval
from clipbias.metrics.power import minimum_detectable, power_at
from clipbias.metrics.presets import Preset, list_presets, load_preset
from clipbias.metrics.protocol import STRICT, Protocol
from clipbias.metrics.ranking import (
    bias_at_k,
    c_asc,
    max_skew,
    min_skew,
    ndkl,
    normalized_entropy,
    skew,
)
from clipbias.metrics.record import Metric, get, metric, registry
from clipbias.metrics.resolution import Resolution, resolution_bias
from clipbias.metrics.retrieval import RecallDivergence, kl_recall, recall_at_k
from clipbias.metrics.targets import Targets
from clipbias.metrics.word_tests import direct_bias, ect, mac, ripa, rnd, rnsb
from clipbias.metrics.world import WorldDeviation, real_world_deviation

__all__ = [
    "STRICT",
    "Association",
    "AssociationTest",
    "Classification",
    "Composition",
    "Dependence",
    "Disparity",
    "Exposure",
    "Harm",
    "Labels",
    "Metric",
    "Parity",
    "Preset",
    "Pronouns",
    "Protocol",
    "Ranking",
    "RecallDivergence",
    "Resolution",
    "Retrieval",
    "Targets",
    "WorldDeviation",
    "awrf",
    "bias_at_k",
    "c_asc",
    "composition",
    "demographic_parity",
    "dependence",
    "direct_bias",
    "ect",
    "equalized_odds",
    "evaluate",
    "evaluate_all",
    "exposure",
    "get",
    "harm_rate",
    "kl_recall",
    "list_presets",
    "load_preset",
    "mac",
    "max_skew",
    "metric",
    "min_skew",
    "minimum_detectable",
    "ndkl",
    "normalized_entropy",
    "pairwise",
    "point_values",
    "power_at",
    "real_world_deviation",
    "recall_at_k",
    "registry",
    "resolution_bias",
    "ripa",
    "rnd",
    "rnsb",
    "sc_weat",
    "skew",
    "weat",
    "zero_shot_disparity",
]
