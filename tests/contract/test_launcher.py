"""The launcher against what the platform specification and upstream's acceptance tests say (facts/cnb.md §7)."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hakobune.oci.platform import Platform

BIN = Path(__file__).parents[2] / "launcher/bin"
LAUNCHER = Path(
    os.environ.get("HAKO_TEST_LAUNCHER", BIN / f"launcher-{Platform.host().architecture}")
)
PORT_ADAPTER = BIN / f"port-adapter-{Platform.host().architecture}"

BUILDPACKS = """
[[buildpacks]]
id = "0.9/buildpack"
version = "0.0.1"
api = "0.9"

[[buildpacks]]
id = "0.8/buildpack"
version = "0.0.1"
api = "0.8"

[[buildpacks]]
id = "0.3/buildpack"
version = "0.0.1"
api = "0.3"
"""
PROCESSES = """
[[processes]]
type = "web"
command = "echo"
args = ["Executing web process-type"]
direct = false
buildpack-id = "0.8/buildpack"

[[processes]]
type = "direct-process"
command = ["/bin/echo"]
args = ["Executing direct-process"]
direct = true
buildpack-id = "0.9/buildpack"

[[processes]]
type = "process.with.period"
command = "echo"
args = ["Executing process.with.period process-type"]
direct = false
buildpack-id = "0.8/buildpack"

[[processes]]
type = "worker"
command = "echo $WORKER_VAR"
args = []
direct = false
buildpack-id = "0.8/buildpack"

[[processes]]
type = "exec.d-checker"
command = "printenv VAR_FROM_EXEC_D | sed s/^/VAR_FROM_EXEC_D:\\\\ /"
args = []
direct = false
buildpack-id = "0.9/buildpack"

[[processes]]
type = "always"
command = ["/bin/echo", "always"]
args = ["default"]
direct = true
buildpack-id = "0.9/buildpack"

[[processes]]
type = "overridable"
command = ["/bin/echo"]
args = ["default"]
direct = true
buildpack-id = "0.9/buildpack"

[[processes]]
type = "appended"
command = ["/bin/echo"]
args = ["default"]
direct = true
buildpack-id = "0.8/buildpack"

[[processes]]
type = "somewhere"
command = ["/bin/pwd"]
direct = true
working-dir = "/usr"
buildpack-id = "0.9/buildpack"

[[processes]]
type = "script"
command = 'echo "$0-$1"'
args = ["a", "b"]
direct = false
buildpack-id = "0.3/buildpack"

[[processes]]
type = "only-tests"
command = ["/bin/echo", "tests"]
direct = true
exec-env = ["test"]
buildpack-id = "0.9/buildpack"

[[processes]]
type = "orphan"
command = ["/bin/echo"]
direct = true
buildpack-id = "nobody"
"""


@dataclass(frozen=True, slots=True)
class App:
    """The folders of an app image, with a way to start it."""

    root: Path

    def __post_init__(self) -> None:
        for folder in ("layers/config", "workspace", "process"):
            (self.root / folder).mkdir(parents=True)
        self.metadata(BUILDPACKS + PROCESSES)

    def metadata(self, text: str | bytes) -> None:
        data = text.encode() if isinstance(text, str) else text
        (self.root / "layers/config/metadata.toml").write_bytes(data)

    def write(self, path: str, text: str | bytes, *, mode: int = 0o644) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        file.chmod(mode)
        return file

    def layer(self, path: str, text: str | bytes, *, mode: int = 0o644) -> Path:
        """Write into the layer `layer` of the buildpack 0.8/buildpack."""
        return self.write(f"layers/0.8_buildpack/layer/{path}", text, mode=mode)

    def helper(self, path: str, toml: str | bytes, *, script: str = "") -> Path:
        """An exec.d program in the layer of 0.9/buildpack that gives this output."""
        output = self.write(f"output/{path}.toml", toml)
        text = f"#!/bin/sh\n{script}\ncat '{output}' >&3\n"
        return self.write(f"layers/0.9_buildpack/some_layer/exec.d/{path}", text, mode=0o755)

    def variables(self) -> dict[str, str]:
        """What an app image sets, with the folders of this one."""
        return {
            "PATH": "/cnb/process:/cnb/lifecycle:/usr/bin:/bin",
            "CNB_LAYERS_DIR": str(self.root / "layers"),
            "CNB_APP_DIR": str(self.root / "workspace"),
            "CNB_PLATFORM_API": "0.15",
            "CNB_DEPRECATION_MODE": "quiet",
        }

    def start(
        self,
        *arguments: str,
        entrypoint: str = "launcher",
        env: Mapping[str, str | None] = {},
        stdin: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """Run `/cnb/process/ENTRYPOINT`; a variable that is `None` is not set."""
        given = {**self.variables(), **env}
        result = subprocess.run(
            [f"/cnb/process/{entrypoint}", *arguments],
            executable=LAUNCHER,
            env={name: value for name, value in given.items() if value is not None},
            input=stdin.encode(),
            capture_output=True,
            timeout=20,
            check=False,
        )
        # Not by text=True, which changes line ends.
        return subprocess.CompletedProcess(
            result.args, result.returncode, result.stdout.decode(), result.stderr.decode()
        )


@pytest.fixture
def app(tmp_path: Path) -> App:
    return App(tmp_path)


@pytest.fixture
def upstream(app: App) -> App:
    """The layers of upstream's acceptance test."""
    app.layer("env/SOME_VAR", "some-bp-val")
    app.layer("env/WORKER_VAR", "worker-no-process-val")
    app.layer("env.launch/OTHER_VAR.append", "other-bp-val")
    app.layer("env.launch/OTHER_VAR.delim", "**")
    app.layer("env.launch/worker/WORKER_VAR", "worker-process-val")
    app.layer("profile.d/profile", "echo sourced bp profile\n")
    app.layer("bin/bp-executable", "#!/bin/sh\necho bp executable\n", mode=0o755)
    app.write("workspace/.profile", "echo sourced app profile\n")
    return app


# What upstream's acceptance tests expect


def test_a_process_type_is_started_by_the_name_of_its_link(upstream: App) -> None:
    assert upstream.start(entrypoint="web").stdout.endswith("Executing web process-type\n")


def test_arguments_are_appended_for_buildpack_apis_below_0_9(upstream: App) -> None:
    result = upstream.start("with user provided args", entrypoint="web")

    assert result.stdout.endswith("Executing web process-type with user provided args\n")


def test_only_the_last_path_element_of_the_link_counts(upstream: App) -> None:
    result = upstream.start(entrypoint="process.with.period")

    assert result.stdout.endswith("Executing process.with.period process-type\n")


def test_after_two_dashes_the_command_runs_without_a_shell(upstream: App) -> None:
    lines = upstream.start("--", "env").stdout.splitlines()

    assert "SOME_VAR=some-bp-val" in lines
    assert "OTHER_VAR=other-bp-val" in lines
    assert not [line for line in lines if line.startswith("CNB_")]
    assert "sourced bp profile" not in lines


def test_without_command_and_default_process_it_says_so_and_exits_82(upstream: App) -> None:
    result = upstream.start(env={"CNB_PROCESS_TYPE": "direct-process"})

    assert result.returncode == 82
    assert result.stdout.splitlines() == [
        "Warning: CNB_PROCESS_TYPE is not supported in Platform API 0.15",
        "Warning: Run with ENTRYPOINT 'direct-process' to invoke the 'direct-process' process type",
        "ERROR: failed to launch: determine start command: when there is no default process a command is required",
    ]


def test_a_users_command_runs_in_a_shell_after_the_profiles(upstream: App) -> None:
    result = upstream.start("echo something")

    assert result.stdout.splitlines() == ["sourced bp profile", "sourced app profile", "something"]


def test_arguments_of_a_users_command_are_tokens_that_the_shell_expands(upstream: App) -> None:
    result = upstream.start("echo", "$SOME_VAR", "$OTHER_VAR", "$WORKER_VAR")

    assert result.stdout.splitlines()[-1] == "some-bp-val other-bp-val worker-no-process-val"


def test_programs_of_launch_layers_are_on_the_path(upstream: App) -> None:
    assert upstream.start("bp-executable").stdout.splitlines()[-1] == "bp executable"


def test_a_users_variable_comes_before_what_a_buildpack_appends(upstream: App) -> None:
    result = upstream.start("--", "printenv", "OTHER_VAR", env={"OTHER_VAR": "other-user-val"})

    assert result.stdout == "other-user-val**other-bp-val\n"


def test_variables_of_a_process_type_are_set_for_it_alone(upstream: App) -> None:
    assert upstream.start(entrypoint="worker").stdout.splitlines()[-1] == "worker-process-val"


def test_helpers_run_in_order_see_each_others_variables_and_the_app_folder(upstream: App) -> None:
    script = 'echo "$0 was executed"; echo "Exec.d Working Dir: $(pwd)"'
    upstream.helper(
        "helper",
        'VAR_FROM_EXEC_D = "orig-val:val-from-exec.d"',
        script=script,
    )
    own = upstream.write(
        "layers/0.9_buildpack/some_layer/exec.d/exec.d-checker/helper",
        f"#!/bin/sh\n{script}\n"
        'echo "VAR_FROM_EXEC_D = \\"$VAR_FROM_EXEC_D:val-for-exec.d-checker\\"" >&3\n',
        mode=0o755,
    )

    result = upstream.start(entrypoint="exec.d-checker", env={"VAR_FROM_EXEC_D": "orig-val"})

    workspace = upstream.root / "workspace"
    assert result.stdout.splitlines() == [
        f"{own.parents[1]}/helper was executed",
        f"Exec.d Working Dir: {workspace}",
        f"{own} was executed",
        f"Exec.d Working Dir: {workspace}",
        "sourced bp profile",
        "sourced app profile",
        "VAR_FROM_EXEC_D: orig-val:val-from-exec.d:val-for-exec.d-checker",
    ]


# Choosing the process


@pytest.mark.parametrize(
    ("type_", "arguments", "platform", "printed"),
    [
        ("overridable", [], "0.10", "default"),
        ("overridable", ["mine"], "0.10", "mine"),
        ("overridable", ["mine"], "0.9", "default mine"),
        ("appended", ["mine"], "0.10", "default mine"),
        ("always", [], "0.10", "always default"),
        ("always", ["mine"], "0.10", "always mine"),
    ],
)
def test_arguments_replace_or_follow_a_process_own(
    app: App, type_: str, arguments: Sequence[str], platform: str, printed: str
) -> None:
    result = app.start(*arguments, entrypoint=type_, env={"CNB_PLATFORM_API": platform})

    assert result.stdout == printed + "\n"


def test_arguments_for_a_process_of_an_unknown_buildpack_are_an_error(app: App) -> None:
    result = app.start("mine", entrypoint="orphan")

    assert (result.returncode, result.stdout) == (
        82,
        "ERROR: failed to launch: determine start command: no buildpack with id 'nobody'\n",
    )


def test_a_process_for_another_execution_environment_is_not_found(app: App) -> None:
    result = app.start(entrypoint="only-tests")

    assert (result.returncode, result.stdout) == (
        82,
        "ERROR: failed to launch: determine start command: process type only-tests was not found\n",
    )


@pytest.mark.parametrize(
    "env", [{"CNB_EXEC_ENV": "test"}, {"CNB_PLATFORM_API": "0.14"}], ids=["same", "older platform"]
)
def test_a_process_for_this_execution_environment_runs(app: App, env: dict[str, str]) -> None:
    assert app.start(entrypoint="only-tests", env=env).stdout == "tests\n"


def test_the_execution_environment_stays_in_the_environment(app: App) -> None:
    result = app.start("--", "printenv", "CNB_EXEC_ENV", env={"CNB_EXEC_ENV": "test"})

    assert result.stdout == "test\n"


def test_a_lone_pair_of_dashes_is_a_shell_command(app: App) -> None:
    result = app.start("--")

    assert result.returncode == 2
    assert result.stderr.startswith("bash: -c: option requires an argument")


def test_a_script_of_an_old_buildpack_gets_its_arguments_as_parameters(app: App) -> None:
    assert app.start(entrypoint="script").stdout == "a-b\n"


def test_a_process_starts_in_its_working_directory(app: App) -> None:
    assert app.start(entrypoint="somewhere").stdout == "/usr\n"


def test_a_process_starts_in_the_app_folder_otherwise(app: App) -> None:
    assert app.start("--", "pwd").stdout == f"{app.root}/workspace\n"


@pytest.mark.parametrize(
    ("arguments", "env", "printed"),
    [
        ([], {}, "Executing web process-type"),
        ([], {"CNB_PROCESS_TYPE": "direct-process"}, "Executing direct-process"),
        (["direct-process"], {}, "Executing direct-process"),
        (["--", "echo", "hello"], {}, "hello"),
    ],
)
def test_platform_0_3_chooses_by_variable_or_argument(
    app: App, arguments: list[str], env: dict[str, str], printed: str
) -> None:
    result = app.start(*arguments, env={"CNB_PLATFORM_API": "0.3", **env})

    assert result.stdout == printed + "\n"


# The environment


def test_folders_that_only_start_processes_leave_the_path_and_nothing_else_does(app: App) -> None:
    path = "/cnb/process:/a::/cnb/lifecycle:/usr/bin:/cnb/process:/cnb/processes"

    assert app.start("--", "printenv", "PATH", env={"PATH": path}).stdout == (
        "/a::/usr/bin:/cnb/processes\n"
    )


def test_later_buildpacks_and_later_layers_come_first_on_the_path(app: App) -> None:
    for layer in ("0.9_buildpack/b", "0.8_buildpack/a", "0.8_buildpack/z"):
        (app.root / "layers" / layer / "bin").mkdir(parents=True)
        (app.root / "layers" / layer / "lib").mkdir()

    result = app.start("--", "printenv", "PATH", "LD_LIBRARY_PATH", env={"PATH": "/usr/bin"})

    layers = app.root / "layers"
    order = ("0.8_buildpack/z", "0.8_buildpack/a", "0.9_buildpack/b")
    assert result.stdout.splitlines() == [
        ":".join([*(f"{layers}/{layer}/bin" for layer in order), "/usr/bin"]),
        ":".join(f"{layers}/{layer}/lib" for layer in order),
    ]


def test_a_link_to_a_directory_is_no_layer(app: App) -> None:
    app.write("elsewhere/env/FROM_LINK", "x")
    (app.root / "layers/0.8_buildpack").mkdir()
    (app.root / "layers/0.8_buildpack/link").symlink_to(app.root / "elsewhere")

    assert app.start("--", "printenv", "FROM_LINK").returncode == 1


@pytest.mark.parametrize(
    ("files", "before", "after"),
    [
        ({"V": "new"}, "old", "new"),
        ({"V.override": "new"}, "old", "new"),
        ({"V.default": "new"}, "old", "old"),
        ({"V.default": "new"}, None, "new"),
        ({"V.default": "new"}, "", "new"),
        ({"V.append": "new"}, "old", "oldnew"),
        ({"V.append": "new", "V.delim": ", "}, "old", "old, new"),
        ({"V.append": "new", "V.delim": ", "}, None, "new"),
        ({"V.prepend": "new", "V.delim": ":"}, "old", "new:old"),
        ({"V.prepend": "new"}, "old", "newold"),
        ({"V": " kept as it is $HOME\n"}, None, " kept as it is $HOME\n"),
        ({"V.unknown": "new"}, "old", "old"),
        ({"V.append.twice": "new"}, "old", "old"),
        ({"V": ""}, "old", ""),
    ],
)
def test_files_change_a_variable_by_their_suffix(
    app: App, files: dict[str, str], before: str | None, after: str
) -> None:
    for name, content in files.items():
        app.layer(f"env/{name}", content)

    result = app.start("--", "printenv", "V", env={"V": before})

    assert result.stdout == after + "\n"


def test_below_api_0_5_a_file_without_suffix_is_prepended(app: App) -> None:
    app.write("layers/0.3_buildpack/layer/env/V", "new")
    app.write("layers/0.3_buildpack/layer/env/W", "new")
    app.write("layers/0.3_buildpack/layer/env/W.delim", "-")

    result = app.start("--", "printenv", "V", "W", env={"V": "old", "W": "old"})

    assert result.stdout == "new:old\nnew-old\n"


def test_folders_among_environment_files_are_skipped(app: App) -> None:
    app.layer("env/FOLDER/file", "x")
    (app.root / "layers/0.8_buildpack/layer/env/LINK").symlink_to("FOLDER")

    assert app.start("--", "printenv", "FOLDER", "LINK").returncode == 1


def test_a_value_with_a_nul_byte_is_refused(app: App) -> None:
    file = app.layer("env/V", b"a\0b")

    result = app.start("--", "true")

    assert (result.returncode, result.stdout) == (
        82,
        f"ERROR: failed to launch: modify env: add layer env: {file} has a NUL byte, which no variable can have\n",
    )


# exec.d


def test_a_helper_has_no_input_and_no_other_descriptors(app: App) -> None:
    app.helper("helper", "", script="cat; ls /proc/self/fd | tr '\\n' ' '")
    read, write = os.pipe()
    os.set_inheritable(write, True)
    try:
        result = app.start("--", "true", stdin="not for the helper")
    finally:
        os.close(read)
        os.close(write)

    # 0, 1, 2, the pipe, and the listing's own.
    assert result.stdout == "0 1 2 3 4 "


def test_a_helper_of_an_old_buildpack_does_not_run(app: App) -> None:
    app.write("layers/0.3_buildpack/layer/exec.d/helper", "#!/bin/sh\nexit 1\n", mode=0o755)

    assert app.start("--", "true").returncode == 0


def test_a_background_process_of_a_helper_does_not_hold_up_the_start(app: App) -> None:
    pid_file = app.root / "pid"
    app.helper("helper", 'V = "x"', script=f"sleep 30 >/dev/null 2>&1 & echo $! >{pid_file}")
    begun = time.monotonic()
    try:
        result = app.start("--", "printenv", "V")
    finally:
        os.kill(int(pid_file.read_text()), signal.SIGKILL)

    assert result.stdout == "x\n"
    assert time.monotonic() - begun < 5


def test_a_helper_that_fails_ends_the_launch(app: App) -> None:
    path = app.helper("helper", "", script="exit 3")

    result = app.start("--", "true")

    assert (result.returncode, result.stdout) == (
        82,
        f"ERROR: failed to launch: exec.d: failed to execute exec.d file at path '{path}': exit status 3\n",
    )


def test_a_helper_that_is_not_executable_ends_the_launch(app: App) -> None:
    path = app.helper("helper", "")
    path.chmod(0o644)
    path.write_bytes(b"#!/nonexistent")

    result = app.start("--", "true")

    assert result.returncode == 82
    assert result.stdout.startswith(
        f"ERROR: failed to launch: exec.d: failed to execute exec.d file at path '{path}': "
    )


def test_output_of_a_helper_larger_than_a_pipe_is_read(app: App) -> None:
    value = "x" * 100_000
    app.helper("helper", f'V = "{value}"')

    assert app.start("--", "printenv", "V").stdout == value + "\n"


@pytest.mark.parametrize(
    "output",
    [
        "V = 1",
        "V = true",
        "V = ['a']",
        "a.b = 'c'",
        "[V]\na = 'b'",
        "V = 1979-05-27",
        'V = "\\u0000"',
        '"A=B" = "c"',
    ],
)
def test_output_of_a_helper_other_than_strings_is_refused(app: App, output: str) -> None:
    path = app.helper("helper", output)

    result = app.start("--", "true")

    prefix = f"ERROR: failed to launch: exec.d: failed to decode output from exec.d file at path '{path}': "
    assert result.returncode == 82
    assert result.stdout.startswith(prefix)
    assert result.stdout.endswith(" is not a string\n")


def test_output_of_a_helper_that_is_no_toml_names_the_line(app: App) -> None:
    path = app.helper("helper", 'GOOD = "x"\nBAD = x\n')

    result = app.start("--", "true")

    assert (result.returncode, result.stdout) == (
        82,
        "ERROR: failed to launch: exec.d: failed to decode output from exec.d file at path "
        f"'{path}': toml: line 2: not a value\n",
    )


STRINGS = '''
# every way to write a string
BARE-key_1 = "basic \\" \\\\ \\b\\t\\n\\f\\r \\u00e9 \\U0001F600"  # comment
"quoted key" = 'literal \\n stays'
'literal key' = ""
MULTI = """
first line is trimmed
  kept \\
     joined   \\

  here ""quotes"" and \\u00e9"""
RAW = \'\'\'
raw \\n 'quotes' ''two\'\'\'\'\'
QUOTES = """"two"""""
EMPTY = \'\'\'\'\'\'
ÜBER = 'no bare key of other letters'
'''.replace("ÜBER", '"ÜBER"')


def printed_environment(app: App) -> dict[str, str]:
    result = app.start("--", "env", "-0")
    assert result.returncode == 0, result.stdout
    return dict(entry.partition("=")[::2] for entry in result.stdout.split("\0")[:-1])


def test_every_kind_of_string_is_read_as_tomllib_does(app: App) -> None:
    app.helper("helper", STRINGS)

    environment = printed_environment(app)

    expected = tomllib.loads(STRINGS)
    assert {name: environment[name] for name in expected} == expected


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


def as_basic(value: str) -> str:
    out = "".join(
        f"\\U{ord(c):08x}" if c in '"\\' or ord(c) < 32 or ord(c) == 127 else c for c in value
    )
    return f'"{out}"'


def as_block(value: str) -> str:
    escaped = as_basic(value)[1:-1].replace("\\U0000000a", "\n").replace("\\U00000009", "\t")
    return f'"""\n{escaped}"""'


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.dictionaries(st.from_regex(r"[A-Za-z0-9_-]{1,8}", fullmatch=True), text, max_size=5),
    st.booleans(),
)
def test_any_strings_come_through_a_helper(app: App, values: dict[str, str], block: bool) -> None:
    write = as_block if block else as_basic
    app.helper("helper", "".join(f"{k} = {write(v)}\n" for k, v in values.items()))

    environment = printed_environment(app)

    assert {name: environment[name] for name in values} == values


VALID = [
    b"a = 1\nb = -0\nc = 0xdead_beef\nd = 0o17\ne = 0b1\nf = 1_000\n",
    b"a = 1.5\nb = 1e5\nc = -1.5E-3\nd = inf\ne = -nan\nf = 1_0.0_1\n",
    b"a = 1979-05-27T07:32:00Z\nb = 1979-05-27 07:32:00.999-07:00\nc = 1979-05-27\nd = 07:32:00\n",
    b"a = [1, 'x', [], {b = 1}, # c\n]\n",
    b"a = { b.c = 1, 'd e' = [\n1,\n] }\n",
    b"[a.b]\nc = 1\n[a]\nd = 1\n[a.b.e]\n",
    b"[[x]]\na = 1\n[[x]]\n[x.y]\n[[x.z]]\n",
    b"a.b.c = 1\na.b.d = 2\n[a.b.e]\n",
    b"a = true # x\r\nb = false\r\n\r\n",
    b"'' = 1\n\"\\u0061\" = 2\n1.2 = 3\n",
    b"",
    b"\n\n# only a comment",
]
INVALID = [
    b"a = 01",
    b"a = 1__0",
    b"a = _1",
    b"a = 1_",
    b"a = 0x",
    b"a = +0x1",
    b"a = 1.",
    b"a = .5",
    b"a = 1.e5",
    b"a = 1979-02-30",
    b"a = 25:00:00",
    b"a = truee",
    b'a = "x\ny"',
    b'a = "\\x41"',
    b'a = "\\ud800"',
    b'a = "\x01"',
    b"a = '\x7f'",
    b'a = """x',
    b"a = [1",
    b"a = [1,,2]",
    b"a = {b = 1,}",
    b"a = {b = 1\n}",
    b"a = 1\na = 2",
    b"[a]\n[a]",
    b"a = 1\n[a]",
    b"[a]\nb = 1\n[a.b]",
    b"a = {}\n[a.b]",
    b"a = {}\na.b = 1",
    b"a = []\n[[a]]",
    b"[[a]]\n[a]",
    b"[a.b.c]\nz = 9\n[a]\nb.c.t = 1",
    b"a.b = 1\n[a]",
    b"[a",
    b"[a]]",
    b"[[a]",
    b"[]",
    b"= 1",
    b"a",
    b"a =",
    b"a = 1 b = 2",
    b"\xff = 1",
    b"a = '\xc3'",
    b"a = 1\r",
    b"# \x00",
    b"a = [" * 300,
]


@pytest.mark.parametrize("document", VALID)
def test_valid_documents_are_read_like_tomllib(app: App, document: bytes) -> None:
    tomllib.loads(document.decode())

    assert reads(app, document)


@pytest.mark.parametrize("document", INVALID)
def test_invalid_documents_are_refused_like_tomllib(app: App, document: bytes) -> None:
    assert not is_toml(document)
    assert not reads(app, document)


pieces = st.sampled_from(
    [
        *(b"a", b"b", b".", b"=", b" = ", b"\n", b"[", b"]", b"[[", b"]]", b"{", b"}", b","),
        *(
            b'"',
            b"'",
            b'"""',
            b"'''",
            b"\\",
            b"\\n",
            b"\\u00e9",
            b"\xc3\xa9",
            b"#",
            b" ",
            b"\t",
            b"\r\n",
        ),
        *(
            b"1",
            b"0",
            b"_",
            b"-",
            b"+",
            b"e",
            b":",
            b"true",
            b"inf",
            b"2000-01-01",
            b"T",
            b"Z",
            b"0x",
        ),
        *(b"a = 1\n", b"a.b = 'x'\n", b"[a]\n", b"x = {a = 1}\n"),
    ]
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(pieces, max_size=12).map(b"".join))
@example(b"a = 2000-01-01 00:00:00")
@example(b"a.b.c = 1\n[a.d]\n[a.b.e]")
@example(b'a = """\\\n\n  x"""')
def test_any_document_is_judged_as_tomllib_does(app: App, document: bytes) -> None:
    assert reads(app, document) == is_toml(document)


def is_toml(document: bytes) -> bool:
    try:
        tomllib.loads(document.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def reads(app: App, document: bytes) -> bool:
    """Whether the launcher can read the document as an image's metadata."""
    app.metadata(document)
    result = app.start("--", "true")
    if result.returncode == 0:
        return True
    assert result.returncode == 1
    assert result.stdout.startswith("ERROR: failed to read metadata: toml: ")
    return False


# Becoming the process


def test_the_process_replaces_the_launcher_and_is_named_as_written(app: App) -> None:
    with subprocess.Popen(
        ["/cnb/process/launcher", "--", "cat", "/proc/self/cmdline"],
        executable=LAUNCHER,
        env=app.variables(),
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        printed = process.stdout.read()

    assert printed == b"cat\0/proc/self/cmdline\0"


def test_the_exit_code_is_the_process_own(app: App) -> None:
    assert app.start("--", "sh", "-c", "exit 7").returncode == 7


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["nothing"], 'path lookup: exec: "nothing": executable file not found in $PATH'),
        (
            ["./nothing"],
            'path lookup: exec: "./nothing": stat ./nothing: no such file or directory',
        ),
        (["/etc/passwd"], 'path lookup: exec: "/etc/passwd": permission denied'),
        (["/usr"], 'path lookup: exec: "/usr": is a directory'),
        ([""], 'no command provided for process type ""'),
    ],
)
def test_a_command_that_cannot_run_is_named(app: App, command: list[str], message: str) -> None:
    result = app.start("--", *command)

    assert (result.returncode, result.stdout) == (82, f"ERROR: failed to launch: {message}\n")


def test_a_relative_command_is_looked_for_in_the_app_folder(app: App) -> None:
    app.write("workspace/run", "#!/bin/sh\necho here\n", mode=0o755)

    assert app.start("--", "./run").stdout == "here\n"


def test_a_program_of_the_current_folder_is_not_found_by_an_empty_path_element(app: App) -> None:
    app.write("workspace/run", "#!/bin/sh\n", mode=0o755)

    result = app.start("--", "run", env={"PATH": ":/usr/bin"})

    assert (result.returncode, result.stdout) == (
        82,
        'ERROR: failed to launch: path lookup: exec: "run": cannot run executable found relative to current directory\n',
    )


def test_a_missing_interpreter_is_named(app: App) -> None:
    script = app.write("workspace/run", "#!/opt/none -x\n", mode=0o755)

    result = app.start("--", str(script))

    assert (result.returncode, result.stdout) == (
        82,
        "ERROR: failed to launch: direct exec: no such file or directory"
        " (its interpreter /opt/none is not in this image)\n",
    )


def test_a_working_directory_that_is_missing_is_named(app: App) -> None:
    app.metadata(
        BUILDPACKS
        + '[[processes]]\ntype = "w"\ncommand = ["/bin/true"]\ndirect = true\nworking-dir = "/none"\n'
    )

    result = app.start(entrypoint="w")

    assert (result.returncode, result.stdout) == (
        82,
        "ERROR: failed to launch: change directory: chdir /none: no such file or directory\n",
    )


def test_an_app_folder_that_is_missing_is_named(app: App) -> None:
    result = app.start("--", "true", env={"CNB_APP_DIR": "/none"})

    assert (result.returncode, result.stdout) == (
        82,
        "ERROR: failed to launch: change to app directory: chdir /none: no such file or directory\n",
    )


# What the image says


@pytest.mark.parametrize("api", [None, "", "  "])
def test_without_a_platform_api_it_exits_11(app: App, api: str | None) -> None:
    result = app.start("--", "true", env={"CNB_PLATFORM_API": api})

    assert result.returncode == 11
    assert result.stdout == (
        "ERROR: failed to get platform API version; please set 'CNB_PLATFORM_API' to specify"
        " the desired platform API version\n"
    )


@pytest.mark.parametrize("api", ["0.2", "0.16", "1.0", "x", "0.x", "0.10.1", "-1"])
def test_a_platform_api_that_is_not_ours_exits_11(app: App, api: str) -> None:
    result = app.start("--", "true", env={"CNB_PLATFORM_API": api})

    assert (result.returncode, result.stdout) == (
        11,
        f"ERROR: platform API version '{api}' is incompatible with the lifecycle\n",
    )


@pytest.mark.parametrize(
    ("mode", "code", "lines"),
    [
        ("quiet", 0, []),
        ("warn", 0, ["Warning: Platform requests deprecated API '0.5'"]),
        (
            "error",
            11,
            [
                "Warning: Platform requests deprecated API '0.5'",
                "ERROR: Platform requests deprecated API '0.5'",
            ],
        ),
    ],
)
def test_a_deprecated_platform_api_is_said_as_the_mode_demands(
    app: App, mode: str, code: int, lines: list[str]
) -> None:
    app.metadata("")

    result = app.start("--", "true", env={"CNB_PLATFORM_API": "0.5", "CNB_DEPRECATION_MODE": mode})

    assert (result.returncode, result.stdout.splitlines()) == (code, lines)


def test_a_buildpack_api_that_is_not_ours_exits_12(app: App) -> None:
    app.metadata('[[buildpacks]]\nid = "a/b"\nversion = "1"\napi = "0.99"\n')

    result = app.start("--", "true")

    assert (result.returncode, result.stdout) == (
        12,
        "ERROR: buildpack 'a/b': buildpack API version '0.99' is incompatible with the lifecycle\n",
    )


def test_a_buildpack_without_api_is_one_of_0_2(app: App) -> None:
    app.metadata('[[buildpacks]]\nid = "old"\nversion = "1"\n')
    app.write("layers/old/layer/env/V", "new")

    assert app.start("--", "printenv", "V", env={"V": "old"}).stdout == "new:old\n"


def test_missing_metadata_exits_1(app: App) -> None:
    path = app.root / "layers/config/metadata.toml"
    path.unlink()

    result = app.start("--", "true")

    assert (result.returncode, result.stdout) == (
        1,
        f"ERROR: failed to read metadata: open {path}: no such file or directory\n",
    )


# The program itself


@pytest.mark.parametrize("name", ["launcher", "port-adapter"])
@pytest.mark.parametrize(("architecture", "machine"), [("amd64", 0x3E), ("arm64", 0xB7)])
def test_the_programs_are_static_small_and_for_their_cpu(
    name: str, architecture: str, machine: int
) -> None:
    data = (BIN / f"{name}-{architecture}").read_bytes()

    assert data[:5] == b"\x7fELF\x02"
    assert int.from_bytes(data[18:20], "little") == machine
    assert b"ld-linux" not in data
    assert b"ld-musl" not in data
    assert len(data) < 300_000


def test_the_launcher_starts_in_two_milliseconds(app: App) -> None:
    app.metadata(BUILDPACKS + PROCESSES)
    env = app.variables()
    times = sorted(_user_time(LAUNCHER, env) for _ in range(20))

    assert times[len(times) // 2] < 0.002


def _user_time(program: Path, env: Mapping[str, str]) -> float:
    """Seconds of CPU of the launcher with its process, which is as small as a process can be."""
    pid = os.posix_spawn(program, ["launcher", "--", str(PORT_ADAPTER)], env)
    _, _, usage = os.wait4(pid, 0)
    return usage.ru_utime + usage.ru_stime


# port-adapter


def run_port_adapter(app: App, env: Mapping[str, str | None]) -> dict[str, str]:
    helper = app.write(
        "layers/0.9_buildpack/some_layer/exec.d/port-adapter", PORT_ADAPTER.read_bytes(), mode=0o755
    )
    assert helper.exists()
    result = app.start("--", "env", env=env)
    assert result.returncode == 0, result.stdout
    return dict(line.partition("=")[::2] for line in result.stdout.splitlines())


def test_the_port_reaches_servers_that_read_other_variables(app: App) -> None:
    environment = run_port_adapter(app, {"PORT": "9000"})

    assert environment["UVICORN_PORT"] == environment["FLASK_RUN_PORT"] == "9000"
    assert environment["UVICORN_HOST"] == environment["GRADIO_SERVER_NAME"] == "0.0.0.0"


def test_variables_that_are_set_stay(app: App) -> None:
    environment = run_port_adapter(app, {"PORT": "9000", "UVICORN_PORT": "1", "HOST": "::"})

    assert (environment["UVICORN_PORT"], environment["HOST"]) == ("1", "::")


@pytest.mark.parametrize("port", [None, "", "tcp://10.0.0.1:80", '80"\nX = "1', "123456"])
def test_without_a_usable_port_nothing_is_set(app: App, port: str | None) -> None:
    environment = run_port_adapter(app, {"PORT": port})

    assert "UVICORN_PORT" not in environment
    assert "X" not in environment
