#include "server/client.h"
#include "server/pictures.h"
#include "server/query.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct asking {
    const struct sac_ask *ask;
    sac_client *client;
    sac_error *err;
    sac_status worst; /* of queries that were explained and passed over */
};

struct request {
    msgpack_sbuffer bytes;
    msgpack_packer pack;
};

static void pack_text(msgpack_packer *pack, const char *text)
{
    msgpack_pack_str_with_body(pack, text, strlen(text));
}

/* Opens the map of fields and packs those that every search has; one more, which asks, must follow. */
static void begin_request(struct request *r, const struct sac_ask *ask, bool pictures)
{
    bool crop = pictures && ask->crop != NULL, by_recall = !ask->exact && ask->nprobe == 0 && ask->recall > 0;

    msgpack_sbuffer_init(&r->bytes);
    msgpack_packer_init(&r->pack, &r->bytes, msgpack_sbuffer_write);
    msgpack_pack_map(&r->pack, 4 + (size_t)ask->exact + (ask->nprobe > 0) + (ask->depth > 0) + by_recall +
                                   isfinite(ask->threshold) + crop);
    pack_text(&r->pack, "collection");
    pack_text(&r->pack, ask->local.name);
    pack_text(&r->pack, "k");
    msgpack_pack_uint32(&r->pack, ask->k);
    pack_text(&r->pack, "timeout_ms");
    msgpack_pack_uint32(&r->pack, ask->timeout_ms);
    if (ask->exact) {
        pack_text(&r->pack, "exact");
        msgpack_pack_true(&r->pack);
    }
    if (ask->nprobe > 0) {
        pack_text(&r->pack, "nprobe");
        msgpack_pack_uint32(&r->pack, ask->nprobe);
    }
    if (ask->depth > 0) { /* a multiple of k, which is rounded up there */
        pack_text(&r->pack, "oversampling");
        msgpack_pack_double(&r->pack, fmax((ask->depth - 0.5) / ask->k, 1));
    }
    if (by_recall) {
        pack_text(&r->pack, "recall");
        msgpack_pack_float(&r->pack, ask->recall);
    }
    if (isfinite(ask->threshold)) {
        pack_text(&r->pack, "score_threshold");
        msgpack_pack_float(&r->pack, ask->threshold);
    }
    if (crop) {
        const uint32_t box[] = {ask->crop->x, ask->crop->y, ask->crop->w, ask->crop->h};
        pack_text(&r->pack, "crop");
        msgpack_pack_array(&r->pack, 4);
        for (size_t i = 0; i < 4; i++)
            msgpack_pack_uint32(&r->pack, box[i]);
    }
}

static const msgpack_object *find_hits(const msgpack_object *result)
{
    for (uint32_t i = 0; result->type == MSGPACK_OBJECT_MAP && i < result->via.map.size; i++) {
        const msgpack_object *key = &result->via.map.ptr[i].key;
        if (key->type == MSGPACK_OBJECT_STR && key->via.str.size == 4 &&
            memcmp(key->via.str.ptr, "hits", 4) == 0 &&
            result->via.map.ptr[i].val.type == MSGPACK_OBJECT_ARRAY)
            return &result->via.map.ptr[i].val;
    }
    return NULL;
}

static sac_status print_hits(struct asking *a, const char *title, const msgpack_object *list)
{
    json_t *hits;
    sac_status st = sac_answer_from_wire(list, &hits, a->err);

    if (st == SAC_OK)
        sac_answer_print(&a->ask->style, title, hits);
    json_decref(hits);
    return st;
}

/* Sends the request and finds the hits in the answer. Frees the request. */
static sac_status finish_request(struct asking *a, struct request *r, const msgpack_object **hits)
{
    const msgpack_object *result;
    sac_status st = sac_client_call(a->client, "search", &r->bytes, &result, a->err);

    msgpack_sbuffer_destroy(&r->bytes);
    if (st != SAC_OK)
        return st;
    *hits = find_hits(result);
    return *hits != NULL ? SAC_OK : sac_fail(a->err, SAC_MALFORMED, "the server's answer holds no hits");
}

/* ---- the three kinds of query ------------------------------------------------------------------------- */

static bool concerns_one_query(sac_status st)
{
    return st == SAC_NOT_FOUND || st == SAC_IMAGE_REJECTED || st == SAC_IMAGE_CORRUPT ||
           st == SAC_INVALID_ARGUMENT;
}

/* The server does not know what the picture is called here. */
static sac_status pass_over(struct asking *a, sac_status st, const char *title)
{
    sac_error why = *a->err;

    if (!concerns_one_query(st))
        return st;
    sac_fail(a->err, st, "%s: %s", title, why.text);
    sac_ask_complain(a->err);
    a->worst = st;
    return SAC_OK;
}

static sac_status ask_image(struct asking *a, const char *path)
{
    const msgpack_object *hits;
    struct request r;
    void *bytes;
    size_t size;
    sac_status st = sac_picture_read(path, &bytes, &size, a->err);

    if (st != SAC_OK) {
        sac_ask_complain(a->err);
        a->worst = st;
        return SAC_OK;
    }
    begin_request(&r, a->ask, true);
    pack_text(&r.pack, "image");
    msgpack_pack_bin_with_body(&r.pack, bytes, size);
    free(bytes);
    st = finish_request(a, &r, &hits);
    return st == SAC_OK ? print_hits(a, path, hits) : pass_over(a, st, path);
}

static sac_status ask_id(struct asking *a, const char *text)
{
    sac_id id = sac_ask_id(text);
    const msgpack_object *hits;
    struct request r;
    sac_status st;

    begin_request(&r, a->ask, false);
    pack_text(&r.pack, "id");
    if (id.text == NULL)
        msgpack_pack_uint64(&r.pack, id.number);
    else
        msgpack_pack_str_with_body(&r.pack, id.text, id.text_size);
    st = finish_request(a, &r, &hits);
    return st == SAC_OK ? print_hits(a, text, hits) : pass_over(a, st, text);
}

static sac_status on_rows(void *context, const char *path, uint64_t first, size_t n, uint32_t dim,
                          const float *vectors)
{
    struct asking *a = context;
    const msgpack_object *hits, *one;
    struct request r;
    sac_status st;

    begin_request(&r, a->ask, false);
    pack_text(&r.pack, "vectors");
    msgpack_pack_array(&r.pack, n);
    for (size_t i = 0; i < n; i++)
        msgpack_pack_bin_with_body(&r.pack, vectors + i * dim, dim * sizeof *vectors);
    st = finish_request(a, &r, &hits);
    if (st == SAC_OK && hits->via.array.size != n)
        st =
            sac_fail(a->err, SAC_MALFORMED, "the server answered %u of %zu queries", hits->via.array.size, n);
    one = st == SAC_OK ? hits->via.array.ptr : NULL;
    for (size_t i = 0; st == SAC_OK && i < n; i++) {
        char title[4200];
        snprintf(title, sizeof title, "%s:%llu", path, (unsigned long long)first + i);
        st = print_hits(a, title, &one[i]);
    }
    return st;
}

sac_status sac_query_remote(const struct sac_ask *ask, sac_error *err)
{
    struct asking a = {.ask = ask, .err = err, .worst = SAC_OK};
    /* The server keeps its own time: it gets the first word on a late answer. */
    sac_status st = sac_client_open(ask->connect, ask->timeout_ms + 1000, &a.client, err);

    for (size_t i = 0; st == SAC_OK && i < ask->image_count; i++)
        st = ask_image(&a, ask->images[i]);
    for (size_t i = 0; st == SAC_OK && i < ask->ids.count; i++)
        st = ask_id(&a, ask->ids.at[i]);
    for (size_t i = 0; st == SAC_OK && i < ask->vectors.count; i++)
        st = sac_ask_each_rows(ask->vectors.at[i], on_rows, &a, err);
    sac_client_close(a.client);
    if (st == SAC_OK && a.worst != SAC_OK) {
        err->text[0] = '\0';
        st = a.worst;
    }
    return st;
}
