/* http.h -- the side port: /livez /readyz /healthz /metrics. GET and HEAD, one request a connection. */
#ifndef SACCADE_SERVER_HTTP_H
#define SACCADE_SERVER_HTTP_H

#include "server/metrics.h"

#include <uv.h>

#define SAC_HTTP_CONNECTIONS_MAX 32u

struct sac_http {
    uv_tcp_t listener;
    uint32_t connections;
    struct sac_http_conn *first;
    void *context;
    /* The text of a page, and its status (200, 503, 404). On the loop thread. */
    int (*page)(void *context, const char *path, struct sac_text *text);
    bool open;
};

/* Listens on a numeric address. SAC_IO. page and context are set. */
sac_status sac_http_open(struct sac_http *http, uv_loop_t *loop, const struct sockaddr *address,
                         sac_error *err);
void sac_http_close(struct sac_http *http);

#endif
