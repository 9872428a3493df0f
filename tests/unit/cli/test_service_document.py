from pathlib import Path

import pytest

from hakobune.cli.service_document import (
    Wish,
    check_wish,
    default_service_name,
    parse_cpu,
    parse_memory,
    parse_service_name,
    parse_timeout,
    wanted_service,
)
from hakobune.errors import UsageError


def test_a_new_service_holds_what_was_asked_for():
    wish = Wish(
        image="hako/apps/shop@sha256:1",
        source="/src/shop",
        port=3000,
        env={"A": "1"},
        memory="1Gi",
        cpu="2",
        concurrency=5,
        timeout="60s",
        min_instances=1,
        max_instances=3,
    )

    assert wanted_service(None, wish) == {
        "annotations": {"hakobune.dev/source": "/src/shop"},
        "template": {
            "containers": [
                {
                    "image": "hako/apps/shop@sha256:1",
                    "ports": [{"containerPort": 3000}],
                    "env": [{"name": "A", "value": "1"}],
                    "resources": {
                        "startupCpuBoost": True,
                        "cpuIdle": True,
                        "limits": {"memory": "1Gi", "cpu": "2"},
                    },
                }
            ],
            "maxInstanceRequestConcurrency": 5,
            "timeout": "60s",
            "scaling": {"minInstanceCount": 1, "maxInstanceCount": 3},
        },
    }


def test_a_second_deploy_keeps_what_is_not_named():
    first = wanted_service(None, Wish(image="a", port=3000, env={"A": "1", "B": "2"}, memory="1Gi"))

    second = wanted_service(first, Wish(image="b", env={"A": "9"}, removed_env=("B",)))

    container = second["template"]["containers"][0]
    assert container["image"] == "b"
    assert container["ports"] == [{"containerPort": 3000}]
    assert container["env"] == [{"name": "A", "value": "9"}]
    assert container["resources"]["limits"] == {"memory": "1Gi"}


def test_a_revision_name_given_once_is_not_used_twice():
    current = {"template": {"revision": "shop-blue", "containers": [{"image": "a"}]}}

    assert "revision" not in wanted_service(current, Wish(image="b"))["template"]


@pytest.mark.parametrize(
    ("folder", "name"),
    [("/src/My Shop", "my-shop"), ("/src/2048_game", "game"), ("/x/Ünï", "n"), ("/x/" + "a" * 80, "a" * 49)],
)  # fmt: skip
def test_a_folder_gives_the_service_its_name(folder, name):
    assert default_service_name(Path(folder)) == name


def test_a_folder_without_a_letter_gives_no_name():
    with pytest.raises(UsageError, match="cannot make a service name"):
        default_service_name(Path("/src/123"))


@pytest.mark.parametrize("name", ["Shop", "shop-", "1shop", "a" * 50, "", "a_b"])
def test_a_name_that_cloud_run_refuses_is_refused(name):
    with pytest.raises(UsageError, match="cannot be the name"):
        parse_service_name(name)


@pytest.mark.parametrize(("text", "parsed"), [("300", "300s"), ("45s", "45s"), ("5m", "300s"), ("1h", "3600s")])  # fmt: skip
def test_a_timeout_is_given_in_seconds(text, parsed):
    assert parse_timeout(text) == parsed


@pytest.mark.parametrize(
    ("parse", "text"), [(parse_timeout, "soon"), (parse_memory, "512MB"), (parse_cpu, "two")]
)
def test_a_quantity_that_is_none_is_refused(parse, text):
    with pytest.raises(UsageError):
        parse(text)


@pytest.mark.parametrize(
    ("wish", "what"),
    [
        (Wish(image="", port=0), "--port 0 cannot be"),
        (Wish(image="", port=65536), "--port 65536 cannot be"),
        (Wish(image="", concurrency=0), "--concurrency 0 cannot be"),
        (Wish(image="", min_instances=-1), "--min-instances -1 cannot be"),
        (Wish(image="", max_instances=0), "--max-instances 0 cannot be"),
        (
            Wish(image="", min_instances=3, max_instances=2),
            "--min-instances 3 is more than --max-instances 2",
        ),
        (Wish(image="", timeout="3601s"), "--timeout 3601s cannot be"),
        (Wish(image="", env={"PORT": "1"}), "--env PORT cannot be set"),
    ],
)
def test_what_the_api_would_refuse_is_refused_before_the_build(wish, what):
    with pytest.raises(UsageError) as caught:
        check_wish(wish)

    assert caught.value.what == what


@pytest.mark.parametrize("text", ["0", "0.07", "79m"])
def test_too_little_cpu_is_refused(text):
    with pytest.raises(UsageError, match="too little"):
        parse_cpu(text)


@pytest.mark.parametrize("text", ["0", "1Mi", "16000000"])
def test_too_little_memory_is_refused(text):
    with pytest.raises(UsageError, match="too little"):
        parse_memory(text)
