/* rpc.h -- the shapes of MessagePack-RPC: the head of a message, and the error string. */
#ifndef SACCADE_SERVER_RPC_H
#define SACCADE_SERVER_RPC_H

#include "kernels/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SAC_METHOD_NAME_MAX 64u /* bytes */
#define SAC_RPC_HEAD_MAX 96u    /* no head is longer: array header, type, msgid, method */

/* What stands before the parameters. It decides the limits of the rest, so it is read first. */
struct sac_rpc_head {
    bool notification;
    uint32_t msgid;         /* of a request */
    const char *method;     /* in the message's bytes, not NUL-terminated; NULL where wrong is set */
    size_t method_size;     /* 0..SAC_METHOD_NAME_MAX */
    const char *wrong;      /* NULL, or what is wrong with the shape though the msgid is known */
    uint32_t root_elements; /* of the outer array */
};

enum sac_rpc_head_verdict {
    SAC_RPC_HEAD_MORE,  /* not complete in these bytes, of which there are fewer than SAC_RPC_HEAD_MAX */
    SAC_RPC_HEAD_READY, /* *head is filled, perhaps with something wrong */
    SAC_RPC_HEAD_BAD,   /* no request and no notification: nobody can be answered */
};
enum sac_rpc_head_verdict sac_rpc_head_read(const uint8_t *bytes, size_t n, struct sac_rpc_head *head);

#define SAC_RPC_ERROR_SIZE (SAC_ERROR_TEXT_SIZE + 160)

struct sac_rpc_hint {
    uint32_t retry_after_ms; /* 0: none */
    const char *outcome;     /* "not_applied", "unknown", or NULL */
};

/* Writes "CODE_NAME: text [key=value ...]" and returns its length. hint may be NULL. */
size_t sac_rpc_error_text(char text[SAC_RPC_ERROR_SIZE], const sac_error *error,
                          const struct sac_rpc_hint *hint);

#endif
