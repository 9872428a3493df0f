"""Where a registry is and how it is spoken to: endpoints, mirrors, plain HTTP, certificates.

Read as podman and docker read them: `registries.conf` (containers-registries.conf.5), `daemon.json`'s
`registry-mirrors` and `insecure-registries`, `certs.d/HOST[:PORT]/` (containers-certs.d.5). No format of our own.
"""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hakobune.distribution.own_registry import OwnRegistry
from hakobune.errors import HakoError
from hakobune.oci.reference import DEFAULT_REGISTRY, Reference

if TYPE_CHECKING:
    from hakobune.distribution.registries_conf import RegistryTable

_DOCKER_HUB: Final = "registry-1.docker.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Own authorities and a client's certificate for one host."""

    authorities: tuple[Path, ...] = ()
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One place that has a repository.

    Attributes:
        host: `HOST[:PORT]`, where requests go.
        repository: the repository's name there.
        insecure: plain HTTP and certificates that nobody signed are accepted.
        plain_first: try HTTP before HTTPS (loopback); only where `insecure`.
        mirror: it only gives, and whatever goes wrong there is not the end.
        socket: requests to the host go to this unix socket, where the caller is known by its process.
    """

    host: str
    repository: str
    insecure: bool = False
    plain_first: bool = False
    mirror: bool = False
    socket: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Registries:
    """All that is configured; `endpoints` is the question it answers."""

    entries: tuple[RegistryTable, ...] = ()
    hub_mirrors: tuple[str, ...] = ()
    insecure: tuple[str, ...] = ()
    certificate_folders: tuple[Path, ...] = ()
    own: OwnRegistry | None = None

    @classmethod
    def read(cls, env: Mapping[str, str], home: Path) -> Registries:
        """Read the first `registries.conf` there is (with its `.d` folder), docker's `daemon.json`, and find the folders of certificates.

        Raises:
            HakoError: a file cannot be understood; it is named.
        """
        user = Path(env.get("XDG_CONFIG_HOME") or Path(env.get("HOME") or "/") / ".config")
        hub_mirrors, insecure = _read_docker(Path("/etc/docker/daemon.json"))
        return cls(
            entries=_read(_configuration_files(env, home, user)),
            hub_mirrors=hub_mirrors,
            insecure=insecure,
            certificate_folders=(
                home / "certs.d",
                user / "containers" / "certs.d",
                Path("/etc/containers/certs.d"),
                Path("/etc/docker/certs.d"),
            ),
        )

    def endpoints(self, reference: Reference, *, pull: bool) -> tuple[Endpoint, ...]:
        """The places to ask for *reference*'s repository, in order; for a push there is one.

        Raises:
            HakoError: the registry is blocked by the configuration.
        """
        if self.own is not None and self.own.means(reference):
            return (own_registry_endpoint(self.own, reference),)
        name = reference.name
        entry = _most_specific(self.entries, name)
        if entry is not None and entry.blocked:
            raise HakoError(
                f"{reference.registry} is not used",
                why=f"registries.conf blocks {entry.prefix!r}",
                fix="remove `blocked = true` there",
            )
        own = self._own(name, entry)
        if not pull:
            return (own,)
        mirrors = [*self._mirrors(reference, entry)]
        return (*mirrors, own)

    def tls_files(self, host: str) -> TlsFiles:
        """What the first folder `certs.d/HOST` has: `*.crt` are authorities, `*.cert` with `*.key` a client's."""
        for folder in self.certificate_folders:
            path = folder / host
            if os.path.isdir(path):
                certificate = next(iter(sorted(path.glob("*.cert"))), None)
                return TlsFiles(
                    authorities=tuple(sorted(path.glob("*.crt"))),
                    certificate=certificate,
                    key=certificate.with_suffix(".key") if certificate else None,
                )
        return TlsFiles()

    def _own(self, name: str, entry: RegistryTable | None) -> Endpoint:
        moved = entry is not None and entry.location != entry.prefix
        location = entry.location + _below(entry, name) if entry is not None and moved else name
        insecure = entry is not None and entry.insecure
        return self._endpoint(location, insecure=insecure, mirror=False)

    def _mirrors(self, reference: Reference, entry: RegistryTable | None) -> Iterable[Endpoint]:
        if entry is not None:
            rest = _below(entry, reference.name)
            for mirror in entry.mirrors:
                wanted = "digest-only" if reference.digest is not None else "tag-only"
                if mirror.pulls in ("all", wanted) and (
                    reference.digest is not None or not entry.digest_only
                ):
                    yield self._endpoint(
                        mirror.location + rest, insecure=mirror.insecure, mirror=True
                    )
        if reference.registry == DEFAULT_REGISTRY:
            for url in self.hub_mirrors:
                plain = url.startswith("http://")
                location = url.partition("://")[2].rstrip("/") + "/" + reference.repository
                yield self._endpoint(location, insecure=plain, mirror=True, plain_first=plain)

    def _endpoint(
        self, location: str, *, insecure: bool, mirror: bool, plain_first: bool = False
    ) -> Endpoint:
        host, _, repository = location.partition("/")
        loopback = is_loopback(host)
        return Endpoint(
            host=_DOCKER_HUB if host == DEFAULT_REGISTRY else host,
            repository=repository,
            insecure=insecure or loopback or _is_listed(host, self.insecure),
            plain_first=plain_first or loopback,
            mirror=mirror,
        )


def own_registry_endpoint(own: OwnRegistry, reference: Reference) -> Endpoint:
    """The repository of *reference* in this installation's registry, by its socket.

    Raises:
        HakoError: it has too few parts.
    """
    if reference.repository.count("/") < 2:
        last = reference.repository.rpartition("/")[2]
        raise HakoError(
            f"{reference.short} is no name of an image in this registry",
            why="images here are called HOST/PROJECT/REPOSITORY/IMAGE",
            fix=f"{reference.registry}/hako/apps/{last}",
        )
    return Endpoint(
        host=own.host_for(reference.registry),
        repository=reference.repository,
        insecure=True,
        socket=own.socket,
    )


def is_loopback(host: str) -> bool:
    """`localhost`, 127.0.0.0/8 or [::1], with any port: docker speaks plain HTTP to these."""
    name = bare_host(host)
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def bare_host(host: str) -> str:
    """The host without its port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_listed(host: str, listed: Sequence[str]) -> bool:
    """Whether docker's `insecure-registries` names the host, with or without port, or a network it is in."""
    for item in listed:
        if item in (host, bare_host(host)):
            return True
        try:
            if ipaddress.ip_address(bare_host(host)) in ipaddress.ip_network(item, strict=False):
                return True
        except ValueError:
            continue
    return False


def _most_specific(entries: Sequence[RegistryTable], name: str) -> RegistryTable | None:
    fitting = [entry for entry in entries if _fits(entry.prefix, name)]
    return max(fitting, key=lambda entry: len(entry.prefix), default=None)


def _fits(prefix: str, name: str) -> bool:
    if prefix.startswith("*."):  # all subdomains, with any port
        return bare_host(name.partition("/")[0]).endswith(prefix[1:])
    return name == prefix or (name.startswith(prefix) and name[len(prefix)] in "/:@")


def _below(entry: RegistryTable, name: str) -> str:
    """What of *name* follows the prefix and is kept behind a location; the whole repository for a table of subdomains."""
    if entry.prefix.startswith("*."):
        return name[name.index("/") :]
    return name[len(entry.prefix) :]


def _configuration_files(env: Mapping[str, str], home: Path, user: Path) -> tuple[Path, ...]:
    """The first main file that exists and what lies in its `.d` folder, in the order in which they count."""
    named = env.get("CONTAINERS_REGISTRIES_CONF")
    mains = (
        (Path(named),)
        if named
        else (
            home / "registries.conf",
            user / "containers" / "registries.conf",
            Path("/etc/containers/registries.conf"),
        )
    )
    for main in mains:
        if named or os.path.isfile(main):  # false also where this user may not look
            return (main, *sorted(main.with_name(main.name + ".d").glob("*.conf")))
    return ()


def _read(files: Sequence[Path]) -> tuple[RegistryTable, ...]:
    said = [path for path in files if _is_said(path)]
    if not said:
        return ()
    from hakobune.distribution.registries_conf import read_tables

    return read_tables(said)


def _is_said(path: Path) -> bool:
    """Whether the file has a `[[registry]]` at all; most have only comments, and a list of search registries that we do not use."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return True  # its reader says what is wrong
    return any(
        line.lstrip().startswith((b"[[registry", b"[registry", b"registry")) for line in lines
    )


def _read_docker(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """`registry-mirrors` and `insecure-registries` of docker's daemon; what is odd in that file is docker's business."""
    try:
        data = path.read_bytes()
    except OSError:
        return (), ()
    try:
        document = json.loads(data)
    except ValueError:
        return (), ()
    if not isinstance(document, dict):
        return (), ()
    return _texts(document.get("registry-mirrors")), _texts(document.get("insecure-registries"))


def _texts(value: object) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()
