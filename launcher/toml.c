/* A TOML 1.0 parser (toml.io/en/v1.0.0). Recursive descent over the bytes; memory from an arena. */
#include "toml.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

enum { DEEPEST = 256, ARENA_BLOCK = 64 * 1024 };

struct parser {
    const char *at, *end;
    unsigned long line;
    unsigned depth;
    const char *message;
    jmp_buf failed;
};

/* The arena */

struct block {
    struct block *next;
    size_t used, size;
    char data[];
};

static struct block *blocks;

static void *allocate(struct parser *p, size_t size);

__attribute__((noreturn)) static void fail(struct parser *p, const char *message) {
    p->message = message;
    longjmp(p->failed, 1);
}

static void *allocate(struct parser *p, size_t size) {
    size = (size + 15) & ~(size_t)15;
    if (!blocks || blocks->size - blocks->used < size) {
        size_t room = size > ARENA_BLOCK ? size : ARENA_BLOCK;
        struct block *block = malloc(sizeof *block + room);
        if (!block) fail(p, "out of memory");
        block->next = blocks;
        block->used = 0;
        block->size = room;
        blocks = block;
    }
    void *given = blocks->data + blocks->used;
    blocks->used += size;
    memset(given, 0, size);
    return given;
}

#ifdef TOML_FREES
void toml_free_all(void) {
    while (blocks) {
        struct block *next = blocks->next;
        free(blocks);
        blocks = next;
    }
}
#endif

/* A string under construction. It grows by doubling inside the arena. */
struct text {
    char *data;
    size_t length, capacity;
};

static void put(struct parser *p, struct text *text, char byte) {
    if (text->length + 1 >= text->capacity) {
        size_t capacity = text->capacity ? text->capacity * 2 : 32;
        char *data = allocate(p, capacity);
        if (text->length) memcpy(data, text->data, text->length);
        text->data = data;
        text->capacity = capacity;
    }
    text->data[text->length++] = byte;
    text->data[text->length] = '\0';
}

static void start(struct parser *p, struct text *text) {
    *text = (struct text){0};
    put(p, text, '\0');
    text->length = 0;
}

/* Bytes */

static bool is_digit(int c) { return c >= '0' && c <= '9'; }

static bool is_bare(int c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '_' || c == '-';
}

static int peek(const struct parser *p) { return p->at < p->end ? (unsigned char)*p->at : -1; }

static bool looking_at(const struct parser *p, const char *word) {
    size_t length = strlen(word);
    return (size_t)(p->end - p->at) >= length && memcmp(p->at, word, length) == 0;
}

static bool take(struct parser *p, const char *word) {
    if (!looking_at(p, word)) return false;
    p->at += strlen(word);
    return true;
}

static void skip_blanks(struct parser *p) {
    while (peek(p) == ' ' || peek(p) == '\t') p->at++;
}

/* Takes "\n" or "\r\n"; a lone "\r" is no line end. */
static bool take_newline(struct parser *p) {
    if (take(p, "\n") || take(p, "\r\n")) {
        p->line++;
        return true;
    }
    return false;
}

static void skip_comment(struct parser *p) {
    if (peek(p) != '#') return;
    for (;;) {
        int c = peek(p);
        if (c < 0 || c == '\n' || looking_at(p, "\r\n")) return;
        if ((c < 0x20 && c != '\t') || c == 0x7f) fail(p, "control character in a comment");
        p->at++;
    }
}

static void end_line(struct parser *p) {
    skip_blanks(p);
    skip_comment(p);
    if (peek(p) >= 0 && !take_newline(p)) fail(p, "expected the end of the line");
}

/* Spaces, line ends and comments between the parts of an array. */
static void skip_space(struct parser *p) {
    do {
        skip_blanks(p);
        skip_comment(p);
    } while (take_newline(p));
}

static bool is_utf8(const unsigned char *at, const unsigned char *end) {
    while (at < end) {
        unsigned c = *at;
        size_t more = c < 0x80 ? 0 : c >= 0xc2 && c <= 0xdf ? 1 : (c & 0xf0) == 0xe0 ? 2 : c >= 0xf0 && c <= 0xf4 ? 3 : 9;
        if (more == 9 || (size_t)(end - at) <= more) return false;
        for (size_t i = 1; i <= more; i++)
            if ((at[i] & 0xc0) != 0x80) return false;
        if ((c == 0xe0 && at[1] < 0xa0) || (c == 0xed && at[1] > 0x9f) || (c == 0xf0 && at[1] < 0x90) ||
            (c == 0xf4 && at[1] > 0x8f))
            return false;
        at += more + 1;
    }
    return true;
}

/* Strings */

static void put_code_point(struct parser *p, struct text *text, int digits) {
    unsigned long code = 0;
    for (int i = 0; i < digits; i++) {
        int c = peek(p);
        int value = is_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (value < 0) fail(p, "bad unicode escape");
        code = code << 4 | (unsigned)value;
        p->at++;
    }
    if (code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) fail(p, "escape of no character");
    if (code < 0x80) {
        put(p, text, (char)code);
    } else if (code < 0x800) {
        put(p, text, (char)(0xc0 | code >> 6));
        put(p, text, (char)(0x80 | (code & 0x3f)));
    } else if (code < 0x10000) {
        put(p, text, (char)(0xe0 | code >> 12));
        put(p, text, (char)(0x80 | (code >> 6 & 0x3f)));
        put(p, text, (char)(0x80 | (code & 0x3f)));
    } else {
        put(p, text, (char)(0xf0 | code >> 18));
        put(p, text, (char)(0x80 | (code >> 12 & 0x3f)));
        put(p, text, (char)(0x80 | (code >> 6 & 0x3f)));
        put(p, text, (char)(0x80 | (code & 0x3f)));
    }
}

static void put_escape(struct parser *p, struct text *text) {
    int c = peek(p);
    if (c < 0) fail(p, "unfinished string");
    p->at++;
    switch (c) {
    case 'b': put(p, text, '\b'); return;
    case 't': put(p, text, '\t'); return;
    case 'n': put(p, text, '\n'); return;
    case 'f': put(p, text, '\f'); return;
    case 'r': put(p, text, '\r'); return;
    case '"': put(p, text, '"'); return;
    case '\\': put(p, text, '\\'); return;
    case 'u': put_code_point(p, text, 4); return;
    case 'U': put_code_point(p, text, 8); return;
    default: fail(p, "unknown escape in a string");
    }
}

/* A backslash at the end of a line eats it and all blank space after it. Leaves anything else alone. */
static bool take_line_continuation(struct parser *p) {
    const char *begun = p->at;
    skip_blanks(p);
    if (!take_newline(p)) {
        p->at = begun;
        return false;
    }
    do skip_blanks(p);
    while (take_newline(p));
    return true;
}

static void check_string_byte(struct parser *p, int c) {
    if (c < 0) fail(p, "unfinished string");
    if ((c < 0x20 && c != '\t') || c == 0x7f) fail(p, "control character in a string");
}

static void parse_line_string(struct parser *p, struct text *text, char quote) {
    p->at++;
    for (;;) {
        int c = peek(p);
        check_string_byte(p, c);
        p->at++;
        if (c == quote) return;
        if (c == '\\' && quote == '"')
            put_escape(p, text);
        else
            put(p, text, (char)c);
    }
}

static void parse_block_string(struct parser *p, struct text *text, char quote) {
    const char *closing = quote == '"' ? "\"\"\"" : "'''";
    p->at += 3;
    take_newline(p);
    for (;;) {
        if (take(p, closing)) {
            /* Up to two more quotes belong to the string. */
            for (int i = 0; i < 2 && peek(p) == quote; i++, p->at++) put(p, text, quote);
            return;
        }
        const char *begun = p->at;
        if (take_newline(p)) {
            for (; begun < p->at; begun++) put(p, text, *begun);
            continue;
        }
        int c = peek(p);
        check_string_byte(p, c);
        p->at++;
        if (c != '\\' || quote != '"')
            put(p, text, (char)c);
        else if (!take_line_continuation(p))
            put_escape(p, text);
    }
}

static void parse_string(struct parser *p, struct text *text, bool blocks_too) {
    char quote = (char)peek(p);
    start(p, text);
    if (blocks_too && looking_at(p, quote == '"' ? "\"\"\"" : "'''"))
        parse_block_string(p, text, quote);
    else
        parse_line_string(p, text, quote);
}

/* Numbers and dates: checked, kept as written */

static size_t count_digits(const char *at, const char *end) {
    const char *begun = at;
    while (at < end && is_digit(*at)) at++;
    return (size_t)(at - begun);
}

static bool two(const char **at, const char *end, unsigned lowest, unsigned highest) {
    if (end - *at < 2 || !is_digit((*at)[0]) || !is_digit((*at)[1])) return false;
    unsigned value = (unsigned)((*at)[0] - '0') * 10 + (unsigned)((*at)[1] - '0');
    *at += 2;
    return value >= lowest && value <= highest;
}

static bool one(const char **at, const char *end, const char *of) {
    if (*at == end || !strchr(of, **at) || !**at) return false;
    ++*at;
    return true;
}

static bool is_time(const char **at, const char *end) {
    if (!two(at, end, 0, 23) || !one(at, end, ":") || !two(at, end, 0, 59) || !one(at, end, ":") || !two(at, end, 0, 60))
        return false;
    if (one(at, end, ".")) {
        size_t digits = count_digits(*at, end);
        *at += digits;
        return digits > 0;
    }
    return true;
}

static bool is_date(const char *at, const char *end) {
    static const unsigned char days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (count_digits(at, end) != 4) return false;
    unsigned year = 0;
    for (int i = 0; i < 4; i++) year = year * 10 + (unsigned)(*at++ - '0');
    if (!one(&at, end, "-") || !two(&at, end, 1, 12)) return false;
    unsigned month = (unsigned)(at[-2] - '0') * 10 + (unsigned)(at[-1] - '0');
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    unsigned last = days[month - 1] + (month == 2 && leap);
    if (!one(&at, end, "-") || !two(&at, end, 1, last)) return false;
    if (at == end) return true;
    if (!one(&at, end, "Tt ") || !is_time(&at, end)) return false;
    if (at == end || (one(&at, end, "Zz") && at == end)) return true;
    return one(&at, end, "+-") && two(&at, end, 0, 23) && one(&at, end, ":") && two(&at, end, 0, 59) && at == end;
}

/* Digits of a base with single underscores between them; gives where they end, NULL if there are none. */
static const char *digits_of(const char *at, const char *end, const char *allowed) {
    const char *begun = at;
    while (at < end && *at && (strchr(allowed, *at) || (*at == '_' && at > begun && at + 1 < end && at[-1] != '_'))) at++;
    return at > begun && at[-1] != '_' ? at : NULL;
}

static bool is_integer(const char *at, const char *end) {
    static const struct { const char *prefix, *digits; } bases[] = {
        {"0x", "0123456789abcdefABCDEF"}, {"0o", "01234567"}, {"0b", "01"}};
    for (size_t i = 0; i < 3; i++)
        if (end - at > 2 && memcmp(at, bases[i].prefix, 2) == 0) return digits_of(at + 2, end, bases[i].digits) == end;
    one(&at, end, "+-");
    if (end - at > 1 && *at == '0') return false;
    return digits_of(at, end, "0123456789") == end;
}

static bool is_float(const char *at, const char *end) {
    one(&at, end, "+-");
    if (end - at == 3 && (memcmp(at, "inf", 3) == 0 || memcmp(at, "nan", 3) == 0)) return true;
    if (end - at > 1 && *at == '0' && is_digit(at[1])) return false;
    if (end - at > 1 && *at == '0' && at[1] == '_') return false;
    at = digits_of(at, end, "0123456789");
    if (!at || at == end) return false;
    if (one(&at, end, ".") && !(at = digits_of(at, end, "0123456789"))) return false;
    if (at < end) {
        if (!one(&at, end, "eE")) return false;
        one(&at, end, "+-");
        if (!(at = digits_of(at, end, "0123456789"))) return false;
    }
    return at == end;
}

static enum toml_kind scalar_kind(struct parser *p, const char *at, const char *end) {
    const char *time = at;
    if (is_time(&time, end) && time == end) return TOML_DATE;
    if (is_date(at, end)) return TOML_DATE;
    if (is_integer(at, end)) return TOML_INTEGER;
    if (is_float(at, end)) return TOML_FLOAT;
    fail(p, "not a value");
}

static void parse_scalar(struct parser *p, struct toml_node *node) {
    const char *begun = p->at;
    while (p->at < p->end && (is_bare(*p->at) || strchr(".:+", *p->at)) && *p->at) p->at++;
    /* A date may be parted from its time by one blank. */
    if (p->at - begun == 10 && p->end - p->at > 2 && *p->at == ' ' && is_digit(p->at[1]) && begun[4] == '-') {
        p->at++;
        while (p->at < p->end && (is_bare(*p->at) || strchr(".:+", *p->at)) && *p->at) p->at++;
    }
    node->kind = scalar_kind(p, begun, p->at);
    node->text = begun;
    node->length = (size_t)(p->at - begun);
}

/* Tables and keys */

static struct toml_node *new_node(struct parser *p, enum toml_kind kind) {
    struct toml_node *node = allocate(p, sizeof *node);
    node->kind = kind;
    return node;
}

static struct toml_entry *find(const struct toml_node *table, const char *key, size_t length) {
    for (struct toml_entry *entry = table->entries; entry; entry = entry->next)
        if (entry->length == length && memcmp(entry->key, key, length) == 0) return entry;
    return NULL;
}

static void add(struct parser *p, struct toml_node *table, const struct text *key, struct toml_node *value) {
    struct toml_entry *entry = allocate(p, sizeof *entry);
    *entry = (struct toml_entry){key->data, key->length, value, NULL};
    if (table->last)
        table->last->next = entry;
    else
        table->entries = entry;
    table->last = entry;
}

static void append(struct parser *p, struct toml_node *array, struct toml_node *item) {
    if (array->count == array->capacity) {
        size_t capacity = array->capacity ? array->capacity * 2 : 8;
        struct toml_node **items = allocate(p, capacity * sizeof *items);
        if (array->count) memcpy(items, array->items, array->count * sizeof *items);
        array->items = items;
        array->capacity = capacity;
    }
    array->items[array->count++] = item;
}

static void parse_simple_key(struct parser *p, struct text *key) {
    int c = peek(p);
    if (c == '"' || c == '\'') {
        parse_string(p, key, false);
        return;
    }
    start(p, key);
    for (; is_bare(peek(p)); p->at++) put(p, key, *p->at);
    if (!key->length) fail(p, "expected a key");
}

static bool take_dot(struct parser *p) {
    skip_blanks(p);
    if (!take(p, ".")) return false;
    skip_blanks(p);
    return true;
}

/* The table at a key of a [header]'s path, made if it is missing; of an array of tables, the last. */
static struct toml_node *enter_for_header(struct parser *p, struct toml_node *table, const struct text *key) {
    struct toml_entry *entry = find(table, key->data, key->length);
    if (!entry) {
        struct toml_node *made = new_node(p, TOML_TABLE);
        add(p, table, key, made);
        return made;
    }
    struct toml_node *found = entry->value;
    if (found->kind == TOML_ARRAY && found->of_tables) return found->items[found->count - 1];
    if (found->kind != TOML_TABLE || found->closed) fail(p, "a table's name is that of another value");
    return found;
}

static struct toml_node *parse_header(struct parser *p, struct toml_node *root) {
    bool array = take(p, "[[");
    if (!array) p->at++;
    struct toml_node *table = root;
    struct text key;
    skip_blanks(p);
    parse_simple_key(p, &key);
    while (take_dot(p)) {
        table = enter_for_header(p, table, &key);
        parse_simple_key(p, &key);
    }
    if (!take(p, array ? "]]" : "]")) fail(p, "expected the end of a table's name");
    struct toml_entry *entry = find(table, key.data, key.length);
    if (array) {
        if (!entry) {
            struct toml_node *made = new_node(p, TOML_ARRAY);
            made->of_tables = true;
            add(p, table, &key, made);
            entry = table->last;
        }
        if (entry->value->kind != TOML_ARRAY || !entry->value->of_tables) fail(p, "an array's name is that of another value");
        struct toml_node *made = new_node(p, TOML_TABLE);
        append(p, entry->value, made);
        return made;
    }
    if (!entry) {
        struct toml_node *made = new_node(p, TOML_TABLE);
        add(p, table, &key, made);
        entry = table->last;
    } else if (entry->value->kind != TOML_TABLE || entry->value->closed || entry->value->headed || entry->value->dotted) {
        fail(p, "a table is defined twice");
    }
    entry->value->headed = true;
    return entry->value;
}

static struct toml_node *parse_value(struct parser *p);

/* key = value, with dotted keys; *table* is the one that the line stands in. */
static void parse_pair(struct parser *p, struct toml_node *table) {
    struct text key;
    parse_simple_key(p, &key);
    while (take_dot(p)) {
        struct toml_entry *entry = find(table, key.data, key.length);
        if (!entry) {
            struct toml_node *made = new_node(p, TOML_TABLE);
            made->dotted = true;
            add(p, table, &key, made);
            table = made;
        } else {
            /* Dotted keys extend tables made by dotted keys, and no others. */
            table = entry->value;
            if (table->kind != TOML_TABLE || table->closed || !table->dotted) fail(p, "a dotted key extends another value");
        }
        parse_simple_key(p, &key);
    }
    if (!take(p, "=")) fail(p, "expected = after a key");
    skip_blanks(p);
    if (find(table, key.data, key.length)) fail(p, "a key is defined twice");
    add(p, table, &key, parse_value(p));
}

static void parse_array(struct parser *p, struct toml_node *array) {
    p->at++;
    for (;;) {
        skip_space(p);
        if (take(p, "]")) return;
        append(p, array, parse_value(p));
        skip_space(p);
        if (take(p, "]")) return;
        if (!take(p, ",")) fail(p, "expected , or ] in an array");
    }
}

static void close_table(struct toml_node *table) {
    table->closed = true;
    for (struct toml_entry *entry = table->entries; entry; entry = entry->next)
        if (entry->value->kind == TOML_TABLE && !entry->value->closed) close_table(entry->value);
}

static void parse_inline_table(struct parser *p, struct toml_node *table) {
    p->at++;
    skip_blanks(p);
    if (!take(p, "}")) {
        do {
            skip_blanks(p);
            parse_pair(p, table);
            skip_blanks(p);
        } while (take(p, ","));
        if (!take(p, "}")) fail(p, "expected , or } in an inline table");
    }
    close_table(table);
}

static struct toml_node *parse_value(struct parser *p) {
    struct toml_node *node = new_node(p, TOML_STRING);
    struct text text;
    int c = peek(p);
    if (++p->depth > DEEPEST) fail(p, "nested too deeply");
    switch (c) {
    case '"':
    case '\'':
        parse_string(p, &text, true);
        node->text = text.data;
        node->length = text.length;
        break;
    case '[':
        node->kind = TOML_ARRAY;
        parse_array(p, node);
        break;
    case '{':
        node->kind = TOML_TABLE;
        parse_inline_table(p, node);
        break;
    case 't':
    case 'f':
        node->kind = TOML_BOOLEAN;
        node->truth = c == 't';
        if (!take(p, c == 't' ? "true" : "false") || is_bare(peek(p))) fail(p, "not a value");
        break;
    default:
        parse_scalar(p, node);
    }
    p->depth--;
    return node;
}

struct toml_node *toml_parse(const char *text, size_t length, struct toml_error *error) {
    struct parser parser = {.at = text, .end = text + length, .line = 1};
    struct parser *volatile p = &parser;
    if (setjmp(parser.failed)) {
        *error = (struct toml_error){p->line, p->message};
        return NULL;
    }
    if (!is_utf8((const unsigned char *)text, (const unsigned char *)text + length)) fail(p, "not UTF-8");
    struct toml_node *root = new_node(p, TOML_TABLE), *table = root;
    while (p->at < p->end) {
        skip_blanks(p);
        int c = peek(p);
        if (c == '[')
            table = parse_header(p, root);
        else if (c >= 0 && c != '#' && c != '\n' && c != '\r')
            parse_pair(p, table);
        end_line(p);
    }
    return root;
}

const struct toml_node *toml_get(const struct toml_node *table, const char *key) {
    struct toml_entry *entry = find(table, key, strlen(key));
    return entry ? entry->value : NULL;
}

const struct toml_node *toml_get_kind(const struct toml_node *table, const char *key, enum toml_kind kind) {
    const struct toml_node *value = toml_get(table, key);
    return value && value->kind == kind ? value : NULL;
}
