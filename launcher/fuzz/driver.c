/* Runs a fuzz target without libFuzzer: every file of a corpus, then mutations of them until the time is over.
 *
 *   fuzz SECONDS SEED FILE…        the same seed gives the same inputs; prints how many there were
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LARGEST = 4096 };

static uint64_t state;

static size_t below(size_t limit) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return limit ? (size_t)(state % limit) : 0;
}

struct input {
    uint8_t data[LARGEST];
    size_t size;
};

static struct input *corpus;
static size_t count;

static void load(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) exit(2);
    corpus = realloc(corpus, (count + 1) * sizeof *corpus);
    corpus[count].size = fread(corpus[count].data, 1, LARGEST, file);
    count++;
    fclose(file);
}

static void insert(struct input *input, size_t at, const uint8_t *data, size_t size) {
    if (input->size + size > LARGEST) return;
    memmove(input->data + at + size, input->data + at, input->size - at);
    memcpy(input->data + at, data, size);
    input->size += size;
}

static void mutate(struct input *input) {
    static const char alphabet[] = "[]{}=.,\"'\\#\n\r\t _-+:0123456789abcdefxTZtruenifu\x80\xc3\xa9\xff";
    size_t at = below(input->size + 1), length = below(16);
    const struct input *other = &corpus[below(count)];
    uint8_t byte = below(8) ? (uint8_t)alphabet[below(sizeof alphabet)] : (uint8_t)below(256);
    switch (below(5)) {
    case 0: insert(input, at, &byte, 1); break;
    case 1:
        if (at < input->size) input->data[at] = byte;
        break;
    case 2:
        if (length > input->size - at) length = input->size - at;
        memmove(input->data + at, input->data + at + length, input->size - at - length);
        input->size -= length;
        break;
    case 3: {
        size_t from = below(other->size + 1), size = below(other->size - from + 1);
        insert(input, at, other->data + from, size);
        break;
    }
    default: input->size = at; break;
    }
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    time_t end = time(NULL) + atoi(argv[1]);
    unsigned long runs = 0;
    state = strtoull(argv[2], NULL, 10) * 2 + 1;
    for (int i = 3; i < argc; i++) load(argv[i]);
    for (size_t i = 0; i < count; i++, runs++) LLVMFuzzerTestOneInput(corpus[i].data, corpus[i].size);
    while (time(NULL) < end) {
        struct input input = corpus[below(count)];
        for (size_t i = below(6) + 1; i; i--) {
            mutate(&input);
            LLVMFuzzerTestOneInput(input.data, input.size);
            runs++;
        }
    }
    printf("%lu inputs\n", runs);
    return 0;
}
