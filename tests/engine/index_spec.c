/* Every way to write an index, and every way to get it wrong. */
#include "engine/index_spec.h"
#include "tests/data.h"

#include <string.h>

static void expect_text(const char *text, uint32_t dim, const char *want)
{
    sac_index_spec spec, again;
    sac_error err = {0};
    char shown[64];

    if (sac_index_spec_parse(text, dim, &spec, &err) != SAC_OK)
        fail_msg("%s: %s", text, err.text);
    sac_index_spec_format(&spec, dim, shown, sizeof shown);
    assert_string_equal(shown, want);
    assert_int_equal(sac_index_spec_parse(shown, dim, &again, &err), SAC_OK);
    assert_true(spec.coded_dim == again.coded_dim && spec.dtype == again.dtype && spec.m == again.m);
}

static void what_is_written_is_understood(void **state)
{
    (void)state;
    expect_text("auto", 128, "auto");
    expect_text("Flat", 128, "Flat");
    expect_text("SQfp16", 128, "SQfp16");
    expect_text("SQ8", 128, "SQ8");
    expect_text("IVF1024,PQ64x4,Refine(SQ8)", 128, "IVF1024,PQ64x4,Refine(SQ8)");
    expect_text("IVF4096,PQ32", 128, "IVF4096,PQ32");
    expect_text("IVF4096,PQ32x8", 128, "IVF4096,PQ32");
    expect_text("IVF1,PQ1x5", 1, "IVF1,PQ1x5");
    expect_text("IVF1024,PQ64x4,RFlat", 128, "IVF1024,PQ64x4");
    expect_text("IVF1024,PQ64x4,Refine(Flat)", 128, "IVF1024,PQ64x4");
    expect_text("IVF1024,PQ64x4,Refine(SQfp16)", 128, "IVF1024,PQ64x4,Refine(SQfp16)");
    expect_text("OPQ32,IVF4096,PQ32x8", 128, "OPQ32,IVF4096,PQ32");
    expect_text("OPQ32_64,IVF4096,PQ32,Refine(SQfp16)", 128, "OPQ32_64,IVF4096,PQ32,Refine(SQfp16)");
    expect_text("OPQ7,IVF16,PQ7", 128, "OPQ7,IVF16,PQ7");
    expect_text("IVF4096,RaBitQ", 768, "IVF4096,RaBitQ");
    expect_text("IVF4096,RaBitQ1,RFlat", 30, "IVF4096,RaBitQ");
    expect_text("IVF4096,RaBitQ,Refine(SQ8)", 2048, "IVF4096,RaBitQ,Refine(SQ8)");
}

static void the_coded_dimension_is_a_multiple_of_m(void **state)
{
    sac_index_spec spec;

    (void)state;
    assert_int_equal(sac_index_spec_parse("IVF16,PQ7", 128, &spec, NULL), SAC_OK);
    assert_int_equal(spec.coded_dim, 133);
    assert_int_equal(sac_index_spec_parse("OPQ8_64,IVF16,PQ8", 128, &spec, NULL), SAC_OK);
    assert_int_equal(spec.coded_dim, 64);
    assert_int_equal(sac_index_spec_parse("IVF16,RaBitQ", 30, &spec, NULL), SAC_OK);
    assert_true(spec.rabitq && spec.coded_dim == 32 && spec.m == 8 && spec.nbits == 4);
}

static void expect_refusal(const char *text, uint32_t dim, const char *word)
{
    sac_index_spec spec;
    sac_error err = {0};

    assert_int_equal(sac_index_spec_parse(text, dim, &spec, &err), SAC_INVALID_ARGUMENT);
    if (strstr(err.text, word) == NULL)
        fail_msg("%s: '%s' does not mention '%s'", text, err.text, word);
}

static void mistakes_are_named_with_their_limit(void **state)
{
    (void)state;
    expect_refusal("", 128, "known are");
    expect_refusal("flat", 128, "Flat");
    expect_refusal("HNSW32", 128, "HNSW32");
    expect_refusal("Flat,Flat", 128, "Flat");
    expect_refusal("IVF16", 128, "PQ");
    expect_refusal("IVF16,", 128, "comma");
    expect_refusal("IVF16,Flat", 128, "PQ32");
    expect_refusal("IVF0,PQ8", 128, "1 to 1048576");
    expect_refusal("IVF9999999,PQ8", 128, "1048576");
    expect_refusal("IVF99999999999999999999,PQ8", 128, "IVF99999999999999999999");
    expect_refusal("IVF-1,PQ8", 128, "IVF-1");
    expect_refusal("IVF16,PQ8x3", 128, "4 to 8");
    expect_refusal("IVF16,PQ8x9", 128, "4 to 8");
    expect_refusal("IVF16,PQ8x", 128, "PQ8x");
    expect_refusal("IVF16,PQ8fs", 128, "PQ8fs");
    expect_refusal("IVF16,PQ0", 128, "1 to 128");
    expect_refusal("IVF16,PQ129", 128, "m=129");
    expect_refusal("IVF16,PQ513", 4096, "512");
    expect_refusal("IVF16,PQ8,Refine(SQ4)", 128, "Refine(SQfp16)");
    expect_refusal("IVF16,PQ8,RFlat,RFlat", 128, "remove");
    expect_refusal("OPQ8", 128, "IVF");
    expect_refusal("OPQ8,IVF16,PQ16", 128, "OPQ16");
    expect_refusal("OPQ8_60,IVF16,PQ8", 128, "64");
    expect_refusal("OPQ8_256,IVF16,PQ8", 128, "128");
    expect_refusal("OPQ8_,IVF16,PQ8", 128, "OPQ32_128");
    expect_refusal("IVF16,,PQ8", 128, "comma");
    expect_refusal("IVF16,RaBitQ4", 128, "one bit");
    expect_refusal("IVF16,RaBitQ0", 128, "one bit");
    expect_refusal("IVF16,RaBitQfs", 128, "RaBitQfs");
    expect_refusal("OPQ16,IVF16,RaBitQ", 128, "OPQ");
    expect_refusal("IVF16,RaBitQ", 2049, "2048");
    expect_refusal("RaBitQ", 128, "IVF");
    expect_refusal("IVF16,PQ8888888888888888888888888888888888", 128, "longer");
}

static void automatic_choices_grow_with_the_data(void **state)
{
    sac_index_spec spec;

    (void)state;
    sac_index_spec_choose(1000, 1000, 512, &spec);
    assert_int_equal(spec.nlist, 0);
    sac_index_spec_choose(1000000, 1000000, 128, &spec);
    assert_in_range(spec.nlist, 3500, 4500);
    assert_int_equal(spec.m, 32);
    sac_index_spec_choose(20000, 20000, 128, &spec);
    assert_in_range(spec.nlist, 300, 700);                /* of some 30 to 60 vectors each */
    sac_index_spec_choose(100000000, 200000, 768, &spec); /* few to learn from */
    assert_in_range(spec.nlist, 1000, 200000 / 30);
    for (uint32_t dim = 8; dim <= SAC_DIM_MAX; dim = dim * 5 / 4 + 1) {
        sac_index_spec parsed;
        char text[64];
        sac_index_spec_choose(50000, 50000, dim, &spec);
        sac_index_spec_format(&spec, dim, text, sizeof text);
        assert_int_equal(sac_index_spec_parse(text, dim, &parsed, NULL), SAC_OK);
        assert_int_equal(parsed.coded_dim, spec.coded_dim);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_understood),
        cmocka_unit_test(the_coded_dimension_is_a_multiple_of_m),
        cmocka_unit_test(mistakes_are_named_with_their_limit),
        cmocka_unit_test(automatic_choices_grow_with_the_data),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
