/* Files of every kind are written byte by byte here and must come back as the numbers they say. */
#include "engine/vector_file.h"
#include "tests/data.h"

#include <string.h>

static char path[256];

static void write_file(const char *ending, const void *bytes, size_t size)
{
    FILE *file;

    snprintf(path, sizeof path, "/tmp/saccade_vector_file_%ld%s", (long)getpid(), ending);
    file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
}

static void expect(const char *ending, const void *bytes, size_t size, const float *want, uint64_t rows,
                   uint32_t dim)
{
    sac_vector_file *file;
    sac_error err = {0};
    float values[16];
    size_t got;

    write_file(ending, bytes, size);
    if (sac_vector_file_open(path, &file, &err) != SAC_OK)
        fail_msg("%s", err.text);
    assert_int_equal(sac_vector_file_count(file), rows);
    assert_int_equal(sac_vector_file_dim(file), dim);
    assert_int_equal(sac_vector_file_read(file, 16 / dim, values, &got, &err), SAC_OK);
    assert_int_equal(got, rows);
    assert_memory_equal(values, want, rows * dim * sizeof(float));
    if (rows > 1) {
        sac_vector_file_seek(file, 1);
        assert_int_equal(sac_vector_file_read(file, 1, values, &got, &err), SAC_OK);
        assert_int_equal(got, 1);
        assert_memory_equal(values, want + dim, dim * sizeof(float));
    }
    sac_vector_file_close(file);
    unlink(path);
}

static void refuse(const char *ending, const void *bytes, size_t size, sac_status want, const char *word)
{
    sac_vector_file *file;
    sac_error err = {0};
    float values[16];
    size_t got;
    sac_status st;

    write_file(ending, bytes, size);
    st = sac_vector_file_open(path, &file, &err);
    if (st == SAC_OK) {
        st = sac_vector_file_read(file, 4, values, &got, &err);
        sac_vector_file_close(file);
    } else {
        assert_null(file);
    }
    unlink(path);
    assert_int_equal(st, want);
    if (strstr(err.text, word) == NULL)
        fail_msg("'%s' does not mention '%s'", err.text, word);
}

static const float pairs[] = {1, 2, 3, 4};

static void reads_every_kind(void **state)
{
    (void)state;
    expect(".fvecs", "\2\0\0\0\0\0\x80\x3f\0\0\0\x40\2\0\0\0\0\0\x40\x40\0\0\x80\x40", 24, pairs, 2, 2);
    expect(".bvecs", "\2\0\0\0\1\2\2\0\0\0\3\4", 12, pairs, 2, 2);
    expect(".ivecs", "\2\0\0\0\1\0\0\0\2\0\0\0", 12, pairs, 1, 2);
    expect(".fbin", "\1\0\0\0\2\0\0\0\0\0\x80\x3f\0\0\0\x40", 16, pairs, 1, 2);
    expect(".fbin", "\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\0\0\x80\x3f\0\0\0\x40", 24, pairs, 1, 2);
    expect(".f16bin", "\1\0\0\0\2\0\0\0\0\x3c\0\x40", 12, pairs, 1, 2);
    expect(".u8bin", "\2\0\0\0\2\0\0\0\1\2\3\4", 12, pairs, 2, 2);
    expect(".i8bin", "\2\0\0\0\2\0\0\0\1\2\3\4", 12, pairs, 2, 2);
    expect(".ibin", "\1\0\0\0\2\0\0\0\1\0\0\0\2\0\0\0", 16, pairs, 1, 2);
}

static size_t npy(uint8_t *to, const char *dictionary, const void *data, size_t size)
{
    size_t length = strlen(dictionary);

    memcpy(to, "\x93NUMPY\1\0", 8);
    to[8] = (uint8_t)length;
    to[9] = 0;
    memcpy(to + 10, dictionary, length);
    memcpy(to + 10 + length, data, size);
    return 10 + length + size;
}

static void reads_numpy(void **state)
{
    uint8_t bytes[512];
    size_t size;

    (void)state;
    size = npy(bytes, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }   \n", pairs, 16);
    expect(".npy", bytes, size, pairs, 2, 2);
    size = npy(bytes, "{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }\n", pairs, 16);
    expect(".npy", bytes, size, pairs, 1, 4);
    size = npy(bytes, "{'descr': '<f2', 'fortran_order': False, 'shape': (1, 2), }\n", "\0\x3c\0\x40", 4);
    expect(".npy", bytes, size, pairs, 1, 2);
    size = npy(bytes, "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }\n", pairs, 16);
    refuse(".npy", bytes, size, SAC_UNSUPPORTED, "Fortran");
    size = npy(bytes, "{'descr': '>f4', 'fortran_order': False, 'shape': (2, 2), }\n", pairs, 16);
    refuse(".npy", bytes, size, SAC_UNSUPPORTED, "float32");
    size = npy(bytes, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2, 1), }\n", pairs, 16);
    refuse(".npy", bytes, size, SAC_UNSUPPORTED, "shape");
    size = npy(bytes, "{'descr': '<f4', 'fortran_order': False, 'shape': (9, 2), }\n", pairs, 16);
    refuse(".npy", bytes, size, SAC_MALFORMED, "9 rows");
    refuse(".npy", "\x93NUMPY\1\0\xff\xff{'des", 16, SAC_MALFORMED, "header");
    refuse(".npy", "PK", 2, SAC_MALFORMED, "short");
}

static void refuses_what_does_not_fit(void **state)
{
    (void)state;
    refuse(".fvecs", "\2\0\0\0\0\0\x80\x3f\0\0\0", 11, SAC_MALFORMED, "whole number of rows");
    refuse(".fvecs", "\xff\xff\xff\x7f\0\0\0\0", 8, SAC_TOO_LARGE, "65536");
    refuse(".fvecs", "\0\0\0\0", 4, SAC_MALFORMED, "components");
    refuse(".fvecs", "", 0, SAC_MALFORMED, "empty");
    refuse(".bvecs", "\2\0\0\0\1\2\1\0\0\0\3\4", 12, SAC_MALFORMED, "row 1");
    refuse(".u8bin", "\3\0\0\0\2\0\0\0\1\2\3\4", 12, SAC_MALFORMED, "cut");
    refuse(".u8bin", "\3\0\0", 3, SAC_MALFORMED, "cut");
    refuse(".xyz", "\0", 1, SAC_UNSUPPORTED, ".fvecs");
}

static void missing_file_is_named(void **state)
{
    sac_vector_file *file;
    sac_error err = {0};

    (void)state;
    assert_int_equal(sac_vector_file_open("/nowhere/at/all.fvecs", &file, &err), SAC_NOT_FOUND);
    assert_non_null(strstr(err.text, "/nowhere/at/all.fvecs"));
}

static void reads_the_real_sets(void **state)
{
    sac_vector_file *file;
    sac_error err = {0};
    int32_t first[100];
    size_t got;

    (void)state;
    assert_int_equal(sac_vector_file_open(sac_test_data_need("vectors/sift5k_base.fvecs"), &file, &err),
                     SAC_OK);
    assert_int_equal(sac_vector_file_count(file), 4800);
    assert_int_equal(sac_vector_file_dim(file), 128);
    sac_vector_file_close(file);
    assert_int_equal(
        sac_vector_file_open(sac_test_data_need("vectors/sift5k_groundtruth.ivecs"), &file, &err), SAC_OK);
    assert_int_equal(sac_vector_file_read_int32(file, 1, first, &got, &err), SAC_OK);
    assert_in_range(first[0], 0, 4799);
    sac_vector_file_close(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_kind),          cmocka_unit_test(reads_numpy),
        cmocka_unit_test(refuses_what_does_not_fit), cmocka_unit_test(missing_file_is_named),
        cmocka_unit_test(reads_the_real_sets),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
