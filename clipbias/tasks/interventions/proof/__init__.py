"""Proof on planted data that every intervention does what it says, and that its null twin does not.

The very plans that ``clipbias adapt`` trains with are trained here, by the same loop, on frozen embeddings of zoo models and with
small heads, so that five seeds of all systems take minutes. ``python -m clipbias.tasks.interventions.proof`` (``make
interventions``) runs what is not done yet, writes the tables of `clipbias.tasks.interventions.tables`, and checks thresholds.
"""
