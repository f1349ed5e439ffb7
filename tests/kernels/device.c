/* Devices, buffers, streams: names, limits, borrowing. */
#include "kernels/device.h"
#include "kernels/backend.h"
#include "tests/kernels/open_device.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void opens_by_name(void **state)
{
    sac_device *device;

    (void)state;
    assert_int_equal(sac_device_open(NULL, &device, NULL), SAC_OK); /* the CPU, or a GPU */
    assert_int_equal(sac_device_threads(device), sac_parallel_cores());
    assert_memory_equal(sac_device_describe(sac_device_host(device)), "cpu: ", 5);
    assert_int_equal(sac_device_shard_count(device), 1);
    sac_device_close(device);

    device = open_device("ref", NULL, 7);
    assert_string_equal(sac_device_describe(device), "ref: plain C, 1 thread");
    assert_int_equal(sac_device_threads(device), 1);
    assert_true(sac_device_host_visible(device));
    sac_device_close(device);

    device = open_device("cpu", "base", 3);
    assert_string_equal(sac_device_describe(device), "cpu: baseline, 3 threads");
    sac_device_close(device);
    sac_device_close(NULL);
}

static void refuses_what_is_not_there(void **state)
{
    const char *const wrong[] = {"",       "cpu,",    ",cpu",  "cpu,ref", "auto,auto",          "cuda:",
                                 "cuda:x", "cuda:-1", "cuda0", "cuda:1x", "cuda:99999999999999"};
    sac_device_options options;
    sac_device *device = (sac_device *)1;
    sac_error err;

    (void)state;
    sac_device_options_init(&options);
    options.name = "gpu";
    assert_int_equal(sac_device_open(&options, &device, &err), SAC_INVALID_ARGUMENT);
    assert_null(device);
    assert_non_null(strstr(err.text, "\"cpu\""));
    options.name = "cuda:200";
    assert_int_equal(sac_device_open(&options, &device, &err), SAC_UNSUPPORTED);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        options.name = wrong[i];
        assert_int_equal(sac_device_open(&options, &device, &err), SAC_INVALID_ARGUMENT);
    }
    options.name = "cpu";
    options.require_gpu = true;
    assert_int_equal(sac_device_open(&options, &device, &err), SAC_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "GPU is required"));
    options.require_gpu = false;
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
    device = open_device("cpu", NULL, 1);
    assert_string_equal(sac_device_describe(device), "cpu: baseline, 1 thread");
    sac_device_close(device);
    assert_int_equal(unsetenv("SACCADE_CPU__ISA"), 0);
}

static void every_slot_of_vectors_is_filled(void **state)
{
    const char *const isas[] = {"base", "avx2", "avx512"};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        sac_device *device = open_device("cpu", isas[i], 1);
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

/* ---- what every device promises; SACCADE_TEST_DEVICE names another than the CPU ---------------------- */

static sac_device *open_tested(void)
{
    const char *name = getenv("SACCADE_TEST_DEVICE");

    return open_device(name != NULL ? name : "cpu", NULL, 1);
}

static void *buffer_of(sac_device *device, size_t bytes)
{
    sac_error err;
    void *buffer;

    if (sac_buffer_alloc(device, bytes, 1, &buffer, &err) != SAC_OK)
        fail_msg("%zu bytes: %s", bytes, err.text);
    return buffer;
}

static void pattern(unsigned char *to, size_t bytes, unsigned seed)
{
    for (size_t i = 0; i < bytes; i++)
        to[i] = (unsigned char)(i * 31 + i / 251 + seed);
}

static void buffers_are_aligned_and_checked(void **state)
{
    sac_device *device = open_tested();
    const size_t sizes[] = {1, 63, 64, 65, 4096, (size_t)5 << 20};
    sac_error err;
    void *buffer;

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        assert_int_equal(sac_buffer_alloc(device, sizes[i], 1, &buffer, &err), SAC_OK);
        assert_int_equal((uintptr_t)buffer % 64, 0);
        if (sac_device_host_visible(device))
            memset(buffer, 0xff, sizes[i]);
        sac_buffer_free(device, buffer);
        assert_int_equal(sac_host_alloc(device, sizes[i], 1, &buffer, &err), SAC_OK);
        assert_int_equal((uintptr_t)buffer % 64, 0);
        memset(buffer, 0xff, sizes[i]);
        sac_host_free(device, buffer);
    }
    assert_int_equal(sac_buffer_alloc(device, 0, 8, &buffer, &err), SAC_OK);
    assert_null(buffer);
    assert_int_equal(sac_buffer_alloc(device, SIZE_MAX / 2, 3, &buffer, &err), SAC_DEVICE_MEMORY);
    assert_int_equal(sac_buffer_alloc(device, SIZE_MAX - 1, 1, &buffer, &err), SAC_DEVICE_MEMORY);
    assert_null(buffer);
    assert_int_equal(sac_host_alloc(device, SIZE_MAX / 2, 3, &buffer, &err), SAC_NO_MEMORY);
    assert_null(buffer);
    sac_buffer_free(device, NULL);
    sac_host_free(device, NULL);
    sac_device_close(device);
}

static void scratch_is_bounded(void **state)
{
    sac_device *device = open_tested();
    sac_status short_of = sac_device_host_visible(device) ? SAC_NO_MEMORY : SAC_DEVICE_MEMORY;
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
    assert_int_equal(sac_stream_reserve(stream, SIZE_MAX, NULL), short_of);
    sac_scratch_reset(stream);
    assert_non_null(sac_scratch_take(stream, 16384, 1)); /* what it had it keeps */
    assert_int_equal(sac_stream_reserve(stream, ((size_t)64 << 20) + 1, NULL), SAC_OK);
    assert_int_equal(stream->scratch_bytes, (size_t)128 << 20);
    assert_int_equal(sac_scratch_size(2, 33), 128);
    assert_true(sac_scratch_size(SIZE_MAX, 2) == SIZE_MAX);
    assert_true(sac_scratch_add(SIZE_MAX, 2) == SIZE_MAX);
    sac_stream_close(stream);
    sac_stream_close(NULL);
    sac_device_close(device);
}

/* Of 32 MiB a sixteenth and 8 are left to what is not counted. Arenas that wait to be used are the first to
 * go. */
static void a_limit_of_the_hosts_memory_is_kept(void **state)
{
    const size_t mib = (size_t)1 << 20;
    sac_device_options options;
    sac_device_memory memory;
    sac_device *device;
    sac_stream *stream;
    void *large, *small, *more;
    sac_error err;

    (void)state;
    sac_device_options_init(&options);
    options.name = "cpu";
    options.host_memory = 32 * mib;
    assert_int_equal(sac_device_open(&options, &device, NULL), SAC_OK);
    assert_int_equal(sac_buffer_alloc(device, 17 * mib, 1, &large, NULL), SAC_OK);
    assert_int_equal(sac_host_alloc(device, 100, 1, &small, NULL), SAC_OK);
    assert_int_equal((uintptr_t)large % (2 * mib), 0);
    assert_int_equal((uintptr_t)small % 64, 0);
    memset(large, 1, 17 * mib);
    memset(small, 1, 100);
    sac_device_memory_describe(device, &memory);
    assert_int_equal(memory.budget, 22 * mib);
    assert_int_equal(memory.used, 17 * mib + 128);
    assert_int_equal(sac_buffer_alloc(device, 5 * mib, 1, &more, &err), SAC_DEVICE_MEMORY);
    assert_non_null(strstr(err.text, "128 are missing"));
    assert_int_equal(sac_host_alloc(device, 5 * mib, 1, &more, NULL), SAC_DEVICE_MEMORY);
    assert_null(more);
    assert_int_equal(sac_stream_borrow(device, 5 * mib, &stream, NULL), SAC_DEVICE_MEMORY);
    assert_int_equal(sac_stream_borrow(device, 4 * mib, &stream, NULL), SAC_OK);
    sac_stream_give_back(stream);
    assert_int_equal(sac_buffer_alloc(device, 3 * mib, 1, &more, NULL), SAC_OK);
    sac_buffer_free(device, more);
    sac_host_free(device, small);
    sac_device_memory_describe(device, &memory);
    assert_int_equal(memory.used, 17 * mib);
    sac_buffer_free(device, large);
    sac_device_close(device);
}

/* Uploads from memory that is overwritten at once, or page-locked memory that is not, and reads back. */
static void there_and_back(sac_stream *stream, size_t bytes, bool locked)
{
    sac_device *device = sac_stream_device(stream);
    unsigned char *from, *back = malloc(bytes), *want = malloc(bytes);
    void *buffer = buffer_of(device, bytes), *memory = NULL;

    assert_non_null(back);
    assert_non_null(want);
    if (locked)
        assert_int_equal(sac_host_alloc(device, bytes, 1, &memory, NULL), SAC_OK);
    from = locked ? memory : malloc(bytes);
    assert_non_null(from);
    pattern(want, bytes, (unsigned)bytes);
    memcpy(from, want, bytes);
    assert_int_equal(sac_stream_upload(stream, buffer, from, bytes), SAC_OK);
    if (!locked)
        memset(from, 0xee, bytes);
    assert_int_equal(sac_stream_download(stream, back, buffer, bytes), SAC_OK);
    assert_int_equal(sac_stream_wait(stream), SAC_OK);
    assert_memory_equal(back, want, bytes);
    if (locked) { /* and into such memory */
        memset(from, 0, bytes);
        assert_int_equal(sac_stream_download(stream, from, buffer, bytes), SAC_OK);
        assert_int_equal(sac_stream_wait(stream), SAC_OK);
        assert_memory_equal(from, want, bytes);
        sac_host_free(device, memory);
    } else {
        free(from);
    }
    sac_buffer_free(device, buffer);
    free(back);
    free(want);
}

static void copies_go_both_ways(void **state)
{
    /* Around the pieces that a GPU's uploads are staged in (cuda_staging.h), and around the whole ring. */
    const size_t piece = (size_t)1 << 20;
    const size_t sizes[] = {1,         255,           256,       257,           piece - 1,    piece,
                            piece + 1, 4 * piece - 1, 4 * piece, 4 * piece + 1, 9 * piece + 5};
    sac_device *device = open_tested();
    sac_stream *stream;

    (void)state;
    assert_int_equal(sac_stream_borrow(device, 0, &stream, NULL), SAC_OK);
    assert_ptr_equal(sac_stream_device(stream), device);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        there_and_back(stream, sizes[i], false);
        there_and_back(stream, sizes[i], true);
    }
    assert_int_equal(sac_stream_upload(stream, NULL, NULL, 0), SAC_OK);
    assert_int_equal(sac_stream_download(stream, NULL, NULL, 0), SAC_OK);
    sac_stream_give_back(stream);
    sac_stream_give_back(NULL);
    sac_device_close(device);
}

/* Many uploads of one small piece of memory without a wait in between: each arrives as it was. */
static void uploads_let_go_of_their_memory(void **state)
{
    enum { COUNT = 600, BYTES = 9001 };
    sac_device *device = open_tested();
    unsigned char *buffer = buffer_of(device, (size_t)COUNT * BYTES);
    unsigned char *back = malloc((size_t)COUNT * BYTES), piece[BYTES], want[BYTES];
    sac_stream *stream;

    (void)state;
    assert_non_null(back);
    assert_int_equal(sac_stream_open(device, 0, &stream, NULL), SAC_OK);
    for (unsigned i = 0; i < COUNT; i++) {
        pattern(piece, BYTES, i);
        assert_int_equal(sac_stream_upload(stream, buffer + (size_t)i * BYTES, piece, BYTES), SAC_OK);
    }
    assert_int_equal(sac_stream_download(stream, back, buffer, (size_t)COUNT * BYTES), SAC_OK);
    assert_int_equal(sac_stream_wait(stream), SAC_OK);
    for (unsigned i = 0; i < COUNT; i++) {
        pattern(want, BYTES, i);
        assert_memory_equal(back + (size_t)i * BYTES, want, BYTES);
    }
    free(back);
    sac_buffer_free(device, buffer);
    sac_stream_close(stream);
    sac_device_close(device);
}

static void device_memory_is_copied_and_cleared(void **state)
{
    sac_device *device = open_tested();
    unsigned char *a = buffer_of(device, 1000), *b = buffer_of(device, 1000), want[1000], back[1000];
    sac_stream *stream;

    (void)state;
    assert_int_equal(sac_stream_open(device, 0, &stream, NULL), SAC_OK);
    pattern(want, sizeof want, 3);
    assert_int_equal(sac_stream_upload(stream, a, want, sizeof want), SAC_OK);
    assert_int_equal(sac_stream_copy(stream, b, a, sizeof want), SAC_OK);
    assert_int_equal(sac_stream_clear(stream, b + 100, 50), SAC_OK);
    assert_int_equal(sac_stream_clear(stream, a, 0), SAC_OK);
    assert_int_equal(sac_stream_copy(stream, a, b, 0), SAC_OK);
    assert_int_equal(sac_stream_download(stream, back, b, sizeof back), SAC_OK);
    assert_int_equal(sac_stream_wait(stream), SAC_OK);
    memset(want + 100, 0, 50);
    assert_memory_equal(back, want, sizeof want);
    /* Rows of 30 bytes from every 40th to every 50th. */
    assert_int_equal(sac_stream_upload(stream, a, want, sizeof want), SAC_OK);
    assert_int_equal(sac_stream_clear(stream, b, sizeof want), SAC_OK);
    assert_int_equal(sac_stream_copy_rows(stream, b + 3, 50, a + 7, 40, 30, 19), SAC_OK);
    assert_int_equal(sac_stream_copy_rows(stream, b, 50, a, 40, 30, 0), SAC_OK);
    assert_int_equal(sac_stream_copy_rows(stream, b, 50, a, 40, 0, 19), SAC_OK);
    assert_int_equal(sac_stream_copy_rows(stream, b + 980, 0, a, 0, 20, 1), SAC_OK);
    assert_int_equal(sac_stream_download(stream, back, b, sizeof back), SAC_OK);
    assert_int_equal(sac_stream_wait(stream), SAC_OK);
    for (size_t i = 0; i < 980; i++) {
        size_t row = (i - 3) / 50, column = (i - 3) % 50;
        assert_int_equal(back[i], i >= 3 && row < 19 && column < 30 ? want[7 + row * 40 + column] : 0);
    }
    assert_memory_equal(back + 980, want, 20);
    sac_buffer_free(device, a);
    sac_buffer_free(device, b);
    sac_stream_close(stream);
    sac_device_close(device);
}

static void a_stream_waits_for_another_ones_mark(void **state)
{
    sac_device *device = open_tested();
    unsigned char *a = buffer_of(device, 64), *b = buffer_of(device, 64), want[64], back[64];
    sac_stream *first, *second;
    sac_event *event;

    (void)state;
    assert_int_equal(sac_stream_open(device, 0, &first, NULL), SAC_OK);
    assert_int_equal(sac_stream_open(device, 0, &second, NULL), SAC_OK);
    assert_int_equal(sac_event_open(device, &event, NULL), SAC_OK);
    for (unsigned i = 0; i < 3; i++) { /* a record moves the mark */
        pattern(want, sizeof want, i);
        assert_int_equal(sac_stream_upload(first, a, want, sizeof want), SAC_OK);
        assert_int_equal(sac_event_record(event, first), SAC_OK);
        assert_int_equal(sac_stream_await(second, event), SAC_OK);
        assert_int_equal(sac_stream_copy(second, b, a, sizeof want), SAC_OK);
        assert_int_equal(sac_stream_download(second, back, b, sizeof back), SAC_OK);
        assert_int_equal(sac_stream_wait(second), SAC_OK);
        assert_memory_equal(back, want, sizeof want);
    }
    sac_event_close(event);
    sac_event_close(NULL);
    sac_stream_close(first);
    sac_stream_close(second);
    sac_buffer_free(device, a);
    sac_buffer_free(device, b);
    sac_device_close(device);
}

/* Records upload - copy - download on page-locked memory, and plays it with other bytes in it. */
static void recordings_are_played(void **state)
{
    sac_device *device = open_tested();
    void *from, *to, *a = buffer_of(device, 512), *b = buffer_of(device, 512);
    sac_recording *recording;
    sac_stream *stream, *other;
    sac_status st;

    (void)state;
    assert_int_equal(sac_host_alloc(device, 512, 1, &from, NULL), SAC_OK);
    assert_int_equal(sac_host_alloc(device, 512, 1, &to, NULL), SAC_OK);
    assert_int_equal(sac_stream_open(device, 0, &stream, NULL), SAC_OK);
    assert_int_equal(sac_stream_open(device, 0, &other, NULL), SAC_OK);
    st = sac_stream_record_begin(stream);
    assert_int_equal(st, sac_device_host_visible(device) ? SAC_UNSUPPORTED : SAC_OK);
    if (st == SAC_OK) {
        memset(to, 0, 512);
        pattern(from, 512, 77);
        assert_int_equal(sac_stream_upload(stream, a, from, 512), SAC_OK);
        assert_int_equal(sac_stream_copy(stream, b, a, 512), SAC_OK);
        assert_int_equal(sac_stream_download(stream, to, b, 512), SAC_OK);
        assert_int_equal(sac_stream_record_end(stream, &recording), SAC_OK);
        assert_int_equal(sac_stream_wait(stream), SAC_OK);
        assert_int_equal(((unsigned char *)to)[1], 0); /* kept, not done */
        for (unsigned i = 0; i < 4; i++) {
            sac_stream *on = i % 2 == 0 ? stream : other;

            pattern(from, 512, i);
            assert_int_equal(sac_recording_play(recording, on), SAC_OK);
            assert_int_equal(sac_stream_wait(on), SAC_OK);
            assert_memory_equal(to, from, 512);
        }
        sac_recording_free(recording);
    }
    sac_recording_free(NULL);
    sac_stream_close(stream);
    sac_stream_close(other);
    sac_host_free(device, from);
    sac_host_free(device, to);
    sac_buffer_free(device, a);
    sac_buffer_free(device, b);
    sac_device_close(device);
}

static void *borrow_often(void *arg)
{
    sac_device *device = arg;

    for (int i = 0; i < 300; i++) {
        unsigned char bytes[256], back[256];
        sac_stream *stream;
        void *scratch;

        if (sac_stream_borrow(device, 256, &stream, NULL) != SAC_OK)
            return arg;
        sac_scratch_reset(stream);
        scratch = sac_scratch_take(stream, 256, 1);
        memset(bytes, i, 256);
        if (sac_stream_upload(stream, scratch, bytes, 256) != SAC_OK ||
            sac_stream_download(stream, back, scratch, 256) != SAC_OK || sac_stream_wait(stream) != SAC_OK ||
            memcmp(bytes, back, 256) != 0)
            return arg;
        sac_stream_give_back(stream);
    }
    return NULL;
}

static void borrowed_streams_are_never_shared(void **state)
{
    sac_device *device = open_tested();
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

static void devices_with_commas_have_shards(void **state)
{
    const char *name = getenv("SACCADE_TEST_DEVICE");
    char list[64];
    unsigned char *a, *b, want[100], back[100];
    sac_device *device, *second;
    sac_stream *on_first, *on_second;

    (void)state;
    snprintf(list, sizeof list, "%s,%s", name != NULL ? name : "cpu", name != NULL ? name : "cpu");
    device = open_device(list, NULL, 1);
    assert_int_equal(sac_device_shard_count(device), 2);
    assert_ptr_equal(sac_device_shard(device, 0), device);
    second = sac_device_shard(device, 1);
    assert_int_equal(sac_device_shard_count(second), 1);
    assert_true(sac_device_host_visible(sac_device_host(device)));
    assert_true(sac_device_host_visible(sac_device_host(second)));
    assert_false(sac_device_lost(device));
    a = buffer_of(device, sizeof want);
    b = buffer_of(second, sizeof want);
    assert_int_equal(sac_stream_open(device, 0, &on_first, NULL), SAC_OK);
    assert_int_equal(sac_stream_open(second, 0, &on_second, NULL), SAC_OK);
    pattern(want, sizeof want, 9);
    assert_int_equal(sac_stream_upload(on_second, b, want, sizeof want), SAC_OK);
    assert_int_equal(sac_stream_wait(on_second), SAC_OK);
    assert_int_equal(sac_stream_copy(on_first, a, b, sizeof want), SAC_OK);
    assert_int_equal(sac_stream_download(on_first, back, a, sizeof back), SAC_OK);
    assert_int_equal(sac_stream_wait(on_first), SAC_OK);
    assert_memory_equal(back, want, sizeof want);
    sac_stream_close(on_first);
    sac_stream_close(on_second);
    sac_buffer_free(device, a);
    sac_buffer_free(second, b);
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
        cmocka_unit_test(a_limit_of_the_hosts_memory_is_kept),
        cmocka_unit_test(copies_go_both_ways),
        cmocka_unit_test(uploads_let_go_of_their_memory),
        cmocka_unit_test(device_memory_is_copied_and_cleared),
        cmocka_unit_test(a_stream_waits_for_another_ones_mark),
        cmocka_unit_test(recordings_are_played),
        cmocka_unit_test(borrowed_streams_are_never_shared),
        cmocka_unit_test(devices_with_commas_have_shards),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
