"""Upload sessions in the database, so that any worker can go on where another has stopped (distribution-spec "Pushing a blob in chunks")."""

from __future__ import annotations

from dataclasses import dataclass

from hakobune.registry.errors import RegistryError
from hakobune.registry.repository import Repository
from hakobune.registry.rows import Rows, name_unknown
from hakobune.state.sql import Row, Transaction

_COLUMNS = (
    "id, repository, image, received, hash_state, algorithm, actor, extra, created_at, touched_at"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """One session. Times are microseconds since 1970."""

    id: str
    repository_id: int
    image: str
    received: int  # bytes that are in the staged file and in `hash_state`
    hash_state: bytes | None  # as `receive` has saved it; None: the file has to be read again
    algorithm: str
    actor: str
    extra: str = ""  # what the storage wants to know again, as JSON
    created_at: int = 0
    touched_at: int = 0


class UploadRows(Rows):
    """The part of `Metadata` about upload sessions. None of it has to survive a power loss."""

    async def begin_upload(
        self,
        repository: Repository,
        image: str,
        id: str,
        actor: str,
        *,
        algorithm: str = "sha256",
        extra: str = "",
    ) -> Upload:
        """A new session (end-4a).

        Raises:
            RegistryError: NAME_UNKNOWN if the repository is gone.
        """
        now = self.clock()

        async def work(transaction: Transaction) -> None:
            if not await transaction.fetch_row(
                "SELECT 1 FROM repository WHERE id = $1", repository.id
            ):
                raise name_unknown(repository)
            await transaction.execute(
                f"INSERT INTO upload ({_COLUMNS}) VALUES ($1, $2, $3, 0, NULL, $4, $5, $6, $7, $7)",
                id,
                repository.id,
                image,
                algorithm,
                actor,
                extra,
                now,
            )

        await self.sql.transact(work, durable=False)
        return Upload(
            id=id,
            repository_id=repository.id,
            image=image,
            received=0,
            hash_state=None,
            algorithm=algorithm,
            actor=actor,
            extra=extra,
            created_at=now,
            touched_at=now,
        )

    async def find_upload(self, repository: Repository, id: str) -> Upload | None:
        """The session, if it is one of *repository*."""
        row = await self.sql.fetch_row(
            f"SELECT {_COLUMNS} FROM upload WHERE id = $1 AND repository = $2", id, repository.id
        )
        return None if row is None else _from_row(row)

    async def save_upload(
        self,
        id: str,
        *,
        before: int,
        received: int,
        hash_state: bytes | None,
        extra: str = "",
    ) -> bool:
        """Note what has arrived, if the session still stands at *before*; whether it did.

        False means that somebody else has gone on with it, or that it has ended.
        """
        now = self.clock()

        async def work(transaction: Transaction) -> int:
            return await transaction.execute(
                "UPDATE upload SET received = $3, hash_state = $4, extra = $5, touched_at = $6 "
                "WHERE id = $1 AND received = $2",
                id,
                before,
                received,
                hash_state,
                extra,
                now,
            )

        return await self.sql.transact(work, durable=False) == 1

    async def end_upload(self, repository: Repository, id: str) -> None:
        """Forget a session (end-14); its file is the caller's.

        Raises:
            RegistryError: BLOB_UPLOAD_UNKNOWN.
        """

        async def work(transaction: Transaction) -> int:
            return await transaction.execute(
                "DELETE FROM upload WHERE id = $1 AND repository = $2", id, repository.id
            )

        if not await self.sql.transact(work, durable=False):
            raise upload_unknown(id)

    async def expired_uploads(self, idle_s: float, limit: int = 1000) -> tuple[Upload, ...]:
        """Sessions in which nothing has arrived for *idle_s* seconds."""
        found = await self.sql.fetch(
            f"SELECT {_COLUMNS} FROM upload WHERE touched_at < $1 ORDER BY touched_at LIMIT $2",
            self.clock() - int(idle_s * 1_000_000),
            limit,
        )
        return tuple(_from_row(row) for row in found)


def upload_unknown(id: str) -> RegistryError:
    return RegistryError(
        "BLOB_UPLOAD_UNKNOWN",
        "the upload is not known here: it has ended, or it never began",
        {"id": id},
    )


def _from_row(row: Row) -> Upload:
    return Upload(
        id=row[0],
        repository_id=row[1],
        image=row[2],
        received=row[3],
        hash_state=row[4],
        algorithm=row[5],
        actor=row[6],
        extra=row[7],
        created_at=row[8],
        touched_at=row[9],
    )
