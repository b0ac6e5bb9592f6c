"""Measure the social bias of CLIP models and follow it into the models built on them.

A measurement is a *probe*, put to a *model* on a *view* of an image set, read by a *metric*.
The package itself imports nothing heavy: import the part you need, for example
``from clipbias import probes`` or ``from clipbias.metrics import max_skew``.
"""

__version__ = "0.1.0"
