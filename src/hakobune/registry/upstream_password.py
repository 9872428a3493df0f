"""The password of a remote repository's upstream, as it lies in the repository's row: sealed for that repository alone."""

from __future__ import annotations

import base64

from hakobune.iam.secret_box import SecretBox


def seal_password(box: SecretBox, resource: str, password: str) -> str:
    """What `RemoteConfig.password` holds for the repository of that full name; "" for no password."""
    if not password:
        return ""
    return base64.b64encode(box.seal(password.encode(), place=resource)).decode()


def open_password(box: SecretBox, resource: str, sealed: str) -> str:
    """The password in clear.

    Raises:
        SecretBoxError: it was sealed for another repository or with another key, or has been altered.
    """
    if not sealed:
        return ""
    return box.open(base64.b64decode(sealed), place=resource).decode()
