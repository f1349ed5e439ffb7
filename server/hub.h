/* hub.h -- connections: bytes in, requests out; replies in, bytes out. Everything here runs on the loop
 * thread.
 *
 * Reading goes on only while there is room for what it brings: it pauses while a connection has its share of
 * requests in flight, while its replies are not being read, while requests of all connections hold too much
 * memory, and after a few messages in one turn of the loop, so that the others get theirs.
 */
#ifndef SACCADE_SERVER_HUB_H
#define SACCADE_SERVER_HUB_H

#include "server/request.h"

#include <uv.h>

/* All connections of a server. */
struct sac_hub {
    uv_loop_t *loop;
    struct sac_core *core;
    struct sac_conn *first;
    uint32_t count;           /* connections that are served */
    uint64_t turn;            /* of the event loop */
    uv_idle_t idle;           /* runs while some connection waits for its next turn */
    uv_check_t check;         /* counts turns */
    struct sac_conn *waiting; /* for their next turn */
    struct sac_conn *dirty;   /* with replies to flush */
    uint64_t input_bytes;     /* of all input buffers */
    bool memory_full;         /* some connection is paused for it */
    bool draining;            /* requests are refused UNAVAILABLE */
};

void sac_hub_init(struct sac_hub *hub, uv_loop_t *loop, struct sac_core *core);
/* Closes the hub's own handles. */
void sac_hub_close(struct sac_hub *hub);
/* Takes a connection that waits on the listener; over the limit it is closed at once. */
void sac_hub_accept(struct sac_hub *hub, uv_stream_t *listener, bool unix_socket);
/* Sends the answers that the stages have finished. */
void sac_hub_deliver(struct sac_hub *hub);
/* Closes connections that are idle, slow or stuck; to be called about ten times a second. */
void sac_hub_sweep(struct sac_hub *hub);
/* True when nothing is in flight and every reply has been taken. */
bool sac_hub_quiet(const struct sac_hub *hub);
/* Closes all connections; their requests are dropped where they stand. */
void sac_hub_close_all(struct sac_hub *hub, enum sac_close_reason reason);

#endif
