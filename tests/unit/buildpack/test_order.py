import pytest
from hypothesis import given
from hypothesis import strategies as st

from hakobune.buildpack.descriptor import (
    Buildpack,
    BuildpackTable,
    GroupElement,
    Order,
    OrderGroup,
)
from hakobune.buildpack.order import (
    Catalog,
    OrderError,
    SystemBuildpacks,
    SystemSide,
    add_system_buildpacks,
    expand_order,
    resolve_order,
)


def element(name: str) -> GroupElement:
    """`a`, `a?` (optional), `a@2`."""
    bare = name.rstrip("?")
    id_, _, version = bare.partition("@")
    return GroupElement(id=id_, version=version or "1", optional=name.endswith("?"))


def order(*groups: str) -> Order:
    return tuple(OrderGroup(group=tuple(element(e) for e in g.split())) for g in groups)


def a_component(id_: str, *, version: str = "1", exec_env: tuple[str, ...] = ()) -> Buildpack:
    table = BuildpackTable(id=id_, version=version, exec_env=exec_env)
    return Buildpack(api="0.12", buildpack=table)


def a_composite(id_: str, *groups: str) -> Buildpack:
    return Buildpack(
        api="0.12", buildpack=BuildpackTable(id=id_, version="1"), order=order(*groups)
    )


def components(names: str) -> list[Buildpack]:
    return [a_component(n) for n in names.split()]


def expand(top: Order, *buildpacks: Buildpack) -> list[str]:
    catalog = Catalog.of(buildpacks)
    groups = expand_order(resolve_order(top, catalog), catalog)
    return [" ".join(e.id + "?" * e.optional for e in g) for g in groups]


def test_groups_are_tried_from_top_to_bottom() -> None:
    assert expand(order("A B", "C"), *components("A B C")) == ["A B", "C"]


def test_composites_are_replaced_by_each_of_their_groups_depth_first() -> None:
    groups = expand(
        order("O P"),
        a_composite("O", "A B", "C D"),
        a_composite("P", "E F", "G H"),
        *components("A B C D E F G H"),
    )

    assert groups == ["A B E F", "A B G H", "C D E F", "C D G H"]


def test_a_composites_alternatives_come_before_the_next_outer_group() -> None:
    groups = expand(order("O", "X"), a_composite("O", "A", "B"), *components("A B X"))

    assert groups == ["A", "B", "X"]


def test_composites_nest() -> None:
    groups = expand(
        order("X O Y"),
        a_composite("O", "P Z"),
        a_composite("P", "A", "B"),
        *components("A B X Y Z"),
    )

    assert groups == ["X A Z Y", "X B Z Y"]


def test_an_optional_composite_may_be_nothing_last() -> None:
    groups = expand(order("O? X"), a_composite("O", "A", "B"), *components("A B X"))

    assert groups == ["A X", "B X", "X"]


def test_an_optional_component_stays_in_its_group() -> None:
    assert expand(order("A? B"), *components("A B")) == ["A? B"]


def test_the_first_occurrence_of_an_id_counts() -> None:
    groups = expand(order("A O B"), a_composite("O", "B A", "C"), *components("A B C"))

    assert groups == ["A B", "A C B"]


def test_an_id_in_two_versions_counts_once() -> None:
    buildpacks = (a_component("A"), a_component("A", version="2"))

    assert expand(order("A A@2"), *buildpacks) == ["A"]


def test_a_buildpack_for_another_execution_environment_is_left_out_even_if_required() -> None:
    buildpacks = (a_component("A", exec_env=("test",)), a_component("B"))

    assert expand(order("A B"), *buildpacks) == ["B"]


def test_an_element_of_an_order_may_be_for_one_execution_environment() -> None:
    catalog = Catalog.of(components("A B"))
    limited = GroupElement(id="A", version="1", exec_env=("test",))
    top = (OrderGroup(group=(limited, element("B"))),)

    production = list(expand_order(top, catalog))
    test = list(expand_order(top, catalog, exec_env="test"))

    assert [[e.id for e in g] for g in production] == [["B"]]
    assert [[e.id for e in g] for g in test] == [["A", "B"]]


def test_an_omitted_version_is_the_only_one_there_is() -> None:
    top = (OrderGroup(group=(GroupElement(id="A"),)),)

    resolved = resolve_order(top, Catalog.of([a_component("A", version="7")]))

    assert resolved[0].group[0].version == "7"


def test_an_omitted_version_in_a_composite_is_filled_too() -> None:
    composite = Buildpack(
        api="0.12",
        buildpack=BuildpackTable(id="O", version="1"),
        order=(OrderGroup(group=(GroupElement(id="A"),)),),
    )
    catalog = Catalog.of([composite, a_component("A", version="7")])

    groups = list(expand_order(resolve_order(order("O"), catalog), catalog))

    assert groups[0][0].version == "7"


def test_everything_that_cannot_be_found_is_reported_together() -> None:
    catalog = Catalog.of(
        [a_component("hako/python"), a_component("B"), a_component("B", version="2")]
    )
    top = (
        OrderGroup(group=(GroupElement(id="hako/pyton"), GroupElement(id="B"))),
        OrderGroup(group=(GroupElement(id="B", version="9"),)),
    )

    with pytest.raises(OrderError) as caught:
        resolve_order(top, catalog)

    assert caught.value.problems == (
        "the order names hako/pyton, which the builder does not have (did you mean 'hako/python'?)",
        "the order names B without a version, and the builder has 1, 2",
        "the order names B 9, but the builder has 1, 2",
    )


def test_what_a_composite_names_must_be_there_too() -> None:
    with pytest.raises(OrderError, match="cannot be used") as caught:
        resolve_order(order("O"), Catalog.of([a_composite("O", "A")]))

    assert caught.value.problems == ("the order of O@1 names A 1, which the builder does not have",)


def test_a_composite_in_itself_is_refused() -> None:
    catalog = Catalog.of([a_composite("O", "P"), a_composite("P", "O")])

    with pytest.raises(OrderError) as caught:
        resolve_order(order("O"), catalog)

    assert caught.value.problems == ("a composite buildpack contains itself: O@1 → P@1 → O@1",)


def test_system_buildpacks_go_around_every_group() -> None:
    system = SystemBuildpacks(
        pre=SystemSide(buildpacks=(element("S"), element("B"))),
        post=SystemSide(buildpacks=(element("T?"), element("S"))),
    )

    groups = add_system_buildpacks(order("A B", "C"), system)

    assert [[e.id for e in g.group] for g in groups] == [
        ["S", "A", "B", "T"],
        ["S", "B", "C", "T"],
    ]
    assert groups[0].group[-1].optional


@given(st.lists(st.lists(st.sampled_from("ABCDE"), min_size=1, max_size=4), min_size=1, max_size=4))
def test_expanded_groups_hold_each_id_once_and_only_ids_of_their_group(
    groups: list[list[str]],
) -> None:
    top = order(*(" ".join(g) for g in groups))

    expanded = expand(top, *components("A B C D E"))

    assert len(expanded) == len(groups)
    for ids, group in zip(expanded, groups, strict=True):
        assert ids.split() == list(dict.fromkeys(group))
