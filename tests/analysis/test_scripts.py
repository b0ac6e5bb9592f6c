import importlib.util

import numpy as np
import pytest

from clipbias import content
from clipbias.analysis.cka import cka
from clipbias.analysis.power import models_to_exclude


def script(name):
    path = content.find("analysis", f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def test_compare_spaces_prints_every_pair(tmp_path, capsys):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(40, 5))
    arrays = [np.float32(z @ rng.normal(size=(5, p)) + 0.3 * rng.normal(size=(40, p))) for p in (8, 9, 12)]
    files = [tmp_path / f"{name}.npy" for name in "abc"]
    for path, array in zip(files, arrays, strict=True):
        np.save(path, array)
    main = script("compare_spaces")
    assert main([*map(str, files), "--measures", "cka_debiased", "mutual_knn"]) == 0
    said = capsys.readouterr()
    assert "MB beyond the input" in said.err
    assert len(said.out.strip().splitlines()) == 1 + 3 * 2
    assert f"{cka(arrays[0], arrays[1]):.3f}" in said.out
    np.save(files[0], arrays[0][:30])
    assert main([*map(str, files)]) == 2
    assert "same images" in capsys.readouterr().err
    assert main([str(tmp_path / "none.npy")]) == 2
    assert "none.npy" in capsys.readouterr().err


def test_how_many_models(capsys):
    main = script("how_many_models")
    assert main(["20", "--bounds", "0.3"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1].split() == ["20", "0.60", "0.62"]
    assert said[2] == f"none within ±0.3 takes {models_to_exclude(0.3, method='spearman')} models"
    assert main(["--bounds", "1.5"]) == 2
    assert "between 0 and 1" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["compare_spaces", "how_many_models"])
def test_help_says_what_is_asked(name, capsys):
    with pytest.raises(SystemExit) as error:
        script(name)(["--help"])
    assert error.value.code == 0
    assert "An example of `clipbias.analysis" in capsys.readouterr().out
