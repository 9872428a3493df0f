from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hakobune.dockerfile.errors import DockerfileError
from hakobune.dockerfile.instructions import (
    Add,
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Heredoc,
    Instruction,
    KeyValue,
    Label,
    Network,
    Onbuild,
    Position,
    Run,
    Security,
    Shell,
    Stage,
    Volume,
)
from hakobune.dockerfile.parse import decode, parse, parse_triggers

NOWHERE = Position("", 0, 0)


def without_places(stage: Stage) -> Stage:
    """The stage as if it stood nowhere, to compare it."""
    instructions = tuple(replace(one, at=NOWHERE) for one in stage.instructions)
    return replace(stage, at=NOWHERE, instructions=instructions)


def one(line: str) -> Instruction:
    """The only instruction of a stage."""
    (stage,) = parse(f"FROM base\n{line}\n", "Dockerfile").stages
    (instruction,) = stage.instructions
    return instruction


def run(line: str) -> Run:
    instruction = one(line)
    assert isinstance(instruction, Run)
    return instruction


def copy(line: str) -> Copy:
    instruction = one(line)
    assert isinstance(instruction, Copy)
    return instruction


def test_args_before_from_belong_to_no_stage():
    dockerfile = parse("ARG A=1\nARG B\nFROM $A AS First\nFROM first\nRUN x\n", "Dockerfile")

    assert [arg.variables for arg in dockerfile.meta_args] == [
        (KeyValue("A", "1"),),
        (KeyValue("B", None),),
    ]
    assert [(stage.index, stage.name, stage.base) for stage in dockerfile.stages] == [
        (0, "first", "$A"),
        (1, "", "first"),
    ]
    assert [stage.label for stage in dockerfile.stages] == ["first", "1"]


def test_from_keeps_its_platform_as_written():
    (stage,) = parse("FROM --platform=$BUILDPLATFORM x", "Dockerfile").stages

    assert (stage.platform, stage.base, stage.text) == (
        "$BUILDPLATFORM",
        "x",
        "FROM --platform=$BUILDPLATFORM x",
    )


def test_a_position_spans_continuations_and_heredocs():
    text = "FROM a\n\n# c\nRUN one \\\n  # two\n  three\nRUN <<E\nx\nE\nUSER u\n"
    (stage,) = parse(text, "x/Dockerfile").stages

    assert [(i.at.line, i.at.end_line) for i in stage.instructions] == [(4, 6), (7, 9), (10, 10)]
    assert str(stage.instructions[0].at) == "x/Dockerfile:4"
    assert stage.instructions[0].text == "RUN one   three"


def test_two_files_that_differ_in_blank_lines_and_comments_have_equal_instructions():
    first = parse("FROM a\nRUN x\nCOPY a b\n", "one").stages[0]
    second = parse("# c\n\nFROM a\n\nRUN x\n# d\nCOPY a b", "two").stages[0]

    assert without_places(first) == without_places(second)


def test_directives_are_read_at_the_top_only():
    dockerfile = parse("# syntax=a/b:1\n#escape=`\n# check=skip=all\nFROM a\n", "Dockerfile")

    assert dockerfile.directives == {"syntax": "a/b:1", "escape": "`", "check": "skip=all"}
    assert dockerfile.escape == "`"
    assert parse("# hello\n# escape=`\nFROM a\n", "Dockerfile").escape == "\\"


def test_with_another_escape_a_backslash_is_text():
    (stage,) = parse("# escape=`\nFROM a\nCOPY a c:\\\nRUN dir `\n  c:\\\n", "Dockerfile").stages

    assert isinstance(stage.instructions[0], Copy)
    assert stage.instructions[0].destination == "c:\\"
    assert stage.instructions[1].text == "RUN dir   c:\\"


def test_a_byte_order_mark_and_carriage_returns_do_not_matter():
    plain = parse("FROM a\nRUN x \\\n  y\n", "Dockerfile")

    assert parse("\ufeffFROM a\r\nRUN x \\\r\n  y\r\n", "Dockerfile") == plain


@pytest.mark.parametrize(
    ("line", "words", "shell"),
    [
        ("RUN echo 'a  b' | wc", ("echo 'a  b' | wc",), True),
        ('RUN ["echo", "a  b"]', ("echo", "a  b"), False),
        ("RUN ['echo']", ("['echo']",), True),
        ("RUN", (), True),
        ("RUN []", (), False),
    ],
)
def test_run_has_a_shell_and_an_exec_form(line: str, words: tuple[str, ...], shell: bool):
    command = run(line).command

    assert (command.words, command.shell) == (words, shell)


def test_run_flags():
    instruction = run(
        "RUN --mount=type=cache,target=/c --mount=from=other,target=/o --network=none "
        "--security=insecure --device=vendor/gpu make"
    )

    assert [(flag.text, flag.from_) for flag in instruction.mount_flags] == [
        ("type=cache,target=/c", ""),
        ("from=other,target=/o", "other"),
    ]
    assert instruction.network is Network.NONE
    assert instruction.security is Security.INSECURE
    assert instruction.devices == ("vendor/gpu",)
    assert instruction.command.words == ("make",)
    assert run("RUN make").network is None


def test_heredocs_of_run_are_kept_in_order_with_their_kind():
    instruction = run("RUN a <<ONE 3<<-'TWO'\n1\nONE\n\t2\n\tTWO")

    assert instruction.command.words == ("a <<ONE 3<<-'TWO'",)
    assert instruction.command.heredocs == (
        Heredoc(name="ONE", content="1\n"),
        Heredoc(name="TWO", content="\t2\n", expand=False, strip_tabs=True, descriptor=3),
    )
    assert instruction.command.heredocs[1].text == "2\n"


def test_a_heredoc_may_hold_what_looks_like_a_dockerfile():
    (stage,) = parse("FROM a\nCOPY <<EOF /f\nFROM b\n# c\nRUN x \\\nEOF\nUSER u\n", "D").stages

    assert [i.keyword for i in stage.instructions] == ["COPY", "USER"]
    assert isinstance(stage.instructions[0], Copy)
    assert stage.instructions[0].files[0].content == "FROM b\n# c\nRUN x \\\n"


def test_copy_keeps_sources_and_heredocs_apart():
    instruction = copy("COPY a <<b c /d/\nx\nb")

    assert instruction.sources == ("a", "c")
    assert instruction.files == (Heredoc(name="b", content="x\n"),)
    assert instruction.destination == "/d/"


def test_copy_flags():
    instruction = copy(
        "COPY --from=Build --chown=1:2 --chmod=u=rwX,go=rX --link --parents --exclude=*.md --exclude=!a.md a/./b c"
    )

    assert (instruction.from_, instruction.chown, instruction.chmod) == (
        "Build",
        "1:2",
        "u=rwX,go=rX",
    )
    assert (instruction.link, instruction.parents) == (True, True)
    assert instruction.exclude == ("*.md", "!a.md")


def test_add_flags():
    instruction = one("ADD --checksum=sha256:00 --keep-git-dir --unpack=false u d")

    assert isinstance(instruction, Add)
    assert (instruction.checksum, instruction.keep_git_dir, instruction.unpack) == (
        "sha256:00",
        True,
        False,
    )
    plain = one("ADD u d")
    assert isinstance(plain, Add)
    assert (plain.keep_git_dir, plain.unpack) == (None, None)


def test_env_label_and_arg_pairs_are_kept_as_written():
    env = one('ENV A="x y" B=$A\\ z C=')
    label = one("LABEL old way  of it")
    arg = one("ARG A B='1 2'")

    assert isinstance(env, Env)
    assert isinstance(label, Label)
    assert isinstance(arg, Arg)
    assert env.variables == (KeyValue("A", '"x y"'), KeyValue("B", "$A\\ z"), KeyValue("C", ""))
    assert label.labels == (KeyValue("old", "way  of it"),)
    assert arg.variables == (KeyValue("A", None), KeyValue("B", "'1 2'"))


def test_cmd_entrypoint_shell_volume_and_expose():
    cmd, entrypoint = one('CMD ["a"]'), one("ENTRYPOINT a b")
    shell, volume, expose = one('SHELL ["a", "-c"]'), one("VOLUME /b /a"), one("EXPOSE 2 1/udp")

    assert isinstance(cmd, Cmd)
    assert isinstance(entrypoint, Entrypoint)
    assert isinstance(shell, Shell)
    assert isinstance(volume, Volume)
    assert isinstance(expose, Expose)
    assert (cmd.command.words, cmd.command.shell) == (("a",), False)
    assert (entrypoint.command.words, entrypoint.command.shell) == (("a b",), True)
    assert shell.words == ("a", "-c")
    assert volume.paths == ("/b", "/a")
    assert expose.ports == ("1/udp", "2")


def test_healthcheck_options_are_nanoseconds():
    instruction = one(
        "HEALTHCHECK --interval=1m30s --timeout=500ms --start-period=1h --start-interval=2s --retries=3 CMD a b"
    )

    assert isinstance(instruction, Healthcheck)
    assert instruction.test == ("CMD-SHELL", "a b")
    assert (instruction.interval_ns, instruction.timeout_ns) == (90 * 10**9, 5 * 10**8)
    assert (instruction.start_period_ns, instruction.start_interval_ns) == (3600 * 10**9, 2 * 10**9)
    assert instruction.retries == 3
    none = one("HEALTHCHECK NONE")
    assert isinstance(none, Healthcheck)
    assert none.test == ("NONE",)


def test_onbuild_holds_its_text_for_the_image_and_the_instruction_for_a_check():
    instruction = one("ONBUILD RUN <<E\nx\nE")

    assert isinstance(instruction, Onbuild)
    assert instruction.expression == "RUN <<E\nx\nE"
    assert instruction.trigger == replace(run("RUN <<E\nx\nE"), text="RUN <<E")


def test_triggers_of_a_base_image_stand_where_from_stands():
    stage = parse("FROM a\nFROM base\n", "Dockerfile").stages[1]

    triggers = parse_triggers(["COPY . /app", "RUN <<E\nx\nE"], stage, "base")

    assert [(one.keyword, one.at.line) for one in triggers] == [("COPY", 2), ("RUN", 2)]


@pytest.mark.parametrize("trigger", ["FROM x", "ONBUILD RUN x", "RUNN x", "RUN a\nRUN b", ""])
def test_a_trigger_that_cannot_be_used_names_the_image(trigger: str):
    stage = parse("FROM base\n", "Dockerfile").stages[0]

    with pytest.raises(DockerfileError, match="base image base:1") as caught:
        parse_triggers([trigger], stage, "base:1")

    assert caught.value.line == 1


def test_a_file_that_is_not_utf8_names_the_line():
    with pytest.raises(DockerfileError) as caught:
        decode(b"FROM a\nRUN \xff\n", "Dockerfile")

    assert str(caught.value) == "Dockerfile:2: it is not UTF-8 text\n  fix: save it as UTF-8"


_PIECES = st.sampled_from(
    ["FROM a", "RUN ", "COPY ", "ADD ", "ENV ", "ARG ", "LABEL ", "ONBUILD ", "HEALTHCHECK ", "EXPOSE ", "CMD ", "SHELL ",
     "VOLUME ", "--mount=type=", "--from=", "--x", "\n", "\\\n", "\\", "`", "# escape=`\n", "#", " ", "\t", "\r\n", "<<E", "<<-",
     "E\n", "'", '"', "$", "${", "}", ":-", "[", "]", '["a","b"]', ",", "=", "a", "1", "\u00e9", "\x00", "\ud800", "["*9, "9"*30, "9"*5000]
)  # fmt: skip


@given(st.lists(st.one_of(_PIECES, st.text(max_size=3)), max_size=30).map("".join))
def test_any_text_is_parsed_or_refused_in_words(text: str):
    for whole in (text, f"FROM a\n{text}"):
        try:
            parse(whole, "Dockerfile")
        except DockerfileError as caught:
            error = caught
        else:
            continue

        assert error.what.startswith("Dockerfile")
        assert error.line <= whole.count("\n") + 1


_WORD = st.text("abc$\"'{}:-#\\ é=", min_size=1, max_size=8)
_LINES = st.one_of(
    _WORD.map(lambda word: f"RUN {word}"),
    st.lists(_WORD, min_size=1, max_size=3).map(lambda words: "ENV " + " ".join(words)),
    st.lists(_WORD, min_size=2, max_size=3).map(lambda words: "COPY " + " ".join(words)),
    st.lists(_WORD, min_size=1, max_size=3).map(lambda words: "ARG " + " ".join(words)),
    st.sampled_from(["--network=none", "--mount=type=cache,target=/x"]).map(
        lambda flag: f"RUN {flag} x"
    ),
)


@given(st.lists(_LINES, max_size=5))
def test_the_canonical_text_parses_to_the_same_instructions(lines: list[str]):
    text = "\n".join(["FROM a", *lines])
    try:
        (stage,) = parse(text, "Dockerfile").stages
    except DockerfileError:
        return

    texts = [stage.text, *(i.text for i in stage.instructions)]
    if any(text.endswith("\\") for text in texts):
        return  # an escaped blank at the end of the file: without it the line would go on

    again = parse("\n".join(texts), "Dockerfile")

    assert [without_places(one) for one in again.stages] == [without_places(stage)]


@given(_LINES, st.integers(1, 20))
def test_a_continuation_between_words_changes_nothing_but_blanks(line: str, at: int):
    position = line.find(" ", at)
    if position < 0 or "#" in line or "\\" in line or "'" in line or '"' in line:
        return
    broken = f"{line[:position]} \\\n# comment\n{line[position + 1 :]}"
    try:
        whole = parse(f"FROM a\n{line}", "Dockerfile")
    except DockerfileError:
        return

    (stage,) = parse(f"FROM a\n{broken}", "Dockerfile").stages
    assert without_places(stage) == without_places(whole.stages[0])
