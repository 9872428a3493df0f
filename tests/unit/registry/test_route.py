"""What a path names."""

from __future__ import annotations

import pytest

from hakobune.registry.route import OTHER, Kind, Route, find_route, is_name, is_tag, split_name


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/v2", Route(Kind.BASE)),
        ("/v2/", Route(Kind.BASE)),
        ("/v2/_catalog", Route(Kind.CATALOG)),
        ("/v2/token", Route(Kind.TOKEN)),
        ("/token", Route(Kind.TOKEN)),
        ("/healthz", Route(Kind.HEALTH)),
        ("/metrics", Route(Kind.METRICS)),
        ("/v1/projects/p/locations/l/repositories", Route(Kind.API)),
        ("/v2/p/r/i/manifests/latest", Route(Kind.MANIFEST, "p/r/i", "latest")),
        ("/v2/p/r/a/b/manifests/sha256:0", Route(Kind.MANIFEST, "p/r/a/b", "sha256:0")),
        ("/v2/p/r/i/blobs/sha256:0", Route(Kind.BLOB, "p/r/i", "sha256:0")),
        ("/v2/p/r/i/blobs/uploads/", Route(Kind.UPLOADS, "p/r/i")),
        ("/v2/p/r/i/blobs/uploads", Route(Kind.UPLOADS, "p/r/i")),
        ("/v2/p/r/i/blobs/uploads/abc", Route(Kind.UPLOAD, "p/r/i", "abc")),
        ("/v2/p/r/i/tags/list", Route(Kind.TAGS, "p/r/i")),
        ("/v2/p/r/i/referrers/sha256:0", Route(Kind.REFERRERS, "p/r/i", "sha256:0")),
    ],
)
def test_a_path_names_one_thing(path: str, route: Route) -> None:
    assert find_route(path) == route


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/v2/p/blobs/manifests/manifests/x", Route(Kind.MANIFEST, "p/blobs/manifests", "x")),
        ("/v2/p/r/blobs/blobs/sha256:0", Route(Kind.BLOB, "p/r/blobs", "sha256:0")),
        ("/v2/p/r/manifests/tags/list", Route(Kind.TAGS, "p/r/manifests")),
        ("/v2/p/r/blobs/uploads/tags/list", Route(Kind.TAGS, "p/r/blobs/uploads")),
    ],
)
def test_images_may_be_called_blobs_and_manifests(path: str, route: Route) -> None:
    assert find_route(path) == route


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v3/", "/v2/x", "/v2/_oci/ext/p/manifests/x", "/v2/p/r/i/tags", "/v2//"]
)
def test_other_paths_name_nothing(path: str) -> None:
    assert find_route(path) == OTHER


def test_names_follow_the_specifications_grammar() -> None:
    assert all(map(is_name, ["a", "a/b", "a.b/c_d/e__f/g--h", "0/1", "a" * 255]))
    assert not any(map(is_name, ["", "A", "a//b", "/a", "a/", "a..b", "a___b", "-a", "a" * 256]))


def test_tags_follow_the_specifications_grammar() -> None:
    assert all(map(is_tag, ["latest", "_x", "1.0-rc.1", "V", "a" * 128]))
    assert not any(map(is_tag, ["", "-a", ".a", "a:b", "a/b", "a" * 129]))


def test_the_first_two_segments_of_a_name_are_the_repository() -> None:
    name = split_name("project/repository/image/sub")

    assert name is not None
    assert (name.project, name.repository, name.image) == ("project", "repository", "image/sub")
    assert split_name("project/repository") is None
