/* methods.h -- the table of methods, and how a request enters it. */
#ifndef SACCADE_SERVER_METHODS_H
#define SACCADE_SERVER_METHODS_H

#include "server/args.h"
#include "server/request.h"

extern const struct sac_method sac_methods[];
extern const size_t sac_method_count;

/* NULL: unknown. */
const struct sac_method *sac_method_find(const char *name, size_t name_size);
uint32_t sac_method_row(const struct sac_method *method); /* NULL: the row of unknown ones */
void sac_methods_label(struct sac_metrics *metrics);

/* On the loop thread: reads what every method has (collection, timeout_ms), opens the collection on a
 * control thread if need be, and starts the method. The request is answered in any case. */
void sac_method_begin(struct sac_request *request);

/* Opens the fields of the request's map; *place is prepared for the readers of args.h. */
sac_status sac_method_fields(struct sac_request *request, struct sac_field *fields, size_t field_count,
                             struct sac_place *place, sac_error *err);
/* A collection's name, checked and copied to the request's zone. */
sac_status sac_method_collection(struct sac_request *request, const msgpack_object *value, const char **out,
                                 sac_error *err);

sac_status sac_method_ping(struct sac_request *request, sac_error *err);
sac_status sac_method_info(struct sac_request *request, sac_error *err);
sac_status sac_method_create(struct sac_request *request, sac_error *err);
sac_status sac_method_drop(struct sac_request *request, sac_error *err);
sac_status sac_method_list(struct sac_request *request, sac_error *err);
sac_status sac_method_put(struct sac_request *request, sac_error *err);
sac_status sac_method_delete(struct sac_request *request, sac_error *err);
sac_status sac_method_get(struct sac_request *request, sac_error *err);
sac_status sac_method_count_items(struct sac_request *request, sac_error *err);
sac_status sac_method_search(struct sac_request *request, sac_error *err);
sac_status sac_method_embed(struct sac_request *request, sac_error *err);
sac_status sac_method_stats(struct sac_request *request, sac_error *err);

#endif
