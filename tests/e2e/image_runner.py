"""Runs an image's process in a sandbox without a network and asks it for a page."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from hakobune.runtime.mount import RootFs
from hakobune.runtime.room import build_sandbox

_ASK = r"""
import socket, subprocess, sys, time
process = subprocess.Popen(["/cnb/process/" + sys.argv[1]], stdout=2)
request = b"GET " + sys.argv[2].encode() + b" HTTP/1.0\r\nHost: localhost\r\n\r\n"
end = time.monotonic() + 20
while True:
    try:
        with socket.create_connection(("127.0.0.1", 9000)) as connection:
            connection.sendall(request)
            answer = b""
            while block := connection.recv(65536):
                answer += block
        break
    except OSError:
        if time.monotonic() > end or process.poll() is not None:
            sys.exit("no answer; the process " + ("ended" if process.poll() is not None else "lives"))
        time.sleep(0.01)
process.terminate()
process.wait()
sys.stdout.buffer.write(b"\0" + answer)
"""


def ask(home: Path, image: str, *, path: str = "/", process: str = "web") -> str:
    """What the image answers on PORT 9000, headers and body.

    The client runs inside: the image's own interpreter if it brings one, else the builder's run image has perl.
    """
    output: list[bytes] = []
    run_in_image(
        home,
        image,
        ["/layers/hako_python/cpython/bin/python3", "-c", _ASK, process, path],
        output,
        {"PORT": "9000", "LD_LIBRARY_PATH": "/layers/hako_python/cpython/lib"},
    )
    text = b"".join(output)
    assert b"\0" in text, text.decode(errors="replace")
    return text.partition(b"\0")[2].decode()


def run_in_image(
    home: Path, image: str, argv: list[str], output: list[bytes], env: dict[str, str] | None = None
) -> int:
    """Run a program in the image as its user; gives the exit code."""
    with Store(home) as store, tempfile.TemporaryDirectory(dir=home) as top:
        found = store.find_image(Reference.parse(image))
        assert found is not None
        snapshots = store.snapshots(found)
        lowers = tuple(d for s in reversed(snapshots) for d in s.lower_dirs())
        uid, _, gid = found.config.config.user.partition(":")
        with build_sandbox(
            RootFs(lowers=lowers, top=Path(top)),
            installation="hakotest",
            run=home / "run",
            network=False,
        ) as sandbox:
            return sandbox.run(
                argv,
                env={**found.config.env, **(env or {})},
                cwd=found.config.config.working_dir or "/",
                uid=int(uid),
                gid=int(gid),
                output=output.append,
                timeout_s=60,
            )
