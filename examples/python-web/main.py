"""A page that says where it runs."""

import os

from flask import Flask

app = Flask(__name__)


@app.get("/")
def index() -> str:
    revision = os.environ.get("K_REVISION", "no revision")
    return f"Hello from {revision}.\n"
