"""One page for each metric: what its declaration says, its line of proof from the zoo, and a fragment written by hand.

A fragment is ``docs/metrics/NAME.md`` (copy ``_template.md``). It has the sections Formula, Pitfalls and Example; the
example holds a ``pycon`` block that the tests run. A family of numbers that one call gives can share a page: the
fragment then begins with ``<!-- covers: name, name -->``. Titles, tables and sources come from the declarations.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pandas as pd

DOCS = Path(__file__).resolve().parent.parent
FOLDER = DOCS / "metrics"
VALIDITY = DOCS.parent / "analysis" / "metric_validity.csv"
SECTIONS = ("Formula", "Pitfalls", "Example")
_COVERS = re.compile(r"\A<!--\s*covers:\s*(.*?)\s*-->\s*", re.DOTALL)
_PYCON = re.compile(r"^```pycon\n(.*?)^```", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Declared:
    """What a registry says about a metric.

    Attributes
    ----------
    name, title : str
    measured : str
        ``CLIP`` (before adaptation) or ``adapted model``.
    facts : dict
        Words of the table on the page, in order.
    """

    name: str
    title: str
    measured: str
    facts: dict[str, str]


@dataclass(frozen=True)
class Fragment:
    """A part written by hand.

    Attributes
    ----------
    path : Path
    names : tuple of str
        The metrics that the page is for, the file's own name first.
    text : str
    """

    path: Path
    names: tuple[str, ...]
    text: str
    sections: dict[str, str] = field(default_factory=dict)

    @property
    def examples(self) -> list[str]:
        """The blocks that the tests run."""
        return _PYCON.findall(self.text)

    @property
    def missing(self) -> list[str]:
        """What the page still needs, in words."""
        lacking = [f"a section '## {name}'" for name in SECTIONS if not self.sections.get(name, "").strip()]
        if "$" not in self.sections.get("Formula", "$"):
            lacking.append("a formula between dollar signs under '## Formula'")
        if not any(">>> " in block for block in self.examples):
            lacking.append("a ```pycon block with >>> lines under '## Example'")
        return lacking


def read_fragment(path: Path) -> Fragment:
    """Read one fragment."""
    text = path.read_text(encoding="utf-8")
    covers = _COVERS.match(text)
    also = tuple(filter(None, re.split(r"[,\s]+", covers.group(1)))) if covers else ()
    text = text[covers.end() :] if covers else text
    parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)
    sections = {title.strip(): body for title, body in zip(parts[1::2], parts[2::2], strict=True)}
    return Fragment(path, (path.stem, *also), text, sections)


def fragments() -> Iterator[Fragment]:
    """Yield all fragments, by name."""
    for path in sorted(FOLDER.glob("[!_]*.md")):
        if path.name != "index.md":
            yield read_fragment(path)


def declared() -> dict[str, list[Declared]]:
    """Return what is declared by name: a name can stand for a metric of a CLIP and for one of an adapted model."""
    from clipbias.metrics import registry
    from clipbias.metrics.intervals import KINDS
    from clipbias.tasks.metrics import FACTS

    found: dict[str, list[Declared]] = {}
    for m in registry().values():
        facts = {
            "Range": _range(m.range), "Ideal": _number(m.ideal), "Unit": m.unit, "Sign": m.sign, "Direction": m.direction,
            "One value for each": "group" if m.per_group else "probe, over all groups",
            "Interval": KINDS[m.interval_kind], "Null": _null(m), "Source": source(m.reference),
        }  # fmt: skip
        found.setdefault(m.name, []).append(Declared(m.name, m.about.rstrip("."), "CLIP", facts))
    for f in FACTS.values():
        facts = {
            "Range": _range(f.range), "Ideal": _number(f.ideal), "Unit": f.unit, "Sign": f.sign, "Direction": f.direction,
            "Kind": {"quality": "quality", "bias": "bias", "rate": "shown beside a bias, neither good nor bad by itself"}[f.kind],
            "Interval": f.interval_text, "Null": "groups permuted between images" if f.null else "none", "Source": source(f.reference),
        }  # fmt: skip
        found.setdefault(f.name, []).append(Declared(f.name, f.title, "adapted model", facts))
    return found


def _null(m) -> str:
    within = " inside each true class" if m.within_class else ""
    side = {"high": "one-sided, high", "low": "one-sided, low", "both": "two-sided"}[m.worse]
    return f"groups permuted between images{within}; p is {side}"


def _number(value: float) -> str:
    if math.isnan(value):
        return "none"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:g}".replace("-", "−")


def _range(ends: tuple[float, float]) -> str:
    low, high = ends
    left, right = "(" if math.isinf(low) else "[", ")" if math.isinf(high) else "]"
    return f"{left}{_number(low)}, {_number(high)}{right}"


def source(reference: str) -> str:
    """Return a reference as a link where it is a DOI, an arXiv id or an address."""

    def link(match: re.Match[str]) -> str:
        kind, name = match.group(1), match.group(2)
        home = "https://arxiv.org/abs/" if kind.lower() == "arxiv" else "https://doi.org/"
        return f"[{kind}:{name}]({home}{name})"

    linked = re.sub(r"\b(arXiv|doi):([^\s,;)]+)", link, reference)
    return re.sub(r"(?<!\()\bhttps?://[^\s,;)]+", lambda m: f"<{m.group(0)}>", linked)


# -- the proof --------------------------------------------------------------------------------------


@cache
def _validity() -> pd.DataFrame:
    return (
        pd.read_csv(VALIDITY, keep_default_na=True)
        if VALIDITY.is_file()
        else pd.DataFrame(columns=["metric"])
    )


def validity_line(name: str) -> str:
    """Return in one sentence what the zoo says about a metric; what is not in the table is said to be missing."""
    rows = _validity()
    row = next((r for r in rows[rows["metric"] == name].to_dict("records")), None)
    if row is None:
        return "Not yet tested on the zoo."
    parts = []
    if pd.notna(row.get("spearman")):
        over = "models" if row["what"] == "zoo" else row["what"]
        text = f"Spearman correlation with the planted strength over {row['n_models']:.0f} {over} {row['spearman']:.3f}"
        if pd.notna(row.get("ci_low")):
            text += f" [{row['ci_low']:.3f}, {row['ci_high']:.3f}]"
        parts.append(text)
    if pd.notna(row.get("false_positive_rate")):
        parts.append(f"5 % tests fire on {100 * row['false_positive_rate']:.1f} % of neutral draws")
    if pd.notna(row.get("coverage")):
        parts.append(f"95 % intervals cover {100 * row['coverage']:.1f} %")
    if pd.notna(row.get("reliability")):
        parts.append(f"split-half reliability {row['reliability']:.3f}")
    reason = row.get("reason")
    if pd.notna(reason) and reason:
        parts.append(str(reason))
    return "; ".join(parts) + "."


# -- the pages ----------------------------------------------------------------------------------------


def page(fragment: Fragment) -> str:
    """Return the page of a fragment."""
    known = declared()
    main = known.get(fragment.names[0])
    title = main[0].title if main else _function_line(fragment.names[0])
    parts = [f"# {fragment.names[0]}", f"*{title}.*", _head(fragment.text)]
    for name in fragment.names:
        for one in known.get(name, []):
            parts += [_facts_table(one, several=len(fragment.names) > 1 or len(known.get(name, [])) > 1)]
    lines = [
        f"- `{name}`: {validity_line(name)}" for name in fragment.names if _validated(known.get(name, []))
    ]
    if lines:
        parts += [
            "## On planted truth",
            "\n".join(lines),
            "[What such a proof is worth](../concepts/planted-truth.md).",
        ]
    parts.append(_body(fragment.text))
    return "\n\n".join(filter(None, parts)) + "\n"


def _validated(found: list[Declared]) -> bool:
    return any(one.measured == "CLIP" for one in found)


def _head(text: str) -> str:
    return re.split(r"^## ", text, maxsplit=1, flags=re.MULTILINE)[0].strip()


def _body(text: str) -> str:
    return text[len(re.split(r"^## ", text, maxsplit=1, flags=re.MULTILINE)[0]) :].strip()


def _facts_table(one: Declared, *, several: bool) -> str:
    head = f"`{one.name}` of {'a CLIP' if one.measured == 'CLIP' else 'an adapted model'}"
    rows = [f"| {key} | {value.replace('|', chr(92) + '|')} |" for key, value in one.facts.items() if value]
    # "Share of ..." but "KL divergence": only a word goes on in small letters.
    lead = one.title[:1].lower() if one.title[1:2].islower() else one.title[:1]
    title = f"{head}: {lead}{one.title[1:]}." if several else f"{head}."
    return "\n".join([title, "", "| | |", "|---|---|", *rows])


def _function_line(name: str) -> str:
    """Return the first line of the docstring of a public function that is no registered metric."""
    import clipbias.metrics
    import clipbias.tasks.metrics

    for module in (clipbias.metrics, clipbias.tasks.metrics):
        if name in module.__all__:
            return (getattr(module, name).__doc__ or "").strip().split("\n")[0].rstrip(".")
    raise LookupError(
        f"docs/metrics/{name}.md belongs to no metric and to no public function of clipbias.metrics."
    )


def index() -> str:
    """Return the page that lists all metrics, with direction and proof."""
    known = declared()
    page_of = {name: f.path.name for f in fragments() for name in f.names}
    parts = ["# Metrics", (DOCS / "metrics" / "_index.md").read_text(encoding="utf-8").strip()]
    for measured, title in (
        ("CLIP", "Of a CLIP (`clipbias measure`)"),
        ("adapted model", "Of an adapted model (`clipbias adapt`)"),
    ):
        rows = [
            f"| {_linked(name, page_of)} | {one.title} | {one.facts['Range']} | {one.facts['Ideal']} | {one.facts['Direction']} |"
            for name, found in sorted(known.items()) for one in found if one.measured == measured
        ]  # fmt: skip
        parts += [
            f"## {title}",
            "\n".join(
                ["| metric | what it is | range | ideal | direction |", "|---|---|---|---|---|", *rows]
            ),
        ]
    others = [f for f in fragments() if f.names[0] not in known]
    if others:
        rows = [f"- [{f.names[0]}]({f.path.name}): {_function_line(f.names[0])}." for f in others]
        parts += [
            "## Functions only",
            "Not measured by the commands; call them on your own arrays.",
            "\n".join(rows),
        ]
    return "\n\n".join(parts) + "\n"


def _linked(name: str, page_of: dict[str, str]) -> str:
    return f"[{name}]({page_of[name]})" if name in page_of else f"`{name}`"
