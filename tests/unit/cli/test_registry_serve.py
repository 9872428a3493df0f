from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hakobune.cli.registry_serve import check_certificate
from hakobune.errors import HakoError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`one.pem` and `two.pem` with their keys; `both.pem` is the first with its key; `closed.key` has a password."""
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("one", "two"):
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "1", "-subj"),
                *(f"/CN={name}", "-pkeyopt", "ec_paramgen_curve:P-256"),
                *("-keyout", f"{name}.key", "-out", f"{name}.pem"),
            ],
            check=True,
            capture_output=True,
            cwd=folder,
        )
    text = (folder / "one.pem").read_text() + (folder / "one.key").read_text()
    (folder / "both.pem").write_text(text)
    (folder / "text.pem").write_text("no certificate")
    subprocess.run(
        ["openssl", "ec", "-in", "one.key", "-aes128", "-passout", "pass:x", "-out", "closed.key"],
        check=True,
        capture_output=True,
        cwd=folder,
    )
    return folder


def test_a_certificate_with_its_key_is_taken(folder: Path) -> None:
    check_certificate(str(folder / "one.pem"), str(folder / "one.key"))
    check_certificate(str(folder / "both.pem"), None)


@pytest.mark.parametrize(
    ("certificate", "key", "why"),
    [
        ("one.pem", "two.key", "the key is another certificate's"),
        ("one.pem", "closed.key", "its key has a password"),
        ("one.pem", None, "it holds no certificate or no key in PEM"),
        ("text.pem", "one.key", "it holds no certificate or no key in PEM"),
        ("none.pem", "one.key", "No such file or directory"),
        ("one.pem", "none.key", "No such file or directory"),
    ],
)
def test_another_is_refused_in_words(
    folder: Path, certificate: str, key: str | None, why: str
) -> None:
    with pytest.raises(HakoError) as refused:
        check_certificate(str(folder / certificate), str(folder / key) if key else None)

    assert refused.value.why == why
