"""Every variable that this buildpack honours, refuses or ignores, in one table."""

from __future__ import annotations

from collections.abc import Mapping

from hako_python.report import BuildpackError

HONOURED = {
    "GOOGLE_RUNTIME": "another language's name makes this buildpack stand aside",
    "GOOGLE_PYTHON_VERSION": "the Python version, before every file",
    "GOOGLE_RUNTIME_VERSION": "the Python version, after GOOGLE_PYTHON_VERSION",
    "BP_CPYTHON_VERSION": "the Python version, after Google's variables",
    "HAKO_VERSION_POLICY": "`nearest` takes the same minor version where the exact one is absent",
    "GOOGLE_ENTRYPOINT": "the command of the web process, before the Procfile",
    "GOOGLE_VENDOR_PIP_DEPENDENCIES": "a folder of wheels; nothing else is installed from",
    "GOOGLE_FUNCTION_TARGET": "the function that functions-framework serves",
    "GOOGLE_FUNCTION_SOURCE": "the file of that function",
    "GOOGLE_FUNCTION_SIGNATURE_TYPE": "http, event or cloudevent",
    "HAKO_FROZEN": "1 makes a stale lock file an error",
    "DISABLE_COLLECTSTATIC": "1 skips Django's collectstatic",
}

NOT_SUPPORTED = {
    "GOOGLE_PYTHON_PACKAGE_MANAGER": "uv installs, whatever wrote the requirements",
    "GOOGLE_DEVMODE": "not supported yet",
}

# They would move the installation out of the layer, or put another interpreter into it.
REFUSED = (
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_ROOT",
    "PIP_USER",
    "PIP_PYTHON",
    "UV_PROJECT_ENVIRONMENT",
    "UV_TARGET",
    "UV_SYSTEM_PYTHON",
    "UV_PYTHON",
    "UV_CACHE_DIR",
    "UV_LINK_MODE",
    "PYTHONHOME",
    "PYTHONUSERBASE",
    "VIRTUAL_ENV",
    "POETRY_VIRTUALENVS_CREATE",
    "POETRY_VIRTUALENVS_IN_PROJECT",
    "POETRY_VIRTUALENVS_PATH",
)

PIP_TO_UV = {
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL": "UV_INDEX",
    "PIP_FIND_LINKS": "UV_FIND_LINKS",
    "PIP_TRUSTED_HOST": "UV_INSECURE_HOST",
}


def check_refused(env: Mapping[str, str]) -> None:
    """Refuse variables that would break the layers.

    Raises:
        BuildpackError: names the variable.
    """
    for name in REFUSED:
        if env.get(name):
            raise BuildpackError(
                f"{name} is set for the build",
                seen=f"{name}={env[name]} would move the installation out of its layer",
                fix=f"build without {name}; dependencies are installed into a layer and `python` is theirs",
            )


def complaints(env: Mapping[str, str]) -> tuple[str, ...]:
    """One line for each variable that is set and does nothing here."""
    lines = [f"{name} has no effect: {why}" for name, why in NOT_SUPPORTED.items() if env.get(name)]
    ignored = sorted(
        n for n in env if n.startswith(("GAE_", "X_GOOGLE_", "FIREBASE_", "APPHOSTING_"))
    )
    if ignored:
        lines.append(f"ignored: {', '.join(ignored)}")
    return tuple(lines)


def installer_environment(env: Mapping[str, str]) -> dict[str, str]:
    """pip's index settings, said in uv's words where uv's own are not set."""
    translated = dict(env)
    for pip, uv in PIP_TO_UV.items():
        if env.get(pip) and not env.get(uv):
            translated[uv] = env[pip]
    return translated


def index_inputs(env: Mapping[str, str]) -> dict[str, str]:
    """Settings that decide what a name and a version mean."""
    names = (
        "UV_DEFAULT_INDEX",
        "UV_INDEX",
        "UV_INDEX_URL",
        "UV_EXTRA_INDEX_URL",
        "GOOGLE_VENDOR_PIP_DEPENDENCIES",
    )
    settings = installer_environment(env)
    return {name: settings[name] for name in names if settings.get(name)}
