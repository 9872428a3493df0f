"""Where a remote repository's content comes from, and what an image is called there (pure).

Artifact Registry's `remoteRepositoryConfig`: Docker Hub, a registry by URL, or another repository of this installation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from hakobune.errors import HakoError

HUB_HOST: Final = "registry-1.docker.io"
_HUB_NAMES: Final = frozenset(
    {
        "docker.io",
        "index.docker.io",
        "registry-1.docker.io",
        "registry.hub.docker.com",
        "hub.docker.com",
    }
)
_OWN: Final = re.compile(r"projects/([^/]+)/locations/[^/]+/repositories/([^/]+)")
_PKG_DEV: Final = re.compile(r"[a-z0-9-]+-docker\.pkg\.dev")
_NAME: Final = re.compile(
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
)


class UpstreamConfigError(HakoError):
    """A remote repository's configuration does not say where its content comes from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryUpstream:
    """A registry that is asked by HTTP.

    Attributes:
        host: `HOST[:PORT]`.
        prefix: what stands before every image's name there; empty, or without slashes at its ends.
        plain: it speaks HTTP without TLS, by its URL.
    """

    host: str
    prefix: str = ""
    plain: bool = False

    @property
    def is_hub(self) -> bool:
        return self.host == HUB_HOST

    @property
    def namespace(self) -> str:
        """What containerd calls this registry in `?ns=`."""
        return "docker.io" if self.is_hub else self.host

    def repository(self, image: str) -> str:
        """The image's repository there. The Hub keeps official images under `library/`; no redirect tells clients so."""
        name = f"{self.prefix}/{image}" if self.prefix else image
        return f"library/{name}" if self.is_hub and "/" not in name else name

    def __str__(self) -> str:
        return f"{self.host}/{self.prefix}".rstrip("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnUpstream:
    """Another repository of this installation; it is asked without HTTP.

    Attributes:
        prefix: what stands before every image's name there.
        otherwise: where to ask if there is no such repository here (`LOCATION-docker.pkg.dev` names both).
    """

    project: str
    repository_id: str
    prefix: str = ""
    otherwise: RegistryUpstream | None = None

    def image(self, image: str) -> str:
        return f"{self.prefix}/{image}" if self.prefix else image

    def __str__(self) -> str:
        return f"{self.project}/{self.repository_id}"


Upstream = RegistryUpstream | OwnUpstream


def parse_upstream(config: Mapping[str, Any]) -> Upstream:
    """The upstream that a `remoteRepositoryConfig` (in the API's JSON) names.

    Raises:
        UpstreamConfigError: it names none, two, or one that cannot be.
    """
    docker = config.get("dockerRepository") or {}
    named: list[Upstream] = []
    public = docker.get("publicRepository") or ""
    if public in ("DOCKER_HUB", 1):
        named.append(RegistryUpstream(host=HUB_HOST))
    elif public and public != "PUBLIC_REPOSITORY_UNSPECIFIED":
        raise _error(
            f"{public!r} is no public Docker registry", "the known one is DOCKER_HUB; others by URL"
        )
    if uri := (docker.get("customRepository") or {}).get("uri"):
        named.append(parse_uri(str(uri)))
    if uri := (config.get("commonRepository") or {}).get("uri"):
        named.append(parse_uri(str(uri)))
    if len(named) != 1:
        raise _error(
            "it names no upstream" if not named else "it names more than one upstream",
            "give one of dockerRepository.publicRepository, dockerRepository.customRepository.uri and commonRepository.uri",
        )
    return named[0]


def parse_uri(uri: str) -> Upstream:
    """`https://HOST[:PORT][/PREFIX]`, `HOST/PREFIX`, or `projects/P/locations/L/repositories/R`.

    Raises:
        UpstreamConfigError: it is none of these.
    """
    if own := _OWN.fullmatch(uri.strip("/")):
        return OwnUpstream(project=own[1], repository_id=own[2])
    parts = urlsplit(uri if "://" in uri else f"https://{uri}")
    _check(parts.scheme, parts.netloc, uri)
    if parts.query or parts.fragment:
        raise _error(f"{uri[:200]!r} has a query", "give https://HOST[:PORT][/PREFIX]")
    prefix = parts.path.strip("/")
    if prefix == "v2" or prefix.startswith("v2/"):  # the endpoint's own path
        prefix = prefix[3:]
    if prefix and not _NAME.fullmatch(prefix):
        raise _error(f"{prefix[:200]!r} cannot be the beginning of a repository's name", "")
    host = parts.netloc.lower()
    if host in _HUB_NAMES:
        return RegistryUpstream(host=HUB_HOST, prefix=prefix)
    upstream = RegistryUpstream(host=host, prefix=prefix, plain=parts.scheme == "http")
    if _PKG_DEV.fullmatch(host) and prefix.count("/"):
        project, name, *rest = prefix.split("/")
        return OwnUpstream(
            project=project, repository_id=name, prefix="/".join(rest), otherwise=upstream
        )
    return upstream


def _check(scheme: str, netloc: str, uri: str) -> None:
    if scheme not in ("http", "https") or not netloc:
        raise _error(f"{uri[:200]!r} is no http(s) URL", "give https://HOST[:PORT][/PREFIX]")
    if "@" in netloc:
        # Never quoted: it holds a password.
        raise _error(
            "the upstream's URL holds a user", "give user and password as upstreamCredentials"
        )
    if not re.fullmatch(
        r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:.]+\])(?::\d{1,5})?", netloc
    ):
        raise _error(f"{netloc[:200]!r} is no host", "give https://HOST[:PORT][/PREFIX]")


def _error(why: str, fix: str) -> UpstreamConfigError:
    return UpstreamConfigError("the remote repository's upstream is not usable", why=why, fix=fix)
