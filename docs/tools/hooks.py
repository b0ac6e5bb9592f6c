"""What MkDocs calls while it builds the site: pages that are made from registries, cards and docstrings."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
for folder in (str(ROOT), str(Path(__file__).resolve().parent)):
    if folder not in sys.path:
        sys.path.insert(0, folder)

import cards  # noqa: E402
import metric_pages  # noqa: E402
from mathml import with_mathml  # noqa: E402
from mkdocs.structure.files import File, Files  # noqa: E402


def generated() -> dict[str, str]:
    """Return address and text of every page that no file of ``docs/`` holds as it is shown."""
    pages = {"metrics/index.md": metric_pages.index()}
    pages |= {f"metrics/{f.path.name}": metric_pages.page(f) for f in metric_pages.fragments()}
    pages |= {f"cards/{p.parent.name}.md": cards.card(p) for p in cards.card_paths()}
    pages |= {
        "cards/index.md": cards.index(),
        "cards/zoo.md": cards.zoo_page(),
        "cards/recipes.md": cards.content_page(),
    }
    pages |= {f"reference/{name}.md": text for name, text in cards.reference_pages()}
    pages |= {"reference/index.md": cards.reference_index(), "reference/commands.md": cards.commands_page()}
    pages["changelog.md"] = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    return pages


def on_files(files: Files, config: Any) -> Files:
    """Put the generated pages in the place of fragments, or beside them."""
    for address, text in generated().items():
        old = files.get_file_from_path(address)
        if old is not None:
            files.remove(old)
        files.append(File.generated(config, address, content=text))
    return files


def on_config(config: Any) -> Any:
    """List the generated pages in the navigation."""
    for entry in config["nav"]:
        for title, value in list(entry.items()):
            if isinstance(value, str) and value.endswith("/"):
                entry[title] = _section(value)
    config["nav"].append({"Changes": "changelog.md"})
    return config


def _section(folder: str) -> list[str]:
    mine = sorted(address for address in generated() if address.startswith(folder))
    return [f"{folder}index.md", *(address for address in mine if not address.endswith("/index.md"))]


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Draw formulas."""
    return with_mathml(html)
