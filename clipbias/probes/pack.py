"""Pack the emoji art from its npm packages into probes/emoji: one compressed file per style.

Run by ``make art`` when the art is renewed; users never need it. The packages are fetched with
``npm pack`` at the pinned versions and checked against the pinned SHA-512.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import json
import lzma
import re
import subprocess
import tarfile
import tempfile
from pathlib import Path

import numpy as np

from clipbias.probes.art import Art, pixels

# style -> npm package, version, integrity (sha512 of the tarball)
PACKAGES = {
    "twemoji": (
        "@iconify-json/twemoji",
        "1.2.5",
        "uKpuIEV0v6K5BW3Mjdyl+XKFVAbbcPxAgifKvEMtZoUZB5+YiY5zaMm2uNNCxyXzAWU9yNLlj41WU6/mvgALsw==",
    ),
    "noto": (
        "@iconify-json/noto",
        "1.2.9",
        "DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==",
    ),
    "fluent": (
        "@iconify-json/fluent-emoji-flat",
        "1.2.6",
        "RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==",
    ),
    "openmoji": (
        "@iconify-json/openmoji",
        "1.2.29",
        "vXdhkqcXVSO6suy+m9LbcUM3OdVyuNOtpV8/als/WqfkQIRxevL5Geb/g+6GH/Qwnq1OqksEmaDGTCmZ5nFKJQ==",
    ),
}
NAMES = (
    "emojibase-data",
    "17.0.0",
    "Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
)
TONES = {"1F3FB": 1, "1F3FC": 2, "1F3FD": 3, "1F3FE": 4, "1F3FF": 5}
PEOPLE_GROUPS = (
    "person",
    "person-gesture",
    "person-role",
    "person-fantasy",
    "person-activity",
    "person-sport",
    "person-resting",
)
# Subgroups whose pictures hold no person and mean one thing.
OBJECT_GROUPS = (
    "animal-", "plant-", "food-", "drink", "dishware", "place-", "transport-", "hotel", "event", "award-medal", "sport", "game",
    "arts-crafts", "clothing", "sound", "musical-instrument", "phone", "computer", "light-video", "book-paper", "money", "mail",
    "writing", "office", "lock", "tool", "science", "medical", "household",
)  # fmt: skip
# Roles whose label does not hold a gender word to strip.
RENAMED = {
    "": "adult", "boy": "child", "girl": "child", "old": "older adult", "older": "older adult", "prince": "royal", "princess": "royal",
    "with crown": "royal", "merman": "merperson", "mermaid": "merperson", "deaf": "deaf person",
}  # fmt: skip


def fetch(package: str, version: str, integrity: str, folder: Path) -> Path:
    """Fetch one npm package, check its SHA-512 and return the unpacked folder."""
    listing = subprocess.run(
        ["npm", "pack", "--json", f"{package}@{version}"],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    tarball = folder / json.loads(listing.stdout)[0]["filename"].replace("@", "").replace("/", "-")
    digest = base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
    if digest != integrity:
        raise SystemExit(f"{package}@{version}: sha512 {digest} is not the pinned {integrity}")
    target = folder / tarball.stem
    with tarfile.open(tarball) as archive:
        archive.extractall(target, filter="data")
    return target / "package"


def gender_of(hexcode: str, label: str) -> str:
    """Return the gender a code-point sequence encodes: woman, man or person (none encoded)."""
    points = hexcode.split("-")
    if (
        points[0] in ("1F469", "1F467", "1F475", "1F478", "1F931", "1F930", "1F9D5", "1F936", "1F483")
        or "2640" in points
    ):
        return "woman"
    if points[0] in ("1F468", "1F466", "1F474", "1F934", "1F385", "1F57A", "1FAC3") or "2642" in points:
        return "man"
    return "person"


def role_of(label: str) -> str:
    """Return the role named by a CLDR label, without its gender and skin tone words."""
    head, _, tail = label.partition(": ")
    rest = [part for part in tail.split(", ") if part and "skin tone" not in part]
    head = re.sub(r"\b(woman|man|person|women|men|people)\b ?", "", head).strip()
    if "facing right" in rest:
        return f"{RENAMED.get(head, head)} (facing right)"
    return rest[0] if rest else RENAMED.get(head, head)


def people_and_objects(data: list[dict], meta: dict) -> tuple[list[dict], list[dict]]:
    """Return one record per single-person picture and per object picture."""
    groups = meta["subgroups"]
    people, objects = [], []
    for base in data:
        subgroup = groups.get(str(base.get("subgroup")), "")
        keywords = "|".join(base.get("tags", []))
        if subgroup in PEOPLE_GROUPS:
            for entry in [base, *base.get("skins", [])]:
                tone = entry.get("tone", 0)
                if isinstance(tone, list):
                    continue  # two people of different tones
                people.append(
                    {"hexcode": entry["hexcode"], "role": role_of(entry["label"]), "subgroup": subgroup,
                     "gender": gender_of(entry["hexcode"], entry["label"]), "tone": tone, "label": entry["label"], "keywords": keywords}
                )  # fmt: skip
        elif any(subgroup == g or (g.endswith("-") and subgroup.startswith(g)) for g in OBJECT_GROUPS):
            objects.append(
                {
                    "hexcode": base["hexcode"],
                    "name": base["label"],
                    "subgroup": subgroup,
                    "keywords": keywords,
                }
            )
    cells: dict[str, set] = {}
    for person in people:
        cells.setdefault(person["role"], set()).add((person["gender"], person["tone"]))
    two_people = {"with bunny ears", "wrestling"}
    crossed = {role for role, seen in cells.items() if len(seen) == 18 and role not in two_people}
    return [p for p in people if p["role"] in crossed], objects


def svg_of(icons: dict, chars: dict, hexcode: str) -> str | None:
    """Return one icon as a complete SVG document, or None where the style lacks it."""
    short = hexcode.lower()
    name = next((chars[key] for key in (short, short.replace("-fe0f", "")) if key in chars), None)
    if name is None:
        return None
    icon = icons["icons"].get(name) or icons["icons"][icons["aliases"][name]["parent"]]
    width, height = icon.get("width", icons["width"]), icon.get("height", icons["height"])
    left, top = icon.get("left", 0), icon.get("top", 0)
    return f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{left} {top} {width} {height}">{icon["body"]}</svg>'


def visibility(art: Art, people: list[dict], size: int = 64) -> list[dict]:
    """Measure how far two genders of one role differ: the median over tones of the mean |difference| (0-255) on white."""
    codes = {(p["role"], p["gender"], p["tone"]): p["hexcode"] for p in people}
    rows = []
    for role in sorted({p["role"] for p in people}):
        row: dict[str, object] = {"style": art.style, "role": role}
        for a, b in (("woman", "man"), ("man", "person"), ("woman", "person")):
            gaps = []
            for tone in range(6):
                pair = [codes[role, g, tone] for g in (a, b)]
                if all(code in art.svg for code in pair):
                    one, two = (pixels(art.svg[code], size).astype(float) for code in pair)
                    gaps.append(np.abs(one - two).mean())
            row[f"{a}_{b}"] = round(float(np.median(gaps)), 1) if gaps else ""
        rows.append(row)
    return rows


def write_csv(path: Path, rows: list[dict]) -> None:
    """Write records with stable order and line ends."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main(argv: list[str] | None = None) -> int:
    """Fetch, pack and measure; write into ``--out``."""
    parser = argparse.ArgumentParser(prog="python -m clipbias.probes.pack", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("probes/emoji"))
    out = parser.parse_args(argv).out
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        names = fetch(*NAMES, folder)
        people, objects = people_and_objects(
            json.loads((names / "en/data.json").read_text()),
            json.loads((names / "meta/groups.json").read_text()),
        )
        seen: list[dict] = []
        packed = {}
        for style, pinned in PACKAGES.items():
            source = fetch(*pinned, folder)
            icons, chars = (json.loads((source / f"{part}.json").read_text()) for part in ("icons", "chars"))
            svg = {e["hexcode"]: svg_of(icons, chars, e["hexcode"]) for e in [*people, *objects]}
            packed[style] = {code: text for code, text in sorted(svg.items()) if text}
        shared = set.intersection(*map(set, packed.values()))
        objects = [o for o in objects if o["hexcode"] in shared]
        wanted = {e["hexcode"] for e in [*people, *objects]}
        for style, pictures in packed.items():
            kept = {code: text for code, text in pictures.items() if code in wanted}
            data = lzma.compress(
                json.dumps(kept, ensure_ascii=False, separators=(",", ":")).encode(),
                preset=9 | lzma.PRESET_EXTREME,
            )
            (out / f"{style}.json.xz").write_bytes(data)
            seen += visibility(Art(style, kept), people)
            print(f"{style}: {len(kept)} pictures, {len(data) / 2**20:.2f} MiB")
    write_csv(out / "people.csv", people)
    write_csv(out / "objects.csv", objects)
    write_csv(out / "visibility.csv", seen)
    print(f"{len(people)} people, {len(objects)} objects")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
