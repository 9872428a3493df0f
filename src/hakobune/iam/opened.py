"""IAM as every server process has it: the store over the registry's database, and who checks credentials against it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hakobune.iam.authenticate import Authenticator
from hakobune.iam.master_key import load_master_key, master_key_path
from hakobune.iam.owner_token import owner_token_path, read_token
from hakobune.iam.store import IamStore
from hakobune.state.sql import Sql


@dataclass(frozen=True, slots=True)
class Iam:
    """The two parts."""

    store: IamStore
    authenticator: Authenticator


def open_iam(home: Path, sql: Sql, *, changed: Callable[[], None]) -> Iam:
    """IAM of the installation at *home*; its master key is made if there is none.

    Args:
        sql: the registry's database, migrated.
        changed: called after each commit that changes rights (`Generation.bump`).

    Raises:
        MasterKeyError: the master key cannot be read, or others can read it.
    """
    store = IamStore(
        sql,
        master=load_master_key(master_key_path(home)),
        changed=changed,
        clock=lambda: time.time_ns() // 1000,
        monotonic=time.monotonic,
    )
    token = owner_token_path(home)
    return Iam(store, Authenticator(store, owner_token=lambda: read_token(token)))
