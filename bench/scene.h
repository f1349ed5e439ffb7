/* scene.h -- a picture of our own where there are no photographs: 640x480, JPEG of quality 75. */
#ifndef SACCADE_BENCH_SCENE_H
#define SACCADE_BENCH_SCENE_H

#include <stddef.h>

/* Slopes, waves and noise, which compress to about what a photograph does; scenes of different seeds differ.
 * malloc'ed. */
unsigned char *scene_make(unsigned seed, size_t *size);

#endif
