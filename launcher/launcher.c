/* The launcher of CNB app images: composes the environment that the buildpacks ask for and becomes the process.
 *
 * CNB platform.md "Launch", buildpack.md "Launch" and "Environment". Does what buildpacks/lifecycle's launcher does, in
 * one static program: no shell is needed unless a process wants one. All memory is kept until execve.
 */
#define _GNU_SOURCE
#include "toml.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CODE_FAILED = 1, CODE_PLATFORM_API = 11, CODE_BUILDPACK_API = 12, CODE_LAUNCH = 82 };
enum { LARGEST_FILE = 64 << 20, GRACE_MS = 1000, TICK_MS = 20 };

/* Words to the user: on standard output, as upstream's */

static bool coloured;

static void say(int colour, const char *prefix, const char *format, va_list arguments) {
    if (coloured)
        printf("\033[%d;1m%s: \033[0m", colour, prefix);
    else
        printf("%s: ", prefix);
    vprintf(format, arguments);
    putchar('\n');
    fflush(stdout);
}

__attribute__((noreturn, format(printf, 2, 3))) static void die(int code, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    say(31, "ERROR", format, arguments);
    va_end(arguments);
    exit(code);
}

__attribute__((format(printf, 1, 2))) static void warn(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    say(33, "Warning", format, arguments);
    va_end(arguments);
}

/* strerror as Go writes it: "no such file or directory". */
static const char *reason(int error) {
    static char text[128];
    snprintf(text, sizeof text, "%s", strerror(error));
    if (text[0] >= 'A' && text[0] <= 'Z' && text[1] >= 'a') text[0] += 'a' - 'A';
    return text;
}

/* Strings and lists */

static void *grow(void *old, size_t size) {
    void *grown = realloc(old, size);
    if (!grown) die(CODE_LAUNCH, "failed to launch: out of memory");
    return grown;
}

__attribute__((format(printf, 1, 2))) static char *format(const char *text, ...) {
    va_list arguments;
    char *made;
    va_start(arguments, text);
    if (vasprintf(&made, text, arguments) < 0) die(CODE_LAUNCH, "failed to launch: out of memory");
    va_end(arguments);
    return made;
}

struct list {
    char **items; /* NULL-terminated */
    size_t count, capacity;
};

static void push(struct list *list, const char *item) {
    if (list->count + 1 >= list->capacity) {
        list->capacity = list->capacity ? list->capacity * 2 : 16;
        list->items = grow(list->items, list->capacity * sizeof *list->items);
    }
    list->items[list->count++] = (char *)item;
    list->items[list->count] = NULL;
}

static void push_all(struct list *list, char *const *items) {
    for (; *items; items++) push(list, *items);
}

/* Files */

static bool is_directory(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

static bool exists(const char *path) {
    struct stat status;
    return stat(path, &status) == 0;
}

/* Everything that can be read from *fd*; NUL-terminated. NULL with errno if that fails. */
static char *read_all(int fd, size_t *length) {
    size_t used = 0, room = 4096;
    char *data = grow(NULL, room);
    for (;;) {
        ssize_t got = read(fd, data + used, room - used - 1);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return NULL;
        if (got == 0) break;
        used += (size_t)got;
        if (used > LARGEST_FILE) {
            errno = EFBIG;
            return NULL;
        }
        if (room - used < 2) data = grow(data, room *= 2);
    }
    data[used] = '\0';
    *length = used;
    return data;
}

static char *read_file(const char *path, size_t *length) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return NULL;
    char *data = read_all(fd, length);
    int error = errno;
    close(fd);
    errno = error;
    return data;
}

static int by_bytes(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* The names in a folder, sorted by bytes; false with errno if it cannot be read. A missing folder has none. */
static bool list_folder(const char *path, struct list *names) {
    DIR *folder = opendir(path);
    if (!folder) return errno == ENOENT || errno == ENOTDIR;
    for (struct dirent *entry; errno = 0, (entry = readdir(folder));)
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..")) push(names, format("%s", entry->d_name));
    int error = errno;
    closedir(folder);
    if (names->count) qsort(names->items, names->count, sizeof *names->items, by_bytes);
    errno = error;
    return !error;
}

/* The paths of what is in a folder and is no directory, sorted. */
static bool list_files(const char *folder, struct list *paths) {
    struct list names = {0};
    if (!list_folder(folder, &names)) return false;
    for (size_t i = 0; i < names.count; i++) {
        char *path = format("%s/%s", folder, names.items[i]);
        if (exists(path) && !is_directory(path)) push(paths, path);
    }
    return true;
}

/* The environment */

static struct list names, values;

static size_t find_variable(const char *name) {
    size_t i = 0;
    while (i < names.count && strcmp(names.items[i], name)) i++;
    return i;
}

static const char *get(const char *name) {
    size_t i = find_variable(name);
    return i < names.count ? values.items[i] : "";
}

static void set(const char *name, const char *value) {
    size_t i = find_variable(name);
    if (i < names.count) {
        values.items[i] = (char *)value;
    } else {
        push(&names, name);
        push(&values, value);
    }
}

static char **environment(void) {
    struct list list = {0};
    for (size_t i = 0; i < names.count; i++) push(&list, format("%s=%s", names.items[i], values.items[i]));
    if (!list.items) list.items = grow(NULL, sizeof *list.items), list.items[0] = NULL;
    return list.items;
}

static bool is_ours(const char *name) {
    static const char *const ours[] = {
        "CNB_LAYERS_DIR", "CNB_APP_DIR", "CNB_PROCESS_TYPE", "CNB_PLATFORM_API", "CNB_DEPRECATION_MODE"};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (!strcmp(name, ours[i])) return true;
    return false;
}

/* PATH without the folders that only exist to start processes. */
static char *without_launch_folders(const char *path) {
    char *kept = format("%s", ""), *copy = format("%s", path);
    bool first = true;
    for (char *element; (element = strsep(&copy, ":"));) {
        if (!strcmp(element, "/cnb/process") || !strcmp(element, "/cnb/lifecycle")) continue;
        kept = format("%s%s%s", kept, first ? "" : ":", element);
        first = false;
    }
    return kept;
}

static void take_environment(char **environ_) {
    for (; *environ_; environ_++) {
        char *equals = strchr(*environ_, '=');
        if (!equals || equals == *environ_) continue;
        char *name = format("%.*s", (int)(equals - *environ_), *environ_);
        if (!is_ours(name)) set(name, equals + 1);
    }
    if (find_variable("PATH") < names.count) set("PATH", without_launch_folders(get("PATH")));
}

static char *joined(const char *first, const char *delimiter, const char *second) {
    return *first && *second ? format("%s%s%s", first, delimiter, second) : format("%s%s", first, second);
}

/* APIs */

struct api {
    unsigned major, minor;
};

static bool parse_api(const char *text, struct api *api) {
    int end = 0;
    *api = (struct api){0};
    if (*text == 'v') text++;
    if (*text < '0' || *text > '9') return false;
    if (sscanf(text, "%u.%u%n", &api->major, &api->minor, &end) == 2 && !text[end]) return true;
    api->minor = 0;
    return sscanf(text, "%u%n", &api->major, &end) == 1 && !text[end];
}

static bool below(struct api api, unsigned minor) { return api.major == 0 && api.minor < minor; }

static bool supported(struct api api, unsigned lowest, unsigned highest) {
    return api.major == 0 && api.minor >= lowest && api.minor <= highest;
}

/* What the image says */

struct buildpack {
    const char *id;
    char *folder;
    struct api api;
};

struct process {
    const char *type, *buildpack, *working_dir;
    struct list command, args;
    bool direct;
    const struct toml_node *exec_env;
};

static struct {
    const char *layers, *app, *exec_env, *program;
    struct api platform;
    struct buildpack *buildpacks;
    size_t buildpack_count;
    const struct toml_node *processes;
} image;

static const char *variable(const char *name, const char *fallback) {
    const char *value = getenv(name);
    return value && *value ? value : fallback;
}

static const char *string_of(const struct toml_node *table, const char *key) {
    const struct toml_node *value = toml_get_kind(table, key, TOML_STRING);
    return value ? value->text : "";
}

static void push_strings(struct list *list, const struct toml_node *value) {
    if (value && value->kind == TOML_STRING) push(list, value->text);
    if (!value || value->kind != TOML_ARRAY) return;
    for (size_t i = 0; i < value->count; i++)
        if (value->items[i]->kind == TOML_STRING) push(list, value->items[i]->text);
}

static void check_deprecated(const char *kind, const char *name, const char *api, int code) {
    const char *mode = variable("CNB_DEPRECATION_MODE", "warn");
    if (!strcmp(mode, "quiet")) return;
    warn("%s%s%s%s requests deprecated API '%s'", kind, *name ? " '" : "", name, *name ? "'" : "", api);
    if (!strcmp(mode, "error")) die(code, "%s requests deprecated API '%s'", kind, api);
}

static void read_platform_api(void) {
    const char *text = variable("CNB_PLATFORM_API", "");
    if (!text[strspn(text, " \t\r\n")])
        die(CODE_PLATFORM_API,
            "failed to get platform API version; please set 'CNB_PLATFORM_API' to specify the desired platform API version");
    if (!parse_api(text, &image.platform) || !supported(image.platform, 3, 15))
        die(CODE_PLATFORM_API, "platform API version '%s' is incompatible with the lifecycle", text);
    if (below(image.platform, 7)) check_deprecated("Platform", "", text, CODE_PLATFORM_API);
}

static void read_buildpacks(const struct toml_node *array) {
    image.buildpacks = grow(NULL, (array ? array->count : 0) * sizeof *image.buildpacks + 1);
    for (size_t i = 0; array && i < array->count; i++) {
        const struct toml_node *table = array->items[i];
        if (table->kind != TOML_TABLE) continue;
        const char *id = string_of(table, "id"), *api = string_of(table, "api");
        struct buildpack *buildpack = &image.buildpacks[image.buildpack_count++];
        if (!*api) api = "0.2"; /* images older than the key */
        if (!parse_api(api, &buildpack->api) || !supported(buildpack->api, 2, 12))
            die(CODE_BUILDPACK_API, "buildpack '%s': buildpack API version '%s' is incompatible with the lifecycle", id, api);
        if (below(buildpack->api, 7)) check_deprecated("Buildpack", id, api, CODE_BUILDPACK_API);
        buildpack->id = id;
        char *escaped = format("%s", id);
        for (char *c = escaped; *c; c++)
            if (*c == '/') *c = '_';
        buildpack->folder = format("%s/%s", image.layers, escaped);
    }
}

static void read_metadata(void) {
    char *path = format("%s/config/metadata.toml", image.layers);
    size_t length = 0;
    struct toml_error error;
    char *text = read_file(path, &length);
    if (!text) die(CODE_FAILED, "failed to read metadata: open %s: %s", path, reason(errno));
    struct toml_node *metadata = toml_parse(text, length, &error);
    if (!metadata) die(CODE_FAILED, "failed to read metadata: toml: %s: line %lu: %s", path, error.line, error.message);
    image.processes = toml_get_kind(metadata, "processes", TOML_ARRAY);
    read_buildpacks(toml_get_kind(metadata, "buildpacks", TOML_ARRAY));
}

static const struct buildpack *find_buildpack(const char *id) {
    for (size_t i = 0; i < image.buildpack_count; i++)
        if (!strcmp(image.buildpacks[i].id, id)) return &image.buildpacks[i];
    return NULL;
}

/* Choosing the process */

static struct process process_of(const struct toml_node *table) {
    struct process process = {
        .type = string_of(table, "type"),
        .buildpack = string_of(table, "buildpack-id"),
        .working_dir = string_of(table, "working-dir"),
        .exec_env = toml_get_kind(table, "exec-env", TOML_ARRAY),
    };
    push_strings(&process.command, toml_get(table, "command"));
    push_strings(&process.args, toml_get(table, "args"));
    const struct toml_node *direct = toml_get_kind(table, "direct", TOML_BOOLEAN);
    const struct buildpack *buildpack = find_buildpack(process.buildpack);
    /* Since API 0.9 there is no other kind. */
    process.direct = direct ? direct->truth : buildpack && !below(buildpack->api, 9);
    return process;
}

static bool is_for(const struct process *process, const char *exec_env) {
    if (below(image.platform, 15) || !process->exec_env || !process->exec_env->count) return true;
    struct list environments = {0};
    push_strings(&environments, process->exec_env);
    for (size_t i = 0; i < environments.count; i++)
        if (!strcmp(environments.items[i], "*") || !strcmp(environments.items[i], exec_env)) return true;
    return false;
}

static bool find_process(const char *type, const char *exec_env, struct process *found) {
    for (size_t i = 0; image.processes && i < image.processes->count; i++) {
        if (image.processes->items[i]->kind != TOML_TABLE) continue;
        *found = process_of(image.processes->items[i]);
        if (!strcmp(found->type, type) && (!exec_env || is_for(found, exec_env))) return true;
    }
    return false;
}

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* The type that the image is started for: the name of the link in /cnb/process. */
static const char *default_type(void) {
    const char *type = base_name(image.program), *chosen = getenv("CNB_PROCESS_TYPE");
    struct process ignored;
    if (below(image.platform, 4)) return chosen && *chosen ? chosen : "web";
    if (chosen && *chosen) {
        warn("CNB_PROCESS_TYPE is not supported in Platform API %u.%u", image.platform.major, image.platform.minor);
        warn("Run with ENTRYPOINT '%s' to invoke the '%s' process type", chosen, chosen);
    }
    return find_process(type, NULL, &ignored) ? type : "";
}

static struct process users_process(char **words) {
    struct process process = {.type = "", .buildpack = "", .working_dir = "", .direct = words[1] && !strcmp(words[0], "--")};
    if (process.direct) words++;
    push(&process.command, words[0]);
    push_all(&process.args, words + 1);
    return process;
}

/* Arguments of the user follow a process's own, or replace those that the buildpack calls overridable. */
static void add_arguments(struct process *process, char **words) {
    if (below(image.platform, 10)) {
        push_all(&process->args, words);
        return;
    }
    if (process->command.count > 1) {
        struct list args = {0};
        push_all(&args, process->command.items + 1);
        if (*words)
            push_all(&args, words);
        else if (process->args.count)
            push_all(&args, process->args.items);
        process->command.count = 1;
        process->command.items[1] = NULL;
        process->args = args;
        return;
    }
    if (!*words) return;
    const struct buildpack *buildpack = find_buildpack(process->buildpack);
    if (!buildpack) die(CODE_LAUNCH, "failed to launch: determine start command: no buildpack with id '%s'", process->buildpack);
    if (!below(buildpack->api, 9)) process->args = (struct list){0};
    push_all(&process->args, words);
}

static struct process choose_process(const char **type, char **words) {
    struct process process;
    *type = default_type();
    if (below(image.platform, 4)) {
        if (words[0] && !words[1] && find_process(words[0], NULL, &process)) {
            *type = process.type;
            return process;
        }
        if (words[0]) {
            return users_process(words);
        }
    }
    if (!**type) {
        if (!words[0])
            die(CODE_LAUNCH, "failed to launch: determine start command: when there is no default process a command is required");
        return users_process(words);
    }
    if (!find_process(*type, image.exec_env, &process))
        die(CODE_LAUNCH, "failed to launch: determine start command: process type %s was not found", *type);
    add_arguments(&process, words);
    return process;
}

/* The buildpacks' part of the environment */

typedef void layer_visitor(const struct buildpack *buildpack, const char *layer, const char *type);

/* Calls *visit* for each layer of a buildpack: real folders, sorted. */
static void each_layer(const struct buildpack *buildpack, const char *type, layer_visitor *visit) {
    struct list found = {0};
    if (!list_folder(buildpack->folder, &found))
        die(CODE_LAUNCH, "failed to launch: modify env: open %s: %s", buildpack->folder, reason(errno));
    for (size_t i = 0; i < found.count; i++) {
        struct stat status;
        char *layer = format("%s/%s", buildpack->folder, found.items[i]);
        if (lstat(layer, &status) == 0 && S_ISDIR(status.st_mode)) visit(buildpack, layer, type);
    }
}

static void add_layer_root(const struct buildpack *buildpack, const char *layer, const char *type) {
    (void)buildpack, (void)type;
    char *bin = format("%s/bin", layer), *lib = format("%s/lib", layer);
    if (exists(bin)) set("PATH", joined(bin, ":", get("PATH")));
    if (exists(lib)) set("LD_LIBRARY_PATH", joined(lib, ":", get("LD_LIBRARY_PATH")));
}

/* The content of a file of an environment folder, verbatim. */
static char *variable_file(const char *path) {
    size_t length = 0;
    char *content = read_file(path, &length);
    if (!content) die(CODE_LAUNCH, "failed to launch: modify env: add layer env: open %s: %s", path, reason(errno));
    if (strlen(content) != length)
        die(CODE_LAUNCH, "failed to launch: modify env: add layer env: %s has a NUL byte, which no variable can have", path);
    return content;
}

static const char *delimiter(const char *folder, const char *name, const char *fallback) {
    char *path = format("%s/%s.delim", folder, name);
    return exists(path) && !is_directory(path) ? variable_file(path) : fallback;
}

static void add_environment_file(const char *folder, char *path, bool prepends) {
    char *name = format("%s", base_name(path));
    char *action = strchr(name, '.');
    if (action) *action++ = '\0';
    if (!*name || strchr(name, '=')) return;
    const char *old = get(name);
    if (!action) {
        char *value = variable_file(path);
        set(name, prepends ? joined(value, delimiter(folder, name, ":"), old) : value);
    } else if (!strcmp(action, "prepend")) {
        set(name, *old ? format("%s%s%s", variable_file(path), delimiter(folder, name, ""), old) : variable_file(path));
    } else if (!strcmp(action, "append")) {
        set(name, *old ? format("%s%s%s", old, delimiter(folder, name, ""), variable_file(path)) : variable_file(path));
    } else if (!strcmp(action, "default")) {
        if (!*old) set(name, variable_file(path));
    } else if (!strcmp(action, "override")) {
        set(name, variable_file(path));
    }
}

static void add_environment_folder(const struct buildpack *buildpack, const char *folder) {
    struct list files = {0};
    if (!list_files(folder, &files))
        die(CODE_LAUNCH, "failed to launch: modify env: add layer env: open %s: %s", folder, reason(errno));
    for (size_t i = 0; i < files.count; i++) add_environment_file(folder, files.items[i], below(buildpack->api, 5));
}

static void add_layer_environment(const struct buildpack *buildpack, const char *layer, const char *type) {
    add_environment_folder(buildpack, format("%s/env", layer));
    add_environment_folder(buildpack, format("%s/env.launch", layer));
    if (*type) add_environment_folder(buildpack, format("%s/env.launch/%s", layer, type));
}

/* exec.d */

/* In the child: standard input is empty, descriptor 3 is the pipe, nothing else is inherited. */
__attribute__((noreturn)) static void become_helper(const char *path, int pipe_end) {
    int empty = open("/dev/null", O_RDONLY);
    char *arguments[] = {(char *)path, NULL};
    if (empty < 0 || dup2(empty, 0) < 0) _exit(126);
    if (pipe_end == 3 ? fcntl(3, F_SETFD, 0) < 0 : dup2(pipe_end, 3) < 0) _exit(126);
#ifdef SYS_close_range
    syscall(SYS_close_range, 4U, ~0U, 0U);
#endif
    execve(path, arguments, environment());
    _exit(errno == ENOENT ? 127 : 126);
}

/* Reads until every writer is gone; a descendant that stays has a moment after the helper itself has ended. */
static char *collect(int fd, pid_t child, size_t *length, int *status) {
    size_t used = 0, room = 4096;
    char *data = grow(NULL, room);
    int left_ms = GRACE_MS;
    bool ended = false;
    for (;;) {
        struct pollfd readable = {.fd = fd, .events = POLLIN};
        int ready = poll(&readable, 1, TICK_MS);
        if (ready < 0 && errno != EINTR) break;
        if (ready <= 0) {
            if (!ended && waitpid(child, status, WNOHANG) == child) ended = true;
            if (ended && (left_ms -= TICK_MS) <= 0) break;
            continue;
        }
        if (room - used < 2) data = grow(data, room *= 2);
        ssize_t got = read(fd, data + used, room - used - 1);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0 || (used += (size_t)got) > LARGEST_FILE) break;
    }
    close(fd);
    while (!ended && waitpid(child, status, 0) < 0 && errno == EINTR) {
    }
    data[used] = '\0';
    *length = used;
    return data;
}

static void set_from_helper(const char *path, const char *output, size_t length) {
    struct toml_error error;
    struct toml_node *table = toml_parse(output, length, &error);
    if (!table)
        die(CODE_LAUNCH, "failed to launch: exec.d: failed to decode output from exec.d file at path '%s': toml: line %lu: %s", path,
            error.line, error.message);
    for (struct toml_entry *entry = table->entries; entry; entry = entry->next) {
        const struct toml_node *value = entry->value;
        if (value->kind != TOML_STRING || strlen(value->text) != value->length || strlen(entry->key) != entry->length ||
            !*entry->key || strchr(entry->key, '='))
            die(CODE_LAUNCH, "failed to launch: exec.d: failed to decode output from exec.d file at path '%s': '%s' is not a string",
                path, entry->key);
    }
    for (struct toml_entry *entry = table->entries; entry; entry = entry->next) set(entry->key, entry->value->text);
}

static void run_helper(const char *path) {
    static const char failed[] = "failed to launch: exec.d: failed to execute exec.d file at path";
    int ends[2], status = 0;
    size_t length = 0;
    if (pipe2(ends, O_CLOEXEC) < 0) die(CODE_LAUNCH, "%s '%s': %s", failed, path, reason(errno));
    fflush(stdout);
    pid_t child = fork();
    if (child < 0) die(CODE_LAUNCH, "%s '%s': %s", failed, path, reason(errno));
    if (child == 0) become_helper(path, ends[1]);
    close(ends[1]);
    char *output = collect(ends[0], child, &length, &status);
    if (WIFSIGNALED(status)) die(CODE_LAUNCH, "%s '%s': signal: %s", failed, path, strsignal(WTERMSIG(status)));
    if (WEXITSTATUS(status) == 126 && access(path, X_OK) < 0)
        die(CODE_LAUNCH, "%s '%s': fork/exec %s: %s", failed, path, path, reason(EACCES));
    if (status) die(CODE_LAUNCH, "%s '%s': exit status %d", failed, path, WEXITSTATUS(status));
    set_from_helper(path, output, length);
}

static void run_helpers(const char *folder) {
    struct list files = {0};
    if (!list_files(folder, &files)) die(CODE_LAUNCH, "failed to launch: exec.d: open %s: %s", folder, reason(errno));
    for (size_t i = 0; i < files.count; i++) run_helper(files.items[i]);
}

static void run_layer_helpers(const struct buildpack *buildpack, const char *layer, const char *type) {
    (void)buildpack;
    char *folder = format("%s/exec.d", layer);
    run_helpers(folder);
    if (*type) run_helpers(format("%s/%s", folder, type));
}

/* Becoming the process */

static bool is_executable(const char *path, int *error) {
    struct stat status;
    if (stat(path, &status) < 0)
        *error = errno;
    else if (S_ISDIR(status.st_mode))
        *error = EISDIR;
    else if (faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0)
        *error = EACCES;
    else
        return true;
    return false;
}

/* The program that a command names, as Go's exec.LookPath finds it. */
static const char *look_up(const char *command) {
    int error = 0;
    if (strchr(command, '/')) {
        if (is_executable(command, &error)) return command;
        const char *verb = error == ENOENT ? "stat " : "";
        die(CODE_LAUNCH, "failed to launch: path lookup: exec: \"%s\": %s%s%s%s", command, verb, *verb ? command : "",
            *verb ? ": " : "", error == EISDIR ? "is a directory" : reason(error));
    }
    char *path = format("%s", get("PATH"));
    for (char *folder; *command && (folder = strsep(&path, ":"));) {
        char *candidate = format("%s/%s", *folder ? folder : ".", command);
        if (!is_executable(candidate, &error)) continue;
        if (*candidate != '/')
            die(CODE_LAUNCH, "failed to launch: path lookup: exec: \"%s\": cannot run executable found relative to current directory",
                command);
        return candidate;
    }
    die(CODE_LAUNCH, "failed to launch: path lookup: exec: \"%s\": executable file not found in $PATH", command);
}

/* Why execve says "no such file" of a file that is there: its interpreter is not. */
static char *missing_interpreter(const char *path) {
    char line[256] = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? 0 : read(fd, line, sizeof line - 1);
    if (fd >= 0) close(fd);
    if (got < 3 || memcmp(line, "#!", 2)) return format("%s", "");
    char *interpreter = line + 2 + strspn(line + 2, " \t");
    interpreter[strcspn(interpreter, " \t\r\n")] = '\0';
    return exists(interpreter) ? format("%s", "") : format(" (its interpreter %s is not in this image)", interpreter);
}

__attribute__((noreturn)) static void launch_directly(struct process *process) {
    if (!process->command.count || !*process->command.items[0])
        die(CODE_LAUNCH, "failed to launch: no command provided for process type \"%s\"", process->type);
    struct list arguments = {0};
    const char *program = look_up(process->command.items[0]);
    push(&arguments, process->command.items[0]);
    if (process->args.count) push_all(&arguments, process->args.items);
    if (chdir(process->working_dir) < 0)
        die(CODE_LAUNCH, "failed to launch: change directory: chdir %s: %s", process->working_dir, reason(errno));
    execve(program, arguments.items, environment());
    int error = errno;
    die(CODE_LAUNCH, "failed to launch: direct exec: %s%s", reason(error), error == ENOENT ? missing_interpreter(program) : "");
}

static struct list profiles;

static void add_layer_profiles(const struct buildpack *buildpack, const char *layer, const char *type) {
    (void)buildpack;
    char *folder = format("%s/profile.d", layer), *own = format("%s/%s", folder, type);
    if (!list_files(folder, &profiles)) die(CODE_LAUNCH, "failed to launch: find profiles: open %s: %s", folder, reason(errno));
    if (*type && !list_files(own, &profiles))
        die(CODE_LAUNCH, "failed to launch: find profiles: open %s: %s", own, reason(errno));
}

/* The arguments are words that the shell may expand, except in a script: then they are its $0, $1, … */
static bool is_script(const struct process *process) {
    const struct buildpack *buildpack = find_buildpack(process->buildpack);
    return !process->args.count || (buildpack && below(buildpack->api, 4));
}

static char *shell_script(const struct process *process) {
    char *script = format("%s", "");
    for (size_t i = 0; i < profiles.count; i++) script = format("%ssource \"%s\"\n", script, profiles.items[i]);
    script = format("%scd \"%s\"\n", script, process->working_dir);
    if (is_script(process)) return format("%sexec bash -c \"$@\"", script);
    script = format("%sexec bash -c '\"$(eval echo \\\"$0\\\")\"", script);
    for (size_t i = 1; i <= process->args.count; i++) script = format("%s \"$(eval echo \\\"${%zu}\\\")\"", script, i);
    return format("%s' \"${@:1}\"", script);
}

__attribute__((noreturn)) static void launch_in_shell(struct process *process, const char *type) {
    for (size_t i = 0; i < image.buildpack_count; i++) each_layer(&image.buildpacks[i], type, add_layer_profiles);
    if (exists(".profile") && !is_directory(".profile")) push(&profiles, ".profile");
    char *command = format("%s", "");
    for (size_t i = 0; i < process->command.count; i++)
        command = format("%s%s%s", command, i ? " " : "", process->command.items[i]);
    struct list arguments = {0};
    push(&arguments, "bash");
    push(&arguments, "-c");
    push(&arguments, shell_script(process));
    push(&arguments, image.program);
    push(&arguments, command);
    if (process->args.count) push_all(&arguments, process->args.items);
    execve("/bin/bash", arguments.items, environment());
    int error = errno;
    die(CODE_LAUNCH, "failed to launch: bash exec: %s%s", reason(error),
        error == ENOENT ? " (this image has no shell; use a direct process, or `--` before the command)" : "");
}

static char *absolute(const char *path) {
    char here[PATH_MAX];
    return *path == '/' || !getcwd(here, sizeof here) ? format("%s", path) : format("%s/%s", here, path);
}

static bool truth(const char *text) {
    static const char *const yes[] = {"1", "t", "T", "TRUE", "true", "True"};
    for (size_t i = 0; text && i < sizeof yes / sizeof *yes; i++)
        if (!strcmp(text, yes[i])) return true;
    return false;
}

int main(int argc, char **argv, char **environ_) {
    const char *type;
    coloured = isatty(1) && !truth(getenv("CNB_NO_COLOR")) && !*variable("NO_COLOR", "");
    image.program = argc ? argv[0] : "launcher";
    image.layers = absolute(variable("CNB_LAYERS_DIR", "/layers"));
    image.app = variable("CNB_APP_DIR", "/workspace");
    image.exec_env = variable("CNB_EXEC_ENV", "production");
    read_platform_api();
    read_metadata();
    struct process process = choose_process(&type, argc ? argv + 1 : argv);
    if (!*process.working_dir) process.working_dir = image.app;
    if (chdir(image.app) < 0)
        die(CODE_LAUNCH, "failed to launch: change to app directory: chdir %s: %s", image.app, reason(errno));
    take_environment(environ_);
    for (size_t i = 0; i < image.buildpack_count; i++) {
        each_layer(&image.buildpacks[i], type, add_layer_root);
        each_layer(&image.buildpacks[i], type, add_layer_environment);
    }
    for (size_t i = 0; i < image.buildpack_count; i++)
        if (!below(image.buildpacks[i].api, 5)) each_layer(&image.buildpacks[i], type, run_layer_helpers);
    if (process.direct) launch_directly(&process);
    launch_in_shell(&process, type);
}
