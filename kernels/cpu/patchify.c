/* patchify.c -- the twin, with the 256 possible values of each channel computed once and a row of patches a
 * task. Twin: ref/patchify.c. Bound by memory. */
#include "kernels/cpu/cpu.h"

#include "kernels/half.h"

struct run {
    const struct sac_patchify_args *args;
    union {
        float f32[3][256];
        uint16_t bf16[3][256];
    } values;
};

/* One patch; from is its first pixel. The two types differ in nothing but the table. */
static void patch_f32(const struct run *run, const uint8_t *from, float *to)
{
    const struct sac_patchify_args *a = run->args;

    for (uint32_t c = 0; c < 3; c++)
        for (uint32_t y = 0; y < a->patch; y++)
            for (uint32_t x = 0; x < a->patch; x++)
                *to++ = run->values.f32[c][from[((size_t)y * a->width + x) * 3 + c]];
}

static void patch_bf16(const struct run *run, const uint8_t *from, uint16_t *to)
{
    const struct sac_patchify_args *a = run->args;

    for (uint32_t c = 0; c < 3; c++)
        for (uint32_t y = 0; y < a->patch; y++)
            for (uint32_t x = 0; x < a->patch; x++)
                *to++ = run->values.bf16[c][from[((size_t)y * a->width + x) * 3 + c]];
}

static void task_run(void *context, uint32_t task, uint32_t worker)
{
    const struct run *run = context;
    const struct sac_patchify_args *a = run->args;
    uint32_t columns = a->width / a->patch;
    /* Pictures follow one another without a gap, so rows of patches simply count on. */
    const uint8_t *from = a->pixels + (size_t)task * a->patch * a->width * 3;
    size_t to = (size_t)task * columns * 3 * a->patch * a->patch;

    (void)worker;
    for (uint32_t i = 0; i < columns; i++, from += (size_t)a->patch * 3, to += 3 * a->patch * a->patch) {
        if (a->dtype == SAC_F32)
            patch_f32(run, from, (float *)a->out + to);
        else
            patch_bf16(run, from, (uint16_t *)a->out + to);
    }
}

sac_status sac_patchify_cpu(sac_stream *s, const struct sac_patchify_args *a)
{
    struct run run = {.args = a};

    for (uint32_t c = 0; c < 3; c++)
        for (uint32_t i = 0; i < 256; i++) {
            float value = (float)i * a->scale[c] + a->shift[c];

            if (a->dtype == SAC_F32)
                run.values.f32[c][i] = value;
            else
                run.values.bf16[c][i] = sac_f32_to_bf16(value);
        }
    sac_parallel_for(s, (uint32_t)(a->n * (a->height / a->patch)), task_run, &run);
    return SAC_OK;
}
