"""Egress for a namespace of this process's own, for a time: builds and foreground containers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from hakobune.runtime.dns_forwarder import forwarder
from hakobune.runtime.network import Network


@dataclass(frozen=True, slots=True)
class Guest:
    """The network that a namespace of this process's own has, for a time."""

    address: str
    resolv_conf: str


@contextmanager
def guest_network(network: Network, netns_fd: int) -> Iterator[Guest]:
    """Egress for the namespace *netns_fd* while the block lasts, with or without a running supervisor.

    If the host's resolver is on loopback, a DNS forwarder runs on the bridge meanwhile.
    """
    with ExitStack() as undo:
        membership = network.join()
        undo.callback(membership.leave)
        lease = network.lease()
        undo.callback(lease.release)
        cable = network.connect(netns_fd, lease.address)
        undo.callback(membership.leave, cable)
        resolv_conf = network.resolv_conf()
        if resolv_conf.needs_forwarder:
            undo.enter_context(forwarder(str(network.gateway)))
        yield Guest(str(lease.address), resolv_conf.text)
