# exec.d: hands PORT to servers that read another variable (CNB buildpack.md "exec.d").
import os

NAMES = (
    "UVICORN_PORT",
    "HYPERCORN_PORT",
    "GRADIO_SERVER_PORT",
    "STREAMLIT_SERVER_PORT",
    "FLASK_RUN_PORT",
    "SANIC_PORT",
    "NICEGUI_PORT",
)
HOSTS = (
    "UVICORN_HOST",
    "GRADIO_SERVER_NAME",
    "STREAMLIT_SERVER_ADDRESS",
    "FLASK_RUN_HOST",
    "SANIC_HOST",
)

port = os.environ.get("PORT", "8080")
lines = [f'{n} = "{port}"\n' for n in NAMES if n not in os.environ and port.isdecimal()]
lines += [f'{n} = "0.0.0.0"\n' for n in HOSTS if n not in os.environ]
os.write(3, "".join(lines).encode())
