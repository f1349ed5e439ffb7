/* The .npy writer: the header as NumPy's format 1.0 has it, the rows, and nothing left of a failed file. */
#include "server/npy.h"

#include "engine/vector_file.h"
#include "tests/file.h"
#include "tests/scratch.h"

#include <string.h>
#include <unistd.h>

static char folder[SAC_SCRATCH_PATH_MAX], path[SAC_SCRATCH_PATH_MAX + 16], part[SAC_SCRATCH_PATH_MAX + 16];

static int make_folder(void **state)
{
    (void)state;
    sac_scratch_make(folder);
    snprintf(path, sizeof path, "%s/out.npy", folder);
    snprintf(part, sizeof part, "%s/out.npy.part", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    sac_scratch_remove(folder);
    return 0;
}

static void what_is_written_is_read_back(void **state)
{
    const float rows[] = {1, 2, 3, 4, 5, 6};
    float back[6];
    struct sac_test_file raw;
    sac_npy_writer *writer;
    sac_vector_file *file;
    size_t n;
    sac_error err;

    (void)state;
    assert_int_equal(sac_npy_open(path, 2, &writer, &err), SAC_OK);
    assert_int_equal(sac_npy_write(writer, 1, rows, &err), SAC_OK);
    assert_int_equal(sac_npy_write(writer, 2, rows + 2, &err), SAC_OK);
    assert_int_not_equal(access(path, F_OK), 0); /* not before it is whole */
    assert_int_equal(sac_npy_finish(writer, &err), SAC_OK);
    assert_int_not_equal(access(part, F_OK), 0);

    raw = sac_test_read(path);
    assert_int_equal(raw.size, 128 + sizeof rows);
    assert_memory_equal(
        raw.bytes, "\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }",
        69);
    assert_int_equal(raw.bytes[127], '\n');
    free(raw.bytes);

    assert_int_equal(sac_vector_file_open(path, &file, &err), SAC_OK);
    assert_int_equal(sac_vector_file_dim(file), 2);
    assert_int_equal(sac_vector_file_count(file), 3);
    assert_int_equal(sac_vector_file_read(file, 3, back, &n, &err), SAC_OK);
    assert_memory_equal(back, rows, sizeof rows);
    sac_vector_file_close(file);
}

static void an_abandoned_file_leaves_nothing(void **state)
{
    sac_npy_writer *writer;
    sac_error err;

    (void)state;
    unlink(path);
    assert_int_equal(sac_npy_open(path, 2, &writer, &err), SAC_OK);
    sac_npy_abandon(writer);
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_not_equal(access(part, F_OK), 0);
    assert_int_equal(sac_npy_open("/nowhere/at/all.npy", 2, &writer, &err), SAC_IO);
    assert_null(writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(an_abandoned_file_leaves_nothing),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
