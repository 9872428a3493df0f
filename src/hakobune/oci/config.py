"""The image configuration (image-spec config.md), with Docker's extensions that images in the wild use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from hakobune.oci.descriptor import document_decoder, encode_document
from hakobune.oci.digest import Digest
from hakobune.oci.platform import Platform


class Healthcheck(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="pascal"):
    """Docker's HEALTHCHECK; durations are nanoseconds."""

    test: tuple[str, ...] = ()
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class ContainerConfig(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="pascal"
):
    """How a container of the image is started; `env` holds `NAME=VALUE` in order."""

    user: str = ""
    exposed_ports: Mapping[str, Mapping[str, object]] = {}
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    healthcheck: Healthcheck | None = None
    volumes: Mapping[str, Mapping[str, object]] = {}
    working_dir: str = ""
    labels: Mapping[str, str] = {}
    stop_signal: str = ""
    args_escaped: bool = False
    shell: tuple[str, ...] = ()
    on_build: tuple[str, ...] = ()


class RootFs(msgspec.Struct, frozen=True, kw_only=True):
    """The diff_ids of the layers, base first."""

    type: str = "layers"
    diff_ids: tuple[Digest, ...] = ()


class History(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a layer came to be; `empty_layer` entries have no layer."""

    created: str = ""
    author: str = ""
    created_by: str = ""
    comment: str = ""
    empty_layer: bool = False


class ImageConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an image runs on, how it is started and what its layers are."""

    created: str = ""
    author: str = ""
    architecture: str
    variant: str = ""
    os: str
    os_version: str = msgspec.field(name="os.version", default="")
    os_features: tuple[str, ...] = msgspec.field(name="os.features", default=())
    config: ContainerConfig = ContainerConfig()
    rootfs: RootFs
    history: tuple[History, ...] = ()

    @property
    def platform(self) -> Platform:
        return Platform(self.os, self.architecture, self.variant)

    @property
    def labels(self) -> Mapping[str, str]:
        return self.config.labels

    @property
    def env(self) -> Mapping[str, str]:
        """The environment as a mapping; a later entry of the same name wins."""
        parts = (entry.partition("=") for entry in self.config.env)
        return {name: value for name, _, value in parts}


_decode_config: Final = document_decoder(ImageConfig, "image config")


def decode_config(raw: bytes) -> ImageConfig:
    """Read an image's config, OCI's or Docker's.

    Raises:
        DocumentFormatError: it is none; the place in it is named.
    """
    return _decode_config(raw)


def encode_config(config: ImageConfig) -> bytes:
    """The config as JSON: equal configs give equal bytes, so an image built twice has one digest."""
    return encode_document(config)
