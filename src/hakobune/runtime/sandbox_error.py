"""What is said when a sandbox cannot be made, or has died."""

from __future__ import annotations

from hakobune.errors import HakoError


class SandboxError(HakoError):
    """The sandbox cannot be made, or has died."""


def died(error: OSError | None) -> SandboxError:
    """For a sandbox that ended by itself; *error* is how that was noticed."""
    return SandboxError(
        "the build's sandbox died",
        why=str(error) if error else "its first process was killed (out of memory?)",
        fix="build again; `dmesg` has the reason if the kernel killed it",
    )
