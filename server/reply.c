#include "server/reply.h"

#include <stdio.h>

void sac_pack_id(msgpack_packer *packer, const sac_id *id)
{
    if (id->text != NULL)
        msgpack_pack_str_with_body(packer, id->text, id->text_size);
    else
        msgpack_pack_uint64(packer, id->number);
}

static void pack_attributes(msgpack_packer *packer, const sac_item *item)
{
    msgpack_pack_map(packer, item->attribute_count);
    for (size_t i = 0; i < item->attribute_count; i++) {
        const sac_attribute *a = &item->attributes[i];
        msgpack_pack_str_with_body(packer, a->name, a->name_size);
        if (a->kind == SAC_ATTRIBUTE_INT)
            msgpack_pack_int64(packer, a->integer);
        else if (a->kind == SAC_ATTRIBUTE_FLOAT)
            msgpack_pack_double(packer, a->number);
        else
            msgpack_pack_str_with_body(packer, a->text, a->text_size);
    }
}

uint32_t sac_item_pairs(const sac_item *item, unsigned with)
{
    if (item == NULL)
        return 0;
    return ((with & SAC_WITH_ATTRIBUTES) != 0) + ((with & SAC_WITH_VECTOR) != 0 && item->vector != NULL) +
           ((with & SAC_WITH_SOURCE) != 0 && item->source != NULL);
}

void sac_pack_item(msgpack_packer *packer, const sac_item *item, unsigned with, uint32_t dim)
{
    if (item == NULL)
        return;
    if (with & SAC_WITH_ATTRIBUTES) {
        sac_pack_text(packer, "attributes");
        pack_attributes(packer, item);
    }
    if (with & SAC_WITH_VECTOR && item->vector != NULL) {
        sac_pack_text(packer, "vector");
        msgpack_pack_bin_with_body(packer, item->vector, dim * sizeof(float));
    }
    if (with & SAC_WITH_SOURCE && item->source != NULL) {
        sac_pack_text(packer, "source");
        msgpack_pack_str_with_body(packer, item->source, item->source_size);
    }
}

void sac_pack_took(msgpack_packer *packer, const struct sac_request *request)
{
    sac_pack_key_double(packer, "took_ms", (double)(sac_now_ns() - request->arrived_ns) * 1e-6);
}

/* A permutation of 64-bit numbers: different inputs, different outputs (splitmix64's finalizer,
 * Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014). */
static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* 128 bits: half of the process, half of the request. */
static void pack_query_id(msgpack_packer *packer, struct sac_core *core)
{
    uint64_t n = atomic_fetch_add_explicit(&core->query_count, 1, memory_order_relaxed);
    char text[33];

    snprintf(text, sizeof text, "%016llx%016llx", (unsigned long long)core->query_seed,
             (unsigned long long)mix(core->query_seed ^ n));
    sac_pack_key_text(packer, "query_id", text);
}

static void pack_hits(msgpack_packer *packer, const struct sac_request *request, const sac_found *hits,
                      size_t count)
{
    const sac_id *self = request->search.by_id ? &request->search.id : NULL;
    size_t kept = 0, wanted = request->search.queries[0].k;
    uint32_t dim = request->entry->params.dim;

    if (self != NULL)
        wanted--; /* one more was asked for, because the item finds itself */
    for (size_t i = 0; i < count; i++)
        kept += self == NULL || !sac_id_equal(self, &hits[i].id);
    if (kept > wanted)
        kept = wanted;
    msgpack_pack_array(packer, kept);
    for (size_t i = 0; i < count && kept > 0; i++) {
        const sac_found *hit = &hits[i];
        if (self != NULL && sac_id_equal(self, &hit->id))
            continue;
        msgpack_pack_map(packer, 3 + sac_item_pairs(hit->item, request->search.with));
        sac_pack_text(packer, "id");
        sac_pack_id(packer, &hit->id);
        sac_pack_key_double(packer, "score", (double)hit->score);
        sac_pack_key_double(packer, "distance", (double)hit->distance);
        sac_pack_item(packer, hit->item, request->search.with, dim);
        kept--;
    }
}

void sac_reply_search(struct sac_request *request, const sac_results *results, size_t first)
{
    msgpack_packer packer;

    sac_reply_begin(request, &packer);
    msgpack_pack_map(&packer, 3);
    pack_query_id(&packer, request->core);
    sac_pack_text(&packer, "hits");
    if (request->search.many)
        msgpack_pack_array(&packer, request->search.count);
    for (size_t i = 0; i < request->search.count; i++) {
        size_t count;
        const sac_found *hits = sac_results_get(results, first + i, &count);
        pack_hits(&packer, request, hits, count);
    }
    sac_pack_took(&packer, request);
    sac_reply_end(request);
}

void sac_reply_stored(struct sac_request *request)
{
    msgpack_packer packer;

    sac_reply_begin(request, &packer);
    msgpack_pack_map(&packer, 2);
    sac_pack_key_uint(&packer, "stored", request->put.count);
    sac_pack_took(&packer, request);
    sac_reply_end(request);
}

void sac_reply_deleted(struct sac_request *request, size_t deleted)
{
    msgpack_packer packer;

    sac_reply_begin(request, &packer);
    msgpack_pack_map(&packer, 1);
    sac_pack_key_uint(&packer, "deleted", deleted);
    sac_reply_end(request);
}
