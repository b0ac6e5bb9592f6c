"""The report: the tables of a run in, one self-contained HTML page out.

from clipbias.reports import render
render("runs/default", "runs/default/report.html")
"""

from __future__ import annotations

from clipbias.reports.render import render

__all__ = ["render"]
