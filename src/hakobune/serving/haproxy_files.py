"""HAProxy's start-up files (pure): an HAProxy that starts from them alone serves the table at once.

HAProxy 2.6 and 2.8 both read what is written here. A revision holds one of `slots` identical backends while
it has instances; what is particular to it comes from maps, so no deploy needs a reload.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hakobune.runtime.listeners import FIRST_DESCRIPTOR, join_address
from hakobune.serving.haproxy_errors import error_files, registry_error_file
from hakobune.serving.ingress import MAPS, SPLIT, RoutingTable, Server, slot_name

# On our own hosts. `projects` is no project's id, so Cloud Run's paths and those of images do not meet.
API_PREFIXES = ("/v1/", "/v2/projects/", "/apis/")
REGISTRY_PATHS = ("/v2", "/token")
GRPC_PREFIX = "/google."  # packages of Google's services
REGISTRY_HOSTS = r"^[a-z0-9-]+-docker\.pkg\.dev$"  # as images are called in Google's cloud
ATTEMPT_HEADER = "x-hako-attempt"
VERDICTS = (404, 429, 500, 503, 504)
_TOO_LATE = "no instance could take the request in time\\n"
_NOT_YET = "the service has no revision that could answer yet: `hako services describe` says why\\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class StartUp:
    """What is fixed for the life of one HAProxy process."""

    folder: Path  # its files and its sockets
    api_socket: Path
    registry_socket: Path
    grpc_socket: Path
    binds: tuple[str, ...]  # addresses to listen on
    port: int
    service_ports: tuple[int, ...]
    own_hosts: tuple[str, ...]  # host names under which the API answers
    mirror_hosts: tuple[str, ...] = ()  # each stands for a repository
    slots: int = 128
    max_connections: int = 4000
    threads: int = 1
    pending_s: int = 10  # how long a request waits for an instance
    patience_s: int = 60  # how long a held request waits for the controller itself

    @property
    def listen(self) -> tuple[str, ...]:
        """The sockets that the supervisor holds for it, in the order of their descriptors."""
        ports = (self.port, *self.service_ports)
        return tuple(join_address(host, port) for host in self.binds for port in ports)

    @property
    def runtime_socket(self) -> Path:
        return self.folder / "runtime.sock"

    @property
    def hold_socket(self) -> Path:
        return self.folder / "hold.sock"

    @property
    def configuration(self) -> Path:
        return self.folder / "haproxy.cfg"

    def again_socket(self, slot: int) -> Path:
        return self.folder / "again" / slot_name(slot)

    def map_path(self, name: str) -> Path:
        return self.folder / f"{name}.map"


def start_up_files(start: StartUp, table: RoutingTable) -> dict[Path, bytes]:
    """Every file that HAProxy reads when it starts, but the sockets."""
    files = {start.configuration: configuration_text(start, table)}
    files |= {start.folder / "hold.lua": lua_text(start)}
    files |= {start.folder / f"{code}.http": text for code, text in error_files().items()}
    files |= {start.folder / "registry.http": registry_error_file()}
    files |= {start.map_path(name): map_text(entries) for name, entries in table.maps().items()}
    return {path: text.encode() for path, text in files.items()}


def configuration_text(start: StartUp, table: RoutingTable) -> str:
    """The whole haproxy.cfg."""
    parts = [
        _global(start),
        _services(start),
        _again(start),
        _api(start),
        _registry(start),
        _grpc(start),
    ]
    parts += [_slot(start, n, table.servers.get(n, ())) for n in range(start.slots)]
    return "\n".join(parts)


def lua_text(start: StartUp) -> str:
    """The action that holds a request until the controller says go; it survives the controller's restarts."""
    lua = Path(__file__).with_name("hold.lua").read_text()
    places = {
        "HOLD_SOCKET": start.hold_socket,
        "SLOTS_MAP": start.map_path("slots"),
        "PATIENCE_S": start.patience_s,
    }
    for place, value in places.items():
        lua = lua.replace(place, str(value))
    return lua


def map_text(entries: Mapping[str, str]) -> str:
    """A map file."""
    return "".join(f"{key} {value}\n" for key, value in sorted(entries.items()))


def server_options(server: Server) -> str:
    """The words of a `server` line after name and address, but the weight.

    The death of an instance is noticed by its first failing connection; the check brings back one that
    was marked down by mistake.
    """
    words = f"maxconn {server.concurrency}"
    words += " check inter 10s fastinter 200ms downinter 200ms rise 1 fall 3"
    words += " observe layer4 error-limit 1 on-error mark-down"
    return words + (" proto h2" if server.h2 else "")


def _global(start: StartUp) -> str:
    errors = "\n".join(f"  errorfile {code} {start.folder}/{code}.http" for code in error_files())
    return f"""\
# Written by hakobune's controller at every change.
global
  maxconn {start.max_connections}
  nbthread {start.threads}
  stats socket {start.runtime_socket} mode 600 level admin
  stats timeout 1h
  lua-load {start.folder}/hold.lua
defaults
  mode http
  http-reuse safe
  timeout connect 2s
  timeout client 1h
  timeout client-fin 30s
  timeout http-request 30s
  timeout http-keep-alive 60s
  timeout server 1h
  timeout tunnel 1h
  timeout queue {start.pending_s}s
  retries 3
{errors}
"""


def _services(start: StartUp) -> str:
    # Connections queue in these sockets while HAProxy is started again.
    binds = "\n".join(
        f"  bind fd@{fd} name {address}"
        for fd, address in enumerate(start.listen, FIRST_DESCRIPTOR)
    )
    unknown = (
        "no service is called %[var(txn.host)] here: services answer as "
        f"NAME.localhost:{start.port}, `hako services list` names them\\n"
    )
    return f"""\
frontend services
{binds}
  http-request set-var(txn.host) req.hdr(host),host_only,lower
  http-request set-var(txn.route) dst_port,map({_map(start, "ports")})
  http-request set-var(txn.route) var(txn.host),map({_map(start, "hosts")}) if !{{ var(txn.route) -m found }}
  acl routed var(txn.route) -m found
  acl own_host var(txn.host) -m str {" ".join(start.own_hosts)}
  acl registry_host var(txn.host) -m reg {REGISTRY_HOSTS}{_mirrors(start)}
  acl registry_path path {" ".join(REGISTRY_PATHS)}
  acl registry_path path_beg /v2/
  acl for_api var(txn.for) -m str api
  acl for_registry var(txn.for) -m str registry
  acl for_grpc var(txn.for) -m str grpc
  http-request set-var(txn.for) str(registry) if !routed registry_path own_host or !routed registry_path registry_host
  http-request set-var(txn.for) str(api) if !routed own_host {{ path_beg {" ".join(API_PREFIXES)} }}
  http-request set-var(txn.for) str(grpc) if !routed own_host {{ path_beg {GRPC_PREFIX} }}
{_return(404, unknown, "!routed !for_api !for_registry !for_grpc")}
  http-request del-header {ATTEMPT_HEADER}
{_FORWARDING}
  http-request set-var(txn.revision) var(txn.route),map({_map(start, "routes")}) if routed
  http-request set-var-fmt(txn.draw) "%[var(txn.route)]:%[rand(100)]" if {{ var(txn.revision) -m str {SPLIT} }}
  http-request set-var(txn.revision) var(txn.draw),map({_map(start, "routes")}) if {{ var(txn.draw) -m found }}
{_return(404, _NOT_YET, "routed !{ var(txn.revision) -m found }")}
  http-request set-var(txn.timeout) var(txn.revision),map_str_int({_map(start, "timeouts")},300000) if routed
  http-request set-var(txn.slot) var(txn.revision),map({_map(start, "slots")}) if routed
  http-request set-var(txn.word) str(new)
  http-request lua.hold if routed !{{ var(txn.slot) -m found }}
{_verdicts()}
  http-request set-var(txn.slot) var(txn.revision),map({_map(start, "slots")}) if {{ var(txn.verdict) -m found }}
{_return(503, _TOO_LATE, "routed !{ var(txn.slot) -m found }")}
  use_backend api if for_api
  use_backend registry if for_registry
  use_backend grpc if for_grpc
  use_backend %[var(txn.slot)]
"""


def _again(start: StartUp) -> str:
    """The way back for requests whose backend has lost every instance before anybody told HAProxy."""
    binds = "\n".join(
        f"  bind unix@{start.again_socket(n)} mode 600 name {slot_name(n)}"
        for n in range(start.slots)
    )
    return f"""\
frontend again
{binds}
  http-request set-var(txn.revision) so_name,map({_map(start, "owners")})
  http-request set-var(txn.attempt) int(1)
  http-request set-var(txn.attempt) req.hdr({ATTEMPT_HEADER}),add(1) if {{ req.hdr({ATTEMPT_HEADER}) -m found }}
  http-request set-header {ATTEMPT_HEADER} %[var(txn.attempt)]
{_return(503, _TOO_LATE, "!{ var(txn.revision) -m found }")}
  http-request set-var(txn.timeout) var(txn.revision),map_str_int({_map(start, "timeouts")},300000)
  http-request set-var(txn.word) str(again)
  http-request lua.hold
{_verdicts()}
  http-request set-var(txn.slot) var(txn.revision),map({_map(start, "slots")})
{_return(503, _TOO_LATE, "!{ var(txn.slot) -m found }")}
  use_backend %[var(txn.slot)]
"""


def _api(start: StartUp) -> str:
    return f"""\
backend api
  server api unix@{start.api_socket} maxconn 200
"""


def _mirrors(start: StartUp) -> str:
    if not start.mirror_hosts:
        return ""
    return f"\n  acl registry_host var(txn.host) -m str {' '.join(start.mirror_hosts)}"


def _registry(start: StartUp) -> str:
    errors = "\n".join(
        f"  errorfile {code} {start.folder}/registry.http" for code in (502, 503, 504)
    )
    # docker sends a manifest once: if the worker that had it is killed, another gets it (the same again changes
    # nothing). HAProxy can only repeat what it has whole.
    return f"""\
backend registry
{errors}
  retry-on conn-failure empty-response
  http-request set-var(txn.again) bool(true) if {{ method GET HEAD }} or {{ method PUT }} {{ path_reg /manifests/[^/]+$ }}
  http-request wait-for-body time 60s if {{ method PUT }} {{ var(txn.again) -m bool }}
  http-request disable-l7-retry if !{{ var(txn.again) -m bool }}
  server registry unix@{start.registry_socket} maxconn 1000
"""


def _grpc(start: StartUp) -> str:
    # HTTP/2 in, HTTP/1.1 out: HAProxy hands trailers on both ways.
    return f"""\
backend grpc
  server grpc unix@{start.grpc_socket} maxconn 100
"""


def _slot(start: StartUp, number: int, servers: Sequence[Server]) -> str:
    lines = [
        f"backend {slot_name(number)}",
        "  balance leastconn",
        "  option redispatch 1",
        "  retry-on conn-failure empty-response",
        "  http-request disable-l7-retry if !{ method GET HEAD PUT DELETE OPTIONS TRACE }",
        "  http-request set-timeout server var(txn.timeout)",
        "  http-request set-timeout tunnel var(txn.timeout)",
        "  http-after-response set-status 429 if { status 503 } !{ srv_name -m found }",
        f"  server again unix@{start.again_socket(number)} backup",
    ]
    lines += [
        f"  server {s.name} {s.address}:{s.port} weight 100 {server_options(s)}"
        + ("" if s.usable else " disabled")
        for s in servers
    ]
    return "\n".join(lines) + "\n"


def _verdicts() -> str:
    return "\n".join(
        _return(code, "%[var(txn.words)]\\n", f"{{ var(txn.verdict) -m str {code} }}")
        for code in VERDICTS
    )


def _return(status: int, words: str, condition: str) -> str:
    return (
        f'  http-request return status {status} content-type "text/plain; charset=utf-8"'
        f' lf-string "{words}" if {condition}'
    )


def _map(start: StartUp, name: str) -> str:
    assert name in MAPS
    return str(start.map_path(name))


_FORWARDING = """\
  option forwardfor
  http-request set-header x-forwarded-proto http
  http-request set-header x-forwarded-host %[req.hdr(host)] if !{ req.hdr(x-forwarded-host) -m found }
  acl traced req.hdr(traceparent) -m reg ^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}
  acl cloud_traced req.hdr(x-cloud-trace-context) -m reg ^[0-9a-f]{32}(/|$)
  http-request set-var(txn.trace) uuid,regsub(-,,g)
  http-request set-var(txn.trace) req.hdr(x-cloud-trace-context),field(1,/) if cloud_traced
  http-request set-var(txn.trace) req.hdr(traceparent),field(2,-) if traced
  http-request set-var(txn.span) rand(2147483646),add(1)
  http-request set-header traceparent 00-%[var(txn.trace)]-%[var(txn.span),hex,lower]-00 if !traced
  http-request set-header x-cloud-trace-context %[var(txn.trace)]/%[var(txn.span)] if !cloud_traced"""
