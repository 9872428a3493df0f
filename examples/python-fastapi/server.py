"""An ASGI app in a file of its own name; uvicorn is found by reading it."""

from fastapi import FastAPI

app = FastAPI()


@app.get("/")
async def index() -> dict[str, str]:
    return {"hello": "from FastAPI"}
