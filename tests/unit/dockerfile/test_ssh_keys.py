"""Key files that sign for a build: which are understood, and what the agent made of them answers."""

from __future__ import annotations

import os
import struct
from base64 import b64decode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from hakobune.dockerfile.ssh_keys import KeyAgent, KeyFileError, read_key

Private = ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
RSA = rsa.generate_private_key(65537, 2048)
ED25519 = ed25519.Ed25519PrivateKey.generate()
ECDSA = ec.generate_private_key(ec.SECP384R1())
FAILURE = b"\5"


def write(
    path: Path, key: Private | dsa.DSAPrivateKey, form: PrivateFormat = PrivateFormat.OpenSSH, passphrase: bytes = b""
) -> Path:  # fmt: skip
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    path.write_bytes(key.private_bytes(Encoding.PEM, form, encryption))
    return path


def blob_of(key: Private) -> bytes:
    text = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return b64decode(text.split()[1])


def string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def strings(data: bytes) -> list[bytes]:
    found = []
    while data:
        (length,) = struct.unpack_from(">I", data)
        found.append(data[4 : 4 + length])
        data = data[4 + length :]
    return found


def signature(agent: KeyAgent, key: Private, data: bytes, flags: int = 0) -> list[bytes]:
    """The algorithm's name and the signature itself."""
    answer = agent.answer(b"\x0d" + string(blob_of(key)) + string(data) + struct.pack(">I", flags))
    assert answer[0] == 14
    (whole,) = strings(answer[1:])
    return strings(whole)


@pytest.mark.parametrize("key", [RSA, ED25519, ECDSA], ids=["rsa", "ed25519", "ecdsa"])
@pytest.mark.parametrize("form", [PrivateFormat.OpenSSH, PrivateFormat.PKCS8])
def test_a_key_is_read_in_each_of_its_forms(
    tmp_path: Path, key: Private, form: PrivateFormat
) -> None:
    assert read_key(write(tmp_path / "key", key, form)).blob == blob_of(key)


def test_the_agent_lists_its_keys_and_signs_with_each(tmp_path: Path) -> None:
    keys: list[Private] = [RSA, ED25519, ECDSA]
    agent = KeyAgent([read_key(write(tmp_path / str(n), key)) for n, key in enumerate(keys)])

    listed = agent.answer(b"\x0b")
    name, ed25519_signature = signature(agent, ED25519, b"data")
    rsa_signatures = {flags: signature(agent, RSA, b"data", flags) for flags in (0, 2, 4, 6)}
    ecdsa_name, pair = signature(agent, ECDSA, b"data")

    assert listed[:5] == b"\x0c" + struct.pack(">I", 3)
    assert strings(listed[5:])[::2] == [blob_of(key) for key in keys]
    assert name == b"ssh-ed25519"
    ED25519.public_key().verify(ed25519_signature, b"data")
    for flags, expected, hash_ in (
        (0, b"ssh-rsa", hashes.SHA1()),
        (2, b"rsa-sha2-256", hashes.SHA256()),
        (4, b"rsa-sha2-512", hashes.SHA512()),
        (6, b"rsa-sha2-512", hashes.SHA512()),
    ):
        algorithm, signed = rsa_signatures[flags]
        assert algorithm == expected
        RSA.public_key().verify(signed, b"data", padding.PKCS1v15(), hash_)
    assert ecdsa_name == b"ecdsa-sha2-nistp384"
    numbers = [int.from_bytes(number, "big", signed=True) for number in strings(pair)]
    der = utils.encode_dss_signature(*numbers)
    ECDSA.public_key().verify(der, b"data", ec.ECDSA(hashes.SHA384()))


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x0d",
        b"\x0d" + string(b"no such key") + string(b"data") + bytes(4),
        b"\x0d\xff\xff\xff\xffshort",
        b"\x0d" + string(blob_of(ED25519)) + string(b"data"),
        b"\x11" + string(b"add"),
        b"\x13",
    ],
)
def test_what_the_agent_does_not_understand_is_a_failure(message: bytes, tmp_path: Path) -> None:
    agent = KeyAgent([read_key(write(tmp_path / "key", ED25519))])

    assert agent.answer(message) == FAILURE


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_an_encrypted_key_is_for_an_agent(tmp_path: Path, form: PrivateFormat) -> None:
    path = write(tmp_path / "key", RSA, form, b"passphrase")

    with pytest.raises(KeyFileError) as refused:
        read_key(path)

    assert refused.value.what == f"the ssh key {path} cannot be used"
    assert refused.value.why == "it is encrypted, and a build asks for no passphrase"
    assert (
        refused.value.fix
        == f'give it to an agent: eval "$(ssh-agent)" && ssh-add {path}; then --ssh default'
    )


def test_what_is_no_key_is_refused_in_words(tmp_path: Path) -> None:
    public = tmp_path / "id.pub"
    public.write_bytes(ED25519.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))
    (tmp_path / "text").write_text("no key\n")
    (tmp_path / "damaged").write_bytes(write(tmp_path / "key", ED25519).read_bytes()[:120])
    (tmp_path / "large").write_bytes(bytes(200_000))
    os.mkfifo(tmp_path / "fifo")
    write(tmp_path / "dsa", dsa.generate_private_key(1024), PrivateFormat.PKCS8)
    other = ec.generate_private_key(ec.SECP256K1())
    write(tmp_path / "curve", other, PrivateFormat.PKCS8)
    whys = {}
    for name in ("id.pub", "text", "damaged", "large", "fifo", "dsa", "curve", "missing", "."):
        with pytest.raises(KeyFileError) as refused:
            read_key(tmp_path / name)
        assert refused.value.fix
        whys[name] = refused.value.why

    form = "it is no private key in OpenSSH's form or PEM"
    kind = "it is neither an RSA, nor an ECDSA, nor an Ed25519 key"
    assert whys == {
        "id.pub": "it is the public half",
        "text": form,
        "damaged": form,
        "large": "it is 200000 bytes long, and no key is",
        "fifo": "it is no file",
        "dsa": kind,
        "curve": kind,
        "missing": "No such file or directory",
        ".": "it is no file",
    }
