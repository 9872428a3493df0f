"""The machine's own tools, run as reproducibly as they can be, and leaving nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence

from hakobune.errors import HakoError

# Namespaces of its own, ending with this process: whatever happens, no mount, process or connection is left.
ALONE = (
    *("setpriv", "--pdeathsig", "KILL"),
    *(
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "--uts",
        "--ipc",
        "--net",
    ),
)


# apt would change to its own user, who may not read the folders under HAKO_HOME.
APT_AS_ROOT = ("-o", "APT::Sandbox::User=root")


def run_tool(
    command: Sequence[str], environment: Mapping[str, str], epoch: int, failure: str
) -> None:
    """Run it to its end.

    Args:
        environment: beside what makes its work the same each time.
        epoch: the seconds since 1970 after which it dates nothing.
        failure: what it is then that has failed.

    Raises:
        HakoError: it is missing, or failed; *why* is its last words.
    """
    fixed = {
        "DEBIAN_FRONTEND": "noninteractive",
        "DEBCONF_NONINTERACTIVE_SEEN": "true",
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "PERL_HASH_SEED": "0",
        # Bytecode is what packages compile, never what their scripts happen to import: that carries a time.
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "SOURCE_DATE_EPOCH": str(epoch),
        "TZ": "UTC",
    }
    try:
        result = subprocess.run(
            command,
            env={**fixed, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            umask=0o022,
            check=False,
        )
    except FileNotFoundError as error:
        raise HakoError(
            failure, why=f"{command[0]} is not installed", fix="apt-get install -y util-linux"
        ) from error
    if result.returncode:
        last = "\n       ".join(result.stdout.strip().splitlines()[-6:])
        raise HakoError(failure, why=last, fix="`hako doctor` shows what this machine lacks")


def ask_tool(
    command: Sequence[str], environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a tool of Debian's; how it ended and what it has said are the caller's to read.

    Args:
        environment: instead of this process's.

    Raises:
        HakoError: it is not installed.
    """
    try:
        return subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise HakoError(
            f"cannot run {command[0]}",
            why="it is not installed; the base images are made with Debian's package tools",
            fix="apt-get install -y apt dpkg mmdebstrap debian-archive-keyring",
        ) from error
