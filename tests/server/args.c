/* Fields by type: what is accepted, and that every refusal names its place. */
#include "server/args.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

/* One value, packed by a test and unpacked again. */
struct value {
    msgpack_sbuffer bytes;
    msgpack_packer packer;
    msgpack_zone zone;
    msgpack_object object;
};

static const struct sac_place place = {.method = "test", .field = "f"};

static void begin(struct value *v)
{
    msgpack_sbuffer_init(&v->bytes);
    msgpack_packer_init(&v->packer, &v->bytes, msgpack_sbuffer_write);
    msgpack_zone_init(&v->zone, 1024);
}

static const msgpack_object *end(struct value *v)
{
    size_t offset = 0;

    assert_int_equal(msgpack_unpack(v->bytes.data, v->bytes.size, &offset, &v->zone, &v->object),
                     MSGPACK_UNPACK_SUCCESS);
    return &v->object;
}

static void drop(struct value *v)
{
    msgpack_sbuffer_destroy(&v->bytes);
    msgpack_zone_destroy(&v->zone);
}

static void test_fields(void **state)
{
    struct sac_field fields[] = {{.name = "a"}, {.name = "b"}, {.name = "c"}};
    struct value v;
    sac_error err;

    (void)state;
    begin(&v);
    msgpack_pack_map(&v.packer, 2);
    sac_pack_key_uint(&v.packer, "b", 7);
    sac_pack_text(&v.packer, "c");
    msgpack_pack_nil(&v.packer);
    assert_int_equal(sac_args_open(end(&v), &place, fields, 3, &err), SAC_OK);
    assert_null(fields[0].value);
    assert_non_null(fields[1].value);
    assert_null(fields[2].value); /* nil counts as absent */
    drop(&v);

    begin(&v);
    msgpack_pack_array(&v.packer, 0); /* an empty array counts as an empty map */
    assert_int_equal(sac_args_open(end(&v), &place, fields, 3, &err), SAC_OK);
    drop(&v);
}

static void test_wrong_fields(void **state)
{
    struct sac_field fields[] = {{.name = "a"}, {.name = "b"}};
    struct value v;
    sac_error err;

    (void)state;
    begin(&v);
    msgpack_pack_map(&v.packer, 1);
    sac_pack_key_uint(&v.packer, "aa", 7);
    assert_int_equal(sac_args_open(end(&v), &place, fields, 2, &err), SAC_INVALID_ARGUMENT);
    assert_string_equal(err.text, "test: f: unknown field \"aa\": fields are a b");
    drop(&v);

    begin(&v);
    msgpack_pack_map(&v.packer, 2);
    sac_pack_key_uint(&v.packer, "a", 7);
    sac_pack_key_uint(&v.packer, "a", 8);
    assert_int_equal(sac_args_open(end(&v), &place, fields, 2, &err), SAC_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "twice"));
    drop(&v);

    begin(&v);
    msgpack_pack_map(&v.packer, 1);
    msgpack_pack_uint8(&v.packer, 1);
    msgpack_pack_uint8(&v.packer, 1);
    assert_int_equal(sac_args_open(end(&v), &place, fields, 2, &err), SAC_INVALID_ARGUMENT);
    drop(&v);

    begin(&v);
    sac_pack_text(&v.packer, "text");
    assert_int_equal(sac_args_open(end(&v), &place, fields, 2, &err), SAC_INVALID_ARGUMENT);
    drop(&v);
}

static sac_status read_uint(double number, bool as_float, uint64_t *out)
{
    struct value v;
    sac_error err;

    begin(&v);
    if (as_float)
        msgpack_pack_double(&v.packer, number);
    else
        msgpack_pack_int64(&v.packer, (int64_t)number);
    sac_status st = sac_args_uint(end(&v), &place, 1, 1000, out, &err);
    drop(&v);
    return st;
}

static void test_integers(void **state)
{
    uint64_t out;

    (void)state;
    assert_int_equal(read_uint(1, false, &out), SAC_OK);
    assert_int_equal(read_uint(1000, false, &out), SAC_OK);
    assert_int_equal(read_uint(10, true, &out), SAC_OK);
    assert_int_equal(out, 10);
    for (double bad = -5; bad <= 0; bad++)
        assert_int_equal(read_uint(bad, false, &out), SAC_INVALID_ARGUMENT);
    assert_int_equal(read_uint(1001, false, &out), SAC_INVALID_ARGUMENT);
    assert_int_equal(read_uint(1.5, true, &out), SAC_INVALID_ARGUMENT);
    assert_int_equal(read_uint(NAN, true, &out), SAC_INVALID_ARGUMENT);
    assert_int_equal(read_uint(INFINITY, true, &out), SAC_INVALID_ARGUMENT);
    assert_int_equal(read_uint(1e300, true, &out), SAC_INVALID_ARGUMENT);
}

static void test_vectors(void **state)
{
    const float expected[] = {1, -2, 0.5f};
    float out[3] = {0};
    struct value v;
    sac_error err;

    (void)state;
    begin(&v); /* as Lua sends it: whole numbers come as integers */
    msgpack_pack_array(&v.packer, 3);
    msgpack_pack_int(&v.packer, 1);
    msgpack_pack_int(&v.packer, -2);
    msgpack_pack_double(&v.packer, 0.5);
    assert_int_equal(sac_args_vector(end(&v), &place, 3, out, &err), SAC_OK);
    assert_memory_equal(out, expected, sizeof out);
    assert_int_equal(sac_args_vector(&v.object, &place, 4, out, &err), SAC_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "has 3 numbers"));
    drop(&v);

    begin(&v);
    msgpack_pack_bin_with_body(&v.packer, expected, sizeof expected);
    memset(out, 0, sizeof out);
    assert_int_equal(sac_args_vector(end(&v), &place, 3, out, &err), SAC_OK);
    assert_memory_equal(out, expected, sizeof out);
    assert_int_equal(sac_args_vector(&v.object, &place, 2, out, &err), SAC_INVALID_ARGUMENT);
    drop(&v);

    const float odd[] = {1, NAN, 3};
    begin(&v);
    msgpack_pack_bin_with_body(&v.packer, odd, sizeof odd);
    assert_int_equal(sac_args_vector(end(&v), &place, 3, out, &err), SAC_INVALID_ARGUMENT);
    assert_string_equal(err.text, "test: f: is not finite at position 1");
    drop(&v);

    begin(&v);
    msgpack_pack_array(&v.packer, 3);
    msgpack_pack_int(&v.packer, 1);
    msgpack_pack_nil(&v.packer);
    msgpack_pack_double(&v.packer, 1e300); /* no float32 */
    assert_int_equal(sac_args_vector(end(&v), &place, 3, out, &err), SAC_INVALID_ARGUMENT);
    assert_string_equal(err.text, "test: f: holds nil at position 1: must be numbers");
    drop(&v);
}

static sac_status read_id(struct value *v, sac_id *id)
{
    sac_error err;
    sac_status st = sac_args_id(end(v), &place, id, &err);

    return st;
}

static void test_ids(void **state)
{
    char text[SAC_ID_TEXT_MAX + 2];
    struct value v;
    sac_id id;

    (void)state;
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    begin(&v);
    msgpack_pack_uint64(&v.packer, INT64_MAX);
    assert_int_equal(read_id(&v, &id), SAC_OK);
    assert_int_equal(id.number, INT64_MAX);
    assert_null(id.text);
    drop(&v);
    begin(&v);
    msgpack_pack_uint64(&v.packer, (uint64_t)INT64_MAX + 1);
    assert_int_equal(read_id(&v, &id), SAC_INVALID_ARGUMENT);
    drop(&v);
    begin(&v);
    msgpack_pack_int(&v.packer, -1);
    assert_int_equal(read_id(&v, &id), SAC_INVALID_ARGUMENT);
    drop(&v);
    begin(&v);
    msgpack_pack_double(&v.packer, 1);
    assert_int_equal(read_id(&v, &id), SAC_INVALID_ARGUMENT);
    drop(&v);
    begin(&v);
    msgpack_pack_str_with_body(&v.packer, text, SAC_ID_TEXT_MAX);
    assert_int_equal(read_id(&v, &id), SAC_OK);
    assert_int_equal(id.text_size, SAC_ID_TEXT_MAX);
    drop(&v);
    begin(&v);
    sac_pack_text(&v.packer, text);
    assert_int_equal(read_id(&v, &id), SAC_INVALID_ARGUMENT);
    drop(&v);
    begin(&v);
    sac_pack_text(&v.packer, "");
    assert_int_equal(read_id(&v, &id), SAC_INVALID_ARGUMENT);
    drop(&v);
}

static void test_attributes(void **state)
{
    const struct sac_place item = {.method = "put", .array = "items", .index = 3, .field = "attributes"};
    const sac_attribute *attributes;
    size_t count;
    struct value v;
    sac_error err;

    (void)state;
    begin(&v);
    msgpack_pack_map(&v.packer, 3);
    sac_pack_text(&v.packer, "year");
    msgpack_pack_int(&v.packer, -5);
    sac_pack_key_double(&v.packer, "zoom", 1.5);
    sac_pack_key_text(&v.packer, "place", "Oslo");
    assert_int_equal(sac_args_attributes(end(&v), &item, &v.zone, &attributes, &count, &err), SAC_OK);
    assert_int_equal(count, 3);
    assert_int_equal(attributes[0].kind, SAC_ATTRIBUTE_INT);
    assert_int_equal(attributes[0].integer, -5);
    assert_int_equal(attributes[1].kind, SAC_ATTRIBUTE_FLOAT);
    assert_int_equal(attributes[2].kind, SAC_ATTRIBUTE_TEXT);
    assert_int_equal(attributes[2].text_size, 4);
    drop(&v);

    begin(&v);
    msgpack_pack_map(&v.packer, 1);
    sac_pack_key_bool(&v.packer, "on", true);
    assert_int_equal(sac_args_attributes(end(&v), &item, &v.zone, &attributes, &count, &err),
                     SAC_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "put: items[3].attributes: \"on\" must be"));
    drop(&v);

    begin(&v);
    msgpack_pack_map(&v.packer, SAC_ATTRIBUTES_MAX + 1);
    for (unsigned i = 0; i <= SAC_ATTRIBUTES_MAX; i++) {
        char name[8];
        snprintf(name, sizeof name, "n%u", i);
        sac_pack_key_uint(&v.packer, name, i);
    }
    assert_int_equal(sac_args_attributes(end(&v), &item, &v.zone, &attributes, &count, &err),
                     SAC_INVALID_ARGUMENT);
    drop(&v);
}

static void test_words_crops_and_texts(void **state)
{
    struct value v;
    sac_crop crop;
    const char *text;
    unsigned with;
    sac_error err;

    (void)state;
    begin(&v);
    msgpack_pack_array(&v.packer, 2);
    sac_pack_text(&v.packer, "vectors");
    sac_pack_text(&v.packer, "source");
    assert_int_equal(sac_args_with(end(&v), &place, &with, &err), SAC_OK);
    assert_int_equal(with, SAC_WITH_VECTOR | SAC_WITH_SOURCE);
    drop(&v);
    begin(&v);
    sac_pack_text(&v.packer, "everything");
    assert_int_equal(sac_args_with(end(&v), &place, &with, &err), SAC_INVALID_ARGUMENT);
    assert_int_equal(sac_args_text(&v.object, &place, 1, 64, &v.zone, &text, &err), SAC_OK);
    assert_string_equal(text, "everything");
    assert_int_equal(sac_args_text(&v.object, &place, 1, 9, &v.zone, &text, &err), SAC_INVALID_ARGUMENT);
    drop(&v);
    begin(&v);
    msgpack_pack_str_with_body(&v.packer, "a\0b", 3);
    assert_int_equal(sac_args_text(end(&v), &place, 1, 64, &v.zone, &text, &err), SAC_INVALID_ARGUMENT);
    drop(&v);
    begin(&v);
    msgpack_pack_array(&v.packer, 4);
    for (int i = 0; i < 4; i++)
        msgpack_pack_int(&v.packer, i * 10);
    assert_int_equal(sac_args_crop(end(&v), &place, &crop, &err), SAC_OK);
    assert_int_equal(crop.h, 30);
    v.object.via.array.ptr[2].via.u64 = 0; /* no width: w 0 would mean the whole picture */
    assert_int_equal(sac_args_crop(&v.object, &place, &crop, &err), SAC_INVALID_ARGUMENT);
    drop(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_wrong_fields),
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_attributes),
        cmocka_unit_test(test_words_crops_and_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
