"""Rights that change in any order, in two processes that remember decisions, against a model of three dictionaries."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from hakobune.iam.errors import IamError
from hakobune.iam.policy import Binding, make_policy
from hakobune.iam.principal import ANONYMOUS, Principal, service_account, user
from hakobune.iam.roles import PULL, PUSH
from hakobune.registry.peer import Peer
from hakobune.registry.repository import Repository
from tests.unit.iam.store import Iam, an_iam, run

READER, WRITER = "roles/artifactregistry.reader", "roles/artifactregistry.writer"
HOLDS = {PULL: {READER, WRITER}, PUSH: {WRITER}}
REPOSITORIES = tuple(
    Repository(id=n, project="shop", location="local", name=f"r{n}") for n in (1, 2)
)
RESOURCES = ("projects/shop", *(r.resource for r in REPOSITORIES))
GROUPS = ("inner@x.org", "outer@x.org")
ACCOUNT = "builder@shop.iam.gserviceaccount.com"
PEOPLE = ("alice@example.com", ACCOUNT)
MEMBERS = (
    "user:alice@example.com", f"serviceAccount:{ACCOUNT}", *(f"group:{g}" for g in GROUPS),
    "domain:example.com", "allUsers", "allAuthenticatedUsers",
)  # fmt: skip
CLIENT = Peer(False, "-")

steps = st.one_of(
    st.tuples(
        st.just("policy"),
        st.sampled_from(RESOURCES),
        st.lists(st.tuples(st.sampled_from([READER, WRITER]), st.sampled_from(MEMBERS)), max_size=2),
    ),
    st.tuples(st.just("join"), st.sampled_from(GROUPS), st.sampled_from((*PEOPLE, GROUPS[0]))),
    st.tuples(st.just("leave"), st.sampled_from(GROUPS), st.sampled_from((*PEOPLE, GROUPS[0]))),
    st.tuples(st.just("disable"), st.booleans(), st.none()),
    st.tuples(st.just("push"), st.none(), st.none()),
    st.tuples(st.just("renew"), st.none(), st.none()),
)  # fmt: skip


@dataclass
class Model:
    """What should be so."""

    policies: dict[str, set[tuple[str, str]]] = field(default_factory=dict)
    groups: dict[str, set[str]] = field(default_factory=lambda: {g: set() for g in GROUPS})
    disabled: bool = False

    def members_that_are(self, principal: Principal) -> set[str]:
        if principal == ANONYMOUS:
            return {"allUsers"}
        found = {str(principal), "allUsers", "allAuthenticatedUsers"}
        if principal.email.endswith("@example.com"):
            found.add("domain:example.com")
        inside = {g for g in GROUPS if principal.email in self.groups[g]}
        inside |= {g for g in GROUPS if self.groups[g] & inside}
        return found | {f"group:{g}" for g in inside}

    def allows(self, principal: Principal, permission: str, repository: Repository) -> bool:
        if principal.email == ACCOUNT and self.disabled:
            return False
        mine = self.members_that_are(principal)
        return any(
            role in HOLDS[permission] and member in mine
            for resource in (repository.resource, "projects/shop")
            for role, member in self.policies.get(resource, ())
        )


class Machine:
    """Two processes over one database, and the model."""

    def __init__(self, one: Iam, other: Iam) -> None:
        self.processes = (one, other)
        self.model = Model()
        self.tokens: dict[Principal, str | None] = {ANONYMOUS: None}

    async def prepare(self) -> None:
        store = self.processes[0].store
        await store.accounts.create(
            "shop", "builder", display_name="", description="", actor="owner"
        )
        for group in GROUPS:
            await store.groups.create(group, display_name="", description="", actor="owner")
        for principal in (user(PEOPLE[0]), service_account(ACCOUNT)):
            text, _ = await store.issue_access_token(principal)
            self.tokens[principal] = f"Bearer {text}"

    async def take(self, number: int, step: tuple) -> None:
        iam = self.processes[number % 2]
        match step:
            case "policy", resource, pairs:
                policy = make_policy(Binding(role, (member,)) for role, member in pairs)
                await iam.store.policies.set(resource, policy, etag="", actor="owner")
                self.model.policies[resource] = set(pairs)
            case "join", group, member:
                try:
                    await iam.store.groups.add_member(group, member, actor="owner")
                except IamError:
                    assert member == group
                else:
                    self.model.groups[group].add(member)
            case "leave", group, member:
                try:
                    await iam.store.groups.remove_member(group, member, actor="owner")
                except IamError:
                    assert member not in self.model.groups[group]
                self.model.groups[group].discard(member)
            case "disable", disabled, _:
                await iam.store.accounts.update(ACCOUNT, disabled=disabled, actor="owner")
                self.model.disabled = disabled
            case "push", _, _:
                iam.generation.bump()
            case _:
                await iam.store.signing_keys.rotate(actor="owner")

    async def compare(self) -> None:
        for principal, authorization in self.tokens.items():
            for permission in HOLDS:
                for repository in REPOSITORIES:
                    expected = self.model.allows(principal, permission, repository)
                    for iam in self.processes:
                        decision = await iam.authorizer.decide(
                            authorization, CLIENT, permission, repository, f"{repository.path}/web"
                        )
                        assert decision.allowed is expected, (principal, permission, decision)


@given(st.lists(steps, max_size=12))
@settings(max_examples=25, deadline=None)
def test_every_process_decides_as_the_policies_say_after_every_change(tmp_path_factory, taken):
    async def main() -> None:
        home = tmp_path_factory.mktemp("iam")
        async with an_iam(home) as one, an_iam(home, one.clock) as other:
            machine = Machine(one, other)
            await machine.prepare()
            await machine.compare()
            for number, step in enumerate(taken):
                await machine.take(number, step)
                await machine.compare()

    run(main())
