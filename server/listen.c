#include "server/listen.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 1024

void sac_listen_address(const char *host, uint16_t port, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof *out);
    if (uv_ip4_addr(host, port, (struct sockaddr_in *)out) != 0)
        uv_ip6_addr(host, port, (struct sockaddr_in6 *)out);
}

uint16_t sac_listen_port(const uv_tcp_t *listener)
{
    struct sockaddr_storage address = {0};
    int size = sizeof address;

    uv_tcp_getsockname(listener, (struct sockaddr *)&address, &size);
    return ntohs(address.ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)&address)->sin6_port
                                               : ((const struct sockaddr_in *)&address)->sin_port);
}

sac_status sac_listen_tcp(uv_loop_t *loop, uv_tcp_t *tcp, const char *host, uint16_t port,
                          uv_connection_cb on_connection, uint16_t *chosen, sac_error *err)
{
    struct sockaddr_storage address;
    int status = uv_tcp_init(loop, tcp);

    if (status != 0)
        return sac_fail(err, SAC_IO, "cannot make a socket: %s", uv_strerror(status));
    sac_listen_address(host, port, &address);
    status = uv_tcp_bind(tcp, (const struct sockaddr *)&address, 0);
    if (status == 0)
        status = uv_listen((uv_stream_t *)tcp, BACKLOG, on_connection);
    if (status != 0) {
        uv_close((uv_handle_t *)tcp, NULL);
        return sac_fail(err, SAC_IO,
                        "cannot listen on %s port %u: %s: choose another port, or 0 for any free one", host,
                        port, uv_strerror(status));
    }
    *chosen = sac_listen_port(tcp);
    return SAC_OK;
}

static sac_status make_directory(const char *path, sac_error *err)
{
    char directory[sizeof((struct sockaddr_un *)0)->sun_path];
    const char *slash = strrchr(path, '/');

    if (strlen(path) >= sizeof directory)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "the socket's path has %zu bytes: at most %zu",
                        strlen(path), sizeof directory - 1);
    if (slash == NULL || slash == path)
        return SAC_OK;
    snprintf(directory, sizeof directory, "%.*s", (int)(slash - path), path);
    if (mkdir(directory, 0700) != 0 && errno != EEXIST)
        return sac_fail(err, SAC_IO, "cannot make %s for the socket: %s", directory, strerror(errno));
    return SAC_OK;
}

/* Removes what a server that was killed has left behind. */
static sac_status remove_stale(const char *path, sac_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat info;
    int fd;

    if (lstat(path, &info) != 0)
        return SAC_OK;
    if (!S_ISSOCK(info.st_mode))
        return sac_fail(err, SAC_INVALID_ARGUMENT, "%s is there and is no socket: choose another path", path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return sac_fail(err, SAC_IO, "cannot make a socket: %s", strerror(errno));
    memcpy(address.sun_path, path, strlen(path) + 1); /* make_directory() has checked the length */
    int connected = connect(fd, (const struct sockaddr *)&address, sizeof address);
    close(fd);
    if (connected == 0)
        return sac_fail(err, SAC_BUSY, "another server listens on %s", path);
    if (unlink(path) != 0)
        return sac_fail(err, SAC_IO, "cannot remove the stale socket %s: %s", path, strerror(errno));
    return SAC_OK;
}

sac_status sac_listen_unix(uv_loop_t *loop, uv_pipe_t *pipe, const char *path, uv_connection_cb on_connection,
                           sac_error *err)
{
    sac_status st = make_directory(path, err);
    int status;

    if (st == SAC_OK)
        st = remove_stale(path, err);
    if (st != SAC_OK)
        return st;
    status = uv_pipe_init(loop, pipe, 0);
    if (status == 0)
        status = uv_pipe_bind(pipe, path);
    /* Before listening, so that there is no moment at which others could connect. */
    if (status == 0 && chmod(path, 0600) != 0)
        status = -errno;
    if (status == 0)
        status = uv_listen((uv_stream_t *)pipe, BACKLOG, on_connection);
    if (status == 0)
        return SAC_OK;
    uv_close((uv_handle_t *)pipe, NULL);
    return sac_fail(err, SAC_IO, "cannot listen on %s: %s", path, uv_strerror(status));
}
