"""`hako dockerfile build` with everything real: sandboxes, overlays, the cache, failures, secrets."""

from __future__ import annotations

import json
import os
import signal
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from hakobune.oci.manifest import Image
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from tests.dockerfile_world import BASE, fill, make_base_image
from tests.e2e.installation import Installation, new_installation, wait_until

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.needs_root,
]


def build(world: Installation, folder: Path, *arguments: str, check: bool = True) -> str:
    """Build *folder*; gives what was printed on stderr."""
    done = world.hako("dockerfile", "build", *arguments, str(folder), check=check, timeout_s=120)
    if not check:
        assert done.returncode != 0
    return done.stderr


def image_of(world: Installation, name: str) -> Image:
    with Store(world.home) as store:
        image = store.find_image(Reference.parse(name))
    assert image is not None
    return image


def run_in(world: Installation, name: str, *command: str) -> str:
    return world.hako("container", "run", "--rm", name, *command).stdout


def test_a_dockerfile_becomes_an_image_that_runs(world: Installation, tmp_path: Path) -> None:
    fill(
        tmp_path,
        {
            "Dockerfile": f"FROM {BASE}\nARG WHO=world\nENV GREETING=hello\nWORKDIR /app\nCOPY . .\n"
            'RUN echo "$GREETING $WHO" >said\nUSER app\nCMD ["/bin/cat", "said", "sub/file"]\n',
            "sub/file": "file\n",
        },
    )

    build(world, tmp_path, "-t", "first", "--build-arg", "WHO=there")

    assert run_in(world, "first") == "hello there\nfile\n"
    image = image_of(world, "first")
    assert image.config.config.user == "app"
    assert image.config.config.working_dir == "/app"
    assert [(line.created_by, line.empty_layer) for line in image.config.history[1:]] == [
        ("ARG WHO=there", True),
        ("ENV GREETING=hello", True),
        ("WORKDIR /app", False),
        ("COPY . .", False),
        ('RUN |1 WHO=there /bin/sh -c echo "$GREETING $WHO" >said', False),
        ("USER app", True),
        ('CMD ["/bin/cat" "said" "sub/file"]', True),
    ]


def test_steps_that_give_the_same_layer_can_be_built_on_and_run(
    world: Installation, tmp_path: Path
) -> None:
    times = "touch -d @1500000000 /a"
    fill(
        tmp_path,
        {
            "Dockerfile": f"FROM {BASE}\nRUN true\nRUN true\nRUN echo a >/a && {times}\nRUN echo b >/a\n"
            f"RUN echo a >/a && {times}\nRUN rm /a\nRUN echo a >/a && {times}\nRUN true\nRUN cat /a >/seen\n"
        },
    )

    build(world, tmp_path, "-t", "again")

    image = image_of(world, "again")
    assert len(set(image.diff_ids)) < len(image.diff_ids)
    assert run_in(world, "again", "/bin/cat", "/a", "/seen") == "a\na\n"


def test_an_unchanged_build_gives_the_same_image_and_runs_nothing(
    world: Installation, tmp_path: Path
) -> None:
    fill(tmp_path, {"Dockerfile": f"FROM {BASE}\nCOPY file /\nRUN date +%N >/now\n", "file": "1"})
    build(world, tmp_path, "-t", "same")
    first = image_of(world, "same")

    os.utime(tmp_path / "file", (1, 1))
    told = build(world, tmp_path, "-t", "same")

    assert image_of(world, "same").digest == first.digest
    assert told.count("CACHED") == 2
    assert "nothing has changed" in told


def test_a_changed_file_runs_what_depends_on_it_and_nothing_before(
    world: Installation, tmp_path: Path
) -> None:
    text = f"FROM {BASE}\nRUN date +%N >/before\nCOPY file /\nRUN date +%N >/after\n"
    fill(tmp_path, {"Dockerfile": text, "file": "1"})
    build(world, tmp_path, "-t", "changed")
    first = image_of(world, "changed")

    fill(tmp_path, {"file": "2"})
    build(world, tmp_path, "-t", "changed")

    second = image_of(world, "changed")
    same = [a == b for a, b in zip(first.diff_ids, second.diff_ids, strict=True)]
    assert same == [True, True, False, False]


def test_a_failing_command_is_told_with_its_line_code_and_last_output(
    world: Installation, tmp_path: Path
) -> None:
    text = f"FROM {BASE}\nRUN true\nRUN echo working; \\\n    echo broken >&2; exit 7\n"
    fill(tmp_path, {"Dockerfile": text})

    told = build(world, tmp_path, "-t", "fails", check=False)

    error = told.partition("error: ")[2]
    assert error.startswith("Dockerfile:3: RUN echo working;")
    assert "exit code 7; its last output:" in error
    assert "\n         working\n         broken\n" in error
    assert world.hako("image", "inspect", "fails", check=False).returncode != 0


def test_what_ran_before_a_failure_is_not_run_again(world: Installation, tmp_path: Path) -> None:
    fill(tmp_path, {"Dockerfile": f"FROM {BASE}\nRUN date +%N >/once\nRUN false\n"})
    build(world, tmp_path, check=False)

    fill(tmp_path, {"Dockerfile": f"FROM {BASE}\nRUN date +%N >/once\nRUN true\n"})
    told = build(world, tmp_path)

    assert "#1 CACHED" in told
    assert "#2 DONE" in told


def test_a_mistake_in_the_file_names_its_line_before_anything_runs(
    world: Installation, tmp_path: Path
) -> None:
    fill(tmp_path, {"Dockerfile": f"FROM {BASE}\nRUN touch /x\nCOPPY . .\n"})

    told = build(world, tmp_path, check=False)

    assert "error: Dockerfile:3" in told
    assert "COPY" in told
    assert "#1" not in told


def test_a_source_that_is_not_there_is_named_with_its_line(
    world: Installation, tmp_path: Path
) -> None:
    fill(tmp_path, {"Dockerfile": f"FROM {BASE}\nCOPY missing.txt /\n"})

    told = build(world, tmp_path, check=False)

    assert "error: Dockerfile:2: COPY missing.txt: missing.txt is not there" in told


SECRET = "k1f9-very-secret-value"


def test_a_secret_is_in_no_layer_log_history_key_or_process_list(
    world: Installation, tmp_path: Path
) -> None:
    text = (
        f"FROM {BASE}\n"
        "RUN --mount=type=secret,id=token cat /run/secrets/token | wc -c >/length && "
        "cat /proc/*/cmdline >/processes && stat -c '%a %u' /run/secrets/token >/mode\n"
        "RUN --mount=type=secret,id=token,env=TOKEN,required printf '%s' \"$TOKEN\" | sha256sum >/digest\n"
        "RUN --mount=type=secret,id=token,target=/etc/token,mode=0640,gid=1000 stat -c '%a %g' /etc/token >/other; "
        "echo x >/etc/token && echo written >>/other; true\n"
    )
    fill(tmp_path, {"Dockerfile": text})
    (tmp_path / "token").write_text(SECRET)
    (tmp_path / ".dockerignore").write_text("token\n")

    told = build(world, tmp_path, "-t", "secret", "--secret", f"id=token,src={tmp_path / 'token'}")

    image = image_of(world, "secret")
    with Store(world.home) as store:
        trees = [d for s in store.snapshots(image) for d in s.lower_dirs()]
        content = {
            path: path.read_bytes()
            for tree in trees
            for path in tree.rglob("*")
            if path.is_file() and not path.is_symlink()
        }
        assert not [path for path, data in content.items() if SECRET.encode() in data]
        found = {path.name: data for path, data in content.items()}
    assert found["length"].split() == [str(len(SECRET)).encode()]
    assert found["mode"] == b"400 0\n"
    assert found["other"] == b"640 1000\n"  # and not written to: it is mounted read-only
    assert not [path for tree in trees for path in tree.glob("run/secrets")]
    assert SECRET not in told
    assert SECRET.encode() not in image.raw_config
    for path in world.home.glob("dockerfile/**/*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes()


def test_another_value_of_a_secret_is_no_reason_to_run_again(
    world: Installation, tmp_path: Path
) -> None:
    fill(tmp_path, {"Dockerfile": f"FROM {BASE}\nRUN --mount=type=secret,id=t date +%N >/x\n"})
    (tmp_path / "t").write_text("one")
    build(world, tmp_path, "--secret", f"id=t,src={tmp_path / 't'}")
    (tmp_path / "t").write_text("two")

    told = build(world, tmp_path, "--secret", f"id=t,src={tmp_path / 't'}")

    assert "CACHED" in told


def test_a_required_secret_that_is_not_given_is_asked_for(
    world: Installation, tmp_path: Path
) -> None:
    fill(tmp_path, {"Dockerfile": f"FROM {BASE}\nRUN --mount=type=secret,id=x,required true\n"})

    told = build(world, tmp_path, check=False)

    assert "the secret 'x' is not given to this build" in told
    assert "--secret id=x" in told


def test_independent_stages_run_at_the_same_time(world: Installation, tmp_path: Path) -> None:
    # Each waits for the other: one after the other they would wait in vain.
    wait = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do [ -e /m/{} ] && exit 0; sleep 1; done; exit 1"
    mount = "RUN --mount=type=cache,id=meet,target=/m"
    text = (
        f"FROM {BASE} AS a\n{mount} touch /m/a; {wait.format('b')}\n"
        f"FROM {BASE} AS b\n{mount} touch /m/b; {wait.format('a')}\n"
        f"FROM {BASE}\nCOPY --from=a /etc/group /a\nCOPY --from=b /etc/group /b\n"
    )
    fill(tmp_path, {"Dockerfile": text})

    build(world, tmp_path, "-t", "parallel")

    assert len(image_of(world, "parallel").diff_ids) == 3


def test_a_failing_stage_ends_the_others(world: Installation, tmp_path: Path) -> None:
    text = (
        f"FROM {BASE} AS slow\nRUN sleep 120\nFROM {BASE} AS bad\nRUN sleep 1; exit 3\n"
        f"FROM {BASE}\nCOPY --from=slow /etc/group /a\nCOPY --from=bad /etc/group /b\n"
    )
    fill(tmp_path, {"Dockerfile": text})
    begun = time.monotonic()

    told = build(world, tmp_path, check=False)

    assert time.monotonic() - begun < 60
    assert "error: Dockerfile:4: RUN sleep 1; exit 3" in told


def test_a_locked_cache_mount_is_used_by_one_build_at_a_time(
    world: Installation, tmp_path: Path
) -> None:
    text = (
        f"FROM {BASE}\nARG N\nRUN --mount=type=cache,id=lock,target=/c,sharing=locked "
        "[ ! -e /c/busy ] && touch /c/busy && sleep 1 && rm /c/busy\n"
    )
    fill(tmp_path, {"Dockerfile": text})
    builds = [
        world.start("dockerfile", "build", "--build-arg", f"N={n}", str(tmp_path)) for n in range(3)
    ]

    results = [(process.communicate(timeout=120)[1], process.returncode) for process in builds]

    assert [code for _, code in results] == [0, 0, 0], results


def test_each_build_gets_a_private_cache_mount_of_its_own(
    world: Installation, tmp_path: Path
) -> None:
    text = (
        f"FROM {BASE}\nARG N\nRUN --mount=type=cache,id=own,target=/c,sharing=private "
        "[ ! -e /c/busy ] && touch /c/busy && sleep 2 && rm /c/busy\n"
    )
    fill(tmp_path, {"Dockerfile": text})
    builds = [
        world.start("dockerfile", "build", "--build-arg", f"N={n}", str(tmp_path)) for n in range(2)
    ]

    results = [(process.communicate(timeout=120)[1], process.returncode) for process in builds]

    assert [code for _, code in results] == [0, 0], results


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_build_leaves_no_process_no_mount_and_no_half_layer(
    world: Installation, tmp_path: Path, number: int
) -> None:
    mark = f"{number}77"
    text = f"FROM {BASE}\nRUN echo {mark} >/done\nRUN touch /half-{mark} && sleep {mark}\n"
    fill(tmp_path, {"Dockerfile": text})
    process = world.start("dockerfile", "build", "-t", "killed", str(tmp_path))
    wait_until(lambda: _sleeping(mark), what="the step")

    os.kill(process.pid, number)
    process.communicate(timeout=60)

    wait_until(lambda: not _sleeping(mark), what="the end of the step")
    assert str(world.home) not in Path("/proc/self/mountinfo").read_text()
    world.hako("image", "prune")
    assert list((world.home / "snapshots/.new").iterdir()) == []
    assert not list(world.home.glob(f"snapshots/*/tree/half-{mark}"))
    assert world.hako("image", "inspect", "killed", check=False).returncode != 0
    fill(tmp_path, {"Dockerfile": text.replace(f"sleep {mark}", "true")})
    assert "#1 CACHED" in build(world, tmp_path)


def _sleeping(mark: str) -> bool:
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[:2] == [b"sleep", mark.encode()]:
                return True
    return False


def test_the_same_input_and_timestamp_give_the_same_bytes_in_another_store(
    world: Installation, tmp_path: Path
) -> None:
    text = (
        f"FROM {BASE}\nWORKDIR /w\nCOPY . .\nRUN mkdir -p /d/e && echo 1 >/d/e/f && rm /etc/group\n"
    )
    fill(tmp_path, {"c/Dockerfile": text, "c/file": "1"})
    arguments = ("-t", "stamped", "--timestamp", "1700000000", str(tmp_path / "c"))

    with new_installation() as other:
        with Store(other.home) as store:
            make_base_image(store, tmp_path / "base")
        theirs = other.hako("dockerfile", "build", *arguments).stdout
    ours = world.hako("dockerfile", "build", *arguments).stdout

    assert ours == theirs
    assert image_of(world, "stamped").config.created == "2023-11-14T22:13:20Z"


def test_triggers_of_a_base_image_run_in_the_build_that_uses_it(
    world: Installation, tmp_path: Path
) -> None:
    fill(
        tmp_path,
        {
            "a/Dockerfile": f"FROM {BASE}\nONBUILD COPY file /copied\nONBUILD RUN cat /copied >/run\n",
            "b/Dockerfile": "FROM triggers\n",
            "b/file": "1\n",
        },
    )
    build(world, tmp_path / "a", "-t", "triggers")

    build(world, tmp_path / "b", "-t", "triggered")

    assert run_in(world, "triggered", "cat", "/run") == "1\n"
    assert image_of(world, "triggered").config.config.on_build == ()
    assert len(image_of(world, "triggers").config.config.on_build) == 2


def test_network_none_has_no_interface_and_host_is_refused(
    world: Installation, tmp_path: Path
) -> None:
    fill(tmp_path, {"Dockerfile": f"FROM {BASE}\nRUN ls /sys/class/net >/nets\n"})
    build(world, tmp_path, "-t", "net", "--network", "none")
    assert run_in(world, "net", "cat", "/nets") == "lo\n"
    build(world, tmp_path, "-t", "net")
    assert run_in(world, "net", "cat", "/nets") == "eth0\nlo\n"

    fill(tmp_path, {"Dockerfile": f"FROM {BASE}\nRUN --network=host true\n"})
    assert "Dockerfile:2: RUN --network=host" in build(world, tmp_path, check=False)


def test_root_of_a_step_is_nobody_outside(world: Installation, tmp_path: Path) -> None:
    text = (
        f"FROM {BASE}\nRUN cat /proc/self/uid_map >/map; mknod /dev/sda1 b 8 1 2>/dev/null || echo refused >/node; "
        "touch /proc/sys/kernel/hostname 2>/dev/null; echo x >/proc/sys/kernel/hostname || echo refused >/host\n"
    )
    fill(tmp_path, {"Dockerfile": text})

    build(world, tmp_path, "-t", "inside")

    inside, outside, count = run_in(world, "inside", "cat", "/map").split()
    assert (inside, count) == ("0", "65536")
    assert int(outside) >= 65536
    assert run_in(world, "inside", "cat", "/node", "/host") == "refused\nrefused\n"


def test_progress_as_json_is_one_event_a_line(world: Installation, tmp_path: Path) -> None:
    fill(tmp_path, {"Dockerfile": f"FROM {BASE}\nRUN echo ümläut\n"})

    told = build(world, tmp_path, "--progress", "json", "--no-cache")

    events = [json.loads(line) for line in told.splitlines()]
    assert [event["event"] for event in events] == ["step", "output", "note", "finished"]
    assert events[1]["text"] == "#1 ümläut"


def test_a_dockerfile_from_stdin_and_one_elsewhere(world: Installation, tmp_path: Path) -> None:
    fill(tmp_path, {"ctx/file": "1", "else/My.Dockerfile": f"FROM {BASE}\nCOPY file /x\n"})

    build(world, tmp_path / "ctx", "-f", str(tmp_path / "else/My.Dockerfile"), "-t", "elsewhere")

    assert run_in(world, "elsewhere", "cat", "/x") == "1"


def test_a_url_is_added_checked_and_not_fetched_again(world: Installation, tmp_path: Path) -> None:
    asked: list[str] = []
    server = _serve(b"content", asked)
    try:
        url = f"http://127.0.0.1:{server.server_port}/dir/file.bin?x=1"
        fill(tmp_path, {"Dockerfile": f"FROM {BASE}\nADD {url} /x/\n"})
        build(world, tmp_path, "-t", "url")
        told = build(world, tmp_path, "-t", "url")
        assert "CACHED" in told
        assert run_in(world, "url", "stat", "-c", "%a %Y", "/x/file.bin") == "600 1500000000\n"
        assert asked == ["GET", "GET 304"]

        right = "sha256:ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"
        fill(tmp_path, {"Dockerfile": f"FROM {BASE}\nADD --checksum={right} {url} /y\n"})
        build(world, tmp_path, "-t", "url")
        assert run_in(world, "url", "cat", "/y") == "content"
        wrong = right.replace("ed70", "ed71")
        fill(tmp_path, {"Dockerfile": f"FROM {BASE}\nADD --checksum={wrong} {url} /y\n"})
        assert "is not what --checksum says" in build(world, tmp_path, check=False)
    finally:
        server.shutdown()
        server.server_close()


def _serve(content: bytes, asked: list[str]) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.headers.get("If-None-Match") == '"tag"'
            asked.append("GET 304" if known else "GET")
            self.send_response(304 if known else 200)
            self.send_header("ETag", '"tag"')
            self.send_header("Last-Modified", "Fri, 14 Jul 2017 02:40:00 GMT")
            self.send_header("Content-Length", "0" if known else str(len(content)))
            self.end_headers()
            if not known:
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    return server


def test_prune_drops_the_cache_of_steps_when_asked(world: Installation, tmp_path: Path) -> None:
    with new_installation() as other:
        with Store(other.home) as store:
            make_base_image(store, tmp_path / "base")
        fill(tmp_path, {"c/Dockerfile": f"FROM {BASE}\nRUN date +%N >/x\n"})
        other.hako("dockerfile", "build", str(tmp_path / "c"))
        other.hako("image", "prune")
        assert "CACHED" in other.hako("dockerfile", "build", str(tmp_path / "c")).stderr

        other.hako("image", "prune", "--build-cache")

        assert "CACHED" not in other.hako("dockerfile", "build", str(tmp_path / "c")).stderr


def test_a_dangling_link_where_a_file_is_mounted_stays_one(
    world: Installation, tmp_path: Path
) -> None:
    text = (
        f"FROM {BASE}\nRUN mkdir /a && ln -s ../run/resolve/stub.conf /a/resolv.conf && rm -rf /run\n"
        "RUN --mount=type=bind,source=file,target=/a/resolv.conf cat /a/resolv.conf >/seen\n"
    )
    fill(tmp_path, {"Dockerfile": text, "file": "mounted"})

    build(world, tmp_path, "-t", "dangling")

    assert run_in(world, "dangling", "cat", "/seen") == "mounted"
    assert run_in(world, "dangling", "readlink", "/a/resolv.conf") == "../run/resolve/stub.conf\n"
    with Store(world.home) as store:
        last = store.snapshots(image_of(world, "dangling"))[-1]
    assert not (last.tree / "run").exists()


def test_a_copied_file_is_another_file_than_its_source_in_the_same_image(
    world: Installation, tmp_path: Path
) -> None:
    text = (
        f"FROM {BASE} AS s\nRUN mkdir /a && echo 1 >/a/f\n"
        "FROM s\nCOPY --from=s /a /b\nRUN [ ! /a/f -ef /b/f ] && cp /a/f /b/f\n"
    )
    fill(tmp_path, {"Dockerfile": text})

    build(world, tmp_path, "-t", "copied")

    assert run_in(world, "copied", "cat", "/b/f") == "1\n"


def test_what_a_stage_gives_unchanged_takes_no_room_again(
    world: Installation, tmp_path: Path
) -> None:
    text = (
        f"FROM {BASE} AS s\nRUN mkdir /a && echo shared >/a/f\n"
        f"FROM {BASE}\nCOPY --from=s /a /b\nRUN echo changed >/b/f\n"
    )
    fill(tmp_path, {"Dockerfile": text})

    build(world, tmp_path, "-t", "sharing")

    with Store(world.home) as store:
        *_, copied, changed = store.snapshots(image_of(world, "sharing"))
    assert (copied.tree / "b/f").stat().st_nlink == 2
    assert (copied.tree / "b/f").read_text() == "shared\n"
    assert (changed.tree / "b/f").read_text() == "changed\n"


def test_a_file_that_is_copied_twice_is_two_files_of_the_image(
    world: Installation, tmp_path: Path
) -> None:
    text = (
        f"FROM {BASE} AS s\nRUN mkdir /a && echo twice >/a/f && ln /a/f /a/g\n"
        f"FROM {BASE} AS once\nCOPY --from=s /a /x\n"
        "FROM once AS more\nCOPY --from=s /a /y\n"
        "FROM s\nCOPY --from=once /x /b\nCOPY --from=more /y /c\nCOPY --link --from=s /a /d\n"
        "RUN mkdir /t && cp -a /a /b /c /d /t && echo one >/t/c/f\n"
    )
    fill(tmp_path, {"Dockerfile": text})

    build(world, tmp_path, "-t", "once", "--target", "once")  # so that its layer is found, not made
    build(world, tmp_path, "-t", "twice")
    build(world, tmp_path, "-t", "more", "--target", "more")

    files = [f"/t/{name}" for name in ("a/f", "b/f", "c/f", "c/g", "d/f")]
    assert run_in(world, "twice", "cat", *files).split() == [*["twice"] * 2, *["one"] * 2, "twice"]
    with Store(world.home) as store:
        _, *layers, _ = store.snapshots(image_of(world, "twice"))
        _, *of_more = store.snapshots(image_of(world, "more"))
    for snapshots, folders in ((layers, "abcd"), (of_more, "xy")):
        pairs = zip(snapshots, folders, strict=True)
        files = {(one.tree / folder / "f").stat().st_ino for one, folder in pairs}
        assert len(files) == len(folders)


def test_a_folder_of_several_layers_is_copied_as_it_is_shown(
    world: Installation, tmp_path: Path
) -> None:
    text = (
        f"FROM {BASE} AS s\n"
        "RUN mkdir -p /a/one /a/both && echo 1 >/a/one/f && echo 2 >/a/both/f && echo 3 >/a/gone\n"
        "RUN rm /a/gone && echo 4 >/a/both/g && rm -r /a/one && mkdir /a/one && echo 5 >/a/one/g\n"
        "RUN mkdir /a/last && echo 6 >/a/last/f\n"
        f"FROM {BASE}\nCOPY --from=s /a /b\n"
    )
    fill(tmp_path, {"Dockerfile": text})

    build(world, tmp_path, "-t", "several")

    with Store(world.home) as store:
        *_, copied = store.snapshots(image_of(world, "several"))
    files = {
        str(path.relative_to(copied.tree)): (path.read_text(), path.stat().st_nlink)
        for path in copied.tree.rglob("*")
        if path.is_file()
    }
    assert files == {
        "b/both/f": ("2\n", 1),
        "b/both/g": ("4\n", 1),
        "b/last/f": ("6\n", 2),
        "b/one/g": ("5\n", 2),
    }


def test_a_stage_that_was_only_read_becomes_an_image_without_a_run(
    world: Installation, tmp_path: Path
) -> None:
    fill(
        tmp_path,
        {
            "Dockerfile": f"FROM {BASE} AS tools\nRUN date +%N >/made\n"
            f"FROM {BASE}\nCOPY --from=tools /made /copied\n"
        },
    )
    build(world, tmp_path, "-t", "reads-tools")
    copied = run_in(world, "reads-tools", "cat", "/copied")

    shown = build(world, tmp_path, "-t", "tools", "--target", "tools")

    assert "CACHED" in shown
    assert run_in(world, "tools", "cat", "/made") == copied
    world.hako("image", "save", "tools", "-o", str(tmp_path / "tools.tar"))


def test_a_linked_copy_by_name_depends_on_whom_the_name_means(
    world: Installation, tmp_path: Path
) -> None:
    text = "FROM {}\nRUN echo 'shop:x:{}:7::/:/bin/sh' >>/etc/passwd\nCOPY --link --chown=shop file /\n"
    fill(tmp_path, {"file": "1"})
    owners = []
    for uid in ("3001", "3002"):
        fill(tmp_path, {"Dockerfile": text.format(BASE, uid)})
        build(world, tmp_path, "-t", f"linked{uid}")
        owners.append(run_in(world, f"linked{uid}", "stat", "-c", "%u:%g", "/file").strip())

    assert owners == ["3001:7", "3002:7"]


def test_a_link_that_leads_nowhere_is_told_as_one(world: Installation, tmp_path: Path) -> None:
    (tmp_path / "outside").symlink_to("../../secret")
    for word in ("outside", "out*"):
        fill(tmp_path, {"Dockerfile": f"FROM {BASE}\nCOPY {word} /x\n"})

        told = build(world, tmp_path, check=False)

        assert f"Dockerfile:2: COPY {word}: outside is not there" in told
        assert "it is a symbolic link to ../../secret" in told


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("COPY ../x /y", 2, "build from a folder that has it"),
        ("COPY -r . /y", 2, "flags are written --name=value"),
        ("COPY /home/me/app /y", 2, "paths are those of the build context"),
        ("RUN true\nFROM small:1\nCOPY --from=biuld /etc/passwd /y", 4, "did you mean build, the stage?"),
        ("RUN true\nFROM biuld", 3, "did you mean build, the stage?"),
        ("COPY --chmod=755 dos.sh /\nRUN /dos.sh", 3, "/dos.sh has Windows line ends"),
        ("COPY --chmod=644 dos.sh /\nRUN /dos.sh", 3, "COPY --chmod=755"),
        ("RUN ['echo', 'a']", 2, "in double quotes"),
    ],
)  # fmt: skip
def test_a_common_mistake_is_told_with_its_line_and_the_likely_fix(
    world: Installation, tmp_path: Path, text: str, line: int, words: str
) -> None:
    fill(
        tmp_path,
        {"Dockerfile": f"FROM {BASE} AS build\n{text}\n", "dos.sh": "#!/bin/sh\r\necho\r\n"},
    )

    told = build(world, tmp_path, "--no-pull", check=False)

    assert f"error: Dockerfile:{line}: " in told
    assert words in told.partition("fix: ")[2]


def test_stages_that_begin_alike_do_it_once_and_the_next_build_gives_the_same_image(
    world: Installation, tmp_path: Path
) -> None:
    alike = "WORKDIR /w\nCOPY file .\nRUN date +%N >now && sleep 0.3\nRUN date +%N >later\n"
    text = (
        f"FROM {BASE} AS a\n{alike}RUN echo a >a\nFROM {BASE} AS b\n{alike}RUN echo b >b\n"
        f"FROM {BASE}\n{alike}COPY --from=a /w /a\nCOPY --from=b /w /b\n"
    )
    fill(tmp_path, {"Dockerfile": text, "file": "1"})

    told = build(world, tmp_path, "-t", "alike")

    assert "8 layers made" in told  # 4 that are alike, a, b, and two copies
    seen = run_in(world, "alike", "cat", "/w/now", "/a/now", "/b/now").split()
    assert len(set(seen)) == 1
    first = image_of(world, "alike")
    told = build(world, tmp_path, "-t", "alike")
    assert image_of(world, "alike").digest == first.digest
    assert "nothing has changed" in told


def test_a_step_in_common_that_fails_is_told_once(world: Installation, tmp_path: Path) -> None:
    alike = f"FROM {BASE} AS %s\nRUN sleep 0.3; exit 5\n"
    fill(tmp_path, {"Dockerfile": f"{alike % 'a'}{alike % 'b'}FROM {BASE}\n"
                    "COPY --from=a /etc/group /a\nCOPY --from=b /etc/group /b\n"})  # fmt: skip

    told = build(world, tmp_path, check=False)

    assert told.count("it ended with exit code 5") == 1
