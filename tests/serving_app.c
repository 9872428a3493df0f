/* An app for tests of the serving plane: says who it is, how many requests it has had at once, and misbehaves when told to. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static atomic_int now, most, served;

static int number(const char *name, int otherwise) {
  const char *text = getenv(name);
  return text ? atoi(text) : otherwise;
}

static const char *text(const char *name) {
  const char *value = getenv(name);
  return value ? value : "";
}

static void pause_ms(int ms) { usleep(ms * 1000); }

static void end(int signal) {
  char note[] = "ended by SIGTERM\n";
  if (write(1, note, sizeof note - 1) < 0) _exit(1);
  _exit(0);
}

static void eat(int mib) {
  for (int i = 0; i < mib; i++) memset(malloc(1 << 20), 1, 1 << 20);
}

static void *serve(void *argument) {
  int peer = (int)(long)argument;
  char in[16384], out[20000], body[16500], method[16], path[256];
  ssize_t got;
  while ((got = read(peer, in, sizeof in - 1)) > 0) {
    in[got] = 0;
    int mine = ++now, seen = most, status = 200;
    while (mine > seen && !atomic_compare_exchange_weak(&most, &seen, mine)) {}
    if (sscanf(in, "%15s %255s", method, path) != 2) break;
    if (!strncmp(path, "/sleep/", 7)) pause_ms(atoi(path + 7));
    if (!strncmp(path, "/eat/", 5)) eat(atoi(path + 5));
    if (!strcmp(path, "/die")) _exit(3);
    if (!strcmp(path, "/health")) status = number("HEALTH", 200);
    if (!strcmp(path, "/head"))
      snprintf(body, sizeof body, "%s", in);
    else
      snprintf(body, sizeof body, "%s %s most %d served %d\n", text("K_REVISION"), text("TEXT"), most, ++served);
    int size = snprintf(out, sizeof out, "HTTP/1.1 %d X\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n%s\r\n%s",
                        status, strlen(body), status / 100 == 3 ? "Location: /elsewhere\r\n" : "", body);
    now--;
    if (write(peer, out, size) < 0) break;
  }
  close(peer);
  return 0;
}

int main(void) {
  signal(SIGTERM, end);
  signal(SIGPIPE, SIG_IGN);
  setvbuf(stdout, 0, _IOLBF, 0);
  printf("starting %s\n", text("K_REVISION"));
  pause_ms(number("BOOT_MS", 0));
  if (getenv("FAIL")) {
    fprintf(stderr, "cannot start: %s\n", text("FAIL"));
    return 3;
  }
  int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
  struct sockaddr_in address = {.sin_family = AF_INET};
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  address.sin_port = htons(number("LISTEN_PORT", number("PORT", 8080)));
  inet_pton(AF_INET, getenv("LISTEN") ? getenv("LISTEN") : "0.0.0.0", &address.sin_addr);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1024)) return 1;
  for (;;) {
    pthread_t thread;
    long peer = accept(listener, 0, 0);
    if (peer < 0) continue;
    if (pthread_create(&thread, 0, serve, (void *)peer)) close(peer);
    else pthread_detach(thread);
  }
}
