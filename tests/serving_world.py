"""A real supervisor, a real HAProxy and a controller in the test's own loop, over a home of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hakobune.oci.config import ContainerConfig, ImageConfig, RootFs
from hakobune.oci.layer import Owner, Tree, write_layer
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from hakobune.serving.controller import Controller, ServingOptions
from hakobune.serving.document import read_document
from hakobune.serving.plan import IdleRules
from hakobune.serving.service import Service
from hakobune.settings import Settings
from hakobune.state.operations import Operation
from tests.e2e.installation import free_ports
from tests.e2e.load import Answer, ask, burst
from tests.supervised import Supervised

PARENT = "projects/hako/locations/local"
NEVER = IdleRules(freeze_after_s=3600, stop_after_s=7200)


@dataclass(slots=True)
class ServingWorld:
    """A home with a supervisor and the image `app`."""

    supervised: Supervised
    settings: Settings
    controllers: list[Controller] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def controller(
        self, *, idle: IdleRules = NEVER, boots: int = 2, pending_s: int = 10
    ) -> AsyncIterator[Serving]:
        """A controller that runs for the length of the block; instances run on after it."""
        controller = Controller(
            self.settings, ServingOptions(idle=idle, boots=boots, pending_s=pending_s)
        )
        try:
            await controller.start()
            yield Serving(controller, self.settings)
        finally:
            await controller.stop()


@dataclass(slots=True)
class Serving:
    """A running controller with short words for what tests do."""

    controller: Controller
    settings: Settings

    async def deploy(
        self, name: str, *, env: dict[str, str] | None = None, wait: bool = True, **fields: Any
    ) -> Operation:
        """Create or change a service of the image `app`; returns the operation when it is done."""
        container = {
            "image": "app",
            "env": [{"name": k, "value": v} for k, v in (env or {}).items()],
        }
        template = fields.pop("template", {})
        container |= fields.pop("container", {})
        body = {"template": {"containers": [container]} | template} | fields
        operation = await self.controller.update_service(
            f"{PARENT}/services/{name}", read_document(body, Service), allow_missing=True
        )
        if not wait:
            return operation
        return await self.controller.wait_operation(operation.name, 60)

    def service(self, name: str) -> Service:
        return self.controller.get_service(f"{PARENT}/services/{name}")

    async def ask(self, name: str, path: str = "/", *, timeout_s: float = 30) -> Answer:
        """One request by host name."""
        return await asyncio.to_thread(
            ask, self.settings.port, f"{name}.localhost", path, timeout_s=timeout_s
        )

    async def burst(self, name: str, count: int, path: str = "/") -> list[Answer]:
        return await asyncio.to_thread(
            burst, self.settings.port, f"{name}.localhost", count, path=path
        )

    def states(self, name: str) -> list[str]:
        """The states of a service's instances."""
        prefix = f"{PARENT}/services/{name}/"
        own = self.controller.instances()
        return sorted(i.state.value for i in own if i.revision.startswith(prefix))

    async def until(
        self, condition: Callable[[], object], what: str, *, timeout_s: float = 20
    ) -> None:
        """Return when *condition* holds."""
        try:
            async with asyncio.timeout(timeout_s):
                while not condition():
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"{what}: not within {timeout_s} s") from None


@contextlib.contextmanager
def serving_world(folder: Path, *, host: str = "localhost") -> Iterator[ServingWorld]:
    """Everything that was started in it ends with the block. It listens on *host*, as `HAKO_LISTEN` has it."""
    home = Path(tempfile.mkdtemp(prefix="hk-", dir="/tmp"))
    port = free_ports(41)
    settings = Settings.from_environment(
        {
            "HAKO_HOME": str(home),
            "HAKO_LISTEN": f"{host}:{port}",
            "HAKO_PORTS": f"{port + 1}-{port + 40}",
        },
        uid=0,
    )
    supervised = Supervised(settings, home)
    try:
        publish_app(home, folder)
        supervised.start()
        yield ServingWorld(supervised, settings)
    finally:
        supervised.close()
        shutil.rmtree(home, ignore_errors=True)


def publish_app(home: Path, folder: Path) -> None:
    """Put the image `app` (`serving_app.c` alone) and its twin for another CPU into the store."""
    root = folder / "app-root"
    (root / "etc").mkdir(parents=True, exist_ok=True)
    (root / "tmp").mkdir(exist_ok=True)
    (root / "etc/passwd").write_text("app:x:1002:1000:app:/home/app:/bin/sh\n")
    source = Path(__file__).with_name("serving_app.c")
    subprocess.run(
        ["gcc", "-Os", "-static", "-pthread", "-o", str(root / "srv"), str(source)], check=True
    )
    with Store(home) as store:
        layer = write_layer(store, [Tree(name="/", directory=root)], owner=Owner(0, 0))
        config = ContainerConfig(entrypoint=("/srv",), user="app")
        for architecture, name in (("amd64", "app"), ("s390x", "app-s390x")):
            store.publish_image(
                config=ImageConfig(
                    architecture=architecture, os="linux", config=config, rootfs=RootFs()
                ),
                layers=[layer],
                names=[Reference.parse(name)],
            )
