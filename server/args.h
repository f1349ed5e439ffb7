/* args.h -- fields of a request's map, read by type, with errors that name the place.
 *
 * A method lists the fields it knows in an array of sac_field; sac_args_open() finds them in the map and
 * refuses any other. nil counts as absent. What a reader allocates belongs to the request's zone.
 */
#ifndef SACCADE_SERVER_ARGS_H
#define SACCADE_SERVER_ARGS_H

#include "engine/saccade.h"
#include "server/wire.h"

struct sac_field {
    const char *name;
    const msgpack_object *value; /* NULL: absent */
};

/* Where a value stands, for error texts: "put: items[3].vector". */
struct sac_place {
    const char *method;
    const char *array; /* NULL: a field of the request's own map */
    size_t index;
    const char *field; /* NULL: the element itself */
};

/* map: a map, or an empty array. Fills fields[].value. */
sac_status sac_args_open(const msgpack_object *map, const struct sac_place *place, struct sac_field *fields,
                         size_t field_count, sac_error *err);

/* SAC_INVALID_ARGUMENT: "put: items[3].vector: " and the formatted text. */
__attribute__((format(printf, 3, 4))) sac_status sac_args_wrong(const struct sac_place *place, sac_error *err,
                                                                const char *format, ...);

/* Readers of one value. Whole floats count as integers. */
sac_status sac_args_uint(const msgpack_object *value, const struct sac_place *place, uint64_t min,
                         uint64_t max, uint64_t *out, sac_error *err);
sac_status sac_args_number(const msgpack_object *value, const struct sac_place *place, double min, double max,
                           double *out, sac_error *err);
sac_status sac_args_bool(const msgpack_object *value, const struct sac_place *place, bool *out,
                         sac_error *err);
/* A string of min..max bytes without a NUL, copied and terminated. */
sac_status sac_args_text(const msgpack_object *value, const struct sac_place *place, size_t min, size_t max,
                         msgpack_zone *zone, const char **out, sac_error *err);
/* bin or str, not copied. */
sac_status sac_args_bytes(const msgpack_object *value, const struct sac_place *place, const void **bytes,
                          size_t *size, sac_error *err);
/* The elements of an array of min..max. */
sac_status sac_args_array(const msgpack_object *value, const struct sac_place *place, size_t min, size_t max,
                          const msgpack_object **elements, size_t *count, sac_error *err);

/* A text id points into value. */
sac_status sac_args_id(const msgpack_object *value, const struct sac_place *place, sac_id *out,
                       sac_error *err);
sac_status sac_args_vector(const msgpack_object *value, const struct sac_place *place, uint32_t dim,
                           float *out, sac_error *err);
/* SAC_WITH_* flags from an array of words, or one word. */
sac_status sac_args_with(const msgpack_object *value, const struct sac_place *place, unsigned *out,
                         sac_error *err);
sac_status sac_args_crop(const msgpack_object *value, const struct sac_place *place, sac_crop *out,
                         sac_error *err);
/* Names and texts point into value. */
sac_status sac_args_attributes(const msgpack_object *value, const struct sac_place *place, msgpack_zone *zone,
                               const sac_attribute **out, size_t *count, sac_error *err);

/* count * size bytes of the zone, aligned for any type here; NULL when memory is short. */
void *sac_zone_alloc(msgpack_zone *zone, size_t count, size_t size);

#endif
