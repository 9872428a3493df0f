"""Images and repositories as people name them."""

from __future__ import annotations

import pytest

from hakobune.cli.artifacts_names import ImagePath, package_name, parse_image_path, short_id
from hakobune.errors import UsageError

HOSTS = ("localhost:8080", "127.0.0.1:8080")
DIGEST = "sha256:" + "a" * 64


def image(**fields: str) -> ImagePath:
    return ImagePath(
        **{"host": "localhost:8080", "project": "hako", "repository": "apps", **fields}
    )  # type: ignore[arg-type] # all are texts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("localhost:8080/hako/apps", image()),
        ("localhost:8080/hako/apps/", image()),
        ("http://localhost:8080/hako/apps/web", image(image="web")),
        ("localhost:8080/hako/apps/dir/web:v1", image(image="dir/web", tag="v1")),
        (f"localhost:8080/hako/apps/web@{DIGEST}", image(image="web", digest=DIGEST)),
        (f"localhost:8080/hako/apps/web:v1@{DIGEST}", image(image="web", tag="v1", digest=DIGEST)),
        (
            "europe-west3-docker.pkg.dev/shop/apps/web",
            image(host="europe-west3-docker.pkg.dev", location="europe-west3", project="shop", image="web"),
        ),
    ],
)  # fmt: skip
def test_a_path_is_taken_apart(text, expected):
    assert parse_image_path(text, hosts=HOSTS) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nginx", "'nginx' is another host"),
        ("docker.io/library/nginx", "'docker.io' is another host"),
        ("localhost:5000/hako/apps/web", "'localhost:5000' is another host"),
        ("hako/apps/web", "'hako' is another host"),
        ("", "it names no host"),
        ("localhost:8080/hako", "begins with host, project and repository"),
        ("localhost:8080/hako/apps:v1", "begins with host, project and repository"),
        ("localhost:8080/hako//web", "begins with host, project and repository"),
        ("localhost:8080/hako/apps/web:v 1", "a tag has"),
        ("localhost:8080/hako/apps/web@sha256:ab", "64 hex digits"),
    ],
)
def test_what_is_no_path_of_ours_is_refused_in_words(text, why):
    with pytest.raises(UsageError) as caught:
        parse_image_path(text, hosts=HOSTS)
    assert why in caught.value.why


def test_names_of_packages_escape_the_images_slashes():
    assert package_name("projects/p/locations/l/repositories/r", "dir/web").endswith("/dir%2Fweb")
    assert short_id("projects/p/locations/l/repositories/r/packages/dir%2Fweb") == "dir/web"
