"""SeaweedFS on loopback for tests: a real S3, of a folder, from a wheel."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.installation import free_ports

ACCESS_KEY, SECRET_KEY = "hakobune", "a secret of the tests"


@dataclass(frozen=True, slots=True)
class Seaweed:
    """A running one with an empty bucket `hako`."""

    endpoint: str

    @property
    def environment(self) -> Mapping[str, str]:
        """What a client of it finds its keys in."""
        return {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}

    def url(self, prefix: str, *parameters: str) -> str:
        return f"s3://hako/{prefix}?" + "&".join((f"endpoint={self.endpoint}", *parameters))


@contextlib.contextmanager
def seaweed(folder: Path) -> Iterator[Seaweed]:
    """A server with its data in *folder*, until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    first = free_ports(8)
    ports = [str(first + number) for number in range(8)]
    configuration = folder / "s3.json"
    configuration.write_text(
        json.dumps(
            {
                "identities": [
                    {
                        "name": "tests",
                        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
                        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
                    }
                ]
            }
        )
    )
    weed = Path(sys.executable).with_name("weed")
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen(
            [
                weed, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
                "-s3", f"-s3.port={ports[0]}", f"-s3.port.grpc={ports[1]}",
                f"-s3.config={configuration}", "-s3.port.iceberg=0", "-s3.port.lance=0",
                f"-master.port={ports[2]}", f"-master.port.grpc={ports[3]}",
                "-master.volumeSizeLimitMB=256",
                f"-volume.port={ports[4]}", f"-volume.port.grpc={ports[5]}", "-volume.max=20",
                f"-filer.port={ports[6]}", f"-filer.port.grpc={ports[7]}",
            ],
            stdout=log, stderr=log, cwd=folder, env={"HOME": str(folder), "PATH": os.environ["PATH"]},
        )  # fmt: skip
    try:
        made = Seaweed(f"http://127.0.0.1:{ports[0]}")
        _make_bucket(made, server, folder / "log")
        yield made
    finally:
        server.kill()  # it takes 20 s to end by itself, and its data goes
        server.wait(10)


def _make_bucket(made: Seaweed, server: subprocess.Popen[bytes], log: Path) -> None:
    """As soon as it can be made: the parts of the server start one after the other."""
    from hakobune.registry.s3_address import S3Address
    from hakobune.registry.s3_client import S3Client, S3Error
    from hakobune.registry.sigv4 import S3Credentials

    client = S3Client(S3Address.parse(made.url("")), S3Credentials(ACCESS_KEY, SECRET_KEY))
    end = time.monotonic() + 60
    try:
        while True:
            try:
                client.send("PUT", "", allowed=(200, 409))
                return
            except S3Error as error:
                if server.poll() is not None or time.monotonic() > end:
                    raise AssertionError(log.read_text()[-3000:]) from error
                time.sleep(0.2)
    finally:
        client.close()
