"""A factory instead of an object; versions are not locked."""

from bottle import Bottle


def create_app() -> Bottle:
    app = Bottle()

    @app.get("/")
    def index() -> str:
        return "Hello from a factory.\n"

    return app
