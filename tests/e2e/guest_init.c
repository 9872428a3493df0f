/* Process 1 of the test guest: loads modules, lays a throw-away top over the host's files, runs one command, ends. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void fail(const char *what) {
    printf("guest: %s: %s\n", what, strerror(errno));
    fflush(stdout);
    sync();
    reboot(RB_POWER_OFF);
}

static void load_modules(void) {
    char path[256];
    FILE *list = fopen("/modules.list", "r");
    while (list && fgets(path, sizeof path, list)) {
        path[strcspn(path, "\n")] = '\0';
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST)) fail(path);
        close(fd);
    }
}

static void mounted(const char *source, const char *target, const char *type, const char *options) {
    mkdir(target, 0755);
    if (mount(source, target, type, 0, options) < 0) fail(target);
}

int main(void) {
    int status = 0;
    load_modules();
    mounted("host", "/host", "9p", "trans=virtio,version=9p2000.L,msize=512000,cache=loose");
    mounted("tmpfs", "/top", "tmpfs", "mode=755");
    mkdir("/top/up", 0755);
    mkdir("/top/wk", 0755);
    mounted("overlay", "/root", "overlay", "lowerdir=/host,upperdir=/top/up,workdir=/top/wk");
    mounted("proc", "/root/proc", "proc", "");
    mounted("sysfs", "/root/sys", "sysfs", "");
    mounted("cgroup2", "/root/sys/fs/cgroup", "cgroup2", "");
    mounted("devtmpfs", "/root/dev", "devtmpfs", "mode=755");
    mounted("devpts", "/root/dev/pts", "devpts", "ptmxmode=666");
    mounted("tmpfs", "/root/dev/shm", "tmpfs", "mode=1777");
    mounted("tmpfs", "/root/run", "tmpfs", "mode=755");
    mounted("/root/dev/vda", "/root/mnt", "ext4", "");
    if (chdir("/root") < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0) fail("root");
    pid_t child = fork();
    if (child == 0) {
        setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
        setenv("HOME", "/root", 1);
        setenv("LC_ALL", "C.UTF-8", 1);
        setsid();
        execl("/bin/sh", "sh", "/mnt/command", (char *)NULL);
        _exit(127);
    }
    for (pid_t ended; (ended = wait(&status)) != child;)
        if (ended < 0 && errno != EINTR) break;
    printf("\nguest: exit %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    fflush(stdout);
    sync();
    reboot(RB_POWER_OFF);
}
