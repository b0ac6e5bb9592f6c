"""Plans, their records and what is refused, on planted task data and a tiny head."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from planted import ASKED, GENDERS, JOBS, draw, material, task

from clipbias.errors import ClipbiasError, DataError
from clipbias.tasks.heads.base import Features, Head, HeadSetting, Prediction
from clipbias.tasks.interventions import (
    about,
    cells_of,
    dfr,
    entropy_balance,
    intervention_names,
    jtt,
    lff,
    low_spuriosity_head,
    mix_embeddings,
    parse,
    rank_by_spuriosity,
    rebalance,
    register,
    reweight,
    twins_of,
)
from clipbias.tasks.plan import Batch, Plan
from clipbias.tasks.predict import predict
from clipbias.tasks.recipe import Training
from clipbias.tasks.train import train

ANSWERS = (*JOBS, *GENDERS)
SHORT = Training(
    steps=50, batch_size=64, learning_rate=0.03, evaluations=2, patience=9, checkpoint_seconds=99
)


class PlantedHead(Head):
    """Answers from the pooled embedding, with one layer per question."""

    def __init__(self, setting):
        super().__init__(setting)
        self.projector = torch.nn.Linear(setting.pooled_width, setting.pooled_width)
        self.classifier = torch.nn.Linear(setting.pooled_width, 2 * len(ANSWERS))

    def _logits(self, features, texts):
        both = self.classifier(torch.tanh(self.projector(features.pooled * 3))).reshape(-1, 2, len(ANSWERS))
        which = torch.tensor([int(q == ASKED) for q in texts.questions])
        return both[torch.arange(len(both)), which]

    def losses(self, features, texts):
        target = torch.tensor([ANSWERS.index(t) for t in texts.targets])
        return torch.nn.functional.cross_entropy(self._logits(features, texts), target, reduction="none")

    def answer_probabilities(self, features, texts):
        return self._logits(features, texts).softmax(1)

    def predict(self, features, texts, *, beams=1):
        best = self.answer_probabilities(features, texts).max(1)
        return [Prediction(ANSWERS[int(i)], float(p)) for p, i in zip(best.values, best.indices, strict=True)]


def built(width=24):
    torch.manual_seed(0)
    return PlantedHead(HeadSetting("vqa", width, 4, None, ANSWERS))


def run(plan: Plan, data, encoder):
    head = built()
    stages = [material(stage.data or data, encoder) for stage in plan.stages]
    train(head, stages, material(data, encoder, "val"), plan=plan, training=SHORT)
    return head, predict(head, material(data, encoder, "test"), plan=plan)


@pytest.fixture(scope="module")
def world():
    return task()


# -- names, options, twins -----------------------------------------------------------------------


def test_every_intervention_has_its_file_and_twins_that_can_be_had():
    names = intervention_names()
    assert len(names) == 12
    for name in names:
        said = about(name)
        assert said.title
        assert said.source
        assert said.null
        assert said.expect
        for twin in twins_of(name + ":seed=3,attribute=gender").values():
            assert parse(twin).seed == 3
            assert parse(twin).attribute == "gender"


def test_options_of_the_command_line():
    assert parse("rebalance:phi=-0.2,mode=weights") == rebalance(phi=-0.2, mode="weights")
    assert parse("rebalance:phi=natural").phi == "natural"
    assert parse("jtt").weight == "select"
    assert str(rebalance(phi=0.5)) == "rebalance:phi=0.5"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rebalanse", "Did you mean 'rebalance'"),
        ("rebalance:phy=0", "Did you mean 'phi'"),
        ("rebalance:phi=x", "phi cannot be 'x'"),
        ("rebalance:phi", "not option=value"),
        ("rebalance:phi=0,phi=1", "twice"),
        ("group_dro:eta=-1", "eta cannot be '-1'"),
        ("reweight:objective=jont", "objective cannot be 'jont'"),
    ],
)
def test_one_clear_error(text, message):
    with pytest.raises(ClipbiasError, match=message):
        parse(text)


def test_importing_needs_no_torch():
    code = "import sys, clipbias.tasks.interventions as i; i.parse('rebalance:phi=0'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_new_intervention_is_one_class():
    with pytest.raises(DataError, match="no option"):
        register(type("Own", (reweight,), {"name": "own", "__annotations__": {}, "__module__": __name__}))(
            nothing=1
        )
    from clipbias.tasks.interventions import base

    base._KINDS.pop("own")


# -- groups --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["vqa", "captioning"])
def test_groups_are_label_and_attribute_and_unknown_is_a_level(kind):
    data, _, groups = task(unknown=0.2, kind=kind)
    cells = cells_of(data, groups, "train")
    assert cells.labels == JOBS
    assert cells.groups == (*GENDERS, "unknown")
    assert 0.7 < cells.known.mean() < 0.9
    assert cells.asked.sum() == len(cells)
    index, weights = cells.examples(np.array([3, 3]), np.array([1.0, 2.0]))
    per = 2 if kind == "vqa" else 1
    assert data.split("train")["image_id"].iloc[index].tolist() == ["i3"] * 2 * per
    assert weights.tolist() == [1.0] * per + [2.0] * per
    assert reweight().plan(data, None, groups).stages[0].weights.shape == (400 * per,)


def test_no_group_labels_are_refused(world):
    data, encoder, groups = world
    with pytest.raises(DataError, match="no protected attribute"):
        reweight().plan(data, encoder, groups[["image_id"]])
    unknown = groups.assign(gender="unknown")
    with pytest.raises(DataError, match="needs group labels|need group labels|needs group"):
        reweight().plan(data, encoder, unknown)
    with pytest.raises(DataError, match="Did you mean 'gender'"):
        reweight(attribute="gendr").plan(data, encoder, groups)
    with pytest.raises(DataError, match="nobody asks"):
        reweight(label="who?").plan(data, encoder, groups)
    with pytest.raises(DataError, match="vqa, not captioning"):
        parse("calibrate_posterior").plan(*task(kind="captioning"))


def test_a_missing_cell_is_refused():
    data, encoder, groups = task(rho=1.0)
    with pytest.raises(DataError, match="missing"):
        rebalance().plan(data, encoder, groups)


def test_weights_that_rest_on_few_images_are_refused():
    data, encoder, groups = task(n_train=3000, rho=0.9995)
    with pytest.raises(DataError, match="count like"):
        reweight().plan(data, encoder, groups)


# -- plans ---------------------------------------------------------------------------------------


def test_the_record_says_what_was_seen_and_used(world):
    data, encoder, groups = world
    plan = rebalance(phi=0).plan(data, encoder, groups)
    record = plan.record
    assert record["seen in training"] == "label, group"
    assert record["seen in selection"] == record["seen at test"] == "none"
    assert record["images used"] < 200
    assert record["effective images"] == record["images used"]
    assert abs(record["association"]) <= 2 / record["images used"] + 1e-4
    assert record["planning seconds"] >= 0
    rows = data.split("train").iloc[plan.stages[0].index]
    table = groups.set_index("image_id")["gender"].astype(str)
    jobs = rows[rows["question"] == ASKED]
    counts = pd.crosstab(jobs["target"].to_numpy(), table[jobs["image_id"]].to_numpy()).to_numpy()
    assert counts.max() - counts.min() <= 1
    natural = rebalance(phi="natural").plan(data, encoder, groups)
    assert natural.record["images used"] == record["images used"]
    assert natural.record["association"] > 0.5
    assert "shuffled" in rebalance(shuffled=True).plan(data, encoder, groups).record["groups"]


@pytest.mark.parametrize(
    "text",
    [
        *(
            "rebalance:mode=weights",
            "rebalance:phi=0.2,mode=subselect",
            "reweight",
            "resample:how=down",
            "group_dro",
            "jtt",
            "lff",
        ),
        *("dfr:draws=2,steps=5", "low_spuriosity_head:steps=3,k=10", "mix_embeddings", "calibrate_posterior"),
        *("entropy_balance", "entropy_balance:kappa=0.5"),
    ],
)
def test_each_plan_trains_and_is_repeatable(world, text):
    data, encoder, groups = world
    first, second = (run(parse(text).plan(data, encoder, groups), data, encoder)[1] for _ in range(2))
    pd.testing.assert_frame_equal(first, second)
    right = first["prediction"] == data.split("test")["target"].to_numpy()
    assert right.mean() > 0.6


def test_lff_and_jtt_without_their_weights_are_plain_training(world):
    data, encoder, groups = world
    plain, _ = run(Plan(), data, encoder)
    for one in (lff(weights="one"), jtt(weight=1)):
        head, _ = run(one.plan(data, encoder, groups), data, encoder)
        for mine, theirs in zip(head.parameters(), plain.parameters(), strict=True):
            assert torch.allclose(mine, theirs, atol=1e-5)


def test_hooks_keep_their_state():
    from clipbias.tasks.interventions.hooks import GroupDROLoss, LfFLoss

    groups, rng = np.array([0, 1, 1, 0]), np.random.default_rng(0)
    batch = Batch(np.arange(4), torch.ones(4), 0, rng)
    losses = torch.tensor([1.0, 3.0, 3.0, 1.0], requires_grad=True)
    still = GroupDROLoss(groups, np.array([2, 2]), eta=0)
    assert float(still(losses, batch).detach()) == pytest.approx(2)  # the mean of the groups' means
    moved = GroupDROLoss(groups, np.array([2, 2]), eta=1)
    assert float(moved(losses, batch).detach()) > 2
    again = GroupDROLoss(groups, np.array([2, 2]), eta=1)
    again.load_state_dict(moved.state_dict())
    assert again.q == pytest.approx(moved.q)

    x, job, _, _ = draw(4, 0.5, 0)
    job = np.array([0, 1, 0, 1])
    one, two = (LfFLoss(x, job, np.arange(4), np.ones(4, bool)) for _ in range(2))
    one(losses, batch)
    two.load_state_dict(one.state_dict())
    assert float(one(losses, batch).detach()) == pytest.approx(float(two(losses, batch).detach()))


def test_mixing_what_the_head_sees(world):
    from clipbias.tasks.interventions.hooks import MixFeatures

    data, encoder, groups = world
    cells, shown = cells_of(data, groups, "train"), material(data, encoder)
    index = np.arange(40)
    given = shown.features(index)

    def batch():
        return Batch(index, torch.ones(40), 0, np.random.default_rng(1), shown.features)

    pool = np.array([np.flatnonzero(cells.label == code)[0] for code in (0, 1)])
    same = MixFeatures(cells, pool, s=0)(given, batch())
    assert torch.equal(same.pooled, given.pooled)
    found = MixFeatures(cells, pool, s=1)(given, batch())
    asked = cells.asked[index]
    assert torch.equal(found.pooled[~asked], given.pooled[~asked])
    expected = torch.as_tensor(encoder(cells.rows[pool]))[cells.label[cells.home[index]]]
    assert torch.allclose(found.pooled[asked], expected[asked])
    half = MixFeatures(cells, pool, s=0.5)(given, batch())
    assert torch.allclose(half.tokens[asked], (given.tokens + found.tokens)[asked] / 2)
    with pytest.raises(ClipbiasError, match="cannot be had"):
        MixFeatures(cells, pool, s=1)(given, Batch(index, torch.ones(40), 0, np.random.default_rng(1)))


def test_held_out_images_are_not_trained_on(world):
    data, encoder, groups = world
    for one in (dfr(share=0.25), low_spuriosity_head(share=0.25), mix_embeddings(s=0.5, share=0.25)):
        plan = one.plan(data, encoder, groups)
        used = set(data.split("train")["image_id"].iloc[plan.stages[0].index])
        assert len(used) == pytest.approx(300, abs=4)
    low = low_spuriosity_head(k=10).plan(data, encoder, groups).record
    assert low["minority share"] > 2 * low["minority share of all"]
    random = low_spuriosity_head(k=10, choose="random").plan(data, encoder, groups).record
    assert random["minority share"] < low["minority share"] - 0.2


def test_the_part_that_is_tuned(world):
    from clipbias.tasks.interventions.refit import last_part, tune

    data, encoder, _ = world
    head = built()
    before = [p.detach().clone() for p in head.parameters()]
    done = tune(
        head, material(data, encoder), np.arange(50), steps=9, rate=0.1, seed=0, stop=lambda n: n == 4
    )
    assert done == 4
    moved = [not torch.equal(p, q) for p, q in zip(head.parameters(), before, strict=True)]
    assert moved == [False, False, True, True]
    assert all(p.requires_grad for p in head.parameters())
    assert [name for name, _ in last_part(head, "projector")] == ["projector.weight", "projector.bias"]
    with pytest.raises(ClipbiasError, match="Did you mean 'projector'"):
        last_part(head, "projectr")


def test_calibration_acts_on_the_asked_answers_only(world):
    data, encoder, groups = world
    plan = parse("calibrate_posterior:member=labels,margin=0.01").plan(data, encoder, groups)
    assert plan.record["seen at test"] == "group"
    test = data.split("test")
    p = (
        torch.full((len(test), 4), 0.25)
        + torch.rand(len(test), 4, generator=torch.Generator().manual_seed(0)) * 0.1
    )
    p = p / p.sum(1, keepdim=True)
    q = plan.posterior(p, test)
    other = (test["question"] != ASKED).to_numpy()
    assert torch.equal(q[other], p[other])
    assert plan.posterior.last.violated_before == 2
    assert plan.posterior.last.violated_after == 0


def test_entropy_balancing_of_what_is_said():
    data, encoder, groups = task(kind="captioning", rho=0.7)
    record = entropy_balance().plan(data, encoder, groups).record
    assert record["words"] == 2
    assert record["strongest association after"] < 1e-8 < record["strongest association before"]


def test_ranks_follow_the_planted_cue():
    from scipy.stats import spearmanr

    x, job, gender, strength = draw(600, 0.9, 5)
    data, _, _ = task(n_train=600)
    images = data.images.take(np.arange(600))
    table = images.table.assign(
        role=np.array(JOBS, object)[job], gender=pd.Categorical(np.array(GENDERS, object)[gender])
    )
    images = type(images)("ranked", table, ("gender",), images.read)
    found = rank_by_spuriosity(images, "role", x, attribute="gender")
    planted = np.where(job == 1, 1, -1) * (2 * gender - 1) * strength
    for code in (0, 1):
        mine = job == code
        assert spearmanr(found["spuriosity"][mine], planted[mine]).statistic > 0.6
        assert sorted(found["rank"][mine]) == list(range(mine.sum()))
    assert set(found["cues"]) == set(GENDERS)
    with pytest.raises(DataError, match="need a CLIP"):
        rank_by_spuriosity(images, "role", x, cues=["a man"])
    with pytest.raises(DataError, match="no column"):
        rank_by_spuriosity(images, "rol", x)


@pytest.fixture
def fakes(monkeypatch):
    """Synthetic data that are planted features of their own, with nothing tied."""
    from dataclasses import replace

    from clipbias.tasks.interventions import synthetic

    made, encoder, _ = task(n_train=300, rho=0.5, seed=7)
    table = made.images.table.assign(image_id="s" + made.images.table["image_id"])
    examples = made.examples.assign(
        image_id="s" + made.examples["image_id"], example_id="s" + made.examples["example_id"]
    )
    made = replace(made, images=replace(made.images, table=table), examples=examples)
    monkeypatch.setattr(synthetic, "synthetic_data", lambda *a, **k: made)
    return made, encoder


@pytest.mark.parametrize("stage2", ["erm", "resample", "group_dro", "dfr"])
def test_synthetic_images_first(world, fakes, stage2):
    data, encoder, groups = world
    plan = parse(f"synthetic_then_real:stage2={stage2}").plan(data, encoder, groups)
    first, second = plan.stages
    assert first.data is fakes[0]
    assert second.data is None
    rows = fakes[0].split("train").iloc[first.index]
    cells = cells_of(fakes[0], fakes[0].images.table[["image_id", "gender"]], "train")
    place = dict(zip((fakes[0].images.ids[r] for r in cells.rows), cells.joint, strict=True))
    counts = rows[rows["question"] == ASKED]["image_id"].map(place).value_counts()
    assert counts.max() - counts.min() <= 1
    assert (plan.refit is not None) == (stage2 == "dfr")
    assert data.split("train")["image_id"].iloc[second.index].isin(data.images.ids).all()


@pytest.mark.parametrize("how", ["uniform", "additive"])
def test_one_stage_on_both(world, fakes, how):
    data, encoder, groups = world
    two = parse("synthetic_then_real").plan(data, encoder, groups)
    plan = parse(f"synthetic_then_real:how={how},stage2=erm").plan(data, encoder, groups)
    assert plan.record["synthetic images"] == two.record["synthetic images"]
    (stage,) = plan.stages
    both = stage.data.split("train")
    used = both.iloc[stage.index]
    jobs = used[used["question"] == ASKED]
    table = stage.data.images.table.set_index("image_id")["gender"].astype(str)
    counts = pd.crosstab(jobs["target"].to_numpy(), table[jobs["image_id"]].to_numpy()).to_numpy()
    assert jobs["image_id"].str.startswith("s").sum() == plan.record["synthetic images"]
    if how == "uniform":
        assert len(set(counts.ravel())) == 1
    doubled = parse(f"synthetic_then_real:how={how},stage2=resample").plan(data, encoder, groups)
    assert doubled.stages[0].data is not None
    with pytest.raises(DataError, match="held-out"):
        parse(f"synthetic_then_real:how={how},stage2=dfr").plan(data, encoder, groups)


def test_without_a_generator_a_folder_is_needed(world, tmp_path):
    data, encoder, groups = world
    with pytest.raises(DataError, match="folder=PATH"):
        parse("synthetic_then_real").plan(data, encoder, groups)
    with pytest.raises(DataError, match="which is not there"):
        parse(f"synthetic_then_real:folder={tmp_path}").plan(data, encoder, groups)


def test_the_mark_of_a_generator_is_the_same_on_every_image():
    import io

    from PIL import Image

    from clipbias.data.imageset import ImageSet
    from clipbias.tasks.interventions import with_artefact

    def png(level):
        file = io.BytesIO()
        Image.new("RGB", (24, 24), (level,) * 3).save(file, "PNG")
        return file.getvalue()

    table = pd.DataFrame({"image_id": ["a", "b"]})
    images = ImageSet("grey", table, (), lambda rows: [png(100 + 20 * r) for r in rows])
    assert with_artefact(images, 0) is images
    one, two = (np.asarray(with_artefact(images, 8).image(r), float) for r in (0, 1))
    assert np.array_equal(one - 100, two - 120)
    assert 5 < (one - 100).std() < 11


@pytest.mark.slow
def test_synthetic_scenes_of_the_world_in_another_style(tmp_path, monkeypatch):
    from clipbias.tasks.interventions import synthetic_data
    from clipbias.tasks.world import world_data

    monkeypatch.setenv("CLIPBIAS_CACHE", str(tmp_path))
    real = world_data("captioning", n_train=60, n_val=10, crossed=1, size=16, rho=0.95, cache=tmp_path)
    fake = synthetic_data(real, n=60, artefact=5)
    train = fake.images.table.set_index("image_id").loc[fake.split("train")["image_id"].unique()]
    assert set(train["style"].astype(str)).isdisjoint(set(real.images.table["style"].astype(str)))
    assert not set(fake.images.ids) & set(real.images.ids)
    assert len(fake.images.read([0])[0]) > 0


def test_features_are_of_the_heads_width(world):
    data, encoder, _ = world
    shown = material(data, encoder).features(np.arange(3))
    assert isinstance(shown, Features)
    assert tuple(shown.pooled.shape) == (3, 24)
