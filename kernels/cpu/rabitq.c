/* Rotating and coding rows for RaBitQ. Twins: ref/rotate.c, ref/rabitq_encode.c. Floors: a rotation of 768
 * components is 4 x 9 x 512 additions, 1152 of 16 lanes each and 512 shuffles: 0.5 us at 3 GHz, where a
 * product with a matrix would take 590,000 multiplications; coding reads the rows. */
#include "kernels/cpu/rabitq.h"

#include "kernels/cpu/cpu.h"
#include "kernels/walsh.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { TASK_ROWS = 64 };

/* ---- rotate ---- */

struct rotate {
    const struct sac_rotate_args *args;
    const struct sac_rabitq_kernels *kernels;
    uint32_t mixed;
    float scale;
};

static void rotate_row(const struct rotate *r, float *y)
{
    uint32_t out = r->args->out, rest = out - r->mixed;

    for (uint32_t round = 0; round < SAC_ROTATE_ROUNDS; round++) {
        const float *signs = r->args->signs + (size_t)round * out;
        uint32_t first = round % 2 == 0 ? 0 : rest, other = round % 2 == 0 ? r->mixed : 0;

        for (uint32_t d = other; d < other + rest; d++)
            y[d] *= signs[d];
        r->kernels->mix(y + first, signs + first, r->scale, r->mixed);
    }
}

static void rotate_task(void *context, uint32_t task, uint32_t worker)
{
    const struct rotate *r = context;
    const struct sac_rotate_args *a = r->args;
    size_t first = (size_t)task * TASK_ROWS, end = a->n - first < TASK_ROWS ? a->n : first + TASK_ROWS;

    (void)worker;
    for (size_t i = first; i < end; i++) {
        float *y = a->y + i * a->out;

        memcpy(y, a->x + i * a->in, a->in * sizeof *y);
        memset(y + a->in, 0, (a->out - a->in) * sizeof *y);
        rotate_row(r, y);
    }
}

static sac_status rotate_run(sac_stream *s, const struct sac_rotate_args *a,
                             const struct sac_rabitq_kernels *kernels)
{
    struct rotate rotate = {.args = a, .kernels = kernels, .mixed = sac_walsh_size(a->out)};

    assert(a->in <= a->out);
    rotate.scale = 1.0f / sqrtf((float)rotate.mixed);
    sac_parallel_for(s, (uint32_t)((a->n + TASK_ROWS - 1) / TASK_ROWS), rotate_task, &rotate);
    return SAC_OK;
}

sac_status sac_rotate_avx2(sac_stream *s, const struct sac_rotate_args *a)
{
    return rotate_run(s, a, &sac_rabitq_avx2);
}

sac_status sac_rotate_avx512(sac_stream *s, const struct sac_rotate_args *a)
{
    return rotate_run(s, a, &sac_rabitq_avx512);
}

/* ---- rabitq_encode ---- */

struct encode {
    const struct sac_rabitq_encode_args *args;
    const struct sac_rabitq_kernels *kernels;
};

static void encode_task(void *context, uint32_t task, uint32_t worker)
{
    const struct encode *e = context;
    const struct sac_rabitq_encode_args *a = e->args;
    size_t first = (size_t)task * TASK_ROWS, end = a->n - first < TASK_ROWS ? a->n : first + TASK_ROWS;

    (void)worker;
    for (size_t i = first; i < end; i++) {
        struct sac_rabitq_sums sums;

        e->kernels->encode(a->x + i * a->dim, a->centroids + (size_t)a->index[i] * a->dim, a->dim,
                           a->codes + i * (a->dim / SAC_RABITQ_DSUB), &sums);
        sac_rabitq_finish(&sums, a->distance, &a->bias[i], &a->factors[i]);
    }
}

static sac_status encode_run(sac_stream *s, const struct sac_rabitq_encode_args *a,
                             const struct sac_rabitq_kernels *kernels)
{
    struct encode encode = {a, kernels};

    assert(a->dim % SAC_RABITQ_DSUB == 0);
    sac_parallel_for(s, (uint32_t)((a->n + TASK_ROWS - 1) / TASK_ROWS), encode_task, &encode);
    return SAC_OK;
}

sac_status sac_rabitq_encode_avx2(sac_stream *s, const struct sac_rabitq_encode_args *a)
{
    return encode_run(s, a, &sac_rabitq_avx2);
}

sac_status sac_rabitq_encode_avx512(sac_stream *s, const struct sac_rabitq_encode_args *a)
{
    return encode_run(s, a, &sac_rabitq_avx512);
}
