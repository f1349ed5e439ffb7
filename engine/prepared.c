#include "engine/prepared.h"

#include "engine/image.h"

#include <stdlib.h>
#include <string.h>

static sac_status make(sac_preparation *by, sac_prepared **out, sac_error *err)
{
    *out = calloc(1, sizeof **out);
    if (*out == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for a prepared picture");
    (*out)->by = by;
    return SAC_OK;
}

static void free_memory(sac_prepared *prepared)
{
    if (prepared->pooled)
        sac_picture_pool_give_back(&prepared->by->pool, prepared->memory, prepared->class);
    else
        free(prepared->memory);
    prepared->memory = NULL;
    prepared->pooled = false;
}

void sac_prepared_free(sac_prepared *prepared)
{
    if (prepared == NULL)
        return;
    free_memory(prepared);
    free(prepared);
}

/* Memory of the pool for a picture that may keep its size. */
static bool take_pooled(sac_prepared *prepared, size_t bytes)
{
    sac_preparation *by = prepared->by;

    if (bytes <= by->own_size_max)
        prepared->memory = sac_picture_pool_take(&by->pool, bytes, &prepared->class);
    prepared->pooled = prepared->memory != NULL;
    return prepared->pooled;
}

static uint8_t *take_any(void *context, size_t bytes)
{
    sac_prepared *prepared = context;

    if (!take_pooled(prepared, bytes))
        prepared->memory = malloc(bytes);
    return prepared->memory;
}

/* The picture, which is placed, to the encoder's input size, in memory of its own. */
static sac_status scale(sac_prepared *prepared, sac_error *err)
{
    const sac_preparation *by = prepared->by;
    uint8_t *pixels = malloc(sac_preprocess_bytes(&by->preprocess));
    sac_status st;

    if (pixels == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for a prepared picture");
    st = sac_preprocess_scale(by->host, &by->preprocess, &prepared->placed, pixels, err);
    free_memory(prepared);
    prepared->memory = pixels;
    prepared->placed = sac_preprocess_done(&by->preprocess, pixels);
    return st;
}

static sac_status hand_out(sac_prepared *prepared, sac_status st, sac_prepared **out)
{
    *out = st == SAC_OK ? prepared : NULL;
    if (st != SAC_OK)
        sac_prepared_free(prepared);
    return st;
}

sac_status sac_prepared_read(sac_preparation *by, const void *bytes, size_t size, const sac_crop *crop,
                             sac_prepared **out, sac_error *err)
{
    sac_prepared *prepared;
    sac_canvas canvas = {.take = take_any};
    sac_status st = make(by, &prepared, err);

    *out = NULL;
    if (st != SAC_OK)
        return st;
    canvas.context = prepared;
    st = sac_image_read(bytes, size, &by->limits, &canvas, err);
    if (st == SAC_OK)
        st = sac_preprocess_place(&by->preprocess, &(sac_image){canvas.width, canvas.height, canvas.rgb},
                                  crop, &prepared->placed, err);
    if (st == SAC_OK && !prepared->pooled)
        st = scale(prepared, err);
    return hand_out(prepared, st, out);
}

static void copy_rows(sac_prepared *prepared)
{
    struct sac_placed_picture *placed = &prepared->placed;
    size_t row = (size_t)placed->width * 3;
    uint8_t *to = prepared->memory;

    for (uint32_t y = 0; y < placed->height; y++)
        memcpy(to + y * row, placed->pixels + y * placed->stride, row);
    placed->pixels = to;
    placed->stride = row;
}

sac_status sac_prepared_copy(sac_preparation *by, const sac_image *image, const sac_crop *crop,
                             sac_prepared **out, sac_error *err)
{
    sac_prepared *prepared;
    sac_status st = make(by, &prepared, err);

    *out = NULL;
    if (st != SAC_OK)
        return st;
    st = sac_preprocess_place(&by->preprocess, image, crop, &prepared->placed, err);
    if (st == SAC_OK && take_pooled(prepared, (size_t)prepared->placed.width * prepared->placed.height * 3))
        copy_rows(prepared);
    else if (st == SAC_OK)
        st = scale(prepared, err);
    return hand_out(prepared, st, out);
}
