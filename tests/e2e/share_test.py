"""Handing out a folder and taking it back, with the real program: share, invites, shares, revoke."""

import json
import os
import stat

from harness import EndToEnd, Server, eventually, main


class ShareTest(EndToEnd):
    def setUp(self):
        super().setUp()
        self.server = Server(self)
        self.server.write("photos/harbour.jpg", b"not really a picture")
        self.server.write("photos/2026/boat.jpg", b"neither is this")
        self.server.write("photos/numbers.txt", b"10\n9\n-1\n")
        self.server.write("secret.txt", b"not for guests")
        os.symlink("../secret.txt", self.server.path("photos", "way-out"))

    def share(self, *arguments, name="invite", address=None, server=None):
        """The id of a new share, and what --server takes for it."""
        server = None if address else (server or self.server)
        outcome = self.ok("share", *arguments, "-o", name, address=address, server=server)
        return outcome.text.strip(), "@" + self.local(name)

    def shares(self, *arguments, **options):
        return self.ok("--json", "shares", *arguments, **(options or {"server": self.server})).json


class Sharing(ShareTest):
    def test_the_invite_is_all_that_the_receiver_needs(self):
        _, invite = self.share("photos", "--read-write", "--label", "family")
        self.assertEqual(self.ok("ls", address=invite).text, "2026\nharbour.jpg\nnumbers.txt\nway-out\n")
        self.assertEqual(self.ok("cat", "harbour.jpg", address=invite).out, b"not really a picture")
        self.make("new.jpg", b"new")
        self.ok("put", "new.jpg", "2026/", address=invite)
        self.assertEqual(self.server.read("photos/2026/new.jpg"), b"new")
        self.ok("get", "-r", "2026", "copy", address=invite)
        self.assertEqual(sorted(os.listdir(self.local("copy"))), ["boat.jpg", "new.jpg"])
        self.assertEqual(self.ok("sort", "--file", "numbers.txt", "--type", "int", address=invite).text, "-1\n9\n10\n")
        self.ok("sync", "copy", "mirror", "--once", address=invite)
        self.assertEqual(self.server.read("photos/mirror/new.jpg"), b"new")
        script = self.run_capstan("shell", address=invite, input=b"LIST 2026\nADD 2 3\nLOGOUT\n")
        self.assertEqual((script.status, script.text), (0, "boat.jpg\nnew.jpg\n5\n"), script.errors)

    def test_the_environment_names_an_invite_too(self):
        _, invite = self.share("photos")
        self.environment["CAPSTAN_SERVER"] = invite
        self.assertIn("harbour.jpg", self.ok("ls").text)

    def test_watch_tells_of_changes_below_the_share_only(self):
        _, invite = self.share("photos")
        watch = self.spawn("--json", "watch", address=invite)
        self.addCleanup(watch.kill)
        cursor = self.ok("--json", "watch", "--help", address=invite)  # the program is there
        self.assertEqual(cursor.status, 0)

        def told():
            self.server.write("outside.txt", os.urandom(8))
            self.server.write("photos/inside.txt", os.urandom(8))
            os.set_blocking(watch.stdout.fileno(), False)
            return watch.stdout.read()
        lines = eventually(told, "the watcher is told").splitlines()
        paths = {json.loads(line).get("path") for line in lines}
        self.assertIn("inside.txt", paths)
        self.assertNotIn("outside.txt", paths)

    def test_a_share_for_reading_changes_nothing(self):
        _, invite = self.share("photos", "--read-only")
        self.make("new.jpg", b"new")
        for words in (["put", "new.jpg", "."], ["rm", "harbour.jpg"], ["mv", "harbour.jpg", "x"], ["mkdir", "x"],
                      ["cp", "harbour.jpg", "x"], ["sort", "--file", "numbers.txt", "-o", "x"]):
            self.fails(6, "denied", *words, address=invite)
        self.assertEqual(sorted(os.listdir(self.server.path("photos"))), ["2026", "harbour.jpg", "numbers.txt", "way-out"])

    def test_nothing_outside_of_the_share_is_reached(self):
        _, invite = self.share("photos", "--read-write")
        for path in ("../secret.txt", "way-out", "2026/../../secret.txt", "/secret.txt"):
            outcome = self.run_capstan("cat", path, address=invite)
            self.assertNotEqual(outcome.status, 0, path)
            self.assertEqual(outcome.out, b"", path)
        self.assertEqual(self.server.read("secret.txt"), b"not for guests")

    def test_without_computing_it_does_not_compute(self):
        _, invite = self.share("photos", "--no-compute")
        self.fails(6, "denied", "add", "2", "3", address=invite)
        self.ok("ls", address=invite)

    def test_the_invite_is_for_its_owner_alone(self):
        self.share("photos")
        self.assertEqual(stat.S_IMODE(os.stat(self.local("invite")).st_mode), 0o600)

    def test_the_token_is_nowhere_but_in_the_invite(self):
        _, invite = self.share("photos", "--label", "family")
        self.ok("ls", address=invite)
        with open(self.local("invite")) as file:
            line = next(line for line in file if line.startswith("capnp://"))
        secret = line.strip().rsplit("/", 1)[1]
        for folder in (self.server.root, self.server.state):
            for top, _, files in os.walk(folder):
                for name in files:
                    with open(os.path.join(top, name), "rb") as file:
                        self.assertNotIn(secret.encode(), file.read(), name)
        self.assertNotIn(secret, self.server.log_text())

    def test_bounds_of_nothing_are_refused(self):
        for words in (["--expires", "0s"], ["--uses", "0"], ["--quota", "0"]):
            self.fails(2, "usage", "share", "photos", *words, "-o", "x", server=self.server)
        self.assertEqual(self.shares(), [])

    def test_an_invite_comes_through_a_pipe_but_not_from_nobody(self):
        self.share("photos")
        os.mkfifo(self.local("pipe"))
        self.fails(2, "timed-out", "ls", address="@" + self.local("pipe"))
        process = self.spawn("ls", address="@" + self.local("pipe"))
        with open(self.local("invite"), "rb") as invite, open(self.local("pipe"), "wb") as pipe:
            pipe.write(invite.read())
        out, errors = process.communicate(timeout=30)
        self.assertEqual((process.returncode, out), (0, b"2026\nharbour.jpg\nnumbers.txt\nway-out\n"), errors)

    def test_without_a_file_name_the_invite_is_named_after_the_share(self):
        made = self.ok("share", "photos", server=self.server)
        invite = self.local(made.text.strip() + ".invite")
        self.assertIn("harbour.jpg", self.ok("ls", address="@" + invite).text)

    def test_the_invite_can_go_to_standard_output(self):
        made = self.ok("share", "photos", "-o", "-", server=self.server)
        self.make("got", made.out)
        os.chmod(self.local("got"), 0o600)
        self.assertIn("harbour.jpg", self.ok("ls", address="@" + self.local("got")).text)

    def test_what_cannot_be_shared_is_refused(self):
        self.fails(9, "not-found", "share", "nothing", "-o", "x", server=self.server)
        self.fails(1, "not-directory", "share", "secret.txt", "-o", "x", server=self.server)
        self.fails(2, "usage", "share", "photos", "--read-only", "--read-write", "-o", "x", server=self.server)
        self.assertFalse(os.path.exists(self.local("x")))
        self.assertEqual(self.shares(), [])

    def test_an_invite_that_cannot_be_written_leaves_no_share(self):
        outcome = self.run_capstan("share", "photos", "-o", "no/such/folder/invite", server=self.server)
        self.assertNotEqual(outcome.status, 0)
        self.assertEqual(self.shares(), [])

    def test_a_file_that_is_no_invite_is_named(self):
        self.make("not-one", b"hello\n")
        self.fails(2, "usage|invalid-argument", "ls", address="@" + self.local("not-one"))
        self.fails(2, "not-found", "ls", address="@" + self.local("nowhere"))

    def test_shares_outlive_the_server(self):
        share, invite = self.share("photos", "--label", "family")
        self.server.restart()
        self.assertIn("harbour.jpg", self.ok("ls", address=invite).text)
        self.assertEqual([each["id"] for each in self.shares()], [share])


class Terms(ShareTest):
    def test_uses_are_logins_and_are_counted_over_restarts(self):
        self.share("photos", "--uses", "2", "--label", "twice")
        invite = "@" + self.local("invite")
        self.ok("ls", address=invite)
        self.server.restart()
        self.ok("ls", address=invite)
        outcome = self.fails(6, "expired", "ls", address=invite)
        self.assertIn("twice", outcome.errors)

    def test_an_expired_share_says_so_by_its_label(self):
        self.share("photos", "--expires", "1ms", "--label", "brief")
        outcome = self.fails(6, "expired", "ls", address="@" + self.local("invite"))
        self.assertIn("brief", outcome.errors)

    def test_a_quota_bounds_what_the_folder_holds(self):
        self.server.write("inbox/there", b"x" * 600)
        self.share("inbox", "--read-write", "--quota", "10KiB", "--label", "inbox")
        invite = "@" + self.local("invite")
        self.make("small", b"y" * 300)
        self.make("large", b"z" * 300)
        self.ok("put", "small", ".", address=invite)
        outcome = self.fails(1, "quota", "put", "large", ".", address=invite)
        self.assertIn("inbox", outcome.errors)
        self.ok("rm", "there", address=invite)

    def test_shares_are_listed_with_their_terms(self):
        share, invite = self.share("photos", "--read-write", "--label", "family", "--expires", "1h", "--uses", "5")
        self.ok("ls", address=invite)
        (listed,) = self.shares()
        for key in ("id", "label", "path", "rights", "expires", "uses", "lastUsed", "parent"):
            self.assertIn(key, listed)
        self.assertEqual((listed["id"], listed["label"], listed["path"], listed["rights"]),
                         (share, "family", "photos", "read-write"))
        self.assertEqual((listed["uses"], listed["used"], listed["parent"]), (5, 1, "owner"))
        self.assertRegex(listed["expires"], r"^\d{4}-\d\d-\d\dT")
        self.assertRegex(listed["lastUsed"], r"^\d{4}-\d\d-\d\dT")
        text = self.ok("shares", server=self.server).text
        for word in (share, "photos", "read-write", "1 of 5", "family"):
            self.assertIn(word, text)


class Narrowing(ShareTest):
    def test_a_holder_hands_out_less_without_asking_anybody(self):
        outer, invite = self.share("photos", "--read-write", "--label", "outer")
        inner, narrower = self.share("2026", "--label", "inner", name="inner", address=invite)
        self.assertEqual(self.ok("ls", address=narrower).text, "boat.jpg\n")
        self.make("new.jpg")
        self.fails(6, "denied", "put", "new.jpg", ".", address=narrower)
        tree = {each["id"]: each["parent"] for each in self.shares()}
        self.assertEqual(tree, {outer: "owner", inner: outer})
        (seen,) = self.shares(address=invite)
        self.assertEqual((seen["id"], seen["path"]), (inner, "2026"))

    def test_nobody_hands_out_more_than_there_is(self):
        _, invite = self.share("photos", "--read-only", "--no-compute")
        self.fails(6, "denied", "share", ".", "--read-write", "-o", "x", address=invite)
        self.fails(6, "denied", "share", ".", "-o", "x", address=invite)
        self.ok("share", ".", "--no-compute", "-o", "x", address=invite)

    def test_what_was_made_from_a_share_ends_with_it(self):
        outer, invite = self.share("photos")
        _, inner = self.share("2026", "--label", "inner", name="inner", address=invite)
        self.ok("ls", address=inner)
        self.ok("revoke", outer, server=self.server)
        outcome = self.fails(6, "revoked", "ls", address=inner)
        self.assertIn("inner", outcome.errors)
        self.server.restart()
        self.fails(6, "revoked", "ls", address=inner)
        self.fails(6, "revoked", "ls", address=invite)

    def test_a_guest_revokes_only_what_is_its_own(self):
        mine, invite = self.share("photos", name="mine")
        other, _ = self.share("photos", name="other")
        self.fails(9, "not-found", "revoke", other, address=invite)
        self.ok("revoke", mine, address=invite)
        self.fails(6, "revoked", "ls", address=invite)
        self.assertEqual([each["id"] for each in self.shares()], [other])


class Revoking(ShareTest):
    def test_a_revoked_share_says_so_by_its_label(self):
        share, invite = self.share("photos", "--label", "family")
        self.ok("ls", address=invite)
        self.ok("revoke", share, server=self.server)
        outcome = self.fails(6, "revoked", "ls", address=invite)
        self.assertIn("family", outcome.errors)
        self.assertEqual(self.shares(), [])
        (ended,) = self.shares("--all", server=self.server)
        self.assertEqual(ended["state"], "revoked")

    def test_what_is_under_way_is_cut_off(self):
        with open(self.server.path("photos", "large"), "wb") as file:
            file.truncate(64 << 30)
        share, invite = self.share("photos", "--label", "family")
        get = self.spawn("cat", "large", address=invite)
        self.addCleanup(get.kill)
        get.stdout.read(1 << 20)  # it is under way, and waits for its reader from now on
        self.ok("revoke", share, server=self.server)
        while get.stdout.read(1 << 20):
            pass
        self.assertEqual(get.wait(), 6)
        self.assertRegex(get.stderr.read().decode(), r"(?m)^capstan: revoked: .*family")

    def test_a_watcher_hears_that_it_is_over(self):
        share, invite = self.share("photos", "--label", "family")
        watch = self.spawn("watch", address=invite)
        self.addCleanup(watch.kill)

        def told():
            self.server.write("photos/inside.txt", os.urandom(8))
            os.set_blocking(watch.stdout.fileno(), False)
            return watch.stdout.read()
        eventually(told, "it watches")
        self.ok("revoke", share, server=self.server)
        self.assertEqual(watch.wait(timeout=30), 6)
        self.assertRegex(watch.stderr.read().decode(), r"(?m)^capstan: revoked: .*family")

    def test_a_watcher_that_hears_nothing_hears_that_it_is_over(self):
        share, invite = self.share("photos", "--label", "family")
        watch = self.spawn("-v", "watch", address=invite)
        self.addCleanup(watch.kill)
        eventually(lambda: self.shares()[0]["connections"] == 1, "it watches")
        self.ok("revoke", share, server=self.server)
        self.assertEqual(watch.wait(timeout=30), 6)
        self.assertRegex(watch.stderr.read().decode(), r"(?m)^capstan: revoked: .*family")

    def test_a_sync_ends_with_its_share(self):
        share, invite = self.share("photos", "--read-write", "--label", "family")
        self.make("here/file", b"content")
        sync = self.spawn("sync", "here", "there", address=invite)
        self.addCleanup(sync.kill)
        eventually(lambda: os.path.exists(self.server.path("photos", "there", "file")), "it is in step")
        self.ok("revoke", share, server=self.server)
        self.make("here/other", b"content")
        self.assertEqual(sync.wait(timeout=30), 6)
        self.assertRegex(sync.stderr.read().decode(), r"(?m)^capstan: revoked: .*family")
        self.assertFalse(os.path.exists(self.server.path("photos", "there", "other")))

    def test_a_sync_of_which_all_is_denied_says_so(self):
        _, invite = self.share("photos", "--read-only")
        self.make("here/file", b"content")
        self.fails(6, "denied", "sync", "here", "there", "--once", address=invite)

    def test_an_id_that_is_none_is_not_found(self):
        self.fails(9, "not-found", "revoke", "nothing", server=self.server)
        self.fails(1, "invalid-argument", "revoke", "owner", server=self.server)

    def test_a_second_server_of_the_folder_notices(self):
        second = Server(self, root=self.server.root)
        share, _ = self.share("photos", "--label", "family")
        self.ok("share", "photos", "-o", "second", "--address", second.address, server=self.server)
        with open(self.local("invite")) as file:
            token = next(line for line in file if line.startswith("capnp://")).strip().rsplit("/", 1)[1]
        import base64
        self.make("token", base64.urlsafe_b64decode(token + "=").hex().encode())
        os.chmod(self.local("token"), 0o600)
        words = ["--server", second.address, "--token-file", self.local("token"), "ls"]
        eventually(lambda: self.run_capstan(*words).status == 0, "the second server knows the share")
        self.ok("revoke", share, server=self.server)
        eventually(lambda: self.run_capstan(*words).status == 6, "the second server knows of the revocation")


if __name__ == "__main__":
    main()
