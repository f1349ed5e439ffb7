/* Devices, buffers, streams: names, limits, borrowing. */
#include "kernels/device.h"
#include "kernels/backend.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static sac_device *open_device(const char *name, uint32_t threads, const char *isa)
{
    sac_device_options options;
    sac_device *device;
    sac_error err;

    sac_device_options_init(&options);
    options.name = name;
    options.threads = threads;
    options.isa = isa;
    if (sac_device_open(&options, &device, &err) != SAC_OK)
        fail_msg("device %s: %s", name, err.text);
    return device;
}

static void opens_by_name(void **state)
{
    sac_device *device;

    (void)state;
    assert_int_equal(sac_device_open(NULL, &device, NULL), SAC_OK);
    assert_memory_equal(sac_device_describe(device), "cpu: ", 5);
    assert_int_equal(sac_device_threads(device), sac_parallel_cores());
    sac_device_close(device);

    device = open_device("ref", 7, NULL);
    assert_string_equal(sac_device_describe(device), "ref: plain C, 1 thread");
    assert_int_equal(sac_device_threads(device), 1);
    assert_true(sac_device_host_visible(device));
    sac_device_close(device);

    device = open_device("cpu", 3, "base");
    assert_string_equal(sac_device_describe(device), "cpu: baseline, 3 threads");
    sac_device_close(device);
    sac_device_close(NULL);
}

static void refuses_what_is_not_there(void **state)
{
    sac_device_options options;
    sac_device *device = (sac_device *)1;
    sac_error err;

    (void)state;
    sac_device_options_init(&options);
    options.name = "gpu";
    assert_int_equal(sac_device_open(&options, &device, &err), SAC_INVALID_ARGUMENT);
    assert_null(device);
    assert_non_null(strstr(err.text, "\"cpu\""));
    options.name = "cuda:1";
    assert_int_equal(sac_device_open(&options, &device, &err), SAC_UNSUPPORTED);
    options.name = "cpu";
    options.threads = 1u << 20;
    assert_int_equal(sac_device_open(&options, &device, &err), SAC_INVALID_ARGUMENT);
    options.threads = 1;
    options.isa = "sse9";
    assert_int_equal(sac_device_open(&options, &device, &err), SAC_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "avx2"));
}

static void environment_restricts_instructions(void **state)
{
    sac_device *device;

    (void)state;
    assert_int_equal(setenv("SACCADE_CPU__ISA", "base", 1), 0);
    device = open_device("cpu", 1, NULL);
    assert_string_equal(sac_device_describe(device), "cpu: baseline, 1 thread");
    sac_device_close(device);
    assert_int_equal(unsetenv("SACCADE_CPU__ISA"), 0);
}

static void every_slot_of_vectors_is_filled(void **state)
{
    const char *const isas[] = {"base", "avx2", "avx512"};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        sac_device *device = open_device("cpu", 1, isas[i]);
        const struct sac_ops *ops = sac_device_ops(device);

        assert_non_null(ops->norms);
        assert_non_null(ops->assign);
        assert_non_null(ops->assign_scratch);
        assert_non_null(ops->cluster_sums);
        assert_non_null(ops->nearest);
        assert_non_null(ops->nearest_scratch);
        assert_non_null(ops->gather_distances);
        assert_non_null(ops->rows_write);
        assert_non_null(ops->rows_read);
        assert_non_null(ops->pq_encode);
        assert_non_null(ops->pq_encode_scratch);
        assert_non_null(ops->list_write);
        assert_non_null(ops->list_move);
        assert_non_null(ops->pq_table);
        assert_non_null(ops->pq_scan);
        assert_non_null(ops->pq_scan_scratch);
        sac_device_close(device);
    }
}

static void buffers_are_aligned_and_checked(void **state)
{
    sac_device *device = open_device("cpu", 1, NULL);
    const size_t sizes[] = {1, 63, 64, 65, 4096, (size_t)5 << 20};
    sac_error err;
    void *buffer;

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        assert_int_equal(sac_buffer_alloc(device, sizes[i], 1, &buffer, &err), SAC_OK);
        assert_int_equal((uintptr_t)buffer % 64, 0);
        memset(buffer, 0xff, sizes[i]);
        sac_buffer_free(device, buffer);
    }
    assert_int_equal(sac_buffer_alloc(device, 0, 8, &buffer, &err), SAC_OK);
    assert_null(buffer);
    assert_int_equal(sac_buffer_alloc(device, SIZE_MAX / 2, 3, &buffer, &err), SAC_DEVICE_MEMORY);
    assert_int_equal(sac_buffer_alloc(device, SIZE_MAX - 1, 1, &buffer, &err), SAC_DEVICE_MEMORY);
    assert_null(buffer);
    sac_buffer_free(device, NULL);
    sac_device_close(device);
}

static void scratch_is_bounded(void **state)
{
    sac_device *device = open_device("cpu", 1, NULL);
    sac_stream *stream;
    void *a, *b;

    (void)state;
    assert_int_equal(sac_stream_open(device, 5000, &stream, NULL), SAC_OK);
    a = sac_scratch_take(stream, 3, 1);
    b = sac_scratch_take(stream, 8128, 1);
    assert_non_null(a);
    assert_non_null(b);
    assert_int_equal((unsigned char *)b - (unsigned char *)a, 64);
    assert_null(sac_scratch_take(stream, 1, 1));
    sac_scratch_reset(stream);
    assert_null(sac_scratch_take(stream, SIZE_MAX, 2));
    assert_ptr_equal(sac_scratch_take(stream, 8192, 1), a);
    assert_int_equal(sac_stream_reserve(stream, 8193, NULL), SAC_OK);
    assert_non_null(sac_scratch_take(stream, 16384, 1));
    assert_int_equal(sac_stream_reserve(stream, SIZE_MAX, NULL), SAC_NO_MEMORY);
    assert_int_equal(sac_scratch_size(2, 33), 128);
    assert_true(sac_scratch_size(SIZE_MAX, 2) == SIZE_MAX);
    assert_true(sac_scratch_add(SIZE_MAX, 2) == SIZE_MAX);
    sac_stream_close(stream);
    sac_stream_close(NULL);
    sac_device_close(device);
}

static void copies_go_both_ways(void **state)
{
    sac_device *device = open_device("cpu", 1, NULL);
    const char text[] = "there and back";
    char back[sizeof text];
    sac_stream *stream;
    void *buffer;

    (void)state;
    assert_int_equal(sac_stream_borrow(device, 0, &stream, NULL), SAC_OK);
    assert_ptr_equal(sac_stream_device(stream), device);
    assert_int_equal(sac_buffer_alloc(device, sizeof text, 1, &buffer, NULL), SAC_OK);
    assert_int_equal(sac_stream_upload(stream, buffer, text, sizeof text), SAC_OK);
    assert_int_equal(sac_stream_download(stream, back, buffer, sizeof text), SAC_OK);
    assert_int_equal(sac_stream_wait(stream), SAC_OK);
    assert_string_equal(back, text);
    sac_buffer_free(device, buffer);
    sac_stream_give_back(stream);
    sac_stream_give_back(NULL);
    sac_device_close(device);
}

static void *borrow_often(void *arg)
{
    sac_device *device = arg;

    for (int i = 0; i < 1000; i++) {
        sac_stream *stream;
        unsigned char *scratch;

        if (sac_stream_borrow(device, 256, &stream, NULL) != SAC_OK)
            return arg;
        sac_scratch_reset(stream);
        scratch = sac_scratch_take(stream, 256, 1);
        memset(scratch, i, 256);
        for (int j = 0; j < 256; j++)
            if (scratch[j] != (unsigned char)i)
                return arg;
        sac_stream_give_back(stream);
    }
    return NULL;
}

static void borrowed_streams_are_never_shared(void **state)
{
    sac_device *device = open_device("cpu", 1, NULL);
    pthread_t threads[4];

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, borrow_often, device), 0);
    for (int i = 0; i < 4; i++) {
        void *failed;

        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    sac_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_by_name),
        cmocka_unit_test(refuses_what_is_not_there),
        cmocka_unit_test(environment_restricts_instructions),
        cmocka_unit_test(every_slot_of_vectors_is_filled),
        cmocka_unit_test(buffers_are_aligned_and_checked),
        cmocka_unit_test(scratch_is_bounded),
        cmocka_unit_test(copies_go_both_ways),
        cmocka_unit_test(borrowed_streams_are_never_shared),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
