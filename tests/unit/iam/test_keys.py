import base64
import json
import os

import google.auth.crypt
import google.auth.jwt
import pytest

from hakobune.iam.errors import BadCredentialsError
from hakobune.iam.keys import (
    is_assertion,
    is_same_key,
    key_document,
    make_key,
    private_digest,
    read_key_file,
    signer_of,
    verify_assertion,
)
from hakobune.iam.master_key import MasterKeyError, load_master_key
from hakobune.iam.secret_box import SecretBox, SecretBoxError

NOW = 1_800_000_000
EMAIL = "builder@shop.iam.gserviceaccount.com"


@pytest.fixture(scope="module")
def pair():
    return make_key("KEY_ALG_RSA_2048")


def assertion(pair, **claims):
    """As google-auth makes one."""
    signer = google.auth.crypt.RSASigner.from_string(pair.private_key, pair.id)
    payload = {"iss": EMAIL, "iat": NOW, "exp": NOW + 3600, "aud": "x", "scope": "s"}
    return google.auth.jwt.encode(signer, {**payload, **claims}).decode()


def test_what_google_auth_signs_is_proved(pair):
    text = assertion(pair)

    proved = verify_assertion(text, pair.public_key, now_s=NOW)

    assert signer_of(text) == (pair.id, EMAIL)
    assert is_assertion(text)
    assert (proved.email, proved.audience, proved.scope) == (EMAIL, "x", "s")


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"exp": NOW - 61}, "expired"),
        ({"iat": NOW + 61}, "expired"),
        ({"exp": NOW + 3700}, "longer than an hour"),
        ({"exp": "soon"}, "no times"),
        ({"iat": float("nan")}, "no times"),
        ({"exp": float("inf")}, "no times"),
        ({"exp": 10**400}, "no times"),
        ({"sub": "somebody@else.org"}, "somebody else"),
    ],
)
def test_an_assertion_that_says_too_much_is_refused(pair, claims, why):
    with pytest.raises(BadCredentialsError, match=why):
        verify_assertion(assertion(pair, **claims), pair.public_key, now_s=NOW)


def test_another_accounts_key_proves_nothing(pair):
    other = make_key("KEY_ALG_RSA_2048")

    with pytest.raises(BadCredentialsError, match="not signed with that key"):
        verify_assertion(assertion(other), pair.public_key, now_s=NOW)


def test_a_key_file_proves_by_its_private_half(pair):
    document = key_document(pair, email=EMAIL, project="shop", client_id="1", server="http://h:1")

    sent = read_key_file(json.dumps(document))

    assert (sent.id, sent.email) == (pair.id, EMAIL)
    assert is_same_key(sent, private_digest(pair.private_key))
    other = {**document, "private_key": make_key("KEY_ALG_RSA_2048").private_key}
    assert not is_same_key(read_key_file(json.dumps(other)), private_digest(pair.private_key))


def test_line_ends_of_a_key_file_do_not_matter(pair):
    assert private_digest(pair.private_key.replace("\n", "\r\n")) == private_digest(
        pair.private_key
    )


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", '{"private_key": 1}', "x" * 20_000, "[" * 5000]
)
def test_what_is_no_key_file_is_refused_without_repeating_it(text):
    with pytest.raises(BadCredentialsError, match="no service account's key file"):
        read_key_file(text)


def test_a_key_does_not_show_its_private_half(pair):
    assert "PRIVATE" not in repr(pair)


def test_the_master_key_is_made_once_and_readable_by_its_owner_alone(tmp_path):
    path = tmp_path / "registry" / "master.key"

    key = load_master_key(path)

    assert load_master_key(path).derive("a") == key.derive("a") != key.derive("b")
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == ["master.key"]


def test_a_master_key_that_others_can_read_or_that_is_damaged_is_refused(tmp_path):
    path = tmp_path / "master.key"
    load_master_key(path)

    path.chmod(0o640)
    with pytest.raises(MasterKeyError, match="others may read"):
        load_master_key(path)
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(MasterKeyError, match="is no master key"):
        load_master_key(path)


def test_a_sealed_password_opens_for_its_place_alone(tmp_path):
    box = SecretBox(load_master_key(tmp_path / "a"))
    sealed = box.seal(b"hunter2", place="projects/p")

    assert box.open(sealed, place="projects/p") == b"hunter2"
    assert b"hunter2" not in sealed
    assert box.seal(b"hunter2", place="projects/p") != sealed
    other = SecretBox(load_master_key(tmp_path / "b"))
    for opener, place, data in (
        (box, "projects/q", sealed),
        (other, "projects/p", sealed),
        (box, "projects/p", sealed[:-1]),
        (box, "projects/p", b""),
        (box, "projects/p", sealed[:-1] + bytes([sealed[-1] ^ 1])),
    ):
        with pytest.raises(SecretBoxError, match="cannot open"):
            opener.open(data, place=place)


def test_the_key_file_is_what_google_auth_reads(pair):
    from google.oauth2.service_account import Credentials

    document = key_document(pair, email=EMAIL, project="shop", client_id="1", server="http://h:1")

    credentials = Credentials.from_service_account_info(document)

    assert credentials.service_account_email == EMAIL
    assert credentials._token_uri == "http://h:1/token"
    assert base64.b64encode(credentials.sign_bytes(b"x"))
