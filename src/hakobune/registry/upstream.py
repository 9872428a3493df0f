"""Where a remote repository's content comes from, and what an image is called there (pure).

Docker Hub, a registry by URL, or another repository of this installation (Artifact Registry's `remoteRepositoryConfig`).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from hakobune.errors import HakoError
from hakobune.registry.route import is_name

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


def parse_upstream(text: str) -> Upstream:
    """`DOCKER_HUB`, `https://HOST[:PORT][/PREFIX]`, `HOST/PREFIX`, or `projects/P/locations/L/repositories/R`.

    Raises:
        UpstreamConfigError: it is none of these.
    """
    if text == "DOCKER_HUB":
        return RegistryUpstream(host=HUB_HOST)
    if own := _OWN.fullmatch(text.strip("/")):
        return OwnUpstream(project=own[1], repository_id=own[2])
    if "://" not in text:  # as docker does it: plain on loopback
        text = f"{'http' if is_loopback(text.partition('/')[0]) else 'https'}://{text}"
    parts = urlsplit(text)
    _check(parts.scheme, parts.netloc, text)
    if parts.query or parts.fragment:
        raise _error(f"{text[:200]!r} has a query", "give https://HOST[:PORT][/PREFIX]")
    prefix = parts.path.strip("/")
    if prefix == "v2" or prefix.startswith("v2/"):  # the endpoint's own path
        prefix = prefix[3:]
    if prefix and not is_name(prefix):
        raise _error(f"{prefix[:200]!r} cannot be the beginning of a repository's name", "")
    host = parts.netloc.lower()
    if host in _HUB_NAMES:
        return RegistryUpstream(host=HUB_HOST, prefix=prefix)
    upstream = RegistryUpstream(host=host, prefix=prefix, plain=parts.scheme == "http")
    return _maybe_own(upstream) if _PKG_DEV.fullmatch(host) else upstream


def as_own(upstream: Upstream, own_hosts: Collection[str]) -> Upstream:
    """The same; as a repository of this installation if its host is one of ours: it is not to be asked by HTTP."""
    if isinstance(upstream, RegistryUpstream) and upstream.host in own_hosts:
        return _maybe_own(upstream)
    return upstream


def _maybe_own(upstream: RegistryUpstream) -> Upstream:
    project, _, rest = upstream.prefix.partition("/")
    name, _, prefix = rest.partition("/")
    if not name:
        return upstream
    return OwnUpstream(project=project, repository_id=name, prefix=prefix, otherwise=upstream)


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


def is_loopback(host: str) -> bool:
    """`localhost`, 127.0.0.0/8 or [::1], with any port."""
    name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
    return name in ("localhost", "[::1]") or name.startswith("127.") or name.endswith(".localhost")


def _error(why: str, fix: str) -> UpstreamConfigError:
    return UpstreamConfigError("the remote repository's upstream is not usable", why=why, fix=fix)
