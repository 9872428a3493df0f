"""The distribution specification's endpoints as calls, for one repository at one place (distribution-spec "Endpoints")."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final
from urllib.parse import quote

import msgspec

from hakobune.distribution.connections import Answer
from hakobune.distribution.document import Document, describe_head, digest_of, media_type_in
from hakobune.distribution.errors import (
    NoAnswerError,
    NotThereError,
    RegistryError,
    WrongContentError,
)
from hakobune.distribution.redirect import resolve_location, why_not_followed
from hakobune.distribution.registries import Endpoint
from hakobune.distribution.request import Body, Request, plain_scopes
from hakobune.distribution.session import Session
from hakobune.oci import descriptor as media
from hakobune.oci.descriptor import Descriptor
from hakobune.oci.digest import Digest, DigestError
from hakobune.oci.manifest import DOCUMENT_LIMIT, Index, decode_index

ACCEPT: Final = ", ".join(
    (media.INDEX, media.DOCKER_INDEX, media.MANIFEST, media.DOCKER_MANIFEST, "*/*;q=0.1")
)
_LIST_LIMIT: Final = 8 << 20
_PAGES: Final = 10_000
# What registries answer to HEAD that have only GET. A 403 comes without its reason: the GET tells it.
_NO_HEAD: Final = frozenset({400, 403, 405, 501})


class _Tags(msgspec.Struct):
    tags: list[str] | None = None


class RegistryClient:
    """One repository at one endpoint.

    Args:
        what: begins every error: `cannot pull registry.test/web:v2`.
        actions: what the token is for: `pull`, `pull,push`, `pull,push,delete`.
        also: repositories of the same host that blobs may be mounted from.
    """

    def __init__(
        self,
        session: Session,
        endpoint: Endpoint,
        *,
        what: str,
        actions: str = "pull",
        also: Sequence[str] = (),
    ) -> None:
        self.session = session
        self.endpoint = endpoint
        self.what = what
        self._scopes = plain_scopes(endpoint.repository, actions, also)

    @property
    def host(self) -> str:
        return self.endpoint.host

    @property
    def is_lost(self) -> bool:
        """Whether this is a mirror that has not answered: waiting for it each time would take minutes."""
        return self.endpoint.mirror and self.host in self.session.lost

    def judge(self, error: RegistryError) -> None:
        """Remember what a failure says of a mirror."""
        if self.endpoint.mirror and isinstance(error, NoAnswerError):
            self.session.lost.add(self.host)

    def ping(self) -> None:
        """Ask whether there is a registry that lets us in (end-1)."""
        self.call("GET", "/v2/", expected=(200,)).close()

    # Manifests

    def head_manifest(self, reference: str) -> Descriptor | None:
        """What a tag or digest names now; `None` if it is not there (end-3). Docker Hub does not count it as a pull."""
        try:
            with self.call(
                "HEAD", self._path("manifests", reference), headers={"Accept": ACCEPT}
            ) as answer:
                return describe_head(answer, reference)
        except NotThereError:
            return None
        except RegistryError as error:
            if error.status not in _NO_HEAD:
                raise
        return self._describe_by_get(reference)

    def _describe_by_get(self, reference: str) -> Descriptor | None:
        try:
            found = self.get_manifest(reference)
        except NotThereError:
            return None
        return Descriptor(media_type=found.media_type, digest=found.digest, size=len(found.raw))

    def check_manifest(self, reference: str, *, known: Digest | None) -> Digest | None:
        """What a tag names now, asked for as cheaply as can be (end-3); `None` if only the content tells.

        Args:
            known: what it named before; a registry that knows conditional requests then says 304.

        Raises:
            NotThereError: it is not there.
        """
        headers = {"Accept": ACCEPT}
        if known is not None:
            headers["If-None-Match"] = f'"{known}"'
        expected = {200, 304, *_NO_HEAD}
        with self.call(
            "HEAD", self._path("manifests", reference), headers=headers, expected=expected
        ) as answer:
            if answer.status in _NO_HEAD:
                return None
            if answer.status == 304:
                return known
            found = describe_head(answer, reference)
            return None if found is None else found.digest

    def get_manifest(self, reference: str) -> Document:
        """The manifest or index of that tag or digest (end-3).

        Raises:
            NotThereError: there is none.
            WrongContentError: it is not what the digest says, or longer than a manifest may be.
        """
        answer = self.call(
            "GET",
            self._path("manifests", reference),
            headers={"Accept": ACCEPT},
            read_limit=DOCUMENT_LIMIT,
        )
        raw = answer.body
        announced = answer.headers.get("docker-content-digest", "")
        media_type = media_type_in(answer, raw)
        if len(raw) > DOCUMENT_LIMIT:
            raise self.wrong(f"the manifest {reference} is longer than 4 MiB")
        if media_type == "text/html":
            raise self.wrong(
                "a web page instead of a manifest; maybe of a network that wants a login first"
            )
        digest = digest_of(raw, reference, announced)
        try:
            digest.verify(raw)
        except DigestError as error:
            raise self.wrong(error.why) from error
        return Document(media_type, digest, raw)

    def put_manifest(self, reference: str, raw: bytes, media_type: str) -> bool:
        """Store a manifest or index under a tag or its digest (end-7). What it names must be there.

        Returns:
            Whether the registry has taken note of its subject, if it has one; else that is the client's to do
            (distribution-spec "Pushing Manifests with Subject").
        """
        with self.call(
            "PUT",
            self._path("manifests", reference),
            headers={"Content-Type": media_type, "Content-Length": str(len(raw))},
            expected=(200, 201, 202),
            body=lambda: raw,
        ) as answer:
            return "oci-subject" in answer.headers

    def delete_manifest(self, reference: str) -> None:
        """Take a tag away, or a manifest with all its tags (end-9).

        Raises:
            RegistryError: 405: this registry does not delete.
        """
        self.call("DELETE", self._path("manifests", reference), expected=(200, 202, 204)).close()

    # Blobs

    def has_blob(self, digest: Digest) -> bool:
        """Whether the repository has the blob (end-2)."""
        return self.describe_blob(digest) is not None

    def describe_blob(self, digest: Digest) -> Mapping[str, str] | None:
        """What the registry says of the blob, by small names; `None` if it is not there, or it does not say (end-2)."""
        expected = {200, *_NO_HEAD}
        try:
            with self.call("HEAD", self._path("blobs", str(digest)), expected=expected) as answer:
                return None if answer.status in _NO_HEAD else answer.headers
        except NotThereError:
            return None

    def head_blob(self, digest: Digest) -> int | None:
        """The size that the registry says the blob has (end-2); `None` if it does not say.

        Raises:
            NotThereError: the repository does not have it.
        """
        expected = {200, 405, 501}
        with self.call("HEAD", self._path("blobs", str(digest)), expected=expected) as answer:
            return answer.length if answer.status == 200 else None

    def get_blob(self, digest: Digest, *, offset: int = 0) -> Answer:
        """The answer whose body is the blob from *offset* on (206), or all of it (200) (end-2, "Pulling blobs").

        Raises:
            RegistryError: 416: the blob is not that long.
        """
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        return self.call(
            "GET", self._path("blobs", str(digest)), headers=headers, expected=(200, 206)
        )

    def read_blob(self, blob: Descriptor) -> bytes:
        """A small blob, whole and checked: a config.

        Raises:
            WrongContentError: it is not what *blob* says.
        """
        if blob.size > DOCUMENT_LIMIT:
            raise self.wrong(f"the config {blob.digest} is longer than 4 MiB")
        path = self._path("blobs", str(blob.digest))
        raw = self.call("GET", path, read_limit=blob.size).body
        try:
            blob.digest.verify(raw)
        except DigestError as error:
            raise self.wrong(error.why) from error
        return raw

    def delete_blob(self, digest: Digest) -> None:
        """Remove a blob from the repository (end-10); registries need not allow it."""
        self.call("DELETE", self._path("blobs", str(digest)), expected=(200, 202, 204)).close()

    # Lists

    def tags(self) -> Iterator[str]:
        """Every tag, in the registry's order, page by page (end-8).

        Raises:
            NotThereError: the repository is not there.
        """
        for page in self._pages(self._path("tags", "list")):
            try:
                yield from msgspec.json.decode(page, type=_Tags).tags or ()
            except msgspec.DecodeError as error:
                raise self.wrong("its list of tags is not JSON") from error

    def referrers(self, digest: Digest, *, artifact_type: str = "") -> tuple[Descriptor, ...]:
        """What refers to that manifest: signatures, SBOMs … (end-12); by the fallback tag where the API is missing."""
        query = f"?artifactType={quote(artifact_type, safe='')}" if artifact_type else ""
        try:
            pages = [
                self._index(raw)
                for raw in self._pages(self._path("referrers", str(digest)) + query)
            ]
        except (NotThereError, RegistryError) as error:
            if error.status not in (400, 404, 405):
                raise
            tag = referrers_tag(digest)
            if self.head_manifest(tag) is None:
                return ()
            pages = [self._index(self.get_manifest(tag).raw)]
        found = [item for page in pages for item in page.manifests]
        return tuple(item for item in found if artifact_type in ("", item.artifact_type))

    def _index(self, raw: bytes) -> Index:
        return decode_index(raw)

    def _pages(self, path: str) -> Iterator[bytes]:
        from hakobune.distribution.link_header import next_page  # only for who lists

        seen: set[str] = set()
        while path and path not in seen and len(seen) < _PAGES:
            seen.add(path)
            answer = self.call("GET", path, read_limit=_LIST_LIMIT)
            raw, path = answer.body, next_page(answer.header_values("link"), answer.url)
            if len(raw) > _LIST_LIMIT:
                raise self.wrong("a page of its list is longer than 8 MiB")
            yield raw

    # Below

    def call(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        expected: Iterable[int] = (200,),
        body: Body | None = None,
        again: bool = True,
        read_limit: int | None = None,
    ) -> Answer:
        """Send a request to a path of the registry (or a URL that it gave) and give the expected answer.

        Args:
            read_limit: read the body (and one byte more, if there is more), and close the answer.
        """
        request = Request(
            method=method,
            url=path,
            what=self.what,
            headers=headers or {},
            expected=frozenset(expected),
            body=body,
            scopes=self._scopes,
            again=again,
            read_limit=read_limit,
        )
        return self.session.send(request, self.endpoint)

    def locate(self, answer: Answer) -> str:
        """The URL in an answer's `Location`, which may be relative.

        Raises:
            WrongContentError: there is none, or one that is not to be used.
        """
        location = answer.headers.get("location", "")
        if not location:
            raise self.wrong("it did not say where the upload is (no Location)")
        target = resolve_location(answer.url, location)
        why = why_not_followed(answer.url, target, insecure=self.endpoint.insecure)
        if why:
            raise self.wrong(f"it wants the upload at {target[:200]!r}: {why}")
        return target

    def upload_path(self) -> str:
        return self._path("blobs", "uploads") + "/"

    def wrong(self, why: str) -> WrongContentError:
        """The error for content that cannot be right."""
        return WrongContentError(
            self.what,
            host=self.host,
            why=f"{self.host} sent wrong content: {why}",
            fix="try again; if it stays so, the registry or a proxy before it is damaged",
        )

    def _path(self, kind: str, last: str) -> str:
        return f"/v2/{self.endpoint.repository}/{kind}/{last}"


def referrers_tag(digest: Digest) -> str:
    """The tag under which registries without the API keep the index of referrers (distribution-spec "Referrers Tag Schema")."""
    return f"{digest.algorithm[:32]}-{digest.hex[:64]}"
