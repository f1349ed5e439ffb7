/* Heads of messages and error texts. */
#include "server/rpc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

struct sample {
    const char *bytes;
    size_t n;
    enum sac_rpc_head_verdict verdict;
    uint32_t msgid;
    const char *method; /* NULL: there must be something wrong */
    bool notification;
};
#define BYTES(text) text, sizeof(text) - 1

static const struct sample samples[] = {
    {BYTES("\x94\x00\x01\xa4ping\x90"), SAC_RPC_HEAD_READY, 1, "ping", false},
    {BYTES("\x94\xcc\x00\xce\xff\xff\xff\xff\xd9\x04ping"), SAC_RPC_HEAD_READY, UINT32_MAX, "ping", false},
    {BYTES("\xdc\x00\x04\x00\xd0\x05\xa1x"), SAC_RPC_HEAD_READY, 5, "x", false},
    {BYTES("\xdd\x00\x00\x00\x04\x00\xcf\x00\x00\x00\x00\x00\x00\x00\x07\xa0"), SAC_RPC_HEAD_READY, 7, "",
     false},
    {BYTES("\x93\x02\xa3log\x90"), SAC_RPC_HEAD_READY, 0, "log", true},
    /* the msgid is known: the client can be told */
    {BYTES("\x94\x00\x09\x05\x90"), SAC_RPC_HEAD_READY, 9, NULL, false},
    {BYTES("\x93\x00\x09\xa1x"), SAC_RPC_HEAD_READY, 9, NULL, false},
    {BYTES("\x95\x00\x09\xa1x\x90\x90"), SAC_RPC_HEAD_READY, 9, NULL, false},
    {BYTES("\x94\x00\x09\xd9\x41"), SAC_RPC_HEAD_READY, 9, NULL, false}, /* 65 bytes of name to come */
    {BYTES("\x94\x02\xa1x\x90\x90"), SAC_RPC_HEAD_READY, 0, NULL, true},
    /* it is not */
    {BYTES("\xc0"), SAC_RPC_HEAD_BAD, 0, NULL, false},
    {BYTES("\x90"), SAC_RPC_HEAD_BAD, 0, NULL, false},
    {BYTES("\xdd\x10\x00\x00\x00"), SAC_RPC_HEAD_BAD, 0, NULL, false},
    {BYTES("\x80"), SAC_RPC_HEAD_BAD, 0, NULL, false},
    {BYTES("\x94\x01\x01\xc0\xc0"), SAC_RPC_HEAD_BAD, 0, NULL, false}, /* a response */
    {BYTES("\x94\x03\x01\xa1x\x90"), SAC_RPC_HEAD_BAD, 0, NULL, false},
    {BYTES("\x94\x00\xff\xa1x\x90"), SAC_RPC_HEAD_BAD, 0, NULL, false},     /* msgid -1 */
    {BYTES("\x94\x00\xd0\x80\xa1x\x90"), SAC_RPC_HEAD_BAD, 0, NULL, false}, /* msgid -128 */
    {BYTES("\x94\x00\xcf\x00\x00\x00\x01\x00\x00\x00\x00\xa0"), SAC_RPC_HEAD_BAD, 0, NULL, false},
    {BYTES("\x94\x00\xa1x\xa1x\x90"), SAC_RPC_HEAD_BAD, 0, NULL, false},
    {BYTES("GET / HTTP/1.1\r\n"), SAC_RPC_HEAD_BAD, 0, NULL, false},
    {BYTES("\x16\x03\x01\x02"), SAC_RPC_HEAD_BAD, 0, NULL, false}, /* TLS */
};

static void test_heads(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        const struct sample *s = &samples[i];
        struct sac_rpc_head head;
        assert_int_equal(sac_rpc_head_read((const uint8_t *)s->bytes, s->n, &head), s->verdict);
        if (s->verdict != SAC_RPC_HEAD_READY)
            continue;
        assert_int_equal(head.notification, s->notification);
        assert_int_equal(head.msgid, s->msgid);
        assert_int_equal(head.wrong == NULL, s->method != NULL);
        if (s->method != NULL) {
            assert_int_equal(head.method_size, strlen(s->method));
            assert_memory_equal(head.method, s->method, head.method_size);
        }
    }
}

/* A beginning of a good head never looks bad, and never looks complete too soon. */
static void test_beginnings_ask_for_more(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        const struct sample *s = &samples[i];
        struct sac_rpc_head head;
        if (s->method == NULL)
            continue;
        size_t end = s->n - (s->bytes[s->n - 1] == (char)0x90);
        for (size_t n = 0; n < end; n++)
            assert_int_equal(sac_rpc_head_read((const uint8_t *)s->bytes, n, &head), SAC_RPC_HEAD_MORE);
    }
}

static void test_longest_head_fits(void **state)
{
    uint8_t bytes[SAC_RPC_HEAD_MAX] = "\xdd\x00\x00\x00\x04\xcf\x00\x00\x00\x00\x00\x00\x00\x00"
                                      "\xcf\x00\x00\x00\x00\xff\xff\xff\xff\xdb\x00\x00\x00\x40";
    struct sac_rpc_head head;

    (void)state;
    assert_int_equal(sac_rpc_head_read(bytes, sizeof bytes, &head), SAC_RPC_HEAD_READY);
    assert_int_equal(head.method_size, SAC_METHOD_NAME_MAX);
    assert_null(head.wrong);
}

static void test_error_texts(void **state)
{
    char text[SAC_RPC_ERROR_SIZE];
    sac_error error;

    (void)state;
    sac_fail(&error, SAC_NOT_FOUND, "no collection x");
    assert_int_equal(sac_rpc_error_text(text, &error, NULL), strlen("NOT_FOUND: no collection x"));
    assert_string_equal(text, "NOT_FOUND: no collection x");
    sac_fail(&error, SAC_OVERLOADED, "full");
    sac_rpc_error_text(text, &error, &(struct sac_rpc_hint){12, "not_applied"});
    assert_string_equal(text, "OVERLOADED: full [retry_after_ms=12 outcome=not_applied]");
    sac_rpc_error_text(text, &error, &(struct sac_rpc_hint){0, "unknown"});
    assert_string_equal(text, "OVERLOADED: full [outcome=unknown]");
    sac_rpc_error_text(text, &error, &(struct sac_rpc_hint){3, NULL});
    assert_string_equal(text, "OVERLOADED: full [retry_after_ms=3]");
    memset(error.text, 'x', sizeof error.text - 1);
    error.text[sizeof error.text - 1] = '\0';
    sac_rpc_error_text(text, &error, &(struct sac_rpc_hint){UINT32_MAX, "not_applied"});
    assert_string_equal(text + strlen(text) - 14, "e=not_applied]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_beginnings_ask_for_more),
        cmocka_unit_test(test_longest_head_fits),
        cmocka_unit_test(test_error_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
