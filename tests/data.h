/* data.h -- finds test material that is too large for the tree.
 *
 * The folder is named by SACCADE_TEST_DATA, or is ../shared/data beside the repository (tests run in its
 * root). Where a file is missing the test is skipped with a plain word, or fails where CI is set.
 */
#ifndef SACCADE_TESTS_DATA_H
#define SACCADE_TESTS_DATA_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Path of a test file or folder, in one of four static buffers that take turns. */
static inline const char *sac_test_data(const char *name)
{
    static char paths[4][1024];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    const char *root = getenv("SACCADE_TEST_DATA");

    snprintf(path, sizeof paths[0], "%s/%s", root != NULL ? root : "../shared/data", name);
    return path;
}

/* The same, and ends the test here where the file is missing: skipped, or failed in CI. */
static inline const char *sac_test_data_need(const char *name)
{
    const char *path = sac_test_data(name);

    if (access(path, R_OK) == 0)
        return path;
    if (getenv("CI") != NULL)
        fail_msg("%s is missing: set SACCADE_TEST_DATA to the folder of test data", path);
    printf("skipped: %s is missing (SACCADE_TEST_DATA names the folder of test data)\n", path);
    skip();
    return path;
}

#endif
