"""What a deploy asks for, applied to a Cloud Run v2 Service document (pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hakobune.cli.client import Document
from hakobune.errors import UsageError

SOURCE_ANNOTATION = "hakobune.dev/source"
BUILDER_ANNOTATION = "hakobune.dev/builder"
NAME_LIMIT = 49  # Cloud Run's for a service id

_MEMORY = re.compile(r"^(\d+)(|k|M|G|Ki|Mi|Gi)$")
_CPU = re.compile(r"^(\d+(\.\d+)?|\d+m)$")
_TIMEOUT = re.compile(r"^(\d+)(s|m|h)?$")
LEAST_MEMORY = 16 << 20  # these two as in serving's validate
LEAST_CPU = 0.08
_UNITS = {"": 1, "k": 1000, "M": 1000**2, "G": 1000**3, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}
_SECONDS = {None: 1, "s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """The flags of one deploy; `None` and empty mean "as it was"."""

    image: str
    source: str | None = None
    builder: str | None = None
    port: int | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    removed_env: tuple[str, ...] = ()
    clear_env: bool = False
    command: tuple[str, ...] | None = None
    args: tuple[str, ...] | None = None
    memory: str | None = None
    cpu: str | None = None
    concurrency: int | None = None
    timeout: str | None = None
    startup_probe: Document | None = None
    min_instances: int | None = None
    max_instances: int | None = None


def wanted_service(current: Document | None, wish: Wish) -> Document:
    """The Service document to send: *current* (or a new service) with the wish's changes."""
    old = current or {}
    template = dict(old.get("template", {}))
    template.pop("revision", None)  # each revision's name is new
    template["containers"] = [_container((template.get("containers") or [{}])[0], wish)]
    if wish.concurrency is not None:
        template["maxInstanceRequestConcurrency"] = wish.concurrency
    if wish.timeout is not None:
        template["timeout"] = wish.timeout
    scaling = dict(template.get("scaling", {}))
    if wish.min_instances is not None:
        scaling["minInstanceCount"] = wish.min_instances
    if wish.max_instances is not None:
        scaling["maxInstanceCount"] = wish.max_instances
    if scaling:
        template["scaling"] = scaling
    annotations = dict(old.get("annotations", {}))
    if wish.source:
        annotations[SOURCE_ANNOTATION] = wish.source
    if wish.builder:
        annotations[BUILDER_ANNOTATION] = wish.builder
    return {"template": template, "annotations": annotations}


def _container(old: Document, wish: Wish) -> Document:
    container = dict(old)
    container["image"] = wish.image
    if wish.port is not None:
        container["ports"] = [{"containerPort": wish.port}]
        if "startupProbe" in container:
            container["startupProbe"] = _without_port(container["startupProbe"])
    if wish.startup_probe is not None:
        container["startupProbe"] = wish.startup_probe
    if wish.command is not None:
        container["command"] = list(wish.command)
    if wish.args is not None:
        container["args"] = list(wish.args)
    env = _env(old.get("env", []), wish)
    if env or "env" in container:
        container["env"] = env
    limits = dict(old.get("resources", {}).get("limits", {}))
    limits.update({k: v for k, v in (("memory", wish.memory), ("cpu", wish.cpu)) if v is not None})
    if limits:
        # With `resources` sent, Cloud Run takes an absent cpuIdle for "CPU always on".
        container["resources"] = {
            "startupCpuBoost": True,
            "cpuIdle": True,
            **old.get("resources", {}),
            "limits": limits,
        }
    return container


def _without_port(probe: Document) -> Document:
    """The probe, asking on whatever port the container has."""
    actions = ("tcpSocket", "httpGet")
    return {
        key: {k: v for k, v in value.items() if k != "port"} if key in actions else value
        for key, value in probe.items()
    }


def _env(old: list[Document], wish: Wish) -> list[Document]:
    kept: dict[str, Document] = {} if wish.clear_env else {entry["name"]: entry for entry in old}
    for name in wish.removed_env:
        kept.pop(name, None)
    for name, value in wish.env.items():
        kept[name] = {"name": name, "value": value}
    return list(kept.values())


def default_service_name(folder: Path) -> str:
    """A service name made from a folder's name.

    Raises:
        UsageError: the folder's name holds nothing usable.
    """
    name = re.sub(r"[^a-z0-9]+", "-", folder.name.lower()).strip("-")
    name = re.sub(r"^[^a-z]+", "", name)[:NAME_LIMIT].strip("-")
    if not name:
        raise UsageError(
            f"cannot make a service name from the folder {str(folder)!r}",
            why="a name is lower-case letters, digits and hyphens, and begins with a letter",
            fix="hako deploy NAME",
        )
    return name


def parse_service_name(text: str) -> str:
    """Check a service name given by a person.

    Raises:
        UsageError: Cloud Run would not take it.
    """
    if re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", text) and len(text) <= NAME_LIMIT:
        return text
    raise UsageError(
        f"{text!r} cannot be the name of a service",
        why=f"a name is at most {NAME_LIMIT} lower-case letters, digits and hyphens, begins with a letter and ends without a hyphen",
    )


RESERVED = frozenset({"PORT", "K_SERVICE", "K_REVISION", "K_CONFIGURATION"})
_RANGES = (
    ("--port", "port", 1, 65535),
    ("--concurrency", "concurrency", 1, 1000),
    ("--min-instances", "min_instances", 0, 1000),
    ("--max-instances", "max_instances", 1, 1000),
)


def check_wish(wish: Wish) -> None:
    """Refuse, before anything is built, what the API would refuse afterwards.

    Raises:
        UsageError: names the flag.
    """
    for flag, name, low, high in _RANGES:
        value = getattr(wish, name)
        if value is not None and not low <= value <= high:
            raise UsageError(f"{flag} {value} cannot be", fix=f"{flag} takes {low} to {high}")
    if wish.min_instances and wish.max_instances and wish.min_instances > wish.max_instances:
        raise UsageError(
            f"--min-instances {wish.min_instances} is more than --max-instances {wish.max_instances}"
        )
    if wish.timeout is not None and not 1 <= int(wish.timeout.rstrip("s")) <= 3600:
        raise UsageError(f"--timeout {wish.timeout} cannot be", fix="--timeout takes 1s to 3600s")
    for name in sorted(RESERVED & wish.env.keys()):
        raise UsageError(
            f"--env {name} cannot be set",
            why="this installation sets it for every instance",
            fix="--port N" if name == "PORT" else "",
        )


def parse_memory(text: str) -> str:
    """`512Mi`, `1Gi`, `512M`, or bytes, as Kubernetes writes quantities.

    Raises:
        UsageError: it is no such quantity.
    """
    found = _MEMORY.match(text)
    if not found:
        raise UsageError(f"--memory {text!r} is no amount of memory", fix="--memory 512Mi")
    if int(found[1]) * _UNITS[found[2]] < LEAST_MEMORY:
        raise UsageError(
            f"--memory {text} is too little", why="16Mi is the least", fix="--memory 512Mi"
        )
    return text


def parse_cpu(text: str) -> str:
    """`1`, `0.5` or `500m` processors.

    Raises:
        UsageError: it is no such number.
    """
    fix = "--cpu 1, --cpu 0.5 or --cpu 500m"
    if not _CPU.match(text):
        raise UsageError(f"--cpu {text!r} is no number of processors", fix=fix)
    if float(text.rstrip("m")) / (1000 if text.endswith("m") else 1) < LEAST_CPU:
        raise UsageError(f"--cpu {text} is too little", why=f"{LEAST_CPU} is the least", fix=fix)
    return text


def parse_timeout(text: str) -> str:
    """`300`, `300s`, `5m` or `1h`, given back in the API's form `300s`.

    Raises:
        UsageError: it is no duration.
    """
    if found := _TIMEOUT.match(text):
        return f"{int(found[1]) * _SECONDS[found[2]]}s"
    raise UsageError(f"--timeout {text!r} is no duration", fix="--timeout 300s, 5m or 1h")


PROBE_TIMES = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "failureThreshold")
PROBE_ACTIONS = ("tcpSocket.port", "httpGet.port", "httpGet.path")


def parse_startup_probe(text: str) -> Document:
    """`httpGet.path=/up,periodSeconds=2,failureThreshold=30` as gcloud takes it, as a Probe of the API.

    Raises:
        UsageError: a key is not known or given twice, a value is no number, or the two kinds of probe are mixed.
    """
    probe: Document = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = part.partition("=")
        if key not in PROBE_TIMES + PROBE_ACTIONS or not equals:
            raise _probe_error(f"{part!r} is not understood", key)
        number = 0 if key == "httpGet.path" else _probe_number(key, value)
        kind, dot, name = key.rpartition(".")
        place = probe.setdefault(kind, {}) if dot else probe
        if name in place:
            raise _probe_error(f"{key} is given twice", key)
        place[name] = value if key == "httpGet.path" else number
    if not probe:
        raise _probe_error("it says nothing", "")
    if "tcpSocket" in probe and "httpGet" in probe:
        raise _probe_error("a probe is either tcpSocket or httpGet", "")
    return probe


def _probe_number(key: str, value: str) -> int:
    if not re.fullmatch(r"\d{1,6}", value):
        raise _probe_error(f"{key}={value} is no whole number", key)
    return int(value)


def _probe_error(why: str, key: str) -> UsageError:
    import difflib  # only needed when something is wrong

    near = difflib.get_close_matches(key, PROBE_TIMES + PROBE_ACTIONS, n=1)
    example = "--startup-probe httpGet.path=/,periodSeconds=5,failureThreshold=12"
    known = ", ".join(PROBE_ACTIONS + PROBE_TIMES)
    return UsageError(
        "--startup-probe cannot be used",
        why=why,
        fix=f"{near[0]}=…" if near and near[0] != key else f"{example} (keys: {known})",
    )


def resource_limits(service: Document) -> dict[str, Any]:
    """The limits of a service's first container, for people: `{"cpu": "1", "memory": "512Mi"}`."""
    containers = service.get("template", {}).get("containers") or [{}]
    limits: dict[str, Any] = containers[0].get("resources", {}).get("limits", {})
    return limits
