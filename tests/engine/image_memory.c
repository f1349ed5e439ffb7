/* Every allocation of a decode fails once: the error is SAC_NO_MEMORY and nothing leaks.
 *
 * The C library's allocator is replaced for the whole process, the picture libraries included, and fails on
 * request. Not built with sanitizers, which replace it themselves.
 */
#include "engine/saccade.h"
#include "tests/file.h"

#include <errno.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);
void __libc_free(void *block);

static bool counting;
static long calls_left; /* the call that brings this to 0 fails */
static long live;       /* blocks taken and not given back while counting */

static bool fails(void)
{
    if (!counting)
        return false;
    if (--calls_left == 0) {
        errno = ENOMEM;
        return true;
    }
    return false;
}

static void *count_block(void *block)
{
    live += counting && block != NULL;
    return block;
}

void *malloc(size_t size)
{
    return fails() ? NULL : count_block(__libc_malloc(size));
}

void *calloc(size_t count, size_t size)
{
    return fails() ? NULL : count_block(__libc_calloc(count, size));
}

void *realloc(void *block, size_t size)
{
    if (fails())
        return NULL;
    return block == NULL ? count_block(__libc_realloc(NULL, size)) : __libc_realloc(block, size);
}

void free(void *block)
{
    live -= counting && block != NULL;
    __libc_free(block);
}

static void fail_every_allocation(const char *name)
{
    sac_image_limits limits;
    struct sac_test_file file;
    char path[256];
    sac_status st = SAC_NO_MEMORY;
    int calls = 0;

    snprintf(path, sizeof path, "tests/fixtures/images/%s", name);
    file = sac_test_read(path);
    sac_image_limits_init(&limits);
    limits.milliseconds = 60000;
    while (st == SAC_NO_MEMORY) {
        sac_image *image;
        sac_error err = {SAC_OK, ""};
        long leaked;

        live = 0;
        calls_left = ++calls;
        counting = true;
        st = sac_image_decode(file.bytes, file.size, &limits, &image, &err);
        sac_image_free(image);
        leaked = live;
        counting = false;
        if (st != SAC_OK && st != SAC_NO_MEMORY)
            fail_msg("%s, allocation %d: %s", name, calls, err.text);
        if (leaked != 0)
            fail_msg("%s, allocation %d: %ld blocks leaked", name, calls, leaked);
    }
    assert_true(calls > 2);
    free(file.bytes);
}

static void jpeg_gives_up_cleanly(void **state)
{
    (void)state;
    fail_every_allocation("colour.jpg");
    fail_every_allocation("progressive.jpg");
    fail_every_allocation("cmyk.jpg");
}

#ifdef SACCADE_WITH_PNG
static void png_gives_up_cleanly(void **state)
{
    (void)state;
    fail_every_allocation("turned.png");
    fail_every_allocation("palette.png");
    fail_every_allocation("interlaced.png");
}
#endif

#ifdef SACCADE_WITH_WEBP
static void webp_gives_up_cleanly(void **state)
{
    (void)state;
    fail_every_allocation("lossy.webp");
    fail_every_allocation("lossless.webp");
    fail_every_allocation("translucent.webp");
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jpeg_gives_up_cleanly),
#ifdef SACCADE_WITH_PNG
        cmocka_unit_test(png_gives_up_cleanly),
#endif
#ifdef SACCADE_WITH_WEBP
        cmocka_unit_test(webp_gives_up_cleanly),
#endif
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
