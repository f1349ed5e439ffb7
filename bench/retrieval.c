/* bench_retrieval -- how well an encoder finds pictures of the same kind.
 *
 *   bench_retrieval PHOTOS [MODEL [PRECISION]]
 *
 * PHOTOS is a folder with labels.csv (file, set, label, ...). Within each set every picture asks for the
 * others, by cosine and exactly; printed are the share of pictures whose nearest neighbour has their label,
 * the mean average precision, and the pictures per second from file to vector. Sets without two pictures of a
 * label are left out. */
#include "engine/saccade.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PHOTOS_MAX = 100000, LINE = 1024, BATCH = 32 };

struct photo {
    char file[256], set[64], label[128];
};

static struct photo *photos;
static size_t photo_count;

static void die(const char *what)
{
    fprintf(stderr, "bench_retrieval: %s\n", what);
    exit(1);
}

static void read_labels(const char *folder)
{
    char path[LINE], line[LINE];
    FILE *in;

    snprintf(path, sizeof path, "%s/labels.csv", folder);
    in = fopen(path, "r");
    photos = calloc(PHOTOS_MAX, sizeof *photos);
    if (in == NULL || photos == NULL || fgets(line, sizeof line, in) == NULL)
        die(path);
    while (photo_count < PHOTOS_MAX && fgets(line, sizeof line, in) != NULL) {
        struct photo *p = &photos[photo_count];

        if (sscanf(line, "%255[^,],%63[^,],%127[^,]", p->file, p->set, p->label) != 3)
            die("labels.csv: a line without file, set and label");
        photo_count++;
    }
    fclose(in);
}

static void prepare(sac_encoder *encoder, const char *folder, const struct photo *p, sac_prepared **out)
{
    static unsigned char bytes[16 << 20];
    char path[LINE];
    sac_error err;
    size_t size;
    FILE *in;

    snprintf(path, sizeof path, "%s/%s", folder, p->file);
    in = fopen(path, "rb");
    if (in == NULL)
        die(path);
    size = fread(bytes, 1, sizeof bytes, in);
    fclose(in);
    if (sac_encoder_prepare(encoder, bytes, size, NULL, out, &err) != SAC_OK)
        die(err.text);
}

static float *embed_all(sac_encoder *encoder, const char *folder)
{
    size_t dim = sac_encoder_dim(encoder);
    sac_prepared *pictures[BATCH];
    float *vectors = malloc(photo_count * dim * sizeof *vectors);
    sac_error err;

    if (vectors == NULL)
        die("no memory");
    for (size_t i = 0; i < photo_count; i += BATCH) {
        size_t n = photo_count - i < BATCH ? photo_count - i : BATCH;

        for (size_t j = 0; j < n; j++)
            prepare(encoder, folder, &photos[i + j], &pictures[j]);
        if (sac_encoder_embed(encoder, n, pictures, vectors + i * dim, &err) != SAC_OK)
            die(err.text);
        for (size_t j = 0; j < n; j++)
            sac_prepared_free(pictures[j]);
    }
    return vectors;
}

struct other {
    float score;
    bool same; /* label */
};

static int by_score(const void *a, const void *b)
{
    const struct other *s = a, *t = b;

    return (s->score < t->score) - (s->score > t->score);
}

/* Ranks the others of photo i's set; false where none has its label. */
static bool rank(const float *vectors, uint32_t dim, size_t i, struct other *others, bool *nearest,
                 double *precision)
{
    size_t count = 0, same = 0, seen = 0;

    for (size_t j = 0; j < photo_count; j++) {
        float score = 0;

        if (j == i || strcmp(photos[j].set, photos[i].set) != 0)
            continue;
        for (uint32_t d = 0; d < dim; d++)
            score += vectors[i * dim + d] * vectors[j * dim + d];
        others[count] = (struct other){score, strcmp(photos[j].label, photos[i].label) == 0};
        same += others[count++].same;
    }
    if (same == 0)
        return false;
    qsort(others, count, sizeof others[0], by_score);
    *nearest = others[0].same;
    *precision = 0;
    for (size_t r = 0; r < count; r++)
        if (others[r].same)
            *precision += (double)++seen / (double)(r + 1) / (double)same;
    return true;
}

static void score_set(const float *vectors, uint32_t dim, const char *set)
{
    struct other *others = malloc(photo_count * sizeof *others);
    double nearest_sum = 0, precision_sum = 0;
    size_t asked = 0;

    if (others == NULL)
        die("no memory");
    for (size_t i = 0; i < photo_count; i++) {
        double precision;
        bool nearest;

        if (strcmp(photos[i].set, set) != 0 || !rank(vectors, dim, i, others, &nearest, &precision))
            continue;
        asked++;
        nearest_sum += nearest;
        precision_sum += precision;
    }
    if (asked > 0)
        printf("%-12s %5zu photos  nearest %.3f  mAP %.3f\n", set, asked, nearest_sum / (double)asked,
               precision_sum / (double)asked);
    free(others);
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(int argc, char **argv)
{
    sac_encoder_options options;
    sac_device *device;
    sac_encoder *encoder = NULL;
    sac_error err;
    float *vectors;
    double begin;

    if (argc < 2 || argc > 4) {
        fprintf(stderr, "usage: bench_retrieval PHOTOS [MODEL [PRECISION]]\n");
        return 2;
    }
    read_labels(argv[1]);
    sac_encoder_options_init(&options);
    options.precision = argc > 3 ? argv[3] : "auto";
    if (sac_device_open(NULL, &device, &err) != SAC_OK ||
        sac_encoder_open(device, argc > 2 ? argv[2] : "builtin", &options, &encoder, &err) != SAC_OK)
        die(err.text);
    begin = now();
    vectors = embed_all(encoder, argv[1]);
    printf("%s, %s: %zu photos at %.1f a second\n", sac_encoder_name(encoder), options.precision, photo_count,
           (double)photo_count / (now() - begin));
    for (size_t i = 0; i < photo_count; i++)
        if (i == 0 || strcmp(photos[i].set, photos[i - 1].set) != 0)
            score_set(vectors, sac_encoder_dim(encoder), photos[i].set);
    free(vectors);
    free(photos);
    sac_encoder_close(encoder);
    sac_device_close(device);
    return 0;
}
