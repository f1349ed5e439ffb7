/* index_file.h -- an index on disk.
 *
 * Everything is little-endian. The file is a header page and up to eight sections, each starting at a
 * multiple of 4096; bytes between them are 0.
 *
 *   offset size
 *        0    8  "SACINDEX"
 *        8    4  version: 4 with lists of RaBitQ, 3 with others; without, 2 where vectors are bytes
 *                (flag 32), else 1. A newer one is refused, and so are lists of an older one, which
 *                were laid out in another way.
 *       12    4  0x01020304
 *       16    8  length of the whole file
 *       24    4  dim
 *       28    4  metric: 0 l2, 1 ip, 2 cosine
 *       32    8  seed of training
 *       40    4  nlist; 0: Flat, then m, nbits and coded_dim are 0 too
 *       44    4  m
 *       48    4  nbits
 *       52    4  coded_dim
 *       56    4  flags: 1 rotated (OPQ), 2 trained, 4 vectors are f16, 8 the file has vectors,
 *                16 spec "auto", 32 vectors are bytes with a scale each, 64 RaBitQ
 *       60    4  count: vectors
 *       64    4  points of the recall curve
 *       68   60  0
 *      128  192  eight times, in the order below: offset u64, length u64, XXH3-64 (seed 0) of those
 *                bytes u64; an absent section is all 0
 *      320 3768  0
 *     4088    8  XXH3-64 of bytes 0..4087
 *
 *   section    bytes
 *   curve      points of: recall f32, nprobe u32, depth u32, reach f32 (0: no limit, else at least 1)
 *   labels     u64[count]. A vector's place here is its slot.
 *   centroids  f32[nlist][coded_dim]
 *   codebook   f32[m][2^nbits][coded_dim / m]; of RaBitQ none
 *   rotation   f32[coded_dim][dim]; of RaBitQ f32[4][coded_dim], each 1 or -1
 *   lists      u32[nlist], the size of each list; then for each list its pages of 64 entries, whole, as
 *              ops.h has them: codes, bias, factors, slots. What lies past the last entry is 0.
 *   vectors    f32 or f16 [count][dim]; or, each vector: scale f32, i8[dim], zeros up to a
 *              multiple of 4 bytes
 *   groups     u32[groups + 1], ascending from 0 to nlist: group g is lists [g] .. [g + 1] - 1. Absent
 *              where lists are few; where it is absent a search looks at every list.
 *
 * Saving writes "<path>.tmp", syncs it, renames it over <path> and syncs the folder: a crash leaves the old
 * file or the new one. Loading reads into owned memory, checks every number before it is used, and compares
 * the checksum of each section; a file that was cut or changed is refused by name.
 */
#ifndef SACCADE_INDEX_FILE_H
#define SACCADE_INDEX_FILE_H

#include "engine/saccade.h"

#define SAC_INDEX_FILE_MAGIC "SACINDEX"
#define SAC_INDEX_FILE_VERSION 4u
#define SAC_INDEX_FILE_PAGES 3u  /* the version of the lists' layout */
#define SAC_INDEX_FILE_RABITQ 4u /* the version that knows it */
#define SAC_INDEX_FILE_ENDIAN 0x01020304u
#define SAC_INDEX_FILE_PAGE 4096u

enum sac_index_section {
    SAC_SECTION_CURVE,
    SAC_SECTION_LABELS,
    SAC_SECTION_CENTROIDS,
    SAC_SECTION_CODEBOOK,
    SAC_SECTION_ROTATION,
    SAC_SECTION_LISTS,
    SAC_SECTION_VECTORS,
    SAC_SECTION_GROUPS,
    SAC_SECTION_COUNT
};

enum {
    SAC_FILE_ROTATED = 1,
    SAC_FILE_TRAINED = 2,
    SAC_FILE_F16 = 4,
    SAC_FILE_VECTORS = 8,
    SAC_FILE_AUTO = 16,
    SAC_FILE_I8 = 32,
    SAC_FILE_RABITQ = 64
};

/* The header page as it lies in the file. */
typedef struct sac_index_header {
    char magic[8];
    uint32_t version, endian;
    uint64_t file_length;
    uint32_t dim, metric;
    uint64_t seed;
    uint32_t nlist, m, nbits, coded_dim;
    uint32_t flags, count, curve_count, zeros[15];
    struct {
        uint64_t offset, length, checksum;
    } sections[SAC_SECTION_COUNT];
    uint8_t more_zeros[3768];
    uint64_t checksum;
} sac_index_header;

_Static_assert(sizeof(sac_index_header) == SAC_INDEX_FILE_PAGE, "the header is one page");
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "index files are read and written as they lie in memory, which must be little-endian"
#endif

#endif
