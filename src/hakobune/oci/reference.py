"""Image references with Docker's short names (distribution-spec "Pulling manifests", docker's reference grammar)."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from hakobune.errors import HakoError
from hakobune.oci.digest import Digest, DigestError

DEFAULT_REGISTRY: Final = "docker.io"
DEFAULT_TAG: Final = "latest"
OFFICIAL: Final = "library/"

_DOMAIN_PART: Final = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_REGISTRY: Final = re.compile(
    rf"(?:{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?"
)
_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY: Final = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG: Final = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_NAME_LIMIT: Final = 255


class ReferenceFormatError(HakoError):
    """A text is not an image reference."""


class Reference(msgspec.Struct, frozen=True, order=True):
    """The full name of an image: `docker.io/library/web:latest`.

    At least one of `tag` and `digest` is set; when both are, the digest decides and the tag is a remark.
    Made by `parse`; the constructor trusts its arguments.
    """

    registry: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a name as Docker does: `web`, `shop/web:v2`, `localhost:8080/p/r/web@sha256:…`.

        The first component is a registry if it has a dot or a colon, is `localhost`, or has capitals.

        Raises:
            ReferenceFormatError: the text and what is wrong with it.
        """
        rest, at, digest_text = text.partition("@")
        digest = _parse_digest(digest_text, text) if at else None
        name, tag = _split_tag(rest)
        if tag is None and digest is None:
            tag = DEFAULT_TAG
        if tag is not None and not _TAG.fullmatch(tag):
            raise _error(
                text,
                f"the tag {tag!r} has characters other than letters, digits and ._-, or more than 128",
            )
        registry, repository = _split_registry(name)
        _check_name(text, registry, repository)
        return cls(registry, repository, tag, digest)

    @property
    def name(self) -> str:
        """Registry and repository, without tag and digest."""
        return f"{self.registry}/{self.repository}"

    @property
    def short(self) -> str:
        """The familiar form: `web` for `docker.io/library/web:latest`; parsing it gives this again."""
        name = self.name
        if self.registry == DEFAULT_REGISTRY:
            first, slash, rest = self.repository.partition("/")
            if first + slash == OFFICIAL and "/" not in rest:
                name = rest
            elif not _is_registry(first):
                name = self.repository
        default = self.tag == DEFAULT_TAG and self.digest is None
        return name + ("" if default else self._suffix())

    def with_digest(self, digest: Digest) -> Reference:
        """The same repository at one fixed content, without a tag."""
        return msgspec.structs.replace(self, tag=None, digest=digest)

    def _suffix(self) -> str:
        tag = "" if self.tag is None else f":{self.tag}"
        return tag if self.digest is None else f"{tag}@{self.digest}"

    def __str__(self) -> str:
        return self.name + self._suffix()


def _error(text: str, why: str, fix: str = "") -> ReferenceFormatError:
    shown = text if len(text) <= 300 else text[:300] + "…"
    return ReferenceFormatError(f"{shown!r} is not an image name", why=why, fix=fix)


def _parse_digest(digest: str, text: str) -> Digest:
    try:
        return Digest.parse(digest)
    except DigestError as error:
        raise _error(text, f"what follows the @ is not a digest: {error.why}") from error


def _split_tag(rest: str) -> tuple[str, str | None]:
    """Cut `:TAG` off; a colon before the last slash belongs to a port."""
    head, colon, tag = rest.rpartition(":")
    if colon and "/" not in tag:
        return head, tag
    return rest, None


def _split_registry(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if slash and _is_registry(first):
        registry, repository = first, rest
    else:
        registry, repository = DEFAULT_REGISTRY, name
    if registry == "index.docker.io":
        registry = DEFAULT_REGISTRY
    if registry == DEFAULT_REGISTRY and "/" not in repository:
        repository = OFFICIAL + repository
    return registry, repository


def _is_registry(component: str) -> bool:
    return (
        "." in component
        or ":" in component
        or component == "localhost"
        or component != component.lower()
    )


def _check_name(text: str, registry: str, repository: str) -> None:
    if not _REGISTRY.fullmatch(registry):
        scheme, separator, rest = text.partition("://")
        fix = f"write {rest}, without {scheme}://" if separator and rest else ""
        raise _error(text, f"{registry!r} is not a registry (HOST or HOST:PORT)", fix)
    if not _REPOSITORY.fullmatch(repository):
        shown = repository.removeprefix(OFFICIAL)
        if shown != shown.lower():
            fix = f"write {text.replace(shown, shown.lower(), 1)}"
            raise _error(text, f"{shown!r} must be in lower case", fix)
        raise _error(
            text,
            f"{shown!r} must be components of lower-case letters and digits, "
            "joined by one of . _ __ - and separated by /",
        )
    if len(registry) + 1 + len(repository) > _NAME_LIMIT:
        raise _error(text, f"names have at most {_NAME_LIMIT} characters")
