import copy
import hashlib
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hakobune.oci.digest import Digest, DigestError

EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_a_digest_is_written_as_it_was_read():
    assert str(Digest.parse(EMPTY)) == EMPTY
    assert Digest.of(b"") == Digest.parse(EMPTY)


def test_sha512_is_understood():
    text = "sha512:" + hashlib.sha512(b"x").hexdigest()

    digest = Digest.parse(text)

    digest.verify(b"x")
    assert (digest.algorithm, str(digest)) == ("sha512", text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "ALGORITHM:HEX"),
        ("latest", "ALGORITHM:HEX"),
        ("md5:0123", "sha256 and sha512"),
        ("sha256:abc", "64 hexadecimal digits, this has 3"),
        (EMPTY.upper().replace("SHA256", "sha256"), "lower case"),
        (EMPTY + "\n", "64 hexadecimal digits, this has 65"),
        ("sha256:" + "../" * 21 + "x", "lower case"),
        ("sha256:" + "٣" * 64, "lower case"),
    ],
)
def test_anything_else_is_refused_with_the_reason(text: str, why: str):
    with pytest.raises(DigestError, match=why):
        Digest.parse(text)


def test_damage_is_told_with_both_digests():
    with pytest.raises(
        DigestError, match="2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    ):
        Digest.parse(EMPTY).verify(b"x")


@given(st.binary())
def test_the_digest_of_any_content_verifies_and_round_trips(data: bytes):
    digest = Digest.of(data)

    digest.verify(data)
    assert Digest.parse(str(digest)) == digest


@given(st.text())
def test_parsing_gives_the_same_text_back_or_an_error(text: str):
    try:
        digest = Digest.parse(text)
    except DigestError:
        return
    assert str(digest) == text


def test_a_digest_is_a_value():
    digest = Digest.parse(EMPTY)

    assert {digest, Digest.of(b"")} == {digest}
    assert sorted([Digest.of(b"x"), digest]) == sorted([digest, Digest.of(b"x")])
    assert copy.deepcopy(digest) == digest
    assert pickle.loads(pickle.dumps(digest)) == digest
    assert digest != EMPTY
    with pytest.raises(AttributeError, match="cannot be changed"):
        digest.hex = "00"
