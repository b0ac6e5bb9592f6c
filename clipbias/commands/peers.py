"""``clipbias peers spuco``: three systems of SpuCo beside ours, on the same embeddings of the same planted data."""

from __future__ import annotations

import argparse
import importlib
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from clipbias.commands.common import command_parser, run_command

HOW = (
    "SpuCo is not installed. It needs an environment of its own, as it brings old pins along: "
    "`python -m venv peers`, `peers/bin/pip install clipbias spuco`, `peers/bin/clipbias peers spuco`."
)
EPOCHS, BATCH, RATE, DECAY = 10, 128, 3e-3, 1e-4


def parser() -> argparse.ArgumentParser:
    """Return the parser of the verb."""
    made = command_parser(
        "peers",
        "Run DFR, DISPEL and GroupDRO of SpuCo (Joshi et al., 2023) and ours on the same embeddings, splits and penalties, and "
        "compare the accuracy of the worst group. They agree if the mean difference over seeds is within two standard deviations "
        "of the seeds. SpuCo is never a dependency.",
        examples=["clipbias peers spuco", "clipbias peers spuco --seeds 3 --model zoo:vit-95"],
    )
    made.add_argument("peer", choices=["spuco"], help="with whom")
    made.add_argument(
        "--seeds", type=int, default=5, metavar="N", help="seeds, two at least (default: %(default)s)"
    )
    made.add_argument(
        "--model", default="zoo:resnet-95", metavar="SPEC", help="whose embeddings (default: %(default)s)"
    )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb; return 0 if all three agree, 1 if not, 2 where SpuCo is missing."""
    options = parser().parse_args(list(sys.argv[1:] if argv is None else argv))
    return run_command(lambda: _main(options))


def _main(options: argparse.Namespace) -> int:
    import pandas as pd

    from clipbias.commands.tables import print_table
    from clipbias.errors import DataError

    if options.seeds < 2:
        raise DataError(f"seed noise needs two seeds or more, not {options.seeds}.")
    peer = load()
    rows = []
    for seed in range(options.seeds):
        sample = Sample.of(options.model, seed)
        for name, (theirs, ours) in SYSTEMS.items():
            a, b = theirs(peer, sample, seed), ours(sample, seed)
            print(f"{name}, seed {seed}: SpuCo {a:.3f}, clipbias {b:.3f}", file=sys.stderr, flush=True)
            rows.append({"system": name, "seed": seed, "spuco": a, "clipbias": b})
    found = agreement(pd.DataFrame(rows))
    print_table(found.round(3), title="accuracy of the worst group, test images")
    return int(not found["agree"].all())


def load() -> Any:
    """Return SpuCo's modules as one namespace.

    Raises
    ------
    DataError
        It is not installed, or cannot be imported.
    """
    from clipbias.errors import DataError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            last = importlib.import_module("spuco.last_layer_retrain")
            dro = importlib.import_module("spuco.robust_train.group_dro")
            sets = importlib.import_module("spuco.datasets")
            models = importlib.import_module("spuco.models")
    except ImportError as problem:
        missing = getattr(problem, "name", "") or ""
        more = "" if missing.split(".")[0] == "spuco" else f" ({problem})"
        raise DataError(HOW + more) from problem
    return argparse.Namespace(
        DFR=last.DFR, DISPEL=last.DISPEL, GroupDRO=dro.GroupDRO, Labelled=sets.GroupLabeledDatasetWrapper, Model=models.SpuCoModel
    )  # fmt: skip


def agreement(found: Any) -> Any:
    """Return per system the means, the mean difference and whether it lies within two seed standard deviations.

    Parameters
    ----------
    found : DataFrame
        ``system, seed, spuco, clipbias``.
    """
    import numpy as np
    import pandas as pd

    rows = []
    for name, part in found.groupby("system", sort=False):
        difference = (part["clipbias"] - part["spuco"]).to_numpy(float)
        noise = float(np.sqrt((part["clipbias"].var(ddof=1) + part["spuco"].var(ddof=1)) / 2))
        rows.append(
            {"system": name, "spuco": part["spuco"].mean(), "clipbias": part["clipbias"].mean(), "difference": difference.mean(),
             "seed_sd": noise, "seeds": len(part), "agree": bool(abs(difference.mean()) <= 2 * noise)}
        )  # fmt: skip
    return pd.DataFrame(rows)


class Sample:
    """Embeddings, labels and cells of four sets: training, held out with groups, selection, and test."""

    def __init__(self, x: dict[str, Any], y: dict[str, Any], g: dict[str, Any]) -> None:
        self.x, self.y, self.g = x, y, g

    @classmethod
    def of(cls, model: str, seed: int) -> Sample:
        """Return the sample of one seed, from the embeddings of a CLIP."""
        import numpy as np

        from clipbias.tasks.interventions.proof.ground import GROUPS, PAIR, Embeddings, ground

        data = ground("vqa", seed=seed)
        values, table = Embeddings(model).of(data.images), data.images.table
        rows = {split: np.unique(data.image_rows(data.split(split))) for split in ("train", "val", "test")}
        mixed = np.random.default_rng([seed, 3]).permutation(rows["train"])
        rows |= {"train": mixed[: len(mixed) // 2], "held": mixed[len(mixed) // 2 :]}
        y = np.array([PAIR.index(role) for role in table["role"].astype(str)])
        a = np.array([GROUPS.index(gender) for gender in table["gender"].astype(str)])
        return cls(
            *(
                {name: what[mine] for name, mine in rows.items()}
                for what in (values.astype(np.float32), y, 2 * y + a)
            )
        )

    def worst(self, right: Any) -> float:
        """Return the accuracy of the worst cell of the test set."""
        from clipbias.tasks.interventions import worst_group

        return worst_group(right, self.g["test"])

    def labelled(self, peer: Any, name: str) -> Any:
        """Return a set as SpuCo's data set with group labels."""
        import numpy as np
        import torch

        class Pairs(torch.utils.data.TensorDataset):
            pass

        pairs = Pairs(torch.from_numpy(self.x[name]), torch.from_numpy(self.y[name]))
        cells = {
            (int(c) // 2, int(c) % 2): np.flatnonzero(self.g[name] == c).tolist()
            for c in np.unique(self.g[name])
        }
        return peer.Labelled(pairs, cells)


def _seeded(seed: int) -> None:
    import random

    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - SpuCo draws from it
    torch.manual_seed(seed)


def _last_layer(kind: str) -> Callable[[Any, Sample, int], float]:
    def theirs(peer: Any, sample: Sample, seed: int) -> float:
        import numpy as np
        import torch
        from torch import nn

        model = peer.Model(nn.Identity(), sample.x["train"].shape[1], 2)
        more: dict[str, Any] = {}
        if kind == "DISPEL":
            more = {"s_range": [1.0, 0.9, 0.8, 0.7], "group_unlabeled_set": _plain(sample)}
        system = getattr(peer, kind)(
            group_labeled_set=sample.labelled(peer, "held"), model=model, validation_set=sample.labelled(peer, "val"),
            data_for_scaler=_plain(sample), n_lin_models=20, **more,
        )  # fmt: skip

        def encode(dataset: Any) -> tuple[Any, ...]:
            # Its own starts four processes for each of these small sets.
            rows = [dataset[i] for i in range(len(dataset))]
            first = torch.stack([row[0] for row in rows])
            return first, *(torch.tensor([int(row[k]) for row in rows]) for k in range(1, len(rows[0])))

        system.encode_dataset = encode
        _seeded(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            system.train()
        _, coef, intercept, scaler = system.linear_model
        scores = scaler.transform(sample.x["test"]) @ np.asarray(coef).T + np.asarray(intercept)
        return sample.worst((scores[:, 0] > 0).astype(int) == sample.y["test"])

    return theirs


def _plain(sample: Sample) -> Any:
    import torch

    return torch.utils.data.TensorDataset(
        torch.from_numpy(sample.x["train"]), torch.from_numpy(sample.y["train"])
    )


def _our_dfr(sample: Sample, seed: int) -> float:
    from clipbias.tasks.interventions.dfr import STRENGTHS
    from clipbias.tasks.interventions.probe import Scaler, average, balanced_rows, fit_probe, judged

    x, y, g = sample.x["held"], sample.y["held"], sample.g["held"]
    scaler = Scaler.of(sample.x["train"])

    def fit(strength: float, draw: int) -> Any:
        rows = balanced_rows(g, seed=[seed, 41, draw], labels=y)
        return fit_probe(x[rows], y[rows], strength=strength, scaler=scaler, seed=seed)

    # Chosen on the selection set, as SpuCo does when it is given one.
    best = max(
        STRENGTHS, key=lambda c: judged(fit(c, 0), sample.x["val"], sample.y["val"], sample.g["val"] % 2)[0]
    )
    probe = average([fit(best, draw) for draw in range(20)])
    return sample.worst(probe.predict(sample.x["test"]) == sample.y["test"])


def _our_dispel(sample: Sample, seed: int) -> float:
    import numpy as np

    from clipbias.tasks.interventions import mix_probe
    from clipbias.tasks.interventions.dfr import STRENGTHS
    from clipbias.tasks.interventions.probe import Scaler

    def of(*names: str) -> tuple[Any, Any, Any]:
        return tuple(
            np.concatenate([what[n] for n in names])
            for what in (sample.x, sample.y, {n: sample.g[n] % 2 for n in names})
        )  # type: ignore[return-value]

    scaler, more = Scaler.of(sample.x["train"]), of("train")[:2]
    common: dict[str, Any] = {"unlabelled": more, "scaler": scaler, "seed": seed}
    chosen = mix_probe(
        *of("held"), selection=of("val"), s=(1.0, 0.9, 0.8, 0.7), strengths=STRENGTHS, draws=1, **common
    )
    # SpuCo's last fit takes the selection set in; so does ours here.
    last = mix_probe(
        *of("held", "val"), selection=of("val"), s=chosen.s, strengths=(chosen.strength,), draws=20, **common
    )
    return sample.worst(last.probe.predict(sample.x["test"]) == sample.y["test"])


def _linear(sample: Sample, seed: int) -> tuple[Any, Any]:
    import torch
    from torch import nn

    _seeded(seed)
    width = sample.x["train"].shape[1]
    model = nn.Linear(width, 2)
    return model, torch.optim.Adam(model.parameters(), lr=RATE, weight_decay=DECAY)


def _their_dro(peer: Any, sample: Sample, seed: int) -> float:
    import torch

    model, optimizer = _linear(sample, seed)
    data = sample.labelled(peer, "train")
    system = peer.GroupDRO(model, data, BATCH, optimizer, EPOCHS)
    # One process: its own starts four for every epoch.
    system.trainer.trainloader = torch.utils.data.DataLoader(data, BATCH, sampler=system.trainer.sampler)
    _seeded(seed)
    system.train()
    return _right(model, sample)


def _our_dro(sample: Sample, seed: int) -> float:
    import numpy as np
    import torch
    from torch import nn

    from clipbias.tasks.batches import batch_of
    from clipbias.tasks.interventions.hooks import GroupDROLoss
    from clipbias.tasks.interventions.resample import resample_rows
    from clipbias.tasks.plan import Batch

    model, optimizer = _linear(sample, seed)
    x, y, g = (what["train"] for what in (sample.x, sample.y, sample.g))
    index = resample_rows(y, g % 2, seed=seed)
    hook = GroupDROLoss(g, np.bincount(g))
    # As many steps: an epoch of SpuCo's draws as many images as there are.
    for step in range(EPOCHS * -(-len(y) // BATCH)):
        rows = batch_of(index, step, BATCH, [seed, 0])
        losses = nn.functional.cross_entropy(
            model(torch.from_numpy(x[rows])), torch.from_numpy(y[rows]), reduction="none"
        )
        loss = hook(losses, Batch(rows, torch.ones(len(rows)), step, np.random.default_rng([seed, step])))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return _right(model, sample)


def _right(model: Any, sample: Sample) -> float:
    import torch

    with torch.no_grad():
        said = model(torch.from_numpy(sample.x["test"])).argmax(1).numpy()
    return sample.worst(said == sample.y["test"])


SYSTEMS: dict[str, tuple[Callable[[Any, Sample, int], float], Callable[[Sample, int], float]]] = {
    "DFR": (_last_layer("DFR"), _our_dfr), "DISPEL": (_last_layer("DISPEL"), _our_dispel), "GroupDRO": (_their_dro, _our_dro),
}  # fmt: skip
