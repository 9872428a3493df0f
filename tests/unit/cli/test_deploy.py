import argparse
import io
from pathlib import Path

import pytest

from hakobune.cli.deploy_options import add_run_arguments, wish_from_arguments
from hakobune.cli.deploy_target import choose_service, read_target
from hakobune.cli.main import Context
from hakobune.errors import UsageError
from hakobune.settings import Settings

HERE = Path.cwd()


def read(target, *, source=None, image=None, folders=()):
    return read_target(target, source=source, image=image, is_folder=lambda name: name in folders)


def service(name, source=None):
    annotations = {"hakobune.dev/source": source} if source else {}
    return {"name": f"projects/hako/locations/local/services/{name}", "annotations": annotations}


def test_a_path_is_the_folder():
    assert read("examples/web") == (None, HERE / "examples" / "web")


def test_the_name_of_a_folder_here_is_that_folder():
    assert read("web", folders=("web",)) == (None, HERE / "web")


def test_another_word_is_the_service_built_from_here():
    assert read("web") == ("web", HERE)


def test_with_a_source_the_word_is_the_service():
    assert read("web", source="../x", folders=("web",)) == ("web", HERE.parent / "x")


def test_with_an_image_there_is_no_folder():
    assert read("web", image="hako/apps/web") == ("web", None)


def test_nothing_said_is_the_current_folder():
    assert read(None) == (None, HERE)


def test_a_word_that_is_neither_is_refused():
    with pytest.raises(UsageError, match="cannot be the name"):
        read("Web_App")


def test_a_folder_keeps_the_service_it_was_deployed_to():
    services = [service("other", "/src/x"), service("shop", "/src/web")]

    assert choose_service(None, Path("/src/web"), services) == "shop"


def test_a_new_folder_gives_its_name():
    assert choose_service(None, Path("/src/web"), []) == "web"


def test_a_name_that_another_folder_has_is_not_taken_over():
    with pytest.raises(UsageError, match="deployed from /other/web"):
        choose_service(None, Path("/src/web"), [service("web", "/other/web")])


def test_several_services_of_one_folder_want_a_name():
    services = [service("a", "/src/web"), service("b", "/src/web")]

    with pytest.raises(UsageError, match="several services"):
        choose_service(None, Path("/src/web"), services)


def test_an_image_wants_a_name():
    with pytest.raises(UsageError, match="needs the service's name"):
        choose_service(None, None, [])


def wish(*arguments: str):
    parser = argparse.ArgumentParser()
    parser.add_argument("--image")
    add_run_arguments(parser)
    settings = Settings.from_environment({}, uid=0)
    context = Context(settings=settings, env={}, out=io.StringIO(), err=io.StringIO())
    return wish_from_arguments(parser.parse_args(arguments), context)


def test_a_service_that_cannot_be_private_is_not_said_to_be():
    assert wish("--allow-unauthenticated") == wish()
    with pytest.raises(UsageError, match="a service cannot be private yet"):
        wish("--no-allow-unauthenticated")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("python,main.py", ("python", "main.py")),
        ("^;^sh;-c;echo a,b", ("sh", "-c", "echo a,b")),
        ("^::^a::b", ("a", "b")),
        ("^", ("^",)),
        ("a,,b", ("a", "", "b")),
        ("", ()),
    ],
)
def test_command_and_args_are_lists_as_gcloud_takes_them(text, wanted):
    asked = wish(f"--command={text}", f"--args={text}")

    assert (asked.command, asked.args) == (wanted, wanted)


def test_without_command_and_args_they_stay_as_they_were():
    asked = wish()

    assert (asked.command, asked.args) == (None, None)
