/* reply.h -- results in the shapes of PROTOCOL.md. Each of these answers its request. */
#ifndef SACCADE_SERVER_REPLY_H
#define SACCADE_SERVER_REPLY_H

#include "server/request.h"

/* The request's queries are `first` and following of the results. */
void sac_reply_search(struct sac_request *request, const sac_results *results, size_t first);
void sac_reply_stored(struct sac_request *request);
void sac_reply_deleted(struct sac_request *request, size_t deleted);

void sac_pack_id(msgpack_packer *packer, const sac_id *id);
/* How many pairs sac_pack_item() adds for the parts in `with`. */
uint32_t sac_item_pairs(const sac_item *item, unsigned with);
void sac_pack_item(msgpack_packer *packer, const sac_item *item, unsigned with, uint32_t dim);
void sac_pack_took(msgpack_packer *packer, const struct sac_request *request); /* the pair took_ms */

#endif
