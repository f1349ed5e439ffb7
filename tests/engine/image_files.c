/* Real, odd and hostile files: each gives its picture or a clear error, soon. */
#include "engine/saccade.h"
#include "tests/data.h"
#include "tests/file.h"

#include <dirent.h>
#include <math.h>
#include <string.h>
#include <time.h>

/* Wall time says more about a shared machine than about us; the time of this thread is bounded instead. */
static sac_image_limits patient_limits(void)
{
    sac_image_limits limits;

    sac_image_limits_init(&limits);
    limits.milliseconds = 60000;
    return limits;
}

static double thread_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static sac_image *decode(const char *name)
{
    struct sac_test_file file = sac_test_read(sac_test_data(name));
    sac_image_limits limits = patient_limits();
    sac_image *image;
    sac_error err;

    if (sac_image_decode(file.bytes, file.size, &limits, &image, &err) != SAC_OK)
        fail_msg("%s: %s", name, err.text);
    free(file.bytes);
    return image;
}

/* The promise for any file whatever. Returns whether it decoded. */
static bool decode_anything(const char *name)
{
    struct sac_test_file file = sac_test_read(sac_test_data(name));
    sac_image_limits limits = patient_limits();
    sac_error err = {SAC_OK, ""};
    double start = thread_seconds();
    sac_image *image;
    sac_status st = sac_image_decode(file.bytes, file.size, &limits, &image, &err);

    if (thread_seconds() - start > 1.0)
        fail_msg("%s took %.2f s", name, thread_seconds() - start);
    if (st == SAC_OK) {
        assert_non_null(image);
    } else {
        assert_null(image);
        assert_true(st == SAC_IMAGE_REJECTED || st == SAC_IMAGE_CORRUPT);
        assert_int_equal(err.status, st);
        assert_true(strlen(err.text) > 8);
    }
    sac_image_free(image);
    free(file.bytes);
    return st == SAC_OK;
}

static int decode_folder(const char *folder, int *decoded)
{
    DIR *dir = opendir(sac_test_data_need(folder));
    struct dirent *entry;
    int count = 0;

    assert_non_null(dir);
    *decoded = 0;
    while ((entry = readdir(dir)) != NULL) {
        char name[512];

        if (entry->d_name[0] == '.' || strstr(entry->d_name, ".csv") != NULL)
            continue;
        snprintf(name, sizeof name, "%s/%s", folder, entry->d_name);
        *decoded += decode_anything(name);
        count++;
    }
    closedir(dir);
    return count;
}

static void every_hostile_file_has_an_answer(void **state)
{
    int decoded, count = decode_folder("hostile", &decoded);

    (void)state;
    assert_true(count > 300 && decoded > 20 && decoded < count);
}

static void every_camera_file_decodes(void **state)
{
    int decoded, count = decode_folder("exif", &decoded);

    (void)state;
    assert_true(count > 40);
    assert_int_equal(decoded, count);
}

static void every_near_copy_decodes(void **state)
{
    int decoded, count = decode_folder("near", &decoded);

    (void)state;
    assert_true(count > 20);
    assert_int_equal(decoded, count);
}

enum {
    COLUMN_FILE = 0,
    COLUMN_WIDTH = 6,
    COLUMN_HEIGHT = 7,
    COLUMN_ORIENTATION = 11,
    COLUMN_EXIT = 12,
    COLUMNS
};

/* The columns before the free text, which is the first that may hold a comma. */
static bool read_row(FILE *index, char *line, size_t size, const char *columns[COLUMNS])
{
    char *rest = line;

    if (fgets(line, (int)size, index) == NULL)
        return false;
    for (int i = 0; i < COLUMNS; i++) {
        columns[i] = strsep(&rest, ",");
        assert_non_null(columns[i]);
    }
    return true;
}

/* What libjpeg's own program decodes without a word, and our limits allow, has the size that it found. */
static void sound_files_have_the_size_of_the_index(void **state)
{
    FILE *index = fopen(sac_test_data_need("hostile/index.csv"), "r");
    const char *columns[COLUMNS];
    char line[1024], name[256];
    int count = 0;

    (void)state;
    assert_non_null(index);
    while (read_row(index, line, sizeof line, columns)) {
        uint32_t width = (uint32_t)atoi(columns[COLUMN_WIDTH]),
                 height = (uint32_t)atoi(columns[COLUMN_HEIGHT]);
        bool turned = atoi(columns[COLUMN_ORIENTATION]) >= 5;
        sac_image *image;

        if (strcmp(columns[COLUMN_EXIT], "0") != 0 || width < 16 || height < 16)
            continue;
        snprintf(name, sizeof name, "hostile/%s", columns[COLUMN_FILE]);
        image = decode(name);
        assert_int_equal(image->width, turned ? height : width);
        assert_int_equal(image->height, turned ? width : height);
        sac_image_free(image);
        count++;
    }
    fclose(index);
    assert_true(count > 30);
}

static double difference(const sac_image *a, const sac_image *b)
{
    size_t count = (size_t)a->width * a->height * 3;
    double sum = 0;

    assert_int_equal(a->width, b->width);
    assert_int_equal(a->height, b->height);
    for (size_t i = 0; i < count; i++)
        sum += (a->rgb[i] - b->rgb[i]) * (a->rgb[i] - b->rgb[i]);
    return sqrt(sum / (double)count);
}

static void compare_orientations(const char *scene)
{
    char name[64];
    sac_image *first, *image;

    snprintf(name, sizeof name, "exif/%s_1.jpg", scene);
    sac_test_data_need(name);
    first = decode(name);
    for (int tag = 0; tag <= 8; tag++) {
        snprintf(name, sizeof name, "exif/%s_%d.jpg", scene, tag);
        image = decode(name);
        if (difference(first, image) > 15.0) /* a number is painted on each */
            fail_msg("%s is not upright: it differs by %.1f", name, difference(first, image));
        sac_image_free(image);
    }
    sac_image_free(first);
}

static void landscapes_are_turned_upright(void **state)
{
    (void)state;
    compare_orientations("Landscape");
}

static void portraits_are_turned_upright(void **state)
{
    (void)state;
    compare_orientations("Portrait");
}

static void cut_at_every_percent(const char *name)
{
    struct sac_test_file file = sac_test_read(sac_test_data_need(name));
    sac_image_limits limits = patient_limits();

    for (size_t percent = 1; percent < 100; percent++) {
        sac_image *image;
        sac_error err = {SAC_OK, ""};

        if (sac_image_decode(file.bytes, file.size * percent / 100, &limits, &image, &err) !=
            SAC_IMAGE_CORRUPT)
            fail_msg("%s cut at %zu %%: %s", name, percent, err.text);
        assert_null(image);
    }
    free(file.bytes);
}

static void photos_cut_short_are_told(void **state)
{
    (void)state;
    cut_at_every_percent("hostile/pillow_4de1bc0f0a.jpg"); /* 640x480, baseline */
    cut_at_every_percent("hostile/pillow_9329fadea9.jpg"); /* 425x250, progressive */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_hostile_file_has_an_answer),
        cmocka_unit_test(every_camera_file_decodes),
        cmocka_unit_test(every_near_copy_decodes),
        cmocka_unit_test(sound_files_have_the_size_of_the_index),
        cmocka_unit_test(landscapes_are_turned_upright),
        cmocka_unit_test(portraits_are_turned_upright),
        cmocka_unit_test(photos_cut_short_are_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
