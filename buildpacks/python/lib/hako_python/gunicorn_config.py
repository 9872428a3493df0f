"""gunicorn's defaults in an image; the app's own gunicorn.conf.py or GUNICORN_CMD_ARGS go before them."""

import math
import os


def _cpus() -> int:
    """CPUs that the cgroup allows (v2, then v1), else those that the process may run on."""
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            most, span = file.read().split()
        if most != "max":
            return max(1, math.ceil(int(most) / int(span)))
    except (OSError, ValueError):
        pass
    for folder in ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"):
        try:
            with open(folder + "/cpu.cfs_quota_us") as file:
                quota = int(file.read())
            with open(folder + "/cpu.cfs_period_us") as file:
                period = int(file.read())
        except (OSError, ValueError):
            continue
        if quota > 0:
            return max(1, math.ceil(quota / period))
    return len(os.sched_getaffinity(0))


# gunicorn itself reads PORT (0.0.0.0:$PORT) and WEB_CONCURRENCY where they are set.
if "PORT" not in os.environ:
    bind = ["0.0.0.0:8080"]
if "WEB_CONCURRENCY" not in os.environ:
    workers = min(_cpus(), 8)
threads = 8
# The app is imported before the port is opened: one that cannot be imported never looks ready.
preload_app = True
timeout = 0  # the platform has the request timeout
keepalive = 75
if os.access("/dev/shm", os.W_OK):
    worker_tmp_dir = "/dev/shm"  # a heartbeat file on a disk can block a worker
control_socket_disable = True  # an app image has nobody who would use it
