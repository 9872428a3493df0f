from __future__ import annotations

import re
from pathlib import Path

import pytest

from hakobune.dockerfile.parse import parse


def rules(text: str) -> list[tuple[str, int]]:
    return [(one.rule, one.at.line) for one in parse(text, "Dockerfile").warnings]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM a\nCMD x\n", [("JSONArgsRecommended", 2)]),
        ('FROM a\nSHELL ["/bin/sh", "-c"]\nCMD x\n', []),
        ("FROM a\nENTRYPOINT x\nFROM a\nCMD x\n", [("JSONArgsRecommended", 2), ("JSONArgsRecommended", 4)]),
        ("FROM a\nMAINTAINER x\n", [("MaintainerDeprecated", 2)]),
        ("FROM a\nENV A 1\nLABEL b 2\nENV C=3\n", [("LegacyKeyValueFormat", 2), ("LegacyKeyValueFormat", 3)]),
        ("FROM a AS X\n", [("StageNameCasing", 1)]),
        ("FROM a as x\n", [("FromAsCasing", 1)]),
        ("from a AS x\n", [("FromAsCasing", 1)]),
        ("FROM a\nrun x\nRUN y\n", [("ConsistentInstructionCasing", 2)]),
        ("from a\nrun x\nRun y\n", [("ConsistentInstructionCasing", 3)]),
        ("FROM a AS x\nFROM b AS x\n", [("DuplicateStageName", 2)]),
        ("FROM a AS scratch\n", [("ReservedStageName", 1)]),
        ("FROM a\nRUN x \\\n\n y\n", [("NoEmptyContinuation", 2)]),
        ('FROM a\nCMD ["x"]\nCMD ["y"]\n', [("MultipleInstructionsDisallowed", 2)]),
        ('FROM a\nCMD ["x"]\nFROM b\nCMD ["y"]\n', []),
        ("FROM a\nWORKDIR app\nWORKDIR sub\n", [("WorkdirRelativePath", 2)]),
        ("FROM a\nWORKDIR /app\nWORKDIR sub\n", []),
        ("ARG API_KEY\nFROM a\nENV DB_PASSWORD=x\nARG PUBLIC_KEY\nARG MONKEY\n", [("SecretsUsedInArgOrEnv", 1), ("SecretsUsedInArgOrEnv", 3)]),
        ("FROM a\nEXPOSE 80/TCP\n", [("ExposeProtoCasing", 2)]),
        ("FROM a\nEXPOSE 8080:80\n", [("ExposeInvalidFormat", 2)]),
        ("FROM a\nRUN x\n", []),
    ],
)  # fmt: skip
def test_what_is_legal_and_unwise_is_named(text: str, expected: list[tuple[str, int]]):
    assert rules(text) == expected


def test_the_check_directive_turns_rules_off():
    assert rules("# check=skip=JSONArgsRecommended\nFROM a\nCMD x\nMAINTAINER y\n") == [
        ("MaintainerDeprecated", 4)
    ]
    assert rules("# check=skip=all\nFROM a\nCMD x\n") == []


def test_a_warning_reads_as_one_line():
    (warning,) = parse("FROM a\nENV A 1\n", "Dockerfile").warnings

    assert (
        str(warning)
        == 'Dockerfile:2: write "ENV key=value", not "ENV key value" (LegacyKeyValueFormat)'
    )


def test_every_rule_is_documented():
    root = Path(__file__).parents[3]
    code = "".join(path.read_text() for path in (root / "src/hakobune/dockerfile").glob("*.py"))
    page = (root / "docs/reference/dockerfile.md").read_text()
    table = page.partition("## Warnings")[2].partition("## Errors")[0]

    documented = re.findall(r"`([A-Z]\w+)`", table.partition("| --- | --- |")[2])
    named = set(re.findall(r"`(CMD|ENTRYPOINT|HEALTHCHECK|WORKDIR|EXPOSE)`", table))
    assert set(documented) - named == set(re.findall(r'rule="(\w+)"', code))
