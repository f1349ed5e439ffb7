/* half.h -- IEEE 754 binary16 as found in files, one number at a time. */
#ifndef SACCADE_HALF_H
#define SACCADE_HALF_H

#include <math.h>
#include <stdint.h>

static inline float sac_half_to_float(uint16_t half)
{
    uint32_t exponent = half >> 10 & 31, mantissa = half & 1023;
    float magnitude;

    if (exponent == 31)
        magnitude = mantissa == 0 ? INFINITY : NAN;
    else if (exponent == 0)
        magnitude = (float)mantissa * 0x1p-24f;
    else
        magnitude = ldexpf((float)(mantissa | 1024), (int)exponent - 25);
    return half & 0x8000 ? -magnitude : magnitude;
}

#endif
