import pytest
from hypothesis import given
from hypothesis import strategies as st

from hakobune.oci.digest import Digest
from hakobune.oci.reference import Reference, ReferenceFormatError

DIGEST = Digest.of(b"x")


@pytest.mark.parametrize(
    ("text", "full", "short"),
    [
        ("web", "docker.io/library/web:latest", "web"),
        ("web:v2", "docker.io/library/web:v2", "web:v2"),
        ("shop/web", "docker.io/shop/web:latest", "shop/web"),
        ("docker.io/web", "docker.io/library/web:latest", "web"),
        ("index.docker.io/library/web:latest", "docker.io/library/web:latest", "web"),
        ("docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b"),
        ("localhost/web", "localhost/web:latest", "localhost/web"),
        ("localhost:8080/p/r/web:1", "localhost:8080/p/r/web:1", "localhost:8080/p/r/web:1"),
        ("library/localhost", "docker.io/library/localhost:latest", "localhost"),
        ("Host/web", "Host/web:latest", "Host/web"),
        ("[::1]:5000/web", "[::1]:5000/web:latest", "[::1]:5000/web"),
        (f"web@{DIGEST}", f"docker.io/library/web@{DIGEST}", f"web@{DIGEST}"),
        (f"web:latest@{DIGEST}", f"docker.io/library/web:latest@{DIGEST}", f"web:latest@{DIGEST}"),
        ("a.b/c", "a.b/c:latest", "a.b/c"),
        ("a__b/c--d.e", "docker.io/a__b/c--d.e:latest", "a__b/c--d.e"),
    ],
)
def test_names_are_read_as_docker_reads_them(text: str, full: str, short: str):
    reference = Reference.parse(text)

    assert str(reference) == full
    assert reference.short == short
    assert Reference.parse(short) == reference


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "components of lower-case"),
        ("Web", "lower case"),
        ("shop/Web", "lower case"),
        ("web:", "tag ''"),
        ("web:a b", "tag 'a b'"),
        ("web:" + "t" * 129, "more than 128"),
        ("web@latest", "not a digest"),
        ("web@", "not a digest"),
        ("../web", "is not a registry"),
        ("a/../b", "components of lower-case"),
        ("a//b", "components of lower-case"),
        ("/web", "components of lower-case"),
        ("web/", "components of lower-case"),
        ("-web", "components of lower-case"),
        ("web_", "components of lower-case"),
        ("host:port/web", "is not a registry"),
        ("web\n", "components of lower-case"),
        ("host.test/" + "a" * 250, "255"),
    ],
)
def test_what_is_no_name_is_refused_with_the_reason(text: str, why: str):
    with pytest.raises(ReferenceFormatError, match="not an image name") as caught:
        Reference.parse(text)

    assert why in caught.value.why


def test_a_fixed_digest_replaces_the_tag():
    fixed = Reference.parse("web:v1").with_digest(DIGEST)

    assert fixed == Reference.parse(f"web@{DIGEST}")


components = st.from_regex(r"[a-z0-9]{1,8}((\.|_|__|-)[a-z0-9]{1,8}){0,2}", fullmatch=True)
registries = st.just("docker.io") | st.from_regex(
    r"([a-z0-9]{1,8}\.[a-z]{2,4}|localhost)(:[1-9][0-9]{0,3})?", fullmatch=True
)
tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", fullmatch=True)


@given(
    registries,
    st.lists(components, min_size=1, max_size=4),
    st.one_of(st.none(), tags),
    st.booleans(),
)
def test_full_and_short_forms_parse_back_to_the_same_reference(registry, path, tag, digest):
    name = "/".join([registry, *path])
    text = name + (f":{tag}" if tag else "") + (f"@{DIGEST}" if digest else "")

    reference = Reference.parse(text)

    assert Reference.parse(str(reference)) == reference
    assert Reference.parse(reference.short) == reference


@given(st.text(alphabet="abzA09.-_/:@[]% \n\u0130", max_size=40))
def test_any_text_is_a_reference_that_round_trips_or_an_error(text: str):
    try:
        reference = Reference.parse(text)
    except ReferenceFormatError:
        return
    assert Reference.parse(str(reference)) == reference
    assert Reference.parse(reference.short) == reference
    assert ".." not in reference.repository.split("/")


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("shop/Web:Latest", "write shop/web:Latest"),
        ("https://registry.test/web", "write registry.test/web, without https://"),
        ("web:a b", ""),
    ],
)
def test_what_is_likely_meant_is_said(text: str, fix: str):
    with pytest.raises(ReferenceFormatError) as caught:
        Reference.parse(text)

    assert caught.value.fix == fix
