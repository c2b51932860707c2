"""Doubtful evidence never deletes: each case of the guard matrix, with exit status 5 and a way to go on."""

import os
import re
import shutil
import unittest

from harness import main
from sync_harness import SyncTest, snapshot

FILES = 20


class Guards(SyncTest):
    def setUp(self):
        super().setUp()
        for i in range(FILES):
            self.write(self.here("d%d" % (i % 4), "f%d" % i), b"%d" % i)

    def assertUntouched(self, before, folder=None):
        self.assertEqual(snapshot(folder or self.there()), before)

    def test_a_local_root_that_is_missing(self):
        self.once()
        before = snapshot(self.there())
        os.rename(self.here(), self.local("gone"))
        self.stopped()
        self.assertUntouched(before)
        os.rename(self.local("gone"), self.here())
        self.once()
        self.assertInStep()

    def test_a_local_root_that_is_empty(self):
        self.once()
        before = snapshot(self.there())
        shutil.rmtree(self.here())
        os.mkdir(self.here())
        self.stopped()
        self.assertUntouched(before)

    def test_a_local_root_that_was_emptied(self):
        self.once()
        before = snapshot(self.there())
        for i in range(4):
            shutil.rmtree(self.here("d%d" % i))
        outcome = self.stopped()
        self.assertUntouched(before)
        count = re.search(r"--accept-deletes (\d+)", outcome.errors)
        self.assertIsNotNone(count, outcome.errors)
        self.assertEqual(int(count.group(1)), FILES + 4)
        self.stopped("--accept-deletes", str(FILES + 3))
        self.assertUntouched(before)
        self.once("--accept-deletes", str(FILES + 4))
        self.assertEqual(snapshot(self.there()), {})

    def test_a_local_root_that_is_a_file(self):
        self.once()
        before = snapshot(self.there())
        shutil.rmtree(self.here())
        self.write(self.here(), b"a file")
        self.stopped()
        self.assertUntouched(before)

    def test_a_remote_root_that_is_missing_or_emptied_in_a_pull(self):
        self.once()
        self.once("--mode", "pull")
        before = snapshot(self.here())
        os.rename(self.there(), self.server.path("gone"))
        self.stopped("--mode", "pull")
        self.assertUntouched(before, self.here())
        os.mkdir(self.there())
        self.stopped("--mode", "pull")
        self.assertUntouched(before, self.here())

    def test_a_remote_root_that_is_a_file_in_a_pull(self):
        self.once()
        before = snapshot(self.here())
        shutil.rmtree(self.there())
        self.write(self.there(), b"a file")
        self.stopped("--mode", "pull")
        self.assertUntouched(before, self.here())

    def test_less_than_half_is_removed_without_asking(self):
        self.once()
        for i in range(4):
            os.unlink(self.here("d%d" % i, "f%d" % i))
        self.once()
        self.assertInStep()

    def test_a_thousand_files_going_at_once(self):
        for i in range(3000):
            self.write(self.here("many", str(i)), b"")
        self.once()
        before = snapshot(self.there())
        for i in range(1000):
            os.unlink(self.here("many", str(i)))
        outcome = self.stopped()
        self.assertIn("--accept-deletes 1000", outcome.errors)
        self.assertUntouched(before)

    @unittest.skipIf(os.geteuid() == 0, "root may read everything")
    def test_a_folder_that_cannot_be_read(self):
        self.once()
        before = snapshot(self.there())
        os.chmod(self.here("d1"), 0)
        self.addCleanup(os.chmod, self.here("d1"), 0o755)
        self.run_capstan(*self.sync_words("--once"), server=self.server)
        os.chmod(self.here("d1"), 0o755)
        self.assertEqual(set(snapshot(self.there())), set(before))

    def test_extras_of_a_first_run_stay(self):
        self.write(self.there("extra", "file"), b"nobody knows why")
        outcome = self.stopped()
        self.assertTrue(os.path.exists(self.there("extra", "file")))
        self.assertTrue(os.path.exists(self.there("d1", "f1")), "everything else is carried out")
        count = re.search(r"--accept-deletes (\d+)", outcome.errors).group(1)
        self.once("--accept-deletes", count)
        self.assertInStep()

    def states(self):
        """The files in which the client keeps what was agreed."""
        found = []
        for where, _, files in os.walk(self.home):
            if os.path.basename(where) == "sync":
                found += [os.path.join(where, name) for name in files]
        self.assertTrue(found)
        return found

    def test_a_lost_state_removes_nothing(self):
        self.once()
        os.unlink(self.here("d0", "f0"))
        for path in self.states():
            os.unlink(path)
        self.stopped()
        self.assertTrue(os.path.exists(self.there("d0", "f0")))

    def test_a_damaged_state_removes_nothing(self):
        self.once()
        os.unlink(self.here("d0", "f0"))
        for path in self.states():
            size = os.path.getsize(path)
            with open(path, "wb") as file:
                file.write(os.urandom(size))
        self.stopped()
        self.assertTrue(os.path.exists(self.there("d0", "f0")))

    def test_changed_ignore_rules_remove_nothing(self):
        self.write(self.here("a.log"), b"1")
        self.once()
        self.once("--exclude", "*.log")
        self.assertTrue(os.path.exists(self.there("a.log")))
        os.unlink(self.here("a.log"))
        self.once("--exclude", "*.log")
        self.assertTrue(os.path.exists(self.there("a.log")))
        self.stopped()
        self.assertTrue(os.path.exists(self.there("a.log")))


if __name__ == "__main__":
    main()
