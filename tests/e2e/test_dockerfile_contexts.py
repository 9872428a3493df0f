"""Build contexts that are no folder: repositories, URLs and stdin, fetched from servers of this machine."""

from __future__ import annotations

import bz2
import gzip
import http.server
import io
import lzma
import os
import shutil
import subprocess
import tarfile
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from tests.dockerfile_world import BASE, fill
from tests.e2e.installation import HAKO, Installation
from tests.git_server import commit, git, git_server, make_repository

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.needs_root,
]
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="no git here")


def build(
    world: Installation, *arguments: str, stdin: bytes = b"", code: int = 0, cwd: Path | None = None
) -> str:
    """Build; gives what was printed on stderr. Whatever happens, no folder of a context is left."""
    done = subprocess.run(
        [HAKO, "dockerfile", "build", *arguments],
        input=stdin, capture_output=True, env=world.env, timeout=120, cwd=cwd,
    )  # fmt: skip
    said = done.stderr.decode()
    assert done.returncode == code, said
    assert not list((world.home / "dockerfile/contexts").glob("*"))
    return said


def said(world: Installation, image: str, *command: str) -> str:
    return world.hako("container", "run", "--rm", image, *command).stdout


def a_tar(files: dict[str, str], **links: str) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            member.mode = 0o640
            tar.addfile(member, io.BytesIO(text.encode()))
        for name, target in links.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    return data.getvalue()


FILES = {
    "Dockerfile": f"FROM {BASE}\nCOPY . /c/\nRUN cat /c/a >/said; ls -A /c >>/said\n",
    "other": f"FROM {BASE}\nRUN echo other >/said\n",
    "a": "A\n",
    "left-out": "no\n",
    ".dockerignore": "left-out\n",
}
LOCAL = "A\n.dockerignore\nDockerfile\na\nother\n"
# BuildKit reads the ignore file of a folder on this machine only.
SAID = LOCAL.replace("a\n", "a\nleft-out\n")


# stdin


@pytest.mark.parametrize("form", ["plain", "gzip", "bzip2", "xz", "zstd"])
def test_a_tar_archive_on_stdin_is_the_context(world: Installation, form: str) -> None:
    import zstandard

    data = a_tar(FILES)
    packed = {
        "plain": data,
        "gzip": gzip.compress(data),
        "bzip2": bz2.compress(data),
        "xz": lzma.compress(data),
        "zstd": zstandard.compress(data),
    }[form]

    build(world, "-t", "piped", "-", stdin=packed)

    assert said(world, "piped", "cat", "/said") == SAID


def test_an_archive_may_have_several_dockerfiles(world: Installation) -> None:
    build(world, "-t", "other", "-f", "other", "-", stdin=a_tar(FILES))

    assert said(world, "other", "cat", "/said") == "other\n"


def test_a_dockerfile_alone_on_stdin_has_an_empty_context(world: Installation) -> None:
    build(world, "-t", "alone", "-", stdin=f"FROM {BASE}\nCOPY . /c/\nRUN ls -A /c >/said".encode())
    missing = build(world, "-", stdin=f"FROM {BASE}\nCOPY a /\n".encode(), code=1)

    assert said(world, "alone", "cat", "/said") == ""
    assert "Dockerfile:2: COPY a: a is not there" in missing


def test_a_dockerfile_on_stdin_reads_a_folder_and_its_ignore_file(
    world: Installation, tmp_path: Path
) -> None:
    fill(tmp_path, {**FILES, "Dockerfile.dockerignore": "a\n", "Dockerfile": "nonsense"})

    build(world, "-t", "folder", "-f", "-", str(tmp_path), stdin=FILES["Dockerfile"].encode())

    assert said(world, "folder", "cat", "/said") == LOCAL.replace(
        "Dockerfile\n", "Dockerfile\nDockerfile.dockerignore\n"
    )


def test_links_of_an_archive_lead_nowhere_else(world: Installation, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("FROM outside\n")

    file = build(world, "-", stdin=a_tar({"a": ""}, Dockerfile=str(secret)), code=1)
    copied = a_tar({"Dockerfile": f"FROM {BASE}\nCOPY away/secret /c\n"}, away=str(tmp_path))
    copying = build(world, "-", stdin=copied, code=1)
    climbing = build(world, "-", stdin=a_tar({"../x": "", "Dockerfile": "FROM scratch\n"}), code=1)

    assert "there is no Dockerfile in what came on stdin" in file
    assert "Dockerfile:2: COPY away/secret: away/secret is not there" in copying
    assert "what came on stdin cannot be unpacked" in climbing
    assert "has .. in it" in climbing


def test_the_folder_of_a_killed_build_is_removed_by_the_next(
    world: Installation, tmp_path: Path
) -> None:
    fill(tmp_path, {"Dockerfile": f"FROM {BASE}\n"})
    left = world.home / "dockerfile/contexts/0123456789abcdef"
    fill(left, {"a": "1"})
    left.with_suffix(".lock").touch()

    build(world, str(tmp_path))

    assert not left.exists()


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "words"),
    [
        (["-f", "-", "-"], b"x", 2, "stdin cannot be both the build context and the Dockerfile"),
        (["-f", "x", "-"], b"FROM scratch\n", 2, "-f x and stdin are both the Dockerfile"),
        (["-"], b"", 2, "there is nothing on stdin"),
        (["-f", "-", "."], b"", 2, "there is no Dockerfile on stdin"),
        (["-"], a_tar({"a": ""}), 1, "there is no Dockerfile in what came on stdin\n  why: it has a"),
        (["-"], bytes(10240), 1, "why: it has no files"),
        (["-"], gzip.compress(a_tar(FILES))[:200], 1, "what came on stdin cannot be unpacked"),
        (["-"], a_tar(FILES)[:2000], 1, "what came on stdin cannot be unpacked"),
        (["-"], b"\x28\xb5\x2f\xfdnonsense", 1, "what came on stdin cannot be unpacked"),
        (["-"], b"FROM scratch\n\xff", 1, "Dockerfile:2: it is not UTF-8 text"),
        (["nowhere"], b"", 2, "nowhere is no folder"),
        ([""], b"", 2, "the build context is empty"),
        (["--timestamp", "9" * 15, "-"], b"", 2, "up to the year 9999"),
        (["--build-arg", "SOURCE_DATE_EPOCH=now", "-"], b"FROM scratch\n", 2, "SOURCE_DATE_EPOCH=now is no time"),
        (["git://127.0.0.1:1/x"], b"", 1, "Connection refused\n  fix: check the address"),
        (["ftp://x.test/a.tar"], b"", 2, "ftp:// is not understood"),
        (["https://"], b"", 2, "it has no host"),
        (["https://x.test/a.git?brunch=x"], b"", 2, "did you mean branch?"),
    ],
)  # fmt: skip
def test_what_is_no_context_is_told(
    world: Installation, arguments: list[str], stdin: bytes, code: int, words: str
) -> None:
    told = build(world, *arguments, stdin=stdin, code=code)

    assert words in told
    assert "Traceback" not in told


# URLs


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `files`; a file that stands in `locked` only for user and password."""

    files: dict[str, bytes]
    locked: dict[str, str]
    asked: list[tuple[str, str]]

    def do_GET(self) -> None:
        name = self.path.partition("?")[0]
        header = self.headers.get("Authorization", "")
        self.asked.append((name, header))
        if name in self.locked and header != self.locked[name]:
            self.send_error(401)
            return
        if name.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{self.server.server_port}/{name[4:]}")  # type: ignore[attr-defined] # it has one
            self.end_headers()
            return
        if name not in self.files:
            self.send_error(404)
            return
        data = self.files[name]
        self.send_response(200)
        self.send_header("Content-Length", str(len(data) + (name == "/short") * 100))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def server(
    files: dict[str, bytes], locked: dict[str, str] | None = None
) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Its address, and what it was asked: path and credentials."""
    asked: list[tuple[str, str]] = []
    handler = type("Served", (Handler,), {"files": files, "locked": locked or {}, "asked": asked})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        thread = Thread(target=listening.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}", asked
        finally:
            listening.shutdown()
            thread.join()


def test_a_url_is_an_archive_or_a_dockerfile(world: Installation, tmp_path: Path) -> None:
    alone = f"FROM {BASE}\nCOPY context /said\n".encode()
    files = {"/c.tar.gz": gzip.compress(a_tar(FILES)), "/Dockerfile": alone}
    with server(files) as (url, _):
        told = build(world, "-t", "archive", f"{url}/c.tar.gz")
        build(world, "-t", "chosen", "-f", "other", f"{url}/c.tar.gz")
        build(world, "-t", "alone", f"{url}/Dockerfile")
        (tmp_path / "context").write_text("local\n")
        build(world, "-t", "file", "-f", f"{url}/Dockerfile", str(tmp_path))
        piped = f"FROM {BASE}\nCOPY a /said\n".encode()
        build(world, "-t", "stdin", "-f", "-", f"{url}/c.tar.gz", stdin=piped)
        (tmp_path / "own").write_text(f"FROM {BASE}\nCOPY a other /c/\nRUN ls /c >/said\n")
        build(world, "-t", "own", "-f", str(tmp_path / "own"), f"{url}/c.tar.gz")

    assert f"context {url}/c.tar.gz" in told
    assert said(world, "archive", "cat", "/said") == SAID
    assert said(world, "chosen", "cat", "/said") == "other\n"
    assert said(world, "alone", "cat", "/said").encode() == alone
    assert said(world, "file", "cat", "/said") == "local\n"
    assert said(world, "stdin", "cat", "/said") == "A\n"
    assert said(world, "own", "cat", "/said") == "a\nother\n"


def test_password_and_user_of_a_url_are_for_its_host_and_for_no_message(
    world: Installation, tmp_path: Path
) -> None:
    basic = "Basic " + b64encode(b"me:s3cret").decode()
    alone = f"FROM {BASE}\nRUN echo in >/said\n".encode()
    with server({"/d": alone}, {"/d": basic, "/to/e": basic}) as (url, asked):
        with_user = url.replace("//", "//me:s3cret@")
        told = build(world, "-t", "locked", f"{with_user}/d")
        refused = build(world, f"{url}/d", code=1)
        missing = build(world, f"{with_user}/to/e", code=1)
        added = fill(tmp_path, {"Dockerfile": f"FROM {BASE}\nADD {with_user}/d /d\n"})
        told += build(world, "-t", "added", str(added))

    assert said(world, "locked", "cat", "/said") == "in\n"
    assert "the server answered 401 Unauthorized" in refused
    assert "the server answered 404 Not Found" in missing
    assert [one for one in asked if one[0].endswith("/e")] == [("/to/e", basic), ("/e", "")]
    assert "s3cret" not in told + refused + missing
    history = world.hako("image", "history", "--no-trunc", "added").stdout
    assert f"ADD {url}/d /d" in history
    assert "s3cret" not in history


def test_what_a_url_does_not_give_is_told(world: Installation) -> None:
    page = b"<!DOCTYPE html>\n<title>a repository"
    files = {
        "/short": b"FROM scratch\n",
        "/page": page,
        "/empty": b"",
        "/%C3%BC%20x": b"FROM scratch\n",
    }
    with server(files) as (url, _):
        build(world, f"{url}/ü x")
        told = {
            name: build(world, f"{url}/{name}", code=code)
            for name, code in (("short", 1), ("page", 1), ("empty", 2), ("nothing", 1))
        }
    gone = build(world, f"{url}/x", code=1)
    strange = build(world, "http://127.0.0.1:port/x", code=1)

    assert "the connection ended after 13 of 113 bytes" in told["short"]
    assert "it is a web page" in told["page"]
    assert f"if it is a git repository: {url}/page.git" in told["page"]
    assert "there is nothing at" in told["empty"]
    assert "the server answered 404" in told["nothing"]
    assert "Connection refused" in gone
    assert "nonnumeric port" in strange


# Repositories


def served_repository(folder: Path) -> Path:
    repository = make_repository(folder)
    fill(repository, {**FILES, "sub/Dockerfile": f"FROM {BASE}\nCOPY . /c/\nRUN ls -A /c >/said\n", "sub/b": "B\n"})  # fmt: skip
    (repository / "away").symlink_to("/etc")
    commit(repository, "a Dockerfile")
    git(repository, "branch", "named")
    return repository


@needs_git
def test_a_repository_is_a_context_with_ref_folder_and_options(
    world: Installation, tmp_path: Path
) -> None:
    repository = served_repository(tmp_path / "served")
    head = git(repository, "rev-parse", "HEAD")
    fill(repository, {"a": "later\n"})
    commit(repository, "later")
    with git_server(repository.parent) as url:
        url += "/r.git"
        for number, where in enumerate(
            (f"{url}#named", f"{url}#{head}", f"{url}?branch=named", f"{url}?ref=named&commit={head}")
        ):  # fmt: skip
            build(world, "-t", f"git-{number}", where)
            assert said(world, f"git-{number}", "cat", "/said").startswith("A\n.dockerignore\n")
        build(world, "-t", "head", url)
        build(world, "-t", "sub", f"{url}#named:sub")
        build(world, "-t", "query", f"{url}?subdir=sub")
        build(world, "-t", "file", "-f", "sub/Dockerfile", url)
        kept = build(world, "-t", "kept", "--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1", url)
        told = {
            where: build(world, f"{url}{where}", code=1)
            for where in ("#nope", "#:nope", "#:away", f"?commit={'0' * 40}", "#v1")
        }

    assert f"context {url}" in kept
    assert said(world, "head", "cat", "/said").startswith("later\n.dockerignore\n")
    assert said(world, "sub", "cat", "/said") == "Dockerfile\nb\n"
    assert said(world, "query", "cat", "/said") == "Dockerfile\nb\n"
    assert "sub" in said(world, "file", "cat", "/said")
    assert ".git\n" not in said(world, "head", "ls", "-A", "/c")
    assert ".git\n" in said(world, "kept", "ls", "-A", "/c")
    assert "the repository has no such branch or tag" in told["#nope"]
    assert "the repository has no folder nope" in told["#:nope"]
    assert "the repository has no folder away" in told["#:away"]
    assert "is not the expected commit" in told[f"?commit={'0' * 40}"]
    assert "there is no Dockerfile in" in told["#v1"]
    assert "why: it has docs, link, run" in told["#v1"]


@needs_git
def test_submodules_come_along(world: Installation, tmp_path: Path) -> None:
    repository = served_repository(tmp_path / "served")
    library = make_repository(tmp_path / "served/library")
    with git_server(repository.parent) as url:
        git(repository, "submodule", "--quiet", "add", f"{url}/library/{library.name}", "lib")
        commit(repository, "with a library")
        build(world, "-t", "with", f"{url}/r.git")
        build(world, "-t", "without", f"{url}/r.git?submodules=false")

    assert said(world, "with", "ls", "/c/lib") == "docs\nlink\nrun\n"
    assert said(world, "without", "ls", "/c/lib") == ""


@contextmanager
def locked_git_server(folder: Path, authorization: str) -> Iterator[tuple[str, list[str]]]:
    """Smart HTTP for who says *authorization*; its address, and what others have said."""
    refused: list[str] = []

    class Backend(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            given = self.headers.get("Authorization", "")
            if given != authorization:
                refused.append(given)
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="git"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            path, _, query = self.path.partition("?")
            done = subprocess.run(
                ["git", "http-backend"],
                input=self.rfile.read(int(self.headers.get("Content-Length", "0"))),
                capture_output=True,
                env={
                    "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(folder), "GIT_HTTP_EXPORT_ALL": "1",
                    "PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": self.command,
                    "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                    "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                    "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                    "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*",
                },
            )  # fmt: skip
            head, _, body = done.stdout.partition(b"\r\n\r\n")
            lines = [line.decode().split(": ", 1) for line in head.split(b"\r\n")]
            headers = dict(lines)
            self.send_response(int(headers.pop("Status", "200").split()[0]))
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Backend) as listening:
        thread = Thread(target=listening.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}", refused
        finally:
            listening.shutdown()
            thread.join()


@needs_git
def test_a_private_repository_opens_for_a_token_or_a_password(
    world: Installation, tmp_path: Path
) -> None:
    repository = served_repository(tmp_path / "served")
    git(tmp_path / "served", "clone", "-q", "--bare", str(repository), "bare.git")
    token = tmp_path / "token"
    token.write_text("t0ken\n")
    basic = "Basic " + b64encode(b"x-access-token:t0ken").decode()
    added = fill(tmp_path / "added", {})
    with locked_git_server(tmp_path / "served", basic) as (url, refused):
        where = f"{url}/bare.git"
        text = f"FROM {BASE}\nADD {where} /c/\n"
        fill(added, {"Dockerfile": text})
        closed = build(world, where, code=1)
        wrong = build(world, where.replace("//", "//me:wr0ng@"), code=1)
        secret = ("--secret", f"id=GIT_AUTH_TOKEN,src={token}")
        build(world, "-t", "token", *secret, where)
        build(world, "-t", "added", *secret, str(added))
        host = where.split("/")[2]
        (tmp_path / "bad").write_text("bad")
        build(
            world, "-t", "host", "--secret", f"id=GIT_AUTH_TOKEN.{host},src={token}",
            "--secret", f"id=GIT_AUTH_TOKEN,src={tmp_path}/bad", where,
        )  # fmt: skip
        build(world, "-t", "password", where.replace("//", "//x-access-token:t0ken@"))
        world.extra_env["GIT_AUTH_TOKEN"] = "t0ken"
        try:
            unasked = build(world, where, code=1)
        finally:
            del world.extra_env["GIT_AUTH_TOKEN"]

    for image in ("token", "host", "password"):
        assert said(world, image, "cat", "/said").startswith("A\n")
    assert said(world, "added", "cat", "/c/a") == "A\n"
    assert "cannot find HEAD in" in closed
    assert "if the repository is private: --secret id=GIT_AUTH_TOKEN,src=FILE" in closed
    assert "cannot find HEAD in" in unasked
    assert "wr0ng" not in wrong
    assert "Basic " + b64encode(b"me:wr0ng").decode() in refused


@needs_git
@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no OpenSSH here")
def test_git_over_ssh_asks_the_agent_that_the_build_is_given(
    world: Installation, tmp_path: Path
) -> None:
    repository = served_repository(tmp_path / "served")
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    told = tmp_path / "told"
    # Stands for a server that knows the key: says what the agent has, and runs what git asks for.
    ssh = fill(tmp_path / "bin", {"ssh": f'#!/bin/sh\nssh-add -l >>{told}\nfor last; do :; done\neval "$last"\n'})  # fmt: skip
    (ssh / "ssh").chmod(0o755)
    added = fill(tmp_path / "c", {"Dockerfile": f"FROM {BASE}\nADD git@host.test:{repository} /c/\n"})  # fmt: skip
    world.extra_env |= {"PATH": f"{ssh}:{os.environ['PATH']}", "SSH_AUTH_SOCK": "/nowhere"}
    try:
        build(world, "-t", "by-ssh", "--ssh", f"default={key}", f"git@host.test:{repository}")
        in_context = told.read_text()
        build(world, "-t", "added-by-ssh", "--ssh", f"default={key}", str(added))
    finally:
        world.extra_env.clear()

    expected = subprocess.run(["ssh-keygen", "-l", "-f", key], capture_output=True, text=True)
    fingerprint = expected.stdout.split()[1]
    assert fingerprint in in_context
    assert fingerprint in told.read_text().removeprefix(in_context)
    assert said(world, "by-ssh", "cat", "/said").startswith("A\n")
    assert said(world, "added-by-ssh", "cat", "/c/a") == "A\n"


# Contexts by name


@needs_git
def test_repositories_and_urls_are_contexts_by_name(world: Installation, tmp_path: Path) -> None:
    repository = served_repository(tmp_path / "served")
    context = fill(
        tmp_path / "context",
        {
            "Dockerfile": f"FROM {BASE}\nCOPY --from=code a /said\nCOPY --from=file /context /file\n"
            "COPY --from=none . /none/\nRUN --mount=from=sub,target=/m ls -A /m >>/said\n"
        },
    )
    with git_server(repository.parent) as git_url, server({"/f$x": b"F\n"}) as (url, _):
        contexts = {
            "code": f"{git_url}/r.git#named",
            "sub": f"{git_url}/r.git?subdir=sub",
            "file": f"{url}/f$x",
            "none": "docker-image://scratch",
        }
        given = [word for name, value in contexts.items() for word in ("--build-context", f"{name}={value}")]  # fmt: skip
        build(world, "-t", "by-name", *given, str(context))
        again = build(world, *given, str(context))
        missing = build(
            world, "--build-context", f"code={git_url}/r.git#nope", str(context), code=1
        )

    assert said(world, "by-name", "cat", "/said", "/file") == "A\nDockerfile\nb\nF\n"
    assert said(world, "by-name", "ls", "-A", "/none") == ""
    assert again.count("CACHED") == 4
    assert "Dockerfile:2: the build context code cannot be had: cannot find nope in" in missing
    assert "why: the repository has no such branch or tag" in missing
