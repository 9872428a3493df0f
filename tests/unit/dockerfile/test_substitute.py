from __future__ import annotations

import pytest
from msgspec.structs import replace

from hakobune.dockerfile.errors import DockerfileError
from hakobune.dockerfile.git_source import is_git
from hakobune.dockerfile.instructions import Copy, Expose, Instruction, MountType, Run
from hakobune.dockerfile.parse import parse
from hakobune.dockerfile.run_input import RunInput, run_input
from hakobune.dockerfile.substitute import Substituted, is_url, substitute

VARIABLES = {"A": "aa", "B": "x y", "PORT": "80-81", "EMPTY": ""}


def one(line: str) -> Instruction:
    (stage,) = parse(f"FROM base\n{line}\n", "Dockerfile").stages
    return stage.instructions[0]


def put_in(line: str) -> Substituted:
    return substitute(one(line), VARIABLES)


@pytest.mark.parametrize(
    ("line", "equal"),
    [
        ("ENV X=$A Y='$A' $A=1", "ENV X=aa Y=$A aa=1"),
        ('LABEL $A="$B"', 'LABEL aa="x y"'),
        ("WORKDIR /w/$A", "WORKDIR /w/aa"),
        ("USER $A:${B}", "USER aa:x y"),
        ("VOLUME /$A /b", "VOLUME /aa /b"),
        ("STOPSIGNAL SIG${NOPE:-TERM}", "STOPSIGNAL SIGTERM"),
        ("COPY --chown=$A --chmod=${NOPE:-755} $A/* /d/$A/", "COPY --chown=aa --chmod=755 aa/* /d/aa/"),
        ("CMD $A", "CMD $A"),
        ('ENTRYPOINT ["$A"]', 'ENTRYPOINT ["$A"]'),
        ("HEALTHCHECK CMD $A", "HEALTHCHECK CMD $A"),
        ('SHELL ["$A"]', 'SHELL ["$A"]'),
        ("MAINTAINER $A", "MAINTAINER $A"),
        ("ONBUILD RUN $A", "ONBUILD RUN $A"),
    ],
)  # fmt: skip
def test_each_instruction_replaces_what_it_should(line: str, equal: str):
    plain = substitute(one(equal), {"A": "$A"}).instruction

    assert replace(put_in(line).instruction, text=plain.text) == plain


def test_ports_are_spread_out_after_substitution():
    result = put_in("EXPOSE $PORT 53/udp").instruction

    assert isinstance(result, Expose)
    assert result.ports == ("80/tcp", "81/tcp", "53/udp") or set(result.ports) == {
        "80/tcp",
        "81/tcp",
        "53/udp",
    }


def test_mounts_of_run_appear_but_its_command_stays():
    result = put_in("RUN --mount=type=cache,target=/$A echo $A").instruction

    assert isinstance(result, Run)
    assert result.command.words == ("echo $A",)
    assert (result.mounts[0].type, result.mounts[0].target) == (MountType.CACHE, "/aa")


def test_a_file_in_the_dockerfile_is_expanded_unless_its_end_is_quoted():
    result = put_in("COPY <<a <<'b' <<-c /d/\n\"$A\" '$A' \\$A\na\n$A\nb\n\t$A\n\tc").instruction

    assert isinstance(result, Copy)
    assert [(file.name, file.text) for file in result.files] == [
        ("a", "\"aa\" 'aa' $A\n"),
        ("b", "$A\n"),
        ("c", "aa\n"),
    ]


def test_what_was_used_and_what_is_missing_is_known():
    result = substitute(
        one("ENV X=$A Y=${PORTS:-$B} Z=$DECLARED"), VARIABLES, declared=frozenset({"DECLARED"})
    )

    assert result.used == {"A", "B"}
    (warning,) = result.warnings
    assert (warning.rule, warning.message) == (
        "UndefinedVar",
        "$PORTS is not set; did you mean PORT?",
    )


@pytest.mark.parametrize(
    ("line", "what", "fix"),
    [
        ('ENV X="${Y:?give Y}"', "Dockerfile:2: Y: give Y", "--build-arg Y="),
        ("ENV X=${Y", "Dockerfile:2: } is missing", "add }"),
        ("EXPOSE $A", "Dockerfile:2: 'aa' is not a port number", "PORT/udp"),
        ("STOPSIGNAL TREM", "Dockerfile:2: unknown signal 'TREM'", "did you mean TERM?"),
        ("COPY --chmod=799 a b", "Dockerfile:2: invalid --chmod=799", "0 to 7777"),
        ("VOLUME $EMPTY", "Dockerfile:2: VOLUME has an empty path", "give the variable a value"),
        ("COPY https://x/y /z", "Dockerfile:2: COPY cannot fetch https://x/y", "write ADD https://x/y /z"),
        ("ADD --checksum=sha256:1 https://x/y /z", "Dockerfile:2: 'sha256:1' is not a checksum", "sha256:HEX"),
        ("ADD --checksum=sha256:1 x /z", "Dockerfile:2: ADD --checksum is for URLs", "leave it out"),
        ("ADD --checksum=sha256:1 x y /z", "Dockerfile:2: ADD --checksum is for one source", "an ADD for each"),
        ("ADD --checksum=abc https://x/y.git /z", "Dockerfile:2: 'abc' is not a commit", "full hash"),
        ("RUN --mount=type=cach,target=/x y", "Dockerfile:2: unknown mount type 'cach'", "did you mean cache?"),
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit_names_its_line(line: str, what: str, fix: str):
    with pytest.raises(DockerfileError) as caught:
        put_in(line)

    assert caught.value.what.startswith(what)
    assert fix in caught.value.fix


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("https://example.com/a.tar", "url"),
        ("http://example.com/", "url"),
        ("https://example.com/a.git", "git"),
        ("https://example.com/a.git#main:sub", "git"),
        ("git@github.com:a/b.git", "git"),
        ("git://host/x", "git"),
        ("ssh://git@host/x", "git"),
        ("a.git", "file"),
        ("http", "file"),
        ("me@home", "file"),
    ],
)
def test_what_add_fetches_is_told_by_its_form(source: str, kind: str):
    assert (is_url(source), is_git(source)) == (kind == "url", kind == "git")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("RUN a b", RunInput(("/bin/sh", "-c", "a b"))),
        ("RUN", RunInput(("/bin/sh", "-c", ""))),
        ('RUN ["a", "b"]', RunInput(("a", "b"))),
        ("RUN <<E\necho\nE", RunInput(("/bin/sh", "-c", "echo\n"))),
        ("RUN <<-E\n\techo\n\tE", RunInput(("/bin/sh", "-c", "echo\n"))),
        ("RUN <<E\n#!/bin/env python\nE", RunInput(("/bin/sh", "-c", "/dev/pipes/E"), "#!/bin/env python\n")),
        ("RUN <<E sh\na\nE", RunInput(("/bin/sh", "-c", "<<E sh\na\nE"))),
        ("RUN cat <<A <<-B\n1\nA\n\t2\n\tB", RunInput(("/bin/sh", "-c", "cat <<A <<-B\n1\nA\n\t2\nB"))),
    ],
)  # fmt: skip
def test_run_starts_the_shell_the_words_or_the_script(line: str, expected: RunInput):
    instruction = one(line)

    assert isinstance(instruction, Run)
    assert run_input(instruction.command, ("/bin/sh", "-c")) == expected
