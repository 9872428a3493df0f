"""Where an app's source says that it listens on the loopback address or on a port of its own (pure)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_EVERYWHERE = '"0.0.0.0"'
_PYTHON_PORT = 'int(os.environ["PORT"])'
_RUNNERS = frozenset({"Bottle", "Dash", "Flask", "Quart", "Sanic"})  # their `run()` is on loopback
_JAVASCRIPT = (".js", ".mjs", ".cjs", ".ts")
_LISTEN = re.compile(
    r"(?P<who>[\w.]+)\.listen\(\s*(?P<port>\d{2,5})\s*(?:,\s*(?P<quote>['\"])(?P<host>[^'\"]*)(?P=quote)\s*)?(?P<rest>[,)].*)"
)


@dataclass(frozen=True, slots=True)
class Advice:
    """A call as it should be, and where it is; `port` is the one it has now, 0 if it names none."""

    path: str
    line: int
    code: str
    port: int


def find_advice(sources: Mapping[str, str], seen_ports: Set[int]) -> Advice | None:
    """The call that most likely opened the wrong socket.

    Args:
        sources: the text of each source file by its path.
        seen_ports: what the app was seen to listen on; a call with one of these wins.
    """
    found = [advice for path in sorted(sources) for advice in calls(path, sources[path])]
    return min(
        found, key=lambda a: (a.port not in seen_ports, a.path.count("/"), a.path), default=None
    )


def calls(path: str, text: str) -> Iterator[Advice]:
    """The calls of one file that listen on loopback or on a fixed port."""
    if path.endswith(".py"):
        yield from _python(path, text)
    elif path.endswith(_JAVASCRIPT):
        yield from _javascript(path, text)


def _python(path: str, text: str) -> Iterator[Advice]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return
    apps = _names_of_apps(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (advice := _python_call(path, node, apps)):
            yield advice


def _names_of_apps(tree: ast.AST) -> frozenset[str]:
    names = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and _called(node.value) in _RUNNERS
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return frozenset(names)


def _called(node: ast.expr) -> str:
    """`Flask` for `flask.Flask(…)`; empty if it is no call."""
    return ast.unparse(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else ""


def _python_call(path: str, call: ast.Call, apps: frozenset[str]) -> Advice | None:
    name = ast.unparse(call.func)
    owner, _, method = name.rpartition(".")
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    if method in ("run", "serve", "run_app", "run_simple"):
        known = owner in apps or owner == "uvicorn"
        if known or "host" in given or "port" in given:
            return _keywords(path, call, name, given)
    if method.endswith(("Server", "make_server", "create_server")) and call.args:
        return _address(path, call, name)
    return None


def _keywords(
    path: str, call: ast.Call, name: str, given: Mapping[str | None, ast.expr]
) -> Advice | None:
    """`app.run(host=…, port=…)`: without a host it is loopback."""
    host, port = given.get("host"), given.get("port")
    wrong_host = host is None or _is_loopback(host)
    if not wrong_host and not (port is None or isinstance(port, ast.Constant)):
        return None
    others = [ast.unparse(a) for a in call.args]
    others += [ast.unparse(k) for k in call.keywords if k.arg not in ("host", "port")]
    shown_host = _EVERYWHERE if wrong_host or host is None else ast.unparse(host)
    code = ", ".join([*others, f"host={shown_host}", f"port={_PYTHON_PORT}"])
    return Advice(path, call.lineno, f"{name}({code})", _number(port))


def _address(path: str, call: ast.Call, name: str) -> Advice | None:
    """`HTTPServer(("127.0.0.1", 5000), Handler)`."""
    first, *rest = call.args
    if not isinstance(first, ast.Tuple) or len(first.elts) != 2:
        return None
    host, port = first.elts
    if not _is_loopback(host) and not isinstance(port, ast.Constant):
        return None
    others = [ast.unparse(a) for a in rest] + [ast.unparse(k) for k in call.keywords]
    code = ", ".join([f"({_EVERYWHERE}, {_PYTHON_PORT})", *others])
    return Advice(path, call.lineno, f"{name}({code})", _number(port))


def _is_loopback(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value in LOOPBACK


def _number(node: ast.expr | None) -> int:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, int) else 0


def _javascript(path: str, text: str) -> Iterator[Advice]:
    for number, line in enumerate(text.splitlines(), 1):
        if found := _LISTEN.search(line):
            code = f'{found["who"]}.listen(process.env.PORT, "0.0.0.0"{found["rest"].rstrip(" ;")}'
            yield Advice(path, number, code, int(found["port"]))
