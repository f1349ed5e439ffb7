/* encoder.c -- the public encoder: the built-in descriptor or a vision transformer behind one interface. */
#include "engine/encoder.h"

#include "engine/descriptor.h"
#include "engine/prepared.h"
#include "engine/vit.h"

#include <assert.h>
#include <math.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH_MAX = 1024 };

struct sac_encoder {
    sac_device *device;
    sac_encoder_options options;
    sac_preprocess preprocess;
    sac_vit *vit; /* NULL: the built-in descriptor */
    uint32_t dim;
    char name[128];
    char fingerprint[2 * SAC_SHA256_BYTES + 1];
};

void sac_encoder_options_init(sac_encoder_options *options)
{
    *options = (sac_encoder_options){.precision = "auto", .batch_max = 64};
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
    sac_descriptor_preprocess(&encoder->preprocess);
    return set_fingerprint(encoder, NULL, 0, SAC_DESCRIPTOR_NAME, err);
}

static sac_status parse_precision(const sac_device *device, const char *text, sac_dtype *out, sac_error *err)
{
    if (text == NULL || strcmp(text, "auto") == 0)
        *out = sac_device_ops(device)->linear_precision(device);
    else if (strcmp(text, "f32") == 0)
        *out = SAC_F32;
    else if (strcmp(text, "bf16") == 0)
        *out = SAC_BF16;
    else
        return sac_fail(err, SAC_INVALID_ARGUMENT,
                        "precision \"%.32s\" is unknown; use \"f32\", \"bf16\" or \"auto\"", text);
    return SAC_OK;
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
        encoder->preprocess = config.preprocess;
        memcpy(encoder->name, config.name, sizeof encoder->name);
        st = open_weights(encoder, &config, weights, precision, &inner);
    }
    sac_weights_close(weights);
    return st == SAC_OK ? st : sac_fail(err, st, "model %.150s: %.340s", folder, inner.text);
}

sac_status sac_encoder_open(sac_device *device, const char *model, const sac_encoder_options *options,
                            sac_encoder **out, sac_error *err)
{
    sac_encoder *encoder;
    sac_dtype precision = SAC_F32;
    sac_status st;

    *out = NULL;
    encoder = calloc(1, sizeof *encoder);
    if (encoder == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for an encoder");
    encoder->device = sac_device_host(device); /* a GPU leaves the slots of pictures and transformers empty */
    sac_encoder_options_init(&encoder->options);
    if (options != NULL)
        encoder->options = *options;
    st = parse_precision(encoder->device, encoder->options.precision, &precision, err);
    if (st == SAC_OK && (encoder->options.batch_max == 0 || encoder->options.batch_max > BATCH_MAX))
        st = sac_fail(err, SAC_INVALID_ARGUMENT, "batch_max %u: 1 to %d", encoder->options.batch_max,
                      BATCH_MAX);
    if (st == SAC_OK)
        st = model == NULL || strcmp(model, "builtin") == 0 ? open_builtin(encoder, err)
                                                            : open_folder(encoder, model, precision, err);
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
    free(encoder);
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
    return (size_t)encoder->preprocess.width * encoder->preprocess.height * 3;
}

/* ---- prepare ---------------------------------------------------------------------------------------- */

sac_status sac_encoder_prepare(sac_encoder *encoder, const void *bytes, size_t size, const sac_crop *crop,
                               sac_prepared **out, sac_error *err)
{
    sac_image *image;
    sac_status st = sac_image_decode(bytes, size, &encoder->options.limits, &image, err);

    *out = NULL;
    if (st != SAC_OK)
        return st;
    st = sac_encoder_prepare_image(encoder, image, crop, out, err);
    sac_image_free(image);
    return st;
}

sac_status sac_encoder_prepare_image(sac_encoder *encoder, const sac_image *image, const sac_crop *crop,
                                     sac_prepared **out, sac_error *err)
{
    sac_prepared *prepared = calloc(1, sizeof *prepared);
    sac_status st;

    *out = NULL;
    if (prepared != NULL)
        prepared->pixels = malloc(sac_encoder_pixel_bytes(encoder));
    if (prepared == NULL || prepared->pixels == NULL) {
        sac_prepared_free(prepared);
        return sac_fail(err, SAC_NO_MEMORY, "no memory for a prepared picture");
    }
    st = sac_preprocess_run(encoder->device, &encoder->preprocess, image, crop, prepared->pixels, err);
    if (st != SAC_OK) {
        sac_prepared_free(prepared);
        return st;
    }
    *out = prepared;
    return SAC_OK;
}

void sac_prepared_free(sac_prepared *prepared)
{
    if (prepared == NULL)
        return;
    free(prepared->pixels);
    free(prepared);
}

/* ---- embed ------------------------------------------------------------------------------------------ */

/* What a submit keeps until its release. */
struct submitted {
    sac_embeddings shown; /* first */
    uint32_t spoiled;
    float rows[]; /* [n][dim] */
};

static double length_of(const float *vector, uint32_t dim)
{
    double sum = 0;

    for (uint32_t i = 0; i < dim; i++)
        sum += (double)vector[i] * (double)vector[i];
    return sqrt(sum);
}

/* Counts what cannot be scaled. */
static void scale_to_one(struct submitted *s, float *vector, uint32_t dim)
{
    double length = length_of(vector, dim);

    if (!(length > 0 && isfinite(length))) {
        s->spoiled++;
        return;
    }
    for (uint32_t i = 0; i < dim; i++)
        vector[i] = (float)(vector[i] / length);
}

static sac_status run_network(sac_encoder *encoder, size_t n, sac_prepared *const *pictures,
                              struct submitted *s, sac_error *err)
{
    const uint8_t **pixels = malloc(n * sizeof *pixels);
    struct sac_vit_input input = {.pictures = pixels};
    sac_status st;

    if (pixels == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for %zu pictures", n);
    for (size_t i = 0; i < n; i++)
        pixels[i] = pictures[i]->pixels;
    st = sac_vit_embed(encoder->vit, n, &input, s->rows, NULL, err);
    for (size_t i = 0; st == SAC_OK && i < n; i++)
        scale_to_one(s, s->rows + i * encoder->dim, encoder->dim);
    free(pixels);
    return st;
}

size_t sac_encoder_pass(const sac_encoder *encoder)
{
    return encoder->options.batch_max;
}

sac_status sac_encoder_submit(sac_encoder *encoder, size_t n, sac_prepared *const *pictures,
                              sac_embeddings **out, sac_error *err)
{
    struct submitted *s = malloc(sizeof *s + n * encoder->dim * sizeof(float));
    sac_status st = SAC_OK;

    assert(n > 0 && n <= sac_encoder_pass(encoder));
    *out = NULL;
    if (s == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for %zu embeddings", n);
    s->spoiled = 0;
    s->shown = (sac_embeddings){
        .device = encoder->device, .n = n, .dim = encoder->dim, .rows = s->rows, .spoiled = &s->spoiled};
    if (encoder->vit != NULL)
        st = run_network(encoder, n, pictures, s, err);
    else
        for (size_t i = 0; i < n; i++)
            sac_descriptor_compute(pictures[i]->pixels, s->rows + i * encoder->dim);
    if (st != SAC_OK) {
        free(s);
        return st;
    }
    *out = &s->shown;
    return SAC_OK;
}

sac_status sac_embeddings_fetch(sac_embeddings *embeddings, float *vectors, sac_error *err)
{
    uint32_t dim = embeddings->dim;

    memcpy(vectors, embeddings->rows, embeddings->n * dim * sizeof *vectors);
    for (size_t i = 0; i<embeddings->n && * embeddings->spoiled> 0; i++) {
        double length = length_of(vectors + i * dim, dim);

        if (!(length > 0 && isfinite(length)))
            return sac_fail(err, SAC_INTERNAL, "an embedding has length %g: the model's weights are unusable",
                            length);
    }
    return SAC_OK;
}

void sac_embeddings_release(sac_embeddings *embeddings)
{
    free(embeddings);
}

sac_status sac_encoder_embed(sac_encoder *encoder, size_t n, sac_prepared *const *pictures, float *vectors,
                             sac_error *err)
{
    size_t pass = sac_encoder_pass(encoder);
    sac_status st = SAC_OK;

    for (size_t done = 0; st == SAC_OK && done < n; done += pass) {
        sac_embeddings *embeddings;

        st =
            sac_encoder_submit(encoder, n - done < pass ? n - done : pass, pictures + done, &embeddings, err);
        if (st == SAC_OK)
            st = sac_embeddings_fetch(embeddings, vectors + done * encoder->dim, err);
        sac_embeddings_release(embeddings);
    }
    return st;
}
