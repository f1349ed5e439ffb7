/* client.h -- a blocking client of the server: one request, one answer (PROTOCOL.md). */
#ifndef SACCADE_SERVER_CLIENT_H
#define SACCADE_SERVER_CLIENT_H

#include "engine/saccade.h"

#include <msgpack.h>

typedef struct sac_client sac_client; /* one thread at a time */

/* Connects to "HOST:PORT", "[IPv6]:PORT" or "unix:PATH". timeout_ms bounds the connecting, and each call.
 * Errors: SAC_INVALID_ARGUMENT (no such form of address), SAC_UNAVAILABLE (nobody answers there). */
sac_status sac_client_open(const char *address, uint32_t timeout_ms, sac_client **out, sac_error *err);
void sac_client_close(sac_client *client); /* NULL is allowed */

/* Calls a method with fields, a packed map. *result lives until the next call or the close. Errors: the
 * server's own, by its code; SAC_DEADLINE_EXCEEDED; SAC_UNAVAILABLE (the connection broke);
 * SAC_MALFORMED (what came back is no answer). After one of the last three the client is of no more use. */
sac_status sac_client_call(sac_client *client, const char *method, const msgpack_sbuffer *fields,
                           const msgpack_object **result, sac_error *err);

#endif
