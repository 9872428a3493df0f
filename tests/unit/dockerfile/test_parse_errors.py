"""Every mistake in a Dockerfile has its place and a way out."""

from __future__ import annotations

import pytest

from hakobune.dockerfile.errors import DockerfileError
from hakobune.dockerfile.parse import parse

CASES = [
    ("RUNN x", "2:1: RUNN: unknown instruction", "did you mean RUN?"),
    ("COPPY a b", "2:1: COPPY: unknown instruction", "did you mean COPY?"),
    ("entrypiont x", "2:1: entrypiont: unknown instruction", "did you mean ENTRYPOINT?"),
    ("RUN x\n  EXPOSEE 1", "3:3: EXPOSEE: unknown instruction", "did you mean EXPOSE?"),
    ("RUN a &&\nb", "3:1: b: unknown instruction", "instructions are ADD, ARG, CMD"),
    ("COPY --chwon=1 a b", "2:6: COPY has no flag --chwon", "did you mean --chown?"),
    ("RUN --mounts=x a", "2:5: RUN has no flag --mounts", "did you mean --mount?"),
    ("ENV --a=b C=d", "2:5: ENV has no flag --a", "it has no flags"),
    ("COPY --from a b", "2:6: --from needs a value", "write --from=VALUE"),
    ("COPY --link=maybe a b", "2:6: --link is true or false, not 'maybe'", "--link=false"),
    ("COPY --link --link a b", "2:6: --link is given twice", "delete one of them"),
    ("COPY a", "2:6: COPY needs at least one source and a destination", "COPY a /DESTINATION"),
    ("COPY", "2: COPY needs at least one source", "COPY SOURCE /DESTINATION"),
    ("COPY a <<E\nx\nE", "2:8: COPY cannot have a heredoc as its destination", "<<E /DESTINATION"),
    ("COPY --from=$X a b", "2:13: COPY --from cannot hold a variable", "FROM $IMAGE AS name"),
    ('RUN ["a", 1]', "2:5: 1 in [\"a\", 1] is not a string", 'put every word in double quotes'),
    ("RUN --network=bridge x", "2:15: unknown network 'bridge'", "it is one of default, none, host"),
    ("RUN --security=none x", "2:16: unknown security 'none'", "it is one of sandbox, insecure"),
    ("RUN --mount=from=$X,target=/y x", "2:13: a mount's from cannot hold a variable", "stage of its own"),
    ("RUN --mount= x", "2:5: --mount has no options", "--mount=type=cache,target=/PATH"),
    ("RUN <<EOF\nx", "2: the heredoc <<EOF has no end", "write EOF alone on a line"),
    ("ENV A", "2:5: ENV A has no value", "write ENV A=value"),
    ("ENV A=1 B", "2:9: ENV expects KEY=value, not B", "double quotes"),
    ("ENV", "2: ENV needs a key and a value", "write ENV KEY=value"),
    ("LABEL =x", "2:7: LABEL =x has no name", "write LABEL KEY=x"),
    ("ARG", "2: ARG needs a name", "ARG NAME=default"),
    ("USER", "2: USER needs a value", "write USER name"),
    ("WORKDIR", "2: WORKDIR needs a value", "write WORKDIR /app"),
    ("STOPSIGNAL", "2: STOPSIGNAL needs a value", "write STOPSIGNAL SIGTERM"),
    ("EXPOSE", "2: EXPOSE needs a port", "write EXPOSE 8080"),
    ('VOLUME [""]', "2:8: VOLUME needs a path", "write VOLUME /data"),
    ("SHELL bash", "2:7: SHELL needs a JSON array of strings", 'SHELL ["/bin/bash", "-c"]'),
    ("HEALTHCHECK", "2: HEALTHCHECK needs CMD or NONE", "HEALTHCHECK CMD command"),
    ("HEALTHCHECK curl x", "2:13: HEALTHCHECK needs CMD or NONE, not curl", "HEALTHCHECK CMD curl x"),
    ("HEALTHCHECK NONE x", "2:18: HEALTHCHECK NONE takes nothing else", "delete the rest"),
    ("HEALTHCHECK CMD", "2: HEALTHCHECK CMD has no command", "HEALTHCHECK CMD command"),
    ("HEALTHCHECK --interval=soon CMD x", "2:24: 'soon' is not a duration", "write 30s"),
    ("HEALTHCHECK --interval=1us CMD x", "2:13: --interval is at least 1ms, not 1us", "--interval=30s"),
    ("HEALTHCHECK --retries=-1 CMD x", "2:23: --retries is a number from 0 up, not -1", "--retries=3"),
    ("ONBUILD", "2: ONBUILD needs an instruction", "write ONBUILD RUN command"),
    ("ONBUILD FROM x", "2:9: FROM cannot stand behind ONBUILD", "any other instruction can"),
    ("ONBUILD RUNN x", "2:9: RUNN: unknown instruction", "did you mean RUN?"),
    ("FROM", "2: FROM needs an image", "FROM IMAGE AS NAME"),
    ("FROM a b", "2:6: FROM needs an image, and may give the stage a name", "write FROM a AS b"),
    ("FROM a as", "2:6: FROM needs an image, and may give the stage a name", "FROM IMAGE AS NAME"),
    ("FROM a AS 1x", "2:11: '1x' cannot name a stage", "begin with a letter"),
    ("RUN a \\\n  --b \\\n  && c\nCOPY a", "5:6: COPY needs at least one source", "/DESTINATION"),
    ("ENV A=1 \\\n    B=2 \\\n    C", "4:5: ENV expects KEY=value, not C", "double quotes"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "what", "fix"), CASES, ids=[case[0] for case in CASES])
def test_a_mistake_is_named_with_its_place_and_a_fix(body: str, what: str, fix: str):
    with pytest.raises(DockerfileError) as caught:
        parse(f"FROM a\n{body}\n", "Dockerfile")

    assert caught.value.what.startswith(f"Dockerfile:{what}")
    assert fix in caught.value.fix


@pytest.mark.parametrize(
    ("text", "what", "fix"),
    [
        ("", "Dockerfile: there is no instruction in it", "begin with FROM IMAGE"),
        ("ARG A\n", "Dockerfile: there is no FROM in it", "begin with FROM IMAGE"),
        ("\n\nRUN x\n", "Dockerfile:3:1: RUN stands before the first FROM", "begin with FROM"),
        ("# escape=x\nFROM a", "Dockerfile:1: invalid escape 'x'", "# escape="),
        ("# syntax=a\n# syntax=b\n", "Dockerfile:2: the directive 'syntax' is given twice", "delete"),
    ],
)  # fmt: skip
def test_a_mistake_of_the_whole_file(text: str, what: str, fix: str):
    with pytest.raises(DockerfileError) as caught:
        parse(text, "Dockerfile")

    assert caught.value.what.startswith(what)
    assert fix in caught.value.fix


def test_an_error_carries_its_place():
    with pytest.raises(DockerfileError) as caught:
        parse("FROM a\n\nRUN \\\n  --moun=x y\n", "dir/Dockerfile")

    error = caught.value
    assert (error.file, error.line, error.column) == ("dir/Dockerfile", 4, 3)
    assert error.problem == "RUN has no flag --moun"
