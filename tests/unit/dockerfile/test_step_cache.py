"""Keys of steps, their records, and what is remembered of files."""

from __future__ import annotations

import os
import time
from pathlib import Path

from hakobune.dockerfile.cache import StepCache, StepRecord, step_key
from hakobune.dockerfile.file_digests import FileDigests
from hakobune.dockerfile.prune import forget_build_cache
from hakobune.oci.digest import Digest
from hakobune.oci.store import Store
from tests.image_maker import a_layer

BELOW = (Digest.of(b"1"), Digest.of(b"2"))


def test_a_key_depends_on_layers_and_inputs_and_not_on_their_order_of_writing() -> None:
    key = step_key(BELOW, {"run": ["a"], "env": ["X=1"]})

    assert key == step_key(BELOW, {"env": ["X=1"], "run": ["a"]})
    assert key != step_key(BELOW[::-1], {"run": ["a"], "env": ["X=1"]})
    assert key != step_key(BELOW, {"run": ["a"], "env": ["X=2"]})


def test_a_record_is_found_as_long_as_its_layer_is_there(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        layer = a_layer(store)
        cache = StepCache(store)
        record = StepRecord(layer=layer.blob, diff_id=layer.diff_id, created="T", what="RUN x")
        cache.put("k", record)

        assert cache.find("k") == record
        assert cache.find("other") is None
        store.blob_path(layer.blob.digest).unlink()
        assert cache.find("k") is None


def test_a_step_outlives_a_collection_until_it_is_forgotten(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        layer = a_layer(store)
        record = StepRecord(layer=layer.blob, diff_id=layer.diff_id, created="T")
        StepCache(store).put("k", record)
    store.collect()
    assert store.has_blob(layer.blob.digest)

    assert forget_build_cache(store) == 1
    store.collect()

    assert not store.has_blob(layer.blob.digest)


def test_only_what_nobody_used_for_long_is_forgotten(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        layer = a_layer(store)
        cache = StepCache(store)
        for name in ("old", "new"):
            cache.put(name, StepRecord(layer=layer.blob, diff_id=layer.diff_id, created="T"))
        os.utime(tmp_path / "dockerfile/steps/old", (1, 1))

        assert cache.forget(unused_for_s=3600) == 1
        assert [name for name, _, _ in cache.records()] == ["new"]


def test_a_damaged_record_is_as_good_as_none(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        (tmp_path / "dockerfile/steps").mkdir(parents=True)
        (tmp_path / "dockerfile/steps/k").write_text("{")

        assert StepCache(store).find("k") is None


def test_an_unchanged_file_is_known_and_a_changed_one_is_not(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("1")
    status = os.stat(file)
    digests = FileDigests(tmp_path / "home", tmp_path)
    digests.put(status, "d")
    assert digests.find(status) is None  # changed too shortly before

    old = os.stat_result(
        (*status[:10],), {"st_ctime_ns": time.time_ns() - 10**10, "st_mtime_ns": 5}
    )
    digests.put(old, "d")
    digests.save()

    again = FileDigests(tmp_path / "home", tmp_path)
    assert again.find(old) == "d"
    assert again.find(status) is None
