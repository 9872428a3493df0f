"""Exit codes are one table: no two kinds of failure share one."""

import importlib
import pkgutil
from collections import defaultdict

import pytest

import hakobune
from hakobune.buildpack.descriptor import BuildpackApiError
from hakobune.errors import HakoError, UsageError
from hakobune.lifecycle import errors


def every_error() -> list[type[HakoError]]:
    for module in pkgutil.walk_packages(hakobune.__path__, "hakobune."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found: list[type[HakoError]] = []
    todo: list[type[HakoError]] = [HakoError]
    while todo:
        kind = todo.pop()
        found.append(kind)
        todo += kind.__subclasses__()
    return found


def test_no_two_kinds_of_failure_share_an_exit_code_of_their_own() -> None:
    kinds = defaultdict(list)
    for kind in every_error():
        if "exit_code" in vars(kind):
            kinds[kind.exit_code].append(kind.__name__)

    shared = {code: names for code, names in kinds.items() if len(names) > 1}
    assert shared == {}


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (HakoError, 1),
        (UsageError, 2),
        (BuildpackApiError, 12),
        (errors.NoGroupPassedError, 20),
        (errors.DetectionBrokenError, 21),
        (errors.DetectError, 22),
        (errors.AnalyzeError, 32),
        (errors.RestoreError, 42),
        (errors.BuildpackFailedError, 51),
        (errors.BuildError, 52),
        (errors.ExportError, 62),
    ],
)
def test_exit_codes_are_those_of_the_platform_specification(
    kind: type[HakoError], code: int
) -> None:
    assert kind.exit_code == code
