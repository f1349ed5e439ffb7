/* resize_avx2.c -- antialiased resize of 8-bit RGB; twin: ref/resize.c, equal bit for bit.
 *
 * Weights of 22 bits and a sign do not fit the 16-bit multiplier, so each is split, weight = high * 2^12 +
 * low with low in -2048..2047, and pixels are multiplied with both halves (vpmaddwd: two taps a lane). The
 * two sums are joined at the end; they may wrap on the way, the joined sum does not.
 *
 * Columns first, four rows at a time, so that four rows share the loads of weights: four taps are 12 bytes of
 * a row, spread to R R G G B B - - for two taps and two rows. Then rows, 32 bytes at a time.
 */
#include "kernels/cpu/cpu.h"
#include "kernels/resize_weights.h"

#include <immintrin.h>
#include <string.h>

enum {
    HALF_BITS = 12,
    ROWS = 4,         /* of the first pass at once */
    GROUP = 4,        /* taps of the first pass at once */
    LOAD_BYTES = 16,  /* what a group of taps reads of a row, of which it needs 12 */
    BLOCK_BYTES = 32, /* of the second pass */
    SHIFT = SAC_RESIZE_BITS
};

/* Split weights of two neighbouring taps, as vpmaddwd wants them. */
struct tap_pair {
    int16_t low[2], high[2];
};

struct axis_weights {
    sac_resize_plan plan;
    uint32_t pairs_max;
    struct tap_pair *pairs; /* [count][pairs_max] */
};

static uint32_t pairs_max(const sac_resize_axis *axis)
{
    return (sac_resize_taps_max(axis) + GROUP - 1) / GROUP * (GROUP / 2);
}

static size_t weights_scratch(const sac_resize_axis *axis)
{
    return sac_scratch_add(sac_resize_plan_scratch(axis),
                           sac_scratch_size((size_t)axis->count * pairs_max(axis), sizeof(struct tap_pair)));
}

static sac_status weights_make(sac_stream *s, const sac_resize_axis *axis, struct axis_weights *out)
{
    size_t count = (size_t)axis->count * pairs_max(axis);

    if (sac_resize_plan_make(s, axis, &out->plan) != SAC_OK)
        return SAC_NO_MEMORY;
    out->pairs_max = pairs_max(axis);
    out->pairs = sac_scratch_take(s, count, sizeof *out->pairs);
    if (out->pairs == NULL)
        return SAC_NO_MEMORY;
    memset(out->pairs, 0, count * sizeof *out->pairs);
    for (size_t i = 0; i < axis->count; i++)
        for (uint32_t t = 0; t < out->plan.taps[i]; t++) {
            struct tap_pair *pair = &out->pairs[i * out->pairs_max + t / 2];
            int32_t weight = out->plan.weights[i * out->plan.taps_max + t];
            int32_t high = (weight + (1 << (HALF_BITS - 1))) >> HALF_BITS;

            pair->high[t % 2] = (int16_t)high;
            pair->low[t % 2] = (int16_t)(weight - high * (1 << HALF_BITS));
        }
    return SAC_OK;
}

/* Rows of the first pass's result; a pixel is stored as four bytes, so there is one to spare. */
static size_t narrow_stride(const struct sac_resize_args *a)
{
    return ((size_t)a->window_width * 3 + 1 + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
}

static __m256i two_rows(const uint8_t *upper, const uint8_t *lower)
{
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)upper)),
                                   _mm_loadu_si128((const __m128i *)lower), 1);
}

static __m256i broadcast_pair(const int16_t *two)
{
    int32_t bits;

    memcpy(&bits, two, sizeof bits);
    return _mm256_set1_epi32(bits);
}

static __m256i join(__m256i low, __m256i high)
{
    __m256i sum = _mm256_add_epi32(low, _mm256_slli_epi32(high, HALF_BITS));

    return _mm256_srai_epi32(_mm256_add_epi32(sum, _mm256_set1_epi32(1 << (SHIFT - 1))), SHIFT);
}

static void store_pixel(uint8_t *to, __m128i pixels, int lane)
{
    int32_t bits = lane == 0 ? _mm_cvtsi128_si32(pixels) : _mm_extract_epi32(pixels, 1);

    memcpy(to, &bits, sizeof bits);
}

/* First pass over four rows, which may be read LOAD_BYTES past any pixel. */
static void narrow_rows(const uint8_t *const rows[ROWS], const struct axis_weights *w, uint32_t count,
                        uint8_t *to, size_t to_stride)
{
    const __m256i first_two =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1));
    const __m256i next_two = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1));

    for (uint32_t i = 0; i < count; i++) {
        const struct tap_pair *pair = w->pairs + (size_t)i * w->pairs_max;
        size_t at = (size_t)w->plan.starts[i] * 3;
        __m256i low01 = _mm256_setzero_si256(), high01 = low01, low23 = low01, high23 = low01;

        for (uint32_t t = 0; t < w->plan.taps[i]; t += GROUP, at += 3 * GROUP, pair += GROUP / 2) {
            __m256i rows01 = two_rows(rows[0] + at, rows[1] + at);
            __m256i rows23 = two_rows(rows[2] + at, rows[3] + at);
            __m256i pixels01 = _mm256_shuffle_epi8(rows01, first_two);
            __m256i pixels23 = _mm256_shuffle_epi8(rows23, first_two);
            __m256i low = broadcast_pair(pair[0].low), high = broadcast_pair(pair[0].high);

            low01 = _mm256_add_epi32(low01, _mm256_madd_epi16(pixels01, low));
            high01 = _mm256_add_epi32(high01, _mm256_madd_epi16(pixels01, high));
            low23 = _mm256_add_epi32(low23, _mm256_madd_epi16(pixels23, low));
            high23 = _mm256_add_epi32(high23, _mm256_madd_epi16(pixels23, high));
            pixels01 = _mm256_shuffle_epi8(rows01, next_two);
            pixels23 = _mm256_shuffle_epi8(rows23, next_two);
            low = broadcast_pair(pair[1].low);
            high = broadcast_pair(pair[1].high);
            low01 = _mm256_add_epi32(low01, _mm256_madd_epi16(pixels01, low));
            high01 = _mm256_add_epi32(high01, _mm256_madd_epi16(pixels01, high));
            low23 = _mm256_add_epi32(low23, _mm256_madd_epi16(pixels23, low));
            high23 = _mm256_add_epi32(high23, _mm256_madd_epi16(pixels23, high));
        }
        /* One pixel a row: rows 0 and 2 in the lower half, 1 and 3 in the upper. */
        __m256i words = _mm256_packs_epi32(join(low01, high01), join(low23, high23));
        __m256i bytes = _mm256_packus_epi16(words, words);
        __m128i rows02 = _mm256_castsi256_si128(bytes), rows13 = _mm256_extracti128_si256(bytes, 1);
        uint8_t *place = to + (size_t)i * 3;

        store_pixel(place, rows02, 0);
        store_pixel(place + to_stride, rows13, 0);
        store_pixel(place + 2 * to_stride, rows02, 1);
        store_pixel(place + 3 * to_stride, rows13, 1);
    }
}

/* Rows first .. first + count - 1 of the source, narrowed, into `to` [count rounded up to ROWS][stride].
 * spare: one source row and LOAD_BYTES, for rows too near the end of the picture to be read past. */
static void narrow(const struct sac_resize_args *a, const struct axis_weights *w, uint32_t first,
                   uint32_t count, uint8_t *to, size_t to_stride, uint8_t *spare)
{
    size_t row_bytes = (size_t)a->from_width * 3, size = (a->from_height - 1) * a->from_stride + row_bytes;

    for (uint32_t r = 0; r < count; r += ROWS) {
        const uint8_t *rows[ROWS];

        for (uint32_t k = 0; k < ROWS; k++) {
            uint32_t row = first + (r + k < count ? r + k : count - 1);

            rows[k] = a->from + row * a->from_stride;
            if (row * a->from_stride + row_bytes + LOAD_BYTES > size) {
                uint8_t *copy = spare + k * (row_bytes + LOAD_BYTES);

                memcpy(copy, rows[k], row_bytes);
                rows[k] = copy;
            }
        }
        narrow_rows(rows, w, a->window_width, to + r * to_stride, to_stride);
    }
}

struct block_sum {
    __m256i low[4], high[4];
};

/* Two taps of the second pass: 32 samples of a row and of the one below it. */
static void add_two_rows(struct block_sum *sum, __m256i upper, __m256i lower, const struct tap_pair *pair)
{
    const __m256i zero = _mm256_setzero_si256();
    __m256i even = _mm256_unpacklo_epi8(upper, lower), odd = _mm256_unpackhi_epi8(upper, lower);
    __m256i samples[4] = {_mm256_unpacklo_epi8(even, zero), _mm256_unpackhi_epi8(even, zero),
                          _mm256_unpacklo_epi8(odd, zero), _mm256_unpackhi_epi8(odd, zero)};
    __m256i low = broadcast_pair(pair->low), high = broadcast_pair(pair->high);

    for (int i = 0; i < 4; i++) {
        sum->low[i] = _mm256_add_epi32(sum->low[i], _mm256_madd_epi16(samples[i], low));
        sum->high[i] = _mm256_add_epi32(sum->high[i], _mm256_madd_epi16(samples[i], high));
    }
}

static __m256i column_block(const uint8_t *from, size_t stride, const struct tap_pair *pairs, uint32_t taps)
{
    const __m256i zero = _mm256_setzero_si256();
    struct block_sum sum = {{zero, zero, zero, zero}, {zero, zero, zero, zero}};

    for (uint32_t t = 0; t < taps; t += 2) {
        const uint8_t *row = from + t * stride;
        __m256i upper = _mm256_loadu_si256((const __m256i *)row);
        __m256i lower = t + 1 < taps ? _mm256_loadu_si256((const __m256i *)(row + stride)) : zero;

        add_two_rows(&sum, upper, lower, &pairs[t / 2]);
    }
    return _mm256_packus_epi16(
        _mm256_packs_epi32(join(sum.low[0], sum.high[0]), join(sum.low[1], sum.high[1])),
        _mm256_packs_epi32(join(sum.low[2], sum.high[2]), join(sum.low[3], sum.high[3])));
}

/* Second pass: from holds the narrowed rows, the first being source row `first`. */
static void flatten(const struct sac_resize_args *a, const struct axis_weights *w, uint32_t first,
                    const uint8_t *from, size_t from_stride)
{
    size_t row_bytes = (size_t)a->window_width * 3;

    for (uint32_t i = 0; i < a->window_height; i++) {
        const uint8_t *rows = from + (w->plan.starts[i] - first) * from_stride;
        uint8_t *to = a->to + i * a->to_stride;

        for (size_t b = 0; b < row_bytes; b += BLOCK_BYTES) {
            __m256i block =
                column_block(rows + b, from_stride, w->pairs + (size_t)i * w->pairs_max, w->plan.taps[i]);

            if (row_bytes - b >= BLOCK_BYTES) {
                _mm256_storeu_si256((__m256i *)(to + b), block);
            } else {
                uint8_t last[BLOCK_BYTES];

                _mm256_storeu_si256((__m256i *)last, block);
                memcpy(to + b, last, row_bytes - b);
            }
        }
    }
}

size_t sac_resize_scratch_avx2(const sac_device *d, const struct sac_resize_args *a)
{
    sac_resize_axis x = sac_resize_axis_x(a), y = sac_resize_axis_y(a);
    size_t bytes = sac_scratch_add(weights_scratch(&x), weights_scratch(&y));

    (void)d;
    bytes = sac_scratch_add(bytes, sac_scratch_size(sac_resize_span_max(&y) + ROWS, narrow_stride(a)));
    return sac_scratch_add(bytes, sac_scratch_size(ROWS, (size_t)a->from_width * 3 + LOAD_BYTES));
}

sac_status sac_resize_avx2(sac_stream *s, const struct sac_resize_args *a)
{
    sac_resize_axis x = sac_resize_axis_x(a), y = sac_resize_axis_y(a);
    size_t stride = narrow_stride(a);
    struct axis_weights across, down;
    uint32_t first, end;
    uint8_t *narrowed, *spare;

    if (a->window_width == 0 || a->window_height == 0)
        return SAC_OK;
    sac_scratch_reset(s);
    if (weights_make(s, &x, &across) != SAC_OK || weights_make(s, &y, &down) != SAC_OK)
        return SAC_NO_MEMORY;
    sac_resize_plan_span(&down.plan, y.count, &first, &end);
    narrowed = sac_scratch_take(s, end - first + ROWS, stride);
    spare = sac_scratch_take(s, ROWS, (size_t)a->from_width * 3 + LOAD_BYTES);
    if (narrowed == NULL || spare == NULL)
        return SAC_NO_MEMORY;
    narrow(a, &across, first, end - first, narrowed, stride, spare);
    flatten(a, &down, first, narrowed, stride);
    return SAC_OK;
}
