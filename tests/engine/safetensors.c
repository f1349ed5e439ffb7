/* The header of a weights file, as a stranger might write it. */
#include "engine/safetensors.h"

#include "tests/scratch.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const char good[] = "{\"__metadata__\":{\"format\":\"pt\"},"
                           "\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
                           "\"b\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[24,32]},"
                           "\"c\":{\"dtype\":\"F16\",\"shape\":[],\"data_offsets\":[32,34]},"
                           "\"d\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[34,42]}}   ";
enum { GOOD_DATA = 42 };

static sac_status parse(const char *header, size_t size, uint64_t data_bytes, sac_error *err)
{
    /* Exactly as long as it is, so that a sanitizer sees a read behind it. */
    char *copy = malloc(size + (size == 0));
    sac_safetensors *file;
    sac_status st;

    memcpy(copy, header, size);
    memset(err, 0, sizeof *err);
    st = sac_safetensors_parse(copy, size, data_bytes, &file, err);
    if (st == SAC_OK)
        assert_non_null(file);
    else
        assert_null(file);
    if (st != SAC_OK)
        assert_true(strlen(err->text) > 0);
    sac_safetensors_close(file);
    free(copy);
    return st;
}

static void check_refused(const char *header, uint64_t data_bytes, const char *word)
{
    sac_error err;

    if (parse(header, strlen(header), data_bytes, &err) == SAC_OK)
        fail_msg("accepted: %.200s", header);
    if (strstr(err.text, word) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.text, word);
}

static void test_good(void **state)
{
    sac_safetensors *file;
    const sac_tensor *t;
    sac_error err;
    size_t count;

    (void)state;
    assert_int_equal(sac_safetensors_parse(good, strlen(good), GOOD_DATA, &file, &err), SAC_OK);
    (void)sac_safetensors_tensors(file, &count);
    assert_int_equal(count, 4);
    t = sac_safetensors_find(file, "a");
    assert_non_null(t);
    assert_int_equal(t->rank, 2);
    assert_int_equal(t->shape[1], 3);
    assert_int_equal(t->count, 6);
    assert_int_equal(sac_safetensors_find(file, "c")->count, 1);
    assert_int_equal(sac_safetensors_find(file, "d")->type, SAC_TENSOR_OTHER);
    assert_null(sac_safetensors_find(file, "e"));
    sac_safetensors_close(file);
    assert_int_equal(sac_safetensors_parse("{}", 2, 0, &file, &err), SAC_OK);
    sac_safetensors_close(file);
}

#define TENSOR(dtype, shape, offsets) \
    "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static void test_refused(void **state)
{
    (void)state;
    check_refused("", 0, "JSON");
    check_refused("[]", 0, "object");
    check_refused("{} x", 0, "JSON");
    check_refused("{\"a\":1}", 0, "dtype");
    check_refused("{\"a\":{}}", 0, "dtype");
    check_refused("{\"\":" TENSOR("F32", "[1]", "[0,4]") "}", 4, "name");
    check_refused("{\"a\":" TENSOR("F99", "[1]", "[0,4]") "}", 4, "F99");
    check_refused("{\"a\":" TENSOR("F32", "[1.5]", "[0,4]") "}", 4, "whole");
    check_refused("{\"a\":" TENSOR("F32", "[-1]", "[0,4]") "}", 4, "whole");
    check_refused("{\"a\":" TENSOR("F32", "3", "[0,4]") "}", 4, "shape");
    check_refused("{\"a\":" TENSOR("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") "}", 4, "shape");
    check_refused("{\"a\":" TENSOR("F32", "[4611686018427387904,4]", "[0,0]") "}", 0, "overflow");
    check_refused("{\"a\":" TENSOR("F32", "[9223372036854775807]", "[0,4]") "}", 4, "overflow");
    check_refused("{\"a\":" TENSOR("F32", "[99999999999999999999]", "[0,4]") "}", 4, "JSON");
    check_refused("{\"a\":" TENSOR("F32", "[1]", "[4,0]") "}", 4, "ascending");
    check_refused("{\"a\":" TENSOR("F32", "[1]", "[0]") "}", 4, "two");
    check_refused("{\"a\":" TENSOR("F32", "[2]", "[0,4]") "}", 4, "8 bytes");
    check_refused("{\"a\":" TENSOR("F32", "[2]", "[0,8]") "}", 4, "beyond the end");
    check_refused("{\"a\":" TENSOR("F32", "[1]", "[0,4]") "}", 5, "after the last");
    check_refused("{\"a\":" TENSOR("F32", "[1]", "[4,8]") "}", 8, "hole");
    check_refused("{\"a\":" TENSOR("F32", "[2]", "[0,8]") ",\"b\":" TENSOR("F32", "[2]", "[4,12]") "}", 12,
                  "overlap");
    check_refused("{\"a\":" TENSOR("F32", "[1]", "[0,4]") ",\"a\":" TENSOR("F32", "[1]", "[0,4]") "}", 4,
                  "JSON");
    check_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}", 4,
                  "nothing else");
    check_refused("{\"__metadata__\":{\"a\":[[[[1]]]]}}", 0, "deep");
}

static void test_bounds(void **state)
{
    size_t deep = 1 << 20, many = 100000 * 70;
    char *text = malloc(many + 100), *end = text;
    sac_error err;

    (void)state;
    memset(text, '[', deep);
    assert_int_equal(parse(text, deep, 0, &err), SAC_MALFORMED);
    text[0] = '{';
    end = text + 1;
    for (int i = 0; i < 100000; i++)
        end += sprintf(end, "%s\"%d\":" TENSOR("F32", "[0]", "[0,0]"), i > 0 ? "," : "", i);
    *end++ = '}';
    assert_true((size_t)(end - text) < many);
    assert_int_equal(parse(text, (size_t)(end - text), 0, &err), SAC_TOO_LARGE);
    free(text);
    text = calloc(SAC_SAFETENSORS_HEADER_MAX + 1, 1);
    assert_int_equal(parse(text, SAC_SAFETENSORS_HEADER_MAX + 1, 0, &err), SAC_TOO_LARGE);
    free(text);
}

/* Whatever is done to a header, the answer is a status: bytes changed, cut out, doubled, cut off. */
static void test_mutations(void **state)
{
    uint32_t seed = 7;
    sac_error err;

    (void)state;
    for (int round = 0; round < 20000; round++) {
        char text[2 * sizeof good];
        size_t size = strlen(good);

        memcpy(text, good, size);
        for (int change = 0; change <= round % 4; change++) {
            size_t at, length;

            seed = seed * 1664525u + 1013904223u;
            at = (seed >> 8) % size;
            length = 1 + (seed >> 28);
            if (at + length > size)
                continue;
            switch (seed % 5) {
            case 0:
                text[at] = (char)(seed >> 16);
                break;
            case 1:
                text[at] = "{}[]\",:0919-e\\"[(seed >> 16) % 14];
                break;
            case 2:
                memmove(text + at, text + at + length, size - at - length);
                size -= length;
                break;
            case 3:
                if (size + length <= sizeof text) {
                    memmove(text + at + length, text + at, size - at);
                    size += length;
                }
                break;
            default:
                size -= length < size ? length : 0;
            }
        }
        (void)parse(text, size, GOOD_DATA, &err);
    }
}

/* ---- files ------------------------------------------------------------------------------------------ */

static void write_file(const char *path, uint64_t header_bytes, const char *header, const void *data,
                       size_t bytes)
{
    FILE *out = fopen(path, "wb");

    assert_non_null(out);
    for (int i = 0; i < 8; i++)
        fputc((int)(header_bytes >> 8 * i & 0xff), out);
    fwrite(header, 1, strlen(header), out);
    fwrite(data, 1, bytes, out);
    fclose(out);
}

static void test_files(void **state)
{
    static const char header[] = "{\"a\":" TENSOR("F32", "[2]", "[0,8]") ",\"b\":" TENSOR(
        "F16", "[2]", "[8,12]") ","
                                "\"c\":" TENSOR("BF16", "[2]", "[12,16]") ",\"d\":" TENSOR("U8", "[4]",
                                                                                           "[16,20]") "}";
    float data[5] = {1.5f, NAN, 0, 0, 0}, out[4];
    const uint16_t halves[4] = {0x3c00, 0xc000, 0x3f80, 0xc000}; /* 1, -2 in f16; 1, -2 in bf16 */
    char folder[SAC_SCRATCH_PATH_MAX], path[SAC_SCRATCH_PATH_MAX + 16];
    sac_safetensors *file;
    sac_error err;

    (void)state;
    sac_scratch_make(folder);
    snprintf(path, sizeof path, "%s/x", folder);
    memcpy(&data[2], halves, sizeof halves);
    assert_int_equal(sac_safetensors_open(path, &file, &err), SAC_NOT_FOUND);
    write_file(path, UINT64_MAX, header, data, sizeof data);
    assert_int_equal(sac_safetensors_open(path, &file, &err), SAC_MALFORMED);
    write_file(path, strlen(header) + 1000, header, data, sizeof data);
    assert_int_equal(sac_safetensors_open(path, &file, &err), SAC_MALFORMED);

    write_file(path, strlen(header), header, data, sizeof data);
    assert_int_equal(sac_safetensors_open(path, &file, &err), SAC_OK);
    assert_int_equal(sac_safetensors_read(file, sac_safetensors_find(file, "a"), out, &err), SAC_MALFORMED);
    assert_non_null(strstr(err.text, "NaN"));
    assert_int_equal(sac_safetensors_read(file, sac_safetensors_find(file, "b"), out, &err), SAC_OK);
    assert_true(out[0] == 1.0f && out[1] == -2.0f);
    assert_int_equal(sac_safetensors_read(file, sac_safetensors_find(file, "c"), out, &err), SAC_OK);
    assert_true(out[0] == 1.0f && out[1] == -2.0f);
    assert_int_equal(sac_safetensors_read(file, sac_safetensors_find(file, "d"), out, &err), SAC_UNSUPPORTED);

    /* The file is cut under us: an error, not a signal. */
    assert_int_equal(truncate(path, 20), 0);
    assert_int_equal(sac_safetensors_read(file, sac_safetensors_find(file, "b"), out, &err), SAC_IO);
    sac_safetensors_close(file);
    sac_scratch_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),      cmocka_unit_test(test_refused), cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_mutations), cmocka_unit_test(test_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
