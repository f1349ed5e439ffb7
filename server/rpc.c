#include "server/rpc.h"

#include <stdio.h>
#include <string.h>

struct cursor {
    const uint8_t *bytes;
    size_t n, at;
};

enum step {
    STEP_OK,
    STEP_MORE,  /* the bytes end here */
    STEP_OTHER, /* a value of another kind */
};

static enum step read_big_endian(struct cursor *c, size_t width, uint64_t *out)
{
    if (c->n - c->at < 1 + width)
        return STEP_MORE;
    *out = 0;
    for (size_t i = 0; i < width; i++)
        *out = *out << 8 | c->bytes[c->at + 1 + i];
    c->at += 1 + width;
    return STEP_OK;
}

static enum step read_array(struct cursor *c, uint64_t *elements)
{
    if (c->at == c->n)
        return STEP_MORE;
    uint8_t byte = c->bytes[c->at];
    if ((byte & 0xf0) == 0x90) {
        *elements = byte & 0x0f;
        c->at++;
        return STEP_OK;
    }
    if (byte == 0xdc || byte == 0xdd)
        return read_big_endian(c, byte == 0xdc ? 2 : 4, elements);
    return STEP_OTHER;
}

/* An integer that is not negative, signed types included. */
static enum step read_uint(struct cursor *c, uint64_t *value)
{
    if (c->at == c->n)
        return STEP_MORE;
    uint8_t byte = c->bytes[c->at];
    if (byte <= 0x7f) {
        *value = byte;
        c->at++;
        return STEP_OK;
    }
    if (byte >= 0xcc && byte <= 0xcf)
        return read_big_endian(c, (size_t)1 << (byte - 0xcc), value);
    if (byte >= 0xd0 && byte <= 0xd3) {
        const uint8_t *digits = c->bytes + c->at + 1;
        enum step step = read_big_endian(c, (size_t)1 << (byte - 0xd0), value);
        return step == STEP_OK && (digits[0] & 0x80) != 0 ? STEP_OTHER : step; /* the sign */
    }
    return STEP_OTHER;
}

static enum step read_method(struct cursor *c, struct sac_rpc_head *head)
{
    uint64_t size;

    if (c->at == c->n)
        return STEP_MORE;
    uint8_t byte = c->bytes[c->at];
    if ((byte & 0xe0) == 0xa0) {
        size = byte & 0x1f;
        c->at++;
    } else if (byte >= 0xd9 && byte <= 0xdb) {
        enum step step = read_big_endian(c, (size_t)1 << (byte - 0xd9), &size);
        if (step != STEP_OK)
            return step;
    } else {
        head->wrong = "the method must be a string";
        return STEP_OK;
    }
    if (size > SAC_METHOD_NAME_MAX) {
        head->wrong = "the method's name is longer than 64 bytes";
        return STEP_OK;
    }
    if (c->n - c->at < size)
        return STEP_MORE;
    head->method = (const char *)c->bytes + c->at;
    head->method_size = (size_t)size;
    return STEP_OK;
}

static enum sac_rpc_head_verdict unless_ok(enum step step)
{
    return step == STEP_MORE ? SAC_RPC_HEAD_MORE : SAC_RPC_HEAD_BAD;
}

enum sac_rpc_head_verdict sac_rpc_head_read(const uint8_t *bytes, size_t n, struct sac_rpc_head *head)
{
    enum { REQUEST = 0, NOTIFICATION = 2 };
    struct cursor c = {bytes, n, 0};
    uint64_t elements, type, msgid = 0;
    enum step step;

    memset(head, 0, sizeof *head);
    step = read_array(&c, &elements);
    if (step == STEP_OK && (elements == 0 || elements > 15)) /* a wrong shape, or a bomb */
        return SAC_RPC_HEAD_BAD;
    if (step != STEP_OK)
        return unless_ok(step);
    step = read_uint(&c, &type);
    if (step != STEP_OK)
        return unless_ok(step);
    if ((type != REQUEST && type != NOTIFICATION) || elements < 2)
        return SAC_RPC_HEAD_BAD;
    head->notification = type == NOTIFICATION;
    head->root_elements = (uint32_t)elements;
    if (!head->notification) {
        step = read_uint(&c, &msgid);
        if (step != STEP_OK)
            return unless_ok(step);
        if (msgid > UINT32_MAX)
            return SAC_RPC_HEAD_BAD;
        head->msgid = (uint32_t)msgid;
    }
    if (elements != (head->notification ? 3 : 4)) {
        head->wrong = head->notification ? "a notification is an array of 3: 2, method, params"
                                         : "a request is an array of 4: 0, msgid, method, params";
        return SAC_RPC_HEAD_READY;
    }
    return read_method(&c, head) == STEP_OK ? SAC_RPC_HEAD_READY : SAC_RPC_HEAD_MORE;
}

size_t sac_rpc_error_text(char text[SAC_RPC_ERROR_SIZE], const sac_error *error,
                          const struct sac_rpc_hint *hint)
{
    char retry[40] = "", outcome[40] = "";
    int n;

    if (hint != NULL && hint->retry_after_ms > 0)
        snprintf(retry, sizeof retry, "retry_after_ms=%u", hint->retry_after_ms);
    if (hint != NULL && hint->outcome != NULL)
        snprintf(outcome, sizeof outcome, "outcome=%s", hint->outcome);
    /* A server whose device is lost is about to end: to its clients it is no more than unavailable. */
    n = snprintf(text, SAC_RPC_ERROR_SIZE, "%s: %s",
                 sac_status_name(error->status == SAC_DEVICE_LOST ? SAC_UNAVAILABLE : error->status),
                 error->text);
    if (retry[0] != '\0' || outcome[0] != '\0')
        n += snprintf(text + n, SAC_RPC_ERROR_SIZE - (size_t)n, " [%s%s%s]", retry,
                      retry[0] != '\0' && outcome[0] != '\0' ? " " : "", outcome);
    return (size_t)n;
}
