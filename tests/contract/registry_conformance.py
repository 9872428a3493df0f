"""Conformance of a registry with the OCI distribution specification, by URL: its four workflows, both hash algorithms.

    .venv/bin/python -m tests.contract.registry_conformance URL [--name A/B/C] [--other A/D/C] [--authorization TEXT]

What is asked and what is right is the specification's (main, what becomes 1.2), looked at as the official suite's
development level does: required digest headers, cancelled uploads and tags by parameter are in it. The words and the
code are ours. A registry may lack a feature where the specification lets it; that is told apart from a fault.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import traceback
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from tests.contract.conformance_data import DATA_SETS, INDEX, DataSet, Pushed, digest_of
from tests.registry_client import Answer, RegistryHttp

ACCEPT = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"
OCTETS = "application/octet-stream"


class Verdict(StrEnum):
    RIGHT = "right"
    LACKING = "lacking"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Row:
    """One check and what came of it."""

    name: str
    verdict: Verdict
    why: str = ""


class Fault(Exception):
    """The registry does what the specification forbids."""


class Lacking(Exception):
    """The registry says that it has not got this, as it may."""


@dataclass(slots=True)
class Target:
    """A registry under check, two names in it that it lets us push to, and the rows so far."""

    http: RegistryHttp
    name: str
    other: str
    rows: list[Row] = field(default_factory=list)

    @contextlib.contextmanager
    def row(self, name: str) -> Iterator[None]:
        """What is checked inside is one row."""
        verdict, why = Verdict.RIGHT, ""
        try:
            yield
        except Lacking as lacking:
            verdict, why = Verdict.LACKING, str(lacking)
        except Fault as fault:
            verdict, why = Verdict.FAULT, str(fault)
        except Exception:
            verdict, why = Verdict.FAULT, traceback.format_exc(limit=-3)
        self.rows.append(Row(name, verdict, why))

    def ask(
        self,
        method: str,
        target: str,
        body: bytes | list[bytes] | None = None,
        *,
        want: int | tuple[int, ...],
        parameters: list[tuple[str, str]] | None = None,
        **headers: str,
    ) -> Answer:
        """Send, and take any status but those of *want* as a fault."""
        answer = self.http.send(method, target, body, parameters=parameters or [], **headers)
        if answer.status == 307 and method == "GET":
            answer = follow(answer, headers)
        allowed = (want,) if isinstance(want, int) else want
        if answer.status not in allowed:
            raise Fault(
                f"{method} {target}: {answer.status} instead of {want}: {answer.body[:200]!r}"
            )
        if method == "HEAD" and answer.body:
            raise Fault(f"HEAD {target} has a body")
        return answer


def follow(answer: Answer, headers: Mapping[str, str]) -> Answer:
    """What is where a blob was said to be: any host, without our credentials; both answers' headers."""
    there = {name.replace("_", "-"): text for name, text in headers.items()}
    request = urllib.request.Request(answer.header("location"), headers=there)
    try:
        with urllib.request.urlopen(request, timeout=30) as found:
            return _merged(answer, found.status, found.headers.items(), found.read())
    except urllib.error.HTTPError as error:
        with error:
            return _merged(answer, error.code, error.headers.items(), error.read())


def _merged(first: Answer, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> Answer:
    second = {name.lower(): text for name, text in headers}
    return Answer(status, {**first.headers, **second}, body)


def need(fact: bool, what: str) -> None:
    if not fact:
        raise Fault(what)


def need_header(answer: Answer, name: str, text: str) -> None:
    need(answer.header(name) == text, f"{name}: {answer.header(name)!r} instead of {text!r}")


# Blobs (distribution-spec "Pushing blobs", "Pulling blobs")


def begin(target: Target, name: str) -> str:
    """Open an upload; gives where it goes on (end-4a)."""
    location = target.ask(
        "POST", f"/v2/{name}/blobs/uploads/", want=202, Content_Length="0"
    ).header("location")
    need(bool(location), "a POST of an upload gives no Location")
    return location


def finish(answer: Answer, target: Target, digest: str, data: bytes) -> None:
    """After a 201: its Location can be pulled, its digest header is right."""
    need_header(answer, "docker-content-digest", digest)
    need(bool(answer.header("location")), "a stored blob has no Location")
    stored = target.ask("GET", answer.header("location"), want=200)
    need(stored.body == data, "the Location of a stored blob has other bytes")


def push_in_one(target: Target, name: str, digest: str, data: bytes, *, bad: bool = False) -> None:
    """POST with the whole blob (end-4b)."""
    answer = target.ask(
        "POST", f"/v2/{name}/blobs/uploads/", data, parameters=[("digest", digest)],
        want=(400, 202) if bad else (201, 202), Content_Type=OCTETS,
    )  # fmt: skip
    if answer.status == 202:
        last = target.ask(
            "PUT", answer.header("location"), data, parameters=[("digest", digest)],
            want=400 if bad else 201, Content_Type=OCTETS,
        )  # fmt: skip
        if not bad:
            finish(last, target, digest, data)
        raise Lacking("the body of a POST is not taken")
    if not bad:
        finish(answer, target, digest, data)


def push_in_two(target: Target, name: str, digest: str, data: bytes, *, bad: bool = False) -> None:
    """POST, then PUT with the whole blob (end-4a, end-6)."""
    answer = target.ask(
        "PUT", begin(target, name), data, parameters=[("digest", digest)],
        want=400 if bad else 201, Content_Type=OCTETS,
    )  # fmt: skip
    if not bad:
        finish(answer, target, digest, data)


def push_stream(target: Target, name: str, digest: str, data: bytes, *, bad: bool = False) -> None:
    """POST, a PATCH of unknown length, PUT: what docker and podman do."""
    middle = max(1, len(data) // 2)
    answer = target.ask(
        "PATCH", begin(target, name), [part for part in (data[:middle], data[middle:]) if part],
        want=202, Content_Type=OCTETS,
    )  # fmt: skip
    close(target, answer.header("location"), digest, data, bad=bad)


def close(target: Target, location: str, digest: str, data: bytes, *, bad: bool = False) -> None:
    need(bool(location), "a PATCH gives no Location")
    answer = target.ask(
        "PUT", location, parameters=[("digest", digest)], want=400 if bad else 201,
        Content_Length="0",
    )  # fmt: skip
    if not bad:
        finish(answer, target, digest, data)


def push_in_chunks(
    target: Target,
    name: str,
    digest: str,
    data: bytes,
    *,
    bad: bool = False,
    last_by_put: bool = False,
    out_of_order: bool = False,
) -> None:
    """POST, PATCH a chunk at a time, PUT (end-5, end-6), the last chunk in either.

    Args:
        out_of_order: before each chunk a wrong one is sent, which is to be refused and to leave the upload usable.
    """
    opened = target.ask("POST", f"/v2/{name}/blobs/uploads/", want=202, Content_Length="0")
    location = opened.header("location")
    size = max(len(data) // 3 + 1, 1024, int(opened.header("oci-chunk-min-length") or 0))
    at = 0
    while at < len(data):
        end = min(at + size, len(data))
        if out_of_order:
            location = refuse_chunk(target, location, data, at, size)
        last = end == len(data) and last_by_put
        answer = target.ask(
            "PUT" if last else "PATCH", location, data[at:end],
            parameters=[("digest", digest)] if last else [],
            want=((400 if bad else 201) if last else 202),
            Content_Type=OCTETS, Content_Range=f"{at}-{end - 1}",
        )  # fmt: skip
        location = answer.header("location")
        if last:
            if not bad:
                finish(answer, target, digest, data)
            return
        need_header(answer, "range", f"0-{end - 1}")
        at = end
    close(target, location, digest, data, bad=bad)


def refuse_chunk(target: Target, location: str, data: bytes, at: int, size: int) -> str:
    """Send a chunk that is not the next one; gives where the upload goes on (end-13)."""
    wrong = at + size if at + size < len(data) else 0
    end = min(wrong + size, len(data))
    if wrong == at:
        return location
    target.ask(
        "PATCH", location, data[wrong:end], want=416,
        Content_Type=OCTETS, Content_Range=f"{wrong}-{end - 1}",
    )  # fmt: skip
    asked = target.ask("GET", location, want=204)
    need_header(asked, "range", f"0-{max(at - 1, 0)}")
    need(bool(asked.header("location")), "the GET of an upload gives no Location")
    return asked.header("location")


def cancel(target: Target, name: str) -> None:
    """DELETE of an upload (end-14)."""
    location = begin(target, name)
    target.ask("DELETE", location, want=204)
    target.ask("GET", location, want=404)


def mount(target: Target, name: str, source: str, digest: str, data: bytes) -> None:
    """A blob of another name, without its bytes (end-11); without *source* the registry finds it."""
    parameters = [("mount", digest), *([("from", source)] if source else [])]
    answer = target.ask(
        "POST", f"/v2/{name}/blobs/uploads/", parameters=parameters, want=(201, 202),
        Content_Length="0",
    )  # fmt: skip
    if answer.status == 202:
        last = target.ask(
            "PUT", answer.header("location"), data, parameters=[("digest", digest)], want=201,
            Content_Type=OCTETS,
        )  # fmt: skip
        finish(last, target, digest, data)
        raise Lacking("the blob is not mounted, its bytes are wanted")
    finish(answer, target, digest, data)


def head_blob(target: Target, name: str, digest: str, data: bytes) -> None:
    answer = target.ask("HEAD", f"/v2/{name}/blobs/{digest}", want=200)
    need_header(answer, "content-length", str(len(data)))
    need_header(answer, "docker-content-digest", digest)


def pull_blob(target: Target, name: str, digest: str, data: bytes) -> None:
    answer = target.ask("GET", f"/v2/{name}/blobs/{digest}", want=200)
    need(answer.body == data, "other bytes came")
    need_header(answer, "content-length", str(len(data)))
    need_header(answer, "docker-content-digest", digest)


def delete_blob(target: Target, name: str, digest: str) -> None:
    """Gone as soon as it is answered (end-10)."""
    answer = target.ask("DELETE", f"/v2/{name}/blobs/{digest}", want=(202, 404, 405))
    if answer.status == 405:
        raise Lacking("blobs are not deleted")
    target.ask("HEAD", f"/v2/{name}/blobs/{digest}", want=404)


PUSHES: Mapping[str, Callable[[Target, str, str, bytes], None]] = {
    "in one request": push_in_one,
    "in two requests": push_in_two,
    "as a stream": push_stream,
    "in chunks": push_in_chunks,
    "in chunks, the last by PUT": lambda *given: push_in_chunks(*given, last_by_put=True),
    "in chunks out of order": lambda *given: push_in_chunks(*given, out_of_order=True),
    "in chunks out of order, the last by PUT": lambda *given: push_in_chunks(
        *given, out_of_order=True, last_by_put=True
    ),
}
RANGES = (
    ("500-1499", 500, 1500),
    ("500-", 500, 2048),
    ("-500", 1548, 2048),
    ("2000-5000", 2000, 2048),
    ("500-0", 0, 0),
    ("5000-10000", 0, 0),
)


def check_blobs(target: Target, algorithm: str) -> None:
    missing = digest_of(os.urandom(20), algorithm)
    with target.row("a blob that is not there"):
        target.ask("GET", f"/v2/{target.name}/blobs/{missing}", want=404)
        target.ask("HEAD", f"/v2/{target.name}/blobs/{missing}", want=404)
    for how, push in PUSHES.items():
        data = os.urandom(3 * 1024 - 5)
        _check_blob(target, how, data, algorithm, push)
    for name, data in {"empty": b"", "{}": b"{}"}.items():
        _check_blob(target, f"the blob {name}", data, algorithm, push_in_two)
    _check_mounts(target, algorithm)
    with target.row("cancelled"):
        cancel(target, target.name)
    _check_ranges(target, algorithm)
    for how, push in list(PUSHES.items())[:4]:
        data = os.urandom(3 * 1024 - 5)
        digest = digest_of(data, algorithm)
        with target.row(f"other bytes than the digest's, {how}"):
            with contextlib.suppress(Lacking):
                push(target, target.name, digest, data + b"!", bad=True)  # type: ignore[call-arg] # all have it
            target.ask("HEAD", f"/v2/{target.name}/blobs/{digest}", want=404)


def _check_blob(
    target: Target,
    how: str,
    data: bytes,
    algorithm: str,
    push: Callable[[Target, str, str, bytes], None],
) -> None:
    name, digest = target.name, digest_of(data, algorithm)
    with target.row(f"pushed {how}"):
        push(target, name, digest, data)
    with target.row(f"pushed {how}: asked for"):
        head_blob(target, name, digest, data)
    with target.row(f"pushed {how}: pulled"):
        pull_blob(target, name, digest, data)
    with target.row(f"pushed {how}: deleted"):
        delete_blob(target, name, digest)


def _check_mounts(target: Target, algorithm: str) -> None:
    for how, source in {"mounted": target.other, "mounted from anywhere": ""}.items():
        data = os.urandom(512)
        digest = digest_of(data, algorithm)
        with target.row(how):
            push_in_two(target, target.other, digest, data)
            mount(target, target.name, source, digest, data)
        with target.row(f"{how}: pulled"):
            pull_blob(target, target.name, digest, data)
        with target.row(f"{how}: deleted"):
            delete_blob(target, target.name, digest)
            delete_blob(target, target.other, digest)
    with target.row("a mount of what is not there"):
        data = os.urandom(512)
        digest = digest_of(data, algorithm)
        with contextlib.suppress(Lacking):
            mount(target, target.name, target.other, digest, data)
            raise Fault("a blob that is nowhere was mounted")


def _check_ranges(target: Target, algorithm: str) -> None:
    data = os.urandom(2048)
    digest = digest_of(data, algorithm)
    with target.row("pushed for ranges"):
        push_in_two(target, target.name, digest, data)
    for text, start, end in RANGES:
        with target.row(f"range {text}"):
            answer = target.ask(
                "GET", f"/v2/{target.name}/blobs/{digest}", want=(200, 206, 416),
                Range=f"bytes={text}",
            )  # fmt: skip
            if answer.status == 200:
                need(answer.body == data, "other bytes came")
                raise Lacking("ranges are not known")
            need((answer.status == 416) == (start == end), f"{answer.status}")
            if start < end:
                need(answer.body == data[start:end], "other bytes came")
                need_header(answer, "content-length", str(end - start))
                need_header(answer, "content-range", f"bytes {start}-{end - 1}/{len(data)}")
    with target.row("pushed for ranges: deleted"):
        delete_blob(target, target.name, digest)


# Manifests (distribution-spec "Pushing manifests", "Pulling manifests", "Listing referrers", "Content management")


def push_manifest(
    target: Target, data: DataSet, manifest: Pushed, reference: str, *, tags: list[str]
) -> None:
    answer = target.ask(
        "PUT", f"/v2/{target.name}/manifests/{reference}", manifest.body,
        parameters=[("tag", tag) for tag in tags],
        want=400 if data.bad_digest else (201, 400, 404) if data.may_be_refused else 201,
        Content_Type=manifest.media_type,
    )  # fmt: skip
    if data.bad_digest:
        return
    if answer.status != 201:
        need(answer.code == "MANIFEST_BLOB_UNKNOWN", f"refused with {answer.code!r}")
        raise Lacking("a manifest without all its parts is refused")
    need_header(answer, "docker-content-digest", manifest.digest)
    if manifest.subject:
        need_header(answer, "oci-subject", manifest.subject)
    given = {tag.strip() for tag in answer.header("oci-tag").split(",")} - {""}
    if tags and not given:
        raise Lacking("tags by parameter are not known")
    need(not tags or given == set(tags), f"OCI-Tag has {given}")
    need(bool(answer.header("location")), "a stored manifest has no Location")
    pull_manifest(target, manifest, answer.header("location"))


def pull_manifest(target: Target, manifest: Pushed, where: str) -> None:
    for method in ("HEAD", "GET"):
        answer = target.ask(method, where, want=200, Accept=ACCEPT)
        need(method == "HEAD" or answer.body == manifest.body, "other bytes came")
        need_header(answer, "content-type", manifest.media_type)
        need_header(answer, "content-length", str(len(manifest.body)))
        need_header(answer, "docker-content-digest", manifest.digest)


def check_data(target: Target, data: DataSet) -> None:
    where = f"/v2/{target.name}/manifests/"
    by_digest = {manifest.digest: manifest for manifest in data.manifests}
    pushed: set[str] = set()
    with target.row("push the blobs"):
        for digest, content in data.blobs.items():
            push_in_two(target, target.name, digest, content)
    with target.row("push by digest"):
        for digest, manifest in by_digest.items():
            tags = [tag for tag, named in data.tags.items() if named == digest]
            push_manifest(
                target, data, manifest, digest, tags=tags if data.tags_by_parameter else []
            )
            pushed.add(digest)
    with target.row("push by tag"):
        for tag, digest in data.tags.items():
            if not data.tags_by_parameter:
                push_manifest(target, data, by_digest[digest], tag, tags=[])
    if not data.bad_digest:
        tags = {tag: digest for tag, digest in data.tags.items() if digest in pushed}
        with target.row("list the tags"):
            check_list(target, sorted(tags))
        with target.row("pull by tag"):
            for tag, digest in tags.items():
                pull_manifest(target, by_digest[digest], where + tag)
        with target.row("pull by digest"):
            for digest in pushed:
                pull_manifest(target, by_digest[digest], where + digest)
    with target.row("pull the blobs"):
        for digest, content in data.blobs.items():
            head_blob(target, target.name, digest, content)
            pull_blob(target, target.name, digest, content)
    if data.subjects():
        with target.row("list the referrers"):
            for subject in data.subjects():
                check_referrers(target, subject, data.referrers(subject))
    check_delete(target, data)


def check_list(target: Target, tags: list[str]) -> None:
    """All are there, in order; `last` begins after a tag (end-8)."""
    where = f"/v2/{target.name}/tags/list"
    listed = target.ask("GET", where, want=(200, 404))
    found = listed.document["tags"] or [] if listed.status == 200 else []
    need(set(tags) <= set(found), f"missing: {set(tags) - set(found)}")
    need(found == sorted(found), "the tags are not in order")
    if len(found) < 2:
        return
    middle = len(found) // 2
    rest = target.ask("GET", where, want=200, parameters=[("last", found[middle - 1])]).document[
        "tags"
    ]
    need(rest == found[middle:], f"after {found[middle - 1]} come {rest}")


def check_referrers(target: Target, subject: str, referrers: list[Pushed]) -> None:
    everything = list_referrers(target, subject, "")
    for manifest in referrers:
        need_referrer(everything, manifest)
    for kind in {manifest.artifact_type for manifest in referrers} - {""}:
        some = list_referrers(target, subject, kind)
        need(all(entry.get("artifactType") == kind for entry in some), f"a filter for {kind} leaks")
        for manifest in referrers:
            if manifest.artifact_type == kind:
                need_referrer(some, manifest)


def list_referrers(target: Target, subject: str, kind: str) -> list[dict[str, object]]:
    answer = target.ask(
        "GET", f"/v2/{target.name}/referrers/{subject}",
        parameters=[("artifactType", kind)] if kind else [], want=(200, 404),
    )  # fmt: skip
    if answer.status == 404:
        raise Lacking("there is no list of referrers")
    need_header(answer, "content-type", INDEX)
    document = answer.document
    need(document["schemaVersion"] == 2 and document["mediaType"] == INDEX, "this is no OCI index")
    if kind:
        need(
            "artifactType" in answer.header("oci-filters-applied"), "OCI-Filters-Applied is missing"
        )
    entries: list[dict[str, object]] = document["manifests"]
    return entries


def need_referrer(entries: list[dict[str, object]], manifest: Pushed) -> None:
    want = {
        "digest": manifest.digest,
        "mediaType": manifest.media_type,
        "size": len(manifest.body),
        **({"artifactType": manifest.artifact_type} if manifest.artifact_type else {}),
        **({"annotations": dict(manifest.annotations)} if manifest.annotations else {}),
    }
    need(want in entries, f"{json.dumps(want)} is not in {json.dumps(entries)[:2000]}")


def check_delete(target: Target, data: DataSet) -> None:
    where = f"/v2/{target.name}/manifests/"
    with target.row("delete by tag"):
        for tag in data.tags:
            delete_manifest(target, where + tag)
    with target.row("delete by digest"):
        for manifest in reversed(data.manifests):
            delete_manifest(target, where + manifest.digest)
    with target.row("delete the blobs"):
        for digest in data.blobs:
            delete_blob(target, target.name, digest)


def delete_manifest(target: Target, where: str) -> None:
    """Gone as soon as it is answered (end-9)."""
    answer = target.ask("DELETE", where, want=(202, 404, 400, 405))
    if answer.status in (400, 405):
        raise Lacking(f"not deleted: {answer.status}")
    target.ask("HEAD", where, want=404)


# The rest


def check_ping(target: Target) -> None:
    with target.row("the registry answers"):
        target.ask("GET", "/v2/", want=200)


def check_nothing_there(target: Target) -> None:
    with target.row("the tags of an empty repository"):
        target.ask("GET", f"/v2/{target.name}/tags/list", want=(200, 404))
    with target.row("the referrers of what is not there"):
        entries = list_referrers(target, digest_of(os.urandom(8)), "")
        need(entries == [], f"{entries}")


def check_bad_references(target: Target) -> None:
    where = f"/v2/{target.name}/manifests/"
    data = DATA_SETS["no layers"]()
    bad = "sha256:baddigeststring"
    with target.row("a digest that is not there"):
        target.ask("GET", where + digest_of(os.urandom(8)), want=404)
    with target.row("a tag that is not there"):
        target.ask("GET", where + "missing", want=404)
    with target.row("a digest that is none, pushed"):
        for digest, content in data.blobs.items():
            push_in_two(target, target.name, digest, content)
        manifest = data.manifests[0]
        target.ask("PUT", where + bad, manifest.body, want=400, Content_Type=manifest.media_type)
    with target.row("a digest that is none, pulled"):
        target.ask("GET", where + bad, want=(400, 404))
    with target.row("delete the blobs"):
        for digest in data.blobs:
            delete_blob(target, target.name, digest)


def _data_check(name: str) -> Callable[[Target], None]:
    return lambda target: check_data(target, DATA_SETS[name]())


CHECKS: Mapping[str, Callable[[Target], None]] = {
    "ping": check_ping,
    "nothing there": check_nothing_there,
    "blobs sha256": lambda target: check_blobs(target, "sha256"),
    "blobs sha512": lambda target: check_blobs(target, "sha512"),
    **{f"data: {name}": _data_check(name) for name in DATA_SETS},
    "bad references": check_bad_references,
}


def run_check(target: Target, name: str) -> list[Row]:
    """The rows of one of `CHECKS`."""
    before = len(target.rows)
    CHECKS[name](target)
    return target.rows[before:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--name", default="conformance/one/image")
    parser.add_argument("--other", default="conformance/two/image")
    parser.add_argument("--authorization", default="", help="sent with every request")
    parser.add_argument("--unix-socket", type=Path)
    arguments = parser.parse_args()
    faults = 0
    with RegistryHttp(
        arguments.url, authorization=arguments.authorization, unix_socket=arguments.unix_socket
    ) as http:
        target = Target(http, arguments.name, arguments.other)
        for name in CHECKS:
            for row in run_check(target, name):
                faults += row.verdict is Verdict.FAULT
                if row.verdict is not Verdict.RIGHT:
                    print(f"{row.verdict:8} {name}: {row.name}: {row.why}")
    print(f"{len(target.rows)} checks, {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
