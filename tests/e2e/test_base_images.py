"""The base images of Debian 13 and the default builder, made from packages and used."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from hakobune.builds.base import BaseImages, ensure_base_images
from hakobune.builds.base_definition import DEFINITION
from hakobune.builds.builder import Builder
from hakobune.builds.default_builder import ensure_default_builder
from hakobune.builds.own_images import ensure_mentioned_images
from hakobune.errors import HakoError
from hakobune.oci.manifest import Image
from hakobune.oci.merged import find
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from hakobune.progress import RecordedProgress, SilentProgress
from tests.mounts import tiny_disk

pytestmark = pytest.mark.needs_root

ROOT = Path(__file__).parents[2]
ENTER = """
mount --make-rprivate /
mount -t tmpfs tmpfs "$TOP"
mkdir "$TOP/up" "$TOP/wk" "$TOP/root"
mount -t overlay overlay -o "lowerdir=$LOWERS,upperdir=$TOP/up,workdir=$TOP/wk" "$TOP/root"
mount -t proc proc "$TOP/root/proc"
mount --bind /dev "$TOP/root/dev"
[ ! -e "$TOP/root/etc/apt" ] || cp /etc/resolv.conf /etc/hosts "$TOP/root/etc/"
cd "$TOP/root"
exec chroot . "$@"
"""


MAKE = (
    "import sys; from pathlib import Path; from hakobune.builds.base import ensure_base_images;"
    "from hakobune.oci.store import Store; from hakobune.progress import SilentProgress;"
    "home = Path(sys.argv[1]); images = ensure_base_images(Store(home), home, SilentProgress());"
    "print(images.build.digest, images.run.digest, images.tiny.digest)"
)


@dataclass(frozen=True)
class Made:
    """A home with base images in it."""

    home: Path
    store: Store
    images: BaseImages
    progress: RecordedProgress

    def trees(self, image: Image) -> tuple[Path, ...]:
        return tuple(
            tree
            for snapshot in reversed(self.store.snapshots(image))
            for tree in snapshot.lower_dirs()
        )

    def read(self, image: Image, path: str) -> str:
        shown = find(self.trees(image), path)
        assert shown is not None, f"{path} is missing"
        return Path(shown.path).read_text()

    def has(self, image: Image, path: str) -> bool:
        return find(self.trees(image), path) is not None

    def owner(self, image: Image, path: str) -> tuple[int, int]:
        shown = find(self.trees(image), path)
        assert shown is not None, f"{path} is missing"
        return shown.status.st_uid, shown.status.st_gid

    def run(
        self, image: Image, *command: str, network: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root in a throw-away copy of the image."""
        namespaces = ["--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc"]
        with tempfile.TemporaryDirectory(prefix="hk-top-") as top:
            return subprocess.run(
                [
                    *("unshare", *namespaces, *(() if network else ("--net",))),
                    *("/bin/sh", "-eu", "-c", ENTER, "enter", *command),
                ],
                env={
                    "PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                    "LC_ALL": "C.UTF-8",
                    "DEBIAN_FRONTEND": "noninteractive",
                    "LOWERS": ":".join(map(str, self.trees(image))),
                    "TOP": top,
                },
                capture_output=True,
                text=True,
                check=False,
            )


@pytest.fixture(scope="module")
def made() -> Iterator[Made]:
    home = Path(tempfile.mkdtemp(prefix="hk-", dir="/tmp"))
    try:
        with Store(home) as store:
            progress = RecordedProgress()
            yield Made(home, store, ensure_base_images(store, home, progress), progress)
    finally:
        shutil.rmtree(home)


@pytest.fixture(scope="module")
def builder(made: Made) -> Builder:
    return ensure_default_builder(made.store, made.home, SilentProgress())


def all_images(images: BaseImages) -> Sequence[Image]:
    return images.build, images.run, images.tiny


# Making them


def test_progress_says_what_is_made_and_how_much_is_loaded(made: Made) -> None:
    assert made.progress.texts("phase")[0].startswith("Base images Debian 13 from ")
    done, total = made.progress.texts("bytes")[-1].removeprefix("Debian packages ").split("/")
    assert done == total
    assert made.progress.texts("step")[-1].startswith("base images made in ")


def test_images_that_are_there_are_not_made_again(made: Made) -> None:
    progress = RecordedProgress()

    again = ensure_base_images(made.store, made.home, progress)

    assert again == made.images
    assert progress.events == []


def test_another_home_gets_the_same_images_from_kept_packages_without_network(made: Made) -> None:
    home = Path(tempfile.mkdtemp(prefix="hk-", dir="/tmp"))
    try:
        shutil.copytree(made.home / "cache/apt", home / "cache/apt", copy_function=os.link)
        result = subprocess.run(
            # One processor and another mask: neither may be seen in the images.
            [
                "unshare",
                "--net",
                "taskset",
                "--cpu-list",
                "0",
                sys.executable,
                "-c",
                MAKE,
                str(home),
            ],
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
            capture_output=True,
            text=True,
            umask=0o077,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        with Store(home) as store:
            images = ensure_base_images(store, home, SilentProgress())
            other = Made(home, store, images, RecordedProgress())
            for mine, theirs in zip(all_images(made.images), all_images(images), strict=True):
                assert facts(made.trees(mine)[0]) == facts(other.trees(theirs)[0])
    finally:
        shutil.rmtree(home)

    assert result.stdout.split() == [str(image.digest) for image in all_images(made.images)]


def facts(tree: Path) -> dict[str, tuple[object, ...]]:
    """What a layer says of each entry of *tree*, by path; two of these compared name what differs."""
    found: dict[str, tuple[object, ...]] = {}
    for path in tree.rglob("*"):
        entry = path.lstat()
        content: object = ""
        if stat.S_ISREG(entry.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        elif stat.S_ISLNK(entry.st_mode):
            content = os.readlink(path)
        names = os.listxattr(path, follow_symlinks=False)
        attributes = {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
        found[str(path.relative_to(tree))] = (
            entry.st_mode, entry.st_uid, entry.st_gid, int(entry.st_mtime), content, attributes,
        )  # fmt: skip
    return found


def test_killing_it_leaves_no_process_and_the_next_one_cleans_up(made: Made) -> None:
    home = Path(tempfile.mkdtemp(prefix="hk-", dir="/tmp"))
    shutil.copytree(made.home / "cache/apt", home / "cache/apt", copy_function=os.link)
    try:
        process = start_making(home)
        wait_for(lambda: any(home.glob("cache/.base.*/run/usr/bin")))
        process.kill()
        process.wait()
        wait_for(lambda: processes_below(home) == [])
        with open("/proc/self/mounts") as mounts:
            assert str(home) not in mounts.read()
        again = start_making(home)
        wait_for(lambda: len(list(home.glob("cache/.base.*/repository"))) == 1)
        again.kill()
        again.wait()
        wait_for(lambda: processes_below(home) == [])
    finally:
        shutil.rmtree(home)


def start_making(home: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", MAKE, str(home)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def processes_below(home: Path) -> list[str]:
    """The command lines of processes that have to do with *home*."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            root = os.readlink(file.parent / "root") + os.readlink(file.parent / "cwd")
        except OSError:
            continue
        if str(home) in line or str(home) in root:
            found.append(line)
    return found


def wait_for(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def test_a_missing_tool_is_named_before_anything_is_made(
    made: Made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with Store(tmp_path) as store, pytest.raises(HakoError) as caught:
        ensure_base_images(store, tmp_path, SilentProgress())

    assert str(caught.value) == (
        "the base images cannot be made\n"
        "  why: mmdebstrap is not installed\n"
        "  fix: apt-get install -y mmdebstrap"
    )


@pytest.mark.parametrize("ours", ["hako/base-run:13", "hako/base-build:13", "hako/builder:13"])
def test_those_that_a_dockerfile_mentions_are_made_if_they_are_not_here(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ours: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # whoever begins to make them lacks a tool
    with Store(tmp_path) as empty:
        ensure_mentioned_images("FROM x:13", empty, tmp_path, SilentProgress(), Platform.host())
        with pytest.raises(HakoError, match="base images cannot be made"):
            ensure_mentioned_images(
                f"FROM {ours}\n", empty, tmp_path, SilentProgress(), Platform.host()
            )

    ensure_mentioned_images(
        "FROM hako/base-run:13\n", made.store, made.home, SilentProgress(), Platform.host()
    )


@pytest.mark.parametrize("pull", ["missing", "always"])
@pytest.mark.parametrize("name", ["hako/base-tiny:13", "docker.io/hako/builder:13"])
def test_those_that_a_container_shall_run_are_made_and_asked_of_no_registry(
    tmp_path: Path, name: str, pull: str
) -> None:
    program = "from hakobune.cli.main import run; run()"
    words = ["container", "run", "--pull", pull, name, "true"]

    done = subprocess.run(
        [sys.executable, "-I", "-c", program, *words],
        env={"PATH": str(tmp_path), "HAKO_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 125
    assert "the base images cannot be made\n  why: mmdebstrap is not installed" in done.stderr
    assert "asking" not in done.stderr


def test_a_disk_that_is_too_small_is_named_before_anything_is_made() -> None:
    with tiny_disk(64 << 20) as home, Store(home) as store:
        with pytest.raises(HakoError, match="the base images cannot be made") as caught:
            ensure_base_images(store, home, SilentProgress())

    assert caught.value.why.startswith("they take 1.0 GB, and ")


@pytest.mark.slow
def test_a_locked_version_that_is_gone_is_replaced_by_the_newest(
    made: Made, tmp_path: Path
) -> None:
    home = Path(tempfile.mkdtemp(prefix="hk-", dir="/tmp"))
    folder = tmp_path / "debian"
    shutil.copytree(DEFINITION, folder)
    lock = folder / "packages.lock"
    old = re.sub(r"(?m)^(\w+ run tzdata) \S+ \d+ \w+ (\S+)tzdata_\S+$", _gone, lock.read_text())
    lock.write_text(old)
    progress = RecordedProgress()
    shutil.copytree(made.home / "cache/apt", home / "cache/apt", copy_function=os.link)
    try:
        with Store(home) as store:
            images = ensure_base_images(store, home, progress, folder=folder)
            assert images.run.config.labels["io.buildpacks.stack.id"]
        assert len(list((home / "cache/apt").glob("*.lock"))) == 1
    finally:
        shutil.rmtree(home)

    (warning,) = progress.texts("warning")
    assert warning.startswith("the archive no longer has a locked Debian package, so the newest")


def _gone(match: re.Match[str]) -> str:
    return f"{match[1]} 2000a-1 1000 {'0' * 64} {match[2]}tzdata_2000a-1_all.deb"


def test_nothing_is_left_beside_images_and_packages(made: Made) -> None:
    assert sorted(path.name for path in (made.home / "cache").iterdir()) == ["apt", "base.lock"]
    assert made.store.verify() == ()


# What the specification demands (CNB platform.md "Build Image", "Run Image", "Target data")


def test_the_build_image_says_who_builds(made: Made) -> None:
    config = made.images.build.config

    assert config.config.user == "1001:1000"
    assert config.env["CNB_USER_ID"] == "1001"
    assert config.env["CNB_GROUP_ID"] == "1000"
    assert config.env["CNB_STACK_ID"] == "io.hakobune.stacks.trixie"
    assert config.env["PATH"].startswith("/usr/local/sbin:")


def test_run_images_have_another_user_and_can_be_rebased(made: Made) -> None:
    for image in (made.images.run, made.images.tiny):
        assert image.config.config.user == "1002:1000"
        assert image.config.labels["io.buildpacks.rebasable"] == "true"
        assert "CNB_USER_ID" not in image.config.env


def test_all_say_which_distribution_they_are(made: Made) -> None:
    for image in all_images(made.images):
        os_release = dict(
            line.partition("=")[::2] for line in made.read(image, "usr/lib/os-release").splitlines()
        )
        labels = image.config.labels
        assert labels["io.buildpacks.base.distro.name"] == os_release["ID"] == "debian"
        assert labels["io.buildpacks.base.distro.version"] == os_release["VERSION_ID"].strip('"')
        assert labels["io.buildpacks.stack.id"] == "io.hakobune.stacks.trixie"
        assert image.config.os == "linux"


def test_the_users_are_known_and_own_their_home(made: Made) -> None:
    for image, uid in (
        (made.images.build, 1001),
        (made.images.run, 1002),
        (made.images.tiny, 1002),
    ):
        assert f"cnb:*:{uid}:1000:" in made.read(image, "etc/passwd")
        assert "cnb:*:1000:" in made.read(image, "etc/group")
        assert made.owner(image, "home/cnb") == (uid, 1000)


def test_nothing_of_this_machine_or_of_the_making_is_in_them(made: Made) -> None:
    for image in all_images(made.images):
        for path in (
            "etc/hostname",
            "etc/resolv.conf",
            "etc/machine-id",
            "var/lib/apt/lists/lock",
            "etc/passwd-",
        ):
            assert not made.has(image, path), path
        for tree in made.trees(image):
            for name in ("dev", "tmp", "run", "var/tmp"):
                assert not (tree / name).is_dir() or not list((tree / name).iterdir()), name
            assert not [file for file in (tree / "var/log").rglob("*") if file.is_file()]


def test_no_file_is_younger_than_the_lock(made: Made) -> None:
    epoch = max(
        path.lstat().st_mtime for tree in made.trees(made.images.build) for path in tree.rglob("*")
    )

    assert made.images.build.config.created.startswith("20")
    created = subprocess.run(
        ["date", "-u", "-d", made.images.build.config.created, "+%s"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert epoch == int(created.stdout)


def test_the_build_image_is_the_run_image_and_more(made: Made) -> None:
    assert made.images.build.diff_ids[0] == made.images.run.diff_ids[0]
    assert len(made.images.build.diff_ids) == 2


# tiny


def test_tiny_has_neither_shell_nor_package_manager(made: Made) -> None:
    (tree,) = made.trees(made.images.tiny)

    programs = [
        path.name
        for path in tree.rglob("*")
        if path.is_file() and not path.is_symlink() and path.stat().st_mode & stat.S_IXUSR
        if ".so" not in path.name
    ]
    assert programs == []


def test_tiny_is_about_30_megabytes(made: Made) -> None:
    (tree,) = made.trees(made.images.tiny)
    size = sum(path.lstat().st_blocks * 512 for path in tree.rglob("*"))

    assert size < 32_000_000
    assert made.images.tiny.manifest.layers[0].size < 12_000_000


def test_tiny_knows_certificates_time_zones_services_and_its_packages(made: Made) -> None:
    tiny = made.images.tiny

    assert made.read(tiny, "etc/ssl/certs/ca-certificates.crt").count("BEGIN CERTIFICATE") > 100
    assert made.has(tiny, "usr/share/zoneinfo/Europe/Berlin")
    assert "https" in made.read(tiny, "etc/services")
    assert "hosts:" in made.read(tiny, "etc/nsswitch.conf")
    assert "Package: libc6" in made.read(tiny, "var/lib/dpkg/status.d/libc6")
    assert made.has(tiny, "usr/share/doc/libssl3t64/copyright")


@pytest.fixture
def program(made: Made, tmp_path: Path) -> Path:
    """A C++ program with OpenSSL and zlib, compiled in the build image."""
    source = tmp_path / "program.cc"
    source.write_text(
        "#include <iostream>\n#include <openssl/x509.h>\n#include <openssl/ssl.h>\n#include <zlib.h>\n"
        "int main() {\n"
        "  SSL_CTX *context = SSL_CTX_new(TLS_client_method());\n"
        "  X509_STORE *store = SSL_CTX_get_cert_store(context);\n"
        "  X509_STORE_load_file(store, X509_get_default_cert_file());\n"
        '  std::cout << zlibVersion()[0] << " " << (sk_X509_OBJECT_num(X509_STORE_get0_objects(store)) > 100)'
        " << std::endl;\n}\n"
    )
    # The program comes out through standard output: the copy of the image is thrown away.
    result = made.run(
        made.images.build,
        "/bin/sh",
        "-euc",
        'printf "%s" "$1" >/tmp/p.cc; g++ -O1 -o /tmp/p /tmp/p.cc -lssl -lcrypto -lz; base64 -w0 /tmp/p',
        "sh",
        source.read_text(),
    )
    assert result.returncode == 0, result.stderr
    compiled = tmp_path / "program"
    compiled.write_bytes(base64.b64decode(result.stdout))
    compiled.chmod(0o755)
    return compiled


def test_what_is_compiled_in_the_build_image_runs_on_tiny(made: Made, program: Path) -> None:
    extra = program.parent / "tree"
    (extra / "app").mkdir(parents=True)
    shutil.copy2(program, extra / "app/program")
    trees = [extra, *made.trees(made.images.tiny)]

    with tempfile.TemporaryDirectory(prefix="hk-top-") as top:
        result = subprocess.run(
            [
                *("unshare", "--mount", "--pid", "--fork", "--net", "/bin/sh", "-eu", "-c", ENTER),
                *("enter", "/app/program"),
            ],
            env={
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "LOWERS": ":".join(map(str, trees)),
                "TOP": top,
            },
            capture_output=True,
            text=True,
            check=False,
        )

    assert (result.stdout, result.stderr) == ("1 1\n", "")


# run


def test_packages_can_be_added_to_the_run_image(made: Made) -> None:
    script = (
        "apt-get update -q && apt-get install -qy --no-install-recommends hello && hello"
        " && find /var/cache/apt -type f ! -name lock && find /var/lib/apt/lists -name '*Translation*'"
    )

    result = made.run(made.images.run, "/bin/sh", "-c", script, network=True)

    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.endswith("Hello, world!\n")  # and no file that would stay in a layer


def test_the_run_image_is_a_consistent_system_without_manuals(made: Made) -> None:
    result = made.run(
        made.images.run, "/bin/sh", "-c", "dpkg --audit; dpkg --verify; ls /usr/share/man"
    )

    left_out = re.compile(r"missing +/usr/share/(doc|doc-base|man|info|locale|lintian|groff)/.*")
    assert [line for line in result.stdout.splitlines() if not left_out.fullmatch(line)] == []
    assert not made.has(made.images.run, "usr/share/locale/de")
    assert made.has(made.images.run, "usr/share/doc/libc6/copyright")


# build


def test_the_build_image_is_a_consistent_system(made: Made) -> None:
    assert made.run(made.images.build, "dpkg", "--audit").stdout == ""


@pytest.mark.parametrize(
    "tool", ["git", "gcc", "g++", "make", "curl", "patchelf", "python3", "pkg-config"]
)
def test_the_build_image_has_what_buildpacks_use(made: Made, tool: str) -> None:
    result = made.run(made.images.build, tool, "--version")

    assert (result.returncode, result.stderr) == (0, "")


def test_python_in_the_build_image_finds_its_bytecode_valid(made: Made) -> None:
    script = "import json, email, http.client, logging, tomllib, subprocess"

    result = made.run(made.images.build, "python3", "-v", "-c", script)

    loaded = [line for line in result.stderr.splitlines() if "code object from" in line]
    assert len(loaded) > 30
    assert [line for line in loaded if ".pyc" not in line] == []


def test_a_c_extension_compiles_in_the_build_image(made: Made) -> None:
    source = (
        "#include <Python.h>\n"
        'static struct PyModuleDef m = {PyModuleDef_HEAD_INIT, "ext", NULL, -1, NULL};\n'
        "PyMODINIT_FUNC PyInit_ext(void) { return PyModule_Create(&m); }\n"
    )
    script = (
        'cd /tmp; printf "%s" "$1" >ext.c; '
        "gcc -shared -fPIC $(pkg-config --cflags python3) -o ext.so ext.c; python3 -c 'import ext; print(ext.__name__)'"
    )

    result = made.run(made.images.build, "/bin/sh", "-euc", script, "sh", source)

    assert (result.stdout, result.stderr) == ("ext\n", "")


# The default builder (CNB distribution.md "Builder")


def test_the_builder_says_what_it_has(made: Made, builder: Builder) -> None:
    assert "hako/python" in [buildpack.id for buildpack in builder.buildpacks]
    assert all(element.version for group in builder.order for element in group.group)
    assert (builder.uid, builder.gid) == (1001, 1000)
    assert builder.image.config.config.working_dir == "/layers"
    assert made.store.find_image(Reference.parse("hako/builder:13")) == builder.image


def test_the_folders_of_a_build_belong_to_its_user(made: Made, builder: Builder) -> None:
    owners = {
        path: made.owner(builder.image, path)
        for path in (
            "layers",
            "workspace",
            "cnb",
            "cnb/buildpacks",
            "platform/env",
            "cnb/lifecycle/launcher",
        )
    }

    assert owners == {
        "layers": (1001, 1000),
        "workspace": (1001, 1000),
        "cnb": (0, 0),
        "cnb/buildpacks": (0, 0),
        "platform/env": (0, 0),
        "cnb/lifecycle/launcher": (0, 0),
    }


def test_the_builder_has_uv_the_launcher_and_the_order(made: Made, builder: Builder) -> None:
    assert made.run(builder.image, "uv", "--version").stdout.startswith("uv ")
    launched = made.run(builder.image, "/lifecycle/launcher")
    assert launched.returncode == 11
    assert "hako/python" in made.read(builder.image, "cnb/order.toml")
    assert "hako/base-run:13" in made.read(builder.image, "cnb/run.toml")


def test_a_buildpacks_modules_are_compiled_for_the_builders_python(
    made: Made, builder: Builder
) -> None:
    (python,) = (b for b in builder.buildpacks if b.id == "hako/python")
    script = f"import sys; sys.path.insert(0, '{python.directory}/lib'); import hako_python.build"

    result = made.run(builder.image, "python3", "-v", "-c", script)

    own = [
        line
        for line in result.stderr.splitlines()
        if "code object from" in line and "hako_python" in line
    ]
    assert own
    assert [line for line in own if ".pyc" not in line] == []


def test_a_changed_buildpack_gives_another_builder_and_a_changed_test_does_not(
    made: Made, builder: Builder, tmp_path: Path
) -> None:
    shutil.copytree(ROOT / "builders", tmp_path / "builders")
    shutil.copytree(ROOT / "buildpacks", tmp_path / "buildpacks")
    folder = tmp_path / "builders/debian"
    (tmp_path / "buildpacks/python/tests").mkdir(exist_ok=True)
    (tmp_path / "buildpacks/python/tests/new.py").write_text("")
    (tmp_path / "buildpacks/python/lib/hako_python/__init__.py").chmod(0o600)

    same = ensure_default_builder(made.store, made.home, SilentProgress(), folder=folder)
    (tmp_path / "buildpacks/python/lib/hako_python/new.py").write_text("")
    other = ensure_default_builder(made.store, made.home, SilentProgress(), folder=folder)
    back = ensure_default_builder(made.store, made.home, SilentProgress())

    assert same.image.digest == builder.image.digest
    assert other.image.digest != builder.image.digest
    assert back.image.digest == builder.image.digest
