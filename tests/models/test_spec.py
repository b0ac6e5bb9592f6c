"""Model names: every form, its canonical text, and messages that name what was meant."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipbias import zoo
from clipbias.errors import ClipbiasError, ModelError
from clipbias.models import ModelSpec, parse_spec, parse_specs, split_specs


@pytest.mark.parametrize(
    ("text", "kind", "name", "tag", "canonical"),
    [
        ("ViT-B-32/laion2b_s34b_b79k", "open_clip", "ViT-B-32", "laion2b_s34b_b79k", None),
        ("ViT-B/32/openai", "open_clip", "ViT-B-32", "openai", "ViT-B-32/openai"),
        (
            "ViT-B-32/LAION2B-s34b-b79k",
            "open_clip",
            "ViT-B-32",
            "laion2b_s34b_b79k",
            "ViT-B-32/laion2b_s34b_b79k",
        ),
        ("hf-hub:laion/some-model", "hf-hub", "laion/some-model", "", None),
        ("hf-hub:laion/some-model?revision=abc", "hf-hub", "laion/some-model", "", None),
        ("random:ViT-B-32", "random", "ViT-B-32", "", "random:ViT-B-32?seed=0"),
        ("random:tiny-vit?seed=7", "random", "tiny-vit", "", None),
        (" random:tiny-vit?seed=7 ", "random", "tiny-vit", "", "random:tiny-vit?seed=7"),
    ],
)
def test_forms_and_canonical_text(text, kind, name, tag, canonical):
    spec = parse_spec(text)
    assert (spec.kind, spec.name, spec.tag) == (kind, name, tag)
    assert str(spec) == (canonical or text)
    assert parse_spec(str(spec)) == spec


def test_options_are_sorted_so_that_equal_models_have_equal_names():
    one = parse_spec("ViT-B-32/openai?std=0.5&mean=0.1,0.2,0.3")
    two = parse_spec("ViT-B-32/openai?mean=0.1,0.2,0.3&std=0.5")
    assert one == two
    assert hash(one) == hash(two)
    assert one.preprocess == {"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.5, 0.5)}


@given(
    kind=st.sampled_from(["file", "hf-hub"]),
    name=st.text(alphabet="abcXYZ09-_./ é", min_size=1).map(lambda t: "x" + t.strip() + "y"),
    precision=st.sampled_from(["fp32", "bf16"]),
)
def test_canonical_text_reads_back(kind, name, precision):
    spec = ModelSpec(kind, name, "", (("precision", precision),))
    assert parse_spec(str(spec), check=False) == spec


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ViT-B-33/openai", "Did you mean 'ViT-B-32'"),
        ("ViT-B-32/laion2b_s34b_b79", "Did you mean 'laion2b_s34b_b79k'"),
        ("ViT-B-32", "needs a tag"),
        ("tiny-vit/openai", "random:tiny-vit"),
        ("random:ViT-B-23", "Did you mean"),
        ("randm:ViT-B-32", "Did you mean 'random'"),
        ("random:", "names no model"),
        ("random:tiny-vit?sead=1", "Did you mean 'seed'"),
        ("random:tiny-vit?seed=-1", "whole number"),
        ("random:tiny-vit?seed", "name=value"),
        ("random:tiny-vit?seed=1&seed=2", "twice"),
        ("ViT-B-32/openai?precision=fp8", "one of fp32, fp16, bf16"),
        ("ViT-B-32/openai?interpolation=nearest", "bicubic, bilinear"),
        ("ViT-B-32/openai?mean=0.1,0.2", "one number or three"),
        ("ViT-B-32/openai?std=0", "one number or three"),
        ("/data/weights.safetensors", r"file:/data/weights.safetensors\?model=NAME"),
        ("zoo", "several models"),
        ("@models.txt", "several models"),
    ],
)
def test_errors_say_what_was_meant(text, says):
    with pytest.raises(ModelError, match=says):
        parse_spec(text)


def test_file_needs_an_architecture_that_exists_and_a_file_that_exists(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"")
    with pytest.raises(ModelError, match=r"add \?model=NAME"):
        parse_spec(f"file:{path}")
    with pytest.raises(ModelError, match="Did you mean 'tiny-vit'"):
        parse_spec(f"file:{path}?model=tiny-vitt")
    with pytest.raises(ModelError, match=r"Did you mean 'weights\.safetensors'"):
        parse_spec(f"file:{tmp_path}/wieghts.safetensors?model=tiny-vit")
    with pytest.raises(ModelError, match="needs model="):
        parse_spec(f"file:{path}?tag=openai")
    assert parse_spec(f"file:{path}?model=tiny-vit").option("model") == "tiny-vit"


def test_a_relative_path_with_a_question_mark_keeps_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd?name.safetensors").write_bytes(b"")
    assert parse_spec("file:odd?name.safetensors?model=tiny-vit").name == "odd?name.safetensors"


def test_lists(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "names", lambda: ["a", "b"])
    listed = tmp_path / "models.txt"
    listed.write_text("# the plain ones\nViT-B-32/openai  # with a remark\n\nzoo\nrandom:tiny-vit\n")
    assert split_specs(f"zoo, random:tiny-vit?seed=0,@{listed}") == [
        "zoo:a", "zoo:b", "random:tiny-vit?seed=0", "ViT-B-32/openai", "random:tiny-vit",
    ]  # fmt: skip
    # The two spellings of the same random model are one.
    assert [str(s) for s in parse_specs(f"random:tiny-vit?seed=0,@{listed}")] == [
        "random:tiny-vit?seed=0", "ViT-B-32/openai", "zoo:a", "zoo:b",
    ]  # fmt: skip


def test_commas_inside_options_do_not_split():
    text = "ViT-B-32/openai?mean=0.5,0.5,0.5&std=.5,.5,.5,ViT-B-16/openai"
    assert split_specs(text) == ["ViT-B-32/openai?mean=0.5,0.5,0.5&std=.5,.5,.5", "ViT-B-16/openai"]
    assert split_specs(["zoo:a,zoo:b", "zoo:c"]) == ["zoo:a", "zoo:b", "zoo:c"]


def test_list_errors(tmp_path):
    with pytest.raises(ClipbiasError, match="cannot be read"):
        split_specs(f"@{tmp_path}/none.txt")
    (tmp_path / "a.txt").write_text("@b.txt")
    with pytest.raises(ClipbiasError, match="do not nest"):
        split_specs(f"@{tmp_path}/a.txt")
    with pytest.raises(ClipbiasError, match="no model is named"):
        split_specs(" , ")


def test_one_wrong_name_in_a_list_does_not_stop_the_others_from_being_listed():
    assert split_specs("nonsense:x,random:tiny-vit") == ["nonsense:x", "random:tiny-vit"]


def test_names_are_read_without_torch():
    code = "import sys; from clipbias.models import split_specs, parse_spec; parse_spec('a/b', check=False); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0
