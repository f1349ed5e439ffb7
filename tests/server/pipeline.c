/* Batching, deadlines, overload, cancelling, grouping of writes and draining, over a fake engine whose
 * slowness the tests choose. */
#include "tests/server/client.h"
#include "tests/server/fake_engine.h"

#include <string.h>

static struct test_server server;
static struct sac_server_config config;

static void one_request(struct client *c, const char *method, const char *collection, const char *model)
{
    client_begin(c, 0, method, model != NULL ? 2 : 1);
    sac_pack_key_text(&c->packer, "collection", collection);
    if (model != NULL)
        sac_pack_key_text(&c->packer, "model", model);
    assert_true(client_send(c));
    assert_true(client_receive(c));
    assert_string_equal(c->error, "");
}

/* A fresh server with one collection of pictures, "c". */
static int setup(void **state)
{
    struct client c;

    (void)state;
    memset(&fake_engine, 0, sizeof fake_engine);
    sac_server_config_init(&config);
    config.data = "/nowhere";
    config.search_threads = 1;
    test_server_start(&server, &config);
    client_open(&c, &server);
    one_request(&c, "create", "c", "builtin");
    one_request(&c, "count", "c", NULL); /* opens it */
    client_close(&c);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    test_server_end(&server);
    return 0;
}

static void pack_vector(struct client *c, float first)
{
    msgpack_pack_array(&c->packer, 4);
    msgpack_pack_float(&c->packer, first);
    for (int i = 0; i < 3; i++)
        msgpack_pack_int(&c->packer, 0);
}

static void ask_vector(struct client *c, uint32_t msgid, float first, uint32_t timeout_ms)
{
    client_begin(c, msgid, "search", 3);
    sac_pack_key_text(&c->packer, "collection", "c");
    sac_pack_key_uint(&c->packer, "timeout_ms", timeout_ms);
    sac_pack_text(&c->packer, "vector");
    pack_vector(c, first);
}

static void ask_image(struct client *c, uint32_t msgid, const char *image)
{
    client_begin(c, msgid, "search", 2);
    sac_pack_key_text(&c->packer, "collection", "c");
    sac_pack_text(&c->packer, "image");
    msgpack_pack_bin_with_body(&c->packer, image, strlen(image));
}

static void put_vector(struct client *c, uint32_t msgid, uint64_t id, float first)
{
    client_begin(c, msgid, "put", 2);
    sac_pack_key_text(&c->packer, "collection", "c");
    sac_pack_text(&c->packer, "items");
    msgpack_pack_array(&c->packer, 1);
    msgpack_pack_map(&c->packer, 2);
    sac_pack_key_uint(&c->packer, "id", id);
    sac_pack_text(&c->packer, "vector");
    pack_vector(c, first);
}

/* Receives n answers and counts those without an error, each msgid 1..n exactly once. */
static unsigned receive_all(struct client *c, unsigned n)
{
    unsigned good = 0;
    bool seen[1024] = {false};

    for (unsigned i = 0; i < n; i++) {
        assert_true(client_receive(c));
        assert_in_range(c->msgid, 1, n);
        assert_false(seen[c->msgid]);
        seen[c->msgid] = true;
        good += c->error[0] == '\0';
    }
    return good;
}

static void test_searches_share_a_batch(void **state)
{
    struct client c;

    (void)state;
    client_open(&c, &server);
    fake_engine.search_ms = 30;
    for (uint32_t i = 1; i <= 40; i++)
        ask_vector(&c, i, (float)i, 5000);
    double start = test_seconds();
    assert_true(client_send(&c));
    assert_int_equal(receive_all(&c, 40), 40);
    assert_true(test_seconds() - start < 1); /* one by one it would be 1.2 s */
    assert_int_equal(fake_engine.search_queries, 40);
    assert_in_range(fake_engine.search_calls, 1, 12);
    assert_in_range(fake_engine.search_queries_max, 8, 40);
    client_close(&c);
}

static void test_a_bad_query_does_not_spoil_its_batch(void **state)
{
    struct client c;

    (void)state;
    client_open(&c, &server);
    fake_engine.search_ms = 30;
    for (uint32_t i = 1; i <= 10; i++)
        ask_vector(&c, i, i == 7 ? 666 : 1, 5000);
    assert_true(client_send(&c));
    for (int i = 0; i < 10; i++) {
        assert_true(client_receive(&c));
        assert_int_equal(client_failed_with(&c, "INVALID_ARGUMENT"), c.msgid == 7);
    }
    client_close(&c);
}

static void test_pictures_share_a_batch(void **state)
{
    struct client c;

    (void)state;
    client_open(&c, &server);
    fake_engine.embed_ms = 30;
    for (uint32_t i = 1; i <= 30; i++)
        ask_image(&c, i, i == 5 ? "Xdamaged" : "picture");
    assert_true(client_send(&c));
    for (int i = 0; i < 30; i++) {
        assert_true(client_receive(&c));
        assert_int_equal(client_failed_with(&c, "IMAGE_CORRUPT"), c.msgid == 5);
    }
    assert_int_equal(fake_engine.embed_rows, 29);
    assert_in_range(fake_engine.embed_rows_max, 5, 29);
    client_close(&c);
}

/* What was asked for comes back, whoever else was in the batch: item i is picture i. */
static void expect_nearest(const struct client *c, uint64_t id)
{
    const msgpack_object *hits = client_field(c, "hits");
    const msgpack_object_map *best = &hits->via.array.ptr[0].via.map;

    assert_int_equal(best->ptr[0].val.via.u64, id);
    assert_true(best->ptr[2].val.via.f64 == 0);
}

static void put_letters(struct client *c, uint32_t n)
{
    client_begin(c, 1, "put", 2);
    sac_pack_key_text(&c->packer, "collection", "c");
    sac_pack_text(&c->packer, "items");
    msgpack_pack_array(&c->packer, n);
    for (uint32_t i = 0; i < n; i++) {
        const char letter[2] = {(char)('a' + i), '\0'};
        msgpack_pack_map(&c->packer, 2);
        sac_pack_key_uint(&c->packer, "id", i);
        sac_pack_key_text(&c->packer, "image", letter);
    }
    assert_true(client_send(c));
    assert_true(client_receive(c));
    assert_string_equal(c->error, "");
}

static void ask_letters(struct client *c, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const char letter[2] = {(char)('a' + i), '\0'};
        ask_image(c, i, letter);
    }
    assert_true(client_send(c));
    for (uint32_t i = 0; i < n; i++) {
        assert_true(client_receive(c));
        assert_string_equal(c->error, "");
        expect_nearest(c, c->msgid);
    }
}

static void test_pictures_are_embedded_and_searched_at_once(void **state)
{
    struct client c;

    (void)state;
    client_open(&c, &server);
    put_letters(&c, 20);
    ask_letters(&c, 20);
    assert_int_equal(fake_engine.joint_calls, 0); /* two devices */
    fake_engine.one_device = 1;
    fake_engine.embed_ms = 20;
    fake_engine.embed_rows = fake_engine.search_queries = 0;
    ask_letters(&c, 20);
    assert_in_range(fake_engine.joint_calls, 1, 10);
    assert_int_equal(fake_engine.embed_rows, 20);
    assert_int_equal(fake_engine.search_queries, 20);
    client_close(&c);
}

/* Whose fault it was is found out in two calls. */
static void test_a_joint_call_that_fails_is_made_in_two(void **state)
{
    struct client c;

    (void)state;
    client_open(&c, &server);
    put_letters(&c, 5);
    fake_engine.one_device = 1;
    fake_engine.joint_fails = 100;
    ask_letters(&c, 5);
    assert_int_equal(fake_engine.joint_calls, 0);
    assert_in_range(fake_engine.joint_fails, 95, 99);
    client_close(&c);
}

/* A search that takes longer than a slice of the embed stage is left to its own stage. */
static void test_a_long_search_does_not_hold_up_embedding(void **state)
{
    struct client c;

    (void)state;
    client_open(&c, &server);
    put_letters(&c, 3);
    fake_engine.one_device = 1;
    fake_engine.search_ms = 150;
    ask_vector(&c, 1, 1, 5000);
    assert_true(client_send(&c));
    assert_int_equal(receive_all(&c, 1), 1); /* teaches how long it takes */
    ask_letters(&c, 3);
    assert_int_equal(fake_engine.joint_calls, 0);
    client_close(&c);
}

static void put_pictures(struct client *c, uint32_t n)
{
    client_begin(c, 1, "put", 2);
    sac_pack_key_text(&c->packer, "collection", "c");
    sac_pack_text(&c->packer, "items");
    msgpack_pack_array(&c->packer, n);
    for (uint32_t i = 0; i < n; i++) {
        msgpack_pack_map(&c->packer, 2);
        sac_pack_key_uint(&c->packer, "id", i);
        sac_pack_key_text(&c->packer, "image", "picture");
    }
    assert_true(client_send(c));
    assert_true(client_receive(c));
    assert_string_equal(c->error, "");
    assert_int_equal(client_field(c, "stored")->via.u64, n);
}

static void test_a_large_put_is_embedded_in_slices(void **state)
{
    struct client c;

    (void)state;
    client_open(&c, &server);
    fake_engine.embed_each_ms = 25;
    put_pictures(&c, 1); /* two sizes teach how slow the encoder is */
    put_pictures(&c, 2);
    fake_engine.embed_calls = fake_engine.embed_rows_max = 0;
    put_pictures(&c, 12);
    assert_in_range(fake_engine.embed_calls, 3, 12); /* a slice is 100 ms */
    assert_in_range(fake_engine.embed_rows_max, 1, 4);
    client_close(&c);
}

static void test_deadlines(void **state)
{
    struct client c;

    (void)state;
    client_open(&c, &server);
    fake_engine.search_ms = 150;
    ask_vector(&c, 1, 1, 1000);
    assert_true(client_send(&c));
    test_sleep_ms(30); /* it is being searched: the others wait */
    for (uint32_t i = 2; i <= 4; i++)
        ask_vector(&c, i, 1, 50);
    assert_true(client_send(&c));
    for (int i = 0; i < 4; i++) {
        assert_true(client_receive(&c));
        assert_int_equal(client_failed_with(&c, "DEADLINE_EXCEEDED"), c.msgid != 1);
        if (c.msgid != 1)
            assert_non_null(strstr(c.error, "in stage search"));
    }
    assert_int_equal(fake_engine.search_queries, 1); /* nobody worked for answers that are late */
    client_close(&c);
}

static void test_overload_is_refused_at_once(void **state)
{
    struct client c;
    unsigned refused = 0;

    (void)state;
    client_open(&c, &server);
    fake_engine.search_each_ms = 50;
    for (uint32_t n = 1; n <= 4; n += 3) { /* two sizes teach what a search costs */
        for (uint32_t i = 1; i <= n; i++)
            ask_vector(&c, i, 1, 5000);
        assert_true(client_send(&c));
        assert_int_equal(receive_all(&c, n), n);
    }
    for (uint32_t i = 1; i <= 20; i++)
        ask_vector(&c, i, 1, 5000);
    assert_true(client_send(&c));
    for (int i = 0; i < 20; i++) {
        assert_true(client_receive(&c));
        if (c.error[0] == '\0')
            continue;
        assert_true(client_failed_with(&c, "OVERLOADED"));
        assert_non_null(strstr(c.error, "retry_after_ms="));
        assert_int_equal(i, refused); /* before any answer that took work */
        refused++;
    }
    assert_in_range(refused, 10, 19);
    client_close(&c);
}

static void test_a_burst_after_lone_queries_is_let_in(void **state)
{
    struct client c;

    (void)state;
    client_open(&c, &server);
    fake_engine.search_ms = 100;
    for (int i = 0; i < 3; i++) {
        ask_vector(&c, 1, 1, 1000);
        assert_true(client_send(&c));
        assert_int_equal(receive_all(&c, 1), 1);
    }
    for (uint32_t i = 1; i <= 60; i++)
        ask_vector(&c, i, 1, 1000);
    assert_true(client_send(&c));
    assert_int_equal(receive_all(&c, 60), 60);
    client_close(&c);
}

static void test_a_cancelled_request_is_answered_once(void **state)
{
    struct client c;

    (void)state;
    client_open(&c, &server);
    fake_engine.search_ms = 100;
    ask_vector(&c, 1, 1, 5000);
    assert_true(client_send(&c));
    test_sleep_ms(30);
    ask_vector(&c, 2, 1, 5000);
    msgpack_pack_array(&c.packer, 3); /* [2, "cancel", [2]] */
    msgpack_pack_uint8(&c.packer, 2);
    sac_pack_text(&c.packer, "cancel");
    msgpack_pack_array(&c.packer, 1);
    msgpack_pack_uint8(&c.packer, 2);
    ask_vector(&c, 3, 1, 5000);
    assert_true(client_send(&c));
    for (int i = 0; i < 3; i++) {
        assert_true(client_receive(&c));
        assert_int_equal(client_failed_with(&c, "CANCELLED"), c.msgid == 2);
    }
    assert_int_equal(fake_engine.search_queries, 2);
    client_close(&c);
}

static void test_who_leaves_is_not_worked_for(void **state)
{
    struct client c;

    (void)state;
    client_open(&c, &server);
    fake_engine.prepare_ms = 20;
    for (uint32_t i = 1; i <= 40; i++)
        ask_image(&c, i, "picture");
    assert_true(client_send(&c));
    test_sleep_ms(50);
    client_close(&c);
    test_sleep_ms(200);
    assert_in_range(fake_engine.prepare_calls, 1, 16);
    client_open(&c, &server);
    ask_image(&c, 1, "picture");
    assert_true(client_send(&c));
    assert_int_equal(receive_all(&c, 1), 1);
    client_close(&c);
}

static void test_puts_share_a_transaction(void **state)
{
    struct client c;

    (void)state;
    client_open(&c, &server);
    fake_engine.put_ms = 20;
    for (uint32_t i = 1; i <= 40; i++)
        put_vector(&c, i, i, (float)i);
    assert_true(client_send(&c));
    assert_int_equal(receive_all(&c, 40), 40);
    assert_int_equal(fake_engine.put_items, 40);
    assert_in_range(fake_engine.put_calls, 1, 10);
    assert_in_range(fake_engine.put_items_max, 8, 40);
    client_close(&c);
}

static void test_the_last_put_of_an_id_wins(void **state)
{
    struct client c;

    (void)state;
    client_open(&c, &server);
    fake_engine.put_ms = 5;
    for (uint32_t i = 1; i <= 30; i++)
        put_vector(&c, i, i % 3, (float)i);
    assert_true(client_send(&c));
    assert_int_equal(receive_all(&c, 30), 30);
    ask_vector(&c, 1, 30, 1000); /* id 0 was put as 3, 6, ... 30 */
    assert_true(client_send(&c));
    assert_true(client_receive(&c));
    const msgpack_object *hits = client_field(&c, "hits");
    assert_int_equal(hits->via.array.size, 3);
    const msgpack_object_map *best = &hits->via.array.ptr[0].via.map;
    assert_int_equal(best->ptr[0].val.via.u64, 0);
    assert_true(best->ptr[2].val.via.f64 == 0);
    client_close(&c);
}

static void test_a_failed_group_is_tried_one_by_one(void **state)
{
    struct client c;

    (void)state;
    client_open(&c, &server);
    fake_engine.put_ms = 100;
    put_vector(&c, 1, 1, 1);
    assert_true(client_send(&c));
    test_sleep_ms(10); /* while this one is written the others gather */
    fake_engine.put_fails = 0;
    for (uint32_t i = 2; i <= 5; i++)
        put_vector(&c, i, i, i == 4 ? 666 : 1); /* 4 is found out beforehand */
    assert_true(client_send(&c));
    test_sleep_ms(10);
    fake_engine.put_fails = 2; /* the first one may be over or not; the group fails, and one of its members */
    unsigned read_only = 0, invalid = 0;
    for (int i = 0; i < 5; i++) {
        assert_true(client_receive(&c));
        read_only += client_failed_with(&c, "READ_ONLY");
        invalid += client_failed_with(&c, "INVALID_ARGUMENT");
        if (c.error[0] != '\0')
            assert_non_null(strstr(c.error, "outcome=not_applied"));
    }
    assert_int_equal(invalid, 1);
    assert_int_equal(read_only, 1);
    assert_int_equal(fake_engine.put_items, 3);
    client_close(&c);
}

static void test_drain_answers_what_is_in_flight(void **state)
{
    struct client c;

    (void)state;
    client_open(&c, &server);
    fake_engine.search_ms = 100;
    for (uint32_t i = 1; i <= 20; i++)
        ask_vector(&c, i, 1, 5000);
    assert_true(client_send(&c));
    test_sleep_ms(30);
    sac_server_stop(server.server);
    test_sleep_ms(20);
    ask_vector(&c, 21, 1, 5000);
    client_send(&c);
    unsigned good = 0, unavailable = 0;
    while (client_receive(&c)) {
        good += c.error[0] == '\0';
        unavailable += client_failed_with(&c, "UNAVAILABLE");
    }
    assert_int_equal(good, 20);
    assert_int_equal(unavailable, 1);
    client_close(&c);
    pthread_join(server.thread, NULL);
    sac_server_close(server.server);
    setup(NULL); /* for the teardown */
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_searches_share_a_batch),
        T(test_a_bad_query_does_not_spoil_its_batch),
        T(test_pictures_share_a_batch),
        T(test_pictures_are_embedded_and_searched_at_once),
        T(test_a_joint_call_that_fails_is_made_in_two),
        T(test_a_long_search_does_not_hold_up_embedding),
        T(test_a_large_put_is_embedded_in_slices),
        T(test_deadlines),
        T(test_overload_is_refused_at_once),
        T(test_a_burst_after_lone_queries_is_let_in),
        T(test_a_cancelled_request_is_answered_once),
        T(test_who_leaves_is_not_worked_for),
        T(test_puts_share_a_transaction),
        T(test_the_last_put_of_an_id_wins),
        T(test_a_failed_group_is_tried_one_by_one),
        T(test_drain_answers_what_is_in_flight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
