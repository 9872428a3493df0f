"""From an installer's output to the telling line, the requirement it belongs to, and what to do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from hako_python.report import BuildpackError
from hako_python.requirements import Requirement, normalise, read_requirements

# Where a wheel exists under another name, or a package of the distribution is needed to build it.
ADVICE = {
    "psycopg2": "psycopg2-binary (or psycopg[binary])",
    "mysqlclient": "pymysql, or a build image with default-libmysqlclient-dev and pkg-config",
    "python-ldap": "ldap3, or a build image with libldap2-dev and libsasl2-dev",
    "pycurl": "a build image with libcurl4-openssl-dev",
    "uwsgi": "gunicorn, or a build image with python3-dev",
    "pygraphviz": "a build image with libgraphviz-dev",
    "pyodbc": "a build image with unixodbc-dev",
}
# library name → Debian package that has it
DEBIAN_PACKAGES = {
    "libGL.so.1": "libgl1",
    "libEGL.so.1": "libegl1",
    "libglib-2.0.so.0": "libglib2.0-0t64",
    "libgthread-2.0.so.0": "libglib2.0-0t64",
    "libgobject-2.0.so.0": "libglib2.0-0t64",
    "libgomp.so.1": "libgomp1",
    "libpq.so.5": "libpq5",
    "libmariadb.so.3": "libmariadb3",
    "libmysqlclient.so.21": "libmysqlclient21",
    "libxml2.so.2": "libxml2",
    "libxslt.so.1": "libxslt1.1",
    "libmagic.so.1": "libmagic1t64",
    "libSM.so.6": "libsm6",
    "libICE.so.6": "libice6",
    "libX11.so.6": "libx11-6",
    "libXext.so.6": "libxext6",
    "libXrender.so.1": "libxrender1",
    "libxcb.so.1": "libxcb1",
    "libsndfile.so.1": "libsndfile1",
    "libportaudio.so.2": "libportaudio2",
    "libcairo.so.2": "libcairo2",
    "libpango-1.0.so.0": "libpango-1.0-0",
    "libgdk_pixbuf-2.0.so.0": "libgdk-pixbuf-2.0-0",
    "libcurl.so.4": "libcurl4t64",
    "libldap.so.2": "libldap2",
    "libodbc.so.2": "libodbc2",
    "libsasl2.so.2": "libsasl2-2",
    "libjpeg.so.62": "libjpeg62-turbo",
    "libtiff.so.6": "libtiff6",
    "libwebp.so.7": "libwebp7",
    "libpng16.so.16": "libpng16-16t64",
    "libgeos_c.so.1": "libgeos-c1t64",
    "libproj.so.25": "libproj25",
    "libgdal.so.36": "libgdal36",
    "libzmq.so.5": "libzmq5",
    "libsnappy.so.1": "libsnappy1v5",
    "libnss3.so": "libnss3",
    "libasound.so.2": "libasound2t64",
    "libtk8.6.so": "libtk8.6",
    "libtcl8.6.so": "libtcl8.6",
}
TELLING = (
    r"pg_config executable not found",
    r"fatal error: \S+\.h: No such file",
    r"error: command '[^']*(?:gcc|cc|g\+\+)' failed",
    r"(?:gcc|cc|g\+\+|cmake|cargo|rustc|pkg-config|gfortran|swig)\S*: (?:command )?not found",
    r"No such file or directory: '(?:gcc|cc|cmake|cargo|pkg-config)'",
    r"Can not find valid pkg-config name",
    r"Rust(?: toolchain| compiler)? (?:is )?not (?:found|installed)",
    r"ModuleNotFoundError: ",
    r"invalid peer certificate",
    r"(?:was )?not found in the (?:package registry|provided package locations)",
    r"there (?:is|are) no versions? of",
    r"has no wheels with a matching",
    r"requires-python|requires Python|does not satisfy Python",
    r"hash mismatch|Hash mismatch",
    r"dns error|error sending request|Connection refused|timed out|Network is unreachable",
    r"Because ",
    r"^\s*(?:Error|ERROR): |^error: ",
    r"(?:╰─▶|×) ",
)


def explain_failure(messages: Sequence[str], root: Path, files: Sequence[str]) -> BuildpackError:
    """The error to show for uv's *messages*."""
    telling = _telling_line(messages)
    text = "\n".join(messages)
    match = re.search(
        r"(?:Failed to (?:build|download|fetch|prepare)|build of) `?([A-Za-z0-9._-]+?)(?:==([^`\s]+))?`",
        text,
    )
    name = normalise(match[1]) if match else _named_in(telling)
    requirement = _requirement(name, root, files)
    place = f"{requirement.file}:{requirement.line}" if requirement else ""
    return BuildpackError(_what(name, telling), seen=telling, fix=_fix(name, telling, place, text))


def debian_package(library: str) -> str:
    """The Debian package that has *library*, empty if this table does not know."""
    return DEBIAN_PACKAGES.get(library, "")


def _telling_line(messages: Sequence[str]) -> str:
    for pattern in TELLING:
        for i, line in enumerate(messages):
            if re.search(pattern, line):
                return _whole_sentence(line, messages[i + 1 :])
    return next((m.strip() for m in reversed(messages) if m.strip()), "uv said nothing")


def _whole_sentence(line: str, following: Sequence[str]) -> str:
    """Without the tree that uv draws, and with the lines that go on with `And because`."""
    text = re.sub(r"^[\s│├╰─▶×]+|cause: ", "", line).strip()
    for more in following:
        if not more.strip().startswith(("And because", "and ", "we can", "your")):
            break
        text += f" {more.strip()}"
    return text


def _what(name: str, telling: str) -> str:
    subject = name or "the installation"
    if "pg_config" in telling:
        return f"{subject} needs pg_config"
    if header := re.search(r"fatal error: (\S+\.h)", telling):
        return f"{subject} needs the C header {header[1]}"
    if re.search(r"gcc|\bcc\b|g\+\+", telling):
        return f"{subject} has to be compiled and failed"
    if re.search(
        r"dns error|error sending request|Connection refused|timed out|unreachable", telling
    ):
        return "the package index cannot be reached"
    if "certificate" in telling:
        return "the package index's certificate is not trusted in the build"
    if name and "not found in the" in telling:
        return f"there is no package {name}"
    if re.search(r"no versions? of|Because ", telling):
        return "the requirements cannot be fulfilled together"
    return f"{name} cannot be installed" if name else "the dependencies cannot be installed"


def _fix(name: str, telling: str, place: str, text: str) -> str:
    where = f"{place} " if place else ""
    if name in ADVICE:
        return f"{where}{ADVICE[name]}"
    if re.search(
        r"dns error|error sending request|Connection refused|timed out|unreachable", telling
    ):
        return "check the network, HTTPS_PROXY, or PIP_INDEX_URL"
    if "certificate" in telling:
        return "put the CA into the host's bundle and set SSL_CERT_FILE"
    if place and re.search(r"not found in the|no versions? of|Because ", telling):
        return f"{place} check this requirement"
    if place:
        return f"{place} change this requirement, or use a build image with what it needs"
    return ""


def _named_in(line: str) -> str:
    match = re.search(r"(?:Because|of) ([A-Za-z0-9][A-Za-z0-9._-]*)(?:[=<>!~ ]|$)", line)
    return (
        normalise(match[1])
        if match and match[1] not in ("there", "you", "your", "the", "all")
        else ""
    )


def _requirement(name: str, root: Path, files: Sequence[str]) -> Requirement | None:
    if not name:
        return None
    for file in files:
        if file.endswith(".txt"):
            for requirement in read_requirements(root, file)[1]:
                if requirement.name == name:
                    return requirement
            continue
        for number, line in enumerate((root / file).read_text(errors="replace").splitlines(), 1):
            if re.search(rf"[\"']{re.escape(name)}[\"'\[<>=!~ ;]", line.replace("_", "-").lower()):
                return Requirement(name, line.strip(), file, number)
    return None
