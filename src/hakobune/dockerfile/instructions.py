"""Every instruction of a Dockerfile as a frozen value (Dockerfile reference), with where it stands in the file.

`parse.parse` makes these; `substitute.substitute` returns one with its variables replaced. Nothing here decides or reads files.
Values are exactly as written until they are substituted: quotes, escapes and `$variables` are still inside.

They are msgspec structs, as all values of the language are: to make as many dataclasses costs 16 ms of each start (measured; these 0.4).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct, field


class Position(Struct, frozen=True):
    """Where an instruction stands: lines count from 1, both ends included; heredocs belong to it."""

    file: str
    line: int
    end_line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Heredoc(Struct, frozen=True, kw_only=True):
    """`<<NAME` with its body.

    Attributes:
        name: the delimiter without its quotes; for COPY and ADD also the name of the file.
        content: the body as it stands in the file, with its newlines; tabs of `<<-` still in front.
        expand: whether variables in the body are replaced (the delimiter was not quoted). For COPY and ADD the builder
            replaces them; for RUN the shell does, so a builder hands the body on as it is.
        strip_tabs: `<<-`: leading tabs do not count.
        descriptor: the number before `<<` in a shell command, 0 if there is none.
    """

    name: str
    content: str
    expand: bool = True
    strip_tabs: bool = False
    descriptor: int = 0

    @property
    def text(self) -> str:
        """The body with `<<-` applied."""
        if not self.strip_tabs:
            return self.content
        return "\n".join(line.lstrip("\t") for line in self.content.split("\n"))


class KeyValue(Struct, frozen=True):
    """`key=value`; in ARG the value may be absent (None), elsewhere it is always there."""

    key: str
    value: str | None

    @property
    def given(self) -> str:
        """The value, empty if there is none."""
        return self.value or ""


class MountType(StrEnum):
    BIND = "bind"
    CACHE = "cache"
    TMPFS = "tmpfs"
    SECRET = "secret"
    SSH = "ssh"


class Sharing(StrEnum):
    """Who may use a cache mount at the same time: everybody, one after the other, each its own."""

    SHARED = "shared"
    LOCKED = "locked"
    PRIVATE = "private"


class Mount(Struct, frozen=True, kw_only=True):
    """One `RUN --mount=…`, checked and with defaults filled in.

    Attributes:
        from_: stage, image or named context for bind and cache; empty: the build context (bind), nothing (cache).
        source: path in `from_` (default `/`); for a secret the same as `id`.
        target: where it appears, relative to WORKDIR if not absolute; empty only for secret (default /run/secrets/ID,
            or none at all if `env` is given) and ssh (default /run/buildkit/ssh_agent.N).
        id: of a cache (default: the target), a secret, or an ssh agent (default "default").
        read_only: default true for bind, secret, ssh. A writable bind's changes are thrown away.
        required: secret and ssh: fail if it is not given to the build.
        env: secret: also (or, without target, only) as this environment variable.
        mode, uid, gid: of a secret's file (default 0o400, 0, 0), an ssh socket (0o600), a new cache folder (0o755).
        size_bytes: limit of a tmpfs, 0 for none.
    """

    type: MountType
    target: str
    from_: str = ""
    source: str = ""
    id: str = ""
    sharing: Sharing = Sharing.SHARED
    read_only: bool = False
    required: bool = False
    env: str | None = None
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size_bytes: int = 0


class MountFlag(Struct, frozen=True):
    """`--mount=TEXT` as written. Everything but `from` may hold variables, so it becomes a `Mount` at substitution."""

    text: str
    from_: str


class Instruction(Struct, frozen=True, kw_only=True):
    """What all have in common.

    Attributes:
        at: where it stands.
        text: canonical source on one line: continuations joined, comments dropped, otherwise as written; heredoc bodies are
            not in it (they are in `heredocs` and the like).
    """

    at: Position
    text: str

    @property
    def keyword(self) -> str:
        """`RUN`, `COPY`, … in capitals."""
        return type(self).__name__.upper()


class Arg(Instruction, frozen=True, kw_only=True):
    """`ARG name[=default] …`"""

    variables: tuple[KeyValue, ...]


class Env(Instruction, frozen=True, kw_only=True):
    """`ENV key=value …` or the old `ENV key value`."""

    variables: tuple[KeyValue, ...]


class Label(Instruction, frozen=True, kw_only=True):
    """`LABEL key=value …`; keys are substituted, too."""

    labels: tuple[KeyValue, ...]


class Maintainer(Instruction, frozen=True, kw_only=True):
    """`MAINTAINER name`: sets the image's author (deprecated)."""

    name: str


class Transfer(Instruction, frozen=True, kw_only=True):
    """What ADD and COPY have in common.

    Attributes:
        sources: paths, globs (and for ADD: URLs, git repositories), as written, in order.
        files: heredocs among the sources: each is a file of that name with that text.
        destination: ends in `/` if it must be a folder.
        chown: `user[:group]`; empty: 0:0 for what comes from the context, as it is there for `COPY --from`.
        chmod: octal digits or symbolic (`u=rwX,go=rX`), empty to keep the source's mode.
        link: independent of what lies below (a layer of its own).
        exclude: patterns of what is left out, relative to each source, with `**` and `!`.
    """

    sources: tuple[str, ...]
    files: tuple[Heredoc, ...]
    destination: str
    chown: str = ""
    chmod: str = ""
    link: bool = False
    exclude: tuple[str, ...] = ()


class Copy(Transfer, frozen=True, kw_only=True):
    """`COPY`.

    Attributes:
        from_: a stage's name or number, an image or a named context; empty for the build context. Holds no variables.
        parents: the source's folders (after a `/./` pivot) are made below the destination.
    """

    from_: str = ""
    parents: bool = False


class Add(Transfer, frozen=True, kw_only=True):
    """`ADD`.

    Attributes:
        checksum: `sha256:…` of a URL's bytes (or a commit for git), empty for unchecked.
        keep_git_dir: of a git source; None: not said.
        unpack: None: local archives are unpacked, downloaded ones are not.
    """

    checksum: str = ""
    keep_git_dir: bool | None = None
    unpack: bool | None = None


class CommandLine(Struct, frozen=True, kw_only=True):
    """Arguments of RUN, CMD, ENTRYPOINT.

    Attributes:
        words: exec form: argv. Shell form: one word, the command for the stage's SHELL (may be empty: `()`).
        shell: whether SHELL stands in front.
        heredocs: RUN's bodies, in order.
    """

    words: tuple[str, ...]
    shell: bool
    heredocs: tuple[Heredoc, ...] = ()


class Network(StrEnum):
    DEFAULT = "default"
    NONE = "none"
    HOST = "host"


class Security(StrEnum):
    SANDBOX = "sandbox"
    INSECURE = "insecure"


class Run(Instruction, frozen=True, kw_only=True):
    """`RUN`.

    Attributes:
        mount_flags: as written.
        mounts: those flags, checked and typed; filled by `substitute`, empty before.
        network: None: not said (the build's own choice holds).
        security: None: not said.
        devices: `--device=` as written (CDI names).
    """

    command: CommandLine
    mount_flags: tuple[MountFlag, ...] = ()
    mounts: tuple[Mount, ...] = ()
    network: Network | None = None
    security: Security | None = None
    devices: tuple[str, ...] = ()


class Cmd(Instruction, frozen=True, kw_only=True):
    """`CMD`."""

    command: CommandLine


class Entrypoint(Instruction, frozen=True, kw_only=True):
    """`ENTRYPOINT`; it also drops the CMD that came from the base image (not one of the same stage)."""

    command: CommandLine


class Shell(Instruction, frozen=True, kw_only=True):
    """`SHELL ["executable", "parameter"]`."""

    words: tuple[str, ...]


class Workdir(Instruction, frozen=True, kw_only=True):
    """`WORKDIR`: relative to the last one."""

    path: str


class User(Instruction, frozen=True, kw_only=True):
    """`USER user[:group]`."""

    user: str


class Expose(Instruction, frozen=True, kw_only=True):
    """`EXPOSE`: words as written; after `substitute` each is one `PORT/PROTOCOL`, ranges spread out, sorted."""

    ports: tuple[str, ...]


class Volume(Instruction, frozen=True, kw_only=True):
    """`VOLUME`."""

    paths: tuple[str, ...]


class Stopsignal(Instruction, frozen=True, kw_only=True):
    """`STOPSIGNAL`: a name or a number; checked at substitution."""

    signal: str


class Healthcheck(Instruction, frozen=True, kw_only=True):
    """`HEALTHCHECK`, as OCI/Docker's configuration has it.

    Attributes:
        test: `("NONE",)`, `("CMD", …argv)` or `("CMD-SHELL", command)`.
        interval_ns, timeout_ns, start_period_ns, start_interval_ns: 0 for the default.
        retries: 0 for the default.
    """

    test: tuple[str, ...]
    interval_ns: int = 0
    timeout_ns: int = 0
    start_period_ns: int = 0
    start_interval_ns: int = 0
    retries: int = 0


class Onbuild(Instruction, frozen=True, kw_only=True):
    """`ONBUILD INSTRUCTION`.

    Attributes:
        expression: the trigger as the image's configuration stores it (heredoc bodies included).
        trigger: the same, parsed (it is checked here, not first in somebody else's build).
    """

    expression: str
    trigger: Instruction


class Stage(Struct, frozen=True, kw_only=True):
    """`FROM` and what follows it.

    Attributes:
        index: 0 for the first.
        name: of `AS name`, in lower case; empty if it has none.
        base: an image, an earlier stage's name or `scratch`; may hold variables of ARGs before the first FROM.
        platform: of `--platform`, may hold variables; empty if not said.
        text: the FROM line, canonical.
        instructions: all but FROM, in order.
    """

    index: int
    name: str
    base: str
    platform: str
    at: Position
    text: str
    instructions: tuple[Instruction, ...]

    @property
    def label(self) -> str:
        """How messages call it: its name, or its number."""
        return self.name or str(self.index)


class LintWarning(Struct, frozen=True, kw_only=True):
    """A lint-like remark, named as BuildKit's build checks are (`JSONArgsRecommended`, …); never stops a build."""

    rule: str
    message: str
    at: Position

    def __str__(self) -> str:
        return f"{self.at}: {self.message} ({self.rule})"


class Dockerfile(Struct, frozen=True, kw_only=True):
    """A whole file.

    Attributes:
        file: its name as messages show it.
        directives: `syntax`, `escape`, `check` as given.
        escape: `\\` or a backquote.
        meta_args: the ARGs before the first FROM.
        stages: at least one.
        line_checks: by the line of an instruction, what a comment `# check=…` above it says.
        warnings: what is legal and still worth saying.
    """

    file: str
    directives: Mapping[str, str]
    escape: str
    meta_args: tuple[Arg, ...]
    stages: tuple[Stage, ...]
    line_checks: Mapping[int, str] = field(default_factory=dict)
    warnings: tuple[LintWarning, ...] = ()
