from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hakobune.buildpack.document import InvalidDocumentError
from hakobune.buildpack.plan import (
    BuildPlanError,
    Contribution,
    PlanEntry,
    PlanSection,
    Provide,
    Require,
    Trial,
    alternatives,
    parse_build_plan,
    plan_entries,
    resolve_build_plan,
)


def bp(
    name: str, *, provides: str = "", requires: str = "", optional: bool = False
) -> Contribution:
    return Contribution(
        name,
        optional=optional,
        provides=tuple(provides.split()),
        requires=tuple(Require(name=r) for r in requires.split()),
    )


def names(trial: Trial) -> list[str]:
    return [c.buildpack for c in trial]


def resolve(*group: Contribution | Sequence[Contribution]) -> list[str]:
    options = [[c] if isinstance(c, Contribution) else c for c in group]
    return names(resolve_build_plan(options))


def reasons(*group: Contribution | Sequence[Contribution]) -> tuple[str, ...]:
    with pytest.raises(BuildPlanError) as caught:
        resolve(*group)
    return caught.value.reasons


def test_a_require_is_met_by_an_earlier_provide() -> None:
    assert resolve(bp("node", provides="node"), bp("npm", requires="node")) == ["node", "npm"]


def test_a_buildpack_may_require_what_it_provides_itself() -> None:
    assert resolve(bp("a", provides="x", requires="x")) == ["a"]


def test_a_require_before_its_provide_is_unmet() -> None:
    assert reasons(bp("npm", requires="node"), bp("node", provides="node")) == (
        "npm requires 'node', which nothing up to it provides",
    )


def test_an_unused_provide_of_a_required_buildpack_fails_the_trial() -> None:
    assert reasons(bp("node", provides="node"), bp("x")) == (
        "node provides 'node', which nothing from it on requires",
    )


def test_an_optional_buildpack_with_an_unmet_require_is_dropped() -> None:
    assert resolve(bp("a"), bp("npm", requires="node", optional=True)) == ["a"]


def test_an_optional_buildpack_with_an_unused_provide_is_dropped() -> None:
    assert resolve(bp("node", provides="node", optional=True), bp("a")) == ["a"]


def test_dropping_one_may_drop_another() -> None:
    kept = resolve(
        bp("a", provides="x", optional=True),
        bp("b", requires="x nothing", optional=True),
        bp("c"),
    )

    assert kept == ["c"]


def test_dropping_an_optional_provider_fails_the_required_buildpack_that_needs_it() -> None:
    failed = reasons(
        bp("a", provides="x unused", optional=True),
        bp("b", requires="x"),
    )

    assert failed == ("b requires 'x', which nothing up to it provides",)


def test_a_group_of_which_nothing_is_left_fails() -> None:
    assert reasons(bp("a", provides="x", optional=True)) == (
        "every buildpack is optional and none is needed",
    )


def test_the_last_buildpacks_alternatives_vary_fastest() -> None:
    failed = reasons(
        [bp("a", requires="a1"), bp("a", requires="a2")],
        [bp("b", requires="b1"), bp("b", requires="b2")],
    )

    assert failed == (
        "a requires 'a1', which nothing up to it provides",
        "a requires 'a1', which nothing up to it provides",
        "a requires 'a2', which nothing up to it provides",
        "a requires 'a2', which nothing up to it provides",
    )


def test_the_first_trial_that_holds_is_taken() -> None:
    trial = resolve_build_plan(
        [
            [bp("node", provides="node"), bp("node")],
            [bp("npm", requires="yarn"), bp("npm", requires="node")],
        ]
    )

    assert trial == (bp("node", provides="node"), bp("npm", requires="node"))


def test_several_providers_of_one_require_all_stay() -> None:
    trial = resolve_build_plan(
        [[bp("a", provides="x")], [bp("b", provides="x")], [bp("c", requires="x")]]
    )

    assert plan_entries(trial) == (PlanEntry("x", ("a", "b"), (Require(name="x"),)),)


def test_an_entry_collects_all_requires_of_its_name() -> None:
    asked = Require(name="x", metadata={"version": "1"})
    trial: Trial = (
        bp("a", provides="x"),
        Contribution("b", requires=(asked,)),
        bp("c", requires="x"),
    )

    assert plan_entries(trial) == (PlanEntry("x", ("a",), (asked, Require(name="x"))),)


def test_alternatives_count_as_optional_in_the_last_one_only() -> None:
    sections = (
        PlanSection(provides=(Provide(name="a"),)),
        PlanSection(provides=(Provide(name="b"),)),
    )

    first, last = alternatives("x", sections, optional=True)

    assert (first.optional, last.optional) == (False, True)
    assert (first.provides, last.provides) == (("a",), ("b",))


def test_an_empty_plan_is_one_alternative_without_demands() -> None:
    assert parse_build_plan(b"", name="plan") == (PlanSection(),)


def test_a_plan_has_its_or_tables_as_alternatives() -> None:
    text = b"""
[[provides]]
name = "a"
[[or]]
[[or.provides]]
name = "b"
[[or.requires]]
name = "c"
[or.requires.metadata]
version = "2"
"""

    assert parse_build_plan(text, name="plan") == (
        PlanSection(provides=(Provide(name="a"),)),
        PlanSection(
            provides=(Provide(name="b"),),
            requires=(Require(name="c", metadata={"version": "2"}),),
        ),
    )


def test_a_version_beside_a_requires_name_is_refused() -> None:
    text = b'[[requires]]\nname = "a"\n[[or]]\n[[or.requires]]\nname = "b"\nversion = "1"\n'

    with pytest.raises(InvalidDocumentError) as caught:
        parse_build_plan(text, name="plan")

    assert caught.value.problems == (
        "plan:6: or[1].requires[1].version: a require's version belongs into its metadata: metadata.version",
    )


CONTRIBUTIONS = st.lists(
    st.tuples(
        st.booleans(),
        st.lists(st.sampled_from("xyz"), max_size=2),
        st.lists(st.sampled_from("xyz"), max_size=2),
    ),
    min_size=1,
    max_size=4,
)


@given(CONTRIBUTIONS)
def test_a_resolved_trial_leaves_nothing_unmet_and_loses_no_required_buildpack(
    shapes: list[tuple[bool, list[str], list[str]]],
) -> None:
    group = [
        bp(f"b{i}", provides=" ".join(provides), requires=" ".join(requires), optional=optional)
        for i, (optional, provides, requires) in enumerate(shapes)
    ]
    try:
        trial = resolve_build_plan([[c] for c in group])
    except BuildPlanError:
        return

    assert [c for c in group if not c.optional] == [c for c in trial if not c.optional]
    for i, contribution in enumerate(trial):
        before = {p for c in trial[: i + 1] for p in c.provides}
        after = {r.name for c in trial[i:] for r in c.requires}
        assert {r.name for r in contribution.requires} <= before
        assert set(contribution.provides) <= after
    # every entry of the plan has a provider and a require
    assert all(entry.providers and entry.requires for entry in plan_entries(trial))
