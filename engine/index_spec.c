#include "engine/index_spec.h"

#include "engine/rabitq.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { TOKEN_MAX = 31 };

/* One comma-separated part of the text. */
typedef struct token {
    char text[TOKEN_MAX + 1];
    bool present;
} token;

static sac_status next_token(const char **text, token *out, sac_error *err)
{
    size_t length = strcspn(*text, ",");

    out->present = length > 0;
    if (length > TOKEN_MAX)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "index '%.40s...': a part is longer than %d characters",
                        *text, TOKEN_MAX);
    memcpy(out->text, *text, length);
    out->text[length] = '\0';
    *text += length;
    if (**text == ',') {
        (*text)++;
        if (**text == '\0' || **text == ',')
            return sac_fail(err, SAC_INVALID_ARGUMENT, "index: nothing after '%s,': remove the comma",
                            out->text);
    }
    return SAC_OK;
}

/* Reads a decimal number of 1 to 9 digits and moves past it. */
static bool read_number(const char **text, uint32_t *out)
{
    const char *start = *text;

    for (*out = 0; **text >= '0' && **text <= '9' && *text - start < 9; (*text)++)
        *out = *out * 10 + (uint32_t)(**text - '0');
    return *text > start;
}

static bool has_prefix(const token *t, const char *prefix)
{
    return strncmp(t->text, prefix, strlen(prefix)) == 0;
}

static sac_status parse_opq(const token *t, uint32_t *m, uint32_t *out_dim, sac_error *err)
{
    const char *at = t->text + 3;

    *out_dim = 0;
    if (!read_number(&at, m) || (*at == '_' && (at++, !read_number(&at, out_dim) || *out_dim == 0)) ||
        *at != '\0')
        return sac_fail(err, SAC_INVALID_ARGUMENT,
                        "index part '%s': wanted is OPQ and the m of PQ, as in OPQ32 or OPQ32_128", t->text);
    return SAC_OK;
}

static sac_status parse_ivf(const token *t, sac_index_spec *spec, sac_error *err)
{
    const char *at = t->text + 3;

    if (!t->present || !has_prefix(t, "IVF") || !read_number(&at, &spec->nlist) || *at != '\0')
        return sac_fail(
            err, SAC_INVALID_ARGUMENT,
            "index part '%s': known are Flat, SQfp16, SQ8, auto, and IVFn,PQm as in IVF4096,PQ32 or "
            "IVFn,RaBitQ",
            t->text);
    if (spec->nlist < 1 || spec->nlist > SAC_NLIST_MAX)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "index part '%s': n is the number of lists, 1 to %u",
                        t->text, SAC_NLIST_MAX);
    return SAC_OK;
}

static sac_status parse_pq(const token *t, sac_index_spec *spec, sac_error *err)
{
    const char *at = t->text + 2;

    spec->nbits = 8;
    if (!t->present || !has_prefix(t, "PQ") || !read_number(&at, &spec->m) ||
        (*at == 'x' && (at++, !read_number(&at, &spec->nbits))) || *at != '\0')
        return sac_fail(err, SAC_INVALID_ARGUMENT,
                        "index part '%s': after IVFn comes PQm or PQmxb, as in PQ32 or PQ64x4, or RaBitQ",
                        t->text);
    if (spec->nbits < 4 || spec->nbits > 8)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "index part '%s': %u bits a sub-quantizer; use 4 to 8",
                        t->text, spec->nbits);
    return SAC_OK;
}

static sac_status parse_rabitq(const token *t, uint32_t dim, sac_index_spec *spec, sac_error *err)
{
    const char *at = t->text + strlen("RaBitQ");
    uint32_t bits = 1;

    if ((*at != '\0' && !read_number(&at, &bits)) || *at != '\0')
        return sac_fail(err, SAC_INVALID_ARGUMENT, "index part '%s': wanted is RaBitQ, as in IVF4096,RaBitQ",
                        t->text);
    if (bits != 1)
        return sac_fail(err, SAC_INVALID_ARGUMENT,
                        "index part '%s': only one bit a component: candidates are compared by their stored "
                        "vectors anyway, which costs less than reading more bits of them all; use RaBitQ",
                        t->text);
    if (spec->rotate)
        return sac_fail(err, SAC_INVALID_ARGUMENT,
                        "index part '%s': it rotates by itself; remove the part with OPQ", t->text);
    if (dim > SAC_RABITQ_DIM_MAX)
        return sac_fail(err, SAC_INVALID_ARGUMENT,
                        "index part '%s': vectors of %u components; it takes up to %u, use PQ", t->text, dim,
                        SAC_RABITQ_DIM_MAX);
    spec->rabitq = true;
    spec->coded_dim = (dim + SAC_RABITQ_DSUB - 1) / SAC_RABITQ_DSUB * SAC_RABITQ_DSUB;
    spec->m = spec->coded_dim / SAC_RABITQ_DSUB;
    spec->nbits = SAC_RABITQ_DSUB;
    return SAC_OK;
}

static sac_status parse_refine(const token *t, sac_index_spec *spec, sac_error *err)
{
    if (!t->present || strcmp(t->text, "RFlat") == 0 || strcmp(t->text, "Refine(Flat)") == 0)
        spec->dtype = SAC_F32;
    else if (strcmp(t->text, "Refine(SQfp16)") == 0)
        spec->dtype = SAC_F16;
    else if (strcmp(t->text, "Refine(SQ8)") == 0)
        spec->dtype = SAC_I8;
    else
        return sac_fail(err, SAC_INVALID_ARGUMENT,
                        "index part '%s': known are RFlat, Refine(Flat), Refine(SQfp16) and Refine(SQ8)",
                        t->text);
    return SAC_OK;
}

static sac_status check_m(uint32_t dim, uint32_t opq_m, uint32_t opq_dim, sac_index_spec *spec,
                          sac_error *err)
{
    uint32_t limit = dim < SAC_M_MAX ? dim : SAC_M_MAX;

    if (spec->m < 1 || spec->m > limit)
        return sac_fail(err, SAC_INVALID_ARGUMENT,
                        "index part 'PQ%u': m=%u, but vectors of %u components allow 1 to %u sub-quantizers",
                        spec->m, spec->m, dim, limit);
    spec->coded_dim = (dim + spec->m - 1) / spec->m * spec->m;
    if (!spec->rotate)
        return SAC_OK;
    if (opq_m != spec->m)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "index: OPQ%u and PQ%u must name the same m; use OPQ%u",
                        opq_m, spec->m, spec->m);
    if (opq_dim == 0)
        return SAC_OK;
    if (opq_dim > spec->coded_dim || opq_dim % spec->m != 0)
        return sac_fail(err, SAC_INVALID_ARGUMENT,
                        "index part 'OPQ%u_%u': %u must be a multiple of m=%u, at most %u; use %u", opq_m,
                        opq_dim, opq_dim, spec->m, spec->coded_dim,
                        opq_dim > spec->coded_dim ? spec->coded_dim
                                                  : (opq_dim + spec->m - 1) / spec->m * spec->m);
    spec->coded_dim = opq_dim;
    return SAC_OK;
}

static sac_status parse_ivf_pq(const char *text, token *first, uint32_t dim, sac_index_spec *spec,
                               sac_error *err)
{
    token t = *first;
    uint32_t opq_m = 0, opq_dim = 0;
    sac_status st = SAC_OK;

    spec->rotate = has_prefix(&t, "OPQ");
    if (spec->rotate) {
        st = parse_opq(&t, &opq_m, &opq_dim, err);
        if (st == SAC_OK)
            st = next_token(&text, &t, err);
    }
    if (st == SAC_OK)
        st = parse_ivf(&t, spec, err);
    if (st == SAC_OK)
        st = next_token(&text, &t, err);
    if (st == SAC_OK)
        st = has_prefix(&t, "RaBitQ") ? parse_rabitq(&t, dim, spec, err) : parse_pq(&t, spec, err);
    if (st == SAC_OK)
        st = next_token(&text, &t, err);
    if (st == SAC_OK)
        st = parse_refine(&t, spec, err);
    if (st == SAC_OK && *text != '\0')
        st = sac_fail(err, SAC_INVALID_ARGUMENT, "index: '%.40s' follows after the last part; remove it",
                      text);
    if (st == SAC_OK && !spec->rabitq)
        st = check_m(dim, opq_m, opq_dim, spec, err);
    return st;
}

sac_status sac_index_spec_parse(const char *text, uint32_t dim, sac_index_spec *out, sac_error *err)
{
    sac_index_spec spec = {0};
    token first;
    sac_status st = next_token(&text, &first, err);

    if (st != SAC_OK)
        return st;
    if (*text == '\0' && strcmp(first.text, "auto") == 0)
        spec.automatic = true;
    else if (*text == '\0' && strcmp(first.text, "SQfp16") == 0)
        spec.dtype = SAC_F16;
    else if (*text == '\0' && strcmp(first.text, "SQ8") == 0)
        spec.dtype = SAC_I8;
    else if (*text != '\0' || strcmp(first.text, "Flat") != 0)
        st = parse_ivf_pq(text, &first, dim, &spec, err);
    if (st == SAC_OK)
        *out = spec;
    return st;
}

/* Exact search over fewer vectors than this is faster than it would be to probe lists well. */
#define FLAT_COUNT_MAX 20000u

/* Four components a code: on a million SIFT vectors PQ32 answers twice as fast as PQ64 at the same recall,
 * because re-ranking makes good what the shorter code loses. Long vectors are more redundant. */
static uint32_t components_per_code(uint32_t dim)
{
    return dim <= 512 ? 4 : 8;
}

/* More lists are shorter and better aimed, until comparing a query with them costs what that saves, and
 * training takes longer. By a model of a million SIFT vectors, PQ32 (us of a core: coarse step, codes at 20
 * GB/s, 40 ns a list, 72 ns a candidate), at a recall of 0.90, 0.95 and 0.99: 2 sqrt(n) lists 22, 32, 69; 4
 * sqrt(n) 21, 30, 61; 8 sqrt(n) 23, 31, 60. Measured, 4 and 8 sqrt(n) take the same time at each of them, and
 * 8 takes six times as long to train. */
#define LISTS_PER_ROOT 4

void sac_index_spec_choose(size_t count, size_t training, uint32_t dim, sac_index_spec *out)
{
    uint32_t dsub = components_per_code(dim);

    *out = (sac_index_spec){0};
    if (count < FLAT_COUNT_MAX || training < FLAT_COUNT_MAX / 4 || dim < 8)
        return;
    double nlist = LISTS_PER_ROOT * sqrt((double)count);
    double learnable = (double)training / 32;
    nlist = nlist < learnable ? nlist : learnable;
    nlist = nlist < 65536 ? nlist : 65536;
    out->nlist = ((uint32_t)nlist + 15) / 16 * 16;
    out->m = (dim + dsub - 1) / dsub;
    out->nbits = 8;
    out->coded_dim = out->m * dsub;
}

void sac_index_spec_format(const sac_index_spec *spec, uint32_t dim, char *text, size_t size)
{
    const char *flat = spec->dtype == SAC_F16 ? "SQfp16" : spec->dtype == SAC_I8 ? "SQ8" : "Flat";
    const char *refine = spec->dtype == SAC_F16  ? ",Refine(SQfp16)"
                         : spec->dtype == SAC_I8 ? ",Refine(SQ8)"
                                                 : "";
    char opq[32] = "", bits[8] = "";

    if (spec->automatic || spec->nlist == 0) {
        snprintf(text, size, "%s", spec->automatic ? "auto" : flat);
        return;
    }
    if (spec->rabitq) {
        snprintf(text, size, "IVF%u,RaBitQ%s", spec->nlist, refine);
        return;
    }
    if (spec->rotate && spec->coded_dim == (dim + spec->m - 1) / spec->m * spec->m)
        snprintf(opq, sizeof opq, "OPQ%u,", spec->m);
    else if (spec->rotate)
        snprintf(opq, sizeof opq, "OPQ%u_%u,", spec->m, spec->coded_dim);
    if (spec->nbits != 8)
        snprintf(bits, sizeof bits, "x%u", spec->nbits);
    snprintf(text, size, "%sIVF%u,PQ%u%s%s", opq, spec->nlist, spec->m, bits, refine);
}
