"""`hako registry serve`: the registry and its API as two processes under this one; no containers, no root."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hakobune.cli.main import Context
from hakobune.cli.serve import somebody_listens
from hakobune.distribution.own_registry import note_address
from hakobune.errors import HakoError, UsageError
from hakobune.runtime import linux
from hakobune.settings import Settings

_START_TIMEOUT_S: Final = 60.0
_END_TIMEOUT_S: Final = 40.0
_AGAIN_AFTER_S: Final = 1.0
_SIGNALS: Final = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def serve(
    context: Context,
    *,
    listen: str | None,
    certificate: str | None,
    key: str | None,
    workers: int | None,
) -> int:
    """Run until SIGTERM or SIGINT.

    Raises:
        HakoError: an address is taken, a certificate or the database cannot be used.
    """
    env = dict(context.env)
    if listen is not None:
        env["HAKO_REGISTRY_LISTEN"] = listen
    env["HAKO_HOME"] = str(context.settings.home)
    settings = Settings.from_environment(env, uid=os.geteuid())
    _refuse_second(settings)
    command = [sys.executable, "-I", "-X", "utf8", "-m", "hakobune.registry.server"]
    if certificate is not None:
        check_certificate(certificate, key)
        command += ["--tls-cert", os.path.abspath(certificate)]
        command += ["--tls-key", os.path.abspath(key)] if key is not None else []
    elif key is not None:
        raise UsageError("--tls-key needs --tls-cert", fix="--tls-cert FILE --tls-key FILE")
    if workers is not None:
        if workers < 1:
            raise UsageError(f"--workers {workers}: at least one")
        command += ["--workers", str(workers)]
    _check_port(settings)
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    return _run(settings, command, env, context, scheme="https" if certificate else "http")


def check_certificate(certificate: str, key: str | None) -> None:
    """Refuse in words what TLS would refuse later.

    Raises:
        HakoError: a file cannot be read, is none of its kind, or they do not belong together.
    """
    for path in filter(None, (certificate, key)):
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            raise HakoError(f"cannot read {path}", why=error.strerror or str(error)) from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error)
        if "KEY_VALUES_MISMATCH" in reason:
            why = "the key is another certificate's"
        elif "PEM" in reason or "NO_START_LINE" in reason:
            why = "it holds no certificate or no key in PEM"
        else:
            why = reason
        raise HakoError(
            f"cannot use the certificate {certificate}",
            why=why,
            fix="--tls-cert FULLCHAIN.pem --tls-key KEY.pem (the key without a password)",
        ) from error


def _no_password() -> str:
    raise ValueError("its key has a password")


def _refuse_second(settings: Settings) -> None:
    for path, what in (
        (settings.supervisor_socket, "`hako serve` runs it already"),
        (settings.registry_socket, "a registry runs there already"),
    ):
        if somebody_listens(path):
            raise HakoError(
                f"cannot serve the registry of {settings.home}",
                why=f"{what}: one home has one registry",
                fix="give another HAKO_HOME, or use that one",
            )


def _check_port(settings: Settings) -> None:
    """Refuse a port that is taken before anything is started; the registry itself decides."""
    if settings.registry_listen is None:
        return
    host, port = settings.registry_listen
    try:
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise HakoError(
            f"cannot listen on {_shown(host, port)}",
            why=error.strerror or str(error),
            fix="end the program that does (`ss -ltnp` names it), or --listen HOST:PORT",
        ) from error


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _run(
    settings: Settings,
    command: Sequence[str],
    env: dict[str, str],
    context: Context,
    *,
    scheme: str,
) -> int:
    registry = _start(command, env)
    api: subprocess.Popen[bytes] | None = None
    try:
        if not _await(settings.registry_socket, registry):
            return registry.returncode or 1  # it has said why
        api = _start_api(env, scheme)
        _await(settings.api_socket, api)
        note_address(settings)
        listen = settings.registry_listen
        where = f"{scheme}://{_shown(*listen)}" if listen else str(settings.registry_socket)
        print(where, file=context.out, flush=True)
        while True:
            received = signal.sigwait(_SIGNALS)
            if received == signal.SIGHUP:
                registry.send_signal(signal.SIGHUP)  # it reads its certificate again
                continue
            if received != signal.SIGCHLD:
                return 0
            if registry.poll() is not None:
                print("error: the registry has ended", file=context.err)
                return registry.returncode or 1
            if api.poll() is not None:
                time.sleep(_AGAIN_AFTER_S)
                api = _start_api(env, scheme)
    finally:
        _end(*filter(None, (api, registry)))


def _start_api(env: dict[str, str], scheme: str) -> subprocess.Popen[bytes]:
    module = "hakobune.api.registry_app"
    return _start([sys.executable, "-I", "-X", "utf8", "-m", module, scheme], env)


def _start(command: Sequence[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
    parent = os.getpid()

    def die_with_parent() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return subprocess.Popen(
        command, env=env, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent, process_group=0
    )


def _await(path: Path, process: subprocess.Popen[bytes]) -> bool:
    """Whether somebody listens at *path* before the process has ended."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        if somebody_listens(path):
            return True
        time.sleep(0.02)
    return False


def _end(*processes: subprocess.Popen[bytes]) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
    for process in processes:
        try:
            process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
