"""What syncs displace on the server: runs, the trash, the way back, and kills in the middle, with the real program."""

import os
import random
import threading

from harness import LONG, main
from sync_harness import SyncTest

KILLS = 100 if LONG else 20
FILES = 1500


class TrashTest(SyncTest):
    def c(self, *arguments, **options):
        return self.ok(*arguments, server=self.server, **options)

    def push(self):
        return self.c(*self.sync_words("--once"))

    def remote(self):
        """What the server's folder holds: path to content, None for folders."""
        return contents(self.there())

    def runs(self):
        return self.c("--json", "runs").json

    def trash(self, *arguments):
        return [item["entry"]["path"].removeprefix("there/") for item in self.c("--json", "trash", *arguments).json]

    def overwrite_and_remove(self):
        """A run that has overwritten one file, removed a folder and made a file; its id."""
        self.write(self.here("file"), b"first")
        self.write(self.here("folder/inner"), b"inner")
        self.write(self.here("moved"), b"moved content")
        self.write(self.here("kept"), b"kept")
        self.push()
        self.write(self.here("file"), b"second content")
        os.unlink(self.here("folder/inner"))
        os.rmdir(self.here("folder"))
        os.rename(self.here("moved"), self.here("elsewhere"))
        self.write(self.here("new"), b"new")
        before = self.remote()
        self.push()
        return self.runs()[0]["id"], before


def contents(folder):
    found = {}
    for top, folders, files in os.walk(folder):
        if ".capstan" in folders:
            folders.remove(".capstan")
        for name in folders:
            found[os.path.relpath(os.path.join(top, name), folder)] = None
        for name in files:
            path = os.path.join(top, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, folder)] = file.read()
    return found


class Runs(TrashTest):
    def test_runs_are_listed_as_text_and_as_json(self):
        run, _ = self.overwrite_and_remove()
        told = self.runs()
        self.assertEqual(len(told), 2)
        first = told[0]
        self.assertEqual(set(first), {"id", "label", "client", "began", "ended", "created", "replaced", "removed",
                                      "moved", "bytes", "canUndo", "undoneBy"})
        self.assertRegex(first["id"], "^[0-9a-f]{32}$")
        self.assertEqual((first["replaced"], first["moved"], first["created"]), (1, 1, 1))
        self.assertGreaterEqual(first["removed"], 1)
        self.assertGreater(first["bytes"], 0)
        self.assertTrue(first["canUndo"])
        self.assertIsNone(first["undoneBy"])
        lines = self.c("runs").text.splitlines()
        self.assertEqual(len(lines), 2)
        self.assertTrue(lines[0].startswith(run[:12] + "  "), lines[0])
        self.assertRegex(lines[0], r"\+1 ~1 -[12] >1")

    def test_the_trash_lists_what_was_displaced_and_gives_it_back(self):
        run, _ = self.overwrite_and_remove()
        self.assertEqual(set(self.trash()) - {"folder"}, {"file", "folder/inner"})
        self.assertEqual(self.trash("there/file"), ["file"])
        self.assertEqual(self.trash("--run", run[:8], "there/folder/inner"), ["folder/inner"])
        self.assertEqual(self.trash("nothing"), [])
        self.assertRegex(self.c("trash", "there/file").text, r"(?m)^\S+ \S+  %s  5 B +there/file$" % run[:12])
        self.fails(10, "exists", "trash", "there/file", "--restore", server=self.server)
        self.c("trash", "there/file", "--restore", "--to", "there/file.before")
        self.assertEqual(self.server.read("there/file.before"), b"first")
        self.assertEqual(self.server.read("there/file"), b"second content")
        self.c("trash", "there/folder/inner", "--restore")
        self.assertEqual(self.server.read("there/folder/inner"), b"inner")
        self.assertEqual(set(self.trash()) - {"folder"}, set())
        self.fails(9, "not-found", "trash", "there/file", "--restore", server=self.server)
        self.fails(2, "usage", "trash", "--restore", server=self.server)
        self.fails(2, "usage", "trash", "--to", "x", server=self.server)

    def test_an_undo_takes_a_run_back_and_can_be_undone(self):
        run, before = self.overwrite_and_remove()
        after = self.remote()
        undone = self.c("--json", "undo", run[:10]).json
        self.assertEqual(undone["failures"], [])
        self.assertGreaterEqual(undone["undone"], 4)
        self.assertEqual(self.remote(), before)
        told = {item["id"]: item for item in self.runs()}
        self.assertEqual(told[run]["undoneBy"], undone["run"])
        self.assertFalse(told[run]["canUndo"])
        self.assertIn("(undone)", self.c("runs").text)
        text = self.c("undo", "-v", undone["run"])
        self.assertRegex(text.errors, r"changes undone; capstan undo [0-9a-f]{12} takes that back")
        self.assertEqual(self.remote(), after)

    def test_what_was_changed_since_is_left_and_named(self):
        run, before = self.overwrite_and_remove()
        self.server.write("there/file", b"by somebody else")
        outcome = self.fails(3, "conflict", "undo", run, server=self.server)
        self.assertRegex(outcome.errors, "(?m)^capstan: conflict: there/file was changed since, and is left as it is$")
        self.assertEqual(self.remote(), dict(before, file=b"by somebody else"))

    def test_unknown_and_ambiguous_runs_are_refused(self):
        self.fails(9, "not-found", "undo", "ffffffff", server=self.server)
        self.overwrite_and_remove()
        self.fails(9, "not-found", "undo", "xyz", server=self.server)
        self.fails(9, "not-found", "trash", "--run", "xyz", server=self.server)
        ids = [item["id"] for item in self.runs()]
        common = os.path.commonprefix(ids)
        if common:
            self.fails(1, "invalid-argument", "undo", common, server=self.server)

    def test_emptying_keeps_what_is_younger(self):
        run, _ = self.overwrite_and_remove()
        self.c("trash", "--empty", "--older-than", "1h")
        self.assertIn("file", self.trash())
        self.c("trash", "--empty", "--older-than", "1ms")
        self.assertEqual(self.trash(), [])
        self.write(self.here("file"), b"third")
        self.push()
        freed = self.c("--json", "trash", "--empty").json["freed"]
        self.assertGreater(freed, 0)
        self.assertEqual(self.trash(), [])
        self.assertEqual(self.runs(), [])
        self.fails(9, "not-found", "undo", run, server=self.server)
        self.fails(2, "usage", "trash", "--older-than", "1h", server=self.server)
        self.fails(2, "usage", "trash", "file", "--empty", server=self.server)


class Kills(TrashTest):
    def test_kills_of_the_server_in_the_middle_lose_nothing(self):
        rng = random.Random(1)
        versions = {}  # path to every content that was ever pushed or meant to be
        tokens = 0

        def write(name):
            nonlocal tokens
            tokens += 1
            content = b"token %d\n" % tokens
            self.write(self.here(name), content)
            versions.setdefault(name, set()).add(content)

        names = ["d%d/f%d" % (i % 30, i) for i in range(FILES)]
        for name in names:
            write(name)
        self.push()
        for _ in range(KILLS):
            before = self.remote()
            for name in rng.sample(names, FILES // 3):
                if rng.random() < 0.25 and os.path.exists(self.here(name)):
                    os.unlink(self.here(name))
                else:
                    write(name)
            process = self.spawn(*self.sync_words("--once"), server=self.server)
            threading.Event().wait(rng.uniform(0.02, 0.6))
            self.server.kill()
            process.kill()
            process.communicate()
            now = self.remote()
            self.server.restart()
            after = self.remote()
            kept = self.kept()
            for name, old in before.items():
                if old is None:
                    continue
                here = after.get(name)
                self.assertTrue(here is None or here in versions[name], (name, here))
                if here != old:
                    self.assertIn(old, kept, "%s: %r is neither there nor in the trash" % (name, old))
            self.assertEqual(set(now) - set(after), set(), "what a kill left is not taken away by the restart")
        self.c(*self.sync_words("--once"))
        mine, theirs = contents(self.here()), self.remote()
        differing = sorted(name for name in set(mine) | set(theirs) if mine.get(name) != theirs.get(name))
        self.assertEqual(differing[:20], [], "%d paths differ" % len(differing))

    def kept(self):
        """All contents in the trash."""
        found = set()
        for top, _, files in os.walk(os.path.join(self.server.root, ".capstan", "trash")):
            for name in files:
                if name != "journal":
                    with open(os.path.join(top, name), "rb") as file:
                        found.add(file.read())
        return found


if __name__ == "__main__":
    main()
