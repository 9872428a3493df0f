from pathlib import Path

import pytest

from hakobune.errors import UsageError
from hakobune.settings import Settings


def read(uid=0, **env):
    return Settings.from_environment(env, uid=uid)


def test_root_lives_in_var_lib():
    settings = read()

    assert settings.home == Path("/var/lib/hakobune")
    assert (settings.host, settings.port) == ("localhost", 8080)
    assert (settings.first_service_port, settings.last_service_port) == (18080, 18179)
    assert settings.installation == "hako"


def test_a_user_lives_in_the_xdg_data_folder():
    assert read(uid=1000, HOME="/home/a").home == Path("/home/a/.local/share/hakobune")
    assert read(uid=1000, HOME="/home/a", XDG_DATA_HOME="/d").home == Path("/d/hakobune")


def test_two_homes_have_two_short_names():
    one, two = read(HAKO_HOME="/a").installation, read(HAKO_HOME="/b").installation

    assert one != two
    assert len(one) == 10


@pytest.mark.parametrize("listen", ["8080", "localhost", "localhost:0", "localhost:99999", ":80"])
def test_a_listen_address_without_host_or_port_is_refused(listen):
    with pytest.raises(UsageError, match="cannot listen on"):
        read(HAKO_LISTEN=listen)


def test_an_ipv6_address_is_written_in_brackets():
    settings = read(HAKO_LISTEN="[::1]:9000")

    assert (settings.host, settings.port) == ("::1", 9000)


@pytest.mark.parametrize("ports", ["20", "9-8", "a-b", "1-70000"])
def test_a_range_of_ports_that_is_none_is_refused(ports):
    with pytest.raises(UsageError, match="as service ports"):
        read(HAKO_PORTS=ports)


def test_the_registry_listens_above_the_service_ports():
    assert read().registry_listen == ("localhost", 18180)
    assert read(HAKO_LISTEN="[::1]:9000").registry_listen == ("::1", 19100)
    assert read(HAKO_LISTEN="localhost:60000").registry_listen is None
    assert read(HAKO_REGISTRY_LISTEN="0.0.0.0:5000").registry_listen == ("0.0.0.0", 5000)
    assert read(HAKO_REGISTRY_LISTEN="off").registry_listen is None


def test_the_registry_keeps_all_in_the_home_unless_told_otherwise():
    settings = read(HAKO_HOME="/h")

    assert settings.registry_database == "sqlite:////h/registry/meta.db"
    assert settings.registry_files == settings.registry == Path("/h/registry")
    assert read(HAKO_REGISTRY_STORAGE="/srv").registry_files == Path("/srv")
    assert read(HAKO_HOME="/h", HAKO_REGISTRY_STORAGE="s3://b/p").registry_files == Path(
        "/h/registry"
    )


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HAKO_REGISTRY_LISTEN", "5000"),
        ("HAKO_REGISTRY_DATABASE", "mysql://a:secret@b/c"),
        ("HAKO_REGISTRY_STORAGE", "blobs"),
        ("HAKO_REGISTRY_MIRRORS", "hub.test"),
        ("HAKO_REGISTRY_MIRRORS", "hub.test=demo"),
        ("HAKO_REGISTRY_MIRRORS", "=demo/hub"),
        ("HAKO_REGISTRY_MIRRORS", "hub.test=demo/hub/x"),
        ("HAKO_REGISTRY_MIRRORS", "a'b=demo/hub"),
    ],
)
def test_a_setting_of_the_registry_that_cannot_be_is_refused_by_name(variable, value):
    with pytest.raises(UsageError, match=variable) as refused:
        read(**{variable: value})
    assert "secret" not in str(refused.value)


def test_mirrors_are_names_of_repositories():
    settings = read(HAKO_REGISTRY_MIRRORS="Hub.test:5000=demo/hub, docker.io=demo/hub")

    assert settings.registry_mirrors == (
        ("hub.test:5000", "demo", "hub"),
        ("docker.io", "demo", "hub"),
    )
    assert settings.mirror_hosts == ("docker.io", "hub.test")
    assert read().mirror_hosts == ()


def test_the_registry_knows_its_own_addresses():
    assert read(HAKO_LISTEN="[::1]:9000", HAKO_REGISTRY_LISTEN="off").registry_hosts == (
        "[::1]:9000",
        "localhost:9000",
        "127.0.0.1:9000",
    )


def test_the_past_is_kept_for_as_long_as_is_said() -> None:
    assert read().registry_history_days == 400
    assert read(HAKO_REGISTRY_HISTORY_DAYS="0").registry_history_days == 0
    for text in ("-1", "1.5", "a year", "²"):
        with pytest.raises(UsageError, match="audit trail"):
            read(HAKO_REGISTRY_HISTORY_DAYS=text)
