/* vit_pass.c -- passes through a network: pictures go up, the network runs, embeddings stay on the device.
 *
 * A pass has a workspace of its own: a stream, memory for its activations, and for the pixels of its pictures
 * on their way. Pictures of a pass that are more than that memory holds go through it in groups, one after
 * another in stream order, and are cut into patches group by group; usually there is one, and everything from
 * its patches on is recorded and played (recorded.h). Two passes in flight are two workspaces on two streams,
 * so the pixels of one go up while the other computes.
 */
#include "engine/recorded.h"
#include "engine/vit_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    HOST_PICTURES = 64, /* of one pass on a processor, which has caches to stay in */
    HOST_TOKENS = 8192,
    RECORDED_PICTURES = 64, /* larger passes take longer than the launches of their operations */
};

/* Device memory for pixels on their way: 64 photos of 640 x 480, or one of 16 million pixels; less where the
 * budget is small, and then larger pictures come scaled. */
#define PIXEL_BYTES ((size_t)64 << 20)
#define PIXEL_SHARE 32u
#define PICTURE_BYTES_MAX ((size_t)48 << 20)
#define PIXEL_ALIGNMENT ((size_t)64)

/* The arena of a pass's stream, at most: what products work in (32 MiB on Hopper) and a piece of a product
 * whose epilogue is a kernel of its own, and rounded to a power of two. */
#define SCRATCH_BYTES ((size_t)64 << 20)

/* A pass takes no more of the budget than this: indexes live in it too, and two passes are in flight. */
#define PASS_SHARE 16u

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

uint32_t sac_vit_pass(const sac_vit *vit)
{
    return vit->batch;
}

size_t sac_vit_picture_bytes_max(const sac_vit *vit)
{
    return smaller(vit->pixel_bytes, PICTURE_BYTES_MAX);
}

/* ---- memory ----------------------------------------------------------------------------------------- */

enum { X, H, WIDE, POOLED, ROW, ROW_WIDE, PICTURES, PIXELS, PIECES };

/* Bytes of each piece of device memory for n pictures. */
static void piece_sizes(const sac_vit *vit, size_t n, size_t bytes[PIECES])
{
    const sac_model_config *c = &vit->config;
    size_t element = sac_vit_element(vit), rows = n * vit->tokens;
    size_t input = n * sac_preprocess_bytes(&c->preprocess);

    bytes[X] = rows * c->width * sizeof(float);
    bytes[H] = larger(rows * c->width * element, n * vit->patches * c->width * sizeof(float));
    bytes[WIDE] = larger(rows * larger(3 * (size_t)c->width, c->mlp) * element, input * element);
    bytes[POOLED] = sac_embeddings_bytes(n, (uint32_t)larger(c->width, vit->dim));
    bytes[ROW] = n * c->width * element;
    bytes[ROW_WIDE] = n * c->mlp * element;
    bytes[PICTURES] = n * sizeof(struct sac_placed_picture);
    bytes[PIXELS] = vit->pixel_bytes;
}

static size_t pass_bytes(const sac_vit *vit, size_t n)
{
    size_t bytes[PIECES], total = 0;

    piece_sizes(vit, n, bytes);
    for (int i = 0; i < PIECES; i++)
        total += sac_piece_bytes(bytes[i]);
    return total;
}

/* Pictures that memory is taken for, so that it does not grow for each one more. */
static size_t room_for(const sac_vit *vit, size_t n)
{
    size_t room = 1;

    while (room < n)
        room *= 2;
    return smaller(room, vit->batch);
}

/* Memory for n pictures in the workspace, nothing of which is in use. */
static sac_status fit(const sac_vit *vit, sac_workspace *ws, size_t n)
{
    size_t room = room_for(vit, n), host = 0;

    if (!sac_device_host_visible(vit->device))
        host = sac_piece_bytes(room * sizeof(struct sac_placed_picture)) +
               sac_piece_bytes(sac_embeddings_bytes(room, vit->dim));
    return sac_workspace_fit(ws, pass_bytes(vit, room), host);
}

/* The pass's pieces, and the pictures' array as device and host see it. */
static sac_status take_pieces(struct sac_vit_pass *p, sac_span *pictures)
{
    size_t bytes[PIECES];
    void *at[PIECES];

    piece_sizes(p->vit, room_for(p->vit, p->n), bytes);
    for (int i = 0; i < PIECES; i++) {
        at[i] = sac_workspace_device(p->ws, 1, bytes[i]);
        if (at[i] == NULL)
            return sac_workspace_failure(p->ws);
    }
    p->x = at[X];
    p->h = at[H];
    p->wide = at[WIDE];
    p->pooled = at[POOLED];
    p->row = at[ROW];
    p->row_wide = at[ROW_WIDE];
    p->pixels = at[PIXELS];
    return sac_workspace_view(p->ws, at[PICTURES], p->n, sizeof(struct sac_placed_picture), pictures)
               ? SAC_OK
               : sac_workspace_failure(p->ws);
}

/* ---- pixels ----------------------------------------------------------------------------------------- */

/* From the first pixel to the last, with what a crop leaves out between rows. */
static size_t picture_bytes(const struct sac_placed_picture *picture)
{
    return (picture->height - 1) * picture->stride + (size_t)picture->width * 3;
}

/* Where pixels will lie in device memory. A group begins where one lies at the beginning. */
static void place_pixels(const struct sac_vit_pass *p, struct sac_placed_picture *pictures)
{
    size_t at = 0;

    for (size_t i = 0; i < p->n; i++) {
        size_t bytes = picture_bytes(&pictures[i]);

        assert(bytes <= p->vit->pixel_bytes);
        if (at + bytes > p->vit->pixel_bytes)
            at = 0;
        pictures[i].pixels = p->pixels + at;
        at += (bytes + PIXEL_ALIGNMENT - 1) / PIXEL_ALIGNMENT * PIXEL_ALIGNMENT;
    }
}

/* Brings pixels up; whole groups but the last are cut into patches to make room. *last: where it begins. */
static sac_status upload_pixels(struct sac_vit_pass *p, const struct sac_placed_picture *from,
                                const struct sac_placed_picture *placed, size_t *last)
{
    sac_status st = SAC_OK;

    *last = 0;
    for (size_t i = 0; i < p->n && st == SAC_OK; i++) {
        if (i > 0 && placed[i].pixels == p->pixels) {
            st = sac_vit_cut_patches(p, *last, i - *last);
            *last = i;
        }
        if (st == SAC_OK)
            st = sac_stream_upload(p->ws->stream, (void *)(uintptr_t)placed[i].pixels, from[i].pixels,
                                   picture_bytes(&from[i]));
    }
    return st;
}

/* Afterwards pass->pictures are all there, or they are rows of patches already. */
static sac_status bring_pictures(struct sac_vit_pass *p, const struct sac_placed_picture *from,
                                 sac_span *span)
{
    struct sac_placed_picture *placed = span->host;
    size_t last = 0;
    sac_status st;

    memcpy(placed, from, p->n * sizeof *placed);
    if (p->vit->pixel_bytes > 0)
        place_pixels(p, placed);
    st = sac_span_push(p->ws, span);
    p->pictures = span->device;
    if (st == SAC_OK && p->vit->pixel_bytes > 0)
        st = upload_pixels(p, from, placed, &last);
    if (st == SAC_OK && last > 0) {
        st = sac_vit_cut_patches(p, last, p->n - last);
        p->pictures = NULL;
    }
    return st;
}

/* Rows of patches from values [n][3][height][width]. */
static sac_status bring_values(struct sac_vit_pass *p, const float *values)
{
    const sac_model_config *c = &p->vit->config;
    uint32_t width = c->preprocess.width, height = c->preprocess.height, patch = c->patch;
    size_t bytes = p->n * sac_preprocess_bytes(&c->preprocess) * sac_vit_element(p->vit), to = 0;
    void *rows = malloc(bytes);
    sac_status st;

    if (rows == NULL)
        return sac_fail(p->ws->err, SAC_NO_MEMORY, "no memory for rows of patches");
    for (size_t i = 0; i < p->n * p->vit->patches; i++) {
        size_t picture = i / p->vit->patches, place = i % p->vit->patches;
        size_t top = place / (width / patch) * patch, left = place % (width / patch) * patch;

        for (size_t j = 0; j < (size_t)3 * patch * patch; j++, to++) {
            size_t channel = j / (patch * patch), y = top + j / patch % patch, x = left + j % patch;

            sac_vit_store(p->vit, rows, to, values[((picture * 3 + channel) * height + y) * width + x]);
        }
    }
    st = sac_stream_upload(p->ws->stream, p->wide, rows, bytes);
    free(rows);
    return st;
}

/* ---- passes ----------------------------------------------------------------------------------------- */

static sac_status run(void *context)
{
    return sac_vit_run(context);
}

static sac_status submit(struct sac_vit_pass *p, const struct sac_vit_input *input)
{
    const sac_shape shape = {{p->n}};
    sac_span pictures = {0};
    sac_status st = fit(p->vit, p->ws, p->n);

    if (st == SAC_OK)
        st = take_pieces(p, &pictures);
    if (st != SAC_OK)
        return st;
    st = input->pictures != NULL ? bring_pictures(p, input->pictures, &pictures)
                                 : bring_values(p, input->values);
    if (st != SAC_OK)
        return sac_fail(p->ws->err, st, "cannot bring %zu pictures to the device: %s", p->n,
                        sac_status_text(st));
    if (p->n > RECORDED_PICTURES || p->pictures == NULL || p->watch != NULL)
        return sac_vit_run(p);
    return sac_submit_recorded(p->ws, &shape, run, p);
}

sac_status sac_vit_submit(sac_vit *vit, size_t n, const struct sac_vit_input *input,
                          const struct sac_vit_watch *watch, sac_embeddings **out, sac_error *err)
{
    struct sac_vit_pass pass = {.vit = vit, .watch = watch, .n = n};
    sac_status st = sac_workspace_borrow(&vit->memory, &pass.ws, err);

    assert(n > 0 && n <= vit->batch);
    assert((input->pictures != NULL) != (input->values != NULL));
    *out = NULL;
    if (st != SAC_OK)
        return st;
    st = submit(&pass, input);
    if (st == SAC_OK)
        st = sac_embeddings_show(&vit->memory, pass.ws, n, vit->dim, pass.pooled, out, err);
    if (st != SAC_OK)
        sac_workspace_give_back(&vit->memory, pass.ws);
    return st;
}

/* Waits for a pass that was submitted; NULL: there is none. */
static sac_status land(sac_embeddings **flying, float **vectors, sac_error *err)
{
    sac_status st = SAC_OK;

    if (*flying == NULL)
        return SAC_OK;
    st = sac_embeddings_fetch(*flying, *vectors, err);
    *vectors += (*flying)->n * (*flying)->dim;
    sac_embeddings_release(*flying);
    *flying = NULL;
    return st;
}

static struct sac_vit_input input_from(const sac_vit *vit, const struct sac_vit_input *input, size_t first)
{
    struct sac_vit_input rest = {0};

    if (input->pictures != NULL)
        rest.pictures = input->pictures + first;
    else
        rest.values = input->values + first * sac_preprocess_bytes(&vit->config.preprocess);
    return rest;
}

/* One pass is in flight while the next is submitted, where that has memory of its own. */
sac_status sac_vit_embed(sac_vit *vit, size_t n, const struct sac_vit_input *input, float *vectors,
                         const struct sac_vit_watch *watch, sac_error *err)
{
    bool visible = sac_device_host_visible(vit->device);
    size_t most = vit->batch, done = 0;
    sac_embeddings *flying = NULL;
    sac_status st = SAC_OK;

    while (st == SAC_OK && done < n) {
        struct sac_vit_input part = input_from(vit, input, done);
        size_t count = smaller(n - done, most);
        bool alone = flying == NULL;
        sac_embeddings *next;
        sac_status submitted = sac_vit_submit(vit, count, &part, watch, &next, err), landed;

        landed = land(&flying, &vectors, submitted == SAC_OK || submitted == SAC_DEVICE_MEMORY ? err : NULL);
        if (submitted == SAC_OK)
            done += count;
        else if (submitted != SAC_DEVICE_MEMORY || (alone && count == 1))
            st = submitted;
        else if (alone)
            most = count / 2;
        if (st == SAC_OK)
            st = landed;
        flying = next;
        if (st == SAC_OK && visible)
            st = land(&flying, &vectors, err);
    }
    if (st == SAC_OK)
        return land(&flying, &vectors, err);
    sac_embeddings_release(flying);
    return st;
}

/* ---- plan ------------------------------------------------------------------------------------------- */

/* Of device memory, but for what each buffer is rounded up by. */
static uint64_t weight_bytes(const sac_vit *vit)
{
    const sac_model_config *c = &vit->config;
    uint64_t width = c->width, patch = c->patch, mlp = c->mlp;
    uint64_t first = c->activation == SAC_ACTIVATION_SWIGLU ? 2 * mlp : mlp;
    uint64_t block = 4 * width * width + first * width + mlp * width; /* weights */
    uint64_t vectors = 9 * width + first;                             /* biases, and two norms */
    uint64_t numbers = 3 * patch * patch * width + c->layers * block;
    uint64_t floats = c->layers * vectors + (vit->tokens + vit->prefix + 5) * width;

    if (c->family == SAC_MODEL_CLIP)
        numbers += vit->dim * width;
    if (c->family == SAC_MODEL_SIGLIP) {
        numbers += block - width * width; /* its one query is projected already */
        floats += vectors;
    }
    return numbers * sac_vit_element(vit) + floats * sizeof(float);
}

static sac_status check_room(const sac_vit *vit, uint64_t weights, const sac_device_memory *memory,
                             sac_error *err)
{
    const double mib = 1024.0 * 1024;
    uint64_t pass = pass_bytes(vit, 1),
             room = memory->budget > memory->used ? memory->budget - memory->used : 0;

    if (weights + pass <= room)
        return SAC_OK;
    return sac_fail(
        err, SAC_DEVICE_MEMORY,
        "%s needs %.1f MiB for its weights and %.1f for a picture, but %.1f MiB of %.1f are free on "
        "%s: %.1f MiB are missing; use a smaller model or bf16, or give it more memory",
        vit->config.name, (double)weights / mib, (double)pass / mib, (double)room / mib,
        (double)memory->budget / mib, sac_device_describe(vit->device),
        (double)(weights + pass - room) / mib);
}

void sac_vit_choose_pass(sac_vit *vit, uint32_t batch_max, uint64_t budget, struct sac_vit_size *out)
{
    vit->pixel_bytes = smaller(PIXEL_BYTES, (size_t)(budget / PIXEL_SHARE));
    vit->pixel_bytes = larger(vit->pixel_bytes, sac_preprocess_bytes(&vit->config.preprocess));
    vit->batch = batch_max;
    while (vit->batch > 1 && pass_bytes(vit, vit->batch) > budget / PASS_SHARE)
        vit->batch /= 2;
    *out = (struct sac_vit_size){.dim = vit->dim,
                                 .batch = vit->batch,
                                 .weights = weight_bytes(vit),
                                 .pass = pass_bytes(vit, vit->batch),
                                 .scratch = SCRATCH_BYTES};
}

sac_status sac_vit_plan(sac_vit *vit, uint32_t batch_max, sac_error *err)
{
    uint32_t most = HOST_TOKENS / vit->tokens > 0 ? HOST_TOKENS / vit->tokens : 1;
    struct sac_vit_size size;
    sac_device_memory memory;

    if (sac_device_host_visible(vit->device)) {
        most = most < HOST_PICTURES ? most : HOST_PICTURES;
        vit->batch = batch_max < most ? batch_max : most;
        return SAC_OK;
    }
    sac_device_memory_describe(vit->device, &memory);
    sac_vit_choose_pass(vit, batch_max, memory.budget, &size);
    return check_room(vit, size.weights, &memory, err);
}

sac_status sac_vit_reserve(sac_vit *vit, sac_error *err)
{
    sac_workspace *ws;
    sac_status st = sac_workspace_borrow(&vit->memory, &ws, err);

    if (st != SAC_OK)
        return st;
    st = fit(vit, ws, vit->batch);
    while (st == SAC_DEVICE_MEMORY && vit->batch > 1) {
        vit->batch /= 2;
        st = fit(vit, ws, vit->batch);
    }
    sac_workspace_give_back(&vit->memory, ws);
    return st;
}
