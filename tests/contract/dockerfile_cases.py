"""Dockerfiles whose images BuildKit's answers are recorded of: every instruction and flag once alone and once combined."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

THEN = 1_500_000_000  # of everything in a context


@dataclass(frozen=True, slots=True)
class Case:
    """One build.

    Attributes:
        text: the Dockerfile, without its first line `FROM small:1` if it has no FROM.
        files: the context: text, `-> target` (a link), `MODE:text` (octal), `tar FORMAT` (an archive, see `an_archive`),
            `xattr NAME=VALUE` (a file with an extended attribute), or a name that ends in a slash.
        args: `--build-arg`.
        target: `--target`.
        fails: BuildKit refuses it, too.
    """

    name: str
    text: str
    files: Mapping[str, str] = field(default_factory=dict)
    args: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    fails: bool = False

    @property
    def dockerfile(self) -> str:
        text = self.text if self.text.endswith("\n") else f"{self.text}\n"
        return text if "FROM " in text else f"FROM small:1\n{text}"


def fill_context(folder: Path, files: Mapping[str, str]) -> None:
    """Make the context; all times are `THEN`."""
    folder.mkdir(parents=True)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
        elif text.startswith("-> "):
            path.symlink_to(text[3:])
        elif text.startswith("tar "):
            path.write_bytes(an_archive(text[4:]))
        elif text.startswith("xattr "):
            path.write_text(text)
            attribute, _, value = text[6:].partition("=")
            os.setxattr(path, attribute, value.encode())
        else:
            mode, colon, rest = text.partition(":")
            path.write_text(rest if colon and mode.isdecimal() else text)
            path.chmod(int(mode, 8) if colon and mode.isdecimal() else 0o644)
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
        os.utime(path, (THEN, THEN), follow_symlinks=False)
    folder.chmod(0o755)
    os.utime(folder, (THEN, THEN))


def an_archive(format: str) -> bytes:
    """A tar with files, folders, links and owners.

    Args:
        format: of `tarfile`: empty, `gz`, `bz2`, `xz`; or `./` (its own folder is in it), `cut` or `damaged` behind the first member.
    """
    if format in ("cut", "damaged"):
        whole = an_archive("")
        return whole[:700] if format == "cut" else whole[:512] + b"damaged" * 300
    if format == "./":
        return _an_archive_of_itself()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{format}") as tar:
        for name, kind, mode, rest in (
            ("top", tarfile.DIRTYPE, 0o750, ""),
            ("top/file", tarfile.REGTYPE, 0o640, "content"),
            ("top/tool", tarfile.REGTYPE, 0o4755, "tool"),
            ("top/link", tarfile.SYMTYPE, 0o777, "file"),
            ("top/hard", tarfile.LNKTYPE, 0o640, "top/file"),
            ("deep/er/file", tarfile.REGTYPE, 0o600, "deep"),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.mtime, info.uid, info.gid = kind, mode, THEN, 1002, 2000
            if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                info.linkname = rest
            data = rest.encode() if kind == tarfile.REGTYPE else b""
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _an_archive_of_itself() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, kind, mode in (
            ("./", tarfile.DIRTYPE, 0o700),
            ("./d", tarfile.DIRTYPE, 0o750),
            ("./d/f", tarfile.REGTYPE, 0o4755),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.mtime, info.uid, info.gid = kind, mode, THEN, 5, 6
            tar.addfile(info)
    return buffer.getvalue()


MODES = {"file": "1", "tool": "755:2", "d/sub/file": "4755:3", "d/suid": "6644:4"}


def copies(*modes: str) -> str:
    """A COPY with each of these modes, into a folder of its own."""
    return "".join(f"COPY --chmod={mode} . /{number}/\n" for number, mode in enumerate(modes))


TREE = {
    "a.txt": "a",
    "b.txt": "b",
    "c.md": "c",
    "run.sh": "755:#!/bin/sh\necho run\n",
    "dir/one": "1",
    "dir/two.txt": "640:2",
    "dir/sub/three": "3",
    "dir/link": "-> one",
    "empty/": "",
    "link.txt": "-> a.txt",
    "linkdir": "-> dir",
}

CASES = (
    # Configuration
    Case("env one", "ENV A=1"),
    Case("env several, quoted", "ENV A=1 B=\"two words\" C='$A' D=x\\ y"),
    Case("env old form", "ENV A two words"),
    Case("env replaces", "ENV A=1\nENV A=2 B=$A\nENV C=$B"),
    Case("env keeps its place", "ENV A=1 B=2\nENV A=3"),
    Case("env path", "ENV PATH=/opt/bin:$PATH"),
    Case(
        "env operators",
        "ENV A=abc\nENV B=${A:-x} C=${D:-x} E=${A:+y} F=${D:+y} G=${A#a} H=${A%c} I=${A/b/B} J=${A//b/}",
    ),
    Case("label one", "LABEL a=1"),
    Case("label several", 'LABEL b=2 a="one two" org.example.x="y"\nLABEL a=3'),
    Case("label with a variable", "ARG V=1\nLABEL version=$V key-$V=x"),
    Case("label over lines", "LABEL a=1 \\\n  # comment\n  b=2"),
    Case("maintainer", "MAINTAINER Jane <jane@example.org>"),
    Case("user name", "USER app"),
    Case("user number and group", "USER 1002:1000"),
    Case("user variable", "ARG U=app\nUSER $U"),
    Case("workdir absolute", "WORKDIR /app"),
    Case("workdir relative", "WORKDIR /a\nWORKDIR b\nWORKDIR ../c"),
    Case("workdir from the root", "WORKDIR app"),
    Case("workdir of a user", "USER app\nWORKDIR /home/app/x"),
    Case("workdir there already", "WORKDIR /tmp"),
    Case("workdir root", "WORKDIR /"),
    Case("workdir variable", "ENV D=/srv\nWORKDIR $D/x"),
    Case("workdir by a link", "RUN mkdir /real && ln -s /real /alias\nWORKDIR /alias/x"),
    Case("workdir through a dangling link", "RUN ln -s /nowhere /alias\nWORKDIR /alias"),
    Case("workdir trailing slash", "WORKDIR /app/"),
    Case("expose", "EXPOSE 80"),
    Case("expose several", "EXPOSE 8080/udp 443 80/tcp\nEXPOSE 80"),
    Case("expose twice", "EXPOSE 80 80/tcp 80/UDP 443-444/sctp"),
    Case("expose range", "EXPOSE 7000-7002"),
    Case("expose variable", "ARG P=99\nEXPOSE $P"),
    Case("volume", "VOLUME /data"),
    Case("volume json", 'VOLUME ["/b", "/a"]\nVOLUME /a /c'),
    Case("volume then written", "VOLUME /data\nRUN mkdir -p /data && echo 1 >/data/f"),
    Case("stopsignal", "STOPSIGNAL SIGTERM"),
    Case("stopsignal number", "STOPSIGNAL 9"),
    Case("cmd exec", 'CMD ["/bin/echo", "a b"]'),
    Case("cmd shell", "CMD echo $HOME"),
    Case("cmd twice", "CMD a\nCMD b"),
    Case("entrypoint exec", 'ENTRYPOINT ["/bin/echo"]'),
    Case("entrypoint shell", "ENTRYPOINT exec top -b"),
    Case(
        "entrypoint drops the base's cmd",
        'FROM small:1 AS base\nCMD ["x"]\nFROM base\nENTRYPOINT ["y"]',
    ),
    Case("entrypoint keeps the stage's cmd", 'CMD ["x"]\nENTRYPOINT ["y"]'),
    Case("entrypoint empty", 'ENTRYPOINT ["a"]\nENTRYPOINT []'),
    Case("cmd empty", "CMD []"),
    Case("shell", 'SHELL ["/bin/sh", "-ec"]\nRUN echo $0 >/f\nCMD x\nENTRYPOINT y'),
    Case("healthcheck none", "HEALTHCHECK NONE"),
    Case("healthcheck shell", "HEALTHCHECK CMD curl localhost || exit 1"),
    Case(
        "healthcheck options",
        'HEALTHCHECK --interval=5s --timeout=1m --start-period=500ms --start-interval=2s --retries=3 CMD ["/x", "y"]',
    ),
    Case("onbuild is kept", "ONBUILD RUN echo 1\nONBUILD COPY . /x"),
    Case(
        "onbuild fires",
        "FROM small:1 AS base\nONBUILD ENV A=1\nONBUILD COPY a.txt /from-trigger\nFROM base\nENV B=$A",
        TREE,
    ),
    Case(
        "everything in one",
        'ARG V=1\nENV A=$V\nLABEL l=$A\nEXPOSE 1\nVOLUME /v\nUSER app\nWORKDIR /w\nSTOPSIGNAL SIGINT\nHEALTHCHECK NONE\nSHELL ["/bin/sh", "-xc"]\nENTRYPOINT ["e"]\nCMD ["c"]\nONBUILD RUN x',
    ),
    # ARG
    Case("arg default", "ARG A=1\nRUN echo $A >/f"),
    Case("arg given", "ARG A=1\nRUN echo $A >/f", args={"A": "2"}),
    Case("arg without a value", "ARG A\nRUN echo ${A-unset} >/f"),
    Case("arg before from", "ARG TAG=1\nFROM small:$TAG\nRUN echo ${TAG-unset} >/f"),
    Case("arg before from, declared again", "ARG X=global\nFROM small:1\nARG X\nRUN echo $X >/f"),
    Case(
        "arg of a stage ends with it",
        "FROM small:1 AS a\nARG X=1\nFROM small:1\nRUN echo ${X-unset} >/f",
    ),
    Case(
        "arg is inherited by a stage", "FROM small:1 AS a\nARG X=1\nFROM a\nRUN echo ${X-unset} >/f"
    ),
    Case("arg under env", "ARG A=1\nENV A=2\nRUN echo $A >/f", args={"A": "3"}),
    Case("arg over env", "ENV A=2\nARG A=1\nRUN echo $A >/f"),
    Case("arg uses arg", "ARG A=1\nARG B=$A-2\nRUN echo $B >/f"),
    Case("arg several", "ARG A=1 B=2\nRUN echo $A$B >/f"),
    Case(
        "arg of platform",
        "FROM --platform=$BUILDPLATFORM small:1\nARG TARGETOS\nRUN echo $TARGETOS >/f",
    ),
    Case("arg unused in run", "ARG SECRET=x\nRUN echo 1 >/f"),
    Case(
        "arg proxy is not in history",
        "RUN echo ${HTTP_PROXY-unset}$http_proxy >/f",
        args={"HTTP_PROXY": "http://p:1"},
    ),
    Case(
        "arg proxy that is declared is in history",
        "ARG HTTP_PROXY\nRUN echo $HTTP_PROXY >/f",
        args={"HTTP_PROXY": "http://p:1"},
    ),
    # RUN
    Case("run shell", "RUN echo hello >/hello"),
    Case("run exec", 'RUN ["/bin/touch", "/made"]'),
    Case("run exec by path", 'RUN ["touch", "/made"]'),
    Case("run over lines", "RUN echo a >/f && \\\n    # comment\n    echo b >>/f"),
    Case("run deletes", "RUN rm /etc/group"),
    Case("run deletes what a step made", "RUN echo 1 >/f\nRUN rm /f"),
    Case(
        "run replaces a directory",
        "RUN mkdir /d && echo 1 >/d/old\nRUN rm -rf /d && mkdir /d && echo 2 >/d/new",
    ),
    Case("run moves a directory", "RUN mkdir /d && echo 1 >/d/f\nRUN mv /d /e"),
    Case("run chmod, chown", "RUN echo 1 >/f && chmod 4750 /f && chown app:extra /f"),
    Case("run links", "RUN echo 1 >/f && ln /f /g && ln -s f /h"),
    Case("run sticky directory", "RUN mkdir -m 1777 /t && mkdir -m 2755 /s"),
    Case(
        "run as a user",
        "USER app\nRUN id -u >/tmp/f; id -g >>/tmp/f; id -G >>/tmp/f; echo $HOME >>/tmp/f",
    ),
    Case("run as a number", "USER 4242\nRUN id -u >/tmp/f; id -g >>/tmp/f; echo $HOME >>/tmp/f"),
    Case("run as user and group", "USER app:extra\nRUN id -g >/tmp/f; id -G >>/tmp/f"),
    Case("run in a workdir", "WORKDIR /a/b\nRUN echo 1 >f; readlink -f . >g"),
    Case("run umask", "RUN umask >/f && mkdir /d && echo 1 >/d/f"),
    Case(
        "run environment",
        "ENV A=1\nARG B=2\nRUN env | grep -v -e ^_= -e ^SHLVL -e ^PWD -e ^OLDPWD -e ^OTEL -e ^TRACE | sort >/f",
    ),
    Case("run hostname", "RUN hostname >/f"),
    Case("run nothing", "RUN true"),
    Case("run leaves no mount points", "RUN rm -rf /proc /sys /dev 2>/dev/null; true"),
    Case("run writes etc hosts", "RUN echo 1.2.3.4 x >>/etc/hosts 2>/dev/null; true"),
    Case("run fifo", "RUN mknod /fifo p"),
    Case("run network none", "RUN --network=none find /sys/class/net -mindepth 1 | wc -l >/f"),
    Case("run stdin is empty", "RUN cat >/f"),
    Case("run tmpfs", "RUN --mount=type=tmpfs,target=/scratch echo 1 >/scratch/f; ls /scratch >/g"),
    Case("run tmpfs over tmp", "RUN --mount=type=tmpfs,target=/tmp,size=1m echo 1 >/tmp/f"),
    Case(
        "run cache",
        "RUN --mount=type=cache,target=/c echo 1 >/c/f\nRUN --mount=type=cache,target=/c cat /c/f >/g",
    ),
    Case(
        "run cache by id",
        "RUN --mount=type=cache,id=x1,target=/c echo 1 >/c/f\nRUN --mount=type=cache,id=x1,target=/d,sharing=locked cat /d/f >/g",
    ),
    Case(
        "run cache with owner",
        "RUN --mount=type=cache,id=x2,target=/c,uid=1002,gid=1000,mode=0700 stat -c '%u:%g %a' /c >/g",
    ),
    Case(
        "run cache from a stage",
        "FROM small:1 AS s\nRUN mkdir /seed && echo 1 >/seed/f\nFROM small:1\nRUN --mount=type=cache,id=x3,target=/c,from=s,source=/seed cat /c/f >/g",
    ),
    Case(
        "run cache from a stage has the stage's owner",
        "FROM small:1 AS s\nRUN mkdir -m 700 /seed && chown 7:8 /seed\nFROM small:1\n"
        "RUN --mount=type=cache,id=x6,from=s,source=/seed,target=/c,uid=9,mode=0711 stat -c '%u:%g %a' /c >/f",
    ),
    Case(
        "run cache read-only",
        "RUN --mount=type=cache,id=x4,target=/c,ro echo 1 >/c/f 2>/dev/null || echo ro >/g",
    ),
    Case(
        "run cache relative", "WORKDIR /w\nRUN --mount=type=cache,id=x5,target=c readlink -f c >/g"
    ),
    Case(
        "run bind context",
        "RUN --mount=type=bind,target=/ctx cp /ctx/a.txt /copied; stat -c %u /ctx/a.txt >/g",
        TREE,
    ),
    Case(
        "run bind source", "RUN --mount=type=bind,source=dir,target=/ctx find /ctx | sort >/g", TREE
    ),
    Case(
        "run bind file",
        "RUN --mount=type=bind,source=a.txt,target=/ctx/file cat /ctx/file >/g",
        TREE,
    ),
    Case(
        "run bind read-only",
        "RUN --mount=type=bind,target=/ctx echo x >/ctx/a.txt 2>/dev/null || echo ro >/g",
        TREE,
    ),
    Case(
        "run bind rw is thrown away",
        "RUN --mount=type=bind,target=/ctx,rw echo x >/ctx/a.txt && cat /ctx/a.txt >/g\nRUN --mount=type=bind,target=/ctx cat /ctx/a.txt >/h",
        TREE,
    ),
    Case(
        "run bind from a stage",
        "FROM small:1 AS s\nRUN mkdir /out && echo 1 >/out/f\nFROM small:1\nRUN --mount=type=bind,from=s,source=/out,target=/in cp /in/f /g",
    ),
    Case(
        "run bind from an image",
        "RUN --mount=type=bind,from=small:1,source=/etc,target=/in cat /in/group >/g",
    ),
    Case(
        "run bind ignores what is ignored",
        "RUN --mount=type=bind,target=/ctx find /ctx -type f | sort >/g",
        {**TREE, ".dockerignore": "*.md\ndir/sub\n"},
    ),
    Case(
        "run mounts in one another",
        "RUN --mount=type=tmpfs,target=/a --mount=type=bind,source=dir,target=/a/b/c "
        "--mount=type=bind,source=a.txt,target=/a/f find /a | sort >/f; stat -c '%a %u' /a/b /a/f >>/f",
        TREE,
    ),
    Case(
        "run mounts in a cache stay there as places",
        "RUN --mount=type=cache,id=x7,target=/c --mount=type=tmpfs,target=/c/d/e true\n"
        "RUN --mount=type=cache,id=x7,target=/c find /c | sort >/f; stat -c '%a %u' /c/d >>/f",
    ),
    Case(
        "run secret not given",
        "RUN --mount=type=secret,id=none ls /run/secrets >/g 2>/dev/null; true",
    ),
    Case(
        "run secret variable not given",
        "ENV X=1\nRUN --mount=type=secret,id=none,env=X echo ${X-unset} >/f",
    ),
    Case("run as somebody beyond all ids", "USER 4294967294\nRUN true", fails=True),
    Case(
        "run variables in a mount", "ARG T=/t\nRUN --mount=type=tmpfs,target=$T stat -c %n $T >/g"
    ),
    Case("run heredoc", 'RUN <<EOF\necho a >/f\necho "$PATH" >>/f\nEOF'),
    Case("run heredoc with shebang", "RUN <<EOF\n#!/bin/cat\nx\nEOF\nRUN echo 1 >/f"),
    Case("run heredoc to a program", "RUN cat <<EOF >/f\nbody $HOME\nEOF"),
    Case("run heredoc without expansion", "RUN cat <<'EOF' >/f\nbody $HOME\nEOF"),
    Case("run heredoc tabs", "RUN <<-EOF\n\techo a >/f\n\tEOF"),
    Case("run two heredocs", "RUN cat <<A <<B >/f\n1\nA\n2\nB"),
    # COPY: sources and destinations
    Case("copy file to a path", "COPY a.txt /x", TREE),
    Case("copy file into a folder", "COPY a.txt /x/", TREE),
    Case("copy file deep", "COPY a.txt /x/y/z/", TREE),
    Case("copy file into a folder that is there", "COPY a.txt /tmp", TREE),
    Case("copy over a file", "COPY a.txt /etc/group", TREE),
    Case("copy several", "COPY a.txt b.txt /x/", TREE),
    Case("copy json form", 'COPY ["a.txt", "b.txt", "/x/"]', TREE),
    Case("copy glob", "COPY *.txt /x/", TREE),
    Case("copy glob question mark", "COPY ?.md /x/", TREE),
    Case("copy glob class", "COPY [ab].txt /x/", TREE),
    Case("copy glob of folders", "COPY d* /x/", TREE),
    Case("copy glob below", "COPY dir/* /x/", TREE),
    Case("copy glob deeper", "COPY */sub /x/", TREE),
    Case("copy folder", "COPY dir /x", TREE),
    Case("copy folder with a slash", "COPY dir/ /x/", TREE),
    Case(
        "copy folder into one that is there",
        "RUN mkdir -m 700 /x && echo old >/x/one\nCOPY dir /x",
        TREE,
    ),
    Case("copy folder merges modes", "RUN mkdir -m 700 -p /x/sub\nCOPY dir /x", TREE),
    Case("copy all", "COPY . /x", TREE),
    Case("copy all to the workdir", "WORKDIR /x\nCOPY . .", TREE),
    Case("copy to dot slash", "WORKDIR /x\nCOPY a.txt ./", TREE),
    Case("copy to a relative path", "WORKDIR /x\nCOPY a.txt y/z", TREE),
    Case("copy to the root", "COPY . /", TREE),
    Case("copy empty folder", "COPY empty /x", TREE),
    Case("copy link to a file", "COPY link.txt /x/", TREE),
    Case("copy link to a folder", "COPY linkdir /x", TREE),
    Case("copy links inside", "COPY dir/ /x", TREE),
    Case(
        "copy dangling link inside", "COPY d /x", {"d/l": "-> nowhere", "d/abs": "-> /etc/passwd"}
    ),
    Case(
        "copy by a linked destination",
        "RUN mkdir /real && ln -s real /alias\nCOPY a.txt /alias/",
        TREE,
    ),
    Case("copy to a linked folder", "RUN mkdir /real && ln -s /real /alias\nCOPY dir /alias", TREE),
    Case(
        "copy to a linked file", "RUN echo old >/real && ln -s real /alias\nCOPY a.txt /alias", TREE
    ),
    Case("copy to a dangling link", "RUN ln -s /nowhere/x /alias\nCOPY a.txt /alias", TREE),
    Case(
        "copy below a linked parent",
        "RUN mkdir /real && ln -s /real /alias\nCOPY a.txt /alias/p/q",
        TREE,
    ),
    Case("copy over a link inside", "RUN mkdir /x && ln -s /etc/passwd /x/one\nCOPY dir /x", TREE),
    Case("copy folder over a file", "RUN echo 1 >/x\nCOPY dir /x", TREE, fails=True),
    Case("copy file over a folder inside", "RUN mkdir -p /x/one\nCOPY dir /x", TREE, fails=True),
    Case(
        "copy folder over a link inside",
        "RUN mkdir -p /x /y && ln -s /y /x/sub\nCOPY dir /x",
        TREE,
        fails=True,
    ),
    Case("copy what is not there", "COPY nothing /x", TREE, fails=True),
    Case("copy glob over a link to itself", "COPY */* /x/", {"round": "-> round", "d/f": "1"}),
    Case("copy glob without a match", "COPY *.nothing /x/", TREE),
    Case("copy glob without a match and a file", "COPY a.txt *.nothing /x/", TREE),
    Case("copy keeps modes", "COPY run.sh dir/two.txt /x/", TREE),
    Case("copy variable", "ARG F=a.txt D=/x\nCOPY $F ${D}/y", TREE),
    Case("copy name with blanks", 'COPY ["a b", "/x y/"]', {"a b": "1"}),
    Case("copy dot dot in the destination", "COPY a.txt /x/../y/", TREE),
    Case("copy up from the source", "COPY ../a.txt /x/", TREE),
    Case("copy slash in the source", "COPY /dir/one /x/", TREE),
    # COPY: flags
    Case("copy chown number", "COPY --chown=7:8 dir /x", TREE),
    Case("copy chown one number", "COPY --chown=7 a.txt /x/", TREE),
    Case("copy chown names", "COPY --chown=app:extra a.txt /x/y/", TREE),
    Case("copy chown user", "COPY --chown=app dir /x", TREE),
    Case("copy chown unknown", "COPY --chown=nobody-here a.txt /x", TREE),
    Case("copy chown variable", "ARG U=app\nCOPY --chown=$U a.txt /x", TREE),
    Case("copy chmod", "COPY --chmod=600 a.txt /x/", TREE),
    Case("copy chmod folder", "COPY --chmod=750 dir /x", TREE),
    Case("copy chmod into a new folder", "COPY --chmod=711 a.txt /p/q/", TREE),
    Case("copy chmod setuid", "COPY --chmod=4755 run.sh /x", TREE),
    Case("copy chmod symbolic", "COPY --chmod=u=rwX,go=rX dir /x", TREE),
    Case("copy chmod plus x", "COPY --chmod=+x a.txt dir /x/", TREE),
    Case(
        "copy chmod with several clauses",
        copies(
            "a=r,u+w,+X", "a-x,a+X", "u+X,a-x", "u=rwx,og=u-w", "u=rw,g=u+x", "ug=u", "=u", "g=urx"
        ),
        MODES,
    ),
    Case(
        "copy chmod set-id and sticky",
        copies("a=rx", "g=rs", "u+t", "o+t", "u=rws,g=rxs,o=rt", "=rwxt", "a=,+X", "u=s,g=t"),
        MODES,
    ),
    Case(
        "copy chmod octal makes folders without special bits",
        "COPY --chmod=1777 dir /n/x\nCOPY --chmod=6711 a.txt /q/w/",
        TREE,
    ),
    Case(
        "copy chown of strangers",
        "COPY --chown=app:nogroup a.txt /a\nCOPY --chown=ghost:extra a.txt /b\n"
        "COPY --chown=ghost:5 a.txt /c\nCOPY --chown=5:ghost a.txt /d\nCOPY --chown=:extra a.txt /e",
        TREE,
    ),
    Case(
        "copy chown names in an empty image",
        "FROM scratch\nCOPY --chown=app a.txt /x",
        TREE,
        fails=True,
    ),
    Case("copy chown large numbers", "COPY --chown=100000:200000 a.txt /x", TREE),
    Case("copy leaves attributes", "COPY . /x/", {"f": "xattr user.a=1", "d/g": "xattr user.b=2"}),
    Case(
        "copy unusual names",
        "COPY . /x/",
        {
            "new\nline": "1",
            "ünï": "2",
            "a" * 255: "3",
            " b ": "4",
            "-c": "5",
            "[d]*": "6",
            "e\\f": "7",
        },
    ),
    Case("copy chown and chmod", "COPY --chown=app:app --chmod=640 a.txt b.txt /x/", TREE),
    Case("copy link", "COPY --link a.txt /x/y", TREE),
    Case("copy link folder", "RUN mkdir -m 700 /x\nCOPY --link dir /x/", TREE),
    Case(
        "copy link with a mode is an ordinary copy",
        "RUN mkdir /r && ln -s /r /x\nCOPY --link --chmod=755 a.txt /x/a\nCOPY --link b.txt /y/b",
        TREE,
    ),
    Case("copy link with owner", "COPY --link --chown=7:8 dir /x/", TREE),
    Case("copy parents", "COPY --parents dir/sub/three /x/", TREE),
    Case("copy parents glob", "COPY --parents dir/*/three dir/*.txt /x/", TREE),
    Case("copy parents double star", "COPY --parents **/*.txt /x/", TREE),
    Case("copy parents pivot", "COPY --parents dir/./sub/three /x/", TREE),
    Case("copy parents folder", "COPY --parents dir/sub /x/", TREE),
    Case("copy parents missing", "COPY --parents dir/nothing /x/", TREE, fails=True),
    Case(
        "copy parents of links that lead nowhere",
        "COPY --parents d/gone d/round /x/",
        {"d/gone": "-> nothing", "d/round": "-> round"},
    ),
    Case("copy parents with chown", "COPY --parents --chown=7:8 dir/sub/three /x/", TREE),
    Case("copy exclude", "COPY --exclude=*.txt . /x/", TREE),
    Case("copy exclude with a leading slash", "COPY --exclude=/dir/one . /x/", TREE),
    Case("copy exclude several", "COPY --exclude=dir/sub --exclude=*.md . /x/", TREE),
    Case("copy exclude double star", "COPY --exclude=**/*.txt . /x/", TREE),
    Case("copy exclude a named file", "COPY --exclude=a.txt a.txt b.txt /x/", TREE),
    Case("copy exclude below a folder", "COPY --exclude=sub dir /x/", TREE),
    Case("copy exclude with an exception", "COPY --exclude=dir/* --exclude=!dir/one . /x/", TREE),
    # COPY --from
    Case(
        "from stage",
        "FROM small:1 AS s\nRUN echo 1 >/f && chmod 640 /f && chown app:extra /f\nFROM small:1\nCOPY --from=s /f /g",
    ),
    Case("from stage by number", "FROM small:1\nRUN echo 1 >/f\nFROM small:1\nCOPY --from=0 /f /g"),
    Case(
        "from stage folder",
        "FROM small:1 AS s\nRUN mkdir -p /d/e && echo 1 >/d/e/f && ln -s e/f /d/l && ln /d/e/f /d/h\nFROM small:1\nCOPY --from=s /d /x",
    ),
    Case(
        "from stage with chown",
        "FROM small:1 AS s\nRUN mkdir /d && echo 1 >/d/f && chown -R app /d\nFROM small:1\nCOPY --from=s --chown=7:8 /d /x/",
    ),
    Case(
        "from stage relative",
        "FROM small:1 AS s\nWORKDIR /w\nRUN echo 1 >f\nFROM small:1\nCOPY --from=s w/f /g",
    ),
    Case(
        "from stage link",
        "FROM small:1 AS s\nRUN mkdir /d && echo 1 >/d/f && ln -s /d /l\nFROM small:1\nCOPY --from=s /l /x",
    ),
    Case(
        "from stage absolute link inside",
        "FROM small:1 AS s\nRUN echo 1 >/t && ln -s /t /l\nFROM small:1\nCOPY --from=s /l /x",
    ),
    Case(
        "from stage glob",
        "FROM small:1 AS s\nRUN mkdir /d && echo 1 >/d/a1 && echo 2 >/d/a2 && echo 3 >/d/b\nFROM small:1\nCOPY --from=s /d/a* /x/",
    ),
    Case("from image", "COPY --from=small:1 /etc/group /g"),
    Case(
        "from to scratch",
        "FROM small:1 AS s\nRUN mkdir /d && echo 1 >/d/f\nFROM scratch\nCOPY --from=s /d /d",
    ),
    Case(
        "from setuid and sticky",
        "FROM small:1 AS s\nRUN mkdir -m 1777 /d && echo 1 >/d/f && chmod 4755 /d/f\nFROM small:1\nCOPY --from=s /d /x",
    ),
    Case(
        "from special files",
        "FROM small:1 AS s\nRUN mkdir /d && mknod /d/p p\nFROM small:1\nCOPY --from=s /d /x",
    ),
    # Stages
    Case(
        "stage from stage",
        "FROM small:1 AS a\nENV A=1\nRUN echo 1 >/f\nFROM a AS b\nENV B=2\nFROM b\nRUN echo $A$B >/g",
    ),
    Case("target", "FROM small:1 AS a\nRUN echo 1 >/f\nFROM a AS b\nRUN false", target="a"),
    Case("unneeded stage is skipped", "FROM small:1 AS a\nRUN false\nFROM small:1\nRUN echo 1 >/f"),
    Case(
        "two stages",
        "FROM small:1 AS a\nRUN echo 1 >/f\nFROM small:1 AS b\nRUN echo 2 >/f\nFROM small:1\nCOPY --from=a /f /a\nCOPY --from=b /f /b",
    ),
    Case("scratch config", 'FROM scratch\nCOPY a.txt /\nCMD ["/a.txt"]', TREE),
    Case("scratch with a workdir", "FROM scratch\nWORKDIR /w/x\nCOPY a.txt .", TREE),
    Case("a failing run", "RUN exit 7", fails=True),
    Case("a missing program", 'RUN ["/nothing"]', fails=True),
    # Ignore files
    Case("ignore", "COPY . /x", {**TREE, ".dockerignore": "*.txt\n# comment\n!b.txt\n"}),
    Case("ignore folder", "COPY . /x", {**TREE, ".dockerignore": "dir\n"}),
    Case(
        "ignore folder with an exception", "COPY . /x", {**TREE, ".dockerignore": "dir\n!dir/one\n"}
    ),
    Case("ignore double star", "COPY . /x", {**TREE, ".dockerignore": "**/*.txt\n"}),
    Case("ignore everything but", "COPY . /x", {**TREE, ".dockerignore": "*\n!dir\n"}),
    Case(
        "ignore a named source", "COPY a.txt /x", {**TREE, ".dockerignore": "a.txt\n"}, fails=True
    ),
    Case("ignore in a glob", "COPY ?.txt /x/", {**TREE, ".dockerignore": "a.txt\n"}),
    Case(
        "ignore what a link leads to",
        "COPY *.txt /x/",
        {**TREE, ".dockerignore": "a.txt\n"},
        fails=True,
    ),
    # ADD
    Case("add file", "ADD a.txt /x", TREE),
    Case("add folder", "ADD dir /x/", TREE),
    Case("add chown, chmod", "ADD --chown=7:8 --chmod=600 a.txt /x/", TREE),
    Case("add glob", "ADD *.txt /x/", TREE),
    Case("add link", "ADD --link a.txt /x/", TREE),
    Case("add exclude", "ADD --exclude=*.txt . /x/", TREE),
    Case("add what is no archive", "ADD a.tar.gz /x/", {"a.tar.gz": "no archive"}),
    Case("add archive", "ADD a.tar /x", {"a.tar": "tar "}),
    Case("add archive gzip", "ADD a.tgz /x/", {"a.tgz": "tar gz"}),
    Case("add archive bzip2", "ADD a.tar.bz2 /x/", {"a.tar.bz2": "tar bz2"}),
    Case("add archive xz", "ADD a.tar.xz /x/", {"a.tar.xz": "tar xz"}),
    Case("add archive under another name", "ADD whatever /x/", {"whatever": "tar gz"}),
    Case("add archive with chown", "ADD --chown=7:8 a.tar /x/", {"a.tar": "tar "}),
    Case(
        "add archive over what is there",
        "RUN mkdir -p /x/top/tool && echo 1 >/x/top/tool/f && mkdir -m 700 /x/deep && ln -s /etc /x/top/link\nADD a.tar /x",
        {"a.tar": "tar "},
    ),
    Case("add archive, not unpacked", "ADD --unpack=false a.tar /x/", {"a.tar": "tar "}),
    Case("add archive and a file", "ADD a.tar a.txt /x/", {"a.tar": "tar ", "a.txt": "a"}),
    Case("add archive of a folder itself", "ADD itself.tar /n/x/", {"itself.tar": "tar ./"}),
    Case(
        "add archive of a folder itself with chown",
        "ADD --chown=7:8 itself.tar /x",
        {"itself.tar": "tar ./"},
    ),
    Case("add archive with chmod", "ADD --chmod=700 b.tar /n/x/", {"b.tar": "tar "}),
    Case("add archive cut off", "ADD cut.tar /x/", {"cut.tar": "tar cut"}, fails=True),
    Case("add archive damaged", "ADD damaged.tar /x/", {"damaged.tar": "tar damaged"}, fails=True),
    Case("copy archive", "COPY a.tar /x/", {"a.tar": "tar "}),
    # Heredocs as files
    Case("copy heredoc", "ARG A=1\nCOPY <<EOF /f\nbody $A\nEOF"),
    Case("copy heredoc quoted", "ARG A=1\nCOPY <<'EOF' /f\nbody $A\nEOF"),
    Case("copy heredoc into a folder", "COPY <<one <<two /x/\n1\none\n2\ntwo"),
    Case("copy heredoc and a file", "COPY a.txt <<new /x/\n1\nnew", TREE),
    Case(
        "copy heredoc with flags", "COPY --chmod=755 --chown=app <<EOF /bin/script\n#!/bin/sh\nEOF"
    ),
    Case("add heredoc", "ADD <<EOF /f\nbody\nEOF"),
    # Language
    Case("escape directive", "# escape=`\nFROM small:1\nRUN echo a `\n  b >/f"),
    Case(
        "syntax directive",
        "# syntax=docker/dockerfile:1\nFROM small:1\nRUN echo 1 >/f".replace(
            "# syntax=docker/dockerfile:1\n", "# check=skip=all\n"
        ),
    ),
    Case("lower case", "from small:1\nrun echo 1 >/f\nFROM small:1\ncopy --from=0 /f /g"),
    Case("byte order mark", "\ufeffFROM small:1\nRUN echo 1 >/f"),
    Case("windows line ends", "FROM small:1\r\nRUN echo 1 >/f\r\n"),
)
