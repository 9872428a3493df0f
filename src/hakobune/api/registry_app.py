"""The APIs of the registry and of IAM alone, beside `hako registry serve`: on the same two unix sockets as the controller's.

`python -m hakobune.api.registry_app [http|https]`, which is how clients come to the registry's port. No containers and no
services, so it may be any user's.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace

from hakobune.api.artifacts_open import open_artifacts
from hakobune.api.process import make_app, run_process, serve_until_told
from hakobune.api.registry_state import open_registry_state
from hakobune.iam.owner_token import load_token, owner_token_path
from hakobune.settings import Settings


async def serve(settings: Settings, *, scheme: str) -> None:
    """Serve until SIGTERM or SIGINT. The registry's port is the only address that there is."""
    if settings.registry_listen is not None:
        host, port = settings.registry_listen
        settings = replace(settings, host=host, port=port)
    settings.run.mkdir(parents=True, exist_ok=True)
    load_token(owner_token_path(settings.home))
    state = await open_registry_state(settings)
    try:
        registry = open_artifacts(state, settings, env=os.environ)
        server = f"{scheme}://{settings.host}:{settings.port}"
        app = make_app(
            (), state, registry, server=server, history_days=settings.registry_history_days
        )
        await serve_until_told(app, settings, state)
    finally:
        await state.close()


def main() -> int:
    """Run until told to stop; errors of ours end the process with their exit code."""
    settings = Settings.from_environment(os.environ, uid=os.geteuid())
    scheme = "https" if sys.argv[1:] == ["https"] else "http"
    return run_process(serve(settings, scheme=scheme), ended="the registry's API ended")


if __name__ == "__main__":
    sys.exit(main())
