import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from clipbias import content
from clipbias.analysis.questions import load_questions, parse
from clipbias.analyze import analyze, main
from clipbias.errors import DataError
from clipbias.results import rows
from clipbias.results.run import RunFolder, new_manifest

FAMILIES = ("vit", "resnet", "convnext")


def result_rows(rng, models, truth, *, extrinsic, views=("global",), interventions=("",), noise=0.05):
    out = []
    for i, m in enumerate(models):
        for attribute, strength in (("gender", 1.0), ("tone", 0.0)):
            for view in views:
                for k, intervention in enumerate(interventions):
                    local = 0.0 if view == "global" else 0.1
                    bias = strength * truth[i] * (1 - 0.2 * k) + 0.3
                    key = {
                        "model": m,
                        "attribute": attribute,
                        "view": view,
                        "intervention": intervention,
                        "image_set": "world-people",
                    }
                    for metric in ("group_gap", "flip_rate") if extrinsic else ("max_skew", "ndkl"):
                        for mode in ("frozen", "full") if extrinsic else ("",):
                            for probe in ("",) if extrinsic else ("", "doctor", "nurse", "pilot", "farmer"):
                                value = (
                                    (0.3 if mode == "full" else bias)
                                    + noise * rng.normal()
                                    + local * rng.normal()
                                )
                                stage = (
                                    {"stage": "post", "task": "captioning", "mode": mode}
                                    if extrinsic
                                    else {"stage": "pre"}
                                )
                                out.append(
                                    key
                                    | stage
                                    | {
                                        "metric": metric,
                                        "probe": probe,
                                        "value": abs(value),
                                        "n": 100,
                                        "protocol": "x",
                                    }
                                )
    return rows.table(out)


@pytest.fixture
def tables():
    rng = np.random.default_rng(0)
    models = [f"{f}-{i}" for f in FAMILIES for i in range(6)]
    truth = np.tile(np.linspace(0, 1, 6), 3)
    return {
        "intrinsic": result_rows(rng, models, truth, extrinsic=False, views=("global", "beach", "city")),
        "extrinsic": result_rows(rng, models, truth, extrinsic=True),
        "models": pd.DataFrame(
            {
                "model": models,
                "family": np.repeat(FAMILIES, 6),
                "parameters": rng.normal(size=18),
                "planted_rho": truth,
                "planted_context": "",
            }
        ),
        "views": pd.DataFrame(
            {"view": ["global", "beach", "city"], "kind": ["global", "metadata", "metadata"]}
        ),
    }


@pytest.fixture
def states():
    rng = np.random.default_rng(1)
    shared = rng.normal(size=(40, 6))
    ids = [f"i{k}" for k in range(40)]
    out = {}
    for f in FAMILIES:
        for i in range(3):
            own, mix = rng.normal(size=(40, 6)), rng.normal(size=(6, 10))
            for layer, pull in (("tower", 0.0), ("decoder", 3.0)):
                out[f"{f}-{i}", layer, "pre"] = (ids, (own + 0.5 * shared) @ mix)
                out[f"{f}-{i}", layer, "post"] = (ids, (own + (0.5 + pull) * shared) @ mix)
    return out


def question(name, **changes):
    found = load_questions([name])[0]
    spec = json.loads(json.dumps(found.spec))
    for path, value in changes.items():
        section, key = path.split("__")
        spec.setdefault(section, {})[key] = value
    spec.setdefault("test", {})["resamples"] = 499
    return parse(name, spec, where=f"{name}.toml")


def primary(found):
    return found["verdicts"][found["verdicts"]["primary"]].reset_index(drop=True)


def test_transfer_has_a_verdict_for_each_mode(tables):
    found = analyze(tables, questions=[question("transfer")])
    verdicts = primary(found)
    frozen = verdicts[verdicts["subject"].str.contains("mode frozen")].iloc[0]
    assert frozen["verdict"] == "related"
    assert frozen["n"] == 18
    assert "controlled for parameters" in frozen["subject"]
    full = verdicts[verdicts["subject"].str.contains("mode full")].iloc[0]
    assert full["verdict"] == "undecided"  # 18 models cannot exclude a correlation of .3
    assert full["detectable_bound"] > 0.6
    assert "confirm none within ±0.3" in full["to_decide"]
    cells = found["transfer"]
    assert len(cells) == 2 * 2 * 2 * 2
    assert cells["minimum_detectable"].notna().all()
    assert {"attribute", "family"} == set(found["heterogeneity"]["grouping"])
    reliability = found["reliability"]
    assert reliability.query("side == 'intrinsic' and attribute == 'gender'")["value"].min() > 0.5
    assert set(found["agreement"]["side"]) == {"intrinsic", "extrinsic"}


def test_transfer_is_split_between_and_within_views(tables):
    rng = np.random.default_rng(5)
    models, truth = list(tables["models"]["model"]), tables["models"]["planted_rho"].to_numpy()
    views = ("global", "beach", "city")
    more = tables | {
        "extrinsic": result_rows(rng, models, truth, extrinsic=True, views=views).query("mode == 'frozen'")
    }
    found = analyze(more, questions=[question("transfer")])["heterogeneity"]
    split = found[(found["grouping"] == "view") & (found["attribute"] == "gender")]
    assert len(split) == 4
    assert (split["groups"] == 3).all()
    assert (split["within"] > 0.5).all()
    rebuilt = split["eta_x"] * split["eta_y"] * split["between"]
    rebuilt += np.sqrt((1 - split["eta_x"] ** 2) * (1 - split["eta_y"] ** 2)) * split["within"]
    assert rebuilt.to_numpy() == pytest.approx(split["total"].to_numpy())


def test_editing_a_bound_a_control_or_the_primary_pair_changes_the_verdict(tables):
    def full(**changes):
        verdicts = primary(analyze(tables, questions=[question("transfer", **changes)]))
        return verdicts[verdicts["subject"].str.contains("mode full")].iloc[0]

    base = full()
    assert full(test__bound=0.95)["verdict"] == "equivalent to none within ±0.95"
    assert full(test__controls=[])["estimate"] != base["estimate"]
    tables["models"]["bias_seen"] = tables["models"]["planted_rho"]
    frozen = primary(analyze(tables, questions=[question("transfer", test__controls=["bias_seen"])])).iloc[0]
    assert frozen["verdict"] != "related"  # what carries the bias is partialled out
    tone = primary(analyze(tables, questions=[question("transfer", primary__attribute="tone")])).iloc[0]
    assert tone["verdict"] == "undecided"
    other = primary(
        analyze(
            tables,
            questions=[
                question("transfer", primary__intrinsic={"image_set": "world-people", "metric": "weat"})
            ],
        )
    ).iloc[0]
    assert other["status"] == "not measured"
    assert "max_skew" in other["reason"]


def test_editing_the_file_changes_the_verdict_table(tables, tmp_path, monkeypatch):
    """The same through the files of a study and the command."""
    run = RunFolder(tmp_path / "run")
    run.write_manifest(new_manifest(command=["test"]))
    for name, frame in tables.items():
        run.write(name, frame)
    study = tmp_path / "study" / "analysis"
    study.mkdir(parents=True)
    text = (
        content.find("analysis", "transfer.toml")
        .read_text()
        .replace("alpha = 0.05", "alpha = 0.05\nresamples = 299")
    )
    seen = []
    for bound in ("0.3", "0.95"):
        (study / "transfer.toml").write_text(text.replace("bound = 0.3", f"bound = {bound}"))
        assert main([str(run.path), "--questions", "transfer", "--study", str(study.parent), "--quiet"]) == 0
        verdicts = run.read("verdicts")
        seen.append(
            verdicts[verdicts["subject"].str.contains("mode full") & verdicts["primary"]]["verdict"].iloc[0]
        )
    assert seen == ["undecided", "equivalent to none within ±0.95"]
    assert "transfer" in run.tables()


def test_global_local(tables):
    found = analyze(tables, questions=[question("global-local")])
    verdict = primary(found).iloc[0]
    assert verdict["verdict"] == "related"
    assert "2 local views" in verdict["subject"]
    assert "least alike" in verdict["reason"]
    assert {"view", "one view"} <= set(found["heterogeneity"]["grouping"])
    only = primary(
        analyze(
            tables | {"intrinsic": tables["intrinsic"].query("view == 'global'")},
            questions=[question("global-local")],
        )
    )
    assert only.iloc[0]["status"] == "not measured"


def test_interventions(tables):
    nothing = primary(analyze(tables, questions=[question("interventions")])).iloc[0]
    assert nothing["status"] == "not measured"
    assert "no intervention beside" in nothing["reason"]
    rng = np.random.default_rng(2)
    models, truth = list(tables["models"]["model"]), tables["models"]["planted_rho"].to_numpy()
    kinds = ("", "mix", "rebalance", "both")
    changed = tables | {
        "intrinsic": result_rows(rng, models, truth, extrinsic=False, interventions=kinds, noise=0.01),
        "extrinsic": result_rows(rng, models, truth, extrinsic=True, interventions=kinds, noise=0.01).query(
            "mode == 'frozen'"
        ),
    }
    verdict = primary(analyze(changed, questions=[question("interventions")])).iloc[0]
    assert verdict["verdict"] == "related"
    assert verdict["unit"] == "model × intervention"
    assert verdict["n"] == 18 * 3


def test_validity_compares_with_the_bound_of_its_file(tables):
    found = load_questions(["validity"])[0]
    spec = {k: v for k, v in found.spec.items() if k != "image_set"} | {"metrics": ["max_skew"], "bound": 0.8}
    verdict = primary(analyze(tables, questions=[parse("validity", spec, where="validity.toml")])).iloc[0]
    assert verdict["verdict"] == "related"
    assert "reaches 0.8" in verdict["reason"]
    higher = primary(
        analyze(tables, questions=[parse("validity", spec | {"bound": 0.9999}, where="validity.toml")])
    ).iloc[0]
    assert higher["verdict"] == "undecided"
    assert "falls short" in higher["reason"]
    lone = primary(analyze({"intrinsic": tables["intrinsic"]}, questions=[found])).iloc[0]
    assert lone["status"] == "not measured"


def test_convergence_from_states(tables, states):
    asked = question("convergence", test__measures=["cka_debiased", "mutual_knn"], test__standardize=False)
    found = analyze(tables, questions=[asked], states=states)
    verdicts = found["verdicts"].set_index("subject")
    decoder = verdicts.loc["states: cka_debiased in layer decoder"]
    assert decoder["primary"]
    assert decoder["estimate"] > 0.3
    assert "untrained adapter, second seed" in decoder["reason"]
    tower = verdicts.loc["states: cka_debiased in layer tower"]
    assert "as in a frozen layer" in tower["reason"]
    assert tower["verdict"].startswith("equivalent")
    table = found["convergence"]
    assert set(table["measure"]) == {"cka_debiased", "mutual_knn"}
    assert table["p_max"].notna().all()
    assert len(found["similarity"]) == 2 * 2 * (18 * 17 // 2)
    named = primary(
        analyze(tables, questions=[question("convergence", primary__layer="towr")], states=states)
    ).iloc[0]
    assert "there are tower, decoder" in named["reason"]
    assert primary(analyze(tables, questions=[asked])).iloc[0]["status"] == "not measured"


def test_the_command_reads_states_of_a_run_folder(tables, states, tmp_path, capsys):
    run = RunFolder(tmp_path / "run")
    run.write_manifest(new_manifest(command=["test"]))
    for name, frame in tables.items():
        run.write(name, frame)
    (run.path / "states").mkdir()
    for model in {k[0] for k in states}:
        for state in ("pre", "post"):
            arrays = {k[1]: np.float32(v[1]) for k, v in states.items() if k[0] == model and k[2] == state}
            about = {
                "model": model,
                "state": state,
                "ids": json.dumps(states[model, "tower", "pre"][0]),
                "disjoint": "true",
            }
            if state == "post":
                about |= {"task": "vqa", "mode": "full"}
            save_file(arrays, run.path / "states" / f"{model}-{state}.safetensors", metadata=about)
    assert main([str(run.path), "--questions", "convergence"]) == 0
    said = capsys.readouterr().out
    assert "MB beyond the input" in said
    assert "vqa full: cka_debiased in layer decoder" in said
    row = run.read("verdicts").query("primary").iloc[0]
    assert "disjoint" not in row["reason"]
    assert main([str(run.path), "--dry-run"]) == 0
    assert "states: 18 files" in capsys.readouterr().out
    (run.path / "states" / "broken.safetensors").write_bytes(b"no")
    assert main([str(run.path), "--questions", "convergence"]) == 2
    assert "is damaged" in capsys.readouterr().err


def test_two_tables_of_the_users_own(tmp_path, capsys):
    rng = np.random.default_rng(3)
    x = rng.normal(size=12)
    models = [f"m{i}" for i in range(12)]
    for name, values in (("a", x), ("b", x + 0.2 * rng.normal(size=12))):
        pd.DataFrame({"model": models, "attribute": "gender", "value": np.abs(values)}).to_csv(
            tmp_path / f"{name}.csv", index=False
        )
    pair = [
        "--intrinsic",
        str(tmp_path / "a.csv"),
        "--extrinsic",
        str(tmp_path / "b.csv"),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main([*pair, "--questions", "transfer"]) == 0
    assert "Does the bias of a CLIP come along" in capsys.readouterr().out
    cells = RunFolder(tmp_path / "out").read("transfer")
    assert len(cells) == 1
    assert cells["verdict"].iloc[0] == "related"
    assert RunFolder(tmp_path / "out").read("verdicts")["verdict"].iloc[0] == "related"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="value"), "no column 'value'"),
        (lambda t: pd.concat([t, t[:1]]), "two rows for"),
        (lambda t: t.assign(model=t["model"] + "x"), "no model is in both"),
        (lambda t: t.assign(value="high"), "holds no numbers"),
    ],
)
def test_tables_that_cannot_be_analysed_end_in_one_message(tmp_path, capsys, change, message):
    table = pd.DataFrame({"model": [f"m{i}" for i in range(6)], "attribute": "gender", "value": range(6)})
    table.to_csv(tmp_path / "a.csv", index=False)
    change(table).to_csv(tmp_path / "b.csv", index=False)
    out = tmp_path / "out"
    code = main(
        [
            "--intrinsic",
            str(tmp_path / "a.csv"),
            "--extrinsic",
            str(tmp_path / "b.csv"),
            "--out",
            str(out),
            "--questions",
            "transfer",
        ]
    )
    said = capsys.readouterr()
    assert code == 2
    assert message in said.err
    assert said.err.count("\n") == 1
    assert not out.exists()


def test_one_model_or_a_constant_column_is_undecided_with_a_reason(tmp_path, tables):
    one = {k: t[t["model"] == "vit-0"] if "model" in t else t for k, t in tables.items()}
    verdict = primary(analyze(one, questions=[question("transfer")])).iloc[0]
    assert verdict["verdict"] == "undecided"
    assert "1 models" in verdict["reason"]
    flat = tables | {"intrinsic": tables["intrinsic"].assign(value=0.5)}
    verdict = primary(analyze(flat, questions=[question("transfer")])).iloc[0]
    assert "intrinsic values of all 18 models are equal" in verdict["reason"]


def test_bad_usage_is_told(tmp_path, capsys):
    assert main([str(tmp_path / "nothing")]) == 2
    assert "no run to read" in capsys.readouterr().err
    with pytest.raises(SystemExit) as error:
        main(["--intrinsic", "a.csv"])
    assert error.value.code == 2
    assert main(["--intrinsic", "a.csv", "--extrinsic", "b.csv", "--questions", "transfer"]) == 2
    assert "a.csv does not exist" in capsys.readouterr().err
    assert main([str(tmp_path), "--questions", "transfr"]) == 2
    assert "Did you mean 'transfer'" in capsys.readouterr().err


def test_help_imports_nothing_heavy():
    code = "import sys, clipbias.analyze as a; a.parser().format_help(); print([m for m in ('torch', 'pandas', 'scipy', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_library_is_importable_alone():
    code = "import sys, clipbias.analysis; print([m for m in sys.modules if m.startswith('clipbias.') and not m.startswith(('clipbias.analysis', 'clipbias.errors', 'clipbias.content', 'clipbias.display'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def changed_by(name, old, new, tables, states, study):
    """Verdicts of a question as shipped and after one edit of its file."""
    text = content.find("analysis", f"{name}.toml").read_text()
    assert text.count(old) == 1
    seen = []
    for words in (text, text.replace(old, new)):
        (study / "analysis").mkdir(parents=True, exist_ok=True)
        words = words.replace("[test]\n", "[test]\nresamples = 299\n")
        (study / "analysis" / f"{name}.toml").write_text(words)
        seen.append(primary(analyze(tables, questions=load_questions([name]), states=states)))
    return seen


@pytest.mark.parametrize(
    ("name", "old", "new", "column"),
    [
        ("transfer", "bound = 0.3 ", "bound = 0.95 ", "verdict"),
        ("transfer", 'controls = ["parameters"]', "controls = []", "estimate"),
        ("transfer", 'task = ["vqa", "captioning"]', 'task = "summary"', "status"),
        ("transfer", 'attribute = "gender"', 'attribute = "tone"', "estimate"),
        ("convergence", "bound = 0.05", "bound = 0.95", "equivalence_p"),
        ("convergence", 'measure = "cka_debiased"', 'measure = "procrustes"', "estimate"),
        ("convergence", 'layer = ""', 'layer = "tower"', "verdict"),
        ("global-local", "bound = 0.3", "bound = 0.99", "equivalence_p"),
        ("global-local", 'metric = "max_skew"', 'metric = "ndkl"', "estimate"),
        ("global-local", "alpha = 0.05", "alpha = 0.0001", "verdict"),
        ("interventions", "bound = 0.3", "bound = 0.99", "equivalence_p"),
        ("interventions", 'metric = "flip_rate"', 'metric = "group_gap"', "estimate"),
        ("validity", "bound = 0.9\n", "bound = 0.9999\n", "verdict"),
        ("validity", '"max_skew", "c_asc"', '"ndkl", "c_asc"', "estimate"),
    ],
)
def test_an_edit_of_any_question_file_changes_its_verdict_table(
    tables, states, tmp_path, monkeypatch, name, old, new, column
):
    monkeypatch.setenv("CLIPBIAS_STUDY", str(tmp_path))
    if name == "transfer":  # the primary pair only: the other cells take most of the time
        tables["intrinsic"] = tables["intrinsic"].query("metric == 'max_skew'")
        tables["extrinsic"] = tables["extrinsic"].query("metric == 'flip_rate' and mode == 'full'")
    if name == "interventions":
        rng = np.random.default_rng(2)
        models, truth = list(tables["models"]["model"]), tables["models"]["planted_rho"].to_numpy()
        for side in ("intrinsic", "extrinsic"):
            made = result_rows(
                rng, models, truth, extrinsic=side == "extrinsic", interventions=("", "mix"), noise=0.02
            )
            tables[side] = made[made["mode"].astype(str) != "full"]
    before, after = changed_by(name, old, new, tables, states, tmp_path)
    assert before["status"].iloc[0] == "ok"
    assert before[column].tolist() != after[column].tolist()


def test_only_measures_of_bias_take_part(tables):
    """Quality and rates without an ideal are no bias; ideals come from the run's own table."""
    tables["extrinsic"] = pd.concat(
        [
            tables["extrinsic"],
            tables["extrinsic"].query("metric == 'group_gap'").assign(metric="cider"),
            tables["extrinsic"].query("metric == 'group_gap'").assign(metric="error_rate_ratio"),
        ],
        ignore_index=True,
    )
    tables["metrics"] = pd.DataFrame(
        {
            "metric": ["cider", "flip_rate", "group_gap", "error_rate_ratio"],
            "ideal": [10.0, 0.0, np.nan, 1.0],
            "direction": ["higher is better", "lower is fairer", "", "1 is fair"],
        }
    )
    said = []
    found = analyze(tables, questions=[question("transfer")], announce=said.append)["transfer"]
    assert set(found["extrinsic_metric"]) == {"flip_rate", "error_rate_ratio"}
    assert "cider, group_gap" in said[0]
    flips = found.query("extrinsic_metric == 'flip_rate' and attribute == 'gender' and mode == 'frozen'")
    ratio = found.query(
        "extrinsic_metric == 'error_rate_ratio' and attribute == 'gender' and mode == 'frozen'"
    )
    assert (flips["estimate"] > 0.5).all()
    assert (ratio["estimate"] < 0.5).all()  # its distance is taken from 1


def save_states(folder, states, *, ids=None):
    folder.mkdir(parents=True, exist_ok=True)
    for model in {k[0] for k in states}:
        for state in ("pre", "post"):
            arrays = {k[1]: np.float32(v[1]) for k, v in states.items() if k[0] == model and k[2] == state}
            own = (ids or {}).get((model, state), states[model, "tower", "pre"][0])
            about = {"model": model, "state": state, "ids": json.dumps(own), "disjoint": "true"}
            about |= {"task": "vqa", "mode": "full"} if state == "post" else {}
            save_file(arrays, folder / f"{model}-{state}.safetensors", metadata=about)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (lambda ids: [*ids[:-1], ids[0]], "image 'i0' appears twice"),
        (lambda ids: [*ids[:-1], "other"], "different images: 2"),
        (lambda ids: ids[:-1], "39 image ids for 40 rows"),
    ],
)
def test_states_of_other_images_end_in_one_message(tables, states, tmp_path, capsys, own, message):
    run = RunFolder(tmp_path / "run")
    run.write_manifest(new_manifest(command=["test"]))
    for name, frame in tables.items():
        run.write(name, frame)
    ids = states["vit-1", "tower", "pre"][0]
    save_states(run.path / "states", states, ids={("vit-1", "post"): own(ids)})
    assert main([str(run.path), "--questions", "convergence", "--quiet"]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "model 'vit-1'" in said
    assert "Traceback" not in said
    assert "verdicts" not in run.tables()


def test_one_model_is_undecided_with_its_reason(tables, states):
    one = {name: t[t["model"] == "vit-0"] if "model" in t else t for name, t in tables.items()}
    found = primary(analyze(one, questions=[question("transfer")]))
    assert set(found["verdict"]) == {"undecided"}
    assert found["reason"].str.contains("1 models").all()
    alone = {k: v for k, v in states.items() if k[0] == "vit-0"}
    found = primary(analyze(one, questions=[question("convergence")], states=alone))
    assert found["status"].tolist() == ["not measured"]
    assert "two models" in found["reason"].iloc[0]


def benchmark():
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "transfer_inference.py"
    spec = importlib.util.spec_from_file_location("transfer_inference", path)
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    return bench


@pytest.mark.slow
def test_planted_transfer_is_found_and_permuted_labels_are_not(tables, tmp_path):
    """As benchmarks/transfer_inference.py asks it of the zoo: 1,000 permutations of the model labels."""
    run = RunFolder(tmp_path / "run")
    run.write_manifest(new_manifest(command=["test"]))
    for name, frame in tables.items():
        run.write(name, frame)
    found = benchmark().permuted_run(str(run.path), 1000, np.random.default_rng(0)).set_index("mode")
    assert found.loc["frozen", "verdict"] == "related"
    assert found.loc["full", "verdict"] == "undecided"
    assert 0.4 < found.loc["full", "minimum_detectable"] < 0.8
    assert found.loc["full", "excluded_bound"] > 0.3
    shares = found.filter(like="related, labels permuted over")
    assert shares.shape == (2, 2)
    assert (shares <= 0.07).all().all()
    assert (shares > 0.01).all().all()


def test_a_run_without_a_side_has_nothing_to_permute(tables, tmp_path):
    """It said nothing and wrote an empty table."""
    run = RunFolder(tmp_path / "run")
    run.write_manifest(new_manifest(command=["test"]))
    for name, frame in tables.items():
        run.write(name, frame.assign(stage="post") if name == "intrinsic" else frame)
    with pytest.raises(DataError, match="nothing to permute.*intrinsic table has no value"):
        benchmark().permuted_run(str(run.path), 10, np.random.default_rng(0))


def test_several_primary_pairs_are_judged_together(tables):
    both = pd.concat([tables["extrinsic"], tables["extrinsic"].assign(task="vqa")], ignore_index=True)
    found = analyze(tables | {"extrinsic": both}, questions=[question("transfer")])["verdicts"]
    frozen = found[found["subject"].str.contains("mode frozen")]
    rests_on = frozen[frozen["primary"]]
    assert len(rests_on) == 1
    row = rests_on.iloc[0]
    assert row["verdict"] == "related"
    assert row["statistic"] == "mean spearman"
    assert "mean over 2 pairs" in row["subject"]
    assert "vqa and captioning" in row["subject"]
    assert 0 < row["minimum_detectable"] < 1
    assert 0 < row["detectable_bound"] < 1
    for task in ("vqa", "captioning"):  # each pair stands beside it, and all models without controls
        assert frozen["subject"].str.contains(f"extrinsic task {task}, .*controlled for").sum() == 1
        assert (
            frozen["subject"].str.contains(f"extrinsic task {task}, .*without controls or families").sum()
            == 1
        )
    alone = primary(analyze(tables, questions=[question("transfer")]))
    assert alone["reason"].str.contains("not in the tables: task vqa").all()


def test_an_image_blind_baseline_is_no_mode_with_a_verdict(tables):
    blind = tables["extrinsic"][tables["extrinsic"]["mode"] == "frozen"].assign(
        mode="blind", attribute="", metric="vqa_accuracy"
    )
    first = blind[~blind.duplicated("model")]
    found = analyze(
        tables | {"extrinsic": pd.concat([tables["extrinsic"], first])}, questions=[question("transfer")]
    )
    assert "blind" not in set(found["transfer"]["mode"])
    assert set(found["transfer"]["mode"]) == set(
        analyze(tables, questions=[question("transfer")])["transfer"]["mode"]
    )
