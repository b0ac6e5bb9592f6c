"""VisoGender's links: read, found in a folder, fetched, and listed when dead."""

from __future__ import annotations

import pytest

from clipbias import data
from clipbias.errors import DataError

OO = (
    "IDX\tSector\tSpecialisation\tOccupation\tObject\tURL type (Type NA if can't find)\tLICENSE OK?\t"
    "Occupation_perceived_gender\tError codes\tAnnotator\n"
)
OP = (
    "IDX\tSector\tSpecialisation\tOccupation\tParticipant\tURL type (Type NA if can't find)\tLicence\t"
    "Occupation_perceived_gender\tParticipant_perceived_gender\tError codes\tAnnotator\n"
)


def row(idx, url, gender, second=None, thing="mixing_spoon"):
    genders = f"{gender}\t{second}" if second else gender
    return f"{idx}\tservice\tfood_service\tbaker\t{thing}\t{url}\tYes\t{genders}\t\tA"


def write(tmp_path, head, *rows):
    path = tmp_path / "OO_Visogender.tsv"
    path.write_text(head + "\n".join(rows))  # the published files end without a line break
    return path


def left(image_set):
    return dict(image_set.left_out.to_numpy().tolist())


def test_one_person_and_an_object(tmp_path, pictures):
    path = write(
        tmp_path,
        OO,
        row("OO_1", "http://a", "masculine"),
        row("OO_2", "http://b", "woman"),
        row("OO_3", "NA", "feminine"),
    )
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "OO_2.png").write_bytes(pictures[0])
    found = data.read_visogender(path, folder)
    assert found.ids == ["OO_2"]
    assert found.table["gender"].tolist() == ["feminine"]
    assert found.table["caption"].tolist() == ["the baker and their mixing spoon"]
    assert found.read([0]) == [pictures[0]]
    assert left(found)["OO_3"] == "no link was found by the annotators"
    assert left(found)["OO_1"] == f"missing file (in {folder}); dead link? http://a"


def test_two_people(tmp_path):
    path = write(
        tmp_path,
        OP,
        row("OP_1", "http://a", "masculine", "feminine", "customer"),
        row("OP_2", "http://a", "feminine", "feminine", "customer"),
    )
    found = data.read_visogender(path, None)
    assert found.attributes == ("gender", "participant_gender")
    assert found.table["pair"].tolist() == ["different", "same"]
    assert found.table["kind"].tolist() == ["participant"] * 2
    assert found.facts["notes"] == ("2 rows share the link http://a",)


def test_download_fetches_once_and_lists_dead_links(tmp_path, pictures):
    live, text = tmp_path / "live.png", tmp_path / "page.html"
    live.write_bytes(pictures[1])
    text.write_text("<p>gone</p>")
    rows = [
        ("OO_1", live.as_uri()),
        ("OO_2", (tmp_path / "no.png").as_uri()),
        ("OO_3", text.as_uri()),
        ("OO_4", "no link"),
    ]
    path = write(tmp_path, OO, *(row(i, url, "feminine") for i, url in rows))
    folder, done = tmp_path / "got", []
    found = data.read_visogender(path, None)
    dead = dict(data.download(found, folder, on_each=lambda k, n: done.append((k, n))).to_numpy().tolist())
    assert sorted(p.name for p in folder.iterdir()) == ["OO_1.png"]
    assert dead["OO_2"].startswith("dead link (")
    assert dead["OO_3"].startswith("no picture (not an image")
    assert dead["OO_4"].startswith("dead link (")
    assert done[-1] == (4, 4)
    live.unlink()
    assert "OO_1" not in set(data.download(found, folder)["item"])  # it is there already
    assert data.read_visogender(path, folder).ids == ["OO_1"]


def test_errors(tmp_path):
    with pytest.raises(DataError, match="no column 'Object'"):
        data.read_visogender(
            write(tmp_path, OO.replace("Object", "Thing"), row("OO_1", "x", "feminine")), None
        )
    with pytest.raises(DataError, match="'neutral' in row 1"):
        data.read_visogender(write(tmp_path, OO, row("OO_1", "x", "neutral")), None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no picture named by an IDX such as OO_1\.jpg.*download"):
        data.read_visogender(write(tmp_path, OO, row("OO_1", "x", "feminine")), tmp_path / "empty")
