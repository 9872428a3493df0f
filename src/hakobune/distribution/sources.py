"""The places that may have a repository, asked one after the other: mirrors, then the registry itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from hakobune.distribution.client import RegistryClient
from hakobune.distribution.errors import RegistryError
from hakobune.distribution.session import Session
from hakobune.oci.reference import Reference

_Found = TypeVar("_Found")


def clients_for_pull(
    session: Session, reference: Reference, what: str
) -> tuple[RegistryClient, ...]:
    """One client a place that may have the repository, mirrors first."""
    endpoints = session.access.registries.endpoints(reference, pull=True)
    return tuple(RegistryClient(session, endpoint, what=what) for endpoint in endpoints)


def wanted(reference: Reference) -> str:
    """The tag or digest to ask for; the digest decides."""
    return str(reference.digest or reference.tag)


def first_of(clients: Sequence[RegistryClient], ask: Callable[[RegistryClient], _Found]) -> _Found:
    """The answer of the first place that gives one; the registry itself is the last, and its error counts."""
    for client in clients[:-1]:
        if client.is_lost:
            continue
        try:
            return ask(client)
        except RegistryError as error:
            client.judge(error)
    return ask(clients[-1])
