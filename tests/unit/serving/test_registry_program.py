from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from hakobune.serving.registry_program import has_content, own_addresses, unix_sockets
from hakobune.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_environment({"HAKO_HOME": str(tmp_path)}, uid=0)


def test_it_is_reached_by_its_owner_and_by_haproxy(settings: Settings, tmp_path: Path) -> None:
    assert unix_sockets(settings) == (
        f"{tmp_path}/run/registry.sock",
        f"{tmp_path}/run/registry-tcp.sock",
    )


def test_a_port_that_another_program_has_is_left_out_with_a_warning(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = other.getsockname()
        taken = replace(settings, registry_listen=address)

        assert own_addresses(taken) == ()
        assert own_addresses(taken, held=[f"127.0.0.1:{address[1]}"]) == (
            f"127.0.0.1:{address[1]}",
        )
    assert "in use by another program" in caplog.text
    assert own_addresses(taken) == (f"127.0.0.1:{address[1]}",)


def test_no_port_of_its_own_is_no_warning(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    assert own_addresses(replace(settings, registry_listen=None)) == ()
    assert caplog.text == ""


def test_it_runs_at_once_when_there_may_be_something_to_look_after(settings: Settings) -> None:
    assert not has_content(settings)
    assert has_content(replace(settings, registry_database="postgresql://h/d"))

    settings.registry.mkdir()
    (settings.registry / "meta.db").touch()
    assert has_content(settings)
