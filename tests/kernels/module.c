/* What is loaded as the CUDA module and what is not: each case in a process of its own, because a process
 * looks for the module once. */
#include "kernels/backend.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* In a child: opens cuda:0 with this module; 0 where that is refused in these words and the CPU still opens.
 */
static int try_module(const char *path, const char *words)
{
    sac_device_options options;
    const char *why = NULL;
    sac_device *device;
    sac_error err = {0};

    if (path != NULL ? setenv("SACCADE_CUDA__MODULE", path, 1) : unsetenv("SACCADE_CUDA__MODULE"))
        return 1;
    sac_device_options_init(&options);
    options.name = "cuda:0";
    if (sac_device_open(&options, &device, &err) != SAC_UNSUPPORTED || strstr(err.text, words) == NULL) {
        fprintf(stderr, "%s: %s\n", path, err.text);
        return 2;
    }
    options.name = "auto";
    if (sac_module_load(&why) != NULL || sac_device_open(&options, &device, &err) != SAC_OK)
        return 3;
    if (strstr(sac_device_describe(device), words) == NULL)
        return 4;
    sac_device_close(device);
    return 0;
}

static void refused(const char *path, const char *words)
{
    pid_t child = fork();
    int status;

    assert_true(child >= 0);
    if (child == 0)
        _exit(try_module(path, words));
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void a_wrong_module_is_refused_by_name(void **state)
{
    (void)state;
    refused("/no/such/module.so", "the CUDA module does not load: /no/such/module.so");
    refused("/etc/passwd", "the CUDA module does not load: /etc/passwd");
    refused(MODULE_WITHOUT_SYMBOL, "is not a module of saccade's");
    refused(MODULE_OF_OTHER_ABI, "belongs to another build of saccade");
    refused(MODULE_OF_OTHER_VERSION, "belongs to another build of saccade (0.0.0,");
}

static void without_a_driver_nothing_is_loaded(void **state)
{
    (void)state;
    if (access("/dev/nvidiactl", F_OK) == 0 || access("/dev/dxg", F_OK) == 0)
        skip(); /* there is one */
    refused(NULL, "there is no NVIDIA driver here");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wrong_module_is_refused_by_name),
        cmocka_unit_test(without_a_driver_nothing_is_loaded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
