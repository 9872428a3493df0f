"""From a revision and its image to the container that runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hakobune.errors import HakoError
from hakobune.oci.config import ImageConfig
from hakobune.oci.image_user import ImageUser
from hakobune.oci.snapshot import Snapshot
from hakobune.runtime.container import ContainerLimits, ContainerSpec, User
from hakobune.serving.instance import instance_labels
from hakobune.serving.quantity import parse_cpu, parse_memory
from hakobune.serving.revision import Revision


class NoCommandError(HakoError):
    """Neither the revision nor the image says what to run."""


def make_container_spec(
    revision: Revision,
    config: ImageConfig,
    snapshots: Sequence[Snapshot],
    user: ImageUser,
    *,
    id: str,
    log_path: Path,
) -> ContainerSpec:
    """The container for one instance of *revision*. The writable top is memory, and counts as the instance's.

    Args:
        snapshots: the image's layers, base first.

    Raises:
        NoCommandError: there is nothing to run.
    """
    container = revision.containers[0]
    limits = container.resources.limits if container.resources else {}
    memory_bytes = parse_memory(limits["memory"], field="memory")
    layers = tuple(reversed(snapshots))
    return ContainerSpec(
        id=id,
        lowers=tuple(str(path) for layer in layers for path in layer.lower_dirs()),
        locks=tuple(str(path) for layer in layers for path in layer.locks()),
        argv=_argv(revision, config),
        env=_environment(revision, config, user),
        cwd=container.working_dir or config.config.working_dir or "/",
        user=User(user.uid, user.gid, user.groups),
        hostname="localhost",
        limits=ContainerLimits(
            memory_bytes=memory_bytes, cpus=parse_cpu(limits["cpu"], field="cpu")
        ),
        top_bytes=memory_bytes,
        stop_signal=config.config.stop_signal or "SIGTERM",
        log_path=str(log_path),
        labels=instance_labels(revision.name),
    )


def _argv(revision: Revision, config: ImageConfig) -> tuple[str, ...]:
    """As Kubernetes has it: a command replaces entrypoint and arguments, arguments alone replace `CMD`."""
    container = revision.containers[0]
    if container.command:
        argv = container.command + container.args
    else:
        argv = config.config.entrypoint + (container.args or config.config.cmd)
    if not argv:
        raise NoCommandError(
            "there is nothing to run in its image",
            why="it has neither an entrypoint nor a command",
            fix="deploy with --command PROGRAM, or build the image with a CMD or a default process",
        )
    return argv


def _environment(revision: Revision, config: ImageConfig, user: ImageUser) -> Mapping[str, str]:
    container = revision.containers[0]
    service = revision.service.rpartition("/")[2]
    return {
        "HOME": user.home,
        **config.env,
        **{variable.name: variable.value for variable in container.env},
        "PORT": str(container.ports[0].container_port),
        "K_SERVICE": service,
        "K_REVISION": revision.short_name,
        "K_CONFIGURATION": service,
    }
