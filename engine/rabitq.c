#include "engine/rabitq.h"

#include "engine/random.h"

void sac_rabitq_signs(uint64_t seed, uint32_t dim, float *signs)
{
    sac_random random = {seed};

    for (size_t i = 0; i < (size_t)SAC_ROTATE_ROUNDS * dim; i++)
        signs[i] = sac_random_below(&random, 2) == 0 ? 1.0f : -1.0f;
}

void sac_rabitq_codebook(uint32_t m, float *codebook)
{
    for (size_t i = 0; i < (size_t)m << SAC_RABITQ_DSUB; i++)
        for (uint32_t d = 0; d < SAC_RABITQ_DSUB; d++)
            codebook[i * SAC_RABITQ_DSUB + d] = i >> d & 1 ? 1.0f : -1.0f;
}
