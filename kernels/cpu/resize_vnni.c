/* resize_vnni.c -- inner loops of resize on AVX-512 VNNI; twin: ref/resize.c, equal bit for bit.
 *
 * vpdpbusd multiplies unsigned bytes, our pixels, with signed bytes, four taps a lane. A weight of 22 bits
 * and a sign is three signed digits to base 256 (it is below 1.98 * 2^22, see resize_filter.h), so each
 * group of taps is multiplied three times and the three sums are joined at the end. They may wrap on the way,
 * the joined sum does not.
 */
#include "kernels/cpu/resize.h"

#include <immintrin.h>
#include <string.h>

enum { DIGITS = 3, DIGIT_BITS = 8, ROWS = 8, BLOCK_BYTES = 64 };

struct group {
    int8_t digits[DIGITS][SAC_RESIZE_GROUP]; /* lowest first */
};

static void pack(const int32_t weights[SAC_RESIZE_GROUP], uint8_t *group)
{
    struct group g;

    for (int t = 0; t < SAC_RESIZE_GROUP; t++) {
        int32_t rest = weights[t];

        for (int d = 0; d < DIGITS; d++) {
            int32_t digit = ((rest + 128) & 255) - 128;

            g.digits[d][t] = (int8_t)digit;
            rest = (rest - digit) >> DIGIT_BITS;
        }
    }
    memcpy(group, &g, sizeof g);
}

struct sums {
    __m512i digit[DIGITS];
};

static struct sums no_sums(void)
{
    const __m512i zero = _mm512_setzero_si512();

    return (struct sums){{zero, zero, zero}};
}

static void add_group(struct sums *sums, __m512i pixels, const uint8_t *group)
{
    for (int d = 0; d < DIGITS; d++) {
        int32_t four;

        memcpy(&four, group + d * SAC_RESIZE_GROUP, sizeof four);
        sums->digit[d] = _mm512_dpbusd_epi32(sums->digit[d], pixels, _mm512_set1_epi32(four));
    }
}

static __m512i join(struct sums sums)
{
    __m512i sum = _mm512_add_epi32(sums.digit[0], _mm512_slli_epi32(sums.digit[1], DIGIT_BITS));

    sum = _mm512_add_epi32(sum, _mm512_slli_epi32(sums.digit[2], 2 * DIGIT_BITS));
    return _mm512_srai_epi32(_mm512_add_epi32(sum, _mm512_set1_epi32(SAC_RESIZE_HALF)), SAC_RESIZE_BITS);
}

/* Sixteen bytes of each of four rows. */
static __m512i four_rows(const uint8_t *const *rows, size_t at)
{
    __m512i four = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)(rows[0] + at)));

    four = _mm512_inserti32x4(four, _mm_loadu_si128((const __m128i *)(rows[1] + at)), 1);
    four = _mm512_inserti32x4(four, _mm_loadu_si128((const __m128i *)(rows[2] + at)), 2);
    return _mm512_inserti32x4(four, _mm_loadu_si128((const __m128i *)(rows[3] + at)), 3);
}

/* words: sums of four rows, 32 bits a colour. One pixel for each row. */
static void store_pixels(uint8_t *to, size_t to_stride, __m512i words)
{
    __m128i bytes = _mm512_cvtusepi32_epi8(_mm512_max_epi32(words, _mm512_setzero_si512()));
    uint32_t pixels[4];

    _mm_storeu_si128((__m128i *)pixels, bytes);
    for (size_t r = 0; r < 4; r++)
        memcpy(to + r * to_stride, &pixels[r], sizeof pixels[r]);
}

/* Four taps are 12 bytes of a row, sorted by colour: R R R R G G G G B B B B - - - -. */
static void narrow(const uint8_t *const *rows, const sac_resize_packed *w, uint32_t count, uint8_t *to,
                   size_t to_stride)
{
    const __m512i by_colour =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, -1, -1, -1, -1));

    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *group = w->groups + i * w->stride;
        size_t at = (size_t)w->starts[i] * 3;
        struct sums upper = no_sums(), lower = no_sums();

        for (uint32_t t = 0; t < w->taps[i]; t += SAC_RESIZE_GROUP) {
            add_group(&upper, _mm512_shuffle_epi8(four_rows(rows, at), by_colour), group);
            add_group(&lower, _mm512_shuffle_epi8(four_rows(rows + 4, at), by_colour), group);
            at += 3 * SAC_RESIZE_GROUP;
            group += sizeof(struct group);
        }
        store_pixels(to + (size_t)i * 3, to_stride, join(upper));
        store_pixels(to + (size_t)i * 3 + 4 * to_stride, to_stride, join(lower));
    }
}

/* Four rows at a time: the bytes of a column side by side make a lane. */
static void flatten(const uint8_t *from, size_t from_stride, const uint8_t *groups, uint32_t taps,
                    uint8_t *to)
{
    struct sums sums[4] = {no_sums(), no_sums(), no_sums(), no_sums()};

    for (uint32_t t = 0; t < taps; t += SAC_RESIZE_GROUP) {
        const uint8_t *rows = from + t * from_stride;
        __m512i a = _mm512_loadu_si512(rows), b = _mm512_loadu_si512(rows + from_stride);
        __m512i c = _mm512_loadu_si512(rows + 2 * from_stride),
                d = _mm512_loadu_si512(rows + 3 * from_stride);
        __m512i even_ab = _mm512_unpacklo_epi8(a, b), odd_ab = _mm512_unpackhi_epi8(a, b);
        __m512i even_cd = _mm512_unpacklo_epi8(c, d), odd_cd = _mm512_unpackhi_epi8(c, d);

        add_group(&sums[0], _mm512_unpacklo_epi16(even_ab, even_cd), groups);
        add_group(&sums[1], _mm512_unpackhi_epi16(even_ab, even_cd), groups);
        add_group(&sums[2], _mm512_unpacklo_epi16(odd_ab, odd_cd), groups);
        add_group(&sums[3], _mm512_unpackhi_epi16(odd_ab, odd_cd), groups);
        groups += sizeof(struct group);
    }
    _mm512_storeu_si512(to, _mm512_packus_epi16(_mm512_packs_epi32(join(sums[0]), join(sums[1])),
                                                _mm512_packs_epi32(join(sums[2]), join(sums[3]))));
}

static const struct sac_resize_loops loops = {
    .rows = ROWS,
    .block_bytes = BLOCK_BYTES,
    .group_bytes = sizeof(struct group),
    .pack = pack,
    .narrow = narrow,
    .flatten = flatten,
};

size_t sac_resize_scratch_vnni(const sac_device *d, const struct sac_resize_args *a)
{
    (void)d;
    return sac_resize_scratch_loops(a, &loops);
}

sac_status sac_resize_vnni(sac_stream *s, const struct sac_resize_args *a)
{
    return sac_resize_run(s, a, &loops);
}
