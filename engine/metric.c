#include "engine/saccade.h"

#include <string.h>

static const struct {
    const char *name, *alias;
} metrics[] = {
    [SAC_METRIC_L2] = {"l2", "euclidean"},
    [SAC_METRIC_IP] = {"ip", "inner_product"},
    [SAC_METRIC_COSINE] = {"cosine", "angular"},
};

sac_status sac_metric_parse(const char *text, sac_metric *out, sac_error *err)
{
    for (unsigned i = 0; i < sizeof metrics / sizeof metrics[0]; i++)
        if (strcmp(text, metrics[i].name) == 0 || strcmp(text, metrics[i].alias) == 0) {
            *out = (sac_metric)i;
            return SAC_OK;
        }
    return sac_fail(err, SAC_INVALID_ARGUMENT, "no metric '%.40s': use l2, ip or cosine", text);
}

const char *sac_metric_name(sac_metric metric)
{
    return metrics[metric].name;
}
