"""The error of every database, in a module that imports none."""

from __future__ import annotations

from hakobune.errors import HakoError


class DatabaseError(HakoError):
    """A database cannot be opened, read or written; nothing of the transaction was written."""
