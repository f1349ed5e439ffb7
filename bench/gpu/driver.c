#include "bench/gpu/driver.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

void fail(const char *text)
{
    fprintf(stderr, "%s: %s\n", program_invocation_short_name, text);
    exit(1);
}

void check(sac_status st, const sac_error *err)
{
    if (st != SAC_OK)
        fail(err->text);
}

void *need(size_t count, size_t size)
{
    void *memory = calloc(count, size);

    if (memory == NULL)
        fail("out of memory");
    return memory;
}

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

struct spread spread_of(double *times, size_t count)
{
    qsort(times, count, sizeof *times, compare_double);
    return (struct spread){times[count / 2], times[count * 99 / 100]};
}
