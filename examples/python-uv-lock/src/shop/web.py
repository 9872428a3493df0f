"""An ASGI object that is not called `app`, in a package below src."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route


async def index(request: Request) -> PlainTextResponse:
    return PlainTextResponse("Hello from a locked project.\n")


api = Starlette(routes=[Route("/", index)])
