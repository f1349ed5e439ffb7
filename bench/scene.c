#include "bench/scene.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>

enum { WIDTH = 640, HEIGHT = 480 };

static void make_row(unsigned seed, int y, uint32_t *noise, unsigned char row[WIDTH * 3])
{
    double tilt = 0.02 + 0.003 * (seed % 17), bend = 0.0004 + 0.00003 * (seed % 23);

    for (int x = 0; x < WIDTH; x++)
        for (int c = 0; c < 3; c++) {
            *noise = *noise * 1664525u + 1013904223u;
            row[3 * x + c] = (unsigned char)(128.0 + 50.0 * sin(x * tilt + y * 0.013 * c + seed) +
                                             40.0 * sin(x * y * bend) + (*noise >> 24) % 24);
        }
}

unsigned char *scene_make(unsigned seed, size_t *size)
{
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    unsigned char row[WIDTH * 3], *line = row, *bytes = NULL;
    unsigned long length = 0;
    uint32_t noise = seed + 1;

    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, &bytes, &length);
    jpeg.image_width = WIDTH;
    jpeg.image_height = HEIGHT;
    jpeg.input_components = 3;
    jpeg.in_color_space = JCS_RGB;
    jpeg_set_defaults(&jpeg);
    jpeg_set_quality(&jpeg, 75, TRUE);
    jpeg_start_compress(&jpeg, TRUE);
    for (int y = 0; y < HEIGHT; y++) {
        make_row(seed, y, &noise, row);
        jpeg_write_scanlines(&jpeg, &line, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    *size = length;
    return bytes;
}
