"""The registry against a model of it in a few dictionaries: whatever is done in whatever order, both say the same."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from tests.registry_client import (
    INDEX,
    RegistryHttp,
    digest_of,
    image_manifest,
)
from tests.registry_server import HakoRegistry, hako_registry

TAGS = st.sampled_from(["a", "B", "latest", "1.0", "_x"])
IMAGES = st.sampled_from(["one", "two", "blobs/manifests"])
REPOSITORIES = st.sampled_from(["left", "right"])
SERVER: list[HakoRegistry] = []


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[HakoRegistry]:
    with hako_registry() as registry:
        SERVER.append(registry)
        yield registry
        SERVER.clear()


@dataclass
class Repository:
    """What is in one: blobs are the repository's, manifests, tags and referrers the image's."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], bytes] = field(default_factory=dict)
    tags: dict[tuple[str, str], str] = field(default_factory=dict)

    def images(self) -> set[str]:
        return {image for image, _ in self.manifests}

    def in_use(self, digest: str) -> bool:
        """Whether a manifest names the blob."""
        return any(digest in parts_of(body) for body in self.manifests.values())


def parts_of(body: bytes) -> set[str]:
    document = json.loads(body)
    parts = [document.get("config"), *document.get("layers", ())]
    return {part["digest"] for part in parts if part}


def subject_of(body: bytes) -> str:
    found = json.loads(body).get("subject")
    return str(found["digest"]) if found else ""


class RegistryModel(RuleBasedStateMachine):
    """Every rule acts on both; the invariant compares all that can be seen."""

    blobs = Bundle("blobs")
    manifests = Bundle("manifests")

    def __init__(self) -> None:
        super().__init__()
        self.http: RegistryHttp = SERVER[0].as_owner()
        self.project = f"p{os.urandom(6).hex()}"
        self.model = {"left": Repository(), "right": Repository()}

    def teardown(self) -> None:
        self.http.close()

    def name(self, repository: str, image: str) -> str:
        return f"{self.project}/{repository}/{image}"

    @initialize()
    def begin(self) -> None:
        for name, repository in self.model.items():
            self.http.push_blob(self.name(name, "one"), b"{}")
            repository.blobs[digest_of(b"{}")] = b"{}"

    # Blobs

    @rule(target=blobs, repository=REPOSITORIES, image=IMAGES, data=st.binary(max_size=200))
    def push_blob(self, repository: str, image: str, data: bytes) -> tuple[str, bytes]:
        digest = self.http.push_blob(self.name(repository, image), data)
        self.model[repository].blobs[digest] = data
        return digest, data

    @rule(
        target=blobs, repository=REPOSITORIES, image=IMAGES,
        pieces=st.lists(st.binary(max_size=50), min_size=1, max_size=4),
    )  # fmt: skip
    def push_blob_in_pieces(
        self, repository: str, image: str, pieces: list[bytes]
    ) -> tuple[str, bytes]:
        where = self.http.send("POST", f"/v2/{self.name(repository, image)}/blobs/uploads/")
        assert where.status == 202
        for piece in pieces:
            where = self.http.send("PATCH", where.header("location"), [piece] if piece else b"")
            assert where.status == 202
        data = b"".join(pieces)
        digest = digest_of(data)
        done = self.http.send("PUT", where.header("location"), parameters=[("digest", digest)])
        assert done.status == 201
        self.model[repository].blobs[digest] = data
        return digest, data

    @rule(blob=blobs, source=REPOSITORIES, target_name=REPOSITORIES, image=IMAGES)
    def mount(self, blob: tuple[str, bytes], source: str, target_name: str, image: str) -> None:
        digest, data = blob
        answer = self.http.send(
            "POST",
            f"/v2/{self.name(target_name, image)}/blobs/uploads/",
            parameters=[("mount", digest), ("from", self.name(source, "one"))],
        )
        there = digest in self.model[source].blobs or digest in self.model[target_name].blobs
        assert answer.status == (201 if there else 202)
        if there:
            self.model[target_name].blobs[digest] = data
        else:
            assert self.http.send("DELETE", answer.header("location")).status == 204

    @rule(blob=blobs, repository=REPOSITORIES, image=IMAGES)
    def delete_blob(self, blob: tuple[str, bytes], repository: str, image: str) -> None:
        digest, _ = blob
        model = self.model[repository]
        answer = self.http.send("DELETE", f"/v2/{self.name(repository, image)}/blobs/{digest}")
        if digest not in model.blobs:
            assert answer.status == 404
        elif model.in_use(digest):
            assert (answer.status, answer.code) == (405, "UNSUPPORTED")
        else:
            assert answer.status == 202
            del model.blobs[digest]

    @rule(blob=blobs, repository=REPOSITORIES, image=IMAGES)
    def push_wrong_bytes(self, blob: tuple[str, bytes], repository: str, image: str) -> None:
        digest, data = blob
        where = f"/v2/{self.name(repository, image)}/blobs/uploads/"
        answer = self.http.send("POST", where, data + b"!", parameters=[("digest", digest)])
        assert (answer.status, answer.code) == (400, "DIGEST_INVALID")

    # Manifests

    @rule(
        target=manifests, repository=REPOSITORIES, image=IMAGES, tag=st.none() | TAGS,
        layers=st.lists(blobs, max_size=3), mark=st.integers(0, 3),
    )  # fmt: skip
    def push_image(
        self,
        repository: str,
        image: str,
        tag: str | None,
        layers: list[tuple[str, bytes]],
        mark: int,
    ) -> tuple[str, str]:
        body = image_manifest(
            [(digest, len(data)) for digest, data in layers], annotations={"mark": str(mark)}
        )
        return self._push(repository, image, tag, body)

    @rule(
        target=manifests, repository=REPOSITORIES, image=IMAGES, subject=manifests,
        kind=st.sampled_from(["k/one", "k/two"]), mark=st.integers(0, 3),
    )  # fmt: skip
    def push_referrer(
        self, repository: str, image: str, subject: tuple[str, str], kind: str, mark: int
    ) -> tuple[str, str]:
        body = image_manifest(
            [], subject=(subject[0], 7), artifact_type=kind, annotations={"mark": str(mark)}
        )
        return self._push(repository, image, None, body)

    def _push(self, repository: str, image: str, tag: str | None, body: bytes) -> tuple[str, str]:
        digest = digest_of(body)
        answer = self.http.push_manifest(self.name(repository, image), tag or digest, body)
        model = self.model[repository]
        missing = parts_of(body) - set(model.blobs)
        if missing:
            assert (answer.status, answer.code) == (400, "MANIFEST_BLOB_UNKNOWN")
        else:
            assert answer.status == 201
            model.manifests[image, digest] = body
            if tag:
                model.tags[image, tag] = digest
        return digest, repository

    @rule(manifest=manifests, image=IMAGES, tag=TAGS)
    def tag_again(self, manifest: tuple[str, str], image: str, tag: str) -> None:
        digest, repository = manifest
        model = self.model[repository]
        if body := model.manifests.get((image, digest)):
            if not parts_of(body) <= set(model.blobs):
                return
            answer = self.http.push_manifest(self.name(repository, image), tag, body)
            assert answer.status == 201
            model.tags[image, tag] = digest

    @rule(repository=REPOSITORIES, image=IMAGES, tag=TAGS)
    def delete_tag(self, repository: str, image: str, tag: str) -> None:
        answer = self.http.send("DELETE", f"/v2/{self.name(repository, image)}/manifests/{tag}")
        there = self.model[repository].tags.pop((image, tag), None)
        assert answer.status == (202 if there else 404)

    @rule(manifest=manifests, image=IMAGES)
    def delete_manifest(self, manifest: tuple[str, str], image: str) -> None:
        digest, repository = manifest
        model = self.model[repository]
        answer = self.http.send("DELETE", f"/v2/{self.name(repository, image)}/manifests/{digest}")
        there = model.manifests.pop((image, digest), None)
        assert answer.status == (202 if there else 404)
        if there:
            model.tags = {
                key: to for key, to in model.tags.items() if (key[0], to) != (image, digest)
            }

    # What can be seen

    @invariant()
    def blobs_are_there(self) -> None:
        for name, repository in self.model.items():
            for digest, data in repository.blobs.items():
                answer = self.http.send("GET", f"/v2/{self.name(name, 'one')}/blobs/{digest}")
                assert (answer.status, answer.body) == (200, data)

    @invariant()
    def manifests_and_tags_are_there(self) -> None:
        for name, repository in self.model.items():
            for (image, digest), body in repository.manifests.items():
                answer = self._get(name, image, digest)
                assert (answer.status, answer.body) == (200, body)
            for image in ("one", "two", "blobs/manifests"):
                tags = {tag: to for (of, tag), to in repository.tags.items() if of == image}
                for tag in ("a", "B", "latest", "1.0", "_x"):
                    answer = self._get(name, image, tag)
                    assert answer.status == (200 if tag in tags else 404)
                    if tag in tags:
                        assert digest_of(answer.body) == tags[tag]
                listed = self.http.send("GET", f"/v2/{self.name(name, image)}/tags/list")
                assert listed.status == (200 if image in repository.images() else 404)
                if listed.status == 200:
                    assert listed.document["tags"] == sorted(tags)

    @invariant()
    def referrers_are_listed(self) -> None:
        for name, repository in self.model.items():
            expected: dict[tuple[str, str], set[str]] = {}
            for (image, digest), body in repository.manifests.items():
                if subject := subject_of(body):
                    expected.setdefault((image, subject), set()).add(digest)
            for (image, subject), digests in expected.items():
                answer = self.http.send("GET", f"/v2/{self.name(name, image)}/referrers/{subject}")
                assert answer.header("content-type") == INDEX
                assert {entry["digest"] for entry in answer.document["manifests"]} == digests

    def _get(self, repository: str, image: str, reference: str) -> Any:
        return self.http.send("GET", f"/v2/{self.name(repository, image)}/manifests/{reference}")


RegistryModel.TestCase.settings = settings(
    max_examples=15,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestRegistryModel = RegistryModel.TestCase
