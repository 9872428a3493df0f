"""Whether a remote repository's upstream is one: asked once, when the repository is made (unless `disableUpstreamValidation`)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from hakobune.registry.errors import ResourceError
from hakobune.registry.metadata import Metadata
from hakobune.registry.repository import RemoteConfig
from hakobune.registry.upstream import (
    OwnUpstream,
    RegistryUpstream,
    UpstreamConfigError,
    as_own,
    parse_upstream,
)
from hakobune.registry.upstream_errors import AbsentError, UpstreamError


async def check_upstream(
    metadata: Metadata,
    remote: RemoteConfig,
    *,
    password: str,
    env: Mapping[str, str],
    home: Path,
    own_hosts: tuple[str, ...] = (),
) -> None:
    """Refuse what cannot be an upstream; ask it, unless the configuration says not to.

    Args:
        password: in clear.
        env, home, own_hosts: as `sources.Sources` takes them.

    Raises:
        ResourceError: INVALID_ARGUMENT for what names none; FAILED_PRECONDITION if nobody answers, or refuses the credentials.
    """
    try:
        upstream = as_own(parse_upstream(remote.upstream), own_hosts)
    except UpstreamConfigError as error:
        raise ResourceError("INVALID_ARGUMENT", error.what, why=error.why, fix=error.fix) from error
    if remote.disable_upstream_validation:
        return
    if isinstance(upstream, OwnUpstream):
        if await metadata.find_repository(upstream.project, upstream.repository_id) is not None:
            return
        if upstream.otherwise is None:
            raise ResourceError(
                "FAILED_PRECONDITION",
                f"the upstream {upstream} is not a repository of this installation",
                fix="create it first, or set disableUpstreamValidation (--disable-remote-validation)",
            )
        upstream = upstream.otherwise
    await asyncio.to_thread(_ask, upstream, remote.username, password, env, home)


def _ask(
    upstream: RegistryUpstream, user: str, password: str, env: Mapping[str, str], home: Path
) -> None:
    from hakobune.registry.upstream_client import UpstreamClient  # loads HTTP

    client = UpstreamClient(upstream, user=user, password=lambda: password, env=env, home=home)
    try:
        client.ping()
    except AbsentError as error:
        raise _error(upstream, "there is no registry at that address (404 for /v2/)") from error
    except UpstreamError as error:
        raise _error(upstream, error.why) from error
    finally:
        client.close()


def _error(upstream: RegistryUpstream, why: str) -> ResourceError:
    return ResourceError(
        "FAILED_PRECONDITION",
        f"the upstream {upstream} does not answer as a registry",
        why=why,
        fix="correct the URL or the credentials, or set disableUpstreamValidation (--disable-remote-validation)",
    )
