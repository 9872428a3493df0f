"""The examples of AWS's documentation ("Signature Calculations for the Authorization Header", "… Query Parameters")."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256

import pytest

from hakobune.registry.sigv4 import S3Credentials, Signer, encode_path, encode_query

SIGNER = Signer(
    credentials=S3Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
    region="us-east-1",
)
HOST = "examplebucket.s3.amazonaws.com"
NOW = datetime(2013, 5, 24, tzinfo=UTC)


def signature(headers: dict[str, str]) -> str:
    return headers["Authorization"].rpartition("Signature=")[2]


def test_a_range_of_an_object_is_signed_as_documented() -> None:
    headers = SIGNER.headers("GET", HOST, "/test.txt", now=NOW, headers={"Range": "bytes=0-9"})

    assert signature(headers) == "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    assert "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date," in headers["Authorization"]


def test_an_object_with_an_odd_name_is_put_as_documented() -> None:
    headers = SIGNER.headers(
        "PUT",
        HOST,
        "/test$file.text",
        now=NOW,
        headers={
            "Date": "Fri, 24 May 2013 00:00:00 GMT",
            "x-amz-storage-class": "REDUCED_REDUNDANCY",
        },
        payload_sha256=sha256(b"Welcome to Amazon S3.").hexdigest(),
    )

    assert signature(headers) == "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"lifecycle": ""}, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        (
            {"prefix": "J", "max-keys": "2"},
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)
def test_queries_are_signed_as_documented(query: dict[str, str], expected: str) -> None:
    assert signature(SIGNER.headers("GET", HOST, "/", now=NOW, query=query)) == expected


def test_a_url_is_signed_for_a_day_as_documented() -> None:
    query = SIGNER.presigned_query("GET", HOST, "/test.txt", now=NOW, lifetime_s=86400)

    assert query.endswith(
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


def test_a_url_is_never_signed_for_longer_than_s3_takes() -> None:
    assert "X-Amz-Expires=604800" in SIGNER.presigned_query(
        "GET", HOST, "/x", now=NOW, lifetime_s=10**9
    )


def test_a_session_token_is_sent_and_signed() -> None:
    signer = Signer(credentials=S3Credentials("AKID", "secret", "the token"), region="eu-west-1")

    headers = signer.headers("GET", HOST, "/x", now=NOW)

    assert headers["x-amz-security-token"] == "the token"
    assert "x-amz-security-token" in headers["Authorization"]
    assert "X-Amz-Security-Token=the%20token" in signer.presigned_query(
        "GET", HOST, "/x", now=NOW, lifetime_s=1
    )


def test_secrets_are_not_shown() -> None:
    assert "secret" not in repr(S3Credentials("AKID", "secret", "secret token"))


def test_paths_and_queries_are_encoded_as_s3_has_it() -> None:
    assert encode_path("/a b/ü~$") == "/a%20b/%C3%BC~%24"
    assert encode_query({"b": "1 2", "a": "/"}) == "a=%2F&b=1%202"
