"""The source copy: ignore rules, links to the last copy, times, edits while it is made."""

import os
import socket
import stat
import time
from pathlib import Path

import pytest

from hakobune.builds.source import SourceError, open_source
from hakobune.builds.source_copy import SourceCopy, copy_source, unchanged_digest
from hakobune.builds.source_listing import list_source

UID, GID = os.getuid(), os.getgid()


class Copies:
    """Copies of one source folder, each made from the one before."""

    def __init__(self, folder: Path) -> None:
        self.source = folder / "app"
        self.source.mkdir()
        self.folder = folder
        self.made: list[SourceCopy] = []

    def write(self, name: str, text: str = "x\n", *, age_s: float = 60) -> Path:
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        then = time.time() - age_s
        os.utime(path, (then, then))
        return path

    def copy(self, **arguments: object) -> SourceCopy:
        into = self.folder / f"copy{len(self.made)}"
        into.mkdir()
        last = self.made[-1].folder if self.made else None
        made = copy_source(
            open_source(self.source),
            into,
            last=last,
            uid=UID,
            gid=GID,
            **arguments,  # type: ignore[arg-type] # a test's own keyword
        )
        self.made.append(made)
        return made

    def in_copy(self, name: str) -> Path:
        return self.made[-1].tree / "workspace" / name

    def names(self) -> list[str]:
        root = self.made[-1].tree / "workspace"
        return sorted(
            str(p.relative_to(root)) for p in root.rglob("*") if p.is_symlink() or not p.is_dir()
        )


@pytest.fixture
def copies(tmp_path: Path) -> Copies:
    return Copies(tmp_path)


def listed(copies: Copies) -> set[str]:
    return {name for name, _ in list_source(open_source(copies.source)).entries}


def test_everything_is_copied_and_nothing_is_written_to_the_source(copies: Copies) -> None:
    copies.write("main.py", "print(1)\n")
    copies.write("shop/__init__.py", "")
    before = {p: os.lstat(p).st_mtime_ns for p in copies.source.rglob("*")}

    copies.copy()

    assert copies.names() == ["main.py", "shop/__init__.py"]
    assert copies.in_copy("main.py").read_text() == "print(1)\n"
    assert {p: os.lstat(p).st_mtime_ns for p in copies.source.rglob("*")} == before


def test_an_unchanged_file_is_a_link_to_the_last_copy_with_its_time(copies: Copies) -> None:
    copies.write("main.py")
    copies.copy()
    first = os.stat(copies.in_copy("main.py"))

    copies.copy()

    second = os.stat(copies.in_copy("main.py"))
    assert (second.st_ino, second.st_mtime_ns) == (first.st_ino, first.st_mtime_ns)


def test_a_changed_file_is_dated_now_whatever_its_own_time_says(copies: Copies) -> None:
    copies.write("main.py", "old")
    copies.copy()
    copies.write("main.py", "new!", age_s=10_000_000)
    before = time.time()

    made = copies.copy()

    assert copies.in_copy("main.py").read_text() == "new!"
    assert copies.in_copy("main.py").stat().st_mtime >= before - 0.1
    assert made.changed == ("main.py",)


def test_a_touched_file_with_the_same_contents_keeps_inode_and_time(copies: Copies) -> None:
    path = copies.write("main.py")
    copies.copy()
    first = os.stat(copies.in_copy("main.py"))
    os.utime(path)

    made = copies.copy()

    second = os.stat(copies.in_copy("main.py"))
    assert (second.st_ino, second.st_mtime_ns) == (first.st_ino, first.st_mtime_ns)
    assert made.changed == ()
    assert made.digest == copies.made[0].digest


def test_a_change_of_equal_length_and_restored_time_is_seen(copies: Copies) -> None:
    path = copies.write("main.py", "aaaa")
    copies.copy()
    times = os.stat(path)
    path.write_text("bbbb")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    copies.copy()

    assert copies.in_copy("main.py").read_text() == "bbbb"


def test_a_file_written_just_before_the_copy_is_read_again(copies: Copies) -> None:
    copies.write("main.py", age_s=0)
    made = copies.copy()

    digest = unchanged_digest(open_source(copies.source), made.folder, uid=UID, gid=GID)

    assert digest is None


def test_by_stat_alone_an_unchanged_source_has_the_digest_of_its_copy(copies: Copies) -> None:
    copies.write("main.py")
    copies.write("shop/web.py")
    made = copies.copy()
    source = open_source(copies.source)

    assert unchanged_digest(source, made.folder, uid=UID, gid=GID) == made.digest
    assert unchanged_digest(source, made.folder, uid=UID + 1, gid=GID) is None

    copies.write("new.py")
    assert unchanged_digest(source, made.folder, uid=UID, gid=GID) is None


def test_a_removed_file_is_gone_and_named(copies: Copies) -> None:
    copies.write("main.py")
    copies.write("old.py")
    copies.copy()
    (copies.source / "old.py").unlink()

    made = copies.copy()

    assert copies.names() == ["main.py"]
    assert made.changed == ("old.py",)


def test_the_digest_does_not_depend_on_times_and_owners(tmp_path: Path) -> None:
    digests = []
    for name, age_s in (("one", 10.0), ("two", 5000.0)):
        (tmp_path / name).mkdir()
        copies = Copies(tmp_path / name)
        copies.write("main.py", age_s=age_s)
        digests.append(copies.copy().digest)

    assert digests[0] == digests[1]


def test_the_digest_depends_on_the_executable_bit(copies: Copies) -> None:
    path = copies.write("run.sh")
    first = copies.copy().digest
    path.chmod(0o755)

    assert copies.copy().digest != first


def test_modes_do_not_depend_on_the_umask_of_whoever_wrote_the_file(copies: Copies) -> None:
    copies.write("secret.py").chmod(0o600)
    copies.write("run.sh").chmod(0o775)
    copies.write("suid.sh").chmod(0o4755)

    copies.copy()

    modes = {n: stat.S_IMODE(copies.in_copy(n).stat().st_mode) for n in copies.names()}
    assert modes == {"secret.py": 0o644, "run.sh": 0o755, "suid.sh": 0o755}


def test_links_stay_links_and_are_never_followed(copies: Copies, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("secret")
    copies.write("main.py")
    (copies.source / "inside").symlink_to("main.py")
    (copies.source / "out").symlink_to(tmp_path / "outside")
    (copies.source / "gone").symlink_to("nowhere")

    copies.copy()

    assert copies.names() == ["gone", "inside", "main.py", "out"]
    assert os.readlink(copies.in_copy("out")) == str(tmp_path / "outside")


def test_pipes_and_sockets_are_left_out_with_a_note(copies: Copies) -> None:
    copies.write("main.py")
    os.mkfifo(copies.source / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fsencode(os.path.relpath(copies.source / "sock")))

        made = copies.copy()

    assert copies.names() == ["main.py"]
    assert made.notes == ("pipe is a pipe: left out", "sock is a socket: left out")


def test_the_usual_suspects_are_left_out_without_any_ignore_file(copies: Copies) -> None:
    copies.write("main.py")
    for name in (".git/HEAD", ".venv/bin/python", "node_modules/a/b.js", "a/__pycache__/b.pyc"):
        copies.write(name)
    copies.write("a/b.py")

    assert listed(copies) == {"main.py", "a", "a/b.py"}


def test_gitignore_counts_in_every_folder_as_git_has_it(copies: Copies) -> None:
    copies.write(".gitignore", "*.log\n/build\n!keep.log\n")
    copies.write("sub/.gitignore", "!special.log\nlocal.txt\n")
    for name in ("a.log", "keep.log", "build/x", "sub/build/y", "sub/special.log", "sub/local.txt"):
        copies.write(name)

    assert listed(copies) == {
        ".gitignore",
        "keep.log",
        "sub",
        "sub/.gitignore",
        "sub/build",
        "sub/build/y",
        "sub/special.log",
    }


def test_gcloudignore_goes_before_gitignore_and_can_include_it(copies: Copies) -> None:
    copies.write(".gitignore", "*.log\n")
    copies.write(".gcloudignore", "docs/\n#!include:.gitignore\n")
    for name in ("main.py", "docs/a.md", "x.log"):
        copies.write(name)

    assert listed(copies) == {".gcloudignore", ".gitignore", "main.py"}


@pytest.mark.parametrize(
    ("descriptor", "expected"),
    [
        ('[_]\nschema-version = "0.2"\n[io.buildpacks]\nexclude = ["*.md", "data/"]\n', {".gitignore", "project.toml", "main.py", "lib", "lib/a.py"}),
        ('[_]\nschema-version = "0.2"\n[io.buildpacks]\ninclude = ["*.py"]\n', {"main.py", "lib", "lib/a.py"}),
    ],
)  # fmt: skip
def test_project_toml_goes_before_all_ignore_files(
    copies: Copies, descriptor: str, expected: set[str]
) -> None:
    copies.write("project.toml", descriptor)
    copies.write(".gitignore", "main.py\n")
    for name in ("main.py", "README.md", "data/x.bin", "lib/a.py"):
        copies.write(name)

    assert listed(copies) == expected


def test_no_such_folder_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as failure:
        open_source(tmp_path / "nowhere")

    assert str(failure.value) == (
        f"cannot build {tmp_path}/nowhere\n  why: there is no such folder\n  fix: check the path"
    )


def test_an_empty_folder_is_refused(copies: Copies) -> None:
    with pytest.raises(SourceError, match="nothing to build") as failure:
        copies.copy()

    assert failure.value.why == "the folder is empty"


def test_rules_that_leave_everything_out_are_named(copies: Copies) -> None:
    copies.write(".gitignore", "*\n")
    copies.write("main.py")

    with pytest.raises(SourceError) as failure:
        copies.copy()

    assert failure.value.why == ".gitignore leaves everything out: .gitignore, main.py"


def test_an_edit_while_the_copy_is_made_is_not_torn(copies: Copies) -> None:
    copies.write("a.py", "a1")
    copies.write("b.py", "b1")
    source = open_source(copies.source)
    edits = iter(["a2"])

    def edit_once(relative: str, *, is_directory: bool) -> bool:
        # The second walk asks about a.py again: by then somebody has saved it.
        if relative == "b.py" and (text := next(edits, None)):
            copies.write("a.py", text)
        return False

    source.rules.leaves_out = edit_once  # type: ignore[method-assign] # the walk is the moment of the edit
    into = copies.folder / "torn"
    into.mkdir()

    made = copy_source(source, into, last=None, uid=UID, gid=GID, pause=lambda _: None)

    assert (made.tree / "workspace/a.py").read_text() == "a2"


def test_a_file_that_never_rests_is_named(copies: Copies) -> None:
    path = copies.write("big.bin", "0" * 10)
    real_fstat = os.fstat
    size = iter(range(100, 10_000))

    def grow(_: float) -> None:
        path.write_text("0" * next(size))

    with pytest.MonkeyPatch.context() as patch:

        def fstat(descriptor: int) -> os.stat_result:
            status = real_fstat(descriptor)
            grow(0)
            return status

        patch.setattr("hakobune.builds.source_file_copy.os.fstat", fstat)
        with pytest.raises(SourceError, match="cannot copy") as failure:
            copies.copy(pause=lambda _: None)

    assert failure.value.why == "it changes while it is read"
