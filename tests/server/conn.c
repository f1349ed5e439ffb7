/* What one client can do to the others: nothing. Limits of connections, with a server inside the test whose
 * limits are short enough to be waited for. */
#include "tests/server/client.h"
#include "tests/server/fake_engine.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>

static struct test_server server;
static struct sac_server_config config;

static int setup(void **state)
{
    (void)state;
    memset(&fake_engine, 0, sizeof fake_engine);
    sac_server_config_init(&config);
    config.data = "/nowhere";
    config.limits.message_ms = 700;
    config.limits.idle_ms = 600;
    config.limits.write_stall_ms = 500;
    config.limits.connections = 40;
    config.limits.output_soft_bytes = 64 << 10;
    config.limits.output_hard_bytes = 256 << 10;
    config.limits.request_bytes = 4 << 20;
    config.limits.drain_ms = 500;
    test_server_start(&server, &config);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    test_server_end(&server);
    return 0;
}

static int connect_raw(void)
{
    return client_connect_port(sac_server_where(server.server)->port);
}

static void send_bytes(int fd, const void *bytes, size_t n)
{
    assert_int_equal(send(fd, bytes, n, MSG_NOSIGNAL), n);
}

/* Reads until the server closes or `ms` pass; returns how many bytes came, or -1 when it did not close. */
static ssize_t read_until_closed(int fd, char *out, size_t capacity, int ms)
{
    double end = test_seconds() + ms * 1e-3;
    size_t n = 0;

    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        double left = end - test_seconds();
        if (left <= 0 || poll(&p, 1, (int)(left * 1e3) + 1) == 0)
            return -1;
        ssize_t got = recv(fd, out + n, capacity - 1 - n, 0);
        if (got <= 0) {
            out[n] = '\0';
            return (ssize_t)n;
        }
        n += (size_t)got;
    }
}

/* The server still answers others. */
static void check_alive(void)
{
    struct client c;

    client_open(&c, &server);
    client_begin(&c, 7, "ping", 0);
    assert_true(client_send(&c));
    assert_true(client_receive(&c));
    assert_string_equal(c.error, "");
    client_close(&c);
}

/* /metrics as text; the caller frees it. */
static char *scrape(const char *path)
{
    int fd = client_connect_port(sac_server_where(server.server)->http_port);
    char request[128], *text = malloc(1 << 20);
    int n = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path);

    send_bytes(fd, request, (size_t)n);
    assert_true(read_until_closed(fd, text, 1 << 20, 5000) > 0);
    close(fd);
    return text;
}

static unsigned long metric(const char *name)
{
    char *text = scrape("/metrics"), *at = text;
    unsigned long value = 0;

    while ((at = strstr(at, name)) != NULL) {
        if (at[-1] == '\n' && at[strlen(name)] == ' ') {
            value = strtoul(at + strlen(name), NULL, 10);
            break;
        }
        at++;
    }
    free(text);
    return value;
}

static void test_messages_cut_anywhere(void **state)
{
    struct client c;

    (void)state;
    client_open(&c, &server);
    client_begin(&c, 1, "info", 0);
    client_begin(&c, 2, "nothing", 0);
    client_begin(&c, 3, "search", 1);
    sac_pack_key_text(&c.packer, "collection", "none");
    for (size_t cut = 1; cut < c.out.size; cut++) {
        send_bytes(c.fd, c.out.data, cut);
        if (cut % 8 == 0)
            test_sleep_ms(1);
        send_bytes(c.fd, c.out.data + cut, c.out.size - cut);
        for (int i = 0; i < 3; i++) {
            assert_true(client_receive(&c));
            assert_int_equal(client_failed_with(&c, "UNKNOWN_METHOD"), c.msgid == 2);
            assert_int_equal(client_failed_with(&c, "NOT_FOUND"), c.msgid == 3);
        }
    }
    for (size_t i = 0; i < c.out.size; i++) /* byte by byte */
        send_bytes(c.fd, c.out.data + i, 1);
    for (int i = 0; i < 3; i++)
        assert_true(client_receive(&c));
    client_close(&c);
}

static void test_bombs_close_and_cost_nothing(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *code; /* NULL: closed without a word, for nobody can be addressed */
    } bombs[] = {
        {"\xdd\x10\x00\x00\x00", 5, NULL},
        {"\x94\x00\x05\xa4ping\xdd\x10\x00\x00\x00", 13, "MALFORMED"},
        {"\x94\x00\x05\xa4ping\x91\xdf\x7f\xff\xff\xff", 14, "MALFORMED"},
        {"\x94\x00\x05\xa4ping\x91\xc6\x10\x00\x00\x00", 14, "TOO_LARGE"},
        {"\x94\x00\x05\xa3put\x91\xc6\x7f\x00\x00\x00", 13, "TOO_LARGE"},
        {"\x94\x00\x05\xa4ping\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x90", 19, "MALFORMED"},
        {"\x94\x00\x05\xa4ping\xc1", 9, "MALFORMED"},
        {"\x94\x00\x05\xa4ping\x91\xc7\x01\x01\x00", 13, "MALFORMED"},
        {"\x94\x01\x05\xc0\xc0", 5, NULL},
        {"GET / HTTP/1.1\r\n\r\n", 18, NULL},
    };
    char answer[4096];

    (void)state;
    for (size_t i = 0; i < sizeof bombs / sizeof *bombs; i++) {
        int fd = connect_raw();
        send_bytes(fd, bombs[i].bytes, bombs[i].n);
        ssize_t n = read_until_closed(fd, answer, sizeof answer, 2000);
        assert_true(n >= 0);
        if (bombs[i].code == NULL) {
            assert_int_equal(n, 0);
        } else {
            assert_true(n > 4);
            assert_memory_equal(answer, "\x94\x01\x05", 3);
            assert_non_null(strstr(answer, bombs[i].code));
        }
        close(fd);
    }
    check_alive();
    assert_int_equal(metric("saccade_connections_closed_total{reason=\"malformed\"}"), 8);
    assert_int_equal(metric("saccade_connections_closed_total{reason=\"too_large\"}"), 2);
}

static void test_wrong_shapes_are_answered_and_go_on(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
    } shapes[] = {
        {"\x93\x00\x05\xa4ping", 8},                  /* no params */
        {"\x94\x00\x05\x01\x90", 5},                  /* the method is a number */
        {"\x94\x00\x05\xa4ping\x80", 9},              /* params are a map */
        {"\x94\x00\x05\xa4ping\xc0", 9},              /* or nil */
        {"\x94\x00\x05\xa4ping\x92\x80\x80", 11},     /* two maps */
        {"\x94\x00\x05\xa4ping\x91\x05", 10},         /* a number in place of the map */
        {"\x94\x00\x05\xa4ping\x91\x81\x01\x01", 12}, /* a key that is no string */
        {"\x95\x00\x05\xa4ping\x90\x90", 10},
    };
    struct client c;

    (void)state;
    client_open(&c, &server);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        send_bytes(c.fd, shapes[i].bytes, shapes[i].n);
        assert_true(client_receive(&c));
        assert_int_equal(c.msgid, 5);
        assert_true(client_failed_with(&c, "INVALID_ARGUMENT"));
    }
    send_bytes(c.fd, "\x94\x00\x06\xa4ping\x91\x90", 10); /* an empty array counts as an empty map */
    assert_true(client_receive(&c));
    assert_string_equal(c.error, "");
    client_close(&c);
}

static void test_notifications_are_never_answered(void **state)
{
    struct client c;

    (void)state;
    client_open(&c, &server);
    send_bytes(c.fd, "\x93\x02\xa4nope\x90", 8); /* unknown */
    send_bytes(c.fd, "\x93\x02\xa4ping\x90", 8); /* of no use */
    send_bytes(c.fd,
               "\x93\x02\xa4"
               "drop\x90",
               8); /* carried out, and wrong */
    send_bytes(c.fd,
               "\x93\x02\xa6"
               "cancel\x91\x01",
               11);                          /* nothing to cancel */
    send_bytes(c.fd, "\x93\x02\x05\x90", 4); /* the method is a number */
    client_begin(&c, 9, "stats", 0);
    assert_true(client_send(&c));
    assert_true(client_receive(&c));
    assert_int_equal(c.msgid, 9);
    assert_int_equal(client_field(&c, "notifications")->via.u64, 5);
    client_close(&c);
    assert_int_equal(metric("saccade_notifications_unknown_total"), 3);
}

static void test_slow_senders_are_closed(void **state)
{
    char answer[256];
    int half = connect_raw(), idle = connect_raw();

    (void)state;
    send_bytes(half, "\x94\x00\x05\xa4pi", 6);
    check_alive();
    double start = test_seconds();
    assert_int_equal(read_until_closed(half, answer, sizeof answer, 3000), 0);
    assert_int_equal(read_until_closed(idle, answer, sizeof answer, 3000), 0);
    assert_true(test_seconds() - start > 0.4);
    close(half);
    close(idle);
    assert_int_equal(metric("saccade_connections_closed_total{reason=\"slow_message\"}"), 1);
    assert_int_equal(metric("saccade_connections_closed_total{reason=\"idle\"}"), 1);
}

static void test_slow_readers_are_paused_and_reset(void **state)
{
    struct client c;
    char *many;
    size_t sent = 0;
    const size_t each = 9, n = 40000;

    (void)state;
    client_open(&c, &server);
    many = malloc(n * each);
    for (size_t i = 0; i < n; i++)
        memcpy(many + i * each, "\x94\x00\x05\xa4info\x90", each); /* answers of a kilobyte */
    int small = 4096;
    setsockopt(c.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    fcntl(c.fd, F_SETFL, O_NONBLOCK);
    double end = test_seconds() + 3;
    bool reset = false;
    while (test_seconds() < end && !reset) {
        ssize_t k = send(c.fd, many + sent, n * each - sent, MSG_NOSIGNAL);
        if (k > 0)
            sent = (sent + (size_t)k) % (n * each);
        else if (errno != EAGAIN)
            reset = true;
        assert_true(metric("saccade_output_queue_bytes") < 512 << 10);
        test_sleep_ms(20);
    }
    assert_true(reset);
    assert_int_equal(metric("saccade_connections_closed_total{reason=\"slow_reader\"}") +
                         metric("saccade_connections_closed_total{reason=\"output_full\"}"),
                     1);
    free(many);
    client_close(&c);
    check_alive();
}

static void test_a_client_that_pipelines_is_held_to_its_share(void **state)
{
    struct client c;

    (void)state;
    client_open(&c, &server);
    client_begin(&c, 0, "create", 2);
    sac_pack_key_text(&c.packer, "collection", "c");
    sac_pack_key_uint(&c.packer, "dim", 4);
    assert_true(client_send(&c));
    assert_true(client_receive(&c));
    fake_engine.search_ms = 20;
    for (uint32_t i = 0; i < 300; i++) {
        client_begin(&c, i, "search", 3);
        sac_pack_key_text(&c.packer, "collection", "c");
        sac_pack_key_uint(&c.packer, "timeout_ms", 30000);
        sac_pack_text(&c.packer, "vector");
        msgpack_pack_array(&c.packer, 4);
        for (int d = 0; d < 4; d++)
            msgpack_pack_int(&c.packer, d);
    }
    assert_true(client_send(&c));
    for (int i = 0; i < 300; i++) {
        assert_true(client_receive(&c));
        assert_string_equal(c.error, "");
        if (i % 50 == 10)
            assert_true(metric("saccade_requests_in_flight") <= config.limits.in_flight);
    }
    client_close(&c);
}

static void test_connections_over_the_cap_are_closed(void **state)
{
    int fds[60], open = 0;
    char answer[64];

    (void)state;
    for (int i = 0; i < 60; i++)
        fds[i] = connect_raw();
    for (int i = 0; i < 60; i++) {
        if (send(fds[i], "\x94\x00\x05\xa4ping\x90", 9, MSG_NOSIGNAL) == 9 &&
            recv(fds[i], answer, sizeof answer, 0) == 9)
            open++;
    }
    assert_int_equal(open, 40);
    assert_int_equal(metric("saccade_connections_closed_total{reason=\"connection_limit\"}"), 20);
    for (int i = 0; i < 60; i++)
        close(fds[i]);
    test_sleep_ms(50);
    check_alive();
}

/* Clients that begin large messages and never end them: what they hold stays near the limit. */
static void test_request_memory_is_bounded(void **state)
{
    enum { CLIENTS = 12 };
    int fds[CLIENTS];
    size_t held = 0;
    char *block = calloc(1, 1 << 20);

    (void)state;
    for (int i = 0; i < CLIENTS; i++) {
        fds[i] = connect_raw();
        send_bytes(fds[i], "\x94\x00\x05\xa3put\x91\xc6\x00\x80\x00\x00", 13); /* 8 MiB to come */
        fcntl(fds[i], F_SETFL, O_NONBLOCK);
    }
    double end = test_seconds() + 0.4;
    while (test_seconds() < end)
        for (int i = 0; i < CLIENTS; i++) {
            ssize_t n = send(fds[i], block, 1 << 20, MSG_NOSIGNAL);
            held += n > 0 ? (size_t)n : 0;
        }
    check_alive();
    assert_true(metric("saccade_read_bytes_total") < 16 << 20); /* without a limit: 96 MiB */
    assert_true(held > 4 << 20);
    for (int i = 0; i < CLIENTS; i++)
        close(fds[i]);
    free(block);
}

static void test_clients_that_vanish(void **state)
{
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};

    (void)state;
    for (int i = 0; i < 200; i++) {
        int fd = connect_raw();
        for (int j = 0; j < i % 20; j++) /* some are refused: the cap is 40 */
            send(fd, "\x94\x00\x05\xa4info\x90", 9, MSG_NOSIGNAL);
        if (i % 3 == 0)
            send(fd, "\x94\x00", 2, MSG_NOSIGNAL);
        if (i % 2 == 0)
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        close(fd);
    }
    test_sleep_ms(100);
    check_alive();
}

static void test_pages(void **state)
{
    static const struct {
        const char *path, *status;
    } pages[] = {{"/livez", "200 OK"},   {"/readyz", "200 OK"}, {"/healthz?v=1", "200 OK"},
                 {"/metrics", "200 OK"}, {"/", "404"},          {"/../etc/passwd", "404"}};
    static const char *const bad[] = {"POST /livez HTTP/1.1\r\n\r\n", "\r\n\r\n", "GET\r\n\r\n",
                                      "GET /livez FTP/1\r\n\r\n"};
    char answer[4096];

    (void)state;
    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++) {
        char *text = scrape(pages[i].path);
        assert_memory_equal(text, "HTTP/1.1 ", 9);
        assert_memory_equal(text + 9, pages[i].status, strlen(pages[i].status));
        free(text);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int fd = client_connect_port(sac_server_where(server.server)->http_port);
        send_bytes(fd, bad[i], strlen(bad[i]));
        assert_true(read_until_closed(fd, answer, sizeof answer, 2000) > 0);
        assert_memory_equal(answer, "HTTP/1.1 40", 11);
        close(fd);
    }
}

static void test_configuration_is_checked(void **state)
{
    struct sac_server_config c;
    sac_server *out;
    sac_error err;

    (void)state;
    sac_server_config_init(&c);
    c.log_level = SAC_LOG_ERROR;
    assert_int_equal(sac_server_open(&c, &out, &err), SAC_INVALID_ARGUMENT);
    c.data = "/nowhere";
    c.host = "0.0.0.0";
    assert_int_equal(sac_server_open(&c, &out, &err), SAC_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "reachable from other machines"));
    c.host = "localhost";
    assert_int_equal(sac_server_open(&c, &out, &err), SAC_INVALID_ARGUMENT);
    c.host = "127.0.0.1";
    c.limits.depth = 17;
    assert_int_equal(sac_server_open(&c, &out, &err), SAC_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "limits.depth is 17"));
    c.limits.depth = 8;
    c.port = sac_server_where(server.server)->port;
    assert_int_equal(sac_server_open(&c, &out, &err), SAC_IO);
    assert_null(out);
}

static void test_drain_is_cut_for_clients_that_never_read(void **state)
{
    struct client c;

    (void)state;
    client_open(&c, &server);
    fake_engine.search_ms = 0;
    for (int i = 0; i < 2000; i++)
        client_begin(&c, 5, "info", 0);
    fcntl(c.fd, F_SETFL, O_NONBLOCK);
    client_send(&c);
    test_sleep_ms(100);
    double start = test_seconds();
    sac_server_stop(server.server);
    pthread_join(server.thread, NULL);
    sac_server_close(server.server);
    assert_true(test_seconds() - start < 2);
    client_close(&c);
    setup(NULL); /* for the teardown */
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_messages_cut_anywhere),
        T(test_bombs_close_and_cost_nothing),
        T(test_wrong_shapes_are_answered_and_go_on),
        T(test_notifications_are_never_answered),
        T(test_slow_senders_are_closed),
        T(test_slow_readers_are_paused_and_reset),
        T(test_a_client_that_pipelines_is_held_to_its_share),
        T(test_connections_over_the_cap_are_closed),
        T(test_request_memory_is_bounded),
        T(test_clients_that_vanish),
        T(test_pages),
        T(test_configuration_is_checked),
        T(test_drain_is_cut_for_clients_that_never_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
