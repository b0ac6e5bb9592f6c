"""The zoo: small CLIPs with bias planted at a known strength, shipped with the package.

``names`` and ``resolve`` need no torch; training does (``python -m clipbias.zoo train``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clipbias.zoo.store import ZooModel, card, names, resolve

__all__ = ["ZooModel", "card", "names", "resolve"]


def __getattr__(name: str):
    # Lazy, so that the help of `clipbias zoo` loads no array library.
    if name in __all__:
        from clipbias.zoo import store

        return getattr(store, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
