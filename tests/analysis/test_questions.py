import pandas as pd
import pytest

from clipbias import content
from clipbias.analysis.questions import KINDS, load_question, load_questions, parse
from clipbias.analysis.values import bias_values, columns_of, families_of
from clipbias.errors import DataError


def test_the_five_questions_of_the_study_are_files():
    found = {q.name: q for q in load_questions()}
    assert {"transfer", "convergence", "global-local", "interventions", "validity"} <= set(found)
    assert {q.kind for q in found.values()} <= set(KINDS)
    assert all(q.text.endswith("?") for q in found.values())
    assert found["transfer"].section("primary")["intrinsic"]["metric"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"kind": "transfer"}, "'question' is missing"),
        ({"question": "q?", "kind": "tranfer"}, "Did you mean 'transfer'"),
        ({"question": "q?", "kind": "transfer", "tests": {}}, "Did you mean 'test'"),
        (
            {"question": "q?", "kind": "transfer", "test": {"bounds": 0.3}},
            "test.bounds is not known. Did you mean 'bound'",
        ),
        (
            {"question": "q?", "kind": "transfer", "test": {"bound": 1.5}},
            "bound = 1.5 must lie between 0 and 1",
        ),
        (
            {"question": "q?", "kind": "transfer", "test": {"statistic": "speerman"}},
            "Did you mean 'spearman'",
        ),
        (
            {"question": "q?", "kind": "transfer", "intrinsic": {"transform": "log"}},
            "not one of 'distance', 'value'",
        ),
        ({"question": "q?", "kind": "convergence", "primary": "cka"}, "must be a section"),
    ],
)
def test_a_wrong_file_is_told_by_name_and_key(spec, message):
    with pytest.raises(DataError, match="^mine.toml: ") as error:
        parse("mine", spec, where="mine.toml")
    assert message in str(error.value)


def test_unreadable_files_and_unknown_names(tmp_path):
    bad = tmp_path / "bad.toml"
    bad.write_text("question = ")
    with pytest.raises(DataError, match="not valid TOML"):
        load_question(bad)
    with pytest.raises(DataError, match="Did you mean 'transfer'"):
        load_questions(["transfers"])


def test_a_study_of_the_users_own_replaces_a_question(tmp_path, monkeypatch):
    (tmp_path / "analysis").mkdir()
    text = content.find("analysis", "transfer.toml").read_text()
    (tmp_path / "analysis" / "transfer.toml").write_text(text.replace("bound = 0.3", "bound = 0.4"))
    assert load_questions(["transfer"])[0].bound == 0.3
    monkeypatch.setenv("CLIPBIAS_STUDY", str(tmp_path))
    assert load_questions(["transfer"])[0].bound == 0.4


def rows(**changes):
    base = {
        "model": "a",
        "attribute": "gender",
        "metric": "skew",
        "probe": "",
        "group": "",
        "view": "global",
        "status": "ok",
    }
    return base | {"value": 1.0} | changes


def test_values_take_distance_worst_group_and_mean_over_the_rest():
    table = pd.DataFrame(
        [
            rows(value=0.5, group="woman"),
            rows(value=-0.8, group="man"),
            rows(value=0.6, probe="doctor", group="man"),  # single probes are there: they count, not the mean
            rows(value=0.9, probe="doctor", group="woman"),
            rows(value=-0.3, probe="nurse", group="woman"),
            rows(model="b", probe="doctor", value=0.2),
            rows(model="b", probe="nurse", value=0.4),
            rows(model="c", value=float("nan")),
            rows(model="d", value=7.0, status="empty group"),
            rows(model="e", value=3.0, view="beach"),
            rows(model="f", metric="ratio", value=0.9),
        ]
    )
    found = bias_values(table, keys=["metric"], where={"view": "global"}, ideals={"ratio": 1.0})
    assert found.set_index("model")["value"].to_dict() == pytest.approx({"a": 0.6, "b": 0.3, "f": 0.1})
    whole = bias_values(table, keys=["metric"], where={"view": "global", "probe": ""}, ideals={"ratio": 1.0})
    assert whole.set_index("model")["value"].to_dict() == pytest.approx({"a": 0.8, "f": 0.1})
    single = bias_values(table, keys=["metric"], items=True)
    assert single["probe"].tolist() == ["doctor", "nurse", "doctor", "nurse"]
    with pytest.raises(DataError, match="several groups"):
        bias_values(table, keys=["metric"], transform="value")
    with pytest.raises(DataError, match="Did you mean 'metric'"):
        bias_values(table, keys=["metrics"])
    with pytest.raises(DataError, match="holds no numbers"):
        bias_values(table.assign(value="x"), keys=["metric"])


def test_controls_that_cannot_be_used_are_named():
    models = pd.DataFrame(
        {
            "model": list("abc"),
            "size": [1, 2, 3],
            "same": [1, 1, 1],
            "gap": [1.0, None, 2.0],
            "family": list("xxy"),
        }
    )
    shared = pd.Index(list("abc"))
    found, gone = columns_of(models, ["size", "same", "gap", "accuracy"], shared)
    assert list(found.columns) == ["size"]
    assert gone == ["same", "gap", "accuracy"]
    assert columns_of(None, ["size"], shared) == (None, ["size"])
    assert families_of(models, "family", shared).tolist() == ["x", "x", "y"]
    assert families_of(models, "model", shared) is None  # every family has one member
    assert families_of(models, "nothing", shared) is None
