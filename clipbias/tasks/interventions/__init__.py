"""Interventions: systems that change what transfers, each a plan for the training loop.

``parse("rebalance:phi=0")`` and ``rebalance(phi=0)`` make one; its ``plan(data, encoder, groups, split)`` is all that training
sees. Each has a plain twin and a null twin (`twins_of`). What they do is there on arrays, too. Importing this needs no torch.
"""

from clipbias.tasks.interventions.association import LEVELS, Selection, rebalance_rows, share_rows
from clipbias.tasks.interventions.base import (
    Intervention,
    Twins,
    about,
    intervention_names,
    parse,
    register,
    twins_of,
)
from clipbias.tasks.interventions.cells import Cells, cells_of
from clipbias.tasks.interventions.dfr import dfr, dfr_probe
from clipbias.tasks.interventions.difficulty import Averages, generalised, relative_difficulty
from clipbias.tasks.interventions.entropy_balancing import entropy_balance, entropy_weights
from clipbias.tasks.interventions.group_dro import dro_weights, group_dro, group_means
from clipbias.tasks.interventions.jtt import detection, first_errors, jtt, upweighted
from clipbias.tasks.interventions.lff import lff
from clipbias.tasks.interventions.low_spuriosity import low_spuriosity_head
from clipbias.tasks.interventions.measures import (
    RateDifferences,
    check_apart,
    effective_size,
    matched_threshold,
    phi_coefficient,
    rate_differences,
    worst_group,
)
from clipbias.tasks.interventions.mixing import Mixing, mix_embeddings, mix_probe, mixed
from clipbias.tasks.interventions.posterior import calibrate, calibrate_posterior, mean_amplification
from clipbias.tasks.interventions.probe import Probe, balanced_rows, fit_probe
from clipbias.tasks.interventions.rebalance import rebalance
from clipbias.tasks.interventions.resample import resample, resample_rows
from clipbias.tasks.interventions.reweight import OBJECTIVES, balancing_weights, reweight
from clipbias.tasks.interventions.spuriosity import (
    Gap,
    associated,
    effective_robustness,
    important,
    lowest,
    rank_by_spuriosity,
    spuriosity,
    spurious_gap,
)
from clipbias.tasks.interventions.synthetic import (
    draw_counts,
    real_fake_accuracy,
    synthetic_counts,
    synthetic_data,
    with_artefact,
)
from clipbias.tasks.interventions.synthetic_then_real import synthetic_then_real

__all__ = [
    "LEVELS", "OBJECTIVES", "Averages", "Cells", "Gap", "Intervention", "Mixing", "Probe", "RateDifferences", "Selection",
    "Twins", "about", "associated", "balanced_rows", "balancing_weights", "calibrate", "calibrate_posterior", "cells_of",
    "check_apart", "detection", "dfr", "dfr_probe", "draw_counts", "dro_weights", "effective_robustness", "effective_size",
    "entropy_balance", "entropy_weights", "first_errors", "fit_probe", "generalised", "group_dro", "group_means",
    "important", "intervention_names", "jtt", "lff", "low_spuriosity_head", "lowest", "matched_threshold",
    "mean_amplification", "mix_embeddings", "mix_probe", "mixed", "parse", "phi_coefficient", "rank_by_spuriosity",
    "rate_differences", "real_fake_accuracy", "rebalance", "rebalance_rows", "register", "relative_difficulty", "resample",
    "resample_rows", "reweight", "share_rows", "spuriosity", "spurious_gap", "synthetic_counts", "synthetic_data",
    "synthetic_then_real", "twins_of", "upweighted", "with_artefact", "worst_group",
]  # fmt: skip
