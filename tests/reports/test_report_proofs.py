"""Every number of the first screen comes with a one-liner, and the one-liner gives that number."""

from __future__ import annotations

import re

import chain_tables
import pandas as pd
import pytest

from clipbias.reports import charts, markup
from clipbias.reports.assemble import assemble, only
from clipbias.reports.tables import read
from clipbias.results.run import RunFolder

NUMBER = re.compile(r"\u2212?(?:\d[\d,]*(?:\.\d+)?|\u221e)")
# Numbers that belong to the question, not to the run.
CONSTANT = re.compile(r"95\s%|p < \.05|5 % tests|80\s% power")


def numbers(text: str) -> list[tuple[float, int]]:
    """Return the numbers of a text and how many decimals each shows."""
    found = []
    for shown in NUMBER.findall(text):
        plain = shown.replace("\u2212", "-").replace(",", "").replace("\u221e", "inf")
        found.append((float(plain), len(plain.partition(".")[2])))
    return found


def flat(value: object) -> list[float]:
    return [float(v) for v in value] if isinstance(value, (list, tuple)) else [float(value)]


@pytest.fixture(scope="module", params=[()])
def run(request, tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("proofs") / "run")
    for name, frame in chain_tables.make(6, 4).items():
        if name != "manifest":
            folder.write(name, frame)
    folder.write_manifest(chain_tables.make(2, 1)["manifest"])
    tables = read(folder)
    chosen = list(request.param)
    with pytest.MonkeyPatch.context() as patch:  # numbers are asked for, not pictures
        patch.setattr(charts.vl_convert, "vegalite_to_svg", lambda *_, **__: "<svg/>")
        return folder, assemble(only(tables, chosen) if chosen else tables)


def test_every_number_of_the_first_screen_has_a_proof_that_gives_it(run, monkeypatch):
    folder, report = run
    monkeypatch.chdir(folder.path)
    assert len(report.answers) >= 5
    for answer in report.answers:
        text = CONSTANT.sub(" ", markup.plain(answer.html))
        for proof in answer.proofs:
            shown = numbers(proof)
            given = flat(eval(proof.code, {"pd": pd}))
            assert len(given) == len(shown), proof.code
            for (number, decimals), value in zip(shown, given, strict=True):
                near = value == number or abs(value - number) <= 0.5 * 10**-decimals + 1e-9
                assert near, f"{proof} is not {value}: {proof.code}"
        for proof in sorted(answer.proofs, key=len, reverse=True):  # not the 2 of a 2.9
            text = text.replace(" ".join(proof.split()), " ", 1)
        for name in report.names():
            text = text.replace(name, " ")
        assert numbers(text) == [], f"{answer.question} {text}"
