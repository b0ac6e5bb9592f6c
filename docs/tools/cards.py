"""Pages made of what lies elsewhere in the repository: cards of probe sets and models, recipes, questions, help texts."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FRONT = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)


def card_paths() -> list[Path]:
    """Return the cards of probe sets and image sets."""
    return sorted((ROOT / "probes").glob("*/card.md"))


def card(path: Path) -> str:
    """Return a card as a page: its front matter becomes a table, its first heading stays."""
    text = path.read_text(encoding="utf-8")
    front = _FRONT.match(text)
    body = text[front.end() :] if front else text
    rows = [line.partition(":") for line in front.group(1).splitlines() if ":" in line] if front else []
    table = [
        "| | |",
        "|---|---|",
        *(f"| {key.strip()} | {value.strip().strip(chr(34))} |" for key, _, value in rows),
    ]
    head, _, rest = _unlinked(body).strip().partition("\n")
    head = head if head.startswith("# ") else f"# {path.parent.name}\n\n{head}"
    return "\n".join([head, "", *table, "", rest.strip(), ""])


def _unlinked(text: str) -> str:
    """Return a text without links to files: those of the repository are not part of the site."""
    return re.sub(r"\[([^\]]+)\]\((?!https?:)[^)]+\)", r"\1", text)


def zoo_page() -> str:
    """Return the page of the shipped models, one row for each card."""
    rows = []
    for path in sorted((ROOT / "clipbias/zoo/models").glob("*.json")):
        c = json.loads(path.read_text(encoding="utf-8"))
        planted = c["planted"]
        where = ", ".join(f"{place} {rho}" for place, rho in planted["rho_in"].items())
        scores = " | ".join(f"{c['zero_shot'][name]:.2f}" for name in ("role_accuracy", "object_accuracy"))
        rows.append(
            f"| `zoo:{c['name']}` | {c['architecture']} | {c['parameters']:,} | {planted['rho']:g} | {where or 'everywhere'} "
            f"| {scores} | `{c['command']}` |"
        )
    return "\n".join([
        "# The zoo",
        "",
        "Small CLIPs trained on the [world](world.md) with open_clip's own code and loss. ρ is the share of pictures in which a role is shown by "
        "the gender it is tied to: .5 is nothing planted. Each model lies beside a card (`clipbias/zoo/models/NAME.json`) with its configuration, "
        "digest and training data.",
        "",
        "**Not for** anything but checking instruments: they know only drawn scenes and a vocabulary of some hundred words.",
        "",
        "| model | tower | parameters | ρ | planted in | role accuracy | object accuracy | trained by |",
        "|---|---|---|---|---|---|---|---|",
        *rows,
        "",
    ])  # fmt: skip


def content_page() -> str:
    """Return the page of recipes and questions: each TOML file of ``tasks/`` and ``analysis/`` as it is."""
    parts = [
        "# Recipes and questions",
        "What a run does is said in these files. A file of the same name in a folder beside your study file comes first.",
    ]
    for kind, title in (("analysis", "Questions"), ("tasks", "Recipes")):
        parts.append(f"## {title}")
        for path in sorted((ROOT / kind).rglob("*.toml")):
            text = path.read_text(encoding="utf-8").strip()
            tomllib.loads(text)
            parts.append(f"### {path.relative_to(ROOT)}\n\n```toml\n{text}\n```")
    return "\n\n".join(parts) + "\n"


def index() -> str:
    """Return the list of all cards."""
    from clipbias import probes

    table = probes.list_sets()
    titles = dict(zip(table["name"], table["title"], strict=True)) if "title" in table else {}
    lines = [
        f"- [{p.parent.name}]({p.parent.name}.md){': ' + titles[p.parent.name] if p.parent.name in titles else ''}"
        for p in card_paths()
    ]
    return "\n".join([
        "# Data and models",
        "",
        "Every set of words or pictures has a card: who chose it, who labelled it, under which licence, what is known to be wrong with it, and what it is "
        "not for. Read the card before you quote a number.",
        "",
        *lines,
        "",
        "- [The zoo](zoo.md): the shipped small CLIPs.",
        "- [Recipes and questions](recipes.md): what a run does, as files.",
        "",
    ])  # fmt: skip


# -- reference ----------------------------------------------------------------------------------------

MODULES = {
    "metrics": ("clipbias.metrics", "Metrics of CLIPs"),
    "tasks-metrics": ("clipbias.tasks.metrics", "Metrics of adapted models"),
    "analysis": ("clipbias.analysis", "Similarity, correlation, transfer"),
    "probes": ("clipbias.probes", "Probe sets and pictures"),
    "data": ("clipbias.data", "Readers of image sets"),
    "models": ("clipbias.models", "Models"),
    "views": ("clipbias.views", "Views"),
    "results": ("clipbias.results.run", "Run folder"),
    "rows": ("clipbias.results.rows", "Result rows"),
    "interventions": ("clipbias.tasks.interventions", "Interventions"),
}


def reference_pages() -> Iterator[tuple[str, str]]:
    """Yield name and text of the reference pages, made from docstrings by mkdocstrings."""
    import importlib

    for name, (module, title) in MODULES.items():
        found = importlib.import_module(module)
        public = getattr(found, "__all__", None)
        parts = [f"# {title}", f"`{module}`"]
        if public is None:
            parts.append(f"::: {module}\n    options:\n      show_root_heading: false")
        else:
            parts += [f"::: {target}" for target in _objects(found, public)]
        yield name, "\n\n".join(parts) + "\n"


def _objects(module, public) -> Iterator[str]:
    """Yield the full names of public functions and classes where they are defined."""
    for name in public:
        made = getattr(module, name)
        home = getattr(made, "__module__", "") or ""
        if callable(made) and home.startswith("clipbias"):
            yield f"{home}.{made.__qualname__}"


def commands_page() -> str:
    """Return the help of every command, as the command prints it."""
    import importlib
    import os

    from clipbias.cli import VERBS, parser

    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "110"
    try:
        parts = ["# Commands", f"```text\n{parser().format_help().strip()}\n```"]
        for verb, (module, line) in VERBS.items():
            found = importlib.import_module(module)
            text = found.parser().format_help() if hasattr(found, "parser") else _help(found)
            parts.append(
                f"## clipbias {verb}\n\n{line[:1].upper() + line[1:]}.\n\n```text\n{text.strip()}\n```"
            )
    finally:
        os.environ.pop("COLUMNS") if before is None else os.environ.update(COLUMNS=before)
    return "\n\n".join(parts) + "\n"


def _help(module) -> str:
    import contextlib
    import io

    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.suppress(SystemExit):
        module.main(["--help"])
    return told.getvalue()


def reference_index() -> str:
    """Return the list of reference pages."""
    lines = [f"- [{title}]({name}.md): `{module}`" for name, (module, title) in MODULES.items()]
    return "\n".join(["# Reference", "", "- [Commands](commands.md): the help of each", *lines, ""])
