"""The conformance checks find what Debian's registry is known to do wrong, and nothing in ours."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.registry_conformance import CHECKS, Target, Verdict, run_check
from tests.postgresql_cluster import running_cluster
from tests.real_registry import make_tls, registry
from tests.registry_client import RegistryHttp
from tests.registry_server import hako_registry
from tests.seaweed import seaweed

# What distribution 2.8 does against the specification, by check; the words say why each row is one.
FAULTS_OF_DEBIANS = {
    "blobs sha256": {
        "pushed in chunks out of order",  # any Content-Range is taken
        "pushed in chunks out of order: asked for",
        "pushed in chunks out of order: pulled",
        "pushed in chunks out of order, the last by PUT",
        "pushed in chunks out of order, the last by PUT: asked for",
        "pushed in chunks out of order, the last by PUT: pulled",
        "range 500-0",  # 416 with the Content-Length of the blob, and no such body
        "range 5000-10000",
    },
    "data: artifacts with subject": {
        "push by digest",  # no OCI-Subject
        "push by tag",
        "list the tags",  # `last` is known with `n` only
    },
    "data: index with subject": {"push by digest", "push by tag", "list the tags"},
    "data: missing subject": {"push by digest", "push by tag"},
    "data: sha512": {"push the blobs", "push by digest", "pull the blobs"},
    "data: tags by parameter sha512": {"push the blobs", "push by digest", "pull the blobs"},
    "bad references": {
        "a digest that is none, pushed",  # 500
        "a digest that is none, pulled",
    },
}


@pytest.fixture(scope="module")
def debians() -> Iterator[Target]:
    with (
        tempfile.TemporaryDirectory(prefix="hk-", dir="/var/tmp") as folder,
        registry(Path(folder)) as host,
        RegistryHttp(f"http://{host}") as http,
    ):
        yield Target(http, "conformance/one/image", "conformance/two/image")


@pytest.mark.parametrize("check", [name for name in CHECKS if name != "blobs sha512"])
def test_the_known_faults_of_debians_registry_are_found_and_no_others(
    check: str, debians: Target
) -> None:
    faults = {row.name for row in run_check(debians, check) if row.verdict is Verdict.FAULT}

    assert faults == FAULTS_OF_DEBIANS.get(check, set())


def test_debians_registry_gives_sha512_blobs_another_name(debians: Target) -> None:
    faults = {
        row.name for row in run_check(debians, "blobs sha512") if row.verdict is Verdict.FAULT
    }

    assert {"pushed in two requests", "pushed as a stream", "pushed in chunks"} <= faults


# Ours


@pytest.fixture(
    scope="module", params=["SQLite and a folder", "TLS", "PostgreSQL and S3", "S3 by redirect"]
)
def own(request: pytest.FixtureRequest) -> Iterator[Target]:
    """Over TCP with the owner's token."""
    with contextlib.ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="hk-", dir="/var/tmp"))
        )
        environment: dict[str, str] = {}
        arguments: tuple[str, ...] = ()
        scheme, authority = "http", None
        if "S3" in request.param:
            weed = stack.enter_context(seaweed(folder))
            redirect = ("redirect=yes",) if request.param == "S3 by redirect" else ()
            environment = {**weed.environment, "HAKO_REGISTRY_STORAGE": weed.url("ours", *redirect)}
        if "PostgreSQL" in request.param:
            cluster = stack.enter_context(running_cluster())
            environment["HAKO_REGISTRY_DATABASE"] = cluster.new_database()
        if request.param == "TLS":
            tls = make_tls(folder)
            arguments = ("--tls-cert", str(tls.certificate), "--tls-key", str(tls.key))
            scheme, authority = "https", tls.authority
        server = stack.enter_context(hako_registry(environment=environment, arguments=arguments))
        http = RegistryHttp(
            f"{scheme}://{server.host}",
            authorization=f"Bearer {server.owner_token}",
            authority=authority,
        )
        stack.enter_context(http)
        yield Target(http, "conformance/one/image", "conformance/two/image")


@pytest.mark.parametrize("check", CHECKS)
def test_our_registry_conforms(check: str, own: Target) -> None:
    rows = run_check(own, check)

    assert rows
    assert [row for row in rows if row.verdict is Verdict.FAULT] == []
    # What a registry may lack, and we do: an index whose images are not there is refused.
    lacking = {row.name for row in rows if row.verdict is Verdict.LACKING}
    assert lacking == ({"push by digest", "push by tag"} if check == "data: sparse" else set())
