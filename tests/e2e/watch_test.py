"""Watching: what the command line tells of changes through the server and beside it."""

import json
import os
import signal
import subprocess
import threading

from harness import EndToEnd, Server, eventually, main


class Watcher:
    """A running `capstan watch`, whose lines are collected as they come."""

    def __init__(self, case, *arguments, server):
        self.process = case.spawn("-v", "watch", *arguments, server=server)
        self.lines = []
        self.errors = []
        self.threads = [threading.Thread(target=self.collect, args=pair, daemon=True)
                        for pair in ((self.process.stdout, self.lines), (self.process.stderr, self.errors))]
        for thread in self.threads:
            thread.start()
        case.addCleanup(self.end)
        eventually(lambda: self.errors or self.process.poll() is not None, "the watching has begun")

    @staticmethod
    def collect(stream, into):
        for line in stream:
            into.append(line.decode("utf-8", "surrogateescape").rstrip("\n"))

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for thread in self.threads:
            thread.join()
        self.process.stdout.close()
        self.process.stderr.close()

    def until(self, line):
        eventually(lambda: line in self.lines, "%r is told; there is %r, %r" % (line, self.lines, self.errors))


class Watching(EndToEnd):
    def setUp(self):
        super().setUp()
        self.server = Server(self)

    def c(self, *arguments, **options):
        return self.ok(*arguments, server=self.server, **options)

    def watch(self, *arguments):
        return Watcher(self, *arguments, server=self.server)

    def test_each_change_through_the_server_is_a_line(self):
        watcher = self.watch()
        self.assertRegex(watcher.errors[0], r"noticed with (fanotify|inotify|polling).*; from cursor [0-9a-f]{48}$")
        self.c("put", "-", "file", input=b"content")
        watcher.until("created file")
        self.c("put", "-", "file", input=b"other")
        watcher.until("changed file")
        self.c("mkdir", "folder")
        watcher.until("created folder")
        self.c("mv", "file", "folder/moved")
        watcher.until("moved file -> folder/moved")
        self.c("rm", "-r", "folder")
        watcher.until("removed folder")
        self.assertEqual(watcher.lines, ["created file", "changed file", "created folder",
                                         "moved file -> folder/moved", "removed folder"])
        watcher.process.send_signal(signal.SIGINT)
        self.assertEqual(watcher.process.wait(timeout=60), 130)

    def test_changes_by_other_programs_are_lines_too(self):
        watcher = self.watch()
        self.server.write("beside", b"content")
        watcher.until("created beside")
        self.server.write("deep/down/file", b"content")
        watcher.until("created deep/down/file")
        os.unlink(self.server.path("beside"))
        watcher.until("removed beside")

    def test_json_has_the_entry_and_a_cursor_to_go_on_from(self):
        watcher = self.watch("--json", "docs", "--count", "1")
        self.c("put", "-", "elsewhere", input=b"not watched")
        self.c("mkdir", "docs")
        self.assertEqual(watcher.process.wait(timeout=60), 0)
        eventually(lambda: watcher.lines, "its line has come")
        first = json.loads(watcher.lines[0])
        self.assertEqual((first["kind"], first["path"], first["entry"]["type"]), ("created", "docs", "directory"))
        self.assertLessEqual({"path", "type", "size", "mtime", "mode", "version", "cached", "target"},
                             set(first["entry"]))
        self.c("put", "-", "docs/new", input=b"content")
        self.c("mv", "docs/new", "docs/newer")
        self.c("rm", "docs/newer")
        later = self.c("--json", "watch", "--since", first["cursor"], "--count", "1").text.splitlines()
        told = [json.loads(line) for line in later]
        self.assertTrue(told[0]["path"].startswith("docs/"), told)
        self.assertEqual((told[0]["kind"], told[0]["entry"]), ("removed", None))

    def test_a_restarted_server_is_an_overflow_and_the_watching_goes_on(self):
        watcher = self.watch()
        self.c("put", "-", "before", input=b"content")
        watcher.until("created before")
        self.server.restart()
        watcher.until("overflow")
        self.c("put", "-", "after", input=b"content")
        watcher.until("created after")
        as_json = self.c("--json", "status").json
        self.assertEqual(as_json["connections"], 2)

    def test_a_cursor_that_the_server_does_not_know_is_an_overflow(self):
        self.server.write("file")
        outcome = self.spawn("--json", "watch", "--since", "00ff", server=self.server)
        line = json.loads(outcome.stdout.readline())
        self.assertEqual((line["kind"], set(line)), ("overflow", {"kind", "cursor"}))
        outcome.stdout.close()
        self.server.write("other")
        self.server.write("another")
        self.assertIn(outcome.wait(timeout=60), (0, -signal.SIGPIPE), "a pipe closed by the reader ends quietly")
        self.assertEqual(outcome.stderr.read(), b"")
        outcome.stderr.close()
        self.fails(2, "usage", "watch", "--since", "xyz", server=self.server)

    def test_names_are_escaped_for_a_terminal_and_for_json(self):
        watcher = self.watch("--json")
        with open(os.path.join(os.fsencode(self.server.root), b"a\nb\xff"), "wb"):
            pass
        eventually(lambda: watcher.lines, "a line has come")
        self.assertEqual(json.loads(watcher.lines[0])["path"], "a\nb\udcff")

    def test_a_watcher_that_does_not_read_delays_nobody(self):
        stuck = self.spawn("watch", server=self.server)
        self.addCleanup(stuck.wait)
        self.addCleanup(stuck.kill)
        stuck.send_signal(signal.SIGSTOP)
        watcher = self.watch()
        for i in range(300):
            self.server.write("many/%d-%s" % (i, "x" * 200), b"content")
        watcher.until("created many/299-" + "x" * 200)
        stuck.send_signal(signal.SIGCONT)
        stuck.stdout.close()
        stuck.stderr.close()


if __name__ == "__main__":
    main()
