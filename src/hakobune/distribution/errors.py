"""What registries answer when they do not give what was asked for, as errors for people (distribution-spec "Error Codes")."""

from __future__ import annotations

from typing import Final

import msgspec

from hakobune.distribution.proxies import ProxyError
from hakobune.errors import HakoError

_LONGEST_MESSAGE: Final = 300
_TLS_FIX: Final = "put the certificate of its authority into /etc/docker/certs.d/{host}/ca.crt, or into the file that SSL_CERT_FILE names"


_TRY_AGAIN: Final = "try again; what has been received is kept"
_CUTS: Final = frozenset(
    {
        "IncompleteRead",
        "ConnectionResetError",
        "RemoteDisconnected",
        "BrokenPipeError",
    }
)


class RegistryError(HakoError):
    """A registry did not do what was asked.

    Attributes:
        host: whom we asked.
        status: its HTTP status; 0 if there was no answer.
        code: the specification's code (`MANIFEST_UNKNOWN`), or empty.
        retry_after_s: when it says to come back, in seconds from then; `None` if it does not.
    """

    retry_after_s: float | None = None

    def __init__(
        self, what: str, *, host: str, status: int = 0, code: str = "", why: str = "", fix: str = ""
    ) -> None:
        super().__init__(what, why=why, fix=fix)
        self.host = host
        self.status = status
        self.code = code


class NoAnswerError(RegistryError):
    """Nobody answered, or not to the end: unknown host, refused or cut connection, TLS, time.

    Attributes:
        final: trying again will not help: no such host, nobody there, no trust.
    """

    def __init__(self, what: str, *, host: str, why: str, fix: str, final: bool) -> None:
        super().__init__(what, host=host, why=why, fix=fix)
        self.final = final


class NotThereError(RegistryError):
    """404: the repository, manifest or blob is not there (or not shown to this user)."""


class RateLimitError(RegistryError):
    """429, and waiting did not help or would take too long."""


class WrongContentError(RegistryError):
    """What came is not what was asked for: another length, another digest."""


class _Item(msgspec.Struct):
    code: str = ""
    message: str = ""


class _Body(msgspec.Struct):
    """The specification's, or what token servers and proxies of APIs have instead of it."""

    errors: tuple[_Item, ...] | None = None
    message: str = ""
    error_description: str = ""
    error: str = ""
    details: str = ""


def describe_answer(
    what: str, *, host: str, status: int, body: bytes, user: str, retry_after_s: float | None = None
) -> RegistryError:
    """The error for an answer that is none of those expected (pure).

    Args:
        what: what was tried, with the thing named: `cannot pull registry.test/web:v2`.
        body: the beginning of the answer's body.
        user: who we said we are; empty for nobody.
    """
    code, message = _parse_body(body)
    said = f"{host} says: {message or code}" if message or code else f"{host} answered {status}"
    match status:
        case 401:
            who = f"user {user!r}" if user else "nobody in particular (no credentials were found)"
            return RegistryError(
                what,
                host=host,
                status=status,
                code=code,
                why=f"{host} does not accept {who} (401 {code or 'UNAUTHORIZED'})",
                fix=login_hint(host)
                if not user
                else f"{login_hint(host)}; a private repository that is misspelled looks the same",
            )
        case 403:
            who = f"user {user!r}" if user else "anonymous users"
            return RegistryError(
                what,
                host=host,
                status=status,
                code=code,
                why=f"{host} does not allow it to {who} (403 {code or 'DENIED'}{': ' + message if message else ''})",
                fix="ask the owner of the repository for access" if user else login_hint(host),
            )
        case 404 if code == "NAME_UNKNOWN":
            return NotThereError(
                what,
                host=host,
                status=status,
                code=code,
                why=f"{host} has no such repository (404 {code}{': ' + message if message else ''})",
                fix="check the name; some registries want a repository to be made before the first push",
            )
        case 404:
            return NotThereError(
                what,
                host=host,
                status=status,
                code=code,
                why=f"it is not there (404{' ' + code if code else ''})",
                fix="check the name and the tag; `hako image tags NAME` lists the tags",
            )
        case 429:
            wait = f"; it says to come back in {_duration(retry_after_s)}" if retry_after_s else ""
            limited = RateLimitError(
                what,
                host=host,
                status=status,
                code=code,
                why=f"{host} limits how much may be pulled, and the limit is reached (429{': ' + message if message else ''}){wait}",
                fix=f"wait, or log in (limits are higher then): {login_hint(host)}"
                if not user
                else "wait, or use a mirror (registries.conf)",
            )
            limited.retry_after_s = retry_after_s
            return limited
        case 407:
            return RegistryError(
                what,
                host=host,
                status=status,
                code=code,
                why=f"the proxy on the way to {host} wants to know who asks, or does not accept it (407)",
                fix="HTTP_PROXY=http://USER:PASSWORD@HOST:PORT; signs like @ and : in them are written %40 and %3A",
            )
        case 405:
            return RegistryError(
                what,
                host=host,
                status=status,
                code=code,
                why=f"{host} does not allow this operation (405{': ' + message if message else ''})",
            )
        case 413:
            return RegistryError(
                what,
                host=host,
                status=status,
                code=code,
                why=f"{host}, or a proxy before it, does not take so much at once (413)",
                fix="its operator can raise the limit (nginx: `client_max_body_size 0;`)",
            )
        case _:
            return RegistryError(
                what,
                host=host,
                status=status,
                code=code,
                why=f"{said} ({status})" if message or code else said,
            )


def login_hint(host: str) -> str:
    """How to give credentials for *host*."""
    shown = "" if host in ("docker.io", "registry-1.docker.io") else f" {host}"
    return f"`hako auth login{shown}` (or `docker login{shown}`)"


def no_answer(what: str, *, host: str, error: BaseException) -> NoAnswerError:
    """The error for a request that got no answer; the cause is told in words."""
    chain = _chain(error)
    for item in chain:
        if isinstance(item, ProxyError):
            return NoAnswerError(what, host=host, why=item.why, fix=item.fix, final=item.final)
    if final := _final_cause(chain, host):
        why, fix = final
        return NoAnswerError(what, host=host, why=why, fix=fix, final=True)
    why, fix = _passing_cause(chain, host)
    return NoAnswerError(what, host=host, why=why, fix=fix, final=False)


def _final_cause(chain: tuple[BaseException, ...], host: str) -> tuple[str, str] | None:
    """Why and fix, if there is nothing to be hoped for; what the system or OpenSSL said may lie inside of other errors."""
    text = " ".join(str(item) for item in chain)
    kinds = {type(item).__name__ for item in chain}
    if "CERTIFICATE_VERIFY_FAILED" in text:
        if "Hostname mismatch" in text or "doesn't match" in text or "IP address mismatch" in text:
            return f"the certificate of {host} is for another name", "use the name that it is for"
        if "expired" in text:
            return f"the certificate of {host} has expired", "its operator must renew it"
        return (
            f"the certificate of {host} is signed by an authority that this machine does not know",
            _TLS_FIX.format(host=host),
        )
    if "WRONG_VERSION_NUMBER" in text or "HTTP_REQUEST" in text or "record layer failure" in text:
        return (
            f"{host} does not speak TLS",
            f'if it is plain HTTP on purpose, say so in registries.conf: [[registry]] location = "{host}" insecure = true',
        )
    if "gaierror" in kinds:
        return (
            f"no host is called {host.partition(':')[0]}",
            "check the name, or this machine's DNS",
        )
    if "ConnectionRefusedError" in kinds:
        return f"nobody listens at {host} (connection refused)", ""
    return None


def _passing_cause(chain: tuple[BaseException, ...], host: str) -> tuple[str, str]:
    kinds = {type(item).__name__ for item in chain}
    if kinds & {"SSLError", "SSLCertVerificationError"}:
        return f"TLS with {host} failed: {_last(chain)}", ""
    if "ConnectTimeoutError" in kinds:
        return f"{host} does not answer (no connection within the time)", ""
    if "TimeoutError" in kinds:
        return f"{host} stopped sending", _TRY_AGAIN
    if kinds & _CUTS:
        return f"{host} cut the connection", _TRY_AGAIN
    return _last(chain), ""


def _chain(error: BaseException | None) -> tuple[BaseException, ...]:
    found: list[BaseException] = []
    while error is not None and error not in found and len(found) < 12:
        found.append(error)
        nested = getattr(error, "reason", None) or getattr(error, "original_error", None)
        first = error.args[-1] if error.args else None
        error = next(
            (
                item
                for item in (nested, first, error.__cause__, error.__context__)
                if isinstance(item, BaseException) and item not in found
            ),
            None,
        )
    return tuple(found)


def _last(chain: tuple[BaseException, ...]) -> str:
    error = chain[-1]
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text)[:_LONGEST_MESSAGE]


def _parse_body(body: bytes) -> tuple[str, str]:
    """Code and message of the first error, as one line of plain text."""
    try:
        found = msgspec.json.decode(body, type=_Body)
    except msgspec.DecodeError:
        return "", ""
    if found.errors:
        code, message = found.errors[0].code, found.errors[0].message
        return code[:60] if code.replace("_", "").isalnum() else "", one_line(message)
    others = (found.message, found.error_description, found.details, found.error)
    return "", one_line(next(filter(None, others), ""))


def one_line(text: str) -> str:
    """What a server or program says, short enough for a message and without what a terminal might obey."""
    plain = "".join(c if c.isprintable() else " " for c in text)[:_LONGEST_MESSAGE]
    return " ".join(plain.split())


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
