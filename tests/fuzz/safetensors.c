/* Fuzz target: the header of a weights file. The first 8 bytes are the size of the data behind it. */
#include "engine/safetensors.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    uint64_t data_bytes;
    sac_safetensors *file;
    size_t count;

    if (size < sizeof data_bytes)
        return 0;
    memcpy(&data_bytes, bytes, sizeof data_bytes);
    if (sac_safetensors_parse((const char *)bytes + sizeof data_bytes, size - sizeof data_bytes, data_bytes,
                              &file, NULL) != SAC_OK)
        return 0;
    /* What was accepted tiles the data without gap or overlap. */
    const sac_tensor *tensors = sac_safetensors_tensors(file, &count);

    for (size_t i = 0; i < count; i++) {
        if (tensors[i].begin > data_bytes || tensors[i].bytes > data_bytes - tensors[i].begin)
            __builtin_trap();
        if (sac_safetensors_find(file, tensors[i].name) == NULL)
            __builtin_trap();
    }
    sac_safetensors_close(file);
    return 0;
}
