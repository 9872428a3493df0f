import os

from hakobune.support.locks import exclusive, shared, try_exclusive


def test_an_exclusive_lock_keeps_others_out_and_ends_with_its_block(tmp_path):
    path = tmp_path / "lock"

    with exclusive(path):
        assert try_exclusive(path) is None

    descriptor = try_exclusive(path)
    assert descriptor is not None
    os.close(descriptor)


def test_sharers_share_and_keep_an_exclusive_holder_out(tmp_path):
    path = tmp_path / "lock"

    with shared(path), shared(path):
        assert try_exclusive(path) is None
