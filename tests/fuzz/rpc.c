/* Bytes of a client against a whole server over a fake engine.
 *
 * The first byte of an input chooses: 0 to 11 begin a request of that method whose rest is its params; 12 to
 * 23 the same with a map that already names a collection that is there; any other sends the rest as it is.
 * The second byte says where the bytes are cut in two, and how many more fields the map has. A server that no
 * longer answers a ping is a finding, as is whatever the sanitizers see. */
#include "server/server.h"
#include "tests/server/fake_engine.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static const char *const methods[] = {"ping", "info",  "create", "drop",   "list",  "put",
                                      "get",  "count", "delete", "search", "embed", "stats"};
enum { METHODS = sizeof methods / sizeof *methods };

static sac_server *server;

static void *serve(void *unused)
{
    (void)unused;
    sac_server_loop(server);
    return NULL;
}

static void start(void)
{
    struct sac_server_config config;
    pthread_t thread;
    sac_error err;

    sac_server_config_init(&config);
    config.data = "/nowhere";
    config.port = 0;
    config.http = false;
    config.log_level = SAC_LOG_ERROR;
    config.limits.images = 4;
    if (sac_server_open(&config, &server, &err) != SAC_OK ||
        pthread_create(&thread, NULL, serve, NULL) != 0) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    pthread_detach(thread);
}

static int connect_server(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(sac_server_where(server)->port)};
    const struct linger reset = {.l_onoff = 1}; /* or closed ports would pile up */
    struct timeval patience = {.tv_sec = 5};
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        abort();
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return fd;
}

static void send_all(int fd, const void *bytes, size_t n)
{
    while (n > 0) {
        ssize_t k = send(fd, bytes, n, MSG_NOSIGNAL);
        if (k <= 0)
            return;
        bytes = (const char *)bytes + k;
        n -= (size_t)k;
    }
}

/* An answer of the server on a connection that stays. */
static void check_answer(const void *request, size_t n, size_t answer)
{
    static int fd = -1;
    char in[256];
    size_t got = 0;

    if (fd < 0)
        fd = connect_server();
    send_all(fd, request, n);
    while (got < answer) {
        ssize_t k = recv(fd, in, sizeof in, 0);
        if (k <= 0)
            abort();
        got += (size_t)k;
    }
}

static void make_collection(void)
{
    static const char create[] = "\x94\x00\x01\xa6"
                                 "create\x91\x82\xaa"
                                 "collection\xa1"
                                 "c\xa5model\xa7"
                                 "builtin";

    check_answer(create, sizeof create - 1, 20);
}

/* Begins a request of a method, up to its params or into their map. */
static size_t begin(uint8_t *out, size_t capacity, uint8_t choice, uint8_t fields)
{
    const char *method = methods[choice % METHODS];
    size_t n =
        (size_t)snprintf((char *)out, capacity, "\x94%c%c%c%s", 0, 5, 0xa0 | (int)strlen(method), method);

    if (choice >= METHODS)
        n += (size_t)snprintf((char *)out + n, capacity - n, "\x91%c\xaa%s\xa1%s", 0x81 + fields % 4,
                              "collection", "c");
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static bool made;
    uint8_t message[4096 + 64];
    size_t n = 0;

    if (server == NULL)
        start();
    if (size < 2 || size > 4096)
        return 0;
    if (!made)
        make_collection();
    made = bytes[0] < 2 * METHODS && strcmp(methods[bytes[0] % METHODS], "drop") != 0;
    if (bytes[0] < 2 * METHODS)
        n = begin(message, 64, bytes[0], bytes[1]);
    memcpy(message + n, bytes + 2, size - 2);
    n += size - 2;
    size_t cut = n * bytes[1] / 256;
    int fd = connect_server();
    send_all(fd, message, cut);
    send_all(fd, message + cut, n - cut);
    char in[256]; /* a moment for the answer: of a message that is not complete there is none */
    const struct timeval moment = {.tv_usec = 300};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &moment, sizeof moment);
    recv(fd, in, sizeof in, 0);
    close(fd);
    check_answer("\x94\x00\x7b\xa4ping\x90", 9, 9);
    return 0;
}
