"""The files of a builder image that say how it builds (CNB platform.md "order.toml", "run.toml", "system.toml")."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import tomli_w

from hakobune.buildpack.descriptor import Order
from hakobune.buildpack.document import read_document
from hakobune.buildpack.order import SystemBuildpacks
from hakobune.buildpack.run_image import RunImage

ORDER_PATH = "/cnb/order.toml"
RUN_PATH = "/cnb/run.toml"
SYSTEM_PATH = "/cnb/system.toml"
BUILD_CONFIG_PATH = "/cnb/build-config"


class OrderToml(msgspec.Struct, frozen=True, kw_only=True):
    """`order.toml`."""

    order: Order = ()


class RunToml(msgspec.Struct, frozen=True, kw_only=True):
    """`run.toml`."""

    images: tuple[RunImage, ...] = ()


class SystemToml(msgspec.Struct, frozen=True, kw_only=True):
    """`system.toml`."""

    system: SystemBuildpacks = SystemBuildpacks()


def encode_order(order: Order) -> bytes:
    """`order.toml`."""
    return tomli_w.dumps({"order": msgspec.to_builtins(order)}).encode()


def parse_order_toml(data: bytes, *, name: str) -> Order:
    """Read `order.toml`.

    Raises:
        DocumentError, InvalidDocumentError: it cannot be read.
    """
    return read_document(data, OrderToml, name=name).order


def encode_run(images: Sequence[RunImage]) -> bytes:
    """`run.toml`."""
    return tomli_w.dumps({"images": msgspec.to_builtins(images)}).encode()


def parse_run_toml(data: bytes, *, name: str) -> tuple[RunImage, ...]:
    """Read `run.toml`.

    Raises:
        DocumentError, InvalidDocumentError: it cannot be read.
    """
    return read_document(data, RunToml, name=name).images


def encode_system(system: SystemBuildpacks) -> bytes:
    """`system.toml`."""
    return tomli_w.dumps({"system": msgspec.to_builtins(system)}).encode()


def parse_system_toml(data: bytes, *, name: str) -> SystemBuildpacks:
    """Read `system.toml`.

    Raises:
        DocumentError, InvalidDocumentError: it cannot be read.
    """
    return read_document(data, SystemToml, name=name).system
