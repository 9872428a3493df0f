"""`hako registry serve`: the registry without anything else, as an ordinary user; its backup and its errors."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hakobune.iam.owner_token import load_token, owner_token_path
from hakobune.oci.store import Store
from tests.e2e.installation import HAKO, free_ports
from tests.image_maker import an_image
from tests.registry_client import RegistryHttp, digest_of

pytestmark = pytest.mark.needs_root  # to become another user

NOBODY = 65534


@dataclass(slots=True)
class Alone:
    """A home of an ordinary user, and the registry that runs in it."""

    home: Path
    port: int
    process: subprocess.Popen[str] | None = None
    env: dict[str, str] = field(default_factory=dict)

    @property
    def host(self) -> str:
        return f"localhost:{self.port}"

    def environment(self, home: Path | None = None) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home.parent),
            "HAKO_HOME": str(home or self.home),
            "NO_COLOR": "1",
            **self.env,
        }

    def hako(
        self, *arguments: str, home: Path | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [HAKO, *arguments],
            env=self.environment(home),
            cwd="/",
            capture_output=True,
            text=True,
            timeout=120,
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
        )
        assert not check or done.returncode == 0, f"hako {arguments}: {done.stdout}\n{done.stderr}"
        return done

    def serve(self, *flags: str, home: Path | None = None) -> str:
        """Start it and wait for its address."""
        self.process = subprocess.Popen(
            [HAKO, "registry", "serve", "--listen", self.host, "--workers", "1", *flags],
            env=self.environment(home),
            cwd="/",
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            start_new_session=True,
        )
        assert self.process.stdout is not None
        address = self.process.stdout.readline().strip()
        assert address, "it has not started"
        return address

    def stop(self) -> int:
        assert self.process is not None
        assert self.process.stdout is not None
        self.process.terminate()
        code = self.process.wait(60)
        self.process.stdout.close()
        self.process = None
        return code

    def pids(self) -> list[int]:
        mark = str(self.home).encode()
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdecimal() and int(entry) != os.getpid():
                with contextlib.suppress(OSError):
                    if mark in Path(f"/proc/{entry}/environ").read_bytes():
                        found.append(int(entry))
        return found


@pytest.fixture
def alone() -> Iterator[Alone]:
    folder = Path(tempfile.mkdtemp(prefix="hk-", dir="/tmp"))
    alone = Alone(home=folder / "h", port=free_ports(2))
    with Store(alone.home) as store:
        an_image(store, "web", content=os.urandom(100_000))
        an_image(store, "other", content=os.urandom(100_000))
    subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", folder], check=True)
    try:
        yield alone
    finally:
        if alone.process is not None:
            with contextlib.suppress(ProcessLookupError):
                alone.process.terminate()
            alone.process.wait(60)
            assert alone.process.stdout is not None
            alone.process.stdout.close()
        left = alone.pids()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)
        assert not left


def wait_until(done: Callable[[], object], *, what: str, timeout_s: float = 30) -> None:
    end = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < end, f"not in {timeout_s:.0f} s: {what}"
        time.sleep(0.05)


def a_certificate(folder: Path, name: str = "localhost") -> tuple[Path, Path]:
    """A certificate that signs itself, and its key; for everybody to read."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *(
                "-nodes",
                "-days",
                "2",
                "-subj",
                f"/CN={name}",
                "-addext",
                f"subjectAltName=DNS:{name}",
            ),
            *("-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    key.chmod(0o644)
    return certificate, key


def test_an_ordinary_user_pushes_pulls_and_manages_repositories_without_ceremony(
    alone: Alone,
) -> None:
    assert alone.serve() == f"http://{alone.host}"
    name = f"{alone.host}/hako/apps/web:1"

    pushed = alone.hako("image", "push", "web", name)
    alone.hako("image", "rm", "web")
    alone.hako("image", "prune")
    pulled = alone.hako("image", "pull", name)
    repositories = alone.hako("artifacts", "repositories", "list", "--format", "json")
    audit = json.loads(alone.hako("audit", "--format", "json").stdout)
    told = alone.hako("audit", "projects/hako", "--limit", "1")
    one = told.stdout.splitlines()
    other = alone.hako("audit", "projects/other").stdout.splitlines()

    assert pushed.stdout == pulled.stdout
    (repository,) = json.loads(repositories.stdout)
    assert repository["name"] == "projects/hako/locations/local/repositories/apps"
    blobs = [p for p in (alone.home / "registry/blobs").rglob("*") if p.is_file()]
    assert [(e["actor"], e["verb"]) for e in audit] == [
        ("owner", "manifest.put"),
        ("owner", "repository.create"),
    ]
    assert [line.split()[2:4] for line in one[1:]] == [["owner", "manifest.put"]]
    assert len(other) == 1
    begun = min(e["time"] for e in audit)[:19].replace("T", " ")
    assert told.stderr.strip() == (
        f"the audit trail: it begins at {begun} UTC; what is older than 400 days goes "
        "(HAKO_REGISTRY_HISTORY_DAYS)"
    )
    assert max(path.stat().st_nlink for path in blobs) == 2, "layers are hard links"
    assert alone.stop() == 0
    assert alone.pids() == []


def test_the_keeper_forgets_what_is_older_than_it_is_to_be_kept(alone: Alone) -> None:
    alone.serve()
    name = f"{alone.host}/hako/apps/web:1"
    alone.hako("image", "push", "web", name)
    assert alone.stop() == 0
    with contextlib.closing(sqlite3.connect(alone.home / "registry/meta.db")) as database:
        with database:
            for table in ("audit", "tag_history"):
                database.execute(f"UPDATE {table} SET at = at - 31 * 86400000000")

    alone.env["HAKO_REGISTRY_HISTORY_DAYS"] = "30"
    alone.serve()

    begins = "the audit trail: it has not begun; what is older than 30 days goes"
    wait_until(lambda: begins in alone.hako("audit").stderr, what="the keeper's first round")
    history = alone.hako("artifacts", "docker", "tags", "history", name).stdout.splitlines()
    assert len(history) == 2, "what the tag is stays"


def test_an_upload_that_was_refused_at_its_end_goes_on_for_an_ordinary_user_too(
    alone: Alone,
) -> None:
    """Its file is a blob's by then, which nobody but root may write to."""
    alone.serve()
    authorization = f"Bearer {load_token(owner_token_path(alone.home))}"
    data, name = os.urandom(3000), "hako/narrow/web"
    resource = "projects/hako/locations/local/repositories/narrow"
    with RegistryHttp(f"http://{alone.host}", authorization=authorization) as http:
        first, second = (
            http.send("POST", f"/v2/{name}/blobs/uploads/").header("location") for _ in range(2)
        )
        alone.hako("artifacts", "quotas", "set", resource, "--limit", "1KB")
        close = [("digest", digest_of(data))]
        refused = [http.send("PUT", at, data, parameters=close).status for at in (first, second)]
        more = http.send("PATCH", second, b"more").status
        alone.hako("artifacts", "quotas", "set", resource, "--limit", "1MB")

        closed = http.send("PUT", first, parameters=close).status
        other = http.send("PUT", second, parameters=[("digest", digest_of(data + b"more"))]).status

        assert (refused, more, closed, other) == ([403, 403], 202, 201, 201)
        assert http.send("GET", f"/v2/{name}/blobs/{digest_of(data)}").body == data


def test_with_a_certificate_it_speaks_tls(alone: Alone) -> None:
    certificate, key = a_certificate(alone.home.parent)
    assert alone.serve("--tls-cert", str(certificate), "--tls-key", str(key)) == (
        f"https://{alone.host}"
    )
    context = ssl.create_default_context(cafile=str(certificate))
    token = alone.hako("auth", "print-access-token").stdout.strip()
    headers = {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(f"https://{alone.host}/v2/", headers=headers)

    with urllib.request.urlopen(request, context=context) as answer:
        assert answer.status == 200
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"https://{alone.host}/v2/", context=context)
    with refused.value as answer:
        assert f'realm="https://{alone.host}/' in answer.headers["www-authenticate"]
    alone.hako("image", "push", "web", f"{alone.host}/hako/apps/web:1")

    renewed, _ = a_certificate(alone.home.parent)
    assert alone.process is not None
    alone.process.send_signal(signal.SIGHUP)
    wait_until(lambda: served_certificate(alone) == renewed.read_text(), what="the new certificate")


def test_the_apis_are_answered_at_its_port_too(alone: Alone) -> None:
    certificate, key = a_certificate(alone.home.parent)
    alone.serve("--tls-cert", str(certificate), "--tls-key", str(key))
    context = ssl.create_default_context(cafile=str(certificate))
    token = alone.hako("auth", "print-access-token").stdout.strip()
    alone.hako("image", "push", "web", f"{alone.host}/hako/apps/web:1")
    parent = "projects/hako/locations/local/repositories"

    def call(
        method: str, path: str, body: object = None, *, known: bool = True
    ) -> tuple[int, bytes]:
        request = urllib.request.Request(
            f"https://{alone.host}/v1/{path}",
            None if body is None else json.dumps(body).encode(),
            {"Authorization": f"Bearer {token}"} if known else {},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, context=context) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    made = call("POST", f"{parent}?repositoryId=more", {"format": "DOCKER"})
    listed = json.loads(call("GET", parent)[1])["repositories"]
    files = json.loads(call("GET", f"{parent}/apps/files")[1])["files"]
    content = [
        hashlib.sha256(call("GET", f"{file['name']}:download?alt=media")[1]).hexdigest()
        for file in files
    ]

    assert made[0] == 200
    assert [r["name"].rpartition("/")[2] for r in listed] == ["apps", "more"]
    assert sorted(f"sha256:{one}" for one in content) == sorted(
        file["name"].rpartition("/")[2] for file in files
    )
    assert len(content) >= 2, "a layer and a configuration"
    assert call("GET", parent, known=False)[0] == 401
    assert call("GET", f"{parent}/nothing")[0] == 404
    assert (
        call("PATCH", f"{parent}/more?updateMask=description", {"description": "x" * 999})[0] == 200
    )


def served_certificate(alone: Alone) -> str:
    return ssl.get_server_certificate(("localhost", alone.port)).replace("\r", "")


def test_what_hinders_it_is_told_before_anything_runs(alone: Alone) -> None:
    certificate, key = a_certificate(alone.home.parent)
    _, other_key = a_certificate(alone.home.parent, "other")
    empty = alone.home.parent / "empty"
    empty.touch()

    def refusal(*flags: str) -> str:
        done = alone.hako("registry", "serve", "--listen", alone.host, *flags, check=False)
        assert done.returncode in (1, 2)
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        return done.stderr

    with socket.create_server(("127.0.0.1", alone.port)):
        taken = refusal()
    assert f"cannot listen on {alone.host}" in taken
    assert "Address already in use" in taken
    assert "cannot listen on 'nothing'" in refusal("--listen", "nothing")
    pair = ("--tls-cert", str(certificate), "--tls-key")
    assert "the key is another certificate's" in refusal(*pair, str(other_key))
    assert "No such file" in refusal(*pair, str(alone.home.parent / "no.key"))
    assert "cannot use the certificate" in refusal("--tls-cert", str(empty))
    assert "--tls-key needs --tls-cert" in refusal("--tls-key", str(key))
    alone.env["HAKO_REGISTRY_STORAGE"] = "/proc/blobs"
    assert "cannot keep blobs in /proc/blobs" in refusal()
    alone.env["HAKO_REGISTRY_STORAGE"] = "s3://images"
    assert "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is not set" in refusal()
    del alone.env["HAKO_REGISTRY_STORAGE"]
    alone.env["HAKO_REGISTRY_DATABASE"] = "postgresql://hako:secret@127.0.0.1:9/hako"
    lost = refusal()
    assert "cannot open the registry's database" in lost
    assert "secret" not in lost


def test_one_home_has_one_registry(alone: Alone) -> None:
    alone.serve()

    second = alone.hako("registry", "serve", "--listen", f"localhost:{alone.port + 1}", check=False)

    assert second.returncode == 1
    assert "one home has one registry" in second.stderr
    alone.hako("image", "push", "web", f"{alone.host}/hako/apps/web:1")


def test_its_processes_are_started_again_and_end_with_it(alone: Alone) -> None:
    alone.serve()
    api = [pid for pid in alone.pids() if "registry_app" in command_of(pid)]
    children = [pid for pid in alone.pids() if opens_database(pid)]
    for pid in {*api, *children}:
        os.kill(pid, signal.SIGKILL)

    wait_until(
        lambda: [p for p in alone.pids() if "registry_app" in command_of(p)] not in ([], api),
        what="the API is started again",
    )
    wait_until(
        lambda: alone.hako("artifacts", "repositories", "list", check=False).returncode == 0,
        what="the API answers",
    )
    alone.hako("image", "push", "web", f"{alone.host}/hako/apps/web:1")

    assert len(children) == 2
    assert alone.process is not None
    alone.process.kill()
    alone.process.wait()
    wait_until(lambda: alone.pids() == [], what="all has ended", timeout_s=60)


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def opens_database(pid: int) -> bool:
    """Whether the process is one of those that the registry's parent starts: a worker or the keeper."""
    if "registry.server" not in command_of(pid):
        return False
    try:
        return any("meta.db" in os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


def test_a_damaged_blob_is_found_and_taken_away(alone: Alone) -> None:
    alone.env["HAKO_REGISTRY_GRACE"] = "600"
    alone.serve()
    name = f"{alone.host}/hako/apps/web:1"
    alone.hako("image", "push", "web", name)
    sound = alone.hako("registry", "verify")
    garbage = alone.hako("registry", "collect", "--dry-run")
    collected = alone.hako("registry", "collect")
    biggest = max(
        (p for p in (alone.home / "registry/blobs").rglob("*") if p.is_file()),
        key=lambda path: path.stat().st_size,
    )
    biggest.chmod(0o644)
    biggest.write_bytes(b"rotten")

    damaged = alone.hako("registry", "verify", check=False)

    assert "2 blobs" in sound.stderr
    assert "nothing damaged" in sound.stderr
    assert garbage.stdout.splitlines()[1:] == []
    assert "removed 0 blobs" in collected.stderr
    assert damaged.returncode == 1
    assert f"sha256:{biggest.name}" in damaged.stdout
    assert "in quarantine" in damaged.stdout
    assert not biggest.exists()


def test_a_backup_that_is_made_during_pushes_is_restored_elsewhere(alone: Alone) -> None:
    alone.serve()
    name = f"{alone.host}/hako/apps/web"
    alone.hako("image", "push", "web", f"{name}:first")
    stop = threading.Event()
    pushed: list[str] = []

    def push() -> None:
        while not stop.is_set():
            tag = f"n{len(pushed)}"
            image = "web" if len(pushed) % 2 else "other"
            done = alone.hako("image", "push", image, f"{name}:{tag}", check=False)
            pushed.append(tag if done.returncode == 0 else f"failed: {done.stderr}")

    pushing = threading.Thread(target=push)
    pushing.start()
    backup = alone.home.parent / "backup"
    try:
        wait_until(lambda: len(pushed) >= 2, what="pushes go on")
        made = alone.hako("registry", "backup", str(backup))
        counted = len(pushed)
        wait_until(lambda: len(pushed) > counted, what="pushes still go on")
    finally:
        stop.set()
        pushing.join()
    running = alone.hako("registry", "restore", str(backup), check=False)
    alone.stop()
    again = alone.hako("registry", "restore", str(backup), check=False)
    elsewhere = alone.home.parent / "e"

    checked = alone.hako("registry", "restore", "--check", str(backup))
    restored = alone.hako("registry", "restore", str(backup), home=elsewhere)
    alone.serve(home=elsewhere)
    tags = alone.hako("image", "tags", name, home=elsewhere).stdout.split()
    pulled = [alone.hako("image", "pull", f"{name}:{tag}", home=elsewhere).stdout for tag in tags]

    assert made.stdout == f"{backup}\n"
    assert "hard links" in made.stderr
    assert [text for text in pushed if text.startswith("failed")] == []
    assert "its registry runs" in running.stderr
    assert "it has a registry" in again.stderr
    assert "all as their digests say" in checked.stderr
    assert "restored into" in restored.stderr
    assert {"first", "n0", "n1"} <= set(tags)
    assert len(pulled) == len(tags)
