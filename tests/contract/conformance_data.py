"""What the conformance checks push: images, indexes and artifacts of every kind that the specifications allow."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

CONFIG = "application/vnd.oci.image.config.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
IMAGE = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = LAYER + "+gzip"
FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar"
EXAMPLE, OTHER_EXAMPLE = (
    "application/vnd.example.hakobune.one.v1",
    "application/vnd.example.hakobune.two.v1",
)

Json = dict[str, object]
PLATFORMS = ("amd64", "arm64")


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Pushed:
    """A manifest as it is to be pushed, and the descriptor a referrers list has for it."""

    digest: str
    media_type: str
    body: bytes
    subject: str = ""
    artifact_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class DataSet:
    """Blobs, and manifests in an order in which each comes after its parts.

    Args:
        tags_by_parameter: all tags of a manifest go with its push by digest (`?tag=a&tag=b`).
        bad_digest: the bodies are not what their digests say.
        may_be_refused: something is missing that a registry may insist on.
    """

    algorithm: str = "sha256"
    tags_by_parameter: bool = False
    bad_digest: bool = False
    may_be_refused: bool = False
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: list[Pushed] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)

    def referrers(self, subject: str) -> list[Pushed]:
        return [manifest for manifest in self.manifests if manifest.subject == subject]

    def subjects(self) -> list[str]:
        return sorted({manifest.subject for manifest in self.manifests if manifest.subject})

    # Parts

    def blob(self, data: bytes, media_type: str, *, embed: bool = False) -> Json:
        """Add a blob; gives its descriptor, with its data in it if asked."""
        digest = digest_of(data, self.algorithm)
        self.blobs[digest] = data
        descriptor: Json = {"mediaType": media_type, "digest": digest, "size": len(data)}
        if embed:
            import base64

            descriptor["data"] = base64.b64encode(data).decode()
        return descriptor

    def layers(self, count: int, *, compressed: bool = True, embed: bool = False) -> list[Json]:
        made = []
        for number in range(count):
            tar = _tar(f"file-{number}", os.urandom(40))
            data = gzip.compress(tar) if compressed else tar
            made.append(self.blob(data, LAYER_GZIP if compressed else LAYER, embed=embed))
        return made

    def config(
        self, architecture: str, layers: Sequence[Json], *, extra: bool, embed: bool
    ) -> Json:
        document: Json = {
            "architecture": architecture,
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
        }
        if extra:
            document[f"org.example.{os.urandom(4).hex()}"] = os.urandom(8).hex()
        return self.blob(json.dumps(document).encode(), CONFIG, embed=embed)

    # Manifests

    def image(
        self,
        *,
        tag: str = "",
        architecture: str = "amd64",
        layers: Sequence[Json] | None = None,
        config: Json | None = None,
        compressed: bool = True,
        embed: bool = False,
        extra: bool = False,
        **fields: object,
    ) -> Json:
        """Add an image manifest; *fields* are its other members. Gives its descriptor."""
        if layers is None:
            layers = self.layers(2, compressed=compressed, embed=embed)
        if config is None:
            config = self.config(architecture, layers, extra=extra, embed=embed)
        document: Json = {
            "schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": list(layers), **fields,
        }  # fmt: skip
        return self._add(document, IMAGE, tag, str(config["mediaType"]), extra=extra)

    def artifact(self, *, kind: str = EXAMPLE, content: bytes = b"", **fields: object) -> Json:
        """Add an artifact: an image manifest with a type, an empty config and one layer of any type."""
        tag = str(fields.pop("tag", ""))
        layer_type = str(fields.pop("layer_type", kind))
        return self.image(
            tag=tag,
            config=self.blob(b"{}", EMPTY),
            layers=[self.blob(content or os.urandom(2048), layer_type)],
            artifactType=kind,
            **fields,
        )

    def index(
        self, members: Sequence[Json], *, tag: str = "", extra: bool = False, **fields: object
    ) -> Json:
        document: Json = {
            "schemaVersion": 2, "mediaType": INDEX, "manifests": list(members), **fields,
        }  # fmt: skip
        return self._add(document, INDEX, tag, "", extra=extra)

    def platforms(self, **image: object) -> list[Json]:
        """Two images, described as an index describes them."""
        return [
            {
                **self.image(architecture=architecture, **image),  # type: ignore[arg-type] # the keywords of image
                "platform": {"os": "linux", "architecture": architecture},
            }
            for architecture in PLATFORMS
        ]

    def _add(
        self, document: Json, media_type: str, tag: str, config_type: str, *, extra: bool
    ) -> Json:
        if extra:
            document[f"org.example.{os.urandom(4).hex()}"] = os.urandom(8).hex()
        body = json.dumps(document).encode()
        digest = digest_of(body, self.algorithm)
        subject = document.get("subject")
        annotations = document.get("annotations")
        self.manifests.append(
            Pushed(
                digest,
                media_type,
                body + (b"  " if self.bad_digest else b""),
                subject=str(subject["digest"]) if isinstance(subject, dict) else "",
                artifact_type=str(document.get("artifactType", config_type)),
                annotations=annotations if isinstance(annotations, dict) else {},
            )
        )
        if tag:
            self.tags[tag] = digest
        return {"mediaType": media_type, "digest": digest, "size": len(body)}


def _tar(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def _marked() -> Json:
    return {"org.example.purpose": "a check", "org.example.nonce": os.urandom(8).hex()}


# The data sets


def image() -> DataSet:
    data = DataSet()
    data.image(tag="image")
    return data


def image_uncompressed() -> DataSet:
    data = DataSet()
    data.image(tag="image-uncompressed", compressed=False)
    return data


def large_manifest() -> DataSet:
    """3.9 MB: a registry should take manifests of up to 4 MiB (distribution-spec "Pushing manifests")."""
    data = DataSet()
    data.image(
        tag="large-manifest", annotations={f"large-{number}": "A" * 10_000 for number in range(390)}
    )
    return data


def index() -> DataSet:
    data = DataSet()
    data.index(data.platforms(), tag="index")
    return data


def nested_index() -> DataSet:
    data = DataSet()
    data.index([data.index(data.platforms()), data.index(data.platforms())], tag="index-of-indexes")
    return data


def empty_index() -> DataSet:
    data = DataSet()
    data.index([], tag="empty-index")
    return data


def artifact() -> DataSet:
    data = DataSet()
    data.artifact(tag="artifact")
    return data


def artifact_index() -> DataSet:
    data = DataSet()
    data.index([data.artifact(), data.artifact()], tag="artifact-index", artifactType=EXAMPLE)
    return data


def artifact_without_layers() -> DataSet:
    data = DataSet()
    data.artifact(tag="artifact-without-layers", content=b"{}", layer_type=EMPTY)
    return data


def artifacts_with_subject() -> DataSet:
    data = DataSet()
    subject = data.image(tag="subject")
    data.image(subject=subject)
    data.artifact(tag="refers-1", subject=subject, annotations=_marked())
    data.artifact(
        tag="refers-2", kind=OTHER_EXAMPLE, layer_type="application/octet-stream",
        subject=subject, annotations=_marked(),
    )  # fmt: skip
    return data


def index_with_subject() -> DataSet:
    data = DataSet()
    subject = data.index(data.platforms(), tag="subject-index")
    data.index(
        [data.artifact(), data.artifact()],
        tag="refers-index", artifactType=EXAMPLE, subject=subject, annotations=_marked(),
    )  # fmt: skip
    data.index([], subject=subject)
    return data


def missing_subject() -> DataSet:
    data = DataSet()
    nowhere: Json = {"mediaType": IMAGE, "digest": digest_of(os.urandom(8)), "size": 123}
    data.artifact(tag="refers-to-nothing", subject=nowhere, annotations=_marked())
    return data


def data_field() -> DataSet:
    data = DataSet()
    data.image(tag="data-field", embed=True)
    return data


def foreign_layers() -> DataSet:
    """Layers that are elsewhere need not be here."""
    data = DataSet()
    foreign: list[Json] = [
        {
            "mediaType": FOREIGN + suffix,
            "digest": digest_of(os.urandom(8)),
            "size": 12345,
            "urls": ["https://elsewhere.example.com/blob"],
        }
        for suffix in ("+gzip", "")
    ]
    data.image(tag="foreign-layers", layers=[*foreign, *data.layers(1)])
    return data


def custom_fields() -> DataSet:
    data = DataSet()
    data.index(data.platforms(extra=True), tag="custom-fields", extra=True)
    return data


def no_layers() -> DataSet:
    data = DataSet()
    data.image(tag="no-layers", layers=[])
    return data


def sparse() -> DataSet:
    """An index whose second image is not pushed."""
    data = DataSet(may_be_refused=True)
    missing: Json = {"mediaType": IMAGE, "digest": digest_of(os.urandom(8)), "size": 1024}
    data.index([data.image(), missing], tag="sparse-index")
    return data


def sha512() -> DataSet:
    """By digest only: a push by tag has the registry's own algorithm."""
    data = DataSet(algorithm="sha512")
    data.index(data.platforms())
    return data


def tags_by_parameter(algorithm: str) -> DataSet:
    data = DataSet(algorithm=algorithm, tags_by_parameter=True)
    data.index(data.platforms(), tag=f"by-parameter-{algorithm}")
    for number, manifest in enumerate(data.manifests):
        for letter in "abcde":
            data.tags[f"by-parameter-{algorithm}-{number}{letter}"] = manifest.digest
    return data


def bad_digest() -> DataSet:
    data = DataSet(bad_digest=True)
    data.image()
    return data


DATA_SETS: Mapping[str, Callable[[], DataSet]] = {
    "image": image,
    "image uncompressed": image_uncompressed,
    "large manifest": large_manifest,
    "index": index,
    "nested index": nested_index,
    "empty index": empty_index,
    "artifact": artifact,
    "artifact index": artifact_index,
    "artifact without layers": artifact_without_layers,
    "artifacts with subject": artifacts_with_subject,
    "index with subject": index_with_subject,
    "missing subject": missing_subject,
    "data field": data_field,
    "foreign layers": foreign_layers,
    "custom fields": custom_fields,
    "no layers": no_layers,
    "sparse": sparse,
    "sha512": sha512,
    "tags by parameter sha256": lambda: tags_by_parameter("sha256"),
    "tags by parameter sha512": lambda: tags_by_parameter("sha512"),
    "bad digest": bad_digest,
}
