#include "server/answer.h"

#include "server/human.h"
#include "server/wire_json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

json_t *sac_id_json(sac_id id)
{
    json_t *json;
    char *text;

    if (id.text == NULL)
        return json_integer((json_int_t)id.number);
    text = sac_human_text(id.text, id.text_size, false);
    json = text == NULL ? NULL : json_string(text);
    free(text);
    return json;
}

/* Takes over id. */
static bool append_hit(json_t *hits, json_t *id, double score, double distance)
{
    json_t *hit = json_object();
    bool ok = id != NULL && hit != NULL && json_object_set(hit, "id", id) == 0 &&
              json_object_set_new(hit, "score", json_real(score)) == 0 &&
              json_object_set_new(hit, "distance", json_real(distance)) == 0 &&
              json_array_append(hits, hit) == 0;

    json_decref(id);
    json_decref(hit);
    return ok;
}

static bool same_id(const sac_id *a, const sac_id *b)
{
    if ((a->text == NULL) != (b->text == NULL))
        return false;
    if (a->text == NULL)
        return a->number == b->number;
    return a->text_size == b->text_size && memcmp(a->text, b->text, a->text_size) == 0;
}

sac_status sac_answer_from_found(const sac_found *found, size_t count, const sac_id *skip, size_t k,
                                 json_t **out, sac_error *err)
{
    json_t *hits = json_array();
    bool ok = hits != NULL;

    for (size_t i = 0; ok && i < count && json_array_size(hits) < k; i++)
        if (skip == NULL || !same_id(&found[i].id, skip))
            ok =
                append_hit(hits, sac_id_json(found[i].id), (double)found[i].score, (double)found[i].distance);
    *out = ok ? hits : NULL;
    if (ok)
        return SAC_OK;
    json_decref(hits);
    return sac_fail(err, SAC_NO_MEMORY, "no memory for %zu hits", count);
}

/* Every hit has the three fields, of the right kinds. */
static bool are_hits(const json_t *hits)
{
    for (size_t i = 0; i < json_array_size(hits); i++) {
        const json_t *hit = json_array_get(hits, i), *id = json_object_get(hit, "id");
        if (!(json_is_integer(id) || json_is_string(id)) || !json_is_number(json_object_get(hit, "score")) ||
            !json_is_number(json_object_get(hit, "distance")))
            return false;
    }
    return json_is_array(hits);
}

sac_status sac_answer_from_wire(const msgpack_object *list, json_t **out, sac_error *err)
{
    *out = sac_wire_json(list);
    if (are_hits(*out))
        return SAC_OK;
    json_decref(*out);
    *out = NULL;
    return sac_fail(err, SAC_MALFORMED, "the server's hits are not what PROTOCOL.md says");
}

/* ---- printing ----------------------------------------------------------------------------------------- */

static void print_json_line(const char *title, size_t rank, const json_t *hit)
{
    char *query = sac_human_text(title, strlen(title), false);
    json_t *line = query == NULL
                       ? NULL
                       : json_pack("{s:s, s:I, s:O, s:O, s:O}", "query", query, "rank", (json_int_t)rank,
                                   "id", json_object_get(hit, "id"), "score", json_object_get(hit, "score"),
                                   "distance", json_object_get(hit, "distance"));

    if (line != NULL) {
        /* 9 digits bring back any float 32 exactly. */
        json_dumpf(line, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
        putchar('\n');
    }
    json_decref(line);
    free(query);
}

static double number_of(const json_t *hit, const char *name)
{
    return json_number_value(json_object_get(hit, name));
}

/* Four places where they tell a column's numbers apart, else significant digits: distances may be of any
 * size. */
static void print_number(const json_t *hit, const char *name, const json_t *first, const json_t *last)
{
    double value = number_of(hit, name),
           largest = fmax(fabs(number_of(first, name)), fabs(number_of(last, name)));

    if (largest >= 0.05 && largest < 1e5)
        printf("%10.4f  ", value);
    else
        printf("%10.4g  ", value);
}

static void print_id(const json_t *id)
{
    char *text;

    if (json_is_integer(id)) {
        printf("%" JSON_INTEGER_FORMAT "\n", json_integer_value(id));
        return;
    }
    text = sac_human_text(json_string_value(id), json_string_length(id), true);
    puts(text == NULL ? "" : text);
    free(text);
}

static void print_table(const json_t *hits)
{
    size_t n = json_array_size(hits);
    const json_t *first = json_array_get(hits, 0), *last = n == 0 ? NULL : json_array_get(hits, n - 1);

    puts(n == 0 ? "no hits" : "rank       score    distance  id");
    for (size_t i = 0; i < n; i++) {
        const json_t *hit = json_array_get(hits, i);
        printf("%4zu  ", i + 1);
        print_number(hit, "score", first, last);
        print_number(hit, "distance", first, last);
        print_id(json_object_get(hit, "id"));
    }
}

void sac_answer_print(const struct sac_answer_style *style, const char *title, const json_t *hits)
{
    if (style->json) {
        for (size_t i = 0; i < json_array_size(hits); i++)
            print_json_line(title, i + 1, json_array_get(hits, i));
        return;
    }
    if (style->many) {
        char *text = sac_human_text(title, strlen(title), true);
        puts(text == NULL ? "" : text);
        free(text);
    }
    print_table(hits);
    if (style->many)
        putchar('\n');
}
