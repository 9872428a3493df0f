"""The error of everything that makes an installation's network."""

from __future__ import annotations

from hakobune.errors import HakoError


class NetworkError(HakoError):
    """The installation's network cannot be made or used."""
