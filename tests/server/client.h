/* client.h -- a server inside the test, and clients that speak to it over its socket. */
#ifndef SACCADE_TESTS_CLIENT_H
#define SACCADE_TESTS_CLIENT_H

#include "server/server.h"
#include "server/wire.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct test_server {
    sac_server *server;
    pthread_t thread;
};

static inline void *test_server_thread(void *argument)
{
    sac_server_loop(argument);
    return NULL;
}

static inline void test_server_start(struct test_server *s, struct sac_server_config *config)
{
    sac_error err;

    config->port = config->http_port = 0;
    config->log_level = SAC_LOG_ERROR;
    if (sac_server_open(config, &s->server, &err) != SAC_OK)
        fail_msg("%s", err.text);
    assert_int_equal(pthread_create(&s->thread, NULL, test_server_thread, s->server), 0);
}

static inline void test_server_end(struct test_server *s)
{
    sac_server_stop(s->server);
    pthread_join(s->thread, NULL);
    sac_server_close(s->server);
}

static inline int client_connect_port(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct timeval patience = {.tv_sec = 20};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return fd;
}

/* One connection. A request is begun, its fields are packed, and it is sent; answers are read in the order
 * they come. */
struct client {
    int fd;
    msgpack_sbuffer out;
    msgpack_packer packer;
    char in[1 << 20];
    size_t in_size, in_used;  /* of them, by the last answer */
    msgpack_unpacked message; /* the last answer */
    uint32_t msgid;           /* its parts */
    char error[1024];         /* "": none */
    msgpack_object result;
};

static inline void client_open(struct client *c, const struct test_server *s)
{
    c->fd = client_connect_port(sac_server_where(s->server)->port);
    c->in_size = c->in_used = 0;
    msgpack_sbuffer_init(&c->out);
    msgpack_packer_init(&c->packer, &c->out, msgpack_sbuffer_write);
    msgpack_unpacked_init(&c->message);
}

static inline void client_close(struct client *c)
{
    close(c->fd);
    msgpack_sbuffer_destroy(&c->out);
    msgpack_unpacked_destroy(&c->message);
}

/* Begins a request whose map will have `fields` pairs. */
static inline void client_begin(struct client *c, uint32_t msgid, const char *method, uint32_t fields)
{
    msgpack_pack_array(&c->packer, 4);
    msgpack_pack_uint8(&c->packer, 0);
    msgpack_pack_uint32(&c->packer, msgid);
    sac_pack_text(&c->packer, method);
    msgpack_pack_array(&c->packer, 1);
    msgpack_pack_map(&c->packer, fields);
}

/* Sends what was packed; false when the connection is gone. */
static inline bool client_send(struct client *c)
{
    size_t at = 0;

    while (at < c->out.size) {
        ssize_t n = send(c->fd, c->out.data + at, c->out.size - at, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        at += (size_t)n;
    }
    msgpack_sbuffer_clear(&c->out);
    return true;
}

/* Waits for the next answer, valid until the next call; false when the connection ended. */
static inline bool client_receive(struct client *c)
{
    c->in_size -= c->in_used;
    memmove(c->in, c->in + c->in_used, c->in_size);
    c->in_used = 0;
    for (;;) {
        msgpack_unpack_return ret = msgpack_unpack_next(&c->message, c->in, c->in_size, &c->in_used);
        if (ret == MSGPACK_UNPACK_SUCCESS)
            break;
        assert_int_equal(ret, MSGPACK_UNPACK_CONTINUE);
        ssize_t n;
        do /* the loop's thread may own an io_uring that was made on this one: its work interrupts us */
            n = recv(c->fd, c->in + c->in_size, sizeof c->in - c->in_size, 0);
        while (n < 0 && errno == EINTR);
        c->in_used = 0;
        if (n <= 0)
            return false;
        c->in_size += (size_t)n;
    }
    const msgpack_object *parts = c->message.data.via.array.ptr;
    assert_int_equal(c->message.data.via.array.size, 4);
    assert_int_equal(parts[0].via.u64, 1);
    c->msgid = (uint32_t)parts[1].via.u64;
    c->error[0] = '\0';
    if (parts[2].type == MSGPACK_OBJECT_STR)
        snprintf(c->error, sizeof c->error, "%.*s", (int)parts[2].via.str.size, parts[2].via.str.ptr);
    else
        assert_int_equal(parts[2].type, MSGPACK_OBJECT_NIL);
    c->result = parts[3];
    return true;
}

/* The value of a field of the last result; fails the test where there is none. */
static inline const msgpack_object *client_field(const struct client *c, const char *name)
{
    assert_int_equal(c->result.type, MSGPACK_OBJECT_MAP);
    for (uint32_t i = 0; i < c->result.via.map.size; i++) {
        const msgpack_object_kv *kv = &c->result.via.map.ptr[i];
        if (kv->key.via.str.size == strlen(name) && memcmp(kv->key.via.str.ptr, name, strlen(name)) == 0)
            return &kv->val;
    }
    fail_msg("no field %s", name);
    return NULL;
}

static inline bool client_failed_with(const struct client *c, const char *code)
{
    return strncmp(c->error, code, strlen(code)) == 0 && c->error[strlen(code)] == ':';
}

static inline double test_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static inline void test_sleep_ms(unsigned ms)
{
    nanosleep(&(struct timespec){ms / 1000, (long)(ms % 1000) * 1000000}, NULL);
}

#endif
