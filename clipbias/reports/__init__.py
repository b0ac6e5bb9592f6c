"""The report: the tables of a run in, one self-contained HTML page out; or one of its charts as an altair object.

from clipbias.reports import chart, render
render("runs/default", "runs/default/report.html")
chart("runs/default", "transfer-0")                  # an altair.Chart; chart("runs/default") lists the names
"""

from __future__ import annotations

from clipbias.reports.notebook import chart
from clipbias.reports.render import render

__all__ = ["chart", "render"]
