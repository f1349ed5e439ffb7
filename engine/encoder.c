/* encoder.c -- the public encoder: the built-in descriptor or a vision transformer behind one interface. */
#include "engine/encoder.h"

#include "engine/descriptor.h"
#include "engine/prepared.h"
#include "engine/vit.h"

#include <assert.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Page-locked memory for pictures: two passes of 64 photos of two million pixels, and as many that are being
 * decoded; but no more of the host's memory than a sixteenth, since nobody else gets it. Beyond that pictures
 * are scaled where they are decoded. */
#define POOL_BYTES ((uint64_t)1 << 30)
#define POOL_SHARE 16u

struct sac_encoder {
    sac_device *device; /* what it computes on */
    sac_encoder_options options;
    sac_preparation preparation;
    sac_workspace_pool memory; /* of the built-in descriptor's embeddings */
    sac_vit *vit;              /* NULL: the built-in descriptor */
    uint32_t dim;
    char name[128];
    char fingerprint[2 * SAC_SHA256_BYTES + 1];
};

void sac_encoder_options_init(sac_encoder_options *options)
{
    *options = (sac_encoder_options){.precision = "auto", .batch_max = 256};
    sac_image_limits_init(&options->limits);
}

/* ---- open ------------------------------------------------------------------------------------------- */

/* The digest of the weights, a zero byte, then whatever else decides about a vector, as text. */
static sac_status set_fingerprint(sac_encoder *encoder, const unsigned char *weights, size_t weight_bytes,
                                  const char *text, sac_error *err)
{
    EVP_MD_CTX *sha = EVP_MD_CTX_new();
    unsigned char digest[SAC_SHA256_BYTES];
    bool ok = sha != NULL && EVP_DigestInit_ex(sha, EVP_sha256(), NULL) == 1 &&
              EVP_DigestUpdate(sha, weights, weight_bytes) == 1 && EVP_DigestUpdate(sha, "", 1) == 1 &&
              EVP_DigestUpdate(sha, text, strlen(text)) == 1 && EVP_DigestFinal_ex(sha, digest, NULL) == 1;

    EVP_MD_CTX_free(sha);
    if (!ok)
        return sac_fail(err, SAC_INTERNAL, "SHA-256 failed");
    for (size_t i = 0; i < sizeof digest; i++)
        snprintf(encoder->fingerprint + 2 * i, 3, "%02x", digest[i]);
    return SAC_OK;
}

static sac_status open_builtin(sac_encoder *encoder, sac_error *err)
{
    snprintf(encoder->name, sizeof encoder->name, "%s", SAC_DESCRIPTOR_NAME);
    encoder->dim = sac_descriptor_dim();
    sac_descriptor_preprocess(&encoder->preparation.preprocess);
    return set_fingerprint(encoder, NULL, 0, SAC_DESCRIPTOR_NAME, err);
}

/* automatic: what "auto" means. */
static sac_status check_options(const sac_encoder_options *options, sac_dtype automatic, sac_dtype *precision,
                                sac_error *err)
{
    const char *text = options->precision;

    if (options->batch_max == 0 || options->batch_max > SAC_PASS_MAX)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "batch_max %u: 1 to %u", options->batch_max, SAC_PASS_MAX);
    if (text == NULL || strcmp(text, "auto") == 0)
        *precision = automatic;
    else if (strcmp(text, "f32") == 0)
        *precision = SAC_F32;
    else if (strcmp(text, "bf16") == 0)
        *precision = SAC_BF16;
    else
        return sac_fail(err, SAC_INVALID_ARGUMENT,
                        "precision \"%.32s\" is unknown; use \"f32\", \"bf16\" or \"auto\"", text);
    return SAC_OK;
}

static bool is_builtin(const char *model)
{
    return model == NULL || strcmp(model, "builtin") == 0;
}

/* Whether a device does everything from pixels to embeddings; its host does, where it does not. */
static bool runs_networks(const sac_device *device)
{
    const struct sac_ops *ops = sac_device_ops(device);

    return ops->patchify != NULL && ops->linear_open != NULL && ops->layer_norm != NULL &&
           ops->attention != NULL && ops->tokens != NULL && ops->unit_rows != NULL;
}

/* Pictures keep their size where the device scales them itself. */
static void plan_pictures(sac_encoder *encoder)
{
    sac_preparation *p = &encoder->preparation;
    sac_device_memory memory;

    p->own_size_max = sac_vit_picture_bytes_max(encoder->vit);
    if (p->own_size_max == 0)
        return;
    sac_device_memory_describe(p->host, &memory);
    p->pool.bytes_max =
        (size_t)(memory.budget / POOL_SHARE < POOL_BYTES ? memory.budget / POOL_SHARE : POOL_BYTES);
}

static sac_status open_weights(sac_encoder *encoder, const sac_model_config *config, sac_weights *weights,
                               sac_dtype precision, sac_error *err)
{
    unsigned char digest[SAC_SHA256_BYTES];
    char text[1024];
    sac_status st = sac_vit_open(encoder->device, config, weights, precision, encoder->options.batch_max,
                                 &encoder->vit, err);

    if (st == SAC_OK)
        st = sac_weights_digest(weights, digest, err);
    if (st != SAC_OK)
        return st;
    plan_pictures(encoder);
    encoder->dim = sac_vit_dim(encoder->vit);
    if (encoder->dim > SAC_DIM_MAX)
        return sac_fail(err, SAC_UNSUPPORTED, "an embedding of %u components: at most %u", encoder->dim,
                        SAC_DIM_MAX);
    sac_model_config_text(config, text, sizeof text);
    return set_fingerprint(encoder, digest, sizeof digest, text, err);
}

static sac_status open_folder(sac_encoder *encoder, const char *folder, sac_dtype precision, sac_error *err)
{
    sac_error inner = {0};
    sac_model_config config;
    sac_weights *weights = NULL;
    sac_status st = sac_model_config_load(folder, &config, &inner);

    if (st == SAC_OK)
        st = sac_weights_open(folder, &weights, &inner);
    if (st == SAC_OK) {
        encoder->preparation.preprocess = config.preprocess;
        memcpy(encoder->name, config.name, sizeof encoder->name);
        st = open_weights(encoder, &config, weights, precision, &inner);
    }
    sac_weights_close(weights);
    return st == SAC_OK ? st : sac_fail(err, st, "model %.150s: %.340s", folder, inner.text);
}

sac_status sac_encoder_open(sac_device *device, const char *model, const sac_encoder_options *options,
                            sac_encoder **out, sac_error *err)
{
    bool builtin = is_builtin(model);
    sac_encoder *encoder;
    sac_dtype precision = SAC_F32;
    sac_status st;

    *out = NULL;
    encoder = calloc(1, sizeof *encoder);
    if (encoder == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for an encoder");
    encoder->device = sac_device_host(device);
    if (!builtin && runs_networks(sac_device_shard(device, 0)))
        encoder->device = sac_device_shard(device, 0);
    sac_encoder_options_init(&encoder->options);
    if (options != NULL)
        encoder->options = *options;
    encoder->preparation.host = sac_device_host(device);
    encoder->preparation.limits = encoder->options.limits;
    sac_workspace_pool_init(&encoder->memory, encoder->device);
    sac_picture_pool_init(&encoder->preparation.pool, encoder->device, 0);
    st = check_options(&encoder->options, sac_device_ops(encoder->device)->linear_precision(encoder->device),
                       &precision, err);
    if (st == SAC_OK)
        st = builtin ? open_builtin(encoder, err) : open_folder(encoder, model, precision, err);
    encoder->options.precision = NULL; /* the caller's text, not needed any more */
    if (st != SAC_OK) {
        sac_encoder_close(encoder);
        return st;
    }
    *out = encoder;
    return SAC_OK;
}

void sac_encoder_close(sac_encoder *encoder)
{
    if (encoder == NULL)
        return;
    sac_vit_close(encoder->vit);
    sac_picture_pool_free(&encoder->preparation.pool);
    sac_workspace_pool_free(&encoder->memory);
    free(encoder);
}

static sac_status plan_folder(const char *folder, uint32_t batch_max, sac_dtype precision, uint64_t memory,
                              sac_encoder_needs *out, sac_error *err)
{
    sac_error inner = {0};
    struct sac_vit_size size;
    sac_model_config config;
    sac_weights *weights = NULL;
    sac_status st = sac_model_config_load(folder, &config, &inner);

    if (st == SAC_OK)
        st = sac_weights_open(folder, &weights, &inner);
    if (st == SAC_OK)
        st = sac_vit_measure(&config, weights, precision, batch_max, memory, &size, &inner);
    sac_weights_close(weights);
    if (st != SAC_OK)
        return sac_fail(err, st, "model %.150s: %.340s", folder, inner.text);
    *out = (sac_encoder_needs){.dim = size.dim,
                               .pass = size.batch,
                               .bytes_weights = size.weights,
                               .bytes_pass = size.pass,
                               .bytes_scratch = size.scratch,
                               .bytes_host = POOL_BYTES};
    snprintf(out->name, sizeof out->name, "%s", config.name);
    return SAC_OK;
}

sac_status sac_encoder_plan(const char *model, const sac_encoder_options *options, uint64_t memory,
                            sac_encoder_needs *out, sac_error *err)
{
    sac_encoder_options defaults;
    sac_dtype precision = SAC_BF16;
    sac_status st;

    *out = (sac_encoder_needs){0};
    sac_encoder_options_init(&defaults);
    if (options == NULL)
        options = &defaults;
    st = check_options(options, precision, &precision, err);
    if (st != SAC_OK)
        return st;
    if (!is_builtin(model))
        return plan_folder(model, options->batch_max, precision, memory, out, err);
    snprintf(out->name, sizeof out->name, "%s", SAC_DESCRIPTOR_NAME);
    out->dim = sac_descriptor_dim();
    out->pass = options->batch_max;
    return SAC_OK;
}

uint32_t sac_encoder_dim(const sac_encoder *encoder)
{
    return encoder->dim;
}

const char *sac_encoder_name(const sac_encoder *encoder)
{
    return encoder->name;
}

const char *sac_encoder_fingerprint(const sac_encoder *encoder)
{
    return encoder->fingerprint;
}

size_t sac_encoder_pixel_bytes(const sac_encoder *encoder)
{
    return sac_preprocess_bytes(&encoder->preparation.preprocess);
}

size_t sac_encoder_pass(const sac_encoder *encoder)
{
    return encoder->vit != NULL ? sac_vit_pass(encoder->vit) : encoder->options.batch_max;
}

sac_device *sac_encoder_device(const sac_encoder *encoder)
{
    return encoder->device;
}

/* ---- prepare ---------------------------------------------------------------------------------------- */

sac_status sac_encoder_prepare(sac_encoder *encoder, const void *bytes, size_t size, const sac_crop *crop,
                               sac_prepared **out, sac_error *err)
{
    return sac_prepared_read(&encoder->preparation, bytes, size, crop, out, err);
}

sac_status sac_encoder_prepare_image(sac_encoder *encoder, const sac_image *image, const sac_crop *crop,
                                     sac_prepared **out, sac_error *err)
{
    return sac_prepared_copy(&encoder->preparation, image, crop, out, err);
}

/* ---- embed ------------------------------------------------------------------------------------------ */

/* The built-in descriptor's rows, at once. */
static sac_status describe(sac_encoder *encoder, size_t n, sac_prepared *const *pictures,
                           sac_embeddings **out, sac_error *err)
{
    size_t bytes = sac_embeddings_bytes(n, encoder->dim);
    sac_workspace *ws;
    sac_status st = sac_workspace_borrow(&encoder->memory, &ws, err);
    float *rows;

    if (st != SAC_OK)
        return st;
    rows = sac_workspace_device(ws, 1, bytes);
    if (rows == NULL) {
        st = sac_workspace_failure(ws);
    } else {
        memset(rows, 0, bytes); /* none is spoiled */
        for (size_t i = 0; i < n; i++)
            sac_descriptor_compute(pictures[i]->placed.pixels, rows + i * encoder->dim);
        st = sac_embeddings_show(&encoder->memory, ws, n, encoder->dim, rows, out, err);
    }
    if (st != SAC_OK)
        sac_workspace_give_back(&encoder->memory, ws);
    return st;
}

/* How the pictures lie, side by side: to be freed. */
static struct sac_placed_picture *gather(size_t n, sac_prepared *const *pictures, sac_error *err)
{
    struct sac_placed_picture *placed = malloc(n * sizeof *placed);

    for (size_t i = 0; placed != NULL && i < n; i++)
        placed[i] = pictures[i]->placed;
    if (placed == NULL)
        sac_fail(err, SAC_NO_MEMORY, "no memory for %zu pictures", n);
    return placed;
}

sac_status sac_encoder_submit(sac_encoder *encoder, size_t n, sac_prepared *const *pictures,
                              sac_embeddings **out, sac_error *err)
{
    struct sac_placed_picture *placed;
    sac_status st;

    assert(n > 0 && n <= sac_encoder_pass(encoder));
    *out = NULL;
    if (encoder->vit == NULL)
        return describe(encoder, n, pictures, out, err);
    placed = gather(n, pictures, err);
    if (placed == NULL)
        return SAC_NO_MEMORY;
    st = sac_vit_submit(encoder->vit, n, &(struct sac_vit_input){.pictures = placed}, NULL, out, err);
    free(placed);
    return st;
}

sac_status sac_encoder_embed(sac_encoder *encoder, size_t n, sac_prepared *const *pictures, float *vectors,
                             sac_error *err)
{
    struct sac_placed_picture *placed;
    sac_status st;

    if (encoder->vit == NULL) {
        for (size_t i = 0; i < n; i++)
            sac_descriptor_compute(pictures[i]->placed.pixels, vectors + i * encoder->dim);
        return SAC_OK;
    }
    if (n == 0)
        return SAC_OK;
    placed = gather(n, pictures, err);
    if (placed == NULL)
        return SAC_NO_MEMORY;
    st = sac_vit_embed(encoder->vit, n, &(struct sac_vit_input){.pictures = placed}, vectors, NULL, err);
    free(placed);
    return st;
}
