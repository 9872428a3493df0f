"""Real registries on loopback for tests: Debian's (distribution 2.8), and distribution 3 where it was built."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

USER, PASSWORD = "ci", "s3cret-Passw0rd"
GO_TOOLS = {
    "registry": "github.com/distribution/distribution/v3/cmd/registry@v3.1.1",
    "crane": "github.com/google/go-containerregistry/cmd/crane@v0.20.3",
    "oras": "oras.land/oras/cmd/oras@v1.2.3",
}


@dataclass(frozen=True, slots=True)
class Tls:
    """An authority of our own, and what it has signed for loopback."""

    authority: Path
    certificate: Path
    key: Path


@contextlib.contextmanager
def registry(
    folder: Path,
    *,
    program: str = "docker-registry",
    users: bool = False,
    tls: Tls | None = None,
    token_realm: str = "",
    token_certificate: Path | None = None,
) -> Iterator[str]:
    """A registry with its content in *folder*, until the block ends; gives `127.0.0.1:PORT`.

    Args:
        users: `USER` with `PASSWORD` may do all, nobody else anything.
        token_realm: the URL of the token server that says who may do what.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    http_settings: dict[str, object] = {"addr": f"127.0.0.1:{port}", "secret": "test"}
    if tls is not None:
        http_settings["tls"] = {"certificate": str(tls.certificate), "key": str(tls.key)}
    settings: dict[str, object] = {
        "version": "0.1",
        "log": {"level": "error"},
        "storage": {
            "filesystem": {"rootdirectory": str(folder / "data")},
            "delete": {"enabled": True},
        },
        "http": http_settings,
        "validation": {"manifests": {"urls": {"allow": [".*"]}}},  # of foreign layers
    }
    if users:
        path = folder / "htpasswd"
        made = subprocess.run(["htpasswd", "-nbB", USER, PASSWORD], capture_output=True, check=True)
        path.write_bytes(made.stdout)
        settings["auth"] = {"htpasswd": {"realm": "test", "path": str(path)}}
    if token_realm:
        settings["auth"] = {
            "token": {
                "realm": token_realm,
                "service": "test",
                "issuer": "test",
                "rootcertbundle": str(token_certificate),
            }
        }
    configuration = folder / "config.yml"
    configuration.write_text(json.dumps(settings))  # JSON is YAML
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [program, "serve", str(configuration)],
            stdout=log,
            stderr=log,
            env={"PATH": os.environ["PATH"], "OTEL_TRACES_EXPORTER": "none"},
        )
    try:
        _wait_for(port, process, folder / "log")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert process.poll() is None, log.read_text()
        time.sleep(0.02)
    raise AssertionError(log.read_text())


def make_tls(folder: Path, names: str = "IP:127.0.0.1,DNS:localhost") -> Tls:
    """A new authority, and a certificate for these names."""
    folder.mkdir(parents=True, exist_ok=True)

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, check=True)

    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=test authority")  # fmt: skip
    openssl("req", *new_key, "-keyout", "host.key", "-out", "host.csr", "-subj", "/CN=localhost")
    (folder / "names").write_text(f"subjectAltName={names}\n")
    openssl("x509", "-req", "-in", "host.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-out", "host.crt", "-days", "2", "-extfile", "names")  # fmt: skip
    return Tls(folder / "ca.crt", folder / "host.crt", folder / "host.key")


def go_tool(name: str) -> str:
    """A pinned Go program, built once a machine.

    It takes minutes the first time: for slow tests.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    module = GO_TOOLS[name]
    folder = cache / "hakobune-test-tools" / module.replace("/", "_")
    if not (folder / name).exists():
        go = shutil.which("go") or "/usr/local/go/bin/go"
        made = subprocess.run(
            [go, "install", module],
            env={**os.environ, "GOBIN": str(folder), "GOFLAGS": "-mod=mod"},
            capture_output=True,
            text=True,
        )
        if made.returncode:
            pytest.skip(f"{name} cannot be built here: {made.stderr[-300:]}")
    return str(folder / name)


@contextlib.contextmanager
def docker_daemon(folder: Path) -> Iterator[dict[str, str]]:
    """A docker daemon with a data root of its own and no network; gives the client's environment."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "log", "wb") as log:
        daemon = subprocess.Popen(
            [
                "dockerd", f"--host=unix://{folder}/docker.sock", f"--data-root={folder}/data",
                f"--exec-root={folder}/exec", f"--pidfile={folder}/pid",
                "--iptables=false", "--ip6tables=false", "--bridge=none",
            ],
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    # The client of the daemon's own package.
    env = {
        **os.environ,
        "DOCKER_HOST": f"unix://{folder}/docker.sock",
        "PATH": f"/usr/bin:{os.environ['PATH']}",
    }
    try:
        end = time.monotonic() + 60
        while subprocess.run(["docker", "version"], env=env, capture_output=True).returncode:
            alive = daemon.poll() is None and time.monotonic() < end
            assert alive, (folder / "log").read_text()
            time.sleep(0.2)
        yield env
    finally:
        daemon.terminate()
        daemon.wait(30)
        subprocess.run(["umount", folder / "exec/netns/default"], capture_output=True)


# A token server


@contextlib.contextmanager
def token_server(folder: Path, rights: Mapping[str, frozenset[str]]) -> Iterator[tuple[str, Path]]:
    """A token server for `USER` (anonymous users get what *rights* has for ""); gives its URL and certificate.

    Args:
        rights: the actions that each user has on every repository.
    """
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "token.key",
         "-out", "token.crt", "-days", "2", "-subj", "/CN=test tokens"],
        cwd=folder, capture_output=True, check=True,
    )  # fmt: skip

    class TokenHandler(http.server.BaseHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None: ...

        def do_GET(self) -> None:
            given = self.headers.get("Authorization", "")
            user = ""
            if given:
                user, _, password = (
                    base64.b64decode(given.partition(" ")[2]).decode().partition(":")
                )
                if (user, password) != (USER, PASSWORD):
                    self._reply(401, {"errors": [{"code": "UNAUTHORIZED", "message": "wrong"}]})
                    return
            scopes = parse_qs(urlsplit(self.path).query).get("scope", [])
            self._reply(200, {"token": _sign(folder, user, scopes, rights), "expires_in": 300})

        def _reply(self, status: int, document: object) -> None:
            data = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), TokenHandler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/token", folder / "token.crt"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _sign(folder: Path, user: str, scopes: list[str], rights: Mapping[str, frozenset[str]]) -> str:
    """A JSON web token as distribution's "Token Authentication Specification" has it, signed by openssl."""
    access = []
    for scope in scopes:
        kind, name, actions = scope.split(":", 2)
        allowed = sorted(set(actions.split(",")) & rights.get(user, frozenset()))
        access.append({"type": kind, "name": name, "actions": allowed})
    now = int(time.time())
    pem = (folder / "token.crt").read_text()
    certificate = "".join(line for line in pem.splitlines() if "-----" not in line)
    head = {"typ": "JWT", "alg": "RS256", "x5c": [certificate]}
    claims = {
        "iss": "test", "sub": user, "aud": "test", "iat": now, "nbf": now - 10,
        "exp": now + 300, "jti": os.urandom(8).hex(), "access": access,
    }  # fmt: skip
    text = ".".join(_encode(json.dumps(part).encode()) for part in (head, claims))
    made = subprocess.run(
        ["openssl", "dgst", "-sha256", "-sign", "token.key"],
        cwd=folder, input=text.encode(), capture_output=True, check=True,
    )  # fmt: skip
    return f"{text}.{_encode(made.stdout)}"


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
