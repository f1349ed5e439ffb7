#include "server/human.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *sac_human_count(uint64_t count, char text[SAC_HUMAN_SIZE])
{
    char digits[SAC_HUMAN_SIZE];
    int n = snprintf(digits, sizeof digits, "%" PRIu64, count);
    char *out = text;

    for (int i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0)
            *out++ = ',';
        *out++ = digits[i];
    }
    *out = '\0';
    return text;
}

const char *sac_human_bytes(uint64_t bytes, char text[SAC_HUMAN_SIZE])
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes;
    size_t unit = 0;

    if (bytes < 1024) {
        snprintf(text, SAC_HUMAN_SIZE, "%" PRIu64 " B", bytes);
        return text;
    }
    for (value /= 1024; value >= 1000 && unit + 1 < sizeof units / sizeof *units; unit++)
        value /= 1024;
    snprintf(text, SAC_HUMAN_SIZE, value < 10 ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return text;
}

const char *sac_human_seconds(double seconds, char text[SAC_HUMAN_SIZE])
{
    if (seconds < 60) {
        snprintf(text, SAC_HUMAN_SIZE, seconds < 10 ? "%.2f s" : "%.0f s", seconds);
        return text;
    }
    uint64_t whole = seconds < 3.6e9 ? (uint64_t)(seconds + 0.5) : 3600000000u;
    uint64_t hours = whole / 3600, minutes = whole / 60 % 60;
    if (hours > 0)
        snprintf(text, SAC_HUMAN_SIZE, "%" PRIu64 ":%02" PRIu64 ":%02" PRIu64, hours, minutes, whole % 60);
    else
        snprintf(text, SAC_HUMAN_SIZE, "%" PRIu64 ":%02" PRIu64, minutes, whole % 60);
    return text;
}

const char *sac_human_rate(double per_second, char text[SAC_HUMAN_SIZE])
{
    char count[SAC_HUMAN_SIZE];

    if (per_second < 10)
        snprintf(text, SAC_HUMAN_SIZE, "%.2g/s", per_second);
    else
        snprintf(text, SAC_HUMAN_SIZE, "%.28s/s", sac_human_count((uint64_t)(per_second + 0.5), count));
    return text;
}

/* Bytes of the valid UTF-8 sequence at text (Unicode 15, table 3-7), 0 where there is none. */
static size_t utf8_length(const unsigned char *text, size_t size)
{
    unsigned char low = 0x80, high = 0xBF;
    size_t length;

    if (text[0] < 0x80)
        return 1;
    if (text[0] >= 0xC2 && text[0] <= 0xDF)
        length = 2;
    else if (text[0] >= 0xE0 && text[0] <= 0xEF)
        length = 3;
    else if (text[0] >= 0xF0 && text[0] <= 0xF4)
        length = 4;
    else
        return 0;
    if (text[0] == 0xE0)
        low = 0xA0; /* no overlong forms */
    else if (text[0] == 0xED)
        high = 0x9F; /* no surrogates */
    else if (text[0] == 0xF0)
        low = 0x90;
    else if (text[0] == 0xF4)
        high = 0x8F; /* nothing past U+10FFFF */
    if (size < length || text[1] < low || text[1] > high)
        return 0;
    for (size_t i = 2; i < length; i++)
        if (text[i] < 0x80 || text[i] > 0xBF)
            return 0;
    return length;
}

static bool is_control(const unsigned char *text, size_t length)
{
    return length == 1 ? text[0] < 0x20 || text[0] == 0x7F
                       : length == 2 && text[0] == 0xC2 && text[1] < 0xA0; /* C1 */
}

char *sac_human_text(const char *text, size_t size, int terminal)
{
    const unsigned char *in = (const unsigned char *)text;
    char *out = size <= (SIZE_MAX - 1) / 3 ? malloc(size * 3 + 1) : NULL;
    size_t used = 0;

    if (out == NULL)
        return NULL;
    while (size > 0) {
        size_t length = utf8_length(in, size);
        if (length == 0) {
            memcpy(out + used, "\xEF\xBF\xBD", 3);
            used += 3;
            length = 1;
        } else if (terminal && is_control(in, length)) {
            out[used++] = '?';
        } else {
            memcpy(out + used, in, length);
            used += length;
        }
        in += length;
        size -= length;
    }
    out[used] = '\0';
    return out;
}
