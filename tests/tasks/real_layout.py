"""The embedded world in the exact layout in which COCO and VQAv2 are distributed: names, fields, numbers, JPEG files."""

from __future__ import annotations

import io
import json
from pathlib import Path

from PIL import Image

from clipbias.probes.world import World, captions, image_set

INFO = {"description": "COCO 2014 Dataset", "url": "", "version": "1.0", "year": 2014, "contributor": "", "date_created": ""}  # fmt: skip
LICENCES = [{"url": "", "id": 1, "name": "CC0"}]


def write(folder: Path, *, n: int = 60, seed: int = 4) -> dict[str, Path]:
    """Write captions, questions, annotations and pictures of ``n`` scenes; returns the files by option of ``adapt``."""
    world = image_set(World(n=n, seed=seed))
    said = captions(world.table)
    pictures = folder / "train2014"
    pictures.mkdir(parents=True)
    number = {image: 9 + 7 * row for row, image in enumerate(world.ids)}  # numbers with gaps, as in the files
    entries, told = [], []
    for row, image in enumerate(world.ids):
        key = number[image]
        name = f"COCO_train2014_{key:012d}.jpg"
        picture = Image.open(io.BytesIO(world.read([row])[0])).convert("RGB")
        picture.save(pictures / name, "JPEG", quality=95)
        entries.append(
            {"license": 1, "file_name": name, "coco_url": "", "height": picture.height, "width": picture.width,
             "date_captured": "2013-11-14 11:18:45", "flickr_url": "", "id": key}
        )  # fmt: skip
        texts = said.iloc[row].tolist()
        told += [{"image_id": key, "id": len(told) + k, "caption": text} for k, text in enumerate(texts)]
    asked, answered = [], []
    place: dict[str, int] = {}
    for record in world.questions.to_dict("records"):
        image = record["image_id"]
        place[image] = at = place.get(image, -1) + 1
        key = {"question_id": number[image] * 1000 + at, "image_id": number[image]}
        asked.append({**key, "question": record["question"]})
        answers = [
            {"answer": record["answer"], "answer_confidence": "yes", "answer_id": k} for k in range(1, 11)
        ]
        answered.append(
            {"question_type": " ".join(record["question"].split()[:2]), "multiple_choice_answer": record["answer"], "answers": answers,
             "image_id": number[image], "answer_type": record["answer_type"], "question_id": key["question_id"]}
        )  # fmt: skip
    about = {"info": INFO, "data_type": "mscoco", "data_subtype": "train2014", "license": LICENCES[0]}
    files = {
        "captions": ("captions_train2014.json", {"info": INFO, "images": entries, "licenses": LICENCES, "annotations": told}),
        "questions": (
            "v2_OpenEnded_mscoco_train2014_questions.json", {**about, "task_type": "Open-Ended", "questions": asked},
        ),
        "annotations": ("v2_mscoco_train2014_annotations.json", {**about, "annotations": answered}),
    }  # fmt: skip
    found = {"images": pictures}
    for option, (name, body) in files.items():
        found[option] = folder / name
        found[option].write_text(json.dumps(body))
    return found
