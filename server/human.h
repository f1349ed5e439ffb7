/* human.h -- numbers and names as people read them on a terminal. */
#ifndef SACCADE_SERVER_HUMAN_H
#define SACCADE_SERVER_HUMAN_H

#include <stddef.h>
#include <stdint.h>

#define SAC_HUMAN_SIZE 32 /* holds what any of these writes; each returns text */

const char *sac_human_count(uint64_t count, char text[SAC_HUMAN_SIZE]);   /* "3,272" */
const char *sac_human_bytes(uint64_t bytes, char text[SAC_HUMAN_SIZE]);   /* "812 B", "1.5 MiB" */
const char *sac_human_seconds(double seconds, char text[SAC_HUMAN_SIZE]); /* "0.42 s", "3:07", "1:02:09" */
const char *sac_human_rate(double per_second, char text[SAC_HUMAN_SIZE]); /* "0.31/s", "152/s", "48,100/s" */

/* A copy of text in valid UTF-8 that is safe to show: bytes that are no UTF-8 become U+FFFD; with terminal,
 * control characters become "?", since a file's name may hold sequences that a terminal obeys. The caller
 * frees it; NULL when memory is out. */
char *sac_human_text(const char *text, size_t size, int terminal);

#endif
