import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from hakobune.oci.archive import ArchiveError, load_images
from hakobune.oci.archive_save import (
    add_to_folder,
    save_archive,
    save_docker_archive,
    save_folder,
)
from hakobune.oci.descriptor import MANIFEST, Descriptor, encode_document
from hakobune.oci.digest import Digest, DigestError
from hakobune.oci.manifest import Image, make_index
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from tests.image_maker import an_image, an_index_by_sha512

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
WEB = Reference.parse("web")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "home") as store:
        yield store


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "other") as store:
        yield store


def _saved(store: Store, *images: Image, name: str = "web") -> bytes:
    out = io.BytesIO()
    names = [Reference.parse(name if i == 0 else f"{name}{i}") for i in range(len(images))]
    save_archive(store, dict(zip(names, images, strict=True)), out)
    return out.getvalue()


def _members(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        files = {member.name: tar.extractfile(member) for member in tar}
        return {name: file.read() for name, file in files.items() if file}


def _write(path: Path, members: dict[str, bytes], *, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload] # the mode is the test's
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


def _docker_archive(*layers: bytes, diff_ids: list[Digest] | None = None) -> dict[str, bytes]:
    found = diff_ids or [Digest.of(layer) for layer in layers]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [str(diff_id) for diff_id in found]},
    }
    names = [f"{i}/layer.tar" for i in range(len(layers))]
    manifest = [{"Config": "c.json", "RepoTags": ["shop/web:v2"], "Layers": names}]
    return {
        "manifest.json": json.dumps(manifest).encode(),
        "c.json": json.dumps(config).encode(),
        **dict(zip(names, layers, strict=True)),
    }


# Round trips


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
def test_an_archive_gives_the_same_image_and_name_back(
    store: Store, other: Store, tmp_path: Path, mode: str
) -> None:
    image = an_image(store)
    path = _write(tmp_path / "a.tar", _members(_saved(store, image)), mode=mode)

    (loaded,) = load_images(other, path, AMD64)

    assert (loaded.image, loaded.names) == (image, (WEB,))
    assert other.find_image(WEB) == image
    assert other.verify() == ()


def test_a_folder_gives_the_same_image_and_name_back(
    store: Store, other: Store, tmp_path: Path
) -> None:
    image = an_image(store)
    save_folder(store, {WEB: image}, tmp_path / "folder")

    (loaded,) = load_images(other, tmp_path / "folder", AMD64)

    assert (loaded.image, loaded.names) == (image, (WEB,))
    blob = tmp_path / "folder/blobs/sha256" / image.digest.hex
    assert blob.stat().st_nlink == 1  # whoever edits the folder does not edit the store


def test_the_store_s_own_layout_can_be_loaded(store: Store, other: Store) -> None:
    image = an_image(store, "web", "b:v1")

    load_images(other, store.layout, AMD64)

    assert [name.short for name, _ in other.names()] == ["b:v1", "web"]
    assert other.find_image(WEB) == image


def test_equal_images_give_equal_archives(store: Store, other: Store) -> None:
    assert _saved(store, an_image(store)) == _saved(other, an_image(other))


def test_images_that_share_layers_are_saved_with_each_blob_once(store: Store) -> None:
    one, two = an_image(store), an_image(store, labels={"other": "labels"})

    with tarfile.open(fileobj=io.BytesIO(_saved(store, one, two))) as tar:
        names = tar.getnames()

    assert len(names) == len(set(names)) == 3 + 5


def test_an_archive_has_docker_s_manifest_for_older_tools(store: Store) -> None:
    image = an_image(store)

    members = _members(_saved(store, image))

    assert json.loads(members["manifest.json"]) == [
        {
            "Config": f"blobs/sha256/{image.manifest.config.digest.hex}",
            "RepoTags": ["docker.io/library/web:latest"],
            "Layers": [f"blobs/sha256/{image.manifest.layers[0].digest.hex}"],
        }
    ]


def test_a_folder_that_is_not_empty_is_left_alone(store: Store, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").write_text("mine")

    with pytest.raises(ArchiveError, match="not empty"):
        save_folder(store, {WEB: an_image(store)}, tmp_path / "full")


# Other tools' archives


def test_what_docker_saved_is_loaded_as_it_is(store: Store, tmp_path: Path) -> None:
    layers = (bytes(10240), b"x" * 512 + bytes(10240))
    path = _write(tmp_path / "d.tar", _docker_archive(*layers))

    (loaded,) = load_images(store, path, AMD64)

    assert loaded.names == (Reference.parse("shop/web:v2"),)
    assert [store.read_blob(layer.digest) for layer in loaded.image.manifest.layers] == [*layers]
    assert loaded.image.diff_ids == tuple(Digest.of(layer) for layer in layers)


def test_a_docker_layer_that_is_not_what_the_config_says_is_refused(
    store: Store, tmp_path: Path
) -> None:
    members = _docker_archive(bytes(1024), diff_ids=[Digest.of(b"other")])

    with pytest.raises(DigestError):
        load_images(store, _write(tmp_path / "d.tar", members), AMD64)
    assert store.names() == ()


def test_a_docker_archive_with_another_number_of_layers_is_refused(
    store: Store, tmp_path: Path
) -> None:
    members = _docker_archive(bytes(1024), diff_ids=[Digest.of(b"1"), Digest.of(b"2")])

    with pytest.raises(ArchiveError, match="cannot load") as error:
        load_images(store, _write(tmp_path / "d.tar", members), AMD64)
    assert error.value.why == "c.json lists 2 layers, manifest.json 1"


def test_the_image_for_the_platform_is_taken_from_an_index(
    store: Store, other: Store, tmp_path: Path
) -> None:
    image = an_image(store)
    members = _members(_saved(store, image))
    index = msgspec.json.decode(members["index.json"])
    index["manifests"][0].pop("annotations")
    arm = {
        **index["manifests"][0],
        "digest": str(Digest.of(b"arm")),
        "platform": {"os": "linux", "architecture": "arm64"},
    }
    nested = msgspec.json.encode({**index, "manifests": [arm, *index["manifests"]]})
    outer = {
        "schemaVersion": 2,
        "manifests": [
            {
                "mediaType": "application/vnd.oci.image.index.v1+json",
                "digest": str(Digest.of(nested)),
                "size": len(nested),
                "annotations": {
                    "org.opencontainers.image.ref.name": "docker.io/library/web:latest"
                },
            }
        ],
    }
    members |= {
        "index.json": msgspec.json.encode(outer),
        f"blobs/sha256/{Digest.of(nested).hex}": nested,
    }
    path = _write(tmp_path / "a.tar", members)

    (loaded,) = load_images(other, path, AMD64)
    with pytest.raises(ArchiveError, match="has no image for linux/s390x") as error:
        load_images(other, path, Platform("linux", "s390x"))

    assert (loaded.image, loaded.names) == (image, (WEB,))
    assert error.value.why == "it has linux/amd64, linux/arm64"


@pytest.mark.parametrize(
    ("annotations", "names"),
    [
        ({"org.opencontainers.image.ref.name": "latest"}, []),  # a tag, says the specification
        ({"org.opencontainers.image.ref.name": "shop/web"}, ["shop/web"]),
        ({"org.opencontainers.image.ref.name": "NOT A NAME:"}, []),
        (
            {
                "org.opencontainers.image.ref.name": "v2",
                "io.containerd.image.name": "docker.io/shop/web:v2",
            },
            ["shop/web:v2"],
        ),
        ({}, []),
    ],
)
def test_an_image_is_called_as_its_index_says(
    store: Store, other: Store, tmp_path: Path, annotations: dict[str, str], names: list[str]
) -> None:
    members = _members(_saved(store, an_image(store)))
    index = msgspec.json.decode(members["index.json"])
    index["manifests"][0]["annotations"] = annotations
    members["index.json"] = msgspec.json.encode(index)

    (loaded,) = load_images(other, _write(tmp_path / "a.tar", members), AMD64)

    assert [name.short for name in loaded.names] == names
    assert [name.short for name, _ in other.names()] == names


# Damage and malice


def test_a_layer_with_other_bytes_is_refused_and_no_name_changes(
    store: Store, other: Store, tmp_path: Path
) -> None:
    image, before = an_image(store, content=b"new"), an_image(other, "web", content=b"old")
    layer = f"blobs/sha256/{image.manifest.layers[0].digest.hex}"
    members = {**_members(_saved(store, image)), layer: b"evil"}

    with pytest.raises(DigestError):
        load_images(other, _write(tmp_path / "a.tar", members), AMD64)

    assert other.find_image(WEB) == before
    assert other.verify() == ()


@pytest.mark.parametrize("what", ["manifest", "config"])
def test_a_document_with_other_bytes_is_refused(
    store: Store, other: Store, tmp_path: Path, what: str
) -> None:
    image = an_image(store)
    digest = image.digest if what == "manifest" else image.manifest.config.digest
    members = _members(_saved(store, image))
    members[f"blobs/sha256/{digest.hex}"] += b" "

    with pytest.raises(DigestError):
        load_images(other, _write(tmp_path / "a.tar", members), AMD64)


def test_more_bytes_than_a_layer_s_size_are_not_read(
    store: Store, other: Store, tmp_path: Path
) -> None:
    image = an_image(store)
    layer = f"blobs/sha256/{image.manifest.layers[0].digest.hex}"
    members = {**_members(_saved(store, image)), layer: bytes(5 << 20)}

    with pytest.raises(DigestError, match="damaged") as error:
        load_images(other, _write(tmp_path / "a.tar", members), AMD64)

    assert "1048576 bytes" in error.value.why  # the first block told enough


@pytest.mark.parametrize(
    ("members", "what"),
    [
        ({}, "neither index.json"),
        ({"hello": b"x"}, "neither index.json"),
        ({"manifest.json": b"{}"}, "manifest.json is not docker's"),
        ({"index.json": b'{"schemaVersion":2,"manifests":[]}'}, "has no image for"),
    ],
)
def test_an_archive_without_images_is_refused_in_words(
    store: Store, tmp_path: Path, members: dict[str, bytes], what: str
) -> None:
    with pytest.raises(ArchiveError) as error:
        load_images(store, _write(tmp_path / "a.tar", members), AMD64)

    assert what in str(error.value)


def test_a_file_that_is_no_archive_is_refused_in_words(store: Store, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello\n" * 100)

    with pytest.raises(ArchiveError, match="cannot load"):
        load_images(store, tmp_path / "text", AMD64)
    with pytest.raises(ArchiveError, match="cannot load"):
        load_images(store, tmp_path / "missing", AMD64)


def test_a_layout_s_links_do_not_lead_out_of_it(store: Store, other: Store, tmp_path: Path) -> None:
    image = an_image(store)
    folder = tmp_path / "folder"
    save_folder(store, {WEB: image}, folder)
    blob = folder / "blobs/sha256" / image.digest.hex
    blob.rename(tmp_path / "outside")
    blob.symlink_to(tmp_path / "outside")

    with pytest.raises(ArchiveError, match="leads out of"):
        load_images(other, folder, AMD64)


def test_an_archive_s_links_do_not_lead_out_of_it(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        entry = tarfile.TarInfo("index.json")
        entry.type = tarfile.SYMTYPE
        entry.linkname = "/etc/passwd"
        tar.addfile(entry)

    with pytest.raises(ArchiveError, match=r"index\.json"):
        load_images(store, path, AMD64)


def _add(tar: tarfile.TarFile, name: str, data: bytes = b"", **fields: object) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    for key, value in fields.items():
        setattr(entry, key, value)
    tar.addfile(entry, io.BytesIO(data) if data else None)


def _hostile(
    path: Path, members: dict[str, bytes], *more: tuple[str, bytes, dict[str, object]]
) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in members.items():
            _add(tar, name, data)
        for name, data, fields in more:
            _add(tar, name, data, **fields)
    return path


@pytest.mark.parametrize(
    ("name", "fields", "why"),
    [
        ("index.json", {}, "index.json is in it twice"),
        ("./index.json", {}, "index.json is in it twice"),
        ("x/../index.json", {}, "index.json is in it twice"),
        ("/etc/cron.d/x", {}, "'/etc/cron.d/x' in it leads out"),
        ("../x", {}, "'../x' in it leads out"),
        ("a/../../x", {}, "'a/../../x' in it leads out"),
        ("a", {"type": tarfile.LNKTYPE, "linkname": "../b"}, "'../b' in it leads out"),
        ("a", {"type": tarfile.SYMTYPE, "linkname": "/etc/shadow"}, "to '/etc/shadow', leads out"),
        ("b/a", {"type": tarfile.SYMTYPE, "linkname": "../../c"}, "to '../../c', leads out"),
    ],
)
def test_an_archive_that_readers_could_see_differently_or_that_leads_out_is_refused(
    store: Store, other: Store, tmp_path: Path, name: str, fields: dict[str, object], why: str
) -> None:
    members = _members(_saved(store, an_image(store)))
    path = _hostile(tmp_path / "a.tar", members, (name, b"" if fields else b"{}", fields))

    with pytest.raises(ArchiveError) as error:
        load_images(other, path, AMD64)

    assert why in error.value.why
    assert other.names() == ()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_blob_that_is_a_link_is_refused(
    store: Store, other: Store, tmp_path: Path, kind: bytes
) -> None:
    image = an_image(store)
    members = _members(_saved(store, image))
    name = f"blobs/sha256/{image.digest.hex}"
    data = members.pop(name)
    target = "../../elsewhere" if kind == tarfile.SYMTYPE else "elsewhere"
    link: dict[str, object] = {"type": kind, "linkname": target}
    path = _hostile(tmp_path / "a.tar", members, ("elsewhere", data, {}), (name, b"", link))

    with pytest.raises(ArchiveError, match="it is a link"):
        load_images(other, path, AMD64)


def test_links_that_lead_in_a_circle_are_refused(store: Store, tmp_path: Path) -> None:
    path = _hostile(
        tmp_path / "a.tar",
        {},
        ("manifest.json", b"", {"type": tarfile.SYMTYPE, "linkname": "b"}),
        ("b", b"", {"type": tarfile.SYMTYPE, "linkname": "manifest.json"}),
    )

    with pytest.raises(ArchiveError, match="it is a link"):
        load_images(store, path, AMD64)


def test_layers_that_stand_for_each_other_are_read_as_older_docker_wrote_them(
    store: Store, tmp_path: Path
) -> None:
    members = _docker_archive(bytes(1024), bytes(1024))
    del members["1/layer.tar"]
    link: dict[str, object] = {"type": tarfile.SYMTYPE, "linkname": "../0/layer.tar"}
    path = _hostile(tmp_path / "d.tar", members, ("1/layer.tar", b"", link))

    (loaded,) = load_images(store, path, AMD64)

    assert len({layer.digest for layer in loaded.image.manifest.layers}) == 1


@pytest.mark.parametrize("what", ["layer", "config", "manifest"])
def test_what_an_archive_lacks_is_named(
    store: Store, other: Store, tmp_path: Path, what: str
) -> None:
    image = an_image(store)
    digest = {
        "layer": image.manifest.layers[0].digest,
        "config": image.manifest.config.digest,
        "manifest": image.digest,
    }[what]
    members = _members(_saved(store, image))
    del members[f"blobs/sha256/{digest.hex}"]

    with pytest.raises(ArchiveError, match=f"has no blobs/sha256/{digest.hex}"):
        load_images(other, _write(tmp_path / "a.tar", members), AMD64)
    assert other.names() == ()


def test_an_archive_that_is_cut_off_is_refused(store: Store, other: Store, tmp_path: Path) -> None:
    data = _saved(store, an_image(store, content=bytes(range(256)) * 40))
    for size in range(512, len(data) - 10240, 1024):
        (tmp_path / "a.tar").write_bytes(data[:size])

        with pytest.raises((ArchiveError, DigestError)):
            load_images(other, tmp_path / "a.tar", AMD64)

    assert other.names() == ()


def test_a_small_archive_does_not_become_a_huge_one(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hakobune.oci.archive_source._SMALL_BYTES", 1 << 20)
    path = _write(tmp_path / "a.tar.gz", {"zeros": bytes(64 << 20)}, mode="w:gz")
    assert path.stat().st_size < 100_000

    with pytest.raises(ArchiveError, match="bytes come out of it"):
        load_images(store, path, AMD64)


def test_an_archive_of_very_many_files_is_refused(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hakobune.oci.archive_source.MOST_MEMBERS", 10)
    path = _write(tmp_path / "a.tar", {str(n): b"" for n in range(20)})

    with pytest.raises(ArchiveError, match="more than 10 files"):
        load_images(store, path, AMD64)


def test_a_size_beyond_the_archive_s_end_is_refused(store: Store, tmp_path: Path) -> None:
    entry = tarfile.TarInfo("index.json")
    entry.size = 1 << 40
    (tmp_path / "a.tar").write_bytes(entry.tobuf(tarfile.GNU_FORMAT) + bytes(1024))

    with pytest.raises(ArchiveError, match="cut off"):
        load_images(store, tmp_path / "a.tar", AMD64)


def test_sparse_files_are_not_read(store: Store, tmp_path: Path) -> None:
    entry = tarfile.TarInfo("index.json")
    header = bytearray(entry.tobuf(tarfile.GNU_FORMAT))
    header[156:157] = b"S"
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    (tmp_path / "a.tar").write_bytes(bytes(header) + bytes(1024))

    with pytest.raises(ArchiveError, match="sparse"):
        load_images(store, tmp_path / "a.tar", AMD64)


# Several images and platforms


def _two_platforms(store: Store, name: str) -> Digest:
    images = [
        an_image(store, content=b"amd64"),
        an_image(store, content=b"arm64", architecture="arm64"),
    ]
    entries = [
        Descriptor(
            media_type=MANIFEST,
            digest=image.digest,
            size=len(image.raw),
            platform=image.platform,
        )
        for image in images
    ]
    return store.put_index(encode_document(make_index(entries, {})), names=(Reference.parse(name),))


def _saved_index(store: Store, name: str) -> bytes:
    out = io.BytesIO()
    digest = _two_platforms(store, name)
    save_archive(store, {Reference.parse(name): digest}, out)
    return out.getvalue()


def test_an_index_goes_through_an_archive_whole(store: Store, other: Store, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(_saved_index(store, "web"))

    (loaded,) = load_images(other, path, AMD64, all_platforms=True)

    assert loaded.digest == store.find_digest(WEB) == other.find_digest(WEB)
    for platform in (AMD64, ARM64):
        assert other.find_image(WEB, platform) == store.find_image(WEB, platform)
    assert other.verify() == ()


def test_what_is_known_by_sha512_goes_through_an_archive(
    store: Store, other: Store, tmp_path: Path
) -> None:
    digest = an_index_by_sha512(store, "web")
    path = tmp_path / "a.tar"
    with open(path, "wb") as out:
        save_archive(store, {WEB: digest}, out)

    (loaded,) = load_images(other, path, AMD64, all_platforms=True)

    assert loaded.digest == digest
    assert loaded.image.digest.algorithm == "sha512"
    assert other.find_image(WEB) == store.find_image(WEB)
    assert loaded.image.manifest.config.digest.algorithm == "sha512"
    assert other.verify() == ()


def test_of_an_index_one_platform_is_taken(store: Store, other: Store, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(_saved_index(store, "web"))

    (loaded,) = load_images(other, path, ARM64)

    assert loaded.image.platform.matches(ARM64)
    assert other.find_digest(WEB) == loaded.image.digest


@pytest.mark.parametrize("only", ["web1", "docker.io/library/web1:latest", "web1:latest"])
def test_one_of_several_images_is_taken_by_name(
    store: Store, other: Store, tmp_path: Path, only: str
) -> None:
    one, two = an_image(store), an_image(store, content=b"two")
    path = _write(tmp_path / "a.tar", _members(_saved(store, one, two)))

    (loaded,) = load_images(other, path, AMD64, only=only)

    assert loaded.image == two
    assert [name.short for name, _ in other.names()] == ["web1"]
    with pytest.raises(ArchiveError, match="has no image nope") as error:
        load_images(other, path, AMD64, only="nope")
    assert error.value.why == "it has docker.io/library/web1:latest, docker.io/library/web:latest"


def test_a_layout_takes_another_image_and_a_name_moves(store: Store, tmp_path: Path) -> None:
    one, two = an_image(store), an_image(store, content=b"two")
    folder = tmp_path / "layout"

    add_to_folder(store, one.digest, "v1", folder)
    add_to_folder(store, two.digest, "v2", folder)
    add_to_folder(store, two.digest, "v1", folder)

    index = msgspec.json.decode((folder / "index.json").read_bytes())
    names = [
        (m["annotations"]["org.opencontainers.image.ref.name"], m["digest"])
        for m in index["manifests"]
    ]
    assert names == [("v2", str(two.digest)), ("v1", str(two.digest))]


def test_a_folder_that_is_no_layout_is_not_made_one(store: Store, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").write_text("x")

    with pytest.raises(ArchiveError, match="no OCI layout"):
        add_to_folder(store, an_image(store).digest, "v1", tmp_path / "mine")


def test_a_docker_archive_has_plain_layers(store: Store, other: Store, tmp_path: Path) -> None:
    image = an_image(store)
    with open(tmp_path / "d.tar", "wb") as file:
        save_docker_archive(store, {Reference.parse("shop/web:v2"): image}, file)

    members = _members((tmp_path / "d.tar").read_bytes())
    (loaded,) = load_images(other, tmp_path / "d.tar", AMD64)

    assert json.loads(members["manifest.json"])[0]["RepoTags"] == ["docker.io/shop/web:v2"]
    assert Digest.of(members[f"{image.diff_ids[0].hex}.tar"]) == image.diff_ids[0]
    assert loaded.image.raw_config == image.raw_config
    assert loaded.names == (Reference.parse("shop/web:v2"),)


def test_layers_that_the_reader_has_are_left_out(store: Store) -> None:
    image = an_image(store)
    out = io.BytesIO()

    save_docker_archive(store, {WEB: image}, out, without=image.diff_ids)

    members = _members(out.getvalue())
    assert f"{image.diff_ids[0].hex}.tar" not in members
    assert json.loads(members["manifest.json"])[0]["Layers"] == [f"{image.diff_ids[0].hex}.tar"]


@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "w:bz2"])
def test_a_compressed_archive_that_is_cut_off_or_damaged_is_refused(
    store: Store, other: Store, tmp_path: Path, mode: str
) -> None:
    path = _write(tmp_path / "a.tar", _members(_saved(store, an_image(store))), mode=mode)
    data = path.read_bytes()
    for broken in (data[:-20], data[:40] + bytes(20) + data[60:]):
        path.write_bytes(broken)

        with pytest.raises(ArchiveError):
            load_images(other, path, AMD64)

    assert other.names() == ()


def test_a_zstd_archive_is_read(store: Store, other: Store, tmp_path: Path) -> None:
    import zstandard

    image = an_image(store)
    (tmp_path / "a.tar.zst").write_bytes(zstandard.compress(_saved(store, image)))

    (loaded,) = load_images(other, tmp_path / "a.tar.zst", AMD64)

    assert loaded.image == image
