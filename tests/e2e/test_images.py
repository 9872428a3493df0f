"""`hako image …` as a person uses it, and with the tools that read what it writes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hakobune.oci.manifest import Image
from hakobune.oci.store import Store
from tests.e2e.installation import Installation
from tests.image_maker import an_image

needs_skopeo = pytest.mark.skipif(not shutil.which("skopeo"), reason="skopeo is not installed")


@pytest.fixture
def image(here: Installation) -> Iterator[Image]:
    with Store(here.home) as store:
        yield an_image(store, "web", "shop/web:v2", labels={"who": "test"})


def _skopeo(*arguments: str) -> str:
    done = subprocess.run(
        ["skopeo", "--insecure-policy", *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_images_are_listed_by_their_familiar_names(here: Installation, image: Image) -> None:
    size = sum(d.size for d in (image.manifest.config, *image.manifest.layers)) + len(image.raw)

    table = here.hako("image", "ls").stdout
    documents = json.loads(here.hako("image", "ls", "--format", "json").stdout)

    assert [line.split() for line in table.splitlines()] == [
        ["IMAGE", "DIGEST", "PLATFORM", "SIZE", "CREATED"],
        ["web", image.digest.short, "linux/amd64", str(size), "B"],
        ["shop/web:v2", image.digest.short, "linux/amd64", str(size), "B"],
    ]
    assert documents[0] == {
        "name": "docker.io/library/web:latest",
        "digest": str(image.digest),
        "platform": "linux/amd64",
        "size": size,
        "created": "",
    }


def test_an_empty_store_lists_nothing(here: Installation) -> None:
    assert here.hako("image", "ls").stdout.split() == [
        "IMAGE",
        "DIGEST",
        "PLATFORM",
        "SIZE",
        "CREATED",
    ]
    assert json.loads(here.hako("image", "ls", "--format", "json").stdout) == []


def test_an_image_is_inspected_by_name_digest_and_the_beginning_of_it(
    here: Installation, image: Image
) -> None:
    texts = [
        here.hako("image", "inspect", name, "--format", "json").stdout
        for name in ("web", "shop/web:v2", str(image.digest), image.digest.hex[:8])
    ]

    assert len(set(texts)) == 1
    document = json.loads(texts[0])
    assert document["names"] == ["docker.io/library/web:latest", "docker.io/shop/web:v2"]
    assert document["manifest"] == json.loads(image.raw)
    assert document["config"] == json.loads(image.raw_config)
    assert "label      who=test" in here.hako("image", "inspect", "web").stdout.splitlines()


def test_an_image_that_is_not_here_is_an_error_in_words(here: Installation) -> None:
    done = here.hako("image", "inspect", "nothing", check=False)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "error: there is no image 'nothing' here\n"
        "  fix: `hako image ls` lists them, `hako image pull` and `hako build` add one\n"
    )


def test_a_name_is_given_and_taken_and_the_last_one_takes_the_bytes_along(
    here: Installation, image: Image
) -> None:
    here.hako("image", "tag", "web", "third:v3")
    here.hako("image", "rm", "web", "shop/web:v2")
    assert here.hako("image", "inspect", "third:v3").stdout

    done = here.hako("image", "rm", "third:v3")

    assert done.stderr.startswith("removed third:v3\n")
    # the fixture's own process still relies on the image
    assert "freed 0 B" in done.stderr


def test_a_service_s_image_loses_its_name_and_keeps_its_content(here: Installation) -> None:
    with Store(here.home) as store:
        used = an_image(store, "used")
        store.set_root("serving", "shop-00001", [used.digest])

    done = here.hako("image", "rm", "used")

    assert done.stderr.splitlines() == [
        "removed used",
        "its content stays: a service, a container or a build uses it",
        "freed 0 B: 0 blobs, 0 unpacked layers",
    ]
    assert here.hako("image", "inspect", str(used.digest)).stdout


def test_what_has_no_name_is_pruned(here: Installation) -> None:
    with Store(here.home) as store:
        an_image(store, "old", content=b"old")
        an_image(store, "old", content=b"new")

    document = json.loads(here.hako("image", "prune", "--format", "json").stdout)

    assert len(document["blobs"]) == 3
    assert here.hako("image", "prune").stderr == "freed 0 B: 0 blobs, 0 unpacked layers\n"
    assert here.hako("image", "inspect", "old").stdout


def test_prune_all_keeps_what_a_service_uses(here: Installation) -> None:
    with Store(here.home) as store:
        used = an_image(store, "used", content=b"used")
        an_image(store, "unused", content=b"unused")
        store.set_root("serving", "shop-00001", [used.digest])

    here.hako("image", "prune", "--all")

    assert here.hako("image", "ls").stdout.count("\n") == 2
    assert here.hako("image", "inspect", "used").stdout


@pytest.mark.parametrize("form", ["oci-archive", "oci-dir"])
def test_an_image_travels_to_another_machine(
    here: Installation, image: Image, tmp_path: Path, form: str
) -> None:
    there = Installation(home=tmp_path / "there", port=1)
    path = str(tmp_path / "saved")

    here.hako("image", "save", "web", "shop/web:v2", "-o", path, "--format", form)
    loaded = there.hako("image", "load", "-i", path)

    assert sorted(loaded.stdout.splitlines()) == [
        f"shop/web:v2@{image.digest}",
        f"web@{image.digest}",
    ]
    assert (
        there.hako("image", "inspect", "web").stdout == here.hako("image", "inspect", "web").stdout
    )


def test_an_image_travels_through_a_pipe(here: Installation, image: Image, tmp_path: Path) -> None:
    there = Installation(home=tmp_path / "there", port=1)
    from tests.e2e.installation import HAKO

    done = subprocess.run(
        f'"{HAKO}" image save web -o - | HAKO_HOME="{there.home}" "{HAKO}" image load --name moved:v1',
        shell=True,
        env={**os.environ, "HAKO_HOME": str(here.home)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == f"moved:v1@{image.digest}\n"
    assert there.hako("image", "inspect", "moved:v1").stdout


@pytest.mark.parametrize("what", ["missing", "empty", "text"])
def test_what_holds_no_image_is_refused_and_nothing_is_left(
    here: Installation, tmp_path: Path, what: str
) -> None:
    path = tmp_path / what
    if what == "empty":
        path.mkdir()
    elif what == "text":
        path.write_text("hello")

    done = here.hako("image", "load", "-i", str(path), check=False)

    assert done.returncode == 1
    assert done.stderr.startswith(f"error: cannot load {path}\n  why: ")
    assert list((here.home / "images/blobs/sha256").iterdir()) == []


def test_a_save_that_fails_leaves_the_file_that_was_there(
    here: Installation, image: Image, tmp_path: Path
) -> None:
    target = tmp_path / "a.tar"
    target.write_text("before")
    (here.home / "images/blobs/sha256" / image.manifest.layers[0].digest.hex).unlink()

    done = here.hako("image", "save", "web", "-o", str(target), check=False)

    assert done.returncode == 1
    assert "the store has no blob" in done.stderr
    assert target.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".a.tar")] == []


def test_a_damaged_image_does_not_hide_the_others(here: Installation, image: Image) -> None:
    with Store(here.home) as store:
        an_image(store, "good", content=b"good")
    (here.home / "images/blobs/sha256" / image.digest.hex).write_text("damaged")

    lines = here.hako("image", "ls").stdout.splitlines()

    assert [line.split()[:3:2] for line in lines[1:]] == [
        ["good", "linux/amd64"],
        ["web", "damaged"],
        ["shop/web:v2", "damaged"],
    ]


@pytest.mark.parametrize(
    "arguments",
    [["inspect", "UPPER"], ["tag", "web", "x@sha256:" + "0" * 64], ["ls", "--formt"], ["frobnicate"]],
    ids=["bad name", "digest as name", "unknown flag", "unknown verb"],
)  # fmt: skip
def test_bad_input_is_an_error_with_a_reason(
    here: Installation, image: Image, arguments: list[str]
) -> None:
    done = here.hako("image", *arguments, check=False)

    assert done.returncode in (1, 2)
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


# With other tools


@needs_skopeo
def test_skopeo_reads_the_store_itself(here: Installation, image: Image) -> None:
    layout = f"oci:{here.home}/images:docker.io/shop/web:v2"

    assert json.loads(_skopeo("inspect", layout))["Digest"] == str(image.digest)
    assert _skopeo("inspect", "--raw", layout).encode() == image.raw


@needs_skopeo
def test_skopeo_reads_an_archive(here: Installation, image: Image, tmp_path: Path) -> None:
    here.hako("image", "save", "web", "-o", f"{tmp_path}/a.tar")

    inspected = json.loads(
        _skopeo("inspect", f"oci-archive:{tmp_path}/a.tar:docker.io/library/web:latest")
    )
    as_docker = json.loads(_skopeo("inspect", f"docker-archive:{tmp_path}/a.tar"))

    assert inspected["Digest"] == str(image.digest)
    assert as_docker["Labels"] == {"who": "test"}


@needs_skopeo
@pytest.mark.parametrize("form", ["docker-archive", "oci-archive", "oci"])
def test_what_skopeo_writes_is_loaded(
    here: Installation, image: Image, tmp_path: Path, form: str
) -> None:
    there = Installation(home=tmp_path / "there", port=1)
    layout = f"oci:{here.home}/images:docker.io/shop/web:v2"
    _skopeo("copy", "-q", layout, f"{form}:{tmp_path}/copy:shop/copy:v1")

    done = there.hako("image", "load", "-i", f"{tmp_path}/copy")

    assert done.stdout.startswith("shop/copy:v1@sha256:")
    with Store(there.home) as store:
        assert store.verify() == ()
        (name, digest) = store.names()[0]
        assert name.short == "shop/copy:v1"
        assert store.read_image(digest).config.labels == {"who": "test"}
