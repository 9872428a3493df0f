"""`hako` with a registry between two installations: what one publishes the other runs, serves and builds on."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hakobune.errors import HakoError
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from tests.e2e.installation import HAKO, ROOT, Installation, new_installation, wait_until
from tests.forward_proxy import forward_proxy
from tests.image_maker import an_image
from tests.real_registry import PASSWORD, USER, make_tls, registry

pytestmark = pytest.mark.needs_root

SOURCE = str(ROOT / "examples" / "python-script")


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="hk-", dir="/var/tmp") as folder:
        with registry(Path(folder)) as host:
            yield host


def test_what_is_published_runs_and_is_served_elsewhere(
    shared_installation: Installation, seed_home: Path, host: str
) -> None:
    name = f"{host}/apps/web:1"

    built = shared_installation.hako("build", name, "--path", SOURCE, "--publish")
    with new_installation() as other:
        ran = other.hako("container", "run", "--entrypoint", "/bin/pwd", name)
        url = other.hako("deploy", "web", "--image", name).stdout.strip()
        status, page = other.get(host="web.localhost")
        images = other.hako("image", "ls", "--format", "json").stdout

    assert "PUBLISHING" in built.stderr
    assert "is not here: asking" in ran.stderr
    assert ran.stdout == "/workspace\n"
    assert url.startswith("http://")
    assert (status, page.decode().strip()) == (200, "Hello from the standard library.")
    assert json.loads(images)[0]["digest"] == built.stdout.strip().rpartition("@")[2]


def test_a_builder_and_a_run_image_from_a_registry_are_all_that_a_build_needs(
    shared_installation: Installation, seed_home: Path, host: str
) -> None:
    for image in ("builder", "base-run"):
        shared_installation.hako("image", "push", f"hako/{image}:13", f"{host}/{image}:13")
    flags = ["--builder", f"{host}/builder:13", "--run-image", f"{host}/base-run:13"]

    with new_installation() as other:
        refused = other.hako(
            "build", "web", "--path", SOURCE, *flags, "--pull", "never", check=False
        )
        built = other.hako("build", "web", "--path", SOURCE, *flags)
        wait_until(lambda: not other.pids(), timeout_s=120, what="the sync of 200 MB")

    assert refused.returncode == 1
    assert f"the builder {host}/builder:13 cannot be found" in refused.stderr
    assert "why: it may not be pulled" in refused.stderr
    assert built.stdout.startswith("docker.io/library/web@sha256:")


def test_the_proxy_of_the_environment_is_gone_through(
    here: Installation, host: str, tmp_path: Path
) -> None:
    """One that is spoken to by TLS, with a password; a registry with TLS behind it that nobody else can name."""
    tls = make_tls(tmp_path / "tls", "DNS:reg.invalid,IP:127.0.0.1")
    with registry(tmp_path / "registry", tls=tls) as behind, forward_proxy(behind, tls=tls, user="me:p@ss") as (proxy, heads):  # fmt: skip
        for name in ("reg.invalid", proxy):
            folder = here.home / "certs.d" / name
            folder.mkdir(parents=True)
            (folder / "ca.crt").write_bytes(tls.authority.read_bytes())
        with Store(here.home) as store:
            image = an_image(store, "reg.invalid/shop/web:1")
        env = {"HTTPS_PROXY": f"https://me:p%40ss@{proxy}", "NO_PROXY": "other.test, 10.0.0.0/8"}
        proxied = replace(here, extra_env={**here.extra_env, **env})

        pushed = proxied.hako("image", "push", "reg.invalid/shop/web:1")
        here.hako("image", "rm", "reg.invalid/shop/web:1")
        pulled = proxied.hako("image", "pull", "reg.invalid/shop/web:1")
        excepted = replace(here, extra_env={**proxied.extra_env, "NO_PROXY": ".invalid"})
        refused = excepted.hako("image", "pull", "reg.invalid/shop/web:1", check=False)

    assert str(image.digest) in pushed.stdout
    assert str(image.digest) in pulled.stdout
    assert heads
    assert all(head.startswith(b"CONNECT reg.invalid:443 ") for head in heads)
    assert "no host is called reg.invalid" in refused.stderr


def test_an_api_client_may_name_an_image_that_is_in_a_registry_only(
    shared_installation: Installation, seed_home: Path, host: str
) -> None:
    """The controller pulls it, in a process of its own."""
    from hakobune.cli.client import Client
    from hakobune.settings import Settings

    name = f"{host}/apps/api:1"
    shared_installation.hako("build", name, "--path", SOURCE, "--publish")
    with new_installation() as other:
        other.hako("serve")
        client = Client(Settings.from_environment(other.env, uid=0).api_socket)
        parent = "projects/hako/locations/local"
        document = {"template": {"containers": [{"image": name}]}}
        client.wait(client.create(parent, "services", "api", document))
        missing = {"template": {"containers": [{"image": f"{host}/apps/no:1"}]}}
        with pytest.raises(HakoError, match="it cannot be pulled"):
            client.create(parent, "services", "no", missing)
        status, _ = other.get(host="api.localhost")

    assert status == 200


# The commands


def test_a_round_through_a_registry(here: Installation, host: str) -> None:
    with Store(here.home) as store:
        image = an_image(store, "web")
    name = f"{host}/round/web"

    pushed = here.hako("image", "push", "web", f"{name}:1")
    again = here.hako("image", "push", "web", f"{name}:1")
    copied = here.hako("image", "copy", f"{name}:1", f"{name}:2")
    tags = here.hako("image", "tags", name)
    pulled = here.hako("image", "pull", f"{name}:2")
    up_to_date = here.hako("image", "pull", f"{name}:2")
    tag = here.hako("image", "delete", f"{name}:2", check=False)
    here.hako("image", "delete", f"{name}@{image.digest}")
    gone = here.hako("image", "pull", f"{name}:2", check=False)

    for done, at in ((pushed, "1"), (copied, "2"), (pulled, "2")):
        assert done.stdout == f"{name}:{at}@{image.digest}\n"
    assert "unchanged" in again.stderr
    assert tags.stdout.split() == ["1", "2"]
    assert "is up to date" in up_to_date.stderr
    assert tag.returncode == 1
    assert f"fix: hako image delete {name}@{image.digest}" in tag.stderr
    assert gone.returncode == 1
    assert gone.stderr == (
        f"error: cannot pull {name}:2\n"
        "  why: it is not there (404 MANIFEST_UNKNOWN)\n"
        "  fix: check the name and the tag; `hako image tags NAME` lists the tags\n"
    )


def test_an_index_is_made_pushed_and_kept_whole_on_request(here: Installation, host: str) -> None:
    with Store(here.home) as store:
        amd64 = an_image(store, "web:amd64")
        raw = amd64.raw_config.replace(b'"amd64"', b'"arm64"')
        arm64 = store.put_image(
            amd64.raw.replace(str(amd64.manifest.config.digest).encode(), _digest(raw).encode()),
            raw,
            names=[Reference.parse("web:arm64")],
        )
    name = f"{host}/multi/web:1"

    made = here.hako("image", "index", "create", name, "web:amd64", "web:arm64")
    twice = here.hako("image", "index", "create", "x", "web:amd64", name, check=False)
    here.hako("image", "push", name)
    other = Installation(home=here.home / "other", port=1, extra_env=here.extra_env)
    one = other.hako("image", "pull", "--platform", "linux/arm64", name)
    neither = other.hako("image", "pull", "--platform", "linux/s390x", name, check=False)
    whole = other.hako("image", "pull", "--all-platforms", name)
    listed = other.hako("image", "ls").stdout

    assert made.stdout == whole.stdout
    assert twice.returncode == 0  # the same image for a platform twice is one
    assert one.stdout == f"{name}@{arm64.digest}\n"
    assert neither.stderr == (
        f"error: {name} has no image for linux/s390x\n"
        "  why: it has linux/amd64, linux/arm64\n"
        "  fix: --platform linux/amd64\n"
    )
    assert "linux/amd64, linux/arm64" in listed


@pytest.mark.parametrize(
    ("how", "suffix"), [("zstd", "tar+zstd"), ("gzip", "tar+gzip"), ("uncompressed", "tar")]
)
def test_layers_are_pushed_in_the_compression_that_is_asked_for(
    here: Installation, host: str, how: str, suffix: str
) -> None:
    with Store(here.home) as store:
        image = an_image(store, "web", content=b"again")

    here.hako("image", "push", "web", f"{host}/again/web:{how}", "--compression-format", how)
    here.hako("image", "pull", f"{host}/again/web:{how}")

    manifest = json.loads(_skopeo("inspect", "--raw", f"{host}/again/web:{how}"))
    assert [layer["mediaType"] for layer in manifest["layers"]] == [
        f"application/vnd.oci.image.layer.v1.{suffix}"
    ]
    with Store(here.home) as store:
        pulled = store.find_image(Reference.parse(f"{host}/again/web:{how}"))
        assert pulled is not None
        assert pulled.diff_ids == image.diff_ids


def test_an_index_is_not_compressed_anew(here: Installation) -> None:
    with Store(here.home) as store:
        an_image(store, "one")
    here.hako("image", "index", "create", "several", "one")

    refused = here.hako("image", "push", "several", "--compression-format", "zstd", check=False)

    assert refused.returncode == 1
    assert "error: cannot compress several anew" in refused.stderr
    assert "fix: --platform OS/ARCH" in refused.stderr


def _skopeo(verb: str, *arguments: str) -> str:
    *options, name = arguments
    command = ["skopeo", verb, *options, "--tls-verify=false", f"docker://{name}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _digest(raw: bytes) -> str:
    from hakobune.oci.digest import Digest

    return str(Digest.of(raw))


def test_progress_for_programs_is_one_object_a_line(here: Installation, host: str) -> None:
    with Store(here.home) as store:
        an_image(store, "web", content=b"x" * 5_000_000)
    name = f"{host}/progress/web:1"

    done = here.hako("image", "push", "--progress", "json", "web", name)
    quiet = here.hako("image", "push", "--progress", "none", "web", name)

    events = [json.loads(line) for line in done.stderr.splitlines()]
    last = [event for event in events if event["event"] == "bytes"][-1]
    assert last["done"] == last["total"] > 0
    assert quiet.stderr == ""


@pytest.mark.parametrize(
    ("words", "code", "facts"),
    [
        ("pull nohost.invalid/x:1", 1, ["no host is called nohost.invalid"]),
        ("pull 127.0.0.1:1/x:1", 1, ["nobody listens at 127.0.0.1:1 (connection refused)"]),
        ("pull WRONG/x:1:2", 1, ["is not an image name"]),
        ("push nothing", 1, ["there is no image 'nothing' here", "`hako image pull`"]),
        ("delete HOST/x", 2, ["which one?", "fix: HOST/x:TAG, or HOST/x@DIGEST"]),
        ("tags HOST/nothing", 1, ["has no such repository (404 NAME_UNKNOWN"]),
        ("pull --platform nonsense HOST/x", 1, ["'nonsense' is not a platform"]),
        ("copy HOST/x:1 HOST/y:1", 1, ["cannot copy HOST/x:1 to HOST/y:1", "it is not there"]),
    ],
)
def test_what_goes_wrong_is_told_in_one_error(
    here: Installation, host: str, words: str, code: int, facts: list[str]
) -> None:
    done = here.hako("image", *words.replace("HOST", host).split(), check=False)

    assert done.returncode == code
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    for fact in facts:
        assert fact.replace("HOST", host) in done.stderr


def test_a_login_lets_us_in_until_a_logout(here: Installation, tmp_path: Path) -> None:
    with Store(here.home) as store:
        an_image(store, "web")

    def log_in(host: str, password: str) -> subprocess.CompletedProcess[str]:
        arguments = ["auth", "login", host, "--username", USER, "--password-stdin"]
        return subprocess.run(
            [HAKO, *arguments], env=here.env, input=password, capture_output=True, text=True
        )

    with registry(tmp_path / "private", users=True) as host:
        wrong = log_in(host, "wrong")
        stranger = here.hako("image", "push", "web", f"{host}/web:1", check=False)
        right = log_in(host, PASSWORD + "\n")
        pushed = here.hako("image", "push", "web", f"{host}/web:1", check=False)
        here.hako("auth", "logout", host)
        again = here.hako("image", "pull", f"{host}/web:1", check=False)
        arguments = [HAKO, "auth", "login", host]
        nobody = subprocess.run(
            arguments, env=here.env, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )

    assert wrong.returncode == 1
    assert wrong.stderr.startswith(
        f"error: cannot log in to {host}\n  why: {host} does not accept user 'ci'"
    )
    for refused in (stranger, again):
        assert refused.returncode == 1
        assert f"fix: `hako auth login {host}`" in refused.stderr
    assert right.returncode == 0, right.stderr
    assert right.stderr == f"logged in to {host} as 'ci', kept in {tmp_path}/.docker/config.json\n"
    assert pushed.returncode == 0
    assert nobody.returncode == 2
    assert "--password-stdin" in nobody.stderr
    assert PASSWORD not in "".join(d.stdout + d.stderr for d in (wrong, right, pushed, again))
