"""How to run it again: the command, the versions, the digests, all from the manifest."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

from clipbias.reports.blocks import Body, Cell, Code, Column, Content, Row, Table
from clipbias.reports.sections import Context, section
from clipbias.reports.words import capital


@section("again")
def again(ctx: Context) -> Content | None:
    """Return the command and one table per part of the manifest."""
    manifest = ctx.tables.manifest
    if not manifest:
        return None
    command = _command(manifest.get("command", ""))
    plain = {k: v for k, v in manifest.items() if k != "command" and not isinstance(v, dict)}
    parts = ([("Run", plain)] if plain else []) + [
        (k, v) for k, v in manifest.items() if isinstance(v, dict) and v
    ]
    bodies = tuple(
        Body(
            tuple(Row((Cell(k), Cell(v, css="mono prose"))) for k, v in _flat(part)),
            capital(name.replace("_", " ")),
        )
        for name, part in parts
    )
    blocks: list[Any] = [Code(command, "Command")] if command else []
    if bodies:
        blocks.append(
            Table(
                id="manifest-table",
                caption="The run's manifest",
                columns=(Column("Entry"), Column("Value")),
                bodies=bodies,
                folded="Versions, seeds and digests",
                tall=True,
            )  # fmt: skip
        )
    return Content({"command": bool(command)}, tuple(blocks))


def _flat(part: dict[str, Any], lead: str = "") -> list[tuple[str, str]]:
    out: list[tuple[str, str]] = []
    for key, value in part.items():
        if isinstance(value, dict):
            out += _flat(value, f"{lead}{key} \u203a ")
        else:
            plain = isinstance(value, (list, tuple)) and not any(
                isinstance(v, (list, tuple, dict)) for v in value
            )
            text = ", ".join(str(v) for v in value) if plain else _json(value)
            out.append((f"{lead}{key}", text))
    return out


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _command(given: Any) -> str:
    """Return the command to type: a script path of this package becomes ``python -m clipbias.VERB``."""
    if not isinstance(given, (list, tuple)):
        return str(given)
    parts = [str(c) for c in given]
    script = re.fullmatch(r".*clipbias[/\\](\w+)\.py", parts[0]) if parts else None
    if parts and re.fullmatch(r".*[/\\]clipbias(\.exe)?", parts[0]):
        parts[0] = "clipbias"
    elif script:
        parts = ["python", "-m", f"clipbias.{script[1]}", *parts[1:]]
    return shlex.join(parts)
