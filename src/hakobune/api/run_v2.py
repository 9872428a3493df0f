"""Cloud Run Admin API v2 over REST: services, revisions, operations. Views over the controller, nothing else.

Beside Google's methods there are `GET …/services/S/logs`, one JSON record a line, and `GET …/events` of a service
or a revision, since Cloud Run keeps logs and events in another product.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from hakobune.api.caller import Endpoint, permitted
from hakobune.serving.controller import Controller
from hakobune.serving.document import parse_duration, read_document, write_document
from hakobune.serving.errors import InvalidArgumentError
from hakobune.serving.service import Service

DEFAULT_PAGE = 100
MAX_PAGE = 1000
MAX_WAIT_S = 30.0

_LOCATION = "/v2/projects/{project}/locations/{location}"
_SERVICE = _LOCATION + "/services/{service}"
_REVISION = _SERVICE + "/revisions/{revision}"
_OPERATION = _LOCATION + "/operations/{operation}"


def run_v2_routes(controller: Controller) -> list[Route]:
    """The routes of the API, most particular first, each with the permission it needs."""
    api = RunV2(controller)
    project, service = "projects/{project}", _SERVICE.removeprefix("/v2/")
    table: tuple[tuple[str, str, Endpoint, str, str], ...] = (
        ("POST", _LOCATION + "/services", api.create_service, "services.create", project),
        ("GET", _LOCATION + "/services", api.list_services, "services.list", project),
        ("GET", _SERVICE, api.get_service, "services.get", service),
        ("PATCH", _SERVICE, api.update_service, "services.update", service),
        ("DELETE", _SERVICE, api.delete_service, "services.delete", service),
        ("GET", _SERVICE + "/logs", api.read_logs, "services.get", service),
        ("GET", _SERVICE + "/events", api.list_events, "services.get", service),
        ("GET", _REVISION + "/events", api.list_events, "revisions.get", service),
        ("GET", _SERVICE + "/revisions", api.list_revisions, "revisions.list", service),
        ("GET", _REVISION, api.get_revision, "revisions.get", service),
        ("DELETE", _REVISION, api.delete_revision, "revisions.delete", service),
        ("POST", _OPERATION + ":wait", api.wait_operation, "operations.get", project),
        ("POST", _OPERATION + ":cancel", api.cancel_operation, "services.update", project),
        ("GET", _LOCATION + "/operations", api.list_operations, "operations.list", project),
        ("GET", _OPERATION, api.get_operation, "operations.get", project),
    )
    return [
        Route(path, permitted(endpoint, f"run.{permission}", resource), methods=[method])
        for method, path, endpoint, permission, resource in table
    ]


class RunV2:
    """One method an RPC; each parses, calls the controller once, and renders."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    async def create_service(self, request: Request) -> Response:
        operation = await self._controller.create_service(
            _parent(request),
            request.query_params.get("serviceId", ""),
            read_document(await _body(request), Service),
            validate_only=_flag(request, "validateOnly"),
        )
        return JSONResponse(operation.to_document())

    async def update_service(self, request: Request) -> Response:
        body = await _body(request)
        operation = await self._controller.update_service(
            _name(request, "service"),
            read_document(body, Service),
            _mask(request),
            allow_missing=_flag(request, "allowMissing"),
            validate_only=_flag(request, "validateOnly"),
        )
        return JSONResponse(operation.to_document())

    async def delete_service(self, request: Request) -> Response:
        operation = await self._controller.delete_service(
            _name(request, "service"), request.query_params.get("etag", "")
        )
        return JSONResponse(operation.to_document())

    async def get_service(self, request: Request) -> Response:
        return JSONResponse(write_document(self._controller.get_service(_name(request, "service"))))

    async def list_services(self, request: Request) -> Response:
        services, token = self._controller.list_services(_parent(request), *_page(request))
        return _listing("services", [write_document(s) for s in services], token)

    async def get_revision(self, request: Request) -> Response:
        revision = self._controller.get_revision(_name(request, "service", "revision"))
        return JSONResponse(write_document(revision))

    async def list_revisions(self, request: Request) -> Response:
        revisions, token = self._controller.list_revisions(
            _name(request, "service"), *_page(request)
        )
        return _listing("revisions", [write_document(r) for r in revisions], token)

    async def delete_revision(self, request: Request) -> Response:
        operation = await self._controller.delete_revision(
            _name(request, "service", "revision"), request.query_params.get("etag", "")
        )
        return JSONResponse(operation.to_document())

    async def get_operation(self, request: Request) -> Response:
        operation = self._controller.get_operation(_name(request, "operation"))
        return JSONResponse(operation.to_document())

    async def wait_operation(self, request: Request) -> Response:
        timeout = (await _body(request)).get("timeout", f"{MAX_WAIT_S:.0f}s")
        operation = await self._controller.wait_operation(
            _name(request, "operation"),
            min(parse_duration(timeout, field="timeout"), MAX_WAIT_S),
        )
        return JSONResponse(operation.to_document())

    async def cancel_operation(self, request: Request) -> Response:
        await self._controller.cancel_operation(_name(request, "operation"))
        return JSONResponse({})

    async def list_operations(self, request: Request) -> Response:
        operations, token = self._controller.list_operations(_parent(request), *_page(request))
        return _listing("operations", [o.to_document() for o in operations], token)

    async def read_logs(self, request: Request) -> Response:
        records = self._controller.read_logs(
            _name(request, "service"),
            revision=request.query_params.get("revision", ""),
            lines=_number(request, "lines", 200),
            follow=_flag(request, "follow"),
        )
        return StreamingResponse(_json_lines(records), media_type="application/jsonl")

    async def list_events(self, request: Request) -> Response:
        kinds = ("service", "revision") if "revision" in request.path_params else ("service",)
        events = await self._controller.list_events(
            _name(request, *kinds), limit=_number(request, "limit", 100)
        )
        return JSONResponse({"events": [asdict(event) for event in events]})


async def _json_lines(records: AsyncIterator[dict[str, Any]]) -> AsyncIterator[bytes]:
    async for record in records:
        yield json.dumps(record, ensure_ascii=False).encode() + b"\n"


def _listing(kind: str, items: list[dict[str, Any]], token: str) -> JSONResponse:
    return JSONResponse({kind: items, **({"nextPageToken": token} if token else {})})


async def _body(request: Request) -> dict[str, Any]:
    data = await request.body()
    if not data:
        return {}
    try:
        body = json.loads(data)
    except ValueError as error:
        raise InvalidArgumentError("the request's body is not JSON", why=str(error)) from error
    if not isinstance(body, dict):
        raise InvalidArgumentError("the request's body is not a JSON object")
    return body


def _parent(request: Request) -> str:
    path = request.path_params
    return f"projects/{path['project']}/locations/{path['location']}"


def _name(request: Request, *kinds: str) -> str:
    return _parent(request) + "".join(f"/{kind}s/{request.path_params[kind]}" for kind in kinds)


def _mask(request: Request) -> tuple[str, ...]:
    """The field mask; empty means every field that may be changed."""
    text = request.query_params.get("updateMask", "")
    return tuple(path for path in text.split(",") if path)


def _flag(request: Request, name: str) -> bool:
    return request.query_params.get(name, "").lower() in ("true", "1")


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, "")
    if not text:
        return default
    if not text.isdecimal():
        raise InvalidArgumentError(f"{text!r} is no whole number", field=name)
    return int(text)


def _page(request: Request) -> tuple[int, str]:
    """Page size and token of a list call; the server decides the largest page."""
    size = _number(request, "pageSize", DEFAULT_PAGE) or DEFAULT_PAGE
    return min(size, MAX_PAGE), request.query_params.get("pageToken", "")
