/* resize_avx2.c -- inner loops of resize; twin: ref/resize.c, equal bit for bit.
 *
 * Weights of 22 bits and a sign do not fit the 16-bit multiplier, so each is split, weight = high * 2^12 +
 * low with low in -2048..2047, and pixels are multiplied with both halves (vpmaddwd: two taps a lane). The
 * two sums are joined at the end; they may wrap on the way, the joined sum does not.
 */
#include "kernels/cpu/resize.h"

#include <immintrin.h>
#include <string.h>

enum { HALF_BITS = 12, ROWS = 4, BLOCK_BYTES = 32 };

/* Split weights of four taps: two pairs, as vpmaddwd wants them. */
struct group {
    int16_t low[SAC_RESIZE_GROUP], high[SAC_RESIZE_GROUP];
};

static void pack(const int32_t weights[SAC_RESIZE_GROUP], uint8_t *group)
{
    struct group g;

    for (int t = 0; t < SAC_RESIZE_GROUP; t++) {
        int32_t high = (weights[t] + (1 << (HALF_BITS - 1))) >> HALF_BITS;

        g.high[t] = (int16_t)high;
        g.low[t] = (int16_t)(weights[t] - high * (1 << HALF_BITS));
    }
    memcpy(group, &g, sizeof g);
}

static __m256i broadcast_pair(const uint8_t *two)
{
    int32_t bits;

    memcpy(&bits, two, sizeof bits);
    return _mm256_set1_epi32(bits);
}

struct sums {
    __m256i low, high;
};

/* Adds pair 0 or 1 of a group's taps. */
static void add_pair(struct sums *sums, __m256i pixels, const uint8_t *group, int pair)
{
    __m256i low = broadcast_pair(group + 4 * pair);
    __m256i high = broadcast_pair(group + offsetof(struct group, high) + 4 * pair);

    sums->low = _mm256_add_epi32(sums->low, _mm256_madd_epi16(pixels, low));
    sums->high = _mm256_add_epi32(sums->high, _mm256_madd_epi16(pixels, high));
}

static __m256i join(struct sums sums)
{
    __m256i sum = _mm256_add_epi32(sums.low, _mm256_slli_epi32(sums.high, HALF_BITS));

    return _mm256_srai_epi32(_mm256_add_epi32(sum, _mm256_set1_epi32(SAC_RESIZE_HALF)), SAC_RESIZE_BITS);
}

static __m256i two_rows(const uint8_t *upper, const uint8_t *lower)
{
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)upper)),
                                   _mm_loadu_si128((const __m128i *)lower), 1);
}

static void store_pixel(uint8_t *to, __m128i pixels, int lane)
{
    int32_t bits = lane == 0 ? _mm_cvtsi128_si32(pixels) : _mm_extract_epi32(pixels, 1);

    memcpy(to, &bits, sizeof bits);
}

/* Four taps are 12 bytes of a row, spread to R R G G B B - - for two taps of two rows. */
static void narrow(const uint8_t *const *rows, const sac_resize_packed *w, uint32_t count, uint8_t *to,
                   size_t to_stride)
{
    const __m256i first_two =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1));
    const __m256i next_two = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1));
    const __m256i zero = _mm256_setzero_si256();

    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *group = w->groups + i * w->stride;
        size_t at = (size_t)w->starts[i] * 3;
        struct sums sums01 = {zero, zero}, sums23 = {zero, zero};

        for (uint32_t t = 0; t < w->taps[i]; t += SAC_RESIZE_GROUP) {
            __m256i rows01 = two_rows(rows[0] + at, rows[1] + at);
            __m256i rows23 = two_rows(rows[2] + at, rows[3] + at);

            add_pair(&sums01, _mm256_shuffle_epi8(rows01, first_two), group, 0);
            add_pair(&sums23, _mm256_shuffle_epi8(rows23, first_two), group, 0);
            add_pair(&sums01, _mm256_shuffle_epi8(rows01, next_two), group, 1);
            add_pair(&sums23, _mm256_shuffle_epi8(rows23, next_two), group, 1);
            at += 3 * SAC_RESIZE_GROUP;
            group += sizeof(struct group);
        }
        /* One pixel a row: rows 0 and 2 in the lower half, 1 and 3 in the upper. */
        __m256i words = _mm256_packs_epi32(join(sums01), join(sums23));
        __m256i bytes = _mm256_packus_epi16(words, words);
        __m128i rows02 = _mm256_castsi256_si128(bytes), rows13 = _mm256_extracti128_si256(bytes, 1);
        uint8_t *place = to + (size_t)i * 3;

        store_pixel(place, rows02, 0);
        store_pixel(place + to_stride, rows13, 0);
        store_pixel(place + 2 * to_stride, rows02, 1);
        store_pixel(place + 3 * to_stride, rows13, 1);
    }
}

/* Two rows at a time: their bytes side by side are what vpmaddwd wants. */
static void flatten(const uint8_t *from, size_t from_stride, const uint8_t *groups, uint32_t taps,
                    uint8_t *to)
{
    const __m256i zero = _mm256_setzero_si256();
    struct sums sums[4] = {{zero, zero}, {zero, zero}, {zero, zero}, {zero, zero}};

    for (uint32_t t = 0; t < taps; t += 2) {
        const uint8_t *group = groups + (size_t)t / SAC_RESIZE_GROUP * sizeof(struct group);
        int pair = t % SAC_RESIZE_GROUP / 2;
        __m256i upper = _mm256_loadu_si256((const __m256i *)(from + t * from_stride));
        __m256i lower = _mm256_loadu_si256((const __m256i *)(from + (t + 1) * from_stride));
        __m256i even = _mm256_unpacklo_epi8(upper, lower), odd = _mm256_unpackhi_epi8(upper, lower);

        add_pair(&sums[0], _mm256_unpacklo_epi8(even, zero), group, pair);
        add_pair(&sums[1], _mm256_unpackhi_epi8(even, zero), group, pair);
        add_pair(&sums[2], _mm256_unpacklo_epi8(odd, zero), group, pair);
        add_pair(&sums[3], _mm256_unpackhi_epi8(odd, zero), group, pair);
    }
    _mm256_storeu_si256((__m256i *)to, _mm256_packus_epi16(_mm256_packs_epi32(join(sums[0]), join(sums[1])),
                                                           _mm256_packs_epi32(join(sums[2]), join(sums[3]))));
}

static const struct sac_resize_loops loops = {
    .rows = ROWS,
    .block_bytes = BLOCK_BYTES,
    .group_bytes = sizeof(struct group),
    .pack = pack,
    .narrow = narrow,
    .flatten = flatten,
};

size_t sac_resize_scratch_avx2(const sac_device *d, const struct sac_resize_args *a)
{
    (void)d;
    return sac_resize_scratch_loops(a, &loops);
}

sac_status sac_resize_avx2(sac_stream *s, const struct sac_resize_args *a)
{
    return sac_resize_run(s, a, &loops);
}
