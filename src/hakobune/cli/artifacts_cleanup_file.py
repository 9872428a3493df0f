"""The files of gcloud's cleanup policies, read and written (pure): a list of rules with names, durations as people write them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from hakobune.errors import UsageError

Json = dict[str, Any]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[smhdw])+")
_DURATIONS = ("olderThan", "newerThan")
# Fields by the names that gcloud's files, the API and its protos have for them.
_NAMES = {
    "most_recent_versions": "mostRecentVersions",
    "keep_count": "keepCount",
    "tag_state": "tagState",
    "tag_prefixes": "tagPrefixes",
    "version_name_prefixes": "versionNamePrefixes",
    "package_name_prefixes": "packageNamePrefixes",
    "older_than": "olderThan",
    "newer_than": "newerThan",
    "version_age": "olderThan",
    "versionAge": "olderThan",
}
_POLICY = ("name", "id", "action", "condition", "mostRecentVersions")
_CONDITION = ("tagState", "tagPrefixes", "versionNamePrefixes", "packageNamePrefixes", *_DURATIONS)
_RECENT = ("packageNamePrefixes", "keepCount")
_ACTIONS = '"action": {"type": "Delete"} or {"type": "Keep"}'


def read_policy_file(text: str, file: str) -> Json:
    """The policies of a file as the API takes them, by id.

    Raises:
        UsageError: the file is no list of policies, or one of them says something that none has.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{file} is not JSON", why=str(error)) from error
    if isinstance(document, dict) and "name" not in document:  # the API's own form
        document = [{"name": key, **policy} for key, policy in document.items() if isinstance(policy, dict)]  # fmt: skip
    if isinstance(document, dict):
        document = [document]
    if not isinstance(document, list) or not all(isinstance(p, dict) for p in document):
        raise UsageError(f"{file} is no list of policies", fix='[{"name": …, "action": {"type": "Delete"}, "condition": {…}}]')  # fmt: skip
    policies: Json = {}
    for place, policy in enumerate(document):
        key, read = _policy(_fields(policy, _POLICY, f"{file}: policy {place + 1}"), file)
        if key in policies:
            raise UsageError(f"{file}: the policy {key!r} stands twice")
        policies[key] = read
    return policies


def write_policies(policies: Mapping[str, Json]) -> list[Json]:
    """The policies of the API in the form of the files, by name."""
    return [
        {
            **{k: v for k, v in policy.items() if k not in ("id", "action")},
            "name": key,
            "action": {"type": policy.get("action", "")},
        }
        for key, policy in sorted(policies.items())
    ]


def duration_s(text: str, place: str) -> str:
    """`30d`, `1h30m` or `3600s` as the API's seconds.

    Raises:
        UsageError: it is no such time.
    """
    if not _DURATION.fullmatch(text):
        raise UsageError(f"{place}: {text!r} is no time", fix="30d, 12h, 1h30m or 3600s")
    total = sum(float(n) * _UNITS[u] for n, u in re.findall(r"(\d+(?:\.\d+)?)([smhdw])", text))
    return f"{total:.9f}".rstrip("0").rstrip(".") + "s"


def _policy(policy: Json, file: str) -> tuple[str, Json]:
    key = policy.get("name") or policy.get("id")
    if not isinstance(key, str):
        raise UsageError(f"{file}: a policy has no name", fix='"name": "delete-old"')
    place = f"{file}: policy {key!r}"
    action = policy.get("action")
    if isinstance(action, dict):
        action = action.get("type")
    if not isinstance(action, str):
        raise UsageError(f"{place} has no action", fix=_ACTIONS)
    if action.upper() not in ("DELETE", "KEEP"):
        raise UsageError(f"{place}: {action!r} is no action", fix=_ACTIONS)
    read: Json = {"id": key, "action": action.upper()}
    if (condition := policy.get("condition")) is not None:
        read["condition"] = _condition(condition, place)
    if (recent := policy.get("mostRecentVersions")) is not None:
        read["mostRecentVersions"] = _fields(recent, _RECENT, place)
    return key, read


def _condition(value: Any, place: str) -> Json:
    condition = _fields(value, _CONDITION, place)
    if isinstance(state := condition.get("tagState"), str):
        condition["tagState"] = state.upper()
    for name in _DURATIONS:
        if name in condition:
            condition[name] = duration_s(str(condition[name]), f"{place}: {name}")
    return condition


def _fields(value: Any, known: tuple[str, ...], place: str) -> Json:
    if not isinstance(value, dict):
        raise UsageError(f"{place}: {value!r} is no JSON object")
    fields: Json = {_NAMES.get(name, str(name)): item for name, item in value.items()}
    for name in fields:
        if name not in known:
            raise UsageError(f"{place} has {name!r}, which is nothing known", fix=", ".join(known))
    return fields
