"""Which storage the settings name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hakobune.errors import HakoError
from hakobune.registry.blobs import LocalStorage, Storage
from hakobune.settings import Settings


def open_storage(settings: Settings, env: Mapping[str, str]) -> Storage:
    """The blobs of the installation; its folders are made.

    Args:
        env: for what is in S3: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.

    Raises:
        UsageError: the setting cannot be understood, or keys are missing.
        HakoError: the folder cannot be made.
    """
    if settings.registry_storage.startswith("s3://"):
        from hakobune.registry.s3 import open_s3  # few have it

        return open_s3(settings.registry_storage, env)
    storage = LocalStorage(Path(settings.registry_storage))
    try:
        storage.prepare()
    except OSError as error:
        raise HakoError(
            f"cannot keep blobs in {settings.registry_storage}",
            why=f"{error.filename}: {error.strerror}",
            fix="HAKO_REGISTRY_STORAGE=FOLDER",
        ) from error
    return storage
