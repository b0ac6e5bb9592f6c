"""The store: what goes in comes out, what is damaged does not, and two processes lose nothing."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipbias.embedding import CacheWarning, EmbeddingCache
from clipbias.embedding.cache import default_folder

KEY = "a" * 64
ROOT = Path(__file__).resolve().parents[2]


def digests(start: int, stop: int) -> list[str]:
    return [hashlib.sha256(str(number).encode()).hexdigest() for number in range(start, stop)]


def rows(start: int, stop: int, dim: int = 8) -> np.ndarray:
    """Embeddings that say which item they belong to."""
    return np.arange(start, stop, dtype=np.float32)[:, None] + np.linspace(0, 0.5, dim, dtype=np.float32)


def files(cache: EmbeddingCache) -> list[Path]:
    return sorted(cache.folder.rglob("*.safetensors"))


@pytest.fixture
def cache(tmp_path) -> EmbeddingCache:
    return EmbeddingCache(tmp_path / "cache")


def test_what_goes_in_comes_out(cache):
    cache.put(KEY, digests(0, 5), rows(0, 5), {"model": "m"})
    cache.put(KEY, digests(5, 9), rows(5, 9), {"model": "m"})
    items = digests(0, 12)[::-1]
    for reader in (cache, EmbeddingCache(cache.folder)):
        values, found = reader.get(KEY, items)
        np.testing.assert_array_equal(found, [False] * 3 + [True] * 9)
        np.testing.assert_array_equal(values, rows(0, 9)[::-1])
    assert (cache.stats.computed, cache.stats.reused) == (9, 9)


@settings(max_examples=25, deadline=None)
@given(
    batches=st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=10, unique=True), max_size=5),
    wanted=st.lists(st.integers(0, 40), max_size=20),
)
def test_any_order_of_writing_and_asking(tmp_path_factory, batches, wanted):
    cache = EmbeddingCache(tmp_path_factory.mktemp("cache"))
    everything, names = rows(0, 41), digests(0, 41)
    for batch in batches:
        cache.put(KEY, [names[i] for i in batch], everything[batch])
    values, found = cache.get(KEY, [names[i] for i in wanted])
    known = {i for batch in batches for i in batch}
    np.testing.assert_array_equal(found, [i in known for i in wanted])
    np.testing.assert_array_equal(values.reshape(-1, 8), everything[[i for i in wanted if i in known]])


def test_keys_do_not_mix(cache):
    cache.put(KEY, digests(0, 2), rows(0, 2))
    values, found = cache.get("b" * 64, digests(0, 2))
    assert not found.any()
    assert values.size == 0


def test_nothing_asked_and_nothing_there(cache):
    assert cache.get(KEY, [])[1].shape == (0,)
    assert not cache.get(KEY, digests(0, 1))[1].any()
    cache.put(KEY, [], np.empty((0, 8), np.float32))
    assert not cache.folder.exists()
    assert cache.ls().empty
    assert cache.prune() == (0, 0)


def test_what_makes_no_sense_is_not_written(cache):
    for items, values in (
        (digests(0, 2), rows(0, 3)),
        (["short"], rows(0, 1)),
        (digests(0, 1), rows(0, 1) * np.nan),
    ):
        with pytest.raises(ValueError, match="SHA-256"):
            cache.put(KEY, items, values)
    assert files(cache) == []


@pytest.mark.parametrize("where", ["matrix", "header", "length", "cut", "empty"])
def test_damage_is_found_said_left_out_and_mended(cache, where):
    cache.put(KEY, digests(0, 4), rows(0, 4))
    cache.put(KEY, digests(4, 8), rows(4, 8))
    victim = next(path for path in files(cache) if digests(0, 1)[0].encode() in path.read_bytes())
    content = bytearray(victim.read_bytes())
    if where == "matrix":
        content[-5] ^= 1
    elif where == "header":  # one hex digit of an item's digest
        at = content.index(digests(1, 2)[0].encode())
        content[at] = ord("0") if content[at] != ord("0") else ord("1")
    elif where == "length":
        content[0] ^= 0xFF
    victim.write_bytes(b"" if where == "empty" else content[:-7] if where == "cut" else content)

    reader = EmbeddingCache(cache.folder)
    with pytest.warns(CacheWarning, match="is damaged.*computed again"):
        values, found = reader.get(KEY, digests(0, 8))
    np.testing.assert_array_equal(found, [False] * 4 + [True] * 4)
    np.testing.assert_array_equal(values, rows(4, 8))
    assert reader.stats.damaged == 1
    # Written again, it is whole again, without another warning.
    reader.put(KEY, digests(0, 4), rows(0, 4))
    values, found = EmbeddingCache(cache.folder).get(KEY, digests(0, 8))
    assert found.all()
    np.testing.assert_array_equal(values, rows(0, 8))


def test_a_file_of_another_key_is_not_taken(cache):
    cache.put(KEY, digests(0, 2), rows(0, 2))
    other = cache.folder / "v1" / ("b" * 64)
    other.mkdir()
    (other / files(cache)[0].name).write_bytes(files(cache)[0].read_bytes())
    with pytest.warns(CacheWarning, match="header"):
        assert not cache.get("b" * 64, digests(0, 2))[1].any()


def test_files_that_vanish_are_missing_items(cache):
    cache.put(KEY, digests(0, 2), rows(0, 2))
    cache.put(KEY, digests(2, 4), rows(2, 4))
    reader = EmbeddingCache(cache.folder)
    assert reader.get(KEY, digests(0, 4))[1].all()
    files(cache)[0].unlink()
    assert reader.get(KEY, digests(0, 4))[1].sum() == 2


def test_an_interrupted_write_leaves_nothing_that_is_read(cache, monkeypatch):
    def fail(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        cache.put(KEY, digests(0, 2), rows(0, 2))
    monkeypatch.undo()
    assert [path.name for path in cache.folder.rglob("*") if path.is_file()] in ([], [".lock"])
    assert not EmbeddingCache(cache.folder).get(KEY, digests(0, 2))[1].any()


def test_a_full_disk_costs_a_warning_and_no_result(cache, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(CacheWarning, match="No space left"):
        cache.put(KEY, digests(0, 2), rows(0, 2))
    cache.put(KEY, digests(2, 4), rows(2, 4))  # said once
    assert list(cache.folder.rglob("*.tmp")) == files(cache) == []


WRITER = """
import sys
sys.path.insert(0, {tests!r})
from test_cache import EmbeddingCache, KEY, digests, rows
cache, offset = EmbeddingCache({folder!r}), int(sys.argv[1])
for start in range(offset, offset + 200, 10):
    cache.put(KEY, digests(start, start + 10), rows(start, start + 10))
    assert cache.get(KEY, digests(offset, start + 10))[1].all()
"""


def test_two_processes_at_once_lose_nothing(cache):
    """Two writers whose items overlap by half, and a reader meanwhile: all 300 items are there and right."""
    code = WRITER.format(tests=str(Path(__file__).parent), folder=str(cache.folder))
    writers = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", code, offset], cwd=ROOT)
        for offset in ("0", "100")
    ]
    while any(writer.poll() is None for writer in writers):
        values, found = cache.get(KEY, digests(0, 300))
        np.testing.assert_array_equal(values.reshape(-1, 8), rows(0, 300)[found])
        time.sleep(0.005)
    assert [writer.returncode for writer in writers] == [0, 0]
    values, found = cache.get(KEY, digests(0, 300))
    assert found.all()
    np.testing.assert_array_equal(values, rows(0, 300))
    assert cache.stats.damaged == 0
    assert not list(cache.folder.rglob("*.damaged"))
    # The same batch is the same file, whoever wrote it.
    assert len(files(cache)) == 30


def test_ls_says_what_is_stored(cache):
    cache.put(KEY, digests(0, 5), rows(0, 5), {"model": "zoo:b", "tower": "image", "precision": "fp32"})
    cache.put(KEY, digests(5, 6), rows(5, 6), {"model": "zoo:b", "tower": "image", "precision": "fp32"})
    cache.put("b" * 64, digests(0, 3), rows(0, 3), {"model": "zoo:a", "tower": "text", "precision": "fp32"})
    table = cache.ls()
    assert table[["model", "tower", "items", "files"]].values.tolist() == [
        ["zoo:a", "text", 3, 1],
        ["zoo:b", "image", 6, 2],
    ]
    assert table["bytes"].sum() == sum(path.stat().st_size for path in files(cache))
    assert table["modified"].dt.tz is not None


def test_prune_takes_what_is_asked_and_all_leavings(cache):
    cache.put(KEY, digests(0, 5), rows(0, 5), {"model": "old"})
    cache.put("b" * 64, digests(0, 5), rows(0, 5), {"model": "new"})
    place = files(cache)[0].parent
    (place / "x.damaged").write_bytes(b"1")
    (place / ".young.tmp").write_bytes(b"12")  # perhaps of a process that is writing now
    (place / ".old.tmp").write_bytes(b"123")
    os.utime(place / ".old.tmp", (0, 0))
    assert cache.prune() == (2, 4)
    assert (place / ".young.tmp").exists()
    assert cache.prune(model="old", older_than=1)[0] == 0
    os.utime(next(path for path in files(cache) if path.parent.name == KEY), (0, 0))
    assert cache.prune(model="new", older_than=1)[0] == 0
    assert cache.prune(older_than=1)[0] == 1
    assert cache.ls()["model"].tolist() == ["new"]
    assert cache.prune(model="new")[0] == 1
    cache.put(KEY, digests(0, 5), rows(0, 5))
    assert cache.prune(everything=True)[0] == 1
    assert cache.ls().empty
    assert not cache.get(KEY, digests(0, 5))[1].any()


def test_prune_removes_damaged_files(cache):
    cache.put(KEY, digests(0, 5), rows(0, 5))
    path = files(cache)[0]
    path.write_bytes(path.read_bytes()[:-1])
    assert cache.prune()[0] == 1


def test_ten_thousand_items_load_in_well_under_a_second(cache):
    names = digests(0, 10_000)
    values = np.random.default_rng(0).standard_normal((10_000, 512)).astype(np.float32)
    for start in range(0, 10_000, 2048):
        cache.put(KEY, names[start : start + 2048], values[start : start + 2048])
    start = time.process_time()  # the machine may be busy with something else
    found_values, found = EmbeddingCache(cache.folder).get(KEY, names)
    assert time.process_time() - start < 1
    assert found.all()
    np.testing.assert_array_equal(found_values, values)


def test_folder_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("CLIPBIAS_CACHE", str(tmp_path))
    assert EmbeddingCache().folder == tmp_path / "embeddings"
    monkeypatch.delenv("CLIPBIAS_CACHE")
    assert "clipbias" in default_folder().parts
