#include "engine/measurement.h"

#include "engine/random.h"

#include <string.h>

#define QUERIES 1000u
#define TRUTH_PRODUCTS 6e10 /* multiplications to find the truth by, before there are fewer queries */
#define QUERIES_LONG 400u   /* but not fewer than these */
#define QUERIES_MIN 20u     /* of few vectors */
#define RECALL_ENOUGH 0.9995

/* ---- queries and truth ------------------------------------------------------------------------------ */

static void choose_queries(sac_measurement *m)
{
    const sac_labels *labels = &m->index->labels;
    sac_random random = {m->index->seed + 3};
    uint32_t seen = 0, taken = 0;

    for (uint32_t slot = 0; taken < m->n; slot++) { /* selection sampling over the live ones */
        if (!sac_labels_live(labels, slot))
            continue;
        if (sac_random_unit(&random) * (labels->live_count - seen++) < m->n - taken)
            m->slots[taken++] = slot;
    }
}

/* Copies the queries that a shard stores from there to where all shards read them. */
static sac_status read_queries(sac_measurement *m, uint32_t shard)
{
    sac_workspace *ws = m->team->ws[shard];
    uint32_t *slots = sac_workspace_host(ws, m->n, sizeof *slots), count = 0, row = 0, dim = m->index->dim;
    sac_span rows;
    sac_status st;

    if (slots == NULL || !sac_workspace_span(ws, m->n, dim * sizeof(float), &rows))
        return sac_workspace_failure(ws);
    for (uint32_t q = 0; q < m->n; q++)
        if (m->slots[q] % m->team->count == shard)
            slots[count++] = m->slots[q] / m->team->count;
    st = sac_vectors_read(&m->index->shards[shard].vectors, ws, count, slots, rows.device);
    if (st == SAC_OK)
        st = sac_span_pull(ws, &rows);
    for (uint32_t q = 0; st == SAC_OK && q < m->n; q++) {
        if (m->slots[q] % m->team->count != shard)
            continue;
        for (uint32_t s = 0; s < m->team->count; s++)
            memcpy((float *)m->x[s].host + (size_t)q * dim, (const float *)rows.host + (size_t)row * dim,
                   dim * sizeof(float));
        row++;
    }
    return st;
}

/* What the shards found for n queries, pieces of [n][stride], as slots of the whole on the host. */
static sac_status collect(const sac_measurement *m, size_t n, uint32_t stride, const sac_shard_found *found,
                          sac_span *slots)
{
    sac_shard_found all = found[0];
    sac_status st = SAC_OK;

    if (m->team->count > 1) {
        all.distance = sac_workspace_device(m->ws, n * stride, sizeof *all.distance);
        all.slot = sac_workspace_device(m->ws, n * stride, sizeof *all.slot);
        if (all.distance == NULL || all.slot == NULL)
            return sac_workspace_failure(m->ws);
        st = sac_team_merge(m->team, n, stride, found, stride, &all);
    }
    if (st == SAC_OK && !sac_workspace_view(m->ws, all.slot, n * stride, sizeof(uint32_t), slots))
        st = sac_workspace_failure(m->ws);
    return st == SAC_OK ? sac_span_pull(m->ws, slots) : st;
}

static sac_status find_on(const sac_measurement *m, uint32_t shard, uint32_t width, sac_shard_found *found)
{
    const sac_index *index = m->index;
    sac_workspace *ws = m->team->ws[shard];

    found->distance = sac_workspace_device(ws, (size_t)m->n * width, sizeof *found->distance);
    found->slot = sac_workspace_device(ws, (size_t)m->n * width, sizeof *found->slot);
    if (found->distance == NULL || found->slot == NULL)
        return sac_workspace_failure(ws);
    return sac_vectors_nearest(&index->shards[shard].vectors, ws, sac_index_distance(index), m->n,
                               m->x[shard].device, index->labels.live[shard].copy,
                               sac_labels_slots_of(&index->labels, shard), NULL, width, found->distance,
                               found->slot);
}

static sac_status find_truth(sac_measurement *m)
{
    uint32_t live = m->index->labels.live_count, width = live < SAC_KNOWN + 1 ? live : SAC_KNOWN + 1;
    sac_shard_found found[SAC_SHARDS_MAX] = {{0}};
    sac_span slot;
    sac_status st = SAC_OK;

    for (uint32_t s = 0; st == SAC_OK && s < m->team->count; s++)
        st = find_on(m, s, width, &found[s]);
    if (st == SAC_OK)
        st = collect(m, m->n, width, found, &slot);
    for (uint32_t q = 0; st == SAC_OK && q < m->n; q++) {
        const uint32_t *nearest = (const uint32_t *)slot.host + (size_t)q * width;
        m->counts[q] = 0;
        for (uint32_t i = 0; i < width && m->counts[q] < SAC_KNOWN; i++)
            if (nearest[i] != m->slots[q])
                m->known[q * SAC_KNOWN + m->counts[q]++] = nearest[i];
    }
    return st;
}

/* The list that holds a slot of the whole. */
static uint32_t list_of(const sac_measurement *m, uint32_t slot)
{
    return m->lists_of[slot % m->team->count][slot / m->team->count];
}

static sac_status find_lists(sac_measurement *m)
{
    for (uint32_t s = 0; s < m->team->count; s++) {
        size_t slots = sac_labels_slots_of(&m->index->labels, s);
        m->lists_of[s] = sac_workspace_host(m->ws, slots, sizeof *m->lists_of[s]);
        if (m->lists_of[s] == NULL)
            return sac_workspace_failure(m->ws);
        sac_lists_find_all(&m->index->shards[s].ivf->lists, m->lists_of[s]);
    }
    return SAC_OK;
}

uint32_t sac_measurement_rows(const sac_measurement *m, uint32_t list)
{
    uint32_t rows = 0;

    for (uint32_t s = 0; s < m->index->shard_count; s++)
        rows += sac_lists_rows(&m->index->shards[s].ivf->lists, list);
    return rows;
}

static void weigh(sac_measurement *m)
{
    m->wanted = 0;
    for (uint32_t q = 0; q < m->n; q++) {
        m->wanted += m->counts[q] > SAC_HIDDEN ? m->counts[q] - SAC_HIDDEN : 0;
        m->pulls[q] = 1 + 1 / (float)sac_measurement_rows(m, list_of(m, m->slots[q]));
    }
}

sac_status sac_measurement_prepare(sac_measurement *m, const sac_index *index, const sac_team *team)
{
    uint32_t wanted = index->labels.live_count / 4;
    double afford = TRUTH_PRODUCTS / index->dim / index->labels.live_count;
    uint32_t most = afford < QUERIES_LONG ? QUERIES_LONG : afford > QUERIES ? QUERIES : (uint32_t)afford;
    sac_workspace *ws = team->ws[0];
    sac_status st = SAC_OK;

    m->index = index;
    m->team = team;
    m->ws = ws;
    m->n = wanted < QUERIES_MIN ? QUERIES_MIN : wanted > most ? most : wanted;
    m->slots = sac_workspace_host(ws, m->n, sizeof *m->slots);
    m->known = sac_workspace_host(ws, (size_t)m->n * SAC_KNOWN, sizeof *m->known);
    m->counts = sac_workspace_host(ws, m->n, sizeof *m->counts);
    m->x = sac_workspace_host(ws, team->count, sizeof *m->x);
    m->queries = sac_workspace_host(ws, m->n, sizeof *m->queries);
    m->candidates = sac_workspace_host(ws, (size_t)m->n * SAC_MEASURED_CANDIDATES, sizeof *m->candidates);
    m->lengths = sac_workspace_host(ws, m->n, sizeof *m->lengths);
    m->ranks = sac_workspace_host(ws, sac_index_ivf(index)->nlist, sizeof *m->ranks);
    m->pulls = sac_workspace_host(ws, m->n, sizeof *m->pulls);
    if (m->slots == NULL || m->known == NULL || m->counts == NULL || m->x == NULL || m->queries == NULL ||
        m->candidates == NULL || m->lengths == NULL || m->ranks == NULL || m->pulls == NULL)
        return sac_workspace_failure(ws);
    memset(m->ranks, 0xff, sac_index_ivf(index)->nlist * sizeof *m->ranks);
    for (uint32_t s = 0; s < team->count; s++)
        if (!sac_workspace_span(team->ws[s], m->n, index->dim * sizeof(float), &m->x[s]))
            return sac_workspace_failure(team->ws[s]);
    choose_queries(m);
    for (uint32_t s = 0; st == SAC_OK && s < team->count; s++)
        st = read_queries(m, s);
    for (uint32_t s = 0; st == SAC_OK && s < team->count; s++)
        st = sac_span_push(team->ws[s], &m->x[s]);
    if (st == SAC_OK)
        st = find_truth(m);
    if (st == SAC_OK)
        st = find_lists(m);
    if (st == SAC_OK)
        weigh(m);
    return st;
}

/* ---- what a search would come upon ------------------------------------------------------------------ */

sac_status sac_measurement_probe(const sac_measurement *m, uint32_t nprobe, sac_ivf_probed *out)
{
    const sac_ivf *ivf = sac_index_ivf(m->index);
    sac_ivf_batch batch;
    sac_status st;

    for (uint32_t q = 0; q < m->n; q++)
        m->queries[q] = (sac_ivf_query){.nprobe = nprobe, .depth = 1};
    st = sac_ivf_prepare(ivf, m->ws, m->n, &m->x[0], m->queries, 1, &batch);
    return st == SAC_OK ? sac_ivf_probe(ivf, m->ws, &batch, out) : st;
}

void sac_measurement_rank(const sac_measurement *m, const sac_ivf_probed *probed, uint32_t q, bool clear)
{
    for (uint32_t p = 0; p < probed->counts[q]; p++)
        m->ranks[probed->lists[(size_t)q * probed->width + p]] = clear ? SAC_NO_RANK : p;
}

/* Neighbours in the lists that the queries probe. */
static uint32_t within_lists(const sac_measurement *m, const sac_ivf_probed *probed)
{
    uint32_t found = 0;

    for (uint32_t q = 0; q < m->n; q++) {
        sac_measurement_rank(m, probed, q, false);
        for (uint32_t i = SAC_HIDDEN; i < m->counts[q]; i++)
            found += m->ranks[list_of(m, m->known[q * SAC_KNOWN + i])] != SAC_NO_RANK;
        sac_measurement_rank(m, probed, q, true);
    }
    return found;
}

sac_status sac_measurement_most(const sac_measurement *m, uint32_t *most)
{
    uint32_t nlist = sac_index_ivf(m->index)->nlist, limit = nlist < SAC_PROBES_MAX ? nlist : SAC_PROBES_MAX;
    sac_status st = SAC_OK;
    bool enough = false;

    for (uint32_t nprobe = 16; st == SAC_OK && !enough; nprobe += nprobe / 4) {
        sac_workspace_mark mark = sac_workspace_save(m->ws);
        sac_ivf_probed probed;

        *most = nprobe < limit ? nprobe : limit;
        st = sac_measurement_probe(m, *most, &probed);
        enough =
            st == SAC_OK && (*most == limit || within_lists(m, &probed) >= RECALL_ENOUGH * (double)m->wanted);
        sac_workspace_restore(m->ws, mark);
    }
    return st;
}

/* The candidates that a shard has for queries first .. first + n - 1, nearest first by their codes. */
static sac_status scan_on(const sac_measurement *m, uint32_t shard, uint32_t first, uint32_t n,
                          uint32_t nprobe, sac_shard_found *found, uint32_t *stride)
{
    size_t skipped = (size_t)first * m->index->dim, bytes = (size_t)n * m->index->dim * sizeof(float);
    sac_span x = {(float *)m->x[shard].device + skipped, (float *)m->x[shard].host + skipped, bytes};
    const sac_ivf *ivf = m->index->shards[shard].ivf;
    sac_workspace *ws = m->team->ws[shard];
    sac_ivf_query *queries = sac_workspace_host(ws, n, sizeof *queries);
    sac_ivf_batch batch;
    sac_status st;

    if (queries == NULL)
        return sac_workspace_failure(ws);
    for (uint32_t q = 0; q < n; q++)
        queries[q] = (sac_ivf_query){.nprobe = nprobe, .depth = SAC_MEASURED_CANDIDATES};
    st = sac_ivf_prepare(ivf, ws, n, &x, queries, 1, &batch);
    *found = (sac_shard_found){batch.distance, batch.slot};
    *stride = batch.stride;
    return st == SAC_OK ? sac_ivf_submit(ivf, ws, &batch) : st;
}

static void take_candidates(sac_measurement *m, uint32_t q, const uint32_t *slots)
{
    const uint32_t *known = m->known + (size_t)q * SAC_KNOWN;

    m->lengths[q] = 0;
    for (uint32_t c = 0; c < SAC_MEASURED_CANDIDATES && slots[c] != SAC_NO_SLOT; c++) {
        sac_measured_candidate *candidate = &m->candidates[(size_t)q * SAC_MEASURED_CANDIDATES + c];

        *candidate = (sac_measured_candidate){list_of(m, slots[c]), SAC_OTHER};
        if (slots[c] == m->slots[q])
            candidate->kind = SAC_ABSENT;
        for (uint32_t i = 0; i < m->counts[q]; i++)
            if (known[i] == slots[c])
                candidate->kind = i < SAC_HIDDEN ? SAC_ABSENT : SAC_WANTED;
        if (candidate->kind == SAC_WANTED)
            m->lengths[q] = c + 1;
    }
}

/* Every shard re-ranks as many candidates as are asked for, so a search finds no less than is found here. */
static sac_status scan_some(sac_measurement *m, uint32_t first, uint32_t n, uint32_t nprobe)
{
    sac_workspace_mark marks[SAC_SHARDS_MAX] = {{0}};
    sac_shard_found found[SAC_SHARDS_MAX] = {{0}};
    uint32_t stride = 0;
    sac_span slots;
    sac_status st = SAC_OK;

    for (uint32_t s = 0; s < m->team->count; s++)
        marks[s] = sac_workspace_save(m->team->ws[s]);
    for (uint32_t s = 0; st == SAC_OK && s < m->team->count; s++)
        st = scan_on(m, s, first, n, nprobe, &found[s], &stride);
    if (st == SAC_OK)
        st = collect(m, n, stride, found, &slots);
    for (uint32_t q = 0; st == SAC_OK && q < n; q++)
        take_candidates(m, first + q, (const uint32_t *)slots.host + (size_t)q * stride);
    for (uint32_t s = 0; s < m->team->count; s++)
        sac_workspace_restore(m->team->ws[s], marks[s]);
    return st;
}

sac_status sac_measurement_scan(sac_measurement *m, uint32_t nprobe)
{
    uint32_t together = m->n, done = 0;
    sac_status st = SAC_OK;

    while (st == SAC_OK && done < m->n) {
        uint32_t n = m->n - done < together ? m->n - done : together;

        st = scan_some(m, done, n, nprobe);
        if (st == SAC_OK)
            done += n;
        else if (st == SAC_DEVICE_MEMORY && n > QUERIES_MIN) { /* again, with half as many */
            together = n / 2;
            st = SAC_OK;
        }
    }
    return st;
}
