/* main.c -- the `saccade` command: finds the subcommand, and keeps stdio sane around it. */
#include "server/cmd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct sac_command *const commands[] = {&sac_cmd_build, &sac_cmd_query, &sac_cmd_serve,
                                                     &sac_cmd_embed, &sac_cmd_info,  &sac_cmd_plan,
                                                     &sac_cmd_tune};
enum { COMMAND_COUNT = sizeof commands / sizeof commands[0] };

static void help(void)
{
    printf("saccade %s: finds the photographs that look like one\n"
           "\n"
           "  saccade build ~/Pictures     # embed and index a folder into ./photos.sac; run it again for "
           "new ones\n"
           "  saccade query beach.jpg      # the photographs nearest to this one\n"
           "  saccade serve                # the same for programs, over MessagePack-RPC\n"
           "\n"
           "usage: saccade COMMAND [OPTIONS]\n"
           "\n",
           sac_version());
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        printf("  %-8s %s\n", commands[i]->name, commands[i]->summary);
    printf("\nsaccade COMMAND --help has examples and every option; saccade --version tells the version.\n");
}

static int unknown_command(const char *word)
{
    const char *names[COMMAND_COUNT], *nearest;

    for (size_t i = 0; i < COMMAND_COUNT; i++)
        names[i] = commands[i]->name;
    nearest = sac_nearest_word(word, names, COMMAND_COUNT);
    fprintf(stderr, "saccade: there is no %s %s", word[0] == '-' ? "option" : "command", word);
    if (nearest != NULL)
        fprintf(stderr, ": is %s meant?", nearest);
    fprintf(stderr, "\n  saccade --help lists the commands\n");
    return SAC_EXIT_USAGE;
}

static int dispatch(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "";

    if (argc < 2) {
        fprintf(stderr, "saccade: no command\n  saccade --help lists them\n");
        return SAC_EXIT_USAGE;
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || (strcmp(word, "help") == 0 && argc == 2)) {
        help();
        return SAC_EXIT_DONE;
    }
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
        printf("saccade %s\n", sac_version());
        return SAC_EXIT_DONE;
    }
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(word, commands[i]->name) == 0)
            return commands[i]->run(commands[i], argc - 1, argv + 1);
    return unknown_command(word);
}

int sac_cmd_end(const struct sac_command *command, sac_status status, const sac_error *error)
{
    if (status == SAC_OK)
        return SAC_EXIT_DONE;
    if (error->text[0] != '\0')
        fprintf(stderr, "saccade %s: %s\n", command->name, error->text);
    return SAC_EXIT_FAILED;
}

/* A closed descriptor 0, 1 or 2 would be given to the next file opened, and messages would land in it. */
static void fill_standard_descriptors(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd > STDERR_FILENO)
        close(fd);
}

int main(int argc, char **argv)
{
    int code;

    fill_standard_descriptors();
    code = dispatch(argc, argv);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "saccade: writing the answer: %s\n", strerror(errno));
        return code == SAC_EXIT_DONE ? SAC_EXIT_FAILED : code;
    }
    return code;
}
