"""Which part may import which (DESIGN, section 2), read from the source of every module."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "clipbias"
LIGHT = {"probes", "data"}
INSTRUMENT = {"models", "zoo", "embedding", "views", "metrics", "results", "engine"}
# part -> parts of ours it may import. Every part may import itself and `base`.
ARROWS = {
    "base": set(),
    **dict.fromkeys(LIGHT, LIGHT),
    **dict.fromkeys(INSTRUMENT, LIGHT | INSTRUMENT),
    "tasks": LIGHT | INSTRUMENT,
    "analysis": set(),
    "reports": {"results"},  # tables in: their columns, and the folder they lie in
    "verb": LIGHT | INSTRUMENT | {"tasks", "analysis", "reports", "verb"},
}
# What is foreign and may be imported, lazily or not, by the parts whose weight is promised.
FOREIGN = {
    "base": set(),
    "probes": {"numpy", "pandas", "pyarrow", "pydantic", "PIL", "resvg_py", "platformdirs", "filelock"},
    "data": {"numpy", "pandas", "pyarrow", "pydantic", "PIL", "resvg_py", "platformdirs", "filelock"},
    "analysis": {"numpy", "pandas", "scipy", "statsmodels", "torch"},
    "reports": {"numpy", "pandas", "altair", "vl_convert", "jinja2", "markupsafe", "markdown_it"},
}
# Printing a table needs these two, lazily.
EXCUSED = {("clipbias.commands.tables", name) for name in ("numpy", "pandas", "rich")}
BASE = {"", "errors", "content", "display", "commands", "commands.common", "commands.tables"}


def modules() -> dict[str, Path]:
    """Return every module of the package by its dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if "_content" not in parts:
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def part_of(module: str) -> str:
    """Return the part of DESIGN's table that a module belongs to."""
    inside = module.removeprefix("clipbias").removeprefix(".")
    if inside in BASE:
        return "base"
    top = inside.split(".")[0]
    # A package's __main__ is a command, and so is a module of the top level.
    return top if top in ARROWS and not inside.endswith("__main__") else "verb"


def typing_only(node: ast.AST) -> bool:
    """Tell whether a node is ``if TYPE_CHECKING:``, whose imports never run."""
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def imports_in(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the imports that can run, those inside functions too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        children = ast.Module(node.orelse, []) if typing_only(node) else node
        yield from imports_in(children)


def imported(module: str, path: Path, known: dict[str, Path]) -> set[str]:
    """Return the names that a module imports: our modules in full, foreign ones by their first part."""
    names = set()
    for node in imports_in(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        else:
            source = node.module or ""
            if node.level:
                anchor = module.split(".") + ([""] if path.name == "__init__.py" else [])
                source = ".".join([*anchor[: -node.level], *filter(None, [node.module])])
            targets = [
                inner if (inner := f"{source}.{alias.name}") in known else source for alias in node.names
            ]
        for target in targets:
            ours = target.split(".")[0] == "clipbias"
            names.add(target if ours else target.split(".")[0])
    return names - {module}


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    known = modules()
    return {module: imported(module, path, known) for module, path in known.items()}


def find_cycle(edges: dict[str, set[str]]) -> list[str]:
    """Return one cycle of a directed graph as a path, or an empty list."""
    done: set[str] = set()

    def walk(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        for target in sorted(edges.get(node, ())):
            if cycle := walk(target, [*path, node]):
                return cycle
        done.add(node)
        return []

    return next((cycle for node in sorted(edges) if (cycle := walk(node, []))), [])


def test_the_scan_sees_our_imports(graph):
    assert {"clipbias", "clipbias.commands.common", "argparse", "importlib"} <= graph["clipbias.cli"]
    assert "rich" in graph["clipbias.commands.tables"]  # inside a function
    assert "clipbias.errors" in graph["clipbias.content"]


@pytest.mark.parametrize(
    ("edges", "cycle"),
    [({"a": {"b"}, "b": {"c"}, "c": set()}, []), ({"a": {"b"}, "b": {"c"}, "c": {"b"}}, ["b", "c", "b"])],
)
def test_find_cycle(edges, cycle):
    assert find_cycle(edges) == cycle


def test_every_part_imports_only_what_the_design_lets_it(graph):
    wrong = [
        f"{module} imports {target}"
        for module, targets in graph.items()
        for target in targets
        if target.split(".")[0] == "clipbias"
        and (source := part_of(module)) != (aim := part_of(target))
        and aim != "base"
        and aim not in ARROWS[source]
    ]
    assert not wrong, "\n".join(sorted(wrong))


def test_light_parts_import_only_light_packages(graph):
    wrong = [
        f"{module} imports {target}"
        for module, targets in graph.items()
        if part_of(module) in FOREIGN
        for target in targets
        if target != "clipbias" and not target.startswith("clipbias.")
        and target not in sys.stdlib_module_names
        and target not in FOREIGN[part_of(module)]
        and (module, target) not in EXCUSED
    ]  # fmt: skip
    assert not wrong, "\n".join(sorted(wrong))


def test_every_foreign_import_is_a_declared_dependency(graph):
    import tomllib
    from importlib.metadata import packages_distributions

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {canonicalize_name(Requirement(line).name) for line in project["dependencies"]}
    makers = packages_distributions()
    wrong = [
        f"{module} imports {target}"
        for module, targets in graph.items()
        for target in targets
        if target.split(".")[0] != "clipbias" and target not in sys.stdlib_module_names
        and not declared & {canonicalize_name(maker) for maker in makers.get(target, [])}
    ]  # fmt: skip
    assert not wrong, "\n".join(sorted(wrong))


def test_modules_have_no_cycle(graph):
    cycle = find_cycle({m: {t for t in targets if t in graph} for m, targets in graph.items()})
    assert not cycle, " imports ".join(cycle)


def test_parts_have_no_cycle(graph):
    edges: dict[str, set[str]] = {}
    for module, targets in graph.items():
        if (source := part_of(module)) != "verb":
            edges.setdefault(source, set()).update(
                part_of(target) for target in targets if target in graph and part_of(target) != source
            )
    cycle = find_cycle(edges)
    assert not cycle, " imports ".join(cycle)


@pytest.mark.parametrize("module", ["clipbias.probes", "clipbias.data", "clipbias.cli", "clipbias.content"])
def test_light_modules_load_no_torch(module):
    program = f"import sys, {module}; print([m for m in ('torch', 'open_clip', 'transformers', 'sklearn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
