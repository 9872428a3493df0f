"""What a build takes over from the machine it runs on: proxies, and a private certificate authority."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

PROXIES: Final = (
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "NO_PROXY",
    "no_proxy",
)
# Where programs look for a bundle that somebody chose; if one of them is set, the machine has a CA of its own.
BUNDLE_VARIABLES: Final = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "PIP_CERT",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
    "AWS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
)
BUNDLE_PATH: Final = "/platform/ca-certificates.crt"


def proxies(env: Mapping[str, str]) -> dict[str, str]:
    """The caller's proxy variables that are set."""
    return {name: env[name] for name in PROXIES if env.get(name)}


def find_bundle(env: Mapping[str, str]) -> Path | None:
    """The caller's own certificate bundle, `None` if the build image's suffices."""
    for name in BUNDLE_VARIABLES:
        if env.get(name) and Path(env[name]).is_file():
            return Path(env[name])
    return None


def bundle_variables() -> dict[str, str]:
    """What makes programs in the build trust the bundle at `BUNDLE_PATH`."""
    return dict.fromkeys(BUNDLE_VARIABLES, BUNDLE_PATH)
