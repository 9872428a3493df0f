"""A root file system of a few host programs and the libraries they need, for tests of containers."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

PROGRAMS = ("sh", "cat", "sleep", "id", "ls", "env", "stat", "touch", "mkdir", "chmod", "ln", "dd")

SERVER = r"""
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
static void end(int number) { _exit(0); }
int main(int argc, char **argv) {
  signal(SIGTERM, end);
  int s = socket(AF_INET, SOCK_STREAM, 0), one = 1;
  struct sockaddr_in a = {.sin_family = AF_INET};
  setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  a.sin_port = htons(getenv("PORT") ? atoi(getenv("PORT")) : 8080);
  inet_pton(AF_INET, argc > 1 ? argv[1] : "0.0.0.0", &a.sin_addr);
  if (bind(s, (struct sockaddr *)&a, sizeof a) || listen(s, 512)) return 1;
  for (;;) {
    char buffer[4096];
    const char *reply = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";
    int c = accept(s, 0, 0);
    if (c < 0) continue;
    if (read(c, buffer, sizeof buffer) > 0 && write(c, reply, strlen(reply)) < 0) return 2;
    close(c);
  }
}
"""


def make_small_root(root: Path, *, programs: Iterable[str] = PROGRAMS, server: bool = False) -> Path:
    """Fill *root* (made, world-readable) with *programs*, `/etc/passwd`, and `/srv` if *server*."""
    for folder in ("bin", "etc", "tmp", "proc", "sys", "dev", "root"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    root.chmod(0o755)
    (root / "tmp").chmod(0o1777)
    for name in programs:
        _copy_program(Path(shutil.which(name) or f"/bin/{name}"), root)
    (root / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\napp:x:1002:1000:app:/home/app:/bin/sh\n"
    )
    (root / "etc/group").write_text("root:x:0:\napp:x:1000:\nextra:x:2000:app\n")
    if server:
        compile_server(root / "srv")
    return root


def compile_server(target: Path) -> None:
    """A static HTTP server that answers every request with 200 `ok`."""
    subprocess.run(
        ["gcc", "-Os", "-static", "-s", "-x", "c", "-", "-o", str(target)],
        input=SERVER.encode(),
        check=True,
        timeout=60,
    )


def _copy_program(program: Path, root: Path) -> None:
    shutil.copy(program.resolve(), root / "bin" / program.name)
    listing = subprocess.run(["ldd", str(program)], capture_output=True, text=True, timeout=10)
    for library in re.findall(r"(/\S+)", listing.stdout):
        target = root / library[1:]
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copy(Path(library).resolve(), target)
