/* Answers every request with 200 and closes the connection: a program whose own start costs nothing. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
static void end(int number) { _exit(0); }
int main(int argc, char **argv) {
  signal(SIGTERM, end);
  int s = socket(AF_INET, SOCK_STREAM, 0), one = 1;
  struct sockaddr_in a = {.sin_family = AF_INET};
  setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  a.sin_port = htons(getenv("PORT") ? atoi(getenv("PORT")) : 8080);
  inet_pton(AF_INET, argc > 1 ? argv[1] : "0.0.0.0", &a.sin_addr);
  if (bind(s, (struct sockaddr *)&a, sizeof a) || listen(s, 512)) return 1;
  for (;;) {
    char buffer[4096];
    const char *reply = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";
    int c = accept(s, 0, 0);
    if (c < 0) continue;
    if (read(c, buffer, sizeof buffer) > 0 && write(c, reply, strlen(reply)) < 0) return 2;
    close(c);
  }
}
