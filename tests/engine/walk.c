/* Folders -> pictures: which files, in which order, and what neither loops nor stops. */
#include "engine/walk.h"
#include "tests/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[SAC_SCRATCH_PATH_MAX];

static const char *at(const char *name)
{
    static char paths[4][SAC_SCRATCH_PATH_MAX + 300];
    static unsigned turn;
    char *path = paths[turn++ % 4];

    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void touch(const char *name)
{
    FILE *f = fopen(at(name), "w");

    assert_non_null(f);
    fputs("12345", f);
    fclose(f);
}

static int make_folder(void **state)
{
    char *real;

    (void)state;
    sac_scratch_make(folder);
    real = realpath(folder, NULL);
    strcpy(folder, real);
    free(real);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    sac_scratch_remove(folder);
    return 0;
}

static void assert_walk(const char *const *paths, size_t path_count, const char *const *want,
                        size_t want_count)
{
    struct sac_walk walk;

    assert_int_equal(sac_walk_paths(paths, path_count, NULL, NULL, &walk, NULL), SAC_OK);
    for (size_t i = 0; i < walk.count && i < want_count; i++)
        assert_string_equal(walk.files[i].path, at(want[i]));
    assert_int_equal(walk.count, want_count);
    sac_walk_free(&walk);
}

static void pictures_are_found_in_order(void **state)
{
    static const char *const files[] = {"b.jpg",           "a.JPEG",         "z.webp", "sub/c.PNG",
                                        "sub/.hidden.jpg", "notes.txt",      "jpg",    ".x/y.jpg",
                                        "sub/deep/d.jpg",  "caf\xc3\xa9.jpg"};
    static const char *const want[] = {"a.JPEG",    "b.jpg",          "caf\xc3\xa9.jpg",
                                       "sub/c.PNG", "sub/deep/d.jpg", "z.webp"};
    const char *path = folder;

    (void)state;
    mkdir(at("sub"), 0777);
    mkdir(at("sub/deep"), 0777);
    mkdir(at(".x"), 0777);
    mkdir(at("folder.jpg"), 0777);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        touch(files[i]);
    assert_walk(&path, 1, want, 6);
}

static void links_do_not_loop(void **state)
{
    static const char *const want[] = {"broken.jpg", "sub/a.jpg", "sub/b.jpg", "twin/a.jpg", "twin/b.jpg"};
    const char *path = folder;

    (void)state;
    mkdir(at("sub"), 0777);
    touch("sub/a.jpg");
    assert_int_equal(symlink("..", at("sub/up")), 0);
    assert_int_equal(symlink(".", at("sub/here")), 0);
    assert_int_equal(symlink("sub", at("twin")), 0);
    assert_int_equal(symlink("a.jpg", at("sub/b.jpg")), 0);
    assert_int_equal(symlink("nowhere", at("broken.jpg")), 0);
    assert_walk(&path, 1, want, 5);
}

static void named_files_are_taken_and_none_twice(void **state)
{
    static const char *const want[] = {"a.jpg", "missing", "odd name"};
    const char *paths[4];

    (void)state;
    touch("odd name");
    touch("a.jpg");
    paths[0] = at("odd name");
    paths[1] = at("a.jpg");
    paths[2] = folder;
    paths[3] = at("missing");
    assert_walk(paths, 4, want, 3);
}

static void names_are_absolute_and_sized(void **state)
{
    const char *path = ".";
    char before[4096];
    struct sac_walk walk;
    struct stat st;

    (void)state;
    touch("a.jpg");
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(folder), 0);
    assert_int_equal(sac_walk_paths(&path, 1, NULL, NULL, &walk, NULL), SAC_OK);
    assert_int_equal(chdir(before), 0);
    assert_int_equal(walk.count, 1);
    assert_string_equal(walk.files[0].path, at("a.jpg"));
    assert_int_equal(stat(walk.files[0].path, &st), 0);
    assert_int_equal(walk.files[0].size, 5);
    assert_int_equal(walk.files[0].mtime_ns, st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec);
    sac_walk_free(&walk);
}

static bool stop(void *context, size_t found)
{
    *(size_t *)context = found;
    return false;
}

static void a_walk_can_be_stopped(void **state)
{
    const char *path = folder;
    struct sac_walk walk;
    size_t found = 0;
    char name[32];

    (void)state;
    for (int i = 0; i < 600; i++) {
        snprintf(name, sizeof name, "%d.jpg", i);
        touch(name);
    }
    assert_int_equal(sac_walk_paths(&path, 1, stop, &found, &walk, NULL), SAC_CANCELLED);
    assert_int_equal(found, 256);
    sac_walk_free(&walk);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(pictures_are_found_in_order),
        IN_FOLDER(links_do_not_loop),
        IN_FOLDER(named_files_are_taken_and_none_twice),
        IN_FOLDER(names_are_absolute_and_sized),
        IN_FOLDER(a_walk_can_be_stopped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
