/* file.h -- whole files for tests. */
#ifndef SACCADE_TESTS_FILE_H
#define SACCADE_TESTS_FILE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

struct sac_test_file {
    uint8_t *bytes; /* freed by the test */
    size_t size;
};

/* Reads a file; fails the test where that is not possible. */
static inline struct sac_test_file sac_test_read(const char *path)
{
    struct sac_test_file file = {NULL, 0};
    FILE *from = fopen(path, "rb");
    long size;

    if (from == NULL)
        fail_msg("cannot open %s", path);
    fseek(from, 0, SEEK_END);
    size = ftell(from);
    rewind(from);
    file.size = (size_t)size;
    file.bytes = malloc(file.size + 1);
    assert_non_null(file.bytes);
    assert_int_equal(fread(file.bytes, 1, file.size, from), file.size);
    fclose(from);
    return file;
}

#endif
