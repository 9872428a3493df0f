"""Images in a hostile registry, and access to it that nothing of this machine's configuration changes."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

from hakobune.distribution.access import Access
from hakobune.distribution.credentials import CredentialFiles
from hakobune.distribution.proxies import Proxies
from hakobune.distribution.registries import Registries
from hakobune.distribution.transfer import pull, push
from hakobune.oci import descriptor as media
from hakobune.oci.manifest import Image
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from hakobune.progress import SilentProgress
from tests.hostile_registry import Handler, HostileRegistry

AMD64 = Platform("linux", "amd64")
SECRET = "s3cret-Passw0rd"  # a test's


def access(folder: Path, *, auths: dict[str, str] | None = None, stall_s: float = 5.0) -> Access:
    """Access with credentials for hosts, and nothing of this machine's configuration."""
    entries = {
        host: {"auth": base64.b64encode(user.encode()).decode()}
        for host, user in (auths or {}).items()
    }
    path = folder / "auth.json"
    path.write_text(json.dumps({"auths": entries}))
    return Access(
        registries=Registries(),
        credentials=CredentialFiles((path,), {}),
        proxies=Proxies(),
        stall_s=stall_s,
    )


def a_tar(name: str, data: bytes, *, parents: bool = True) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        if parents:
            folder = tarfile.TarInfo("app")
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(folder)
        info = tarfile.TarInfo(f"app/{name}")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def add_image(
    registry: HostileRegistry, *, size: int = 3_000_000, layers: int = 1, parents: bool = True
) -> str:
    """An image `web:1`; the digest of its last layer's blob.

    Args:
        parents: whether its layers name the folder that their file is in.
    """
    tars = [a_tar(f"f{n}", os.urandom(size), parents=parents) for n in range(layers)]
    blobs = [gzip.compress(tar, 1) for tar in tars]
    config = json.dumps(
        {
            "os": "linux",
            "architecture": "amd64",
            "config": {},
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in tars],
            },
        }
    ).encode()
    digests = [registry.put_blob(blob) for blob in blobs]
    manifest = {
        "schemaVersion": 2,
        "mediaType": media.MANIFEST,
        "config": {
            "mediaType": media.CONFIG,
            "digest": registry.put_blob(config),
            "size": len(config),
        },
        "layers": [
            {"mediaType": media.LAYER_GZIP, "digest": digest, "size": len(blob)}
            for digest, blob in zip(digests, blobs, strict=True)
        ],
    }
    registry.put_manifest(media.MANIFEST, json.dumps(manifest).encode(), "1")
    return digests[-1]


def web(registry: HostileRegistry) -> Reference:
    return Reference.parse(f"{registry.host}/shop/web:1")


def get(store: Store, registry: HostileRegistry, where: Access) -> Image:
    return pull(store, web(registry), AMD64, SilentProgress(), access=where)


def assert_whole(store: Store, image: Image) -> None:
    assert store.verify() == ()
    assert len(store.snapshots(image)) == len(image.diff_ids)


def needs_basic(handler: Handler) -> bool:
    if handler.headers.get("Authorization", "").startswith("Basic "):
        return False
    handler.body()
    handler.reply(401, WWW_Authenticate='Basic realm="x"')
    return True


def with_tokens(registry: HostileRegistry, realm: str) -> None:
    """Every request of the registry needs a bearer token of *realm*."""

    def guard(handler: Handler) -> bool:
        if (
            handler.path.startswith("/token")
            or handler.headers.get("Authorization") == "Bearer t0ken"
        ):
            return False
        handler.body()
        challenge = f'Bearer realm="{realm}",service="reg",scope="repository:shop/web:pull"'
        handler.reply(401, WWW_Authenticate=challenge)
        return True

    for method in ("GET", "HEAD", "POST", "PUT", "PATCH"):
        registry.fail(method, "^/v2/", guard)


def put(store: Store, image: Image, registry: HostileRegistry, where: Access) -> None:
    push(store, image, web(registry), SilentProgress(), access=where)


def assert_pushed(registry: HostileRegistry, image: Image) -> None:
    assert registry.manifests["1"][1] == image.raw
    for layer in image.manifest.layers:
        assert len(registry.blobs[str(layer.digest)]) == layer.size
