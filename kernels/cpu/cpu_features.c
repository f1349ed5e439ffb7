#include "kernels/cpu/cpu_features.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(SACCADE_X86)

#include <cpuid.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <unistd.h>

/* XCR0: which registers the system saves on a switch (Intel SDM vol. 1, 13.3). */
enum {
    XCR0_AVX = 0x6,     /* SSE and AVX state */
    XCR0_AVX512 = 0xe6, /* and masks, upper halves, upper registers */
    XCR0_AMX = 0x60000, /* tile configuration and data */
};

static uint64_t saved_registers(void)
{
    uint32_t low, high;

    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

/* Tiles are large, so Linux hands their registers out only to processes that ask. */
static bool amx_granted(void)
{
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };

    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

static uint32_t detect(void)
{
    const uint32_t avx512_core = bit_AVX512F | bit_AVX512BW | bit_AVX512VL | bit_AVX512DQ;
    const uint32_t amx = 1u << 24 | 1u << 22 | 1u << 25; /* tiles, and products of bf16 and of bytes */
    uint32_t a, b, c, d, b7, c7, d7, features = 0;
    uint64_t saved;

    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE) || !(c & bit_FMA) || !(c & bit_F16C))
        return 0;
    saved = saved_registers();
    if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d7) || !(b7 & bit_AVX2) || (saved & XCR0_AVX) != XCR0_AVX)
        return 0;
    features = SAC_CPU_AVX2;
    if ((b7 & avx512_core) != avx512_core || (saved & XCR0_AVX512) != XCR0_AVX512)
        return features;
    features |= SAC_CPU_AVX512;
    if (c7 & bit_AVX512VBMI)
        features |= SAC_CPU_VBMI;
    if (c7 & bit_AVX512VNNI)
        features |= SAC_CPU_VNNI;
    if ((d7 & amx) == amx && (saved & XCR0_AMX) == XCR0_AMX && amx_granted())
        features |= SAC_CPU_AMX;
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1u << 5)) /* AVX512_BF16 */
        features |= SAC_CPU_BF16;
    return features;
}

#else

static uint32_t detect(void)
{
    return 0;
}

#endif

sac_status sac_cpu_features(const char *isa, uint32_t *out, sac_error *err)
{
    const char *from = "isa";
    uint32_t allowed;

    *out = 0;
    if (isa == NULL) {
        isa = getenv("SACCADE_CPU__ISA");
        from = "SACCADE_CPU__ISA";
    }
    if (isa == NULL || isa[0] == '\0' || strcmp(isa, "avx512") == 0)
        allowed = ~0u;
    else if (strcmp(isa, "avx512core") == 0)
        allowed = SAC_CPU_AVX2 | SAC_CPU_AVX512;
    else if (strcmp(isa, "avx2") == 0)
        allowed = SAC_CPU_AVX2;
    else if (strcmp(isa, "base") == 0)
        allowed = 0;
    else
        return sac_fail(err, SAC_INVALID_ARGUMENT,
                        "%s \"%s\" is unknown; use \"avx512\", \"avx512core\", \"avx2\" or \"base\"", from,
                        isa);
    *out = detect() & allowed;
    return SAC_OK;
}

void sac_cpu_features_text(uint32_t features, char *text, size_t text_size)
{
    if (features & SAC_CPU_AVX512)
        snprintf(text, text_size, "AVX-512%s%s%s%s", features & SAC_CPU_VBMI ? " VBMI" : "",
                 features & SAC_CPU_VNNI ? " VNNI" : "", features & SAC_CPU_BF16 ? " BF16" : "",
                 features & SAC_CPU_AMX ? " AMX" : "");
    else
        snprintf(text, text_size, "%s", features & SAC_CPU_AVX2 ? "AVX2" : "baseline");
}
