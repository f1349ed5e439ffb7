/* answer.h -- the answer to one query, as a table or as JSON lines. */
#ifndef SACCADE_SERVER_ANSWER_H
#define SACCADE_SERVER_ANSWER_H

#include "engine/saccade.h"

#include <jansson.h>
#include <msgpack.h>

struct sac_answer_style {
    bool json;
    bool many; /* queries: tables get a title */
};

/* An id as JSON: a number, or a text whose bytes that are no UTF-8 became U+FFFD. NULL: no memory. */
json_t *sac_id_json(sac_id id);

/* Hits as a JSON array of {id, score, distance}, whichever way they came; the caller's. skip (NULL allowed):
 * an id that is left out; at most k hits. On failure *out is NULL. */
sac_status sac_answer_from_found(const sac_found *found, size_t count, const sac_id *skip, size_t k,
                                 json_t **out, sac_error *err);
/* The same from the wire: [{id, score, distance}, ...]. SAC_MALFORMED. */
sac_status sac_answer_from_wire(const msgpack_object *hits, json_t **out, sac_error *err);

/* Prints the hits of the query called title on stdout. */
void sac_answer_print(const struct sac_answer_style *style, const char *title, const json_t *hits);

#endif
