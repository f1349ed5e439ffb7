/* cpu_features.h -- what this CPU and this operating system let us use. */
#ifndef SACCADE_CPU_FEATURES_H
#define SACCADE_CPU_FEATURES_H

#include "kernels/status.h"

#include <stddef.h>
#include <stdint.h>

enum sac_cpu_feature {
    SAC_CPU_AVX2 = 1 << 0,   /* AVX2, FMA and F16C: what the _avx2.c files are built with */
    SAC_CPU_AVX512 = 1 << 1, /* F, BW, VL, DQ: what every CPU with AVX-512 since 2017 has; implies AVX2 */
    SAC_CPU_VBMI = 1 << 2,   /* byte permutations across a whole register; this and all below imply AVX512 */
    SAC_CPU_VNNI = 1 << 3,
    SAC_CPU_BF16 = 1 << 4,
    SAC_CPU_AMX = 1 << 5, /* tiles of bf16 and of bytes; oneDNN uses them by itself */
};

/* Asks CPUID for the instructions and XGETBV whether the system saves their registers, and keeps what `isa`
 * allows at most: "avx512", "avx512core" (what every CPU with AVX-512 has), "avx2" or "base"; NULL: the
 * environment's SACCADE_CPU__ISA, else everything. Errors: SAC_INVALID_ARGUMENT for another word. */
sac_status sac_cpu_features(const char *isa, uint32_t *out, sac_error *err);

/* "AVX-512 VBMI VNNI BF16 AMX", "AVX2" or "baseline", cut to fit. */
void sac_cpu_features_text(uint32_t features, char *text, size_t text_size);

#endif
