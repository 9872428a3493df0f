"""Finds the ASGI or WSGI object of an app by reading its source; nothing is imported or run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

WSGI, ASGI, AIOHTTP, DASH = "WSGI", "ASGI", "aiohttp", "Dash"

# What makes an object a server can serve: full name of the constructor → (kind, what people call it).
CONSTRUCTORS = {
    "flask.Flask": (WSGI, "Flask"),
    "apiflask.APIFlask": (WSGI, "APIFlask"),
    "flask_openapi3.OpenAPI": (WSGI, "flask-openapi3"),
    "connexion.FlaskApp": (ASGI, "Connexion"),
    "connexion.App": (ASGI, "Connexion"),
    "connexion.AsyncApp": (ASGI, "Connexion"),
    "bottle.Bottle": (WSGI, "Bottle"),
    "bottle.default_app": (WSGI, "Bottle"),
    "falcon.App": (WSGI, "Falcon"),
    "falcon.API": (WSGI, "Falcon"),
    "falcon.asgi.App": (ASGI, "Falcon"),
    "django.core.wsgi.get_wsgi_application": (WSGI, "Django"),
    "django.core.asgi.get_asgi_application": (ASGI, "Django"),
    "channels.routing.ProtocolTypeRouter": (ASGI, "Channels"),
    "dash.Dash": (DASH, "Dash"),
    "fastapi.FastAPI": (ASGI, "FastAPI"),
    "fastapi.applications.FastAPI": (ASGI, "FastAPI"),
    "starlette.applications.Starlette": (ASGI, "Starlette"),
    "litestar.Litestar": (ASGI, "Litestar"),
    "litestar.app.Litestar": (ASGI, "Litestar"),
    "quart.Quart": (ASGI, "Quart"),
    "sanic.Sanic": (ASGI, "Sanic"),
    "blacksheep.Application": (ASGI, "BlackSheep"),
    "blacksheep.server.Application": (ASGI, "BlackSheep"),
    "fasthtml.common.FastHTML": (ASGI, "FastHTML"),
    "fasthtml.FastHTML": (ASGI, "FastHTML"),
    "fasthtml.common.fast_app": (ASGI, "FastHTML"),
    "socketio.ASGIApp": (ASGI, "Socket.IO"),
    "socketio.WSGIApp": (WSGI, "Socket.IO"),
    "aiohttp.web.Application": (AIOHTTP, "aiohttp"),
    "asgiref.wsgi.WsgiToAsgi": (ASGI, "ASGI"),
    "a2wsgi.ASGIMiddleware": (WSGI, "WSGI"),
    "a2wsgi.WSGIMiddleware": (ASGI, "ASGI"),
}
# What people call it → the package that has to be installed for it: the first above that is called so.
PACKAGES = {
    label: name.split(".")[0]
    for name, (_, label) in reversed(CONSTRUCTORS.items())
    if label not in (WSGI, ASGI)
}
METHODS = {"make_wsgi_app": (WSGI, "Pyramid")}  # config.make_wsgi_app()

FAVOURED_NAMES = ("app", "application", "api", "server", "asgi", "wsgi")
FACTORY_NAMES = ("create_app", "make_app", "get_app", "build_app", "app_factory")
MODULES = ("main", "app", "server", "wsgi", "asgi", "api", "web", "application", "index", "run")
PACKAGE_MODULES = ("asgi", "wsgi", "main", "app", "server", "web", "api", "application", "__init__")
NO_PACKAGES = frozenset(
    ("tests", "test", "docs", "migrations", "scripts", "examples", "node_modules", "venv", "env")
)


class Found(NamedTuple):
    """An object that a server can serve."""

    kind: str
    framework: str
    module: str
    name: str
    file: str
    line: int
    factory: bool = False
    source_folder: str = ""  # where the module's path starts, relative to the app

    @property
    def target(self) -> str:
        """As servers take it: `shop.web:api`; Dash serves its `server` attribute."""
        suffix = ".server" if self.kind == DASH else ""
        return f"{self.module}:{self.name}{suffix}"


class Module(NamedTuple):
    """A source file that could hold the object."""

    path: Path
    name: str
    source_folder: str = ""


class _Names:
    """What a module's top level binds: imported names, functions, servable objects."""

    def __init__(self, imports: dict[str, str] | None = None) -> None:
        self.imports = imports or {}
        self.functions: dict[str, ast.FunctionDef | ast.AsyncFunctionDef] = {}
        self.objects: dict[str, tuple[str, str, int]] = {}


def find_application(root: Path) -> Found | None:
    """The object to serve in the first module that has one; see `looked_for` for the order."""
    factories = []
    for module in candidate_modules(root):
        for found in objects_of(module, root):
            if not found.factory:
                return found
            factories.append(found)
    return factories[0] if factories else None


def candidate_modules(root: Path) -> tuple[Module, ...]:
    """Modules in the order in which they are read: the root's, `src/`'s, then the packages'."""
    modules = []
    for folder in ("", "src"):
        base = root / folder
        modules += [Module(base / f"{m}.py", m, folder) for m in MODULES]
        modules += [
            Module(p, p.stem, folder)
            for p in sorted(base.glob("*.py"))
            if p.stem not in MODULES and p.stem.isidentifier() and p.stem not in ("setup", "manage", "conftest")
        ]  # fmt: skip
    settings = django_package(root)
    for package in sorted(_packages(root), key=lambda m: m.name != settings):
        modules += [
            package._replace(
                path=package.path / f"{m}.py",
                name=package.name if m == "__init__" else f"{package.name}.{m}",
            )
            for m in PACKAGE_MODULES
        ]
    return tuple(m for m in modules if m.path.is_file())


def looked_for() -> str:
    """For the message when nothing was found."""
    return (
        "main.py, app.py, server.py, wsgi.py, asgi.py (also in src/ and in packages) for a Flask, FastAPI, "
        "Django, Starlette … object"
    )


def django_package(root: Path) -> str:
    """The package that `manage.py` names in DJANGO_SETTINGS_MODULE, empty without one."""
    try:
        text = (root / "manage.py").read_text(errors="replace")
    except OSError:
        return ""
    match = re.search(r"DJANGO_SETTINGS_MODULE['\"]\s*,\s*['\"]([\w.]+)['\"]", text)
    return match[1].split(".")[0] if match else ""


def objects_of(module: Module, root: Path, depth: int = 0) -> tuple[Found, ...]:
    """Servable objects of *module*, favoured names first; factories after objects."""
    tree = parse(module.path)
    if tree is None:
        return ()
    names = _Names()
    _collect(tree.body, names, module)
    _follow_local_imports(names, module, root, depth)
    file = module.path.relative_to(root).as_posix()
    found = [
        Found(kind, framework, module.name, name, file, line, source_folder=module.source_folder)
        for name, (kind, framework, line) in names.objects.items()
        if not name.startswith("_")
    ]
    found += [
        Found(*made, module.name, name, file, function.lineno, True, module.source_folder)
        for name, function in names.functions.items()
        if name in FACTORY_NAMES and not _required_arguments(function)
        if (made := _made_by(function, names))
    ]
    return tuple(sorted(found, key=lambda f: (f.factory, _rank(f.name), f.line)))


def parse(path: Path) -> ast.Module | None:
    """The syntax tree of *path*, or `None` if it is no Python."""
    try:
        return ast.parse(path.read_bytes(), filename=str(path))
    except (SyntaxError, ValueError, RecursionError, OSError):
        return None


def serves_by_itself(path: Path) -> int:
    """The line at which a script starts a server of its own, 0 if it does not seem to."""
    tree = parse(path)
    if tree is None:
        return 0
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _last_name(node.func) in SERVING_CALLS:
            return node.lineno
    return 0


SERVING_CALLS = frozenset(
    [
        "serve_forever",
        "run_app",
        "start_server",
        "create_server",
        "wait_for_termination",
        "run_simple",
        "run_forever",
        "HTTPServer",
        "ThreadingHTTPServer",
        "TCPServer",
        "ThreadingTCPServer",
        "make_server",
        "WSGIServer",
        "serve",
        "listen",
        "launch",
        "run",
    ]
)


def imports_of(path: Path) -> frozenset[str]:
    """Top-level package names that *path* imports anywhere in it."""
    tree = parse(path)
    names = set()
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return frozenset(names)


def _packages(root: Path) -> Iterator[Module]:
    for folder in ("", "src"):
        base = root / folder
        if not base.is_dir():
            continue
        for path in sorted(base.iterdir()):
            left_out = path.name in NO_PACKAGES or (folder == "" and path.name == "src")
            if path.is_dir() and path.name.isidentifier() and not left_out:
                yield Module(path, path.name, folder)


def _collect(body: list[ast.stmt], names: _Names, module: Module) -> None:
    for node in body:
        match node:
            case ast.Import():
                for alias in node.names:
                    local = alias.asname or alias.name.split(".")[0]
                    names.imports[local] = alias.name if alias.asname else local
            case ast.ImportFrom():
                source = _absolute_module(node, module)
                for alias in node.names:
                    names.imports[alias.asname or alias.name] = f"{source}.{alias.name}"
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                names.functions[node.name] = node
                if protocol := _protocol_of(node):
                    names.objects[node.name] = (protocol, protocol, node.lineno)
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    _assign(target, value, node.lineno, names)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                _assign(target, value, node.lineno, names)
            case ast.Try(body=inner, handlers=_, orelse=orelse):
                _collect([*inner, *orelse], names, module)
            case ast.With(body=inner):
                _collect(inner, names, module)
            case ast.If(test=test, body=inner, orelse=orelse) if not _is_main_guard(test):
                _collect([*inner, *orelse], names, module)


def _assign(target: ast.expr, value: ast.expr, line: int, names: _Names) -> None:
    if isinstance(target, ast.Tuple) and target.elts:
        target = target.elts[0]  # FastHTML: app, rt = fast_app()
    if isinstance(target, ast.Name) and (made := _servable(value, names)):
        names.objects[target.id] = (*made, line)
    elif isinstance(target, ast.Name):
        names.objects.pop(target.id, None)


def _servable(value: ast.expr, names: _Names) -> tuple[str, str] | None:
    """What *value* is, if a server can serve it: constructed here, made by a function here, or wrapped."""
    if isinstance(value, ast.Name) and value.id in names.objects:
        return names.objects[value.id][:2]
    if isinstance(value, ast.Attribute) and value.attr == "server":  # server = dash_app.server
        inner = _servable(value.value, names)
        return (WSGI, "Dash") if inner and inner[0] == DASH else None
    if not isinstance(value, ast.Call):
        return None
    full_name = _full_name(value.func, names)
    if full_name in CONSTRUCTORS:
        return CONSTRUCTORS[full_name]
    if (method := _last_name(value.func)) in METHODS:
        return METHODS[method]
    if isinstance(value.func, ast.Name) and value.func.id in names.functions:
        return _made_by(names.functions[value.func.id], names)
    wrapped = [*value.args, *(k.value for k in value.keywords if k.arg in ("app", "application"))]
    for argument in wrapped:  # app = ProxyFix(app), app = CORSMiddleware(app=app)
        if isinstance(argument, ast.Name) and argument.id in names.objects:
            return names.objects[argument.id][:2]
    return None


def _made_by(
    function: ast.FunctionDef | ast.AsyncFunctionDef, names: _Names
) -> tuple[str, str] | None:
    """What a factory makes: the first constructor called in it, with its own imports counted."""
    if isinstance(function, ast.AsyncFunctionDef):
        return None
    inner = _Names(dict(names.imports))
    for node in ast.walk(function):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            _collect([node], inner, Module(Path(), ""))
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            full_name = _full_name(node.func, inner)
            if full_name in CONSTRUCTORS:
                return CONSTRUCTORS[full_name]
            if (method := _last_name(node.func)) in METHODS:
                return METHODS[method]
    return None


def _follow_local_imports(names: _Names, module: Module, root: Path, depth: int) -> None:
    """`from shop.web import api as app`: the object is servable under this module's name, too."""
    if depth >= 2:
        return
    base = root / module.source_folder
    for local, full_name in list(names.imports.items()):
        origin, _, attribute = full_name.rpartition(".")
        if not origin or local in names.objects or local in names.functions:
            continue
        path = next((p for p in _module_files(base, origin) if p.is_file()), None)
        if path is None or path == module.path:
            continue
        for found in objects_of(Module(path, origin, module.source_folder), root, depth + 1):
            if found.name == attribute and not found.factory:
                names.objects[local] = (found.kind, found.framework, 1)
            elif found.name == attribute:
                names.imports[local] = f"{full_name}()"
                _assign_results_of(local, (found.kind, found.framework), names, module)


def _assign_results_of(factory: str, made: tuple[str, str], names: _Names, module: Module) -> None:
    """`from shop import create_app; app = create_app()`."""
    tree = parse(module.path)
    for node in tree.body if tree else ():
        match node:
            case ast.Assign(value=ast.Call(func=ast.Name(id=name))) if name == factory:
                for target in node.targets:
                    if isinstance(target, ast.Name):
                        names.objects[target.id] = (*made, node.lineno)


def _module_files(base: Path, name: str) -> tuple[Path, Path]:
    path = base.joinpath(*name.split("."))
    return path.with_suffix(".py"), path / "__init__.py"


def _protocol_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """Plain callables: `def application(environ, start_response)`, `async def app(scope, receive, send)`."""
    arguments = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
    if isinstance(node, ast.AsyncFunctionDef) and arguments == ["scope", "receive", "send"]:
        return ASGI
    match node, arguments:
        case ast.FunctionDef(), ["environ" | "env", second] if second.startswith("start"):
            return WSGI
    return ""


def _required_arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    arguments = node.args
    positional = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults)
    return positional > 0 or any(d is None for d in arguments.kw_defaults)


def _full_name(node: ast.expr, names: _Names) -> str:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    return ".".join([names.imports.get(node.id, node.id), *reversed(parts)])


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _absolute_module(node: ast.ImportFrom, module: Module) -> str:
    if not node.level:
        return node.module or ""
    is_package = module.path.name == "__init__.py"
    parts = module.name.split(".")
    parts = parts[: len(parts) - node.level + (1 if is_package else 0)]
    return ".".join([*parts, *([node.module] if node.module else [])])


def _is_main_guard(test: ast.expr) -> bool:
    return (
        isinstance(test, ast.Compare)
        and isinstance(test.left, ast.Name)
        and test.left.id == "__name__"
    )


def _rank(name: str) -> int:
    return FAVOURED_NAMES.index(name) if name in FAVOURED_NAMES else len(FAVOURED_NAMES)
