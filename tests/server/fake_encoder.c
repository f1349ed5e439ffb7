#include "tests/server/fake_engine.h"

#include "engine/saccade.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PIXEL_BYTES = 16, DIM = 4 };

struct sac_encoder {
    int unused;
};

struct fake_engine fake_engine;

static void take_ms(uint32_t ms)
{
    const struct timespec time = {ms / 1000, (long)(ms % 1000) * 1000000};

    if (ms > 0)
        nanosleep(&time, NULL);
}

static void raise_to(_Atomic uint32_t *most, uint32_t value)
{
    uint32_t old = atomic_load(most);

    while (old < value && !atomic_compare_exchange_weak(most, &old, value))
        ;
}

void sac_encoder_options_init(sac_encoder_options *options)
{
    memset(options, 0, sizeof *options);
}

sac_status sac_encoder_open(sac_device *device, const char *model, const sac_encoder_options *options,
                            sac_encoder **out, sac_error *err)
{
    (void)device;
    (void)options;
    *out = NULL;
    if (strcmp(model, "builtin") != 0)
        return sac_fail(err, SAC_NOT_FOUND, "no weights in %s", model);
    *out = calloc(1, sizeof **out);
    return *out != NULL ? SAC_OK : sac_fail(err, SAC_NO_MEMORY, "no memory");
}

void sac_encoder_close(sac_encoder *encoder)
{
    free(encoder);
}

uint32_t sac_encoder_dim(const sac_encoder *encoder)
{
    (void)encoder;
    return DIM;
}

const char *sac_encoder_name(const sac_encoder *encoder)
{
    (void)encoder;
    return "fake-1";
}

const char *sac_encoder_fingerprint(const sac_encoder *encoder)
{
    (void)encoder;
    return "fa4efa4efa4efa4efa4efa4efa4efa4efa4efa4efa4efa4efa4efa4efa4efa4e";
}

size_t sac_encoder_pixel_bytes(const sac_encoder *encoder)
{
    (void)encoder;
    return PIXEL_BYTES;
}

struct sac_prepared {
    uint8_t pixels[PIXEL_BYTES];
};

sac_status sac_encoder_prepare(sac_encoder *encoder, const void *bytes, size_t size, const sac_crop *crop,
                               sac_prepared **out, sac_error *err)
{
    (void)encoder;
    (void)crop;
    *out = NULL;
    atomic_fetch_add(&fake_engine.prepare_calls, 1);
    take_ms(fake_engine.prepare_ms);
    if (size == 0 || *(const char *)bytes == 'X')
        return sac_fail(err, SAC_IMAGE_CORRUPT, "the picture is damaged");
    *out = calloc(1, sizeof **out);
    if (*out == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory");
    memcpy((*out)->pixels, bytes, size < PIXEL_BYTES ? size : PIXEL_BYTES);
    return SAC_OK;
}

void sac_prepared_free(sac_prepared *prepared)
{
    free(prepared);
}

sac_status sac_encoder_embed(sac_encoder *encoder, size_t n, sac_prepared *const *pictures, float *vectors,
                             sac_error *err)
{
    (void)encoder;
    (void)err;
    atomic_fetch_add(&fake_engine.embed_calls, 1);
    atomic_fetch_add(&fake_engine.embed_rows, (uint32_t)n);
    raise_to(&fake_engine.embed_rows_max, (uint32_t)n);
    take_ms(fake_engine.embed_ms + (uint32_t)n * fake_engine.embed_each_ms);
    for (size_t i = 0; i < n; i++)
        for (size_t d = 0; d < DIM; d++)
            vectors[i * DIM + d] = pictures[i]->pixels[d];
    return SAC_OK;
}
