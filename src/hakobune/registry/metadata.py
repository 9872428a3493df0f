"""All that the registry knows, but for the bytes of blobs: one object over the database, the same in every process.

Names come in checked (`manifest.check_reference`, `manifest.NAME`); digests are texts `sha256:…`. Whoever calls has
decided that the actor may. Times are microseconds since 1970. The parts are in `metadata_*`.
"""

from __future__ import annotations

from hakobune.registry.metadata_blobs import StoredBlob as StoredBlob
from hakobune.registry.metadata_listing import ListingRows
from hakobune.registry.metadata_manifests import ManifestRows
from hakobune.registry.metadata_packages import PackageRows
from hakobune.registry.metadata_pulls import PullRows
from hakobune.registry.metadata_remote import RemoteRows
from hakobune.registry.metadata_remote import RemoteTag as RemoteTag
from hakobune.registry.metadata_removal import RemovalRows
from hakobune.registry.metadata_repositories import RepositoryRows
from hakobune.registry.metadata_tags import TagRows
from hakobune.registry.metadata_uploads import Upload as Upload
from hakobune.registry.metadata_uploads import UploadRows


class Metadata(
    RepositoryRows,
    ManifestRows,
    TagRows,
    RemovalRows,
    PullRows,
    UploadRows,
    RemoteRows,
    ListingRows,
    PackageRows,
):
    """`Metadata(sql, generation, clock=now_us, grace_s=24 h)`; one a process, on its loop.

    Every method may raise `DatabaseError`. What changes tags, repositories or rights, or removes content,
    bumps the generation once it is committed.

    Args:
        sql: from `state.sql.open_sql`.
        generation: the page that tells all caches.
        clock: microseconds since 1970.
        grace_s: the collector's: for how long after its last promise a blob stays that nothing names.
    """
