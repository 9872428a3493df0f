"""Orders: alternatives of groups of buildpacks, and the component groups they stand for (pure).

CNB buildpack.md "Order Resolution", platform.md "order.toml" and "system.toml".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from hakobune.buildpack.descriptor import (
    Buildpack,
    GroupElement,
    Order,
    OrderGroup,
    allows_exec_env,
)
from hakobune.buildpack.document import suggest
from hakobune.errors import HakoError

Group = tuple[GroupElement, ...]


class OrderError(HakoError):
    """An order names what is not there, or contains itself; every problem is named."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("the order of buildpacks cannot be used", why="; ".join(problems))
        self.problems = tuple(problems)


class Catalog(msgspec.Struct, frozen=True):
    """The buildpacks of a builder, found by id and version."""

    buildpacks: Mapping[tuple[str, str], Buildpack]

    @classmethod
    def of(cls, buildpacks: Sequence[Buildpack]) -> Catalog:
        return cls({(b.id, b.version): b for b in buildpacks})

    def find(self, element: GroupElement) -> Buildpack | None:
        """The buildpack of exactly this id and version."""
        return self.buildpacks.get((element.id, element.version))

    def versions(self, buildpack_id: str) -> tuple[str, ...]:
        return tuple(version for id_, version in self.buildpacks if id_ == buildpack_id)


class SystemSide(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    buildpacks: tuple[GroupElement, ...] = ()


class SystemBuildpacks(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`[system]` of a builder: what goes before and after every group (Platform API 0.15)."""

    pre: SystemSide = SystemSide()
    post: SystemSide = SystemSide()


def resolve_order(order: Order, catalog: Catalog) -> Order:
    """Fill in omitted versions, and make sure that everything named can be found, at any depth.

    Raises:
        OrderError: unknown buildpacks, ambiguous versions, a composite inside itself; all at once.
    """
    problems: list[str] = []
    resolved = _with_versions(order, catalog, "the order", problems)
    _check_composites(resolved, catalog, (), set(), problems)
    if problems:
        raise OrderError(list(dict.fromkeys(problems)))
    return resolved


def add_system_buildpacks(order: Order, system: SystemBuildpacks) -> Order:
    """Put the system's buildpacks around each group; an id that is in the group already stays put."""

    def around(group: Group) -> Group:
        ids = {element.id for element in group}
        pre = tuple(e for e in system.pre.buildpacks if e.id not in ids)
        ids |= {element.id for element in pre}
        return pre + group + tuple(e for e in system.post.buildpacks if e.id not in ids)

    return tuple(OrderGroup(group=around(g.group)) for g in order)


def expand_order(
    order: Order, catalog: Catalog, *, exec_env: str = "production"
) -> Iterator[Group]:
    """Every group of component buildpacks that *order* stands for, in the order of the trials.

    A composite is replaced by each of its groups in turn before the next outer group is tried; an optional
    one also by nothing, last. Of an id that occurs twice the first occurrence counts. Buildpacks
    that are not for *exec_env* are left out. *order* must have been resolved.
    """
    for outer in order:
        yield from _expand(outer.group, (), catalog, exec_env)


def _expand(elements: Group, done: Group, catalog: Catalog, exec_env: str) -> Iterator[Group]:
    for index, element in enumerate(elements):
        if any(d.id == element.id for d in done):
            continue
        if not allows_exec_env(element.exec_env, exec_env):
            continue
        buildpack = _known(catalog, element)
        if buildpack.is_composite:
            rest = elements[index + 1 :]
            for inner in _with_versions(buildpack.order, catalog, element.id, []):
                yield from _expand(inner.group + rest, done, catalog, exec_env)
            if element.optional:
                yield from _expand(rest, done, catalog, exec_env)
            return
        if buildpack.runs_in(exec_env):
            done = (*done, element)
    yield done


def _known(catalog: Catalog, element: GroupElement) -> Buildpack:
    buildpack = catalog.find(element)
    if buildpack is None:
        raise OrderError([_missing(element, catalog, "the order")])
    return buildpack


def _with_versions(order: Order, catalog: Catalog, where: str, problems: list[str]) -> Order:
    return tuple(
        OrderGroup(group=tuple(_with_version(e, catalog, where, problems) for e in g.group))
        for g in order
    )


def _with_version(
    element: GroupElement, catalog: Catalog, where: str, problems: list[str]
) -> GroupElement:
    versions = catalog.versions(element.id)
    if element.version in versions:
        return element
    if not element.version and len(versions) == 1:
        return msgspec.structs.replace(element, version=versions[0])
    problems.append(_missing(element, catalog, where))
    return element


def _missing(element: GroupElement, catalog: Catalog, where: str) -> str:
    versions = catalog.versions(element.id)
    if not versions:
        meant = suggest(element.id, {id_ for id_, _ in catalog.buildpacks})
        return f"{where} names {element}, which the builder does not have{meant}"
    listed = ", ".join(versions)
    if not element.version:
        return f"{where} names {element.id} without a version, and the builder has {listed}"
    return f"{where} names {element}, but the builder has {listed}"


def _check_composites(
    order: Order,
    catalog: Catalog,
    path: tuple[str, ...],
    checked: set[str],
    problems: list[str],
) -> None:
    for element in (e for g in order for e in g.group):
        buildpack = catalog.find(element)
        if buildpack is None or not buildpack.is_composite:
            continue
        if buildpack.full_name in path:
            chain = " → ".join((*path[path.index(buildpack.full_name) :], buildpack.full_name))
            problems.append(f"a composite buildpack contains itself: {chain}")
        elif buildpack.full_name not in checked:
            checked.add(buildpack.full_name)
            where = f"the order of {buildpack.full_name}"
            inner = _with_versions(buildpack.order, catalog, where, problems)
            _check_composites(inner, catalog, (*path, buildpack.full_name), checked, problems)
