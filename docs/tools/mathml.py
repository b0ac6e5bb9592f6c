"""Formulas as MathML: browsers draw it without scripts, so the site needs neither network nor a large bundle."""

from __future__ import annotations

import html
import re

_MATH = re.compile(r'<(span|div) class="arithmatex">\s*(?:\\\((.*?)\\\)|\\\[(.*?)\\\])\s*</\1>', re.DOTALL)


def with_mathml(page: str) -> str:
    """Return a page of HTML with its TeX formulas turned into MathML.

    Raises
    ------
    ValueError
        A formula cannot be read.
    """
    from latex2mathml.converter import convert

    def one(match: re.Match[str]) -> str:
        tex = html.unescape(match.group(2) or match.group(3)).strip()
        block = match.group(3) is not None
        try:
            made = convert(tex, display="block" if block else "inline")
        except Exception as error:
            raise ValueError(f"the formula {tex!r} cannot be read: {error!r}") from error
        left = re.search(r"\\[A-Za-z]*", re.sub(r"<[^>]+>", "", made))
        if left:
            raise ValueError(f"the formula {tex!r} cannot be read: {left.group(0)} is not known.")
        return made.replace("<math ", f'<math aria-label="{html.escape(tex, quote=True)}" ', 1)

    return _MATH.sub(one, page)
