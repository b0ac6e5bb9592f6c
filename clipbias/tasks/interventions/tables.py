"""The tables that tell what interventions did: names, columns, and what each column means.

``clipbias adapt --intervention`` writes ``interventions``; ``make interventions`` writes all of them. Charts and tests read them
by these names. Values over seeds are means; their intervals are of the mean (Student's t over seeds), and are missing where
there is one seed. A value that cannot be computed is missing, and ``status`` and ``reason`` say why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

_WHO = {
    "model": "spec of the pretrained CLIP, or scratch",
    "task": "vqa or captioning",
    "mode": "how the tower is adapted: frozen, lora, full, or scratch",
}
_ENDS = {
    "status": "ok, or why there is no value",
    "reason": "the same in words",
}


def _with_interval(name: str, meaning: str) -> dict[str, str]:
    return {name: meaning, f"{name}_low": f"lower end of the interval of {name}", f"{name}_high": "upper end"}


TABLES: dict[str, dict[str, str]] = {
    # One row per intervention, twin and measure. Pareto chart: x = quality, y = bias, role != plain filled, one facet per task.
    "interventions": {
        "source": "adapt (systems of this run) or proof (make interventions)",
        **_WHO,
        "head": "head that was trained",
        "world": "planted (training data tied at rho .95), neutral, or data (those of the run)",
        "intervention": "name of the system; empty for plain training",
        "setting": "as on the command line, with options",
        "role": "real, plain (nearest simple baseline), null (must fail), or base (plain training on all images)",
        "kind": "bias or quality",
        "metric": "worst_group, fpr_difference, ... or a metric of the table extrinsic",
        "attribute": "of a bias metric",
        **_with_interval("value", "of the system; the sign of fpr_difference is towards the ties"),
        **_with_interval("change", "value minus that of the plain twin, paired by seed; of one seed the two intervals are put together"),
        **_with_interval("change_base", "value minus that of plain training on all images, paired likewise"),
        "seed_sd": "standard deviation of the value over seeds",
        "seeds": "number of seeds",
        "seen_train": "labels that training saw",
        "seen_selection": "labels that the choice of options saw",
        "seen_test": "labels that prediction saw",
        "n_used": "training images used (mean over seeds)",
        "effective": "their effective number",
        "seconds": "planning and training, mean over seeds",
        **_ENDS,
    },
    # x = rho_pre, y = value, colour = mode; facets by n and evaluation.
    "dose_response": {
        **_WHO,
        "rho_pre": "probability that a role was drawn with its tied gender in pretraining; 0.5 plants nothing",
        "rho_down": "the same in the data of adaptation",
        "n": "images of adaptation",
        "evaluation": "standard (all test images), all_cued (each scene with the tied gender) or all_clean (with the other one)",
        "metric": "flip_rate, delta_p, accuracy, worst_group or fpr_difference",
        **_with_interval("value", "mean over seeds"),
        "seed_sd": "standard deviation over seeds",
        "seeds": "number of seeds",
        **_ENDS,
    },
    # x = auc, y = fpr_difference, one line per model ordered by phi; ring where matching, dotted line at 0.
    "overwriting": {
        **_WHO,
        "selection": "same_n, subselect or weights",
        "phi": "association of label and group in the data of adaptation, +1 to -1 in eleven levels",
        "n": "images used",
        **_with_interval("auc", "mean over labels, one against the rest; higher is better"),
        **_with_interval("fpr_difference", "tied minus other group at the base-rate-matched threshold, mean over labels; 0 is fair"),
        **_with_interval("tpr_difference", "the same of the true-positive rate"),
        "matching": "whether phi is the level closest to the association of the test images",
        "seeds": "number of seeds",
        **_ENDS,
    },
    # x = n (log2), y = value, colour = model; the neutral data keep phi at 0.
    "inheritance": {
        **_WHO,
        "rho_pre": "as in dose_response; missing for scratch",
        "phi": "association in the data of adaptation",
        "n": "images of adaptation, 64 to 1024",
        "metric": "auc, fpr_difference, flip_rate or worst_group",
        **_with_interval("value", "mean over seeds"),
        "seeds": "number of seeds",
        **_ENDS,
    },
    # x = planted, y = rank, one point per image; `spearman` is repeated in every row of a ranking.
    "spuriosity_rank": {
        "model": "the CLIP that ranks",
        "cues": "attribute (directions between its levels) or text",
        "concept": "class within which images are ranked",
        "image_id": "of the image",
        "rank": "place in its class over the size of the class, in (0, 1]; 1 shows the cue most",
        "spuriosity": "mean z-score of the cues within the class",
        "planted": "strength of the tied cue in the picture, 0 (other group) or 1 (tied group)",
        **_with_interval("spearman", "rank correlation of rank and planted over all classes"),
        "n": "images ranked",
    },
    # x = artefact, y = worst_group, colour = how + stage2.
    "artefact_sweep": {
        **_WHO,
        "how": "two_stage, uniform or additive",
        "stage2": "erm or resample",
        "artefact": "standard deviation of the generator's pattern, grey levels of 255",
        "stage2_share": "share of the steps that the real images get (two_stage)",
        "metric": "worst_group or auc",
        **_with_interval("value", "mean over seeds"),
        "real_fake": "accuracy of telling synthetic from real embeddings, 0.5 is not at all",
        "seeds": "number of seeds",
        **_ENDS,
    },
    # One row per threshold of the proof.
    "intervention_checks": {
        "task": "vqa, captioning, or empty",
        "intervention": "name, or what is checked",
        "check": "what must hold, in words",
        "kind": "hold (must), or explain (written down with its measured value when missed)",
        "threshold": "number",
        "direction": ">= or <=",
        "measured": "number, mean over seeds",
        "seed_sd": "of the measured number",
        "seeds": "number of seeds",
        "passed": "bool",
        "explanation": "of a missed one",
    },
}  # fmt: skip


def table(name: str, rows: Iterable[Mapping[str, object]]) -> pd.DataFrame:
    """Return rows as one of the tables, with all of its columns in order; what is not given is missing.

    Parameters
    ----------
    name : str
        One of `TABLES`.
    rows : iterable of mapping

    Raises
    ------
    ValueError
        A row has a column that the table does not have, or a value is missing without a status that says why.
    """
    columns = TABLES[name]
    given = list(rows)
    unknown = {key for row in given for key in row} - set(columns)
    if unknown:
        raise ValueError(f"table {name!r} has no columns {sorted(unknown)}")
    frame = pd.DataFrame(given, columns=list(columns))
    if "status" in columns:
        frame["status"] = frame["status"].astype(object).where(frame["status"].notna(), "ok")
        frame["reason"] = frame["reason"].astype(object).where(frame["reason"].notna(), "")
        main = "value" if "value" in columns else "auc"
        silent = frame[main].isna() & ((frame["status"] == "ok") | (frame["reason"] == ""))
        if silent.any():
            raise ValueError(f"table {name!r}: no value and no reason in {frame[silent].iloc[0].to_dict()}")
    return frame
