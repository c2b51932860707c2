"""`capstan sync`: every kind of change in every mode, once and continuously."""

import json
import os
import re
import shutil
import signal
import socket
import threading
import time
import unittest

from harness import Proxy, eventually, main
from sync_harness import SyncTest, snapshot


class Push(SyncTest):
    def test_everything_is_sent_and_the_second_run_has_nothing_to_do(self):
        self.fill(self.here())
        outcome = self.once()
        self.assertRegex(outcome.text, r"^6 files sent")
        self.assertInStep()
        self.assertLess(os.stat(self.there("sparse")).st_blocks * 512, 4 << 20, "holes stay holes")
        self.assertNothingToDo()

    def test_every_kind_of_change_arrives(self):
        self.fill(self.here())
        self.once()
        self.write(self.here("a", "one"), b"changed")
        os.chmod(self.here("a", "b", "two"), 0o640)
        os.utime(self.here("empty"), ns=(0, 999_999_999))
        os.rename(self.here("no", "thing"), self.here("something"))
        os.unlink(self.here("a", "link"))
        os.symlink("one", self.here("a", "link"))
        self.write(self.here("new", "deep", "file"), b"new")
        os.chmod(self.here("no"), 0o755)
        os.unlink(self.here("sparse"))
        self.once()
        self.assertInStep()
        self.assertNothingToDo()

    def test_files_folders_and_links_take_each_others_places(self):
        self.write(self.here("file-folder"), b"1")
        self.write(self.here("folder-file", "in"), b"2")
        os.symlink("x", self.here("link-file"))
        self.write(self.here("file-link"), b"3")
        self.write(self.here("folder-link", "in"), b"4")
        os.symlink("x", self.here("link-folder"))
        for i in range(20):
            self.write(self.here("others", str(i)), b"%d" % i)
        self.once()
        os.unlink(self.here("file-folder"))
        self.write(self.here("file-folder", "in"), b"5")
        shutil.rmtree(self.here("folder-file"))
        self.write(self.here("folder-file"), b"6")
        os.unlink(self.here("link-file"))
        self.write(self.here("link-file"), b"7")
        os.unlink(self.here("file-link"))
        os.symlink("y", self.here("file-link"))
        shutil.rmtree(self.here("folder-link"))
        os.symlink("y", self.here("folder-link"))
        os.unlink(self.here("link-folder"))
        self.write(self.here("link-folder", "in"), b"8")
        self.once()
        self.assertInStep()
        self.assertNothingToDo()

    def test_what_was_changed_at_the_server_is_overwritten(self):
        self.fill(self.here())
        self.once()
        self.write(self.there("a", "one"), b"edited at the server")
        os.unlink(self.there("a", "b", "two"))
        self.write(self.there("extra"), b"extra")
        self.once()
        self.assertInStep()
        trashed = []
        for where, _, files in os.walk(self.server.path(".capstan", "trash")):
            trashed += [os.path.join(where, name) for name in files]
        contents = {open(path, "rb").read() for path in trashed if os.path.getsize(path) < 100}
        self.assertIn(b"edited at the server", contents)
        self.assertIn(b"extra", contents)

    def test_a_renamed_folder_costs_no_content(self):
        for i in range(1000):
            self.write(self.here("many", "%d" % i), os.urandom(4096))
        proxy = Proxy(self, self.server.port)
        self.once(address=proxy.address)
        os.rename(self.here("many"), self.here("renamed"))
        before = proxy.bytes["up"]
        outcome = self.once(address=proxy.address)
        self.assertRegex(outcome.text, r"^1 moved in ")
        self.assertLess(proxy.bytes["up"] - before, 10_000)
        self.assertInStep()

    def test_only_what_differs_of_a_large_file_travels(self):
        content = bytearray(os.urandom(64 << 20))
        self.write(self.here("large"), content)
        proxy = Proxy(self, self.server.port)
        self.once(address=proxy.address)
        content[30 << 20] ^= 1
        content[40 << 20:40 << 20] = b"inserted"
        self.write(self.here("large"), content)
        before = sum(proxy.bytes.values())
        self.once(address=proxy.address)
        self.assertInStep()
        self.assertLess(sum(proxy.bytes.values()) - before, 1 << 20)

    def test_a_run_can_be_undone(self):
        self.fill(self.here())
        self.once()
        before = snapshot(self.there())
        self.write(self.here("a", "one"), b"a mistake")
        os.unlink(self.here("empty"))
        os.rename(self.here("large"), self.here("moved"))
        run = self.report()["run"]
        self.assertNotEqual(snapshot(self.there()), before)
        self.ok("undo", run, server=self.server)
        self.assertEqual(snapshot(self.there()), before)

    def test_a_dry_run_says_what_the_run_does_and_changes_nothing(self):
        self.fill(self.here())
        self.once()
        self.write(self.here("a", "one"), b"changed")
        self.write(self.here("new"), b"new")
        os.unlink(self.here("empty"))
        os.rename(self.here("large"), self.here("moved"))
        before = snapshot(self.there())
        planned = self.once("-n").text.splitlines()
        self.assertEqual(snapshot(self.there()), before)
        done = self.ok("-v", *self.sync_words("--once"), server=self.server).text.splitlines()
        self.assertEqual(planned[:-1], done[:-1])
        self.assertEqual(len(planned), 5, planned)
        self.assertInStep()

    def test_ignored_paths_are_left_alone_on_both_sides(self):
        self.write(self.here(".capstanignore"), b"*.tmp\n/build/\n!keep.tmp\n")
        self.write(self.here("a.tmp"), b"1")
        self.write(self.here("keep.tmp"), b"2")
        self.write(self.here("build", "x"), b"3")
        self.write(self.here("sub", "build", "x"), b"4")
        self.write(self.here("not.log"), b"5")
        others = {"other%d" % i for i in range(5)}
        for name in others:
            self.write(self.here(name), b"6")
        self.once("--exclude", "*.log")
        self.assertEqual(set(snapshot(self.there())),
                         {".capstanignore", "keep.tmp", "sub", "sub/build", "sub/build/x"} | others)
        self.write(self.there("b.tmp"), b"the server's")
        shutil.rmtree(self.here("sub"))
        self.write(self.there("sub", "c.tmp"), b"the server's")
        self.once("--exclude", "*.log")
        self.assertTrue(os.path.exists(self.there("b.tmp")))
        self.assertTrue(os.path.exists(self.there("sub", "c.tmp")))

    def test_special_files_are_skipped_and_told(self):
        os.mkfifo(self.here("pipe"))
        self.write(self.here("a"), b"1")
        outcome = self.once()
        self.assertIn("pipe", outcome.errors)
        self.assertEqual(set(snapshot(self.there())), {"a"})

    def test_what_changes_meanwhile_is_put_off_and_told(self):
        path = self.write(self.here("busy"), os.urandom(20_000_000))
        over = threading.Event()

        def write():
            with open(path, "r+b", buffering=0) as file:
                while not over.is_set():
                    file.seek(0)
                    file.write(os.urandom(100))

        writer = threading.Thread(target=write)
        writer.start()
        self.addCleanup(writer.join)
        self.addCleanup(over.set)
        told = r"(?m)^1 path changed meanwhile, .* was put off; run it again$"
        eventually(lambda: re.search(told, self.run_capstan(*self.sync_words("--once"), server=self.server).errors),
                   "a run that is disturbed")
        over.set()
        writer.join()
        self.once()
        self.assertInStep()

    def test_equal_trees_agree_without_any_content(self):
        self.fill(self.here())
        shutil.copytree(self.here(), self.there(), symlinks=True)
        for name in ("a", "a/b", "no", "no/thing"):
            os.chmod(self.there(name), os.stat(self.here(name)).st_mode & 0o7777)
        report = self.report()
        self.assertEqual(report["filesSent"], 0, report)
        self.assertInStep()

    def test_checksum_finds_what_size_and_time_hide(self):
        self.write(self.here("a"), b"one")
        self.once()
        status = os.stat(self.there("a"))
        self.write(self.there("a"), b"two")
        os.utime(self.there("a"), ns=(status.st_atime_ns, status.st_mtime_ns))
        self.once("--checksum")
        self.assertEqual(self.server.read("there/a"), b"one")


class Pull(SyncTest):
    def test_the_local_folder_becomes_a_mirror(self):
        self.fill(self.there())
        self.once("--mode", "pull")
        self.assertInStep()
        self.assertNothingToDo("--mode", "pull")
        self.write(self.there("a", "one"), b"changed")
        os.rename(self.there("large"), self.there("moved"))
        os.unlink(self.there("empty"))
        self.write(self.there("new", "file"), b"new")
        self.once("--mode", "pull")
        self.assertInStep()
        self.assertNothingToDo("--mode", "pull")

    def test_what_was_replaced_and_then_removed_between_two_runs_goes(self):
        for name in "abc":
            self.write(self.there(name), b"1")
        self.write(self.there("saved"), b"first")
        self.write(self.there("made anew"), b"first")
        os.mkdir(self.local("other"))
        self.once("--mode", "pull")
        # As editors save.
        self.write(self.there("saved.tmp"), b"second")
        os.rename(self.there("saved.tmp"), self.there("saved"))
        os.unlink(self.there("made anew"))
        self.write(self.there("made anew"), b"second")
        # Somebody else asks, so that the server looks at what there is.
        self.once("--mode", "pull", local="other")
        os.unlink(self.there("saved"))
        os.unlink(self.there("made anew"))
        self.once("--mode", "pull")
        self.assertInStep()

    def test_what_a_pull_displaces_is_in_the_local_trash(self):
        self.write(self.there("a"), b"the server's")
        self.write(self.there("b"), b"b")
        self.once("--mode", "pull")
        self.write(self.here("a"), b"precious")
        self.once("--mode", "pull")
        self.assertInStep()
        found = []
        for where, _, files in os.walk(self.here(".capstan")):
            found += [open(os.path.join(where, name), "rb").read() for name in files]
        self.assertIn(b"precious", found)

    def test_holes_and_large_files_arrive(self):
        self.write(self.there("large"), os.urandom(5 << 20))
        with open(self.there("sparse"), "wb") as file:
            file.write(b"begin")
            file.seek(32 << 20)
            file.write(b"end")
        self.once("--mode", "pull")
        self.assertInStep()
        self.assertLess(os.stat(self.here("sparse")).st_blocks * 512, 16 << 20)


class TwoWay(SyncTest):
    def both(self, *arguments, **options):
        return self.once("--mode", "two-way", *arguments, **options)

    def test_changes_of_both_sides_meet(self):
        self.fill(self.here())
        self.both()
        self.write(self.here("mine"), b"1")
        self.write(self.there("theirs"), b"2")
        os.unlink(self.here("empty"))
        os.rename(self.there("a", "one"), self.there("a", "uno"))
        os.chmod(self.there("no"), 0o750)
        self.both()
        self.assertInStep()
        self.assertIn("a/uno", snapshot(self.here()))
        self.assertNotIn("empty", snapshot(self.here()))
        self.assertNothingToDo("--mode", "two-way")

    def test_conflicts_keep_both_contents_and_are_listed(self):
        self.write(self.here("report.txt"), b"base")
        self.both()
        self.write(self.here("report.txt"), b"mine, longer")
        self.write(self.there("report.txt"), b"theirs")
        self.both(status=4)
        self.assertInStep()
        tree = snapshot(self.here())
        kept = [name for name in tree if name.startswith("report.conflict-")]
        self.assertEqual(len(kept), 1, tree.keys())
        self.assertTrue(kept[0].endswith(".txt"))
        self.assertEqual(tree["report.txt"][1], b"theirs")
        self.assertEqual(tree[kept[0]][1], b"mine, longer")
        listed = self.run_capstan("--json", "conflicts", "here")
        self.assertEqual(listed.status, 4)
        self.assertEqual((listed.json["path"], listed.json["kept"]), ("report.txt", kept[0]))
        self.both(status=4)
        os.unlink(self.here(kept[0]))
        self.both()
        self.assertEqual(self.run_capstan("conflicts", "here").status, 0)
        self.assertInStep()

    def test_the_same_change_on_both_sides_is_no_conflict(self):
        self.write(self.here("a"), b"base")
        self.both()
        self.write(self.here("a"), b"the same")
        self.write(self.there("a"), b"the same")
        self.both()
        self.assertInStep()

    def test_what_was_changed_on_one_side_and_removed_on_the_other_stays(self):
        for name in ("a", "b", "c", "d", "e"):
            self.write(self.here(name), b"base")
        self.both()
        self.write(self.here("a"), b"changed here")
        os.unlink(self.there("a"))
        self.write(self.there("b"), b"changed there")
        os.unlink(self.here("b"))
        self.both()
        self.assertInStep()
        self.assertEqual(snapshot(self.here())["a"][1], b"changed here")
        self.assertEqual(snapshot(self.here())["b"][1], b"changed there")


class Continuous(SyncTest):
    def test_changes_arrive_by_themselves_until_it_is_interrupted(self):
        self.fill(self.here())
        process = self.begin()
        eventually(self.inStep, "the first cycle")
        self.write(self.here("new"), b"1")
        eventually(self.inStep, "a new file")
        os.rename(self.here("a"), self.here("z"))
        eventually(self.inStep, "a renamed folder")
        os.unlink(self.here("new"))
        eventually(self.inStep, "a removed file")
        self.write(self.there("z", "one"), b"edited at the server")
        eventually(self.inStep, "an edit at the server is overwritten")
        outcome = self.end(process)
        self.assertEqual(outcome.status, 130, outcome.errors)
        self.assertRegex(outcome.text, r"(?m)^\d\d:\d\d:\d\d .*1 moved.*; undo with: capstan undo [0-9a-f]{32}$")
        self.assertIn("Ctrl-C", outcome.errors)

    def test_without_watching_it_looks_every_interval(self):
        process = self.begin("--no-watch", "--interval", "100ms")
        for i in range(3):
            self.write(self.here("file"), b"x" * i)
            eventually(self.inStep, "what was written")
        self.assertEqual(self.end(process, signal.SIGTERM).status, 143)

    def test_several_clients_agree(self):
        os.mkdir(self.local("second"))
        self.write(self.here("a"), b"1")
        first = self.begin("--mode", "two-way", "--interval", "1h")
        second = self.begin("--mode", "two-way", "--interval", "1h", local="second")
        eventually(lambda: self.inStep(self.local("second"), self.here()), "the first file")
        for i in range(5):
            self.write(self.here("from-first-%d" % i), os.urandom(1000))
            self.write(self.local("second", "from-second-%d" % i), os.urandom(1000))
        eventually(lambda: len(snapshot(self.here())) == 11 and self.inStep(self.local("second"), self.here()),
                   "all files on both")
        self.assertInStep()
        for process in (first, second):
            self.assertEqual(self.end(process).status, 130)

    def test_a_lost_connection_is_made_again(self):
        self.write(self.here("a"), b"1")
        process = self.begin("--interval", "200ms")
        eventually(self.inStep, "the first cycle")
        self.server.kill()
        self.write(self.here("b"), b"2")
        self.server.restart()
        eventually(self.inStep, "what was written meanwhile")
        outcome = self.end(process)
        self.assertEqual(outcome.status, 130)

    def test_changes_are_noticed_also_after_the_server_was_started_anew(self):
        self.write(self.here("a"), b"1")
        process = self.begin("--mode", "two-way", "--interval", "1h")
        eventually(self.inStep, "the first cycle")
        self.server.kill()
        self.server.restart()
        self.write(self.here("b"), b"2")
        eventually(self.inStep, "what was written here")
        self.write(self.there("c"), b"3")
        eventually(self.inStep, "what was written at the server")
        self.assertEqual(self.end(process).status, 130)

    def test_events_are_json_objects(self):
        self.write(self.here("a"), b"1")
        process = self.spawn("--json", "-v", *self.sync_words(), server=self.server)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        events = []
        while not events or events[-1]["event"] != "started":
            events.append(json.loads(process.stdout.readline()))
        process.send_signal(signal.SIGINT)
        process.communicate()
        self.assertEqual(process.returncode, 130)
        self.assertEqual([event["event"] for event in events], ["operation", "cycle", "started"])
        operation, cycle, _ = events
        self.assertEqual((operation["operation"], operation["path"], operation["size"]), ("send", "a", 1))
        self.assertEqual(cycle["filesSent"], 1)


class Words(SyncTest):
    def test_a_missing_local_folder_is_not_found(self):
        self.fails(9, "not-found", "sync", "--once", "missing", "there", server=self.server)

    def test_a_missing_server_is_unreachable(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = "127.0.0.1:%d" % listener.getsockname()[1]
        self.fails(7, "unreachable", "sync", "--once", "here", "there", address=address)

    def test_wrong_flags_are_usage_errors(self):
        for words in (["--mode", "both"], ["--bwlimit", "fast"], ["--interval", "0"], ["--accept-deletes", "some"]):
            self.fails(2, "usage", "sync", "--once", *words, "here", "there", server=self.server)

    def test_a_pair_is_kept_by_one_process(self):
        process = self.begin()
        self.write(self.here("a"), b"1")
        eventually(self.inStep, "the first cycle")
        self.fails(4, "conflict", *self.sync_words("--once"), server=self.server)
        self.end(process)

    def test_explain_tells_what_would_be_done_and_why(self):
        self.write(self.here("a"), b"1")
        self.once()
        self.write(self.here("b"), b"2")
        text = self.ok("explain", "here/b", server=self.server).text
        self.assertIn("sent", text)
        self.fails(9, "not-found", "explain", self.local("elsewhere"), server=self.server)

    def test_conflicts_of_a_folder_that_is_unknown_are_not_found(self):
        self.fails(9, "not-found", "conflicts", "here")

    def test_a_folder_is_not_kept_in_step_with_itself_or_what_is_in_it(self):
        os.makedirs(self.there("inner"))
        for local, remote in ((self.there(), "there"), (self.there(), "there/inner"), (self.there("inner"), "there"),
                              (self.server.path(), "copy")):
            self.fails(1, "invalid-path", *self.sync_words("--once", local=local, remote=remote), server=self.server)
            self.fails(1, "invalid-path", *self.sync_words(local=local, remote=remote), server=self.server)

    def test_an_empty_or_reserved_name_at_the_server_is_refused(self):
        self.fails(2, "usage", *self.sync_words("--once", remote=""), server=self.server)
        self.fails(1, "invalid-path", *self.sync_words("--once", remote=".capstan/staging"), server=self.server)

    def test_what_is_private_here_is_private_there(self):
        self.write(self.here("secret"), b"s")
        os.chmod(self.here(), 0o700)
        self.once()
        self.assertEqual(os.stat(self.there()).st_mode & 0o777, 0o700)

    def test_checksum_reads_what_was_agreed_upon_unread(self):
        for place, content in ((self.here("f"), b"here"), (self.there("f"), b"gone")):
            self.write(place, content)
            os.utime(place, ns=(0, 1_500_000_000))
        eventually(lambda: os.stat(self.here("f")).st_ctime < time.time() - 0.1, "the times are old")
        self.once()
        self.once("--checksum")
        self.assertInStep()

    def test_a_folder_that_was_emptied_at_the_server_is_filled_again(self):
        self.fill(self.here())
        self.once()
        shutil.rmtree(self.there())
        os.mkdir(self.there())
        self.once()
        self.assertInStep()

    def test_bandwidth_is_limited(self):
        self.write(self.here("a"), os.urandom(1 << 20))
        report = self.report("--bwlimit", "2MiB/s")
        self.assertGreater(report["duration"], 0.2)


if __name__ == "__main__":
    main()
