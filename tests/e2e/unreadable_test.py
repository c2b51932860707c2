"""Folders that cannot be read, at the server or here: nothing follows from what is not known of them, each command says
so with exit status 3, and everything else is done."""

import ctypes
import os
import unittest

from harness import eventually, main
from sync_harness import SyncTest, snapshot

PR_CAPBSET_DROP = 24
READ_EVERYTHING = (1, 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


class Unreadable(SyncTest):
    @classmethod
    def setUpClass(cls):
        # What root starts from here on may not read everything either.
        if os.geteuid() == 0:
            for capability in READ_EVERYTHING:
                if ctypes.CDLL(None, use_errno=True).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
                    raise unittest.SkipTest("root cannot be kept from reading everything")

    def close(self, folder, mode=0):
        os.chmod(folder, mode)
        self.addCleanup(lambda: os.path.exists(folder) and os.chmod(folder, 0o755))

    def fill_both(self):
        for name in ("closed/x", "closed/y", "a", "b", "c", "d"):
            self.write(self.here(name), name.encode())
        self.once()
        self.once("--mode", "pull")
        self.once("--mode", "two-way")

    def partly(self, *arguments, where="at the server"):
        outcome = self.once(*arguments, status=3)
        self.assertRegex(outcome.errors, r"(?m)^capstan: denied: closed %s was left alone" % where)
        return outcome

    def test_ls_and_get_tell_of_each_and_go_on(self):
        for name in ("closed/x", "names/x", "open/x", "z"):
            self.server.write(name, b"x")
        self.close(self.server.path("closed"))
        self.close(self.server.path("names"), 0o400)
        outcome = self.run_capstan("ls", "-R", server=self.server)
        self.assertEqual((outcome.status, outcome.text), (3, "closed\nnames\nopen\nopen/x\nz\n"))
        for name in ("closed", "names"):
            self.assertRegex(outcome.errors, r"(?m)^capstan: denied: cannot [a-z ]* %s: " % name)
        self.assertEqual(len(outcome.errors.splitlines()), 2, outcome.errors)
        self.ok("ls", server=self.server)
        self.fails(6, "denied", "ls", "closed", server=self.server)
        outcome = self.run_capstan("get", "-r", ".", "all", server=self.server)
        self.assertEqual(outcome.status, 3, outcome.errors)
        self.assertEqual(len(outcome.errors.splitlines()), 2, outcome.errors)
        self.assertTrue(os.path.exists(self.local("all", "open", "x")))
        self.assertTrue(os.path.exists(self.local("all", "z")))

    def test_a_folder_of_the_server_that_was_never_readable_removes_nothing(self):
        for mode in ("pull", "push", "two-way"):
            with self.subTest(mode):
                self.write(self.server.path(mode, "closed", "x"), b"x")
                self.write(self.server.path(mode, "a"), b"a")
                self.write(self.here(mode, "a"), b"a")
                self.close(self.server.path(mode, "closed"))
                places = dict(local="here/" + mode, remote=mode)
                self.once("--mode", mode, status=3, **places)
                if mode != "push":
                    os.chmod(self.here(mode, "closed"), 0o755)
                self.write(self.here(mode, "closed", "y"), b"y")
                # Else the server's folder is given the mode of the local one, which the server may do here.
                for _ in range(3 if mode == "pull" else 1):
                    outcome = self.once("--mode", mode, status=3, **places)
                    self.assertRegex(outcome.errors, r"(?m)^capstan: denied: closed at the server was left alone")
                for closed in (self.here(mode, "closed"), self.server.path(mode, "closed")):
                    os.chmod(closed, 0o755)
                self.assertTrue(os.path.exists(self.here(mode, "closed", "y")))
                self.once("--mode", mode, status=0 if mode == "two-way" else 5, **places)
                self.assertTrue(os.path.exists(self.here(mode, "closed", "y")))
                self.assertTrue(os.path.exists(self.server.path(mode, "closed", "x")))
                if mode == "two-way":
                    self.assertInStep(self.here(mode), self.server.path(mode))

    def test_a_folder_of_the_server_that_was_closed_removes_nothing_and_the_rest_is_done(self):
        self.fill_both()
        for mode in ("pull", "push", "two-way"):
            with self.subTest(mode):
                self.close(self.there("closed"))
                source = self.there if mode == "pull" else self.here
                self.write(source("new " + mode), b"new")
                self.partly("--mode", mode)
                self.assertTrue(os.path.exists(self.here("new " + mode)))
                self.assertTrue(os.path.exists(self.there("new " + mode)))
                # It has got the mode of the server's.
                os.chmod(self.here("closed"), 0o755)
                self.assertEqual(sorted(os.listdir(self.here("closed"))), ["x", "y"])
                os.chmod(self.there("closed"), 0o755)
                self.once("--mode", mode)
                self.assertInStep()

    def test_what_waits_in_a_closed_folder_is_told_until_it_is_sent(self):
        self.fill_both()
        os.chmod(self.there("closed"), 0o755)
        self.close(self.there("closed"))
        self.write(self.here("closed", "new"), b"new")
        # The server's folder is given back its mode by the first run, being its owner's.
        self.once(status=3)
        self.once()
        self.assertInStep()

    def test_a_folder_here_that_was_closed_removes_nothing(self):
        self.fill_both()
        before = set(snapshot(self.there()))

        def open_both():
            for folder in (self.here("closed"), self.there("closed")):
                os.chmod(folder, 0o755)
        self.close(self.here("closed"))
        os.unlink(self.here("a"))
        for _ in range(2):
            self.partly("--mode", "push", where="here")
        open_both()
        self.assertEqual(set(snapshot(self.there())), before - {"a"})
        self.once()
        self.assertInStep()

    def test_the_report_names_them(self):
        self.fill_both()
        self.close(self.there("closed"))
        report = self.report("--mode", "two-way", status=3)
        self.assertEqual([(each["path"], each["side"], each["error"]["code"]) for each in report["unread"]],
                         [("closed", "server", "denied")])
        self.assertEqual(report["failures"], [])

    def test_it_is_told_once_by_a_sync_that_goes_on_and_taken_up_when_it_can_be_read(self):
        self.write(self.there("closed", "x"), b"x")
        self.close(self.there("closed"))
        process = self.begin("--mode", "two-way")
        eventually(lambda: os.path.isdir(self.here("closed")), "the folder is made")
        for i in range(10):
            self.write(self.here("f%d" % i), b"")
            eventually(lambda: os.path.exists(self.there("f%d" % i)), "a file arrives")
        os.chmod(self.there("closed"), 0o755)
        eventually(lambda: os.path.exists(self.here("closed", "x")), "what is in it arrives")
        # Once, and once more with the folder here, which has got its mode.
        told = self.end(process).errors.count("closed at the server was left alone")
        self.assertTrue(1 <= told <= 3, told)


if __name__ == "__main__":
    main()
