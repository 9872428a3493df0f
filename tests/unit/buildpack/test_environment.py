import pytest

from hakobune.buildpack.environment import (
    apply_env_files,
    apply_layer_directories,
    apply_user_env,
    inherit,
)
from hakobune.errors import HakoError


def apply(env: dict[str, str], **files: str) -> dict[str, str]:
    """Files by name, `__` standing for the dot."""
    contents = {name.replace("__", "."): text.encode() for name, text in files.items()}
    return apply_env_files(env, contents, folder="env")


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("VAR", "old", "new"),
        ("VAR__override", "old", "new"),
        ("VAR__override", "", "new"),
        ("VAR__append", "old", "oldnew"),
        ("VAR__append", "", "new"),
        ("VAR__prepend", "old", "newold"),
        ("VAR__prepend", "", "new"),
        ("VAR__default", "old", "old"),
        ("VAR__default", "", "new"),
        ("VAR__unknown", "old", "old"),
        ("VAR__delim", "old", "old"),
    ],
)
def test_what_each_suffix_does(file: str, old: str, new: str) -> None:
    assert apply({"VAR": old}, **{file: "new"})["VAR"] == new


def test_a_default_is_set_where_there_is_no_variable() -> None:
    assert apply({}, VAR__default="new") == {"VAR": "new"}


def test_a_delimiter_stands_between_old_and_new_only() -> None:
    assert apply({"V": "old"}, V__append="new", V__delim="**") == {"V": "old**new"}
    assert apply({"V": "old"}, V__prepend="new", V__delim=":") == {"V": "new:old"}
    assert apply({}, V__append="new", V__delim=":") == {"V": "new"}


def test_contents_are_neither_trimmed_nor_expanded() -> None:
    assert apply({}, V=" $HOME \n") == {"V": " $HOME \n"}


def test_files_are_applied_in_lexical_order() -> None:
    assert apply({"V": "x"}, V__prepend="p", V__append="a", V__override="o") == {"V": "po"}


def test_the_suffix_begins_at_the_first_dot() -> None:
    assert apply({}, V__append__extra="new") == {}


def test_operators_files_without_suffix_are_defaults() -> None:
    files = {"SET": b"operator", "UNSET": b"operator"}

    env = apply_env_files({"SET": "mine"}, files, folder="env", unsuffixed="default")

    assert env == {"SET": "mine", "UNSET": "operator"}


def test_bytes_that_are_not_utf8_survive() -> None:
    env = apply_env_files({}, {"V": b"\xff"}, folder="env")

    assert env["V"].encode("utf-8", "surrogateescape") == b"\xff"


def test_a_nul_byte_is_refused_with_the_files_name() -> None:
    with pytest.raises(HakoError, match=r"layer/env/V\.append"):
        apply_env_files({}, {"V.append": b"a\0b"}, folder="layer/env")


def test_files_that_name_no_variable_are_ignored() -> None:
    assert apply_env_files({}, {".append": b"x", "A=B": b"x"}, folder="env") == {}


def test_a_build_layers_folders_are_prepended_to_their_variables() -> None:
    env = apply_layer_directories(
        {"PATH": "/bin"}, "/layers/x/y", ["bin", "lib", "include", "pkgconfig", "share"]
    )

    assert env == {
        "PATH": "/layers/x/y/bin:/bin",
        "LD_LIBRARY_PATH": "/layers/x/y/lib",
        "LIBRARY_PATH": "/layers/x/y/lib",
        "CPATH": "/layers/x/y/include",
        "PKG_CONFIG_PATH": "/layers/x/y/pkgconfig",
    }


def test_the_users_path_goes_in_front_and_other_variables_replace() -> None:
    env = apply_user_env(
        {"PATH": "/bin", "A": "old"}, {"PATH": b"/mine", "A": b"new", "CPATH": b"/c"}, folder="env"
    )

    assert env == {"PATH": "/mine:/bin", "A": "new", "CPATH": "/c"}


def test_users_file_names_have_no_suffixes() -> None:
    assert apply_user_env({}, {"A.append": b"x"}, folder="env") == {"A.append": "x"}


def test_buildpacks_inherit_only_what_the_specification_lists() -> None:
    image = {"PATH": "/bin", "HOME": "/home/cnb", "SECRET": "x", "http_proxy": "p"}

    assert inherit(image, {"SSL_CERT_FILE": "/ca"}) == {
        "PATH": "/bin",
        "HOME": "/home/cnb",
        "http_proxy": "p",
        "SSL_CERT_FILE": "/ca",
    }
