/* Finds and loads the CUDA module: one package runs on machines with a GPU and without, because nothing of
 * CUDA is touched before there is a sign of a driver. */
#include "kernels/backend.h"

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MODULE_FILE "libsaccade_cuda.so"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static const struct sac_backend *backend;
static char why_not[320];

/* The driver's device files: looking for them costs microseconds where starting CUDA would cost a second.
 * Linux, the Linux of Windows, and boards where the GPU is part of the chip. */
static bool driver_shows(void)
{
    static const char *const files[] = {"/dev/nvidiactl", "/dev/dxg", "/dev/nvhost-gpu", "/dev/nvgpu"};

    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        if (access(files[i], F_OK) == 0)
            return true;
    return false;
}

/* Whether there is a module at directory + below; `path` says where. */
static bool is_at(char path[PATH_MAX], const char *directory, size_t directory_bytes, const char *below)
{
    int length = snprintf(path, PATH_MAX, "%.*s%s%s", (int)directory_bytes, directory, below, MODULE_FILE);

    return length > 0 && length < PATH_MAX && access(path, R_OK) == 0;
}

/* Beside a file of ours, or where its installation puts the module. */
static bool is_near(char path[PATH_MAX], const char *file)
{
    const char *slash = strrchr(file, '/');
    size_t bytes = slash != NULL ? (size_t)(slash - file) : 0;

    return slash != NULL && (is_at(path, file, bytes, "/") || is_at(path, file, bytes, "/saccade/") ||
                             is_at(path, file, bytes, "/../" SACCADE_LIBDIR "/saccade/"));
}

static bool module_find(char path[PATH_MAX])
{
    char program[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    Dl_info self;

    if (dladdr(&why_not, &self) != 0 && self.dli_fname != NULL && is_near(path, self.dli_fname))
        return true;
    if (length > 0) {
        program[length] = '\0';
        if (is_near(path, program))
            return true;
    }
    return is_at(path, SACCADE_FULL_LIBDIR, strlen(SACCADE_FULL_LIBDIR), "/saccade/");
}

/* The backend of the module at `path`, or NULL with the reason. A module that has been loaded stays. */
static const struct sac_backend *module_open(const char *path)
{
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    const struct sac_backend *found;
    sac_module_fn *entry;

    if (module == NULL) {
        snprintf(why_not, sizeof why_not, "the CUDA module does not load: %s", dlerror());
        return NULL;
    }
    *(void **)&entry = dlsym(module, SAC_MODULE_SYMBOL); /* POSIX's way round ISO C */
    if (entry == NULL) {
        snprintf(why_not, sizeof why_not, "%s is not a module of saccade's", path);
        return NULL;
    }
    found = entry();
    if (found->abi != SAC_BACKEND_ABI || strcmp(found->version, SACCADE_VERSION) != 0) {
        snprintf(why_not, sizeof why_not, "%s belongs to another build of saccade (%s, this is %s)", path,
                 found->abi == SAC_BACKEND_ABI ? found->version : "another interface", SACCADE_VERSION);
        return NULL;
    }
    return found;
}

static void module_load(void)
{
    const char *wanted = getenv("SACCADE_CUDA__MODULE");
    char path[PATH_MAX];

    if (wanted != NULL && wanted[0] != '\0')
        backend = module_open(wanted);
    else if (!driver_shows())
        snprintf(why_not, sizeof why_not, "there is no NVIDIA driver here (no /dev/nvidiactl)");
    else if (!module_find(path))
        snprintf(why_not, sizeof why_not,
                 "there is an NVIDIA driver, but no " MODULE_FILE " beside saccade or in " SACCADE_FULL_LIBDIR
                 "/saccade: this build is without CUDA");
    else
        backend = module_open(path);
}

const struct sac_backend *sac_module_load(const char **why)
{
    pthread_once(&once, module_load);
    *why = why_not;
    return backend;
}
