#include "bench/gpu/clusters.h"

#include "engine/random.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROWS_PER_CLUSTER 1000u
#define CLUSTERS_MIN 64u
#define CLUSTERS_MAX 20000u
#define THREADS_MAX 256u
#define NOISE 0.1f

struct part {
    const struct clusters *clusters;
    uint32_t stream;
    size_t first, n;
    float *out;
};

/* About normal: the sum of eight bytes has a standard deviation of 209. */
static float normal(sac_random *random)
{
    uint64_t bits = sac_random_next(random), sum;

    sum = (bits & 0x00ff00ff00ff00ffu) + (bits >> 8 & 0x00ff00ff00ff00ffu);
    sum = (sum * 0x0001000100010001u) >> 48;
    return ((float)sum - 1020.0f) / 209.0f;
}

void clusters_make(struct clusters *clusters, uint32_t dim, size_t rows, uint64_t seed)
{
    size_t wanted = rows / ROWS_PER_CLUSTER, directions;
    sac_random random = {seed};

    wanted = wanted < CLUSTERS_MIN ? CLUSTERS_MIN : wanted > CLUSTERS_MAX ? CLUSTERS_MAX : wanted;
    directions = (size_t)CLUSTERS_GROUPS * CLUSTERS_DIRECTIONS * dim;
    *clusters = (struct clusters){.dim = dim, .count = (uint32_t)wanted, .seed = seed};
    clusters->centres = malloc(wanted * dim * sizeof(float));
    clusters->directions = malloc(directions * sizeof(float));
    if (clusters->centres == NULL || clusters->directions == NULL) {
        fprintf(stderr, "no memory for %zu clusters\n", wanted);
        exit(1);
    }
    for (size_t i = 0; i < wanted * dim; i++)
        clusters->centres[i] = normal(&random);
    for (size_t i = 0; i < directions; i++)
        clusters->directions[i] = normal(&random);
}

void clusters_free(struct clusters *clusters)
{
    free(clusters->centres);
    free(clusters->directions);
}

static void make_row(const struct clusters *clusters, uint32_t stream, size_t row, float *restrict out)
{
    sac_random random = {sac_mix64(clusters->seed + stream * 0x9e3779b9u + 1) ^ sac_mix64(row + 1)};
    double at = sac_random_unit(&random);
    size_t cluster = (size_t)(at * at * clusters->count); /* the first are the largest */
    size_t group = cluster % CLUSTERS_GROUPS, dim = clusters->dim;

    memcpy(out, clusters->centres + cluster * dim, dim * sizeof *out);
    for (size_t i = 0; i < CLUSTERS_DIRECTIONS; i++) {
        const float *direction = clusters->directions + (group * CLUSTERS_DIRECTIONS + i) * dim;
        float z = normal(&random) / sqrtf(1.0f + (float)i);

        for (size_t d = 0; d < dim; d++)
            out[d] += z * direction[d];
    }
    for (size_t d = 0; d < dim; d++)
        out[d] += NOISE * normal(&random);
}

static void *make_part(void *context)
{
    const struct part *part = context;

    for (size_t i = 0; i < part->n; i++)
        make_row(part->clusters, part->stream, part->first + i, part->out + i * part->clusters->dim);
    return NULL;
}

void clusters_rows(const struct clusters *clusters, uint32_t stream, size_t first, size_t n, uint32_t threads,
                   float *out)
{
    struct part parts[THREADS_MAX];
    pthread_t handles[THREADS_MAX];
    uint32_t started = 0;

    threads = threads < 1 ? 1 : threads < THREADS_MAX ? threads : THREADS_MAX;
    for (uint32_t i = 0; i < threads; i++) {
        size_t from = n * i / threads, to = n * (i + 1) / threads;
        parts[i] = (struct part){clusters, stream, first + from, to - from, out + from * clusters->dim};
    }
    while (started + 1 < threads &&
           pthread_create(&handles[started], NULL, make_part, &parts[started + 1]) == 0)
        started++;
    make_part(&parts[0]);
    for (uint32_t i = started + 1; i < threads; i++) /* those that could not be started */
        make_part(&parts[i]);
    for (uint32_t i = 0; i < started; i++)
        pthread_join(handles[i], NULL);
}
