from __future__ import annotations

import chain_tables
import pytest

from clipbias.reports import render


@pytest.fixture(scope="session")
def tables() -> dict:
    return chain_tables.make(6, 4)


@pytest.fixture(scope="session")
def page(tables, tmp_path_factory) -> str:
    path = render(tables, tmp_path_factory.mktemp("report") / "report.html")
    return path.read_text(encoding="utf-8")
