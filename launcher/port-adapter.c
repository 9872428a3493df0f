/* An exec.d helper: tells servers that do not read PORT which port that is, by the variables that they do read.
 *
 * Variables that are set stay. Nothing is said without PORT. Output: TOML on descriptor 3 (CNB buildpack.md "exec.d").
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Address first: a server that hears only on 127.0.0.1 cannot be reached from outside its container. */
static const char *const addresses[] = {
    "UVICORN_HOST", "GRADIO_SERVER_NAME", "STREAMLIT_SERVER_ADDRESS", "FLASK_RUN_HOST", "SANIC_HOST", "HOST", "NITRO_HOST",
    "ROCKET_ADDRESS",
};
static const char *const ports[] = {
    "UVICORN_PORT", "GRADIO_SERVER_PORT", "STREAMLIT_SERVER_PORT", "FLASK_RUN_PORT", "SANIC_PORT", "NITRO_PORT",
    "SERVER_PORT", "QUARKUS_HTTP_PORT", "MICRONAUT_SERVER_PORT", "ASPNETCORE_HTTP_PORTS", "ROCKET_PORT",
};

static char output[4096];
static size_t used;

static void put(const char *text) {
    size_t length = strlen(text);
    if (used + length > sizeof output) _exit(1);
    memcpy(output + used, text, length);
    used += length;
}

static void put_unset(const char *const *names, size_t count, const char *value) {
    for (size_t i = 0; i < count; i++) {
        if (getenv(names[i])) continue;
        put(names[i]);
        put(" = \"");
        put(value);
        put("\"\n");
    }
}

int main(void) {
    const char *port = getenv("PORT");
    size_t digits = port ? strspn(port, "0123456789") : 0;
    if (!digits || digits > 5 || port[digits]) return 0;
    put_unset(addresses, sizeof addresses / sizeof *addresses, "0.0.0.0");
    put_unset(ports, sizeof ports / sizeof *ports, port);
    for (size_t at = 0; at < used;) {
        ssize_t written = write(3, output + at, used - at);
        if (written <= 0) return 1;
        at += (size_t)written;
    }
    return 0;
}
