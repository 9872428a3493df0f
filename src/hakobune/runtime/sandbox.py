"""A process tree and its files that die with their owner: where buildpacks and Dockerfile steps run.

No crun: the first executable starts after about 8 ms, each further one after 2. Root inside is an id of its
own on the host, sees only its own processes and network, and has a system call filter; killing the owner, in
any way and at any moment, leaves no process, no mount and a top that can be read or thrown away.

The owner reads and writes files through the detached mount of the same overlay, never outside of it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence

from hakobune.runtime import mount
from hakobune.runtime.cgroup import Cgroup
from hakobune.runtime.mount import RootFs
from hakobune.runtime.sandbox_error import SandboxError
from hakobune.runtime.sandbox_files import SandboxFiles
from hakobune.runtime.sandbox_line import SandboxLine
from hakobune.runtime.sandbox_plan import BUILDPACK_POWERS, GivenFile, GivenMount, Plan, Powers
from hakobune.runtime.sandbox_setup import END, fork_setup
from hakobune.runtime.sandbox_stubs import Stubs
from hakobune.runtime.sandbox_tree import SandboxTree
from hakobune.runtime.seccomp import MACHINES, compiled_filter
from hakobune.runtime.slot import Slot

_OOM_SCORE = 700  # a build dies before a service does
_OUT_OF_MEMORY = b"hakobune: out of memory: the kernel killed a process of this build\n"


class Sandbox(SandboxFiles):
    """One sandbox. Use it from the thread that made it; close it, or end."""

    def __init__(
        self,
        rootfs: RootFs,
        *,
        slot: Slot,
        hostname: str = "build",
        cgroup: Cgroup | None = None,
        powers: Powers = BUILDPACK_POWERS,
        mounts: Sequence[GivenMount] = (),
        files: Sequence[GivenFile] = (),
        at_start: Callable[[], None] = lambda: None,
        at_end: Callable[[], None] = lambda: None,
    ) -> None:
        """Mount the root file system and start pid 1.

        Args:
            mounts, files: what is shown inside beside the root file system; nothing of it remains in the top once
                `remove_stubs` has been called.
            cgroup: where everything inside lives; removed with the last of it, also when the owner is killed.
            at_start: called before anything runs, in the process that will remove the cgroup: made there, it cannot
                be left behind.
            at_end: called when everything that ran inside has been ended.

        Raises:
            SandboxError: with the step that the kernel refused.
        """
        try:
            view = mount.overlay(rootfs, slot)
        except OSError as error:
            raise SandboxError(
                "cannot mount the build's root file system", why=error.strerror or str(error)
            ) from error
        tree = SandboxTree(view, base=slot.base)
        super().__init__(tree)
        self._base = slot.base
        self._cgroup = cgroup
        self._at_end = at_end
        self._stubs = Stubs(tree)
        self._line = SandboxLine()
        self._setup_pid = 0
        try:
            self._stubs.make(mounts, files)
            machine = os.uname().machine
            plan = Plan(
                root_fd=mount.duplicate(view),
                userns_fd=slot.userns_fd,
                base=slot.base,
                hostname=hostname,
                seccomp=compiled_filter(machine) if machine in MACHINES else None,
                cgroup=cgroup,
                oom_score=_OOM_SCORE,
                powers=powers,
                mounts=mounts,
                files=files,
            )
            self._start(plan, slot.netns_fd, at_start)
        except BaseException:
            self.close()
            raise

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str,
        uid: int,
        gid: int,
        output: Callable[[bytes], None],
        timeout_s: float | None = None,
        groups: Sequence[int] = (),
    ) -> int:
        """Run an executable with exactly *env* and wait; its exit code, 128 + N after signal N, 127 if it is missing.

        A name without a slash is looked for in the `PATH` of *env*.

        *output* receives stdout and stderr together, as they come, and a last line if the kernel killed something
        because the memory limit was reached. What the executable leaves running in the background lives until
        `kill_processes`, but its output goes nowhere. If *output* raises, the executable is killed.

        Raises:
            SandboxError: the sandbox died meanwhile, or has no room for another process.
            TimeoutError: it ran longer than *timeout_s*; it has been killed.
        """
        request = {
            "argv": list(argv),
            "env": dict(env),
            "cwd": cwd,
            "uid": uid,
            "gid": gid,
            "groups": list(groups),
        }
        reader, writer = os.pipe()
        try:
            kills = self._oom_kills()
            # To open /dev/stderr, as scripts do.
            os.fchown(writer, self._base + uid, self._base + gid)
            number = self._line.start(request, writer)
            os.close(writer)
            writer = -1
            code = self._line.wait(number, reader, output, timeout_s)
            if self._oom_kills() > kills:
                output(_OUT_OF_MEMORY)
            return code
        finally:
            os.close(reader)
            if writer >= 0:
                os.close(writer)

    def interrupt(self) -> None:
        """End everything inside; for another thread than the one that waits in `run`, which gets a `SandboxError`."""
        with contextlib.suppress(ProcessLookupError):
            if pid := self._setup_pid:
                os.kill(pid, END)

    def kill_processes(self) -> None:
        """End everything that runs inside. Files can be read and written until `close`. Idempotent."""
        self._line.close()
        if self._setup_pid:
            # The setup process ends pid 1, whose end is the end of everything in its namespace, and waits for it.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._setup_pid, END)
            os.waitpid(self._setup_pid, 0)
            self._setup_pid = 0
            self._at_end()

    def remove_stubs(self) -> None:
        """After `kill_processes`: take away the empty places that were made for mounts and files."""
        self._stubs.remove()

    def close(self) -> None:
        """End everything and give the mount up. Idempotent."""
        self.kill_processes()
        self._tree.close()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, plan: Plan, netns_fd: int, at_start: Callable[[], None]) -> None:
        ours, theirs = self._line.open()
        self._setup_pid = fork_setup(plan, ours, theirs, netns_fd=netns_fd, at_start=at_start)
        theirs.close()
        os.close(plan.root_fd)
        self._line.wait_until_ready()

    def _oom_kills(self) -> int:
        return self._cgroup.oom_kills() if self._cgroup is not None else 0
