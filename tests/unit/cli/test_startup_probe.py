import pytest

from hakobune.cli.service_document import Wish, parse_startup_probe, wanted_service
from hakobune.errors import UsageError


@pytest.mark.parametrize(
    ("text", "probe"),
    [
        ("tcpSocket.port=9000", {"tcpSocket": {"port": 9000}}),
        ("httpGet.path=/up", {"httpGet": {"path": "/up"}}),
        (
            "httpGet.path=/up?a=b,httpGet.port=81,initialDelaySeconds=1,timeoutSeconds=2,"
            "periodSeconds=3,failureThreshold=4",
            {
                "httpGet": {"path": "/up?a=b", "port": 81},
                "initialDelaySeconds": 1,
                "timeoutSeconds": 2,
                "periodSeconds": 3,
                "failureThreshold": 4,
            },
        ),
        ("periodSeconds=5, failureThreshold=1", {"periodSeconds": 5, "failureThreshold": 1}),
    ],
)
def test_a_probe_is_read_as_gcloud_writes_it(text, probe):
    assert parse_startup_probe(text) == probe


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it says nothing"),
        (",", "it says nothing"),
        ("httpGet", "'httpGet' is not understood"),
        ("grpc.port=1", "'grpc.port=1' is not understood"),
        ("periodSeconds=ten", "periodSeconds=ten is no whole number"),
        ("periodSeconds=-1", "periodSeconds=-1 is no whole number"),
        ("periodSeconds=1,periodSeconds=2", "periodSeconds is given twice"),
        ("httpGet.path=/a,httpGet.path=/b", "httpGet.path is given twice"),
        ("tcpSocket.port=1,httpGet.path=/", "a probe is either tcpSocket or httpGet"),
    ],
)
def test_a_probe_that_cannot_be_used_is_refused_with_the_reason(text, why):
    with pytest.raises(UsageError) as caught:
        parse_startup_probe(text)

    assert caught.value.why == why
    assert caught.value.fix


def test_the_key_that_was_probably_meant_is_named():
    with pytest.raises(UsageError) as caught:
        parse_startup_probe("periodSecond=3")

    assert caught.value.fix == "periodSeconds=…"


def test_a_probe_is_kept_by_the_next_deploy_and_follows_a_new_port():
    wish = Wish(image="a", startup_probe={"httpGet": {"path": "/up", "port": 8080}})
    first = wanted_service(None, wish)

    same = wanted_service(first, Wish(image="b"))
    moved = wanted_service(first, Wish(image="b", port=9000))

    assert same["template"]["containers"][0]["startupProbe"] == wish.startup_probe
    assert moved["template"]["containers"][0]["startupProbe"] == {"httpGet": {"path": "/up"}}
