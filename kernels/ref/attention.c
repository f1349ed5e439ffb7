#include "kernels/ref/ref.h"
#include "kernels/ref/typed.h"

#include <math.h>

/* One query row of one head: scores, softmax, weighted sum of v. Offsets are in elements. */
static void attend(const struct sac_attention_args *a, size_t q_at, size_t kv_at, size_t y_at, float *scores)
{
    float max = -INFINITY, sum = 0.0f;

    for (uint32_t t = 0; t < a->kv_tokens; t++) {
        float dot = 0.0f;

        for (uint32_t d = 0; d < a->head_dim; d++)
            dot += sac_typed_get(a->q, a->dtype, q_at + d) *
                   sac_typed_get(a->k, a->dtype, kv_at + t * a->kv_stride + d);
        scores[t] = dot * a->scale;
        max = scores[t] > max || isnan(scores[t]) ? scores[t] : max;
    }
    for (uint32_t t = 0; t < a->kv_tokens; t++) {
        scores[t] = expf(scores[t] - max);
        sum += scores[t];
    }
    for (uint32_t d = 0; d < a->head_dim; d++) {
        float y = 0.0f;

        for (uint32_t t = 0; t < a->kv_tokens; t++)
            y += scores[t] * sac_typed_get(a->v, a->dtype, kv_at + t * a->kv_stride + d);
        sac_typed_set(a->y, a->dtype, y_at + d, y / sum);
    }
}

sac_status sac_attention_ref(sac_stream *s, const struct sac_attention_args *a)
{
    float *scores;

    sac_scratch_reset(s);
    scores = sac_scratch_take(s, a->kv_tokens, sizeof *scores);
    if (scores == NULL)
        return SAC_NO_MEMORY;
    for (size_t i = 0; i < a->n; i++)
        for (uint32_t t = 0; t < a->q_tokens; t++)
            for (uint32_t h = 0; h < a->heads; h++)
                attend(a, (i * a->q_tokens + t) * a->q_stride + h * a->head_dim,
                       i * a->kv_tokens * a->kv_stride + h * a->head_dim,
                       ((i * a->q_tokens + t) * a->heads + h) * a->head_dim, scores);
    return SAC_OK;
}

size_t sac_attention_scratch_ref(const sac_device *d, const struct sac_attention_args *a)
{
    (void)d;
    return sac_scratch_size(a->kv_tokens, sizeof(float));
}
