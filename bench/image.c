/* bench_image -- from JPEG bytes to an encoder's input, on one core: decoding beside plain libjpeg, resizing
 * by every instruction set, the descriptor.
 *
 *   bench_image [--seconds S] [FILE.jpg ...]     without files: a scene of its own, 640x480, quality 75
 */
#include "bench/scene.h"
#include "engine/descriptor.h"
#include "engine/preprocess.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jpeglib.h>

struct photo {
    unsigned char *bytes;
    size_t size;
    sac_image *image;
};

struct album {
    struct photo *photos;
    size_t count;
    double bytes, pixels; /* of all photos */
};

static double seconds = 1.0;
static sac_device *device; /* the one that is measured */
static sac_preprocess preprocess = {
    .width = 224, .height = 224, .fit = SAC_FIT_CROP, .shorter = 256, .filter = SAC_FILTER_BICUBIC};
static uint8_t prepared[224 * 224 * 3];

/* Time of this thread alone: what one core gives, also on a machine that others use. */
static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void check(sac_status st, const sac_error *err)
{
    if (st == SAC_OK)
        return;
    fprintf(stderr, "bench_image: %s\n", err->text);
    exit(1);
}

/* ---- what is measured ------------------------------------------------------------------------------- */

static void decode(struct photo *photo)
{
    sac_error err;
    sac_image *image;

    check(sac_image_decode(photo->bytes, photo->size, NULL, &image, &err), &err);
    sac_image_free(image);
}

/* The peer: libjpeg as its manual shows it, without limits, into one buffer. */
static void decode_plain(struct photo *photo)
{
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    unsigned char *pixels;

    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_decompress(&jpeg);
    jpeg_mem_src(&jpeg, photo->bytes, photo->size);
    jpeg_read_header(&jpeg, TRUE);
    jpeg.out_color_space = JCS_RGB;
    jpeg_start_decompress(&jpeg);
    pixels = malloc((size_t)jpeg.output_width * jpeg.output_height * 3);
    while (pixels != NULL && jpeg.output_scanline < jpeg.output_height) {
        unsigned char *row = pixels + (size_t)jpeg.output_scanline * jpeg.output_width * 3;

        jpeg_read_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_decompress(&jpeg);
    jpeg_destroy_decompress(&jpeg);
    free(pixels);
}

static void prepare(struct photo *photo)
{
    sac_error err;

    check(sac_preprocess_run(device, &preprocess, photo->image, NULL, prepared, &err), &err);
}

static void decode_and_prepare(struct photo *photo)
{
    sac_error err;
    sac_image *image;

    check(sac_image_decode(photo->bytes, photo->size, NULL, &image, &err), &err);
    check(sac_preprocess_run(device, &preprocess, image, NULL, prepared, &err), &err);
    sac_image_free(image);
}

static void describe(struct photo *photo)
{
    float vector[512];

    (void)photo;
    sac_descriptor_compute(prepared, vector);
}

/* Goes round the album until the time is over. */
static void measure(const char *name, const struct album *album, void (*work)(struct photo *))
{
    double start, spent;
    size_t done = 0, round = album->count;

    for (size_t i = 0; i < round; i++)
        work(&album->photos[i]);
    start = now();
    do {
        work(&album->photos[done++ % round]);
        spent = now() - start;
    } while (spent < seconds || done < round);
    printf("%-24s %9.0f images/s %8.3f ms %8.1f Mpixel/s %8.1f MB/s\n", name, (double)done / spent,
           spent / (double)done * 1e3, album->pixels / (double)round * (double)done / spent / 1e6,
           album->bytes / (double)round * (double)done / spent / 1e6);
}

/* ---- photos ----------------------------------------------------------------------------------------- */

static struct photo read_photo(const char *path)
{
    struct photo photo = {NULL, 0, NULL};
    FILE *file = fopen(path, "rb");
    long size;

    if (file == NULL || fseek(file, 0, SEEK_END) != 0 || (size = ftell(file)) <= 0) {
        perror(path);
        exit(1);
    }
    rewind(file);
    photo.size = (size_t)size;
    photo.bytes = malloc(photo.size);
    if (photo.bytes == NULL || fread(photo.bytes, 1, photo.size, file) != photo.size) {
        perror(path);
        exit(1);
    }
    fclose(file);
    return photo;
}

static struct album open_album(char **paths, int count)
{
    struct album album = {calloc(count > 0 ? (size_t)count : 1, sizeof *album.photos), 0, 0, 0};

    if (album.photos == NULL)
        exit(1);
    album.count = count > 0 ? (size_t)count : 1;
    for (size_t i = 0; i < album.count; i++) {
        struct photo *photo = &album.photos[i];
        sac_error err;

        if (count > 0)
            *photo = read_photo(paths[i]);
        else
            photo->bytes = scene_make(0, &photo->size);
        check(sac_image_decode(photo->bytes, photo->size, NULL, &photo->image, &err), &err);
        album.bytes += (double)photo->size;
        album.pixels += (double)photo->image->width * photo->image->height;
    }
    return album;
}

static void close_album(struct album *album)
{
    for (size_t i = 0; i < album->count; i++) {
        free(album->photos[i].bytes);
        sac_image_free(album->photos[i].image);
    }
    free(album->photos);
}

static void measure_resizing(const struct album *album)
{
    static const struct {
        const char *label, *name, *isa;
    } devices[] = {{"resize to 224, plain C", "ref", NULL},
                   {"resize to 224, avx2", "cpu", "avx2"},
                   {"resize to 224, avx512", "cpu", "avx512"}};

    for (size_t i = 0; i < sizeof devices / sizeof devices[0]; i++) {
        sac_device_options options;

        sac_device_options_init(&options);
        options.name = devices[i].name;
        options.isa = devices[i].isa;
        options.threads = 1;
        if (sac_device_open(&options, &device, NULL) != SAC_OK)
            continue;
        measure(devices[i].label, album, prepare);
        sac_device_close(device);
    }
}

int main(int argc, char **argv)
{
    struct album album;
    sac_error err;

    if (argc > 2 && strcmp(argv[1], "--seconds") == 0) {
        seconds = atof(argv[2]);
        argc -= 2;
        argv += 2;
    }
    album = open_album(argv + 1, argc - 1);
    check(sac_device_open(NULL, &device, &err), &err);
    printf("%zu pictures, on average %.0f kB and %.2f Mpixel; CPU time of one thread; %s\n", album.count,
           album.bytes / (double)album.count / 1e3, album.pixels / (double)album.count / 1e6,
           sac_device_describe(device));
    measure("libjpeg, no limits", &album, decode_plain);
    measure("decode", &album, decode);
    measure("decode and resize", &album, decode_and_prepare);
    sac_device_close(device);
    measure_resizing(&album);
    measure("descriptor", &album, describe);
    close_album(&album);
    return 0;
}
