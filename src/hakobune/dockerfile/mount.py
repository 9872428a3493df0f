"""`RUN --mount=…`: reading and checking its options (Dockerfile reference "RUN --mount")."""

from __future__ import annotations

import re
from collections.abc import Callable
from posixpath import basename, join, normpath

from msgspec import Struct, field

from hakobune.dockerfile.errors import TextError, did_you_mean
from hakobune.dockerfile.instructions import Mount, MountFlag, MountType, Sharing

_KEYS = {
    "type": "type",
    "from": "from",
    "source": "source",
    "src": "source",
    "target": "target",
    "dst": "target",
    "destination": "target",
    "readonly": "ro",
    "ro": "ro",
    "readwrite": "rw",
    "rw": "rw",
    "id": "id",
    "sharing": "sharing",
    "required": "required",
    "size": "size",
    "mode": "mode",
    "uid": "uid",
    "gid": "gid",
    "env": "env",
}
_NEEDS_NO_VALUE = frozenset({"ro", "rw", "required"})
_WITH_OWNER = frozenset({MountType.SECRET, MountType.SSH, MountType.CACHE})
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgtpKMGTP]?)[iI]?[bB]?")
_FIELD = re.compile(r'(?:"((?:[^"]|"")*)"|([^",]*))(?=,|\Z)')
_UNITS = {unit: 1024**power for power, unit in enumerate(["", "k", "m", "g", "t", "p"])}


def read_mount_flag(text: str) -> MountFlag:
    """Keep a flag for later, with what can be known before variables have values: where it mounts from.

    Raises:
        TextError: it is not a list of fields, or `from` holds a variable.
    """
    source = ""
    for field_text in _fields(text):
        key, equals, value = field_text.partition("=")
        if key.lower() == "from" and equals:
            dollar = value.find("$")
            if 0 <= dollar < len(value) - 1:
                raise TextError(
                    "a mount's from cannot hold a variable",
                    near=field_text,
                    fix="give the image a stage of its own (FROM $IMAGE AS name), and mount from that",
                )
            source = value
    return MountFlag(text, source)


class _Options(Struct):
    """What was said, before it is checked together."""

    type: MountType = MountType.BIND
    texts: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    sharing: Sharing | None = None
    read_only: bool | None = None
    required: bool = False


def read_mount(flag: MountFlag, expand: Callable[[str], str] = lambda value: value) -> Mount:
    """Read a flag, with variables in its values replaced.

    Raises:
        TextError: an unknown option, one that its type of mount does not have, or a value that makes no sense.
    """
    options = _Options()
    for field_text in _fields(flag.text):
        _read_field(options, field_text, expand)
    _check(options, flag.text)
    return _finish(options)


def mount_target(mount: Mount, working_dir: str) -> str:
    """Where in the image a bind, cache or tmpfs mount appears, absolute; without a target it is WORKDIR itself.

    Raises:
        TextError: it would cover the root.
    """
    target = normpath(join("/", working_dir, mount.target)).replace("//", "/")
    if target == "/":
        raise TextError(
            f"a {mount.type} mount cannot cover the root", near=mount.target, fix="add target=/PATH"
        )
    return target


def _fields(text: str) -> list[str]:
    """Comma-separated fields; a field in double quotes may hold commas, and `""` for a quote (RFC 4180)."""
    if not text:
        raise TextError(
            "--mount has no options", near="--mount", fix="write --mount=type=cache,target=/PATH"
        )
    fields: list[str] = []
    at = 0
    while True:
        match = _FIELD.match(text, at)
        if match is None:
            raise TextError(
                f"--mount={text} is not a list of options",
                near=text,
                fix="separate options by commas; put one that holds a comma in double quotes",
            )
        quoted, plain = match[1], match[2]
        fields.append(plain if quoted is None else quoted.replace('""', '"'))
        at = match.end()
        if at == len(text):
            return fields
        at += 1


def _read_field(options: _Options, text: str, expand: Callable[[str], str]) -> None:
    key, equals, value = text.partition("=")
    name = _KEYS.get(key.lower())
    if name is None:
        raise TextError(
            f"a mount has no option {key!r}",
            near=text,
            fix=did_you_mean(key, _KEYS) or "it knows " + ", ".join(sorted(_KEYS)),
        )
    if not equals and name not in _NEEDS_NO_VALUE:
        raise TextError(f"the mount option {key!r} needs a value", near=text, fix=f"{key}=VALUE")
    value = expand(value) if equals else "true"
    match name:
        case "type":
            options.type = _read_type(value, text)
        case "sharing":
            options.sharing = _read_sharing(value, text)
        case "ro":
            options.read_only = _read_bool(key, value, text)
        case "rw":
            options.read_only = not _read_bool(key, value, text)
        case "required":
            _only_for(options.type, {MountType.SECRET, MountType.SSH}, key, text)
            options.required = _read_bool(key, value, text)
        case "size":
            _only_for(options.type, {MountType.TMPFS}, key, text)
            options.numbers["size"] = _read_size(value, text)
        case "mode" | "uid" | "gid":
            options.numbers[name] = _read_number(key, value, 8 if name == "mode" else 10, text)
        case _:
            options.texts[name] = value


def _read_type(value: str, near: str) -> MountType:
    try:
        return MountType(value.lower())
    except ValueError:
        raise TextError(
            f"unknown mount type {value!r}",
            near=near,
            fix=did_you_mean(value, MountType) or "types are " + ", ".join(MountType),
        ) from None


def _read_sharing(value: str, near: str) -> Sharing:
    try:
        return Sharing(value.lower())
    except ValueError:
        raise TextError(
            f"unknown sharing {value!r}",
            near=near,
            fix=did_you_mean(value, Sharing) or "sharing is one of " + ", ".join(Sharing),
        ) from None


def _read_bool(key: str, value: str, near: str) -> bool:
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise TextError(f"{key} is true or false, not {value!r}", near=near, fix=f"write {key}=true")


def _read_number(key: str, value: str, base: int, near: str) -> int:
    digits = "01234567" if base == 8 else "0123456789"
    fits = 0 < len(value) < 20 and all(char in digits for char in value)
    if fits and int(value, base) < 2**32:
        return int(value, base)
    kind = "an octal number such as 0400" if base == 8 else "a number"
    raise TextError(
        f"{key} is {kind}, not {value!r}", near=near, fix=f"{key}={'0400' if base == 8 else '1000'}"
    )


def _read_size(value: str, near: str) -> int:
    match = _SIZE.fullmatch(value)
    if match is None or len(value) > 30:
        raise TextError(
            f"{value!r} is not a size", near=near, fix="write a number with a unit: size=64m"
        )
    return int(float(match[1]) * _UNITS[match[2].lower()])


def _only_for(type_: MountType, allowed: set[MountType], key: str, near: str) -> None:
    if type_ not in allowed:
        names = " or ".join(f"type={kind}" for kind in sorted(allowed))
        raise TextError(
            f"a {type_} mount has no {key}", near=near, fix=f"{key} needs {names} in front of it"
        )


def _check(options: _Options, text: str) -> None:
    """What only the options together can tell."""
    kind = options.type
    if kind not in _WITH_OWNER:
        for key in ("mode", "uid", "gid"):
            if key in options.numbers:
                raise TextError(f"a {kind} mount has no {key}", near=text, fix=f"leave {key} out")
    if options.sharing is not None and kind is not MountType.CACHE:
        raise TextError(f"a {kind} mount has no sharing", near=text, fix="only type=cache has it")
    if kind is MountType.SECRET:
        _check_secret(options, text)


def _check_secret(options: _Options, text: str) -> None:
    texts = options.texts
    if texts.get("from"):
        raise TextError("a secret mount has no from", near=text, fix="leave from out")
    if not (texts.get("source") or texts.get("target") or texts.get("id")):
        raise TextError("a secret mount needs an id or a target", near=text, fix="add id=NAME")
    if texts.get("source") and texts.get("id"):
        raise TextError(
            "source and id of a secret are the same thing", near=text, fix="leave source out"
        )


def _finish(options: _Options) -> Mount:
    kind, texts, numbers = options.type, options.texts, options.numbers
    target = texts.get("target", "")
    name = texts.get("id", "")
    if kind is MountType.SECRET:
        name = texts.get("source") or name or basename(target)
    elif kind is MountType.SSH:
        name = name or "default"
    elif kind is MountType.CACHE:
        name = name or normpath(target)
    read_only = options.read_only
    if read_only is None:
        read_only = kind not in (MountType.CACHE, MountType.TMPFS)
    return Mount(
        type=kind,
        target=target,
        from_=texts.get("from", ""),
        source="" if kind is MountType.SECRET else texts.get("source", ""),
        id=name,
        sharing=options.sharing or Sharing.SHARED,
        read_only=read_only,
        required=options.required,
        env=texts.get("env"),
        mode=numbers.get("mode"),
        uid=numbers.get("uid"),
        gid=numbers.get("gid"),
        size_bytes=numbers.get("size", 0),
    )
