"""Routes for resource names whose ids hold escaped slashes: matched on the raw path, each segment decoded once.

`packages/dir%252Fapp` on the wire is the package `dir%2Fapp`; a framework that decodes the path before it
routes would see two segments there.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

Endpoint = Callable[[Request], Awaitable[Response]]


class ResourceRoute(BaseRoute):
    """One method of an API on names of one pattern.

    Args:
        template: `/v1/projects/{project}/locations/{location}:verb`; `{id}` is one segment, `{id**}` is the
            rest of the path.
    """

    def __init__(self, method: str, template: str, endpoint: Endpoint) -> None:
        self.method = method
        self.template = template
        self.endpoint = endpoint
        self._pattern = compile_template(template)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "http" or scope["method"] != self.method:
            return Match.NONE, {}
        parameters = match_path(self._pattern, raw_path(scope))
        if parameters is None:
            return Match.NONE, {}
        return Match.FULL, {"path_params": parameters, "endpoint": self.endpoint}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self.endpoint(Request(scope, receive, send))
        await response(scope, receive, send)


def raw_path(scope: Scope) -> str:
    """The path as it was sent, without the query."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.partition(b"?")[0].decode("ascii", "replace")


def compile_template(template: str) -> re.Pattern[str]:
    """A template as a pattern for raw paths."""
    text = re.escape(template).replace(r"\{", "{").replace(r"\}", "}").replace(r"\*", "*")
    text = re.sub(r"\{(\w+)\*\*\}", r"(?P<\1>.+)", text)
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", text))


def match_path(pattern: re.Pattern[str], path: str) -> Mapping[str, str] | None:
    """The ids in *path*, each decoded once; `None` when it is of another kind."""
    found = pattern.fullmatch(path)
    return None if found is None else {k: unquote(v) for k, v in found.groupdict().items()}
