/* open_device.h -- a device for a test of kernels. */
#ifndef SACCADE_TESTS_OPEN_DEVICE_H
#define SACCADE_TESTS_OPEN_DEVICE_H

#include "kernels/device.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* isa NULL and threads 0: as sac_device_options says. A device that cannot be opened fails the test. */
static inline sac_device *open_device(const char *name, const char *isa, uint32_t threads)
{
    sac_device_options options;
    sac_device *device;
    sac_error err;

    sac_device_options_init(&options);
    options.name = name;
    options.isa = isa;
    options.threads = threads;
    if (sac_device_open(&options, &device, &err) != SAC_OK)
        fail_msg("device %s: %s", name, err.text);
    return device;
}

#endif
