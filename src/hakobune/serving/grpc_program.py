"""Google's APIs by gRPC as a program of this installation: the supervisor holds its socket, and runs it at the first call."""

from __future__ import annotations

import logging
import sys

from hakobune.errors import HakoError
from hakobune.serving.supervisor_link import SupervisorLink
from hakobune.settings import Settings

PROGRAM = "grpc"

logger = logging.getLogger(__name__)


class GrpcProgram:
    """Has the supervisor run the gRPC front when it is called."""

    def __init__(self, settings: Settings, link: SupervisorLink) -> None:
        self._settings = settings
        self._link = link

    async def ensure(self) -> None:
        """Have its socket held. Idempotent; what hinders it is logged, and everything else goes on."""
        try:
            await self._link.start_program(
                PROGRAM,
                (sys.executable, "-I", "-X", "utf8", "-m", "hakobune.api.grpc_front"),
                env=None,
                listen=(str(self._settings.grpc_socket),),
                lazily=True,
            )
        except HakoError as error:
            logger.error("gRPC cannot be served", extra={"why": str(error)})
