/* Asks for bodies over HTTP/1.1 and throws them away unread, so that the client is not what is measured.
 *
 *   drain HOST PORT CONNECTIONS SECONDS|ONCE HEADERS PATH [PATH …]
 *
 * CONNECTIONS stay open; each asks for one PATH after the other, again and again for SECONDS (or every connection
 * once, for the word ONCE). HEADERS are lines with \n between them, or empty. Prints one line:
 *   REQUESTS BYTES SECONDS SLOWEST_FIRST_BYTE_SECONDS ERRORS
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HEAD_SIZE 16384

struct conn {
    int fd, next, in_body, have, done;
    long long left;
    double asked;
    char head[HEAD_SIZE + 1];
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static long long requests, bytes, errors;
static double slowest, end_at;
static int once, path_count, open_count;
static char **paths;
static const char *extra, *host;

static void ask(struct conn *c) {
    char text[8192];
    int size = snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: %s\r\n%s\r\n",
                        paths[c->next++ % path_count], host, extra);
    c->in_body = c->have = 0;
    c->asked = now();
    if (send(c->fd, text, size, MSG_NOSIGNAL) != size) errors++;
}

static void end(struct conn *c) {
    if (!c->done) {
        c->done = 1;
        open_count--;
        close(c->fd);
    }
}

static void answered(struct conn *c) {
    requests++;
    if (once || now() >= end_at) end(c);
    else ask(c);
}

/* The head has come, perhaps with the body's first bytes. */
static void read_head(struct conn *c, char *stop) {
    *stop = 0;
    char *length = strcasestr(c->head, "\r\ncontent-length:");
    if (strncmp(c->head, "HTTP/1.1 200", 12) || !length) {
        errors++;
        end(c);
        return;
    }
    c->left = atoll(length + 17);
    int early = c->have - (int)(stop + 4 - c->head);
    c->left -= early;
    bytes += early;
    double waited = now() - c->asked;
    if (waited > slowest) slowest = waited;
    c->in_body = 1;
    if (c->left == 0) answered(c);
}

static void readable(struct conn *c) {
    static char sink[1];
    if (!c->in_body) {
        ssize_t got = recv(c->fd, c->head + c->have, HEAD_SIZE - c->have, 0);
        if (got <= 0) {
            if (got < 0 && errno == EAGAIN) return;
            errors++;
            end(c);
            return;
        }
        c->have += got;
        c->head[c->have] = 0;
        char *stop = memmem(c->head, c->have, "\r\n\r\n", 4);
        if (stop) read_head(c, stop);
        return;
    }
    for (int turn = 0; turn < 16; turn++) {
        size_t want = c->left < (8 << 20) ? (size_t)c->left : 8 << 20;
        ssize_t got = recv(c->fd, sink, want, MSG_TRUNC | MSG_DONTWAIT);
        if (got < 0 && errno == EAGAIN) return;
        if (got <= 0) {
            errors++;
            end(c);
            return;
        }
        c->left -= got;
        bytes += got;
        if (c->left == 0) {
            answered(c);
            return;
        }
    }
}

int main(int argc, char **argv) {
    if (argc < 7) {
        fprintf(stderr, "usage: drain HOST PORT CONNECTIONS SECONDS|ONCE HEADERS PATH...\n");
        return 2;
    }
    host = argv[1];
    int count = atoi(argv[3]);
    once = !strcmp(argv[4], "ONCE");
    char *lines = calloc(2, strlen(argv[5]) + 4), *to = lines;
    for (char *from = argv[5]; *from; from++) {
        if (*from == '\n') *to++ = '\r';
        *to++ = *from;
    }
    if (to != lines) strcpy(to, "\r\n");
    extra = lines;
    paths = argv + 6;
    path_count = argc - 6;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
    inet_pton(AF_INET, host, &address.sin_addr);
    struct conn *conns = calloc(count, sizeof *conns);
    int poll = epoll_create1(0), yes = 1;
    double begun = now();
    end_at = begun + (once ? 1e9 : atof(argv[4]));
    for (int i = 0; i < count; i++) {
        struct conn *c = conns + i;
        c->fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(c->fd, (struct sockaddr *)&address, sizeof address)) {
            perror("connect");
            return 1;
        }
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        c->next = i;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(poll, EPOLL_CTL_ADD, c->fd, &event);
        open_count++;
    }
    for (int i = 0; i < count; i++) ask(conns + i);
    while (open_count) {
        struct epoll_event events[64];
        int ready = epoll_wait(poll, events, 64, 30000);
        if (ready == 0) {
            errors++;
            break;
        }
        for (int i = 0; i < ready; i++) {
            struct conn *c = events[i].data.ptr;
            if (!c->done) readable(c);
        }
    }
    printf("%lld %lld %.6f %.6f %lld\n", requests, bytes, now() - begun, slowest, errors);
    return 0;
}
