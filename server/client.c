#include "server/client.h"

#include "server/scan.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* What an answer may take: 256 queries of 1000 hits with ids of 256 bytes, and some. */
static const struct sac_scan_limits answer_limits = {.bytes = 128u << 20, .elements = 4u << 20, .depth = 12};

struct sac_client {
    int fd;
    uint32_t timeout_ms, next_id;
    char *address;
    uint8_t *bytes; /* of the answer */
    size_t size, capacity;
    msgpack_unpacked answer;
};

/* ---- time and sockets -------------------------------------------------------------------------------- */

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Waits until the socket is ready for events, or the deadline has passed. */
static sac_status wait_ready(const sac_client *c, short events, uint64_t deadline_ms, sac_error *err)
{
    for (;;) {
        uint64_t t = now_ms();
        struct pollfd p = {.fd = c->fd, .events = events};
        int n = t >= deadline_ms ? 0 : poll(&p, 1, (int)(deadline_ms - t));
        if (n > 0)
            return SAC_OK;
        if (n == 0)
            return sac_fail(err, SAC_DEADLINE_EXCEEDED, "no answer from %s within %u ms", c->address,
                            c->timeout_ms);
        if (errno != EINTR)
            return sac_fail(err, SAC_IO, "waiting for %s: %s", c->address, strerror(errno));
    }
}

static sac_status connect_socket(sac_client *c, const struct sockaddr *to, socklen_t size, sac_error *err)
{
    int failure = 0;
    socklen_t failure_size = sizeof failure;

    c->fd = socket(to->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->fd < 0)
        return sac_fail(err, SAC_IO, "opening a socket: %s", strerror(errno));
    if (connect(c->fd, to, size) == 0)
        return SAC_OK;
    if (errno == EINPROGRESS) {
        sac_status st = wait_ready(c, POLLOUT, now_ms() + c->timeout_ms, err);
        if (st != SAC_OK)
            return st;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &failure, &failure_size);
    } else {
        failure = errno;
    }
    if (failure != 0)
        return sac_fail(err, SAC_UNAVAILABLE, "no server at %s: %s (saccade serve starts one)", c->address,
                        strerror(failure));
    return SAC_OK;
}

static sac_status connect_unix(sac_client *c, const char *path, sac_error *err)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};

    if (path[0] == '\0' || strlen(path) >= sizeof to.sun_path)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "unix:PATH wants a path of 1 to %zu bytes",
                        sizeof to.sun_path - 1);
    memcpy(to.sun_path, path, strlen(path) + 1);
    return connect_socket(c, (const struct sockaddr *)&to, sizeof to, err);
}

/* "127.0.0.1:7700" -> host and port; an IPv6 address stands in brackets. */
static bool split_address(const char *address, char *host, size_t host_size, const char **port)
{
    const char *colon = strrchr(address, ':');
    size_t size;

    if (colon == NULL || colon == address || colon[1] == '\0' ||
        strspn(colon + 1, "0123456789") != strlen(colon + 1))
        return false;
    size = (size_t)(colon - address);
    if (address[0] == '[') {
        if (size < 3 || address[size - 1] != ']')
            return false;
        address++;
        size -= 2;
    }
    if (size >= host_size || memchr(address, '[', size) != NULL)
        return false;
    memcpy(host, address, size);
    host[size] = '\0';
    *port = colon + 1;
    return true;
}

static sac_status connect_tcp(sac_client *c, sac_error *err)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found = NULL;
    char host[256];
    const char *port;
    sac_status st = SAC_UNAVAILABLE;
    int code;

    if (!split_address(c->address, host, sizeof host, &port))
        return sac_fail(err, SAC_INVALID_ARGUMENT,
                        "%s is no address: 127.0.0.1:7700, [::1]:7700 or unix:PATH", c->address);
    code = getaddrinfo(host, port, &hints, &found);
    if (code != 0)
        return sac_fail(err, SAC_UNAVAILABLE, "address %s: %s", c->address, gai_strerror(code));
    for (struct addrinfo *a = found; a != NULL; a = a->ai_next) {
        st = connect_socket(c, a->ai_addr, a->ai_addrlen, err);
        if (st == SAC_OK)
            break;
        if (c->fd >= 0)
            close(c->fd);
        c->fd = -1;
    }
    freeaddrinfo(found);
    return st;
}

sac_status sac_client_open(const char *address, uint32_t timeout_ms, sac_client **out, sac_error *err)
{
    sac_client *c = calloc(1, sizeof *c);
    sac_status st;

    *out = NULL;
    if (c == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for a client");
    c->fd = -1;
    c->timeout_ms = timeout_ms;
    c->address = strdup(address);
    msgpack_unpacked_init(&c->answer);
    if (c->address == NULL)
        st = sac_fail(err, SAC_NO_MEMORY, "no memory for a client");
    else if (strncmp(address, "unix:", 5) == 0)
        st = connect_unix(c, address + 5, err);
    else
        st = connect_tcp(c, err);
    if (st == SAC_OK)
        *out = c;
    else
        sac_client_close(c);
    return st;
}

void sac_client_close(sac_client *c)
{
    if (c == NULL)
        return;
    if (c->fd >= 0)
        close(c->fd);
    msgpack_unpacked_destroy(&c->answer);
    free(c->bytes);
    free(c->address);
    free(c);
}

/* ---- one call ---------------------------------------------------------------------------------------- */

static sac_status send_all(sac_client *c, const void *bytes, size_t size, uint64_t deadline_ms,
                           sac_error *err)
{
    const uint8_t *at = bytes;

    while (size > 0) {
        ssize_t n = send(c->fd, at, size, MSG_NOSIGNAL);
        if (n > 0) {
            at += n;
            size -= (size_t)n;
        } else if (n < 0 && errno == EAGAIN) {
            sac_status st = wait_ready(c, POLLOUT, deadline_ms, err);
            if (st != SAC_OK)
                return st;
        } else if (n < 0 && errno != EINTR) {
            return sac_fail(err, SAC_UNAVAILABLE, "the connection to %s broke: %s", c->address,
                            strerror(errno));
        }
    }
    return SAC_OK;
}

static sac_status receive_some(sac_client *c, uint64_t deadline_ms, sac_error *err)
{
    if (c->size == c->capacity) {
        size_t capacity = c->capacity == 0 ? 64u << 10 : 2 * c->capacity;
        uint8_t *grown = realloc(c->bytes, capacity);
        if (grown == NULL)
            return sac_fail(err, SAC_NO_MEMORY, "no memory for an answer of %zu bytes", capacity);
        c->bytes = grown;
        c->capacity = capacity;
    }
    for (;;) {
        ssize_t n = recv(c->fd, c->bytes + c->size, c->capacity - c->size, 0);
        if (n > 0) {
            c->size += (size_t)n;
            return SAC_OK;
        }
        if (n == 0)
            return sac_fail(err, SAC_UNAVAILABLE, "%s closed the connection", c->address);
        if (errno == EAGAIN) {
            sac_status st = wait_ready(c, POLLIN, deadline_ms, err);
            if (st != SAC_OK)
                return st;
        } else if (errno != EINTR) {
            return sac_fail(err, SAC_UNAVAILABLE, "the connection to %s broke: %s", c->address,
                            strerror(errno));
        }
    }
}

/* Reads one whole value; the scanner looks at it before the unpacker takes memory on its word. */
static sac_status receive_answer(sac_client *c, uint64_t deadline_ms, sac_error *err)
{
    struct sac_scan scan;
    enum sac_scan_verdict verdict = SAC_SCAN_MORE;
    size_t scanned = 0, offset = 0;

    sac_scan_init(&scan, &answer_limits);
    c->size = 0;
    while (verdict == SAC_SCAN_MORE) {
        size_t used = 0;
        sac_status st = receive_some(c, deadline_ms, err);
        if (st != SAC_OK)
            return st;
        verdict = sac_scan_feed(&scan, c->bytes + scanned, c->size - scanned, &used);
        scanned += used;
    }
    msgpack_unpacked_destroy(&c->answer);
    if (verdict != SAC_SCAN_DONE || scanned != c->size ||
        msgpack_unpack_next(&c->answer, (const char *)c->bytes, c->size, &offset) != MSGPACK_UNPACK_SUCCESS)
        return sac_fail(err, SAC_MALFORMED,
                        "%s answers with something else than MessagePack-RPC: is it saccade?", c->address);
    return SAC_OK;
}

/* "NOT_FOUND: no collection x" -> the status and the words after it. */
static sac_status remote_error(const msgpack_object *error, sac_error *err)
{
    static const struct {
        const char *name;
        sac_status status;
    } names[] = {
#define X(name, value, text) {#name, SAC_##name},
        SAC_STATUS_MAP(X)
#undef X
    };
    const char *text = error->via.str.ptr;
    size_t size = error->via.str.size;

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t n = strlen(names[i].name);
        if (size > n + 2 && memcmp(text, names[i].name, n) == 0 && memcmp(text + n, ": ", 2) == 0)
            return sac_fail(err, names[i].status, "%.*s", (int)(size - n - 2), text + n + 2);
    }
    return sac_fail(err, SAC_INTERNAL, "%.*s", (int)size, text);
}

static sac_status read_answer(const sac_client *c, uint32_t id, const msgpack_object **result, sac_error *err)
{
    const msgpack_object *o = &c->answer.data, *part = o->via.array.ptr;

    if (o->type != MSGPACK_OBJECT_ARRAY || o->via.array.size != 4 ||
        part[0].type != MSGPACK_OBJECT_POSITIVE_INTEGER || part[0].via.u64 != 1 ||
        part[1].type != MSGPACK_OBJECT_POSITIVE_INTEGER || part[1].via.u64 != id)
        return sac_fail(err, SAC_MALFORMED, "%s sent something else than the answer: is it saccade?",
                        c->address);
    if (part[2].type == MSGPACK_OBJECT_STR)
        return remote_error(&part[2], err);
    if (part[2].type != MSGPACK_OBJECT_NIL)
        return sac_fail(err, SAC_MALFORMED, "%s sent an error that is no string", c->address);
    *result = &part[3];
    return SAC_OK;
}

sac_status sac_client_call(sac_client *c, const char *method, const msgpack_sbuffer *fields,
                           const msgpack_object **result, sac_error *err)
{
    uint64_t deadline_ms = now_ms() + c->timeout_ms;
    uint32_t id = c->next_id++;
    msgpack_sbuffer head;
    msgpack_packer pack;
    sac_status st;

    *result = NULL;
    msgpack_sbuffer_init(&head);
    msgpack_packer_init(&pack, &head, msgpack_sbuffer_write);
    msgpack_pack_array(&pack, 4);
    msgpack_pack_uint8(&pack, 0);
    msgpack_pack_uint32(&pack, id);
    msgpack_pack_str_with_body(&pack, method, strlen(method));
    msgpack_pack_array(&pack, 1);
    st = send_all(c, head.data, head.size, deadline_ms, err);
    msgpack_sbuffer_destroy(&head);
    if (st == SAC_OK)
        st = send_all(c, fields->data, fields->size, deadline_ms, err);
    if (st == SAC_OK)
        st = receive_answer(c, deadline_ms, err);
    return st == SAC_OK ? read_answer(c, id, result, err) : st;
}
