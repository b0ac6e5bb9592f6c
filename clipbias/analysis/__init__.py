"""Correlation, similarity, convergence, heterogeneity, reliability and power: arrays and tables in, numbers out.

from clipbias.analysis import cka, pairwise_cka, similarity, convergence, correlate, transfer_table

Works alone: it knows nothing of models, images or run folders.
"""

from clipbias.analysis.cca import cca, effective_rank, pwcca, svcca
from clipbias.analysis.cka import cka, cka_interval, cka_matrix, pairwise_cka
from clipbias.analysis.convergence import convergence, image_influence
from clipbias.analysis.correlate import correlate
from clipbias.analysis.gram import Plan, plan
from clipbias.analysis.heterogeneity import heterogeneity, split_correlation, within_models
from clipbias.analysis.intervals import bca, bonett_wright
from clipbias.analysis.joint import benjamini_hochberg, joint_permutation
from clipbias.analysis.mean import mean_correlation
from clipbias.analysis.mixed import dose_response, mixed_effects
from clipbias.analysis.neighbours import cknna, mutual_knn, pairwise_cknna, pairwise_mutual_knn
from clipbias.analysis.power import (
    equivalence_test,
    minimum_detectable_correlation,
    models_to_detect,
    models_to_exclude,
    smallest_equivalence_bound,
)
from clipbias.analysis.reliability import disattenuate, icc, reliability, spearman_brown
from clipbias.analysis.result import Correlation
from clipbias.analysis.rsa import pairwise_rsa, rsa
from clipbias.analysis.shape import pairwise_procrustes, procrustes
from clipbias.analysis.similarity import Similarity, similarity
from clipbias.analysis.streaming import MinibatchCKA
from clipbias.analysis.swap import convergence_test, max_over_layers
from clipbias.analysis.transfer import agreement, transfer_table

__all__ = [
    "Correlation",
    "MinibatchCKA",
    "Plan",
    "Similarity",
    "agreement",
    "bca",
    "benjamini_hochberg",
    "bonett_wright",
    "cca",
    "cka",
    "cka_interval",
    "cka_matrix",
    "cknna",
    "convergence",
    "convergence_test",
    "correlate",
    "disattenuate",
    "dose_response",
    "effective_rank",
    "equivalence_test",
    "heterogeneity",
    "icc",
    "image_influence",
    "joint_permutation",
    "max_over_layers",
    "mean_correlation",
    "minimum_detectable_correlation",
    "mixed_effects",
    "models_to_detect",
    "models_to_exclude",
    "mutual_knn",
    "pairwise_cka",
    "pairwise_cknna",
    "pairwise_mutual_knn",
    "pairwise_procrustes",
    "pairwise_rsa",
    "plan",
    "procrustes",
    "pwcca",
    "reliability",
    "rsa",
    "similarity",
    "smallest_equivalence_bound",
    "spearman_brown",
    "split_correlation",
    "svcca",
    "transfer_table",
    "within_models",
]
