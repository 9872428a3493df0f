/* A TOML 1.0 parser: everything is checked, strings and structure are kept. */
#ifndef HAKO_TOML_H
#define HAKO_TOML_H

#include <stdbool.h>
#include <stddef.h>

enum toml_kind { TOML_TABLE, TOML_ARRAY, TOML_STRING, TOML_BOOLEAN, TOML_INTEGER, TOML_FLOAT, TOML_DATE };

struct toml_entry;

struct toml_node {
    enum toml_kind kind;
    /* Strings: NUL-terminated, but may contain NULs. Numbers and dates: as written. */
    const char *text;
    size_t length;
    bool truth;
    /* Tables: entries in the order of the document. */
    struct toml_entry *entries, *last;
    /* Arrays. */
    struct toml_node **items;
    size_t count, capacity;
    /* How a table came to be; decides what may still be added to it. */
    bool closed, headed, dotted, of_tables;
};

struct toml_entry {
    const char *key;
    size_t length;
    struct toml_node *value;
    struct toml_entry *next;
};

struct toml_error {
    unsigned long line;
    const char *message;
};

/* The document's table; NULL and *error if it is not TOML. The memory is never freed: the launcher replaces itself. */
struct toml_node *toml_parse(const char *text, size_t length, struct toml_error *error);

/* The value of a key of a table; NULL if there is none. */
const struct toml_node *toml_get(const struct toml_node *table, const char *key);

/* The same, if it is of that kind. */
const struct toml_node *toml_get_kind(const struct toml_node *table, const char *key, enum toml_kind kind);

#ifdef TOML_FREES
/* Gives all memory back (the fuzzer parses many documents). */
void toml_free_all(void);
#endif

#endif
