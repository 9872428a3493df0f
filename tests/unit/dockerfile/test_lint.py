from __future__ import annotations

import re
from pathlib import Path

import pytest

from hakobune.dockerfile.checks import wanted
from hakobune.dockerfile.parse import parse


def rules(text: str) -> list[tuple[str, int]]:
    dockerfile = parse(text, "Dockerfile")
    return [(one.rule, one.at.line) for one in wanted(dockerfile, dockerfile.warnings)]


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
        ("FROM a\nRUN x \\\n\n y\n", [("NoEmptyContinuation", 3)]),
        ('FROM a\nCMD ["x"]\nCMD ["y"]\n', [("MultipleInstructionsDisallowed", 2)]),
        ('FROM a\nCMD ["x"]\nFROM b\nCMD ["y"]\n', []),
        ("FROM a\nWORKDIR app\nWORKDIR sub\n", [("WorkdirRelativePath", 2)]),
        ("FROM a\nWORKDIR /app\nWORKDIR sub\n", []),
        ("ARG API_KEY\nFROM a\nENV DB_PASSWORD=x\nARG PUBLIC_KEY\nARG MONKEY\n", [("SecretsUsedInArgOrEnv", 1), ("SecretsUsedInArgOrEnv", 3)]),
        ("FROM a\nEXPOSE 80/TCP\n", [("ExposeProtoCasing", 2)]),
        ("FROM a\nEXPOSE 8080:80\n", [("ExposeInvalidFormat", 2)]),
        ("FROM a AS b\nWORKDIR /x\nSHELL [\"/x\"]\nFROM b\nWORKDIR y\nCMD z\n", []),
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


def test_a_comment_above_an_instruction_turns_rules_off_for_it_alone():
    text = "FROM a\n# check=skip=JSONArgsRecommended\nCMD x\nENTRYPOINT y\n"

    assert rules(text) == [("JSONArgsRecommended", 4)]
    assert rules(text.replace("skip=JSONArgsRecommended", "skip=all why")) == [
        ("JSONArgsRecommended", 4)
    ]
    assert rules("FROM a\n# check=nonsense\nCMD x\n") == [("JSONArgsRecommended", 3)]


def test_descriptions_are_judged_only_if_that_is_wanted():
    text = "# the base\nFROM a AS base\n# X is it\nARG X\n# what it is\nARG Y=1 Z\n# far away\n\nARG Q\n"

    assert rules(text) == []
    for which in ("all", "InvalidDefinitionDescription"):
        assert rules(f"# check=experimental={which}\n{text}") == [
            ("InvalidDefinitionDescription", 3),
            ("InvalidDefinitionDescription", 7),
        ]


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

    rows = table.partition("| --- | --- |")[2].partition("\n\n")[0].splitlines()
    documented = [name for row in rows[1:] for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert sorted(documented) == sorted(set(re.findall(r'rule="(\w+)"', code)))
