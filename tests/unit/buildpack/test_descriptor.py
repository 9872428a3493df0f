import pytest

from hakobune.buildpack.descriptor import (
    Buildpack,
    BuildpackApi,
    BuildpackApiError,
    allows_exec_env,
    effective_targets,
    escape_id,
    parse_buildpack,
)
from hakobune.buildpack.document import InvalidDocumentError
from hakobune.buildpack.target import Distribution, ImageTarget, Target

DEBIAN = ImageTarget(os="linux", arch="amd64", distro=Distribution(name="debian", version="13"))


def a_buildpack(toml: str = "", *, api: str = "0.12", table: str = "") -> Buildpack:
    text = f'api = "{api}"\n[buildpack]\nid = "hako/x"\nversion = "1.2.3"\n{table}\n{toml}\n'
    return parse_buildpack(text.encode(), name="buildpack.toml")


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(InvalidDocumentError) as caught:
        parse_buildpack(text.encode(), name="buildpack.toml")
    return caught.value.problems


def test_a_component_buildpack_is_read() -> None:
    buildpack = a_buildpack(
        '[[targets]]\nos = "linux"\n[[targets.distros]]\nname = "debian"\n[metadata]\nown = 1\n',
        table='homepage = "https://x.test"\nclear-env = true\nsbom-formats = ["application/spdx+json"]',
    )

    assert buildpack.full_name == "hako/x@1.2.3"
    assert buildpack.directory == "/cnb/buildpacks/hako_x/1.2.3"
    assert buildpack.buildpack.clear_env
    assert buildpack.targets == (Target(os="linux", distros=(Distribution(name="debian"),)),)
    assert buildpack.metadata == {"own": 1}
    assert not buildpack.is_composite


def test_a_composite_buildpack_has_an_order() -> None:
    buildpack = a_buildpack(
        '[[order]]\n[[order.group]]\nid = "a"\nversion = "1"\noptional = true\n'
    )

    assert buildpack.is_composite
    assert buildpack.order[0].group[0].optional


def test_exec_env_is_read_in_both_spellings() -> None:
    practice = a_buildpack(table='exec-env = ["test"]')
    specification = a_buildpack('[[buildpack.exec-env]]\nname = "test"\n')

    assert practice.buildpack.exec_env == ("test",)
    assert specification.buildpack.exec_env == ("test",)


def test_a_variant_is_read_in_both_spellings() -> None:
    assert a_buildpack('[[targets]]\nvariant = "v8"\n').targets[0].variant == "v8"
    assert a_buildpack('[[targets]]\narch-variant = "v8"\n').targets[0].variant == "v8"


def test_keys_of_its_own_do_not_make_a_buildpack_invalid() -> None:
    assert a_buildpack("[own]\nx = 1\n").id == "hako/x"


def test_a_misspelled_table_is_reported_with_what_was_meant() -> None:
    assert problems('api = "0.12"\n[buildpack]\nid = "x"\nversion = "1"\n[[target]]\n') == (
        "buildpack.toml:5: target: there is no such key (did you mean 'targets'?)",
    )


def test_what_is_missing_is_reported_together() -> None:
    assert problems("[buildpack]\nname = 3\n") == (
        "buildpack.toml:2: buildpack.name: Expected 'str', got 'int'",
        "buildpack.toml:1: buildpack: the key 'id' is missing",
        "buildpack.toml:1: buildpack: the key 'version' is missing",
        "buildpack.toml: the key 'api' is missing",
    )


@pytest.mark.parametrize("identity", ["app", "config", "generated", "sbom", "SBOM"])
def test_reserved_ids_are_refused(identity: str) -> None:
    text = f'api = "0.12"\n[buildpack]\nid = "{identity}"\nversion = "1"\n'

    assert "is a reserved name" in problems(text)[0]


@pytest.mark.parametrize("identity", ["a b", "a_b", "a:b", "a@b"])
def test_ids_hold_letters_digits_dots_slashes_and_dashes_only(identity: str) -> None:
    text = f'api = "0.12"\n[buildpack]\nid = "{identity}"\nversion = "1"\n'

    assert "may hold digits, letters" in problems(text)[0]


def test_an_order_and_targets_exclude_each_other() -> None:
    text = (
        'api = "0.12"\n[buildpack]\nid = "x"\nversion = "1"\n[[targets]]\n[[order]]\n'
        '[[order.group]]\nid = "a"\n'
    )

    assert "has neither targets nor stacks" in problems(text)[0]


def test_versions_that_are_not_semantic_are_accepted() -> None:
    text = b'api = "0.12"\n[buildpack]\nid = "x"\nversion = "2026-11-rc.1"\n'

    assert parse_buildpack(text, name="f").version == "2026-11-rc.1"


@pytest.mark.parametrize("api", ["0.8", "0.9", "0.10", "0.11", "0.12"])
def test_supported_apis(api: str) -> None:
    assert str(a_buildpack(api=api).api_version) == api


@pytest.mark.parametrize("api", ["0.2", "0.7", "0.13", "1.0", "x", ""])
def test_other_apis_are_refused_with_exit_code_12_and_the_supported_range(api: str) -> None:
    with pytest.raises(BuildpackApiError) as caught:
        _ = a_buildpack(api=api).api_version

    assert caught.value.exit_code == 12
    assert "hako/x@1.2.3" in caught.value.what
    assert "0.8 to 0.12" in caught.value.why


def test_apis_compare_by_number() -> None:
    assert BuildpackApi(0, 9) < BuildpackApi(0, 10)


@pytest.mark.parametrize(
    ("target", "matches"),
    [
        (Target(), True),
        (Target(os="linux"), True),
        (Target(os="windows"), False),
        (Target(os="linux", arch="arm64"), False),
        (Target(os="linux", arch="amd64", variant="v2"), True),
        (Target(distros=(Distribution(name="debian", version="13"),)), True),
        (Target(distros=(Distribution(name="debian", version="12"),)), False),
        (Target(distros=(Distribution(name="debian"),)), True),
        (Target(distros=(Distribution(name="ubuntu"), Distribution(name="debian"))), True),
    ],
)
def test_a_target_matches_where_fields_are_equal_or_empty(target: Target, matches: bool) -> None:
    assert target.matches(DEBIAN) is matches


def test_a_target_with_distributions_needs_an_image_that_names_its_own() -> None:
    target = Target(distros=(Distribution(name="debian"),))

    assert not target.matches(ImageTarget(os="linux", arch="amd64"))


def test_without_targets_a_star_stack_means_anything() -> None:
    buildpack = a_buildpack('[[stacks]]\nid = "*"\n', api="0.9")

    assert effective_targets(buildpack, has_build=True) == (Target(),)


def test_without_targets_and_known_stacks_bin_build_means_linux() -> None:
    buildpack = a_buildpack('[[stacks]]\nid = "io.buildpacks.stacks.jammy"\n', api="0.9")

    assert effective_targets(buildpack, has_build=True) == (Target(os="linux"),)
    assert effective_targets(buildpack, has_build=False) == ()


def test_the_bionic_stack_means_ubuntu_18_04() -> None:
    buildpack = a_buildpack('[[stacks]]\nid = "io.buildpacks.stacks.bionic"\n', api="0.9")

    assert effective_targets(buildpack, has_build=True) == (
        Target(os="linux", arch="amd64", distros=(Distribution(name="ubuntu", version="18.04"),)),
    )


def test_ids_are_escaped_for_folders() -> None:
    assert escape_id("paketo-buildpacks/node.js") == "paketo-buildpacks_node.js"


@pytest.mark.parametrize(
    ("listed", "allowed"),
    [((), True), (("*",), True), (("test",), False), (("test", "production"), True)],
)
def test_an_empty_list_of_execution_environments_allows_all(
    listed: tuple[str, ...], allowed: bool
) -> None:
    assert allows_exec_env(listed, "production") is allowed


def test_sbom_formats_are_compared_without_parameters() -> None:
    buildpack = a_buildpack(table='sbom-formats = ["application/vnd.cyclonedx+json; version=1.5"]')

    assert buildpack.declares_sbom("cdx")
    assert not buildpack.declares_sbom("spdx")
    assert not buildpack.declares_sbom("txt")
