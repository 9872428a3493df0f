"""Being let in: basic authentication and the token flow (distribution's "Token Authentication" and "OAuth2").

A token is for one host and one set of scopes and lives in this process's memory alone.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import quote, urlsplit

import msgspec

from hakobune.distribution.challenge import Challenge
from hakobune.distribution.connections import Answer
from hakobune.distribution.credentials import Credentials
from hakobune.distribution.errors import RegistryError, describe_answer, login_hint
from hakobune.distribution.redirect import scheme_of
from hakobune.distribution.registries import bare_host, is_loopback

_CLIENT_ID: Final = "hakobune"
_SHORTEST_LIFE_S: Final = 60.0  # what a token lives if nobody says
_MARGIN_S: Final = 10.0
_ANSWER_LIMIT: Final = 1 << 20


class SendTo(Protocol):
    """Sends a request to a token server and gives its answer; retries are its business."""

    def __call__(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> Answer: ...


class _TokenAnswer(msgspec.Struct):
    token: str = ""
    access_token: str = ""
    expires_in: float | None = None


@dataclass(frozen=True, slots=True)
class _Known:
    header: str
    until: float  # of time.monotonic


class Authorizer:
    """What is known about how to be let in at which host. Threads share it."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], _Known] = {}
        self._locks: dict[tuple[str, str], threading.Lock] = {}
        self._lock = threading.Lock()

    def header(self, base: str, scopes: Sequence[str]) -> str:
        """The `Authorization` to send at once; empty if none is known, or none is needed."""
        now = time.monotonic()
        for key in ((base, " ".join(scopes)), (base, "")):
            known = self._known.get(key)
            if known is not None and known.until > now:
                return known.header
        return ""

    def answer(
        self,
        challenges: Sequence[Challenge],
        *,
        base: str,
        scopes: Sequence[str],
        refused: str,
        credentials: Credentials,
        send: SendTo,
        what: str,
    ) -> str:
        """The `Authorization` that answers a 401 of *base* (`https://HOST`); empty if there is nothing to answer with.

        Args:
            scopes: all that will be needed, so that one token does.
            refused: the `Authorization` that got the 401; the same is not given again.

        Raises:
            RegistryError: the token server refuses, or is none to trust.
        """
        with self._one_at_a_time((base, " ".join(scopes))):
            known = self.header(base, scopes)
            if known and known != refused:
                return known  # another thread has asked meanwhile
            for challenge in challenges:
                if challenge.scheme == "bearer":
                    return self._token(challenge, base, scopes, credentials, send, what)
                if challenge.scheme == "basic" and credentials.basic not in ("", refused):
                    self._known[(base, "")] = _Known(credentials.basic, float("inf"))
                    return credentials.basic
            return ""

    def _token(
        self,
        challenge: Challenge,
        base: str,
        scopes: Sequence[str],
        credentials: Credentials,
        send: SendTo,
        what: str,
    ) -> str:
        if credentials.bearer:
            header, life = f"Bearer {credentials.bearer}", float("inf")
        else:
            realm = challenge.parameters.get("realm", "")
            why = why_not_trusted(realm, base)
            if why:
                raise RegistryError(
                    what,
                    host=urlsplit(base).netloc,
                    status=401,
                    why=f"its token server {realm[:200]!r} is not used: {why}",
                )
            wanted = with_scopes(scopes, challenge.parameters.get("scope", ""))
            service = challenge.parameters.get("service", "")
            token, life = _fetch(realm, service, wanted, credentials, send, what)
            header = f"Bearer {token}"
        self._known[(base, " ".join(scopes))] = _Known(header, time.monotonic() + life - _MARGIN_S)
        return header

    def _one_at_a_time(self, key: tuple[str, str]) -> threading.Lock:
        with self._lock:
            return self._locks.setdefault(key, threading.Lock())


def with_scopes(scopes: Sequence[str], asked: str) -> tuple[str, ...]:
    """Our scopes and those that the challenge asks for beside them (pure)."""
    found = list(scopes)
    for scope in asked.split():
        resource, _, actions = scope.rpartition(":")
        covered = any(
            ours.rpartition(":")[0] == resource
            and set(actions.split(",")) <= set(ours.rpartition(":")[2].split(","))
            for ours in found
        )
        if not covered:
            found.append(scope)
    return tuple(found)


def why_not_trusted(realm: str, base: str) -> str:
    """Why credentials for *base* may not go to *realm*; empty if they may (pure).

    The realm may be another host (the Hub's is), but TLS stays TLS, and a registry elsewhere does not send us to this
    machine or its private network.
    """
    if scheme_of(realm) not in ("http", "https"):
        return "it is no http(s) URL"
    parts, own = urlsplit(realm), urlsplit(base)
    if not parts.hostname or not realm.isascii():
        return "it is no http(s) URL"
    if parts.username or parts.password:
        return "its URL holds a user"
    if parts.scheme == "http" and own.scheme == "https":
        return "the registry speaks TLS and the token server does not"
    if bare_host(parts.netloc) == bare_host(own.netloc):
        return ""
    if parts.scheme == "http" and not is_loopback(own.netloc):
        return "it is another host, and does not speak TLS"
    if _is_private(parts.hostname) and not _is_private(own.hostname or ""):
        return "it is an address of this machine or its private network"
    return ""


def _is_private(host: str) -> bool:
    if is_loopback(f"[{host}]" if ":" in host else host):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_private or address.is_link_local


def _fetch(
    realm: str,
    service: str,
    scopes: Sequence[str],
    credentials: Credentials,
    send: SendTo,
    what: str,
) -> tuple[str, float]:
    """A token and its life in seconds: by POST with a refresh token, else by GET with basic authentication."""
    if credentials.refresh_token:
        form = _encode(
            [
                ("grant_type", "refresh_token"),
                ("service", service),
                ("client_id", _CLIENT_ID),
                ("scope", " ".join(scopes)),
                ("refresh_token", credentials.refresh_token),
            ]
        )
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        with send("POST", realm, headers, form.encode()) as answer:
            if answer.status not in (404, 405) or not credentials.basic:
                return _read_token(answer, credentials, what)
    query = [("service", service)] if service else []
    query += [("scope", scope) for scope in scopes]
    if credentials.basic:
        query += [("client_id", _CLIENT_ID), ("account", credentials.user)]
    url = realm + ("&" if "?" in realm else "?") + _encode(query)
    headers = {"Authorization": credentials.basic} if credentials.basic else {}
    with send("GET", url, headers, None) as answer:
        return _read_token(answer, credentials, what)


def _read_token(answer: Answer, credentials: Credentials, what: str) -> tuple[str, float]:
    host = urlsplit(answer.url).netloc
    if credentials.refresh_token and answer.status in (400, 401, 403):
        raise RegistryError(
            what,
            host=host,
            status=401,
            why=f"{host} does not accept the token of an earlier login any more ({answer.status})",
            fix=f"log in again: {login_hint(host)}",
        )
    if answer.status != 200:
        raise describe_answer(
            what,
            host=host,
            status=answer.status,
            body=answer.start_of_body(),
            user=credentials.user,
        )
    try:
        document = msgspec.json.decode(answer.read(_ANSWER_LIMIT), type=_TokenAnswer)
    except msgspec.DecodeError:
        document = _TokenAnswer()
    token = document.token or document.access_token
    if not token or not token.isascii() or not token.isprintable():
        raise RegistryError(
            what,
            host=host,
            status=200,
            why=f"{host} gave something that is no token",
            fix=f"log in again: {login_hint(host)}",
        )
    return token, max(document.expires_in or 0.0, _SHORTEST_LIFE_S)


def _encode(pairs: Sequence[tuple[str, str]]) -> str:
    return "&".join(f"{key}={quote(value, safe='')}" for key, value in pairs)
