import pytest

from hakobune.iam.policy import Binding, Policy, make_policy
from hakobune.iam.principal import registry_agent
from hakobune.registry.errors import RegistryError
from hakobune.registry.repository import Mode, Repository
from hakobune.registry.upstream_gate import AgentGate, SameProject
from tests.unit.iam.store import an_iam, run

SECRET = Repository(id=1, project="shop", location="local", name="secret")
INSIDE = Repository(id=2, project="shop", location="local", name="all", mode=Mode.VIRTUAL)
OUTSIDE = Repository(id=3, project="other", location="local", name="all", mode=Mode.VIRTUAL)


async def passes(gate, repository: Repository) -> bool:
    try:
        await gate.check(repository, SECRET)
    except RegistryError:
        return False
    return True


def test_another_projects_agent_needs_a_grant_and_loses_it_again(tmp_path):
    async def main():
        async with an_iam(tmp_path) as iam:
            gate = AgentGate(iam.store)
            asked = [await passes(gate, INSIDE), await passes(gate, OUTSIDE)]
            grant = Binding("roles/artifactregistry.reader", (str(registry_agent("other")),))
            for policy in (make_policy((grant,)), Policy()):
                await iam.store.policies.set(SECRET.resource, policy, etag="", actor="owner")
                asked.append(await passes(gate, OUTSIDE))
            return asked

    assert run(main()) == [True, False, True, False]


def test_a_project_that_took_its_agents_rights_away_still_shows_its_own(tmp_path):
    async def main():
        async with an_iam(tmp_path) as iam:
            await iam.store.policies.set("projects/shop", Policy(), etag="", actor="owner")
            return await passes(AgentGate(iam.store), INSIDE)

    assert run(main())


def test_without_policies_projects_are_apart():
    async def main():
        return [await passes(SameProject(), r) for r in (INSIDE, OUTSIDE)]

    assert run(main()) == [True, False]


def test_the_refusal_names_the_grant_that_helps_and_not_what_is_behind():
    async def main():
        await SameProject().check(OUTSIDE, SECRET)

    with pytest.raises(RegistryError) as error:
        run(main())
    assert error.value.code == "DENIED"
    assert registry_agent("other").email in error.value.message
    assert "roles/artifactregistry.reader" in error.value.message
    assert "secret" not in error.value.message
