/* listen.h -- sockets that are listened on. */
#ifndef SACCADE_SERVER_LISTEN_H
#define SACCADE_SERVER_LISTEN_H

#include "kernels/status.h"

#include <uv.h>

/* A numeric address, IPv4 or IPv6, that config.h has checked. */
void sac_listen_address(const char *host, uint16_t port, struct sockaddr_storage *out);
uint16_t sac_listen_port(const uv_tcp_t *listener);

/* On failure the handle is not open. SAC_IO names the address. */
sac_status sac_listen_tcp(uv_loop_t *loop, uv_tcp_t *tcp, const char *host, uint16_t port,
                          uv_connection_cb on_connection, uint16_t *chosen, sac_error *err);
/* A Unix socket that only our user may use, in a directory that is made with mode 0700 if it is not there. A
 * socket file that nobody listens on is replaced; SAC_BUSY where somebody does. */
sac_status sac_listen_unix(uv_loop_t *loop, uv_pipe_t *pipe, const char *path, uv_connection_cb on_connection,
                           sac_error *err);

#endif
