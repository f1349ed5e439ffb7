#include "kernels/status.h"

#include <stdarg.h>
#include <stdio.h>

const char *sac_status_name(sac_status status)
{
    switch (status) {
#define X(name, value, text) \
    case SAC_##name:         \
        return #name;
        SAC_STATUS_MAP(X)
#undef X
    }
    return "INTERNAL";
}

const char *sac_status_text(sac_status status)
{
    switch (status) {
#define X(name, value, text) \
    case SAC_##name:         \
        return text;
        SAC_STATUS_MAP(X)
#undef X
    }
    return "a status outside the list";
}

sac_status sac_fail(sac_error *err, sac_status status, const char *format, ...)
{
    va_list args;

    if (err == NULL)
        return status;
    err->status = status;
    va_start(args, format);
    vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    return status;
}
