"""Passwords of upstreams at rest."""

from __future__ import annotations

import pytest

from hakobune.iam.master_key import MasterKey
from hakobune.iam.secret_box import SecretBox, SecretBoxError
from hakobune.registry.upstream_password import open_password, seal_password

WEB = "projects/p/locations/l/repositories/web"


@pytest.fixture
def box() -> SecretBox:
    return SecretBox(MasterKey(b"k" * 32))


def test_a_password_is_opened_for_its_repository_alone(box):
    sealed = seal_password(box, WEB, "pässword")

    assert "ssword" not in sealed
    assert open_password(box, WEB, sealed) == "pässword"
    with pytest.raises(SecretBoxError):
        open_password(box, WEB + "2", sealed)


def test_no_password_is_no_secret(box):
    assert seal_password(box, WEB, "") == ""
    assert open_password(box, WEB, "") == ""
