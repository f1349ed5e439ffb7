#include "server/build.h"

#include "engine/vector_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static sac_status add(struct sac_inputs *inputs, const char *name, sac_error *err)
{
    struct stat info;
    bool vectors = sac_vector_file_known(name) && (stat(name, &info) != 0 || S_ISREG(info.st_mode));
    char **grown;

    if (inputs->count > 0 && vectors != inputs->vectors)
        return sac_fail(err, SAC_INVALID_ARGUMENT,
                        "%s: pictures and vector files do not go into one collection: build them apart",
                        name);
    inputs->vectors = vectors;
    grown = realloc(inputs->at, (inputs->count + 1) * sizeof *grown);
    if (grown == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for the names of %zu files", inputs->count);
    inputs->at = grown;
    inputs->at[inputs->count] = strdup(name);
    if (inputs->at[inputs->count] == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for the names of %zu files", inputs->count);
    inputs->count++;
    return SAC_OK;
}

static sac_status add_lines(struct sac_inputs *inputs, FILE *file, const char *list, sac_error *err)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t size;
    sac_status st = SAC_OK;

    while (st == SAC_OK && (size = getline(&line, &capacity, file)) >= 0) {
        while (size > 0 && (line[size - 1] == '\n' || line[size - 1] == '\r'))
            line[--size] = '\0';
        if (size > 0)
            st = add(inputs, line, err);
    }
    if (st == SAC_OK && ferror(file))
        st = sac_fail(err, SAC_IO, "%s: %s", list, strerror(errno));
    free(line);
    return st;
}

sac_status sac_inputs_collect(struct sac_inputs *inputs, char **operands, size_t operand_count,
                              const char *files_from, sac_error *err)
{
    sac_status st = SAC_OK;
    FILE *file;

    *inputs = (struct sac_inputs){0};
    for (size_t i = 0; st == SAC_OK && i < operand_count; i++) {
        if (access(operands[i], F_OK) != 0) /* a slip of the pen, not one of many names that a list holds */
            return sac_fail(err, SAC_NOT_FOUND, "%s: %s", operands[i], strerror(errno));
        st = add(inputs, operands[i], err);
    }
    if (st != SAC_OK || files_from == NULL)
        return st;
    file = strcmp(files_from, "-") == 0 ? stdin : fopen(files_from, "r");
    if (file == NULL)
        return sac_fail(err, SAC_IO, "%s: %s", files_from, strerror(errno));
    st = add_lines(inputs, file, files_from, err);
    if (file != stdin)
        fclose(file);
    if (st == SAC_OK && inputs->count == 0)
        st = sac_fail(err, SAC_INVALID_ARGUMENT, "%s names no file", files_from);
    return st;
}

void sac_inputs_free(struct sac_inputs *inputs)
{
    for (size_t i = 0; i < inputs->count; i++)
        free(inputs->at[i]);
    free(inputs->at);
    *inputs = (struct sac_inputs){0};
}
