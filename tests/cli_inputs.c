// SPDX-License-Identifier: MIT
//
// Folders to lists of pictures, pictures to names of outputs, and files that are whole or absent.
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "files.h"
#include "inputs.h"
#include "queue.h"

static char folder[] = "/tmp/hymn-inputs-XXXXXX";

static const char *at(const char *name) {
    static char paths[4][256];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
    return path;
}

static void touch(const char *name) {
    struct cause cause;
    if (!file_write(at(name), "x", 1, &cause)) {
        fail_msg("%s: %s", name, cause.text);
    }
}

static int set_up(void **state) {
    static const char *const files[] = {"in/b.JPG",    "in/a.png",       "in/sub/a.png", "in/sub/deep/c.jpeg",
                                        "in/note.txt", "in/.hidden.png", "in/a.jpg",     "in/out/old_mask.png"};
    struct cause cause;
    (void)state;
    if (mkdtemp(folder) == NULL || !folder_make(at("in/sub/deep"), &cause) || !folder_make(at("in/out"), &cause)) {
        return -1;
    }
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        touch(files[i]);
    }
    return symlink(at("in"), at("in/sub/loop"));
}

static int tear_down(void **state) {
    (void)state;
    folder_remove(folder);
    return folder_exists(folder);
}

static void assert_stems(const struct input_list *list, const char *const *stems, size_t count) {
    assert_int_equal(list->count, count);
    for (size_t i = 0; i < count; i++) {
        assert_string_equal(list->items[i].stem, stems[i]);
    }
}

static void folders_are_walked_in_order(void **state) {
    static const char *const stems[] = {"a", "a", "b", "sub/a", "sub/deep/c"};
    static const char *const unique[] = {"a", "a-2", "b", "sub/a", "sub/deep/c"};
    static const char *const suffixes[] = {"_mask.png", NULL};
    struct input_list list = {0};
    (void)state;
    assert_true(inputs_collect(&list, at("in"), at("in/out")));
    assert_stems(&list, stems, 5);
    assert_string_equal(path_name(list.items[0].path), "a.jpg");
    assert_string_equal(path_name(list.items[1].path), "a.png");
    assert_true(inputs_name_outputs(&list, at("out"), suffixes));
    assert_stems(&list, unique, 5);
    assert_int_equal(list.failed, 0);
    inputs_free(&list);
}

// Each is a sub-folder by the name of the link. What leads back is left out, by whatever path.
static void links_to_folders_are_followed(void **state) {
    static const char *const stems[] = {"near/a", "real/a"};
    static const char *const far[] = {"here/near/a", "here/real/a"};
    struct input_list list = {0};
    struct cause cause;
    (void)state;
    assert_true(folder_make(at("tree/real/out"), &cause));
    assert_true(folder_make(at("far"), &cause));
    touch("tree/real/a.png");
    touch("tree/real/out/a_mask.png");
    assert_int_equal(symlink("real", at("tree/near")), 0);
    assert_int_equal(symlink("real/out", at("tree/output")), 0);
    assert_int_equal(symlink("../../tree", at("tree/real/up")), 0);
    assert_int_equal(symlink(".", at("tree/real/self")), 0);
    assert_true(inputs_collect(&list, at("tree"), at("tree/real/out")));
    assert_stems(&list, stems, 2);
    assert_int_equal(list.failed, 0);
    inputs_free(&list);
    assert_int_equal(symlink("../tree", at("far/here")), 0);
    assert_true(inputs_collect(&list, at("far"), at("tree/real/out")));
    assert_stems(&list, far, 2);
    assert_int_equal(list.failed, 0);
    inputs_free(&list);
}

static void nothing_is_lost_silently(void **state) {
    struct input_list list = {0};
    (void)state;
    assert_true(inputs_collect(&list, at("in/missing.png"), NULL));
    assert_int_equal(list.failed, 1);
    struct cause cause;
    assert_true(folder_make(at("empty"), &cause));
    assert_true(inputs_collect(&list, at("empty"), NULL));
    assert_int_equal(list.failed, 2);
    assert_true(inputs_collect(&list, at("in/note.txt"), NULL)); // named by hand: the content decides
    assert_int_equal(list.count, 1);
    inputs_free(&list);
}

// A folder's entries that cannot be followed may lead to pictures, whatever their names.
static void no_entry_is_lost_silently(void **state) {
    struct input_list list = {0};
    struct cause cause;
    (void)state;
    assert_true(folder_make(at("entries/closed/below"), &cause));
    touch("entries/a.png");
    assert_int_equal(symlink("nowhere", at("entries/dangling")), 0);
    assert_int_equal(symlink("self", at("entries/self")), 0);
    assert_true(inputs_collect(&list, at("entries"), NULL));
    assert_int_equal(list.count, 1);
    assert_int_equal(list.failed, 2);
    assert_int_equal(chmod(at("entries/closed"), 0600), 0); // its names can be read, and no more
    if (access(at("entries/closed/below"), F_OK) != 0) {    // not so for root
        assert_true(inputs_collect(&list, at("entries"), NULL));
        assert_int_equal(list.failed, 2 + 3);
    }
    assert_int_equal(chmod(at("entries/closed"), 0700), 0);
    inputs_free(&list);
}

static void inputs_are_never_overwritten(void **state) {
    static const char *const suffixes[] = {"_mask.png", "_overlay.png", NULL};
    static const char *const unique[] = {"x-2", "x_mask", "X"};
    struct input_list list = {0};
    struct cause cause;
    (void)state;
    assert_true(folder_make(at("same"), &cause));
    touch("same/x.png");
    touch("same/x_mask.png");
    touch("same/X.jpg");
    assert_true(inputs_collect(&list, at("same/x.png"), NULL));
    assert_true(inputs_collect(&list, at("same/x_mask.png"), NULL));
    assert_true(inputs_collect(&list, at("same/X.jpg"), NULL));
    assert_true(inputs_name_outputs(&list, at("same"), suffixes)); // x_mask.png is taken: it is an input
    if (access(at("same/X_MASK.PNG"), F_OK) != 0) {                // a file system that knows upper from lower case
        assert_stems(&list, unique, 3);
    }
    inputs_free(&list);
}

// Also where a name is not to be had at all, as an output would overwrite an input.
static void many_equal_names(void **state) {
    enum { MANY = 20000, MOST_SECONDS = 3 };
    static const char *const suffixes[] = {"_mask.png", NULL};
    struct input_list list = {0};
    struct cause cause;
    (void)state;
    assert_true(folder_make(at("many"), &cause));
    touch("many/a.png");
    touch("many/b.png");
    touch("many/b_mask.png");
    assert_true(inputs_collect(&list, at("many/b_mask.png"), NULL));
    for (int i = 0; i < MANY; i++) {
        assert_true(inputs_collect(&list, at("many/a.png"), NULL));
        assert_true(inputs_collect(&list, at("many/b.png"), NULL));
    }
    assert_true(inputs_collect(&list, at("in/b.JPG"), NULL));
    const clock_t since = clock();
    assert_true(inputs_name_outputs(&list, at("many"), suffixes));
    assert_true(clock() - since < MOST_SECONDS * CLOCKS_PER_SEC);
    assert_string_equal(list.items[0].stem, "b_mask");
    assert_string_equal(list.items[1].stem, "a");
    assert_string_equal(list.items[2].stem, "b-2");
    assert_string_equal(list.items[2 * MANY - 1].stem, "a-20000");
    assert_string_equal(list.items[2 * MANY].stem, "b-20001");
    assert_string_equal(list.items[2 * MANY + 1].stem, "b-20002");
    inputs_free(&list);
}

// A name with a number may be there by itself.
static void numbered_names(void **state) {
    static const char *const names[] = {"a.png", "a-2.png", "a.png", "A.png", "a-2.png"};
    static const char *const unique[] = {"a", "a-2", "a-3", "A-4", "a-2-2"};
    static const char *const suffixes[] = {"_mask.png", NULL};
    struct input_list list = {0};
    struct cause cause;
    (void)state;
    assert_true(folder_make(at("numbered"), &cause));
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char name[64];
        snprintf(name, sizeof(name), "numbered/%s", names[i]);
        touch(name);
        assert_true(inputs_collect(&list, at(name), NULL));
    }
    assert_true(inputs_name_outputs(&list, at("out"), suffixes));
    assert_stems(&list, unique, 5);
    inputs_free(&list);
}

static void paths(void **state) {
    (void)state;
    assert_string_equal(path_extension("a/b.c/d.PNG"), ".PNG");
    assert_string_equal(path_extension("a/b.c/d"), "");
    assert_string_equal(path_extension("a/.png"), "");
    assert_true(path_has_extension("x.JpG", ".jpg"));
    assert_false(path_has_extension("x.jpgs", ".jpg"));
    assert_false(path_has_extension("x.jp", ".jpg"));
    char *joined = path_join("a/", "b");
    assert_string_equal(joined, "a/b");
    free(joined);
    joined = path_join("", "b");
    assert_string_equal(joined, "b");
    free(joined);
}

static void files_are_whole_or_absent(void **state) {
    struct cause cause;
    struct output output;
    uint8_t *data;
    size_t size;
    (void)state;
    assert_true(file_write(at("whole"), "old", 3, &cause));
    assert_true(output_open(&output, at("whole"), &cause));
    assert_true(output_write(&output, "new and longer", 14, &cause));
    assert_true(file_read(at("whole"), 100, NULL, &data, &size, &cause)); // not yet
    assert_int_equal(size, 3);
    free(data);
    output_discard(&output);
    assert_true(file_read(at("whole"), 100, NULL, &data, &size, &cause));
    assert_memory_equal(data, "old", 3);
    free(data);
    assert_false(file_read(at("whole"), 2, NULL, &data, &size, &cause));
    assert_true(file_write(at("none"), "", 0, &cause));
    assert_false(file_read(at("none"), 100, NULL, &data, &size, &cause));
    assert_string_equal(cause.text, "empty file");
    assert_false(folder_make(at("whole/below"), &cause));
    assert_non_null(strstr(cause.text, "Not a directory"));
}

static void assert_content(const char *name, const char *text) {
    struct cause cause;
    uint8_t *data;
    size_t size;
    assert_true(file_read(at(name), 100, NULL, &data, &size, &cause));
    assert_int_equal(size, strlen(text));
    assert_memory_equal(data, text, size);
    free(data);
}

static void assert_link(const char *name) {
    struct stat status;
    assert_int_equal(lstat(at(name), &status), 0);
    assert_true(S_ISLNK(status.st_mode));
}

static void links_stay_links(void **state) {
    struct cause cause;
    (void)state;
    assert_true(folder_make(at("links/below"), &cause));
    touch("links/target");
    assert_int_equal(symlink("target", at("links/near")), 0);
    assert_int_equal(symlink("../near", at("links/below/far")), 0);
    assert_int_equal(symlink(at("links/new"), at("links/dangling")), 0);
    assert_int_equal(symlink("loop", at("links/loop")), 0);
    assert_true(file_write(at("links/below/far"), "through", 7, &cause));
    assert_link("links/below/far");
    assert_link("links/near");
    assert_content("links/target", "through");
    assert_true(file_write(at("links/dangling"), "made", 4, &cause));
    assert_link("links/dangling");
    assert_content("links/new", "made");
    assert_false(file_write(at("links/loop"), "nowhere", 7, &cause));
    assert_link("links/loop");
    assert_int_equal(symlink(at("links/nowhere"), at("links/folder")), 0);
    assert_false(folder_make(at("links/folder"), &cause));
    assert_string_equal(cause.text, "folder cannot be made: Not a directory");
}

// Who may read a file, and who may not, is so again after it has been replaced.
static void permissions_stay(void **state) {
    static const mode_t modes[] = {0600, 0640, 0666, 0444};
    struct cause cause;
    struct stat status;
    (void)state;
    const mode_t mask = umask(022);
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        touch("secret");
        assert_int_equal(chmod(at("secret"), modes[i]), 0);
        assert_true(file_write(at("secret"), "new", 3, &cause));
        assert_int_equal(stat(at("secret"), &status), 0);
        assert_int_equal(status.st_mode & 0777, modes[i]);
    }
    assert_int_equal(remove(at("secret")), 0);
    touch("secret");
    assert_int_equal(stat(at("secret"), &status), 0);
    assert_int_equal(status.st_mode & 0777, 0644);
    umask(mask);
}

static void groups_stay(void **state) {
    enum { GROUP = 12345 };
    struct cause cause;
    struct stat status;
    (void)state;
    touch("shared");
    if (chown(at("shared"), (uid_t)-1, GROUP) != 0) {
        skip(); // only root may
    }
    assert_int_equal(chmod(at("shared"), 0640), 0);
    assert_true(file_write(at("shared"), "new", 3, &cause));
    assert_int_equal(stat(at("shared"), &status), 0);
    assert_int_equal(status.st_gid, GROUP);
    assert_int_equal(status.st_mode & 0777, 0640);
}

// As a file that is mounted into a container, in a folder of its image. Nothing is lost by opening it alone.
static void what_is_in_a_closed_folder_is_written_in_place(void **state) {
    enum { NOBODY = 65534 };
    struct cause cause;
    struct output output;
    struct stat before, after;
    (void)state;
    assert_true(folder_make(at("closed"), &cause));
    assert_true(file_write(at("closed/file"), "old and longer", 14, &cause));
    assert_int_equal(symlink("file", at("closed/link")), 0);
    assert_int_equal(stat(at("closed/file"), &before), 0);
    assert_int_equal(chmod(at("closed/file"), 0666), 0);
    assert_int_equal(chmod(at("closed"), 0555), 0);
    assert_int_equal(chmod(folder, 0755), 0);
    const bool root = geteuid() == 0;
    if (root && seteuid(NOBODY) != 0) {
        skip();
    }
    const bool opened = output_open(&output, at("closed/link"), &cause);
    output_discard(&output);
    const bool whole = stat(at("closed/file"), &after) == 0 && after.st_size == 14;
    const bool written = file_write(at("closed/link"), "new", 3, &cause);
    const bool made = file_write(at("closed/none"), "new", 3, &cause);
    if (root) {
        assert_int_equal(seteuid(0), 0);
    }
    assert_true(opened && whole && written);
    assert_content("closed/file", "new");
    assert_int_equal(stat(at("closed/file"), &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    assert_false(made);
    assert_int_equal(cause.error, EACCES);
    assert_int_equal(chmod(at("closed"), 0755), 0);
}

// What a process that was killed left, whose number this one has again.
static void leftovers_are_in_nobodys_way(void **state) {
    enum { LEFT = 100 };
    struct cause cause;
    struct output output;
    unsigned long number;
    char name[64];
    (void)state;
    assert_true(output_open(&output, at("again"), &cause));
    const char *temporary = path_name(output.temporary);
    assert_int_equal(sscanf(strrchr(temporary, '-'), "-%lu.part", &number), 1);
    output_discard(&output);
    for (unsigned long left = 1; left < LEFT; left++) { // the names of the next outputs
        snprintf(name, sizeof(name), ".hymn-%ld-%lu.part", (long)getpid(), number + left);
        FILE *file = fopen(at(name), "wx");
        assert_non_null(file);
        fclose(file);
    }
    assert_true(file_write(at("again"), "whole", 5, &cause));
    assert_content("again", "whole");
    for (unsigned long left = 1; left < LEFT; left++) {
        snprintf(name, sizeof(name), ".hymn-%ld-%lu.part", (long)getpid(), number + left);
        assert_int_equal(remove(at(name)), 0); // not ours to remove
    }
}

static void queues(void **state) {
    struct queue queue;
    int items[3] = {0};
    (void)state;
    assert_true(queue_init(&queue, 2, 10));
    assert_true(queue_push(&queue, &items[0]));
    queue_hurry(&queue);
    assert_ptr_equal(queue_pop(&queue, 1), &items[0]); // what there is comes first
    assert_null(queue_pop(&queue, 1));
    assert_true(queue_push(&queue, &items[1]));
    assert_true(queue_push(&queue, &items[2]));
    queue_close(&queue);
    assert_false(queue_push(&queue, &items[0]));
    assert_ptr_equal(queue_pop(&queue, 0), &items[1]);
    assert_ptr_equal(queue_pop(&queue, 1), &items[2]);
    assert_null(queue_pop(&queue, 0));
    queue_reserve(&queue, 100); // alone, an item may be beyond the budget
    queue_release(&queue, 100);
    queue_reserve(&queue, 5);
    queue_reserve(&queue, 5);
    queue_release(&queue, 10);
    queue_destroy(&queue);
}

// Both ends wait for each other: one for memory, the other for more than the one item that it holds.
static void reserve_four(void *argument) {
    struct queue *queue = argument;
    static int item;
    for (int i = 0; i < 4; i++) {
        queue_reserve(queue, 6);
        queue_push(queue, &item);
    }
    queue_close(queue);
}

static void who_waits_for_memory_gets_it(void **state) {
    struct queue queue;
    hymn_thread thread;
    unsigned held = 0, got = 0;
    (void)state;
    assert_true(queue_init(&queue, 2, 10));
    assert_true(hymn_thread_start(&thread, reserve_four, &queue));
    for (;;) {
        if (queue_pop(&queue, 6 * held) != NULL) {
            held++;
            got++;
        } else if (held > 0) {
            assert_int_equal(held, 1); // of 6, where 10 are to be had
            queue_release(&queue, 6);
            held--;
        } else {
            break;
        }
    }
    hymn_thread_join(thread);
    assert_int_equal(got, 4);
    queue_destroy(&queue);
}

enum { BUDGET = 10, LARGE = 8, SMALL = 4 };

struct reservation {
    struct queue *queue;
    uint64_t cost;
};

static void reserve_and_push(void *argument) {
    const struct reservation *own = argument;
    queue_reserve(own->queue, own->cost);
    queue_push(own->queue, argument);
}

static void start_waiting(hymn_thread *out_thread, struct reservation *reservation) {
    struct queue *queue = reservation->queue;
    const uint64_t ticket = queue->tickets;
    assert_true(hymn_thread_start(out_thread, reserve_and_push, reservation));
    for (bool waits = false; !waits;) {
        hymn_mutex_lock(&queue->lock);
        waits = queue->tickets > ticket && (queue->wanted > 0 || queue->served > ticket);
        hymn_mutex_unlock(&queue->lock);
    }
}

// Though smaller reservations behind it would fit.
static void large_reservations_get_their_turn(void **state) {
    struct queue queue;
    struct reservation large = {&queue, LARGE}, small[2] = {{&queue, SMALL}, {&queue, SMALL}};
    hymn_thread threads[3];
    (void)state;
    assert_true(queue_init(&queue, 3, BUDGET));
    queue_reserve(&queue, SMALL);
    start_waiting(&threads[0], &large);
    start_waiting(&threads[1], &small[0]);
    start_waiting(&threads[2], &small[1]);
    assert_int_equal(queue.reserved, SMALL);
    assert_null(queue_pop(&queue, SMALL));
    queue_release(&queue, SMALL);
    assert_ptr_equal(queue_pop(&queue, 0), &large);
    assert_null(queue_pop(&queue, LARGE));
    queue_release(&queue, LARGE);
    const void *first = queue_pop(&queue, 0);
    assert_true(first == &small[0] || first == &small[1]); // both fit: either may be pushed first
    assert_non_null(queue_pop(&queue, SMALL));
    for (int i = 0; i < 3; i++) {
        hymn_thread_join(threads[i]);
    }
    queue_destroy(&queue);
}

static void push_late(void *argument) {
    nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL); // until the other one waits, or has given up
    queue_push(argument, argument);
}

static void release_late(void *argument) {
    nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    queue_release(argument, SMALL);
}

// Batches are filled as long as there is something that may come.
static void who_waits_for_memory_hurries_only_who_keeps_it(void **state) {
    struct queue queue;
    struct reservation large = {&queue, LARGE};
    hymn_thread waiting, other;
    (void)state;
    assert_true(queue_init(&queue, 3, BUDGET));
    queue_reserve(&queue, SMALL); // one that is held here, and one that is being made
    queue_reserve(&queue, SMALL);
    start_waiting(&waiting, &large);
    assert_true(hymn_thread_start(&other, push_late, &queue));
    assert_ptr_equal(queue_pop(&queue, SMALL), &queue);
    hymn_thread_join(other);
    assert_null(queue_pop(&queue, 2 * SMALL)); // now none will
    assert_true(hymn_thread_start(&other, release_late, &queue));
    assert_null(queue_pop(&queue, SMALL)); // of the two one is held, and one was passed on
    assert_int_equal(queue.reserved, SMALL);
    hymn_thread_join(other);
    queue_release(&queue, SMALL);
    assert_ptr_equal(queue_pop(&queue, 0), &large);
    hymn_thread_join(waiting);
    queue_destroy(&queue);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folders_are_walked_in_order),
        cmocka_unit_test(links_to_folders_are_followed),
        cmocka_unit_test(nothing_is_lost_silently),
        cmocka_unit_test(no_entry_is_lost_silently),
        cmocka_unit_test(inputs_are_never_overwritten),
        cmocka_unit_test(many_equal_names),
        cmocka_unit_test(numbered_names),
        cmocka_unit_test(paths),
        cmocka_unit_test(files_are_whole_or_absent),
        cmocka_unit_test(links_stay_links),
        cmocka_unit_test(permissions_stay),
        cmocka_unit_test(groups_stay),
        cmocka_unit_test(what_is_in_a_closed_folder_is_written_in_place),
        cmocka_unit_test(leftovers_are_in_nobodys_way),
        cmocka_unit_test(queues),
        cmocka_unit_test(who_waits_for_memory_gets_it),
        cmocka_unit_test(large_reservations_get_their_turn),
        cmocka_unit_test(who_waits_for_memory_hurries_only_who_keeps_it),
    };
    return cmocka_run_group_tests_name("cli_inputs", tests, set_up, tear_down);
}
