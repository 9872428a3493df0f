import pytest

from hakobune.oci.platform import Platform, PlatformError


@pytest.mark.parametrize(
    ("text", "platform"),
    [
        ("linux/amd64", Platform("linux", "amd64")),
        ("linux/arm64/v8", Platform("linux", "arm64", "v8")),
        ("Linux/x86_64", Platform("linux", "amd64")),
        ("linux/aarch64", Platform("linux", "arm64")),
        ("linux/armv7l", Platform("linux", "arm", "v7")),
    ],
)
def test_platforms_are_read_in_gos_and_in_unames_spelling(text: str, platform: Platform):
    assert Platform.parse(text) == platform


@pytest.mark.parametrize(
    "text", ["", "linux", "linux/", "/amd64", "linux/a/b/c", "linux/a b", "linux/../x"]
)
def test_what_is_no_platform_is_refused(text: str):
    with pytest.raises(PlatformError, match="is not a platform"):
        Platform.parse(text)


def test_a_variant_that_is_not_said_is_the_usual_one():
    assert Platform.parse("linux/arm64").matches(Platform.parse("linux/arm64/v8"))
    assert not Platform.parse("linux/arm/v6").matches(Platform.parse("linux/arm"))
    assert not Platform.parse("linux/amd64").matches(Platform.parse("linux/arm64"))


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v2", "linux/amd64/v2"),
    ],
)
def test_builders_write_a_platform_in_one_way(text: str, normal: str):
    assert str(Platform.parse(text).normal()) == normal


def test_this_machine_has_a_platform():
    assert Platform.host().os == "linux"
    assert Platform.parse(str(Platform.host())) == Platform.host()
