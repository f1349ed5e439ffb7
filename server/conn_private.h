/* conn_private.h -- one connection, for the files that make it up: conn_read.c, conn_write.c, hub.c. */
#ifndef SACCADE_SERVER_CONN_PRIVATE_H
#define SACCADE_SERVER_CONN_PRIVATE_H

#include "server/hub.h"
#include "server/output.h"
#include "server/scan.h"

enum conn_state { CONN_OPEN, CONN_LINGER, CONN_CLOSED };

struct sac_conn {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } u;
    struct sac_hub *hub;
    struct sac_conn *next, *prev;
    struct sac_conn *waiting_next, *dirty_next;
    enum conn_state state;

    bool handle_closed;
    bool reading, paused_flight, paused_output, paused_memory;
    bool is_waiting, is_dirty; /* in the hub's lists of those */
    bool head_known, cancels;  /* of the message being read; cancels: it is a cancel notification */
    bool writing, shut;

    uint32_t turn_messages; /* taken in this turn of the loop */
    uint64_t turn;
    size_t turn_bytes;

    uint8_t *in; /* NULL: nothing is buffered */
    size_t in_capacity, in_start, in_end;
    struct sac_rpc_head head; /* its method points nowhere: see method */
    const struct sac_method *method;
    struct sac_scan scan;
    uint64_t message_ns; /* when the message being read began; 0: none is */

    struct sac_request *requests;
    uint64_t held_bytes; /* of their messages */
    uint32_t in_flight;

    struct sac_output output;
    uv_write_t write;
    uv_shutdown_t shutdown;
    size_t writing_bytes;
    size_t progress_mark;
    uint64_t progress_ns, active_ns, linger_ns;
};

/* hub.c */
void sac_conn_close(struct sac_conn *conn, enum sac_close_reason reason, bool reset);
/* Frees the connection's memory if libuv and every request have let go of it. */
void sac_conn_unref(struct sac_conn *conn);
/* To be pumped in the next turn of the loop. */
void sac_conn_wait(struct sac_conn *conn);

/* conn_read.c */
void sac_conn_drop_input(struct sac_conn *conn);
/* Takes as many messages from the input as the pauses and the turn allow. */
void sac_conn_pump(struct sac_conn *conn);
/* Reads, or not, as the pauses say. */
void sac_conn_set_reading(struct sac_conn *conn);

/* conn_write.c */
void sac_conn_reply(struct sac_conn *conn, msgpack_sbuffer *reply);
void sac_conn_flush(struct sac_conn *conn);
/* To be flushed by sac_conn_flush_dirty(), when everything that goes together is there. */
void sac_conn_mark_dirty(struct sac_conn *conn);
void sac_conn_flush_dirty(struct sac_hub *hub);

#endif
