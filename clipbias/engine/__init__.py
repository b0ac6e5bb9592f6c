"""Runs independent units of work, here, in worker processes or on Ray, with the same results."""

from clipbias.engine.run import parse_engine, run_units
from clipbias.engine.unit import Outcome

__all__ = ["Outcome", "parse_engine", "run_units"]
