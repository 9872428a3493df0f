from __future__ import annotations

import pytest

from hakobune.dockerfile.errors import TextError
from hakobune.dockerfile.instructions import Mount, MountType, Sharing
from hakobune.dockerfile.mount import mount_target, read_mount, read_mount_flag


def mount(text: str) -> Mount:
    return read_mount(read_mount_flag(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "target=/x",
            Mount(type=MountType.BIND, target="/x", read_only=True),
        ),
        (
            "type=bind,from=b,source=a,dst=x,rw",
            Mount(type=MountType.BIND, target="x", from_="b", source="a"),
        ),
        (
            "type=cache,target=/c/",
            Mount(type=MountType.CACHE, target="/c/", id="/c"),
        ),
        (
            "type=cache,target=/c,id=i,sharing=LOCKED,mode=0700,uid=1,gid=2,ro",
            Mount(type=MountType.CACHE, target="/c", id="i", sharing=Sharing.LOCKED, mode=0o700, uid=1, gid=2, read_only=True),
        ),
        (
            "type=tmpfs,target=/t,size=1.5m",
            Mount(type=MountType.TMPFS, target="/t", size_bytes=3 * 2**19),
        ),
        (
            "type=secret,id=t,env=TOKEN,required",
            Mount(type=MountType.SECRET, target="", id="t", env="TOKEN", required=True, read_only=True),
        ),
        (
            "type=secret,target=/a/key,mode=0440",
            Mount(type=MountType.SECRET, target="/a/key", id="key", mode=0o440, read_only=True),
        ),
        (
            "type=ssh",
            Mount(type=MountType.SSH, target="", id="default", read_only=True),
        ),
        (
            'type=cache,"target=/a,b"',
            Mount(type=MountType.CACHE, target="/a,b", id="/a,b"),
        ),
    ],
)  # fmt: skip
def test_options_have_their_defaults(text: str, expected: Mount):
    assert mount(text) == expected


@pytest.mark.parametrize(
    ("text", "problem", "fix"),
    [
        ("type=cahce,target=/c", "unknown mount type 'cahce'", "did you mean cache?"),
        ("type=cache,targt=/c", "a mount has no option 'targt'", "did you mean target?"),
        ("type=cache,target", "the mount option 'target' needs a value", "target=VALUE"),
        ("type=cache,target=/c,sharing=lock", "unknown sharing 'lock'", "did you mean locked?"),
        ("type=bind,target=/c,ro=x", "ro is true or false, not 'x'", "write ro=true"),
        ("type=cache,target=/c,mode=8", "mode is an octal number such as 0400, not '8'", "mode=0400"),
        ("type=cache,target=/c,uid=me", "uid is a number, not 'me'", "uid=1000"),
        ("type=cache,target=/c,uid=" + "9" * 5000, "uid is a number, not '" + "9" * 5000 + "'", "uid=1000"),
        ("type=tmpfs,target=/c,size=" + "9" * 400, "'" + "9" * 400 + "' is not a size", "size=64m"),
        ("type=tmpfs,target=/c,size=big", "'big' is not a size", "size=64m"),
        ("type=bind,target=/c,size=1m", "a bind mount has no size", "type=tmpfs"),
        ("type=bind,target=/c,uid=1", "a bind mount has no uid", "leave uid out"),
        ("type=bind,target=/c,sharing=shared", "a bind mount has no sharing", "only type=cache"),
        ("type=cache,target=/c,required", "a cache mount has no required", "type=secret or type=ssh"),
        ("type=secret", "a secret mount needs an id or a target", "add id=NAME"),
        ("type=secret,id=a,source=b", "source and id of a secret are the same thing", "leave source out"),
        ("type=secret,id=a,from=b", "a secret mount has no from", "leave from out"),
        ('type=cache,tar"get=/c', '--mount=type=cache,tar"get=/c is not a list of options', "commas"),
        ("", "--mount has no options", "type=cache"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_told_with_a_fix(text: str, problem: str, fix: str):
    with pytest.raises(TextError) as caught:
        mount(text)

    assert caught.value.problem == problem
    assert fix in caught.value.fix


def test_values_are_expanded_but_not_where_a_mount_comes_from():
    flag = read_mount_flag("type=$T,target=/$D")

    result = read_mount(flag, lambda value: value.replace("$T", "cache").replace("$D", "d"))

    assert (result.type, result.target) == (MountType.CACHE, "/d")
    with pytest.raises(TextError, match="variable"):
        read_mount_flag("from=$X,target=/y")


@pytest.mark.parametrize(
    ("target", "working_dir", "absolute"),
    [("/a/../b", "/w", "/b"), ("x", "/w", "/w/x"), ("", "/w", "/w"), ("x", "", "/x")],
)
def test_a_target_is_relative_to_the_working_directory(
    target: str, working_dir: str, absolute: str
):
    assert mount_target(Mount(type=MountType.BIND, target=target), working_dir) == absolute


@pytest.mark.parametrize("target", ["/", "", "..", "/x/.."])
def test_a_mount_cannot_cover_the_root(target: str):
    with pytest.raises(TextError, match="root"):
        mount_target(Mount(type=MountType.CACHE, target=target), "/")
