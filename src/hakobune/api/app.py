"""The controller's process: Google's APIs on two unix sockets, over one controller.

`run/api.sock` is for this machine's users (who may open it may call); `run/api-tcp.sock` is where HAProxy
sends what comes over TCP, and wants a token. Started by the supervisor: `python -m hakobune.api.app`.
"""

from __future__ import annotations

import os
import sys

from hakobune.api.artifacts_open import open_artifacts
from hakobune.api.image_access import ImageAccess
from hakobune.api.process import make_app, run_process, serve_until_told
from hakobune.api.registry_state import open_registry_state
from hakobune.api.run_v2 import run_v2_routes
from hakobune.distribution.own_registry import OwnRegistry
from hakobune.iam.owner_token import load_token, owner_token_path
from hakobune.serving.controller import Controller
from hakobune.settings import Settings


async def serve(settings: Settings) -> None:
    """Run the controller and its APIs until SIGTERM or SIGINT."""
    load_token(owner_token_path(settings.home))
    state = await open_registry_state(settings)
    controller = Controller(settings, gate=ImageAccess(OwnRegistry.of(settings), state))
    await controller.start()
    try:
        registry = open_artifacts(state, settings, env=os.environ)
        server = f"http://{settings.host}:{settings.port}"
        app = make_app(
            run_v2_routes(controller),
            state,
            registry,
            server=server,
            history_days=settings.registry_history_days,
        )
        await serve_until_told(app, settings, state)
    finally:
        await controller.stop()
        await state.close()


def main() -> int:
    """Run until told to stop; errors of ours end the process with their exit code."""
    settings = Settings.from_environment(os.environ, uid=os.geteuid())
    return run_process(serve(settings), ended="controller ended")


if __name__ == "__main__":
    sys.exit(main())
