/* Feeds any bytes to the TOML parser and checks what it says about them.
 *
 * With clang: clang -g -O1 -fsanitize=fuzzer,address,undefined -DTOML_FREES toml_fuzz.c ../toml.c
 * Elsewhere add driver.c, which mutates a corpus by itself for a given time.
 */
#include "../toml.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static void check_node(const struct toml_node *node, unsigned depth);

static void check_text(const char *text, size_t length) {
    if (text[length] != '\0') abort();
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)text[i] == 0xff) abort(); /* never in UTF-8 */
}

static void check_table(const struct toml_node *table, unsigned depth) {
    const struct toml_entry *last = NULL;
    for (const struct toml_entry *entry = table->entries; entry; last = entry, entry = entry->next) {
        check_text(entry->key, entry->length);
        if (strlen(entry->key) == entry->length && toml_get(table, entry->key) != entry->value) abort();
        check_node(entry->value, depth + 1);
    }
    if (last != table->last) abort();
}

static void check_node(const struct toml_node *node, unsigned depth) {
    if (depth > 100000) abort();
    switch (node->kind) {
    case TOML_TABLE: check_table(node, depth); break;
    case TOML_ARRAY:
        for (size_t i = 0; i < node->count; i++) check_node(node->items[i], depth + 1);
        break;
    case TOML_STRING: check_text(node->text, node->length); break;
    case TOML_INTEGER:
    case TOML_FLOAT:
    case TOML_DATE:
        if (!node->length) abort();
        break;
    case TOML_BOOLEAN: break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    /* A copy of exactly this size: a read past its end is seen. */
    char *copy = malloc(size ? size : 1);
    struct toml_error error = {0};
    memcpy(copy, data, size);
    const struct toml_node *root = toml_parse(copy, size, &error);
    if (root)
        check_node(root, 0);
    else if (!error.message || !error.line)
        abort();
    toml_free_all();
    free(copy);
    return 0;
}
