"""Tidy rows and the run folder they are stored in."""
