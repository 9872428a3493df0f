"""Images for another CPU: built, run and served where it is emulated, refused in words where it is not."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hakobune.cli.platforms import publish_index
from hakobune.oci.config import ImageConfig, RootFs
from hakobune.oci.layer import Owner, Tree, write_layer
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from tests.e2e.foreign import FOREIGN, REGISTRATION, emulated, foreign_busybox, is_emulated
from tests.e2e.foreign_builder import publish_foreign_builder
from tests.e2e.installation import ROOT, Installation, new_installation
from tests.small_root import PROGRAMS, make_small_root

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.skipif(not REGISTRATION.exists(), reason="qemu-user-static is not installed"),
]
unemulated = pytest.mark.skipif(
    is_emulated(), reason="this machine emulates the other CPU for everybody"
)

DOCKERFILE = """\
FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
RUN uname -m >/machine
CMD ["/bin/sh", "-c", "mkdir -p /tmp/www && uname -m >/tmp/www/index.html && trap 'exit 0' TERM; httpd -f -p $PORT -h /tmp/www & wait"]
"""
HERE, THERE = str(Platform.host()), f"linux/{FOREIGN}"
MACHINES = {"arm64": "aarch64", "amd64": "x86_64"}


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build context with a real busybox for the other CPU."""
    folder = tmp_path_factory.mktemp("context")
    shutil.copy(foreign_busybox(tmp_path_factory.mktemp("apt")), folder / "busybox")
    (folder / "busybox").chmod(0o755)
    (folder / "Dockerfile").write_text(DOCKERFILE)
    return folder


@pytest.fixture(scope="module")
def here(context: Path) -> Iterator[Installation]:
    """An installation with the image `foreign`."""
    with new_installation() as installation:
        with emulated():
            _build(installation, context, "-t", "foreign", "--platform", THERE)
        yield installation


def _build(
    here: Installation, context: Path, *arguments: str, check: bool = True
) -> subprocess.CompletedProcess[str]:
    return here.hako("dockerfile", "build", *arguments, str(context), check=check)


def test_run_steps_were_carried_out_on_the_other_cpu(here: Installation) -> None:
    with Store(here.home) as store:
        image = store.find_image(Reference.parse("foreign"))

    assert image is not None
    assert str(image.platform) == THERE


def test_it_runs_where_it_is_emulated(here: Installation) -> None:
    with emulated():
        done = here.hako("container", "run", "foreign", "/bin/sh", "-c", "cat /machine; uname -m")

    assert done.stdout.split() == [MACHINES[FOREIGN]] * 2


def test_it_is_served_where_it_is_emulated(here: Installation) -> None:
    with emulated():
        url = here.hako("deploy", "foreign", "--image", "foreign", "--platform", THERE).stdout

        page = subprocess.run(
            ["curl", "-sS", "--max-time", "30", url.strip()], capture_output=True, text=True
        )
        here.hako("services", "delete", "foreign")

    assert page.stdout == f"{MACHINES[FOREIGN]}\n"


@pytest.mark.parametrize(
    "command", [("container", "run", "--platform", HERE), ("deploy", "foreign-app", "--platform", HERE, "--image")]
)  # fmt: skip
def test_what_runs_is_for_the_platform_that_was_asked_for(
    here: Installation, command: tuple[str, ...]
) -> None:
    done = here.hako(*command, "foreign", check=False)

    assert done.returncode in (1, 125)
    assert f"foreign is for {THERE}, not for {HERE}" in done.stderr
    assert f"fix: build it with --platform {HERE}, or leave --platform away" in done.stderr


@unemulated
@pytest.mark.parametrize(
    "command",
    [
        ("container", "run", "foreign", "uname"),
        ("container", "run", "-d", "foreign"),
        ("deploy", "foreign-app", "--image", "foreign"),
        ("deploy", "foreign-app", "--image", "foreign", "--platform", THERE),
    ],
)
def test_without_an_emulator_it_is_refused_with_both_architectures_before_anything_starts(
    here: Installation, command: tuple[str, ...]
) -> None:
    done = here.hako(*command, check=False)

    assert done.returncode in (1, 125)
    assert f"foreign is for {THERE}, this machine is {HERE}" in done.stderr
    assert "no emulator" in done.stderr
    assert "fix: qemu is installed, but not registered: " in done.stderr
    assert here.hako("container", "ls", "-a", "--format", "json").stdout.strip() == "[]"
    assert "foreign-app" not in here.hako("services", "list", check=False).stdout


@unemulated
def test_a_run_step_for_it_is_refused_at_its_line_before_anything_is_built(
    here: Installation, context: Path
) -> None:
    done = _build(here, context, "--platform", THERE, "--no-cache", check=False)

    assert done.returncode == 1
    assert (
        f"Dockerfile:3: the stage of this RUN is for {THERE}, this machine is {HERE}" in done.stderr
    )
    assert "--platform=$BUILDPLATFORM" in done.stderr
    assert "COPY" not in done.stderr


def test_a_stage_that_only_copies_may_be_for_any_cpu(here: Installation, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY file /file\n")

    done = _build(here, tmp_path, "-t", "copied", "--platform", "linux/s390x,linux/riscv64")

    index = done.stdout.strip().partition("@")[2]
    with Store(here.home) as store:
        assert str(store.find_digest(Reference.parse("copied"))) == index
        for architecture in ("s390x", "riscv64"):
            image = store.find_image(Reference.parse("copied"), Platform("linux", architecture))
            assert image is not None
            assert image.config.architecture == architecture


def test_several_platforms_make_one_index(
    here: Installation, context: Path, tmp_path: Path
) -> None:
    shutil.copytree(context, tmp_path / "context")
    (tmp_path / "context/Dockerfile").write_text(
        "FROM --platform=$BUILDPLATFORM scratch AS made\n"
        "ARG TARGETARCH\n"
        "FROM scratch\n"
        "ARG TARGETARCH\n"
        "COPY busybox /$TARGETARCH\n"
    )

    built = _build(here, tmp_path / "context", "-t", "both:v1", "--platform", f"{HERE},{THERE}")
    here.hako("image", "save", "both:v1", "--format", "oci-dir", "-o", str(tmp_path / "layout"))

    digest = built.stdout.strip().partition("@")[2]
    layout = json.loads((tmp_path / "layout/index.json").read_text())
    assert [entry["digest"] for entry in layout["manifests"]] == [digest]
    index = json.loads(
        (tmp_path / "layout/blobs/sha256" / digest.removeprefix("sha256:")).read_text()
    )
    platforms = [
        f"{m['platform']['os']}/{m['platform']['architecture']}" for m in index["manifests"]
    ]
    assert platforms == [HERE, THERE]


@pytest.mark.parametrize(
    "platforms", ["linux", "linux/amd64,linux/amd64", "linux/arm64,linux/arm64/v8"]
)
def test_platforms_that_are_none_or_twice_are_refused(
    here: Installation, context: Path, platforms: str
) -> None:
    done = _build(here, context, "--platform", platforms, check=False)

    assert done.returncode in (1, 2)
    assert done.stderr.startswith("error: ")


@unemulated
def test_doctor_says_what_is_emulated_and_how_it_would_be(here: Installation) -> None:
    without = here.hako("doctor", check=False).stdout
    with emulated():
        with_it = here.hako("doctor", check=False).stdout

    assert "no other CPU's programs run here" in without
    assert f"programs for {FOREIGN} run here" in with_it


# Buildpacks


@pytest.fixture
def builder(here: Installation) -> str:
    with Store(here.home) as store:
        base = store.find_image(Reference.parse("foreign"))
        assert base is not None
        publish_foreign_builder(store, base, Platform.parse(THERE))
    return "test/builder"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "app").mkdir()
    (tmp_path / "app/file").write_text("x")
    return tmp_path / "app"


def _buildpacks(
    here: Installation, source: Path, *arguments: str, name: str = "made", check: bool = True
) -> subprocess.CompletedProcess[str]:
    return here.hako("build", name, "--path", str(source), *arguments, check=check)


def test_a_builder_for_the_other_cpu_builds_there(
    here: Installation, builder: str, source: Path
) -> None:
    with emulated():
        built = _buildpacks(here, source, "-B", builder, "--platform", THERE)
        again = _buildpacks(here, source, "-B", builder, "--platform", THERE)
        done = here.hako("container", "run", "made")

    assert f"built on {MACHINES[FOREIGN]}" in built.stderr
    assert "nothing that goes in has changed" in again.stderr
    assert built.stdout == again.stdout
    assert done.stdout.split() == [MACHINES[FOREIGN]] * 2
    with Store(here.home) as store:
        image = store.find_image(Reference.parse("made"))
        assert image is not None
        assert str(image.platform) == THERE


def test_several_platforms_are_built_and_make_one_index(
    here: Installation, builder: str, source: Path, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    root = make_small_root(tmp_path / "root", programs=(*PROGRAMS, "uname"))
    with Store(here.home) as store:
        layer = write_layer(store, [Tree(name="/", directory=root)], owner=Owner(0, 0))
        host = Platform.host()
        config = ImageConfig(os=host.os, architecture=host.architecture, rootfs=RootFs())
        ours = publish_foreign_builder(
            store, store.publish_image(config=config, layers=[layer]), host
        )
        foreign = store.find_image(Reference.parse("foreign"))
        assert foreign is not None
        theirs = publish_foreign_builder(store, foreign, Platform.parse(THERE))
        for name, images in zip(
            ("test/builder", "test/run"), zip(ours, theirs, strict=True), strict=True
        ):
            publish_index(store, images, [Reference.parse(name)])

    with emulated():
        built = _buildpacks(
            here, source, "-B", builder, "--platform", f"{HERE},{THERE}", name="two"
        )
        native = here.hako("container", "run", "two")
        other = here.hako("container", "run", "--platform", THERE, "two")

    digest = built.stdout.strip().partition("@")[2]
    with Store(here.home) as store:
        assert str(store.find_digest(Reference.parse("two"))) == digest
    assert native.stdout.split() == [MACHINES[Platform.host().architecture]] * 2
    assert other.stdout.split() == [MACHINES[FOREIGN]] * 2
    assert "two:latest-" not in here.hako("image", "ls").stdout


@unemulated
def test_what_cannot_be_built_for_another_cpu_is_refused_before_anything_is_built(
    here: Installation, builder: str, source: Path
) -> None:
    unemulated = _buildpacks(
        here, source, "-B", builder, "--platform", THERE, name="no", check=False
    )
    for_us = _buildpacks(here, source, "-B", builder, name="no", check=False)

    assert f"is for {THERE}, this machine is {HERE}" in unemulated.stderr
    assert f"test/builder is for {THERE}, the image shall be for {HERE}" in for_us.stderr
    assert "no:" not in here.hako("image", "ls").stdout


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_default_builder_is_made_for_the_other_cpu_and_kept_beside_ours(
    installation: Installation, tmp_path: Path
) -> None:
    """Debian's maintainer scripts run emulated: this takes minutes."""
    app = str(ROOT / "examples/python-web")
    (tmp_path / "Dockerfile").write_text(
        "FROM hako/base-run:13\nUSER root\nRUN uname -m >/machine\n"
    )
    with emulated():
        built = installation.hako(
            "build", "python", "--path", app, "--platform", f"{HERE},{THERE}", timeout_s=1800
        )
        again = installation.hako("build", "other", "--path", app, "--platform", THERE)
        url = installation.hako("deploy", "web", "--source", app, "--platform", THERE).stdout
        page = subprocess.run(
            ["curl", "-sS", "--max-time", "60", url.strip()], capture_output=True, text=True
        )
        machine = installation.hako(
            "container", "run", "--platform", THERE, "--entrypoint", "/bin/uname", "python", "-m"
        )
        _build(installation, tmp_path, "-t", "extended", "--platform", THERE)
        read = installation.hako("container", "run", "extended", "/bin/cat", "/machine")

    assert f"for {THERE} (emulated" in built.stderr
    assert "base images made" not in again.stderr
    assert page.stdout.startswith("Hello")
    assert machine.stdout.strip() == read.stdout.strip() == MACHINES[FOREIGN]
    with Store(installation.home) as store:
        for name in (
            "hako/builder:13",
            "hako/base-build:13",
            "hako/base-run:13",
            "hako/base-tiny:13",
        ):
            for platform in (HERE, THERE):
                image = store.find_image(Reference.parse(name), Platform.parse(platform))
                assert image is not None
                assert image.platform.matches(Platform.parse(platform))
        assert store.verify() == ()
