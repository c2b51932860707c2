"""Files by hand: every command on one file or folder, its output, and its exit status when it cannot."""

import json
import os
import shutil
import socket
import stat

from harness import EndToEnd, Server, main


class Commands(EndToEnd):
    def setUp(self):
        super().setUp()
        self.server = Server(self)

    def c(self, *arguments, **options):
        return self.ok(*arguments, server=self.server, **options)

    def no(self, status, code, *arguments, **options):
        return self.fails(status, code, *arguments, server=self.server, **options)

    def test_what_is_put_is_listed_shown_moved_copied_and_removed(self):
        self.make("a.txt", b"hello\n")
        self.assertEqual(self.c("put", "a.txt", "docs/a.txt").out, b"", "success is silent")
        self.assertEqual(self.c("ls").text, "docs\n")
        self.assertEqual(self.c("ls", "docs").text, "a.txt\n")
        self.assertEqual(self.c("cat", "docs/a.txt").out, b"hello\n")
        self.assertEqual(self.c("cat", "docs/a.txt", "--offset", "1", "--count", "3").out, b"ell")
        self.c("mv", "docs/a.txt", "docs/b.txt")
        self.c("cp", "docs/b.txt", "c.txt")
        self.assertEqual(self.server.read("c.txt"), b"hello\n")
        self.c("rm", "docs/b.txt", "c.txt")
        self.assertEqual(self.c("ls", "-R").text, "docs\n")
        self.c("rm", "-r", "docs")
        self.assertEqual(self.c("ls").text, "")

    def test_json_entries_have_the_contracts_keys(self):
        self.server.write("d/f", b"12345")
        os.utime(self.server.path("d/f"), ns=(0, 1700000000123456789))
        os.chmod(self.server.path("d/f"), 0o640)
        os.symlink("f", self.server.path("d/link"))
        entry = self.c("--json", "stat", "d/f").json
        self.assertLessEqual({"path", "type", "size", "mtime", "mode", "version", "cached"}, set(entry))
        self.assertEqual((entry["path"], entry["type"], entry["size"]), ("d/f", "file", 5))
        self.assertEqual(entry["mtime"], "2023-11-14T22:13:20.123456789Z")
        self.assertEqual(entry["mode"].lstrip("0"), "640")
        listing = self.c("--json", "ls", "d").json
        self.assertEqual([(e["type"], os.path.basename(e["path"])) for e in listing], [("file", "f"), ("symlink", "link")])
        self.assertEqual(listing[1]["target"], "f")

    def test_long_listings_show_which_files_are_cached(self):
        self.server.write("f", b"x" * 1000)
        os.utime(self.server.path("f"), (1, 1))
        for _ in range(2):
            self.c("cat", "f")
        # A file that has only just been written is not remembered: its next change could look the same.
        def cached():
            self.c("cat", "f")
            return self.c("--json", "stat", "f").json["cached"]
        from harness import eventually
        eventually(cached, "the file is cached")
        self.assertIn("f", self.c("ls", "-l").text)
        figures = self.c("--json", "status").json["cache"]
        self.assertLessEqual({"bytes", "limit", "hits", "misses", "evictions"}, set(figures))
        self.assertGreater(figures["bytes"], 1000)
        self.assertLessEqual(figures["bytes"], figures["limit"])
        self.server.write("f", b"y" * 1000)
        self.assertEqual(self.c("cat", "f").out, b"y" * 1000, "never the cached content of an older version")

    def test_status_has_the_contracts_keys(self):
        status = self.c("--json", "status").json
        self.assertLessEqual({"pid", "uptime", "version", "connections", "cache", "jobs", "transfers"}, set(status))
        self.assertEqual(status["pid"], self.server.pid)
        self.assertEqual(status["connections"], 1)

    def test_digest_agrees_with_sha256sum(self):
        self.server.write("abc", b"abc")
        self.assertIn("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
                      self.c("digest", "abc", "--algorithm", "sha256").text)
        self.assertEqual(len(self.c("--json", "digest", "abc").json["digest"]), 32)

    def test_folders_are_made_with_and_without_parents(self):
        self.c("mkdir", "a")
        self.no(10, "exists", "mkdir", "a")
        self.c("mkdir", "-p", "a")
        self.no(9, "not-found", "mkdir", "x/y")
        self.c("mkdir", "-p", "x/y/z")
        self.assertTrue(os.path.isdir(self.server.path("x/y/z")))

    def test_names_of_every_kind_survive(self):
        names = [b"with space", b"new\nline", b"\xff\xfe not utf-8", b"-dash", b"quote\"'", b"\xc3\xbc", b"n" * 255, b"tab\t"]
        for name in names:
            self.c("put", "--", self.make("source", name), name)
        self.assertEqual(sorted(os.listdir(os.fsencode(self.server.root))), sorted(names + [b".capstan"]))
        for name in names:
            self.assertEqual(self.c("cat", "--", name).out, name)
        listing = self.c("--json", "ls").json
        self.assertEqual(sorted(os.fsencode(e["path"]) for e in listing), sorted(names))

    def test_a_name_cannot_write_on_the_terminal(self):
        self.server.write("evil\x1b[2J", b"")
        outcome = self.no(10, "exists", "mkdir", "evil\x1b[2J")
        self.assertNotIn("\x1b", outcome.errors)

    def test_expectations_hold(self):
        self.make("new", b"new")
        self.server.write("f", b"old")
        self.no(10, "exists", "put", "new", "f", "--if-absent")
        version = self.c("--json", "stat", "f").json["version"]
        self.c("put", "new", "f", "--if-version", version)
        self.no(4, "conflict", "put", "new", "f", "--if-version", version)
        self.assertEqual(self.server.read("f"), b"new")
        self.server.write("g", b"g")
        self.no(10, "exists", "mv", "g", "f", "--no-clobber")
        self.assertEqual(self.server.read("g"), b"g")

    def test_mistakes_get_the_right_status_and_lose_nothing(self):
        self.server.write("file", b"content")
        self.server.write("folder/inside", b"kept")
        self.make("local", b"x")
        self.no(9, "not-found", "cat", "none")
        self.no(9, "not-found", "rm", "none")
        self.no(9, "not-found", "get", "none", self.local("out"))
        self.no(1, "is-directory", "cat", "folder")
        self.no(1, "is-directory", "get", "folder", self.local("out"))
        self.no(1, "not-directory", "ls", "file/below")
        self.no(1, "not-empty", "rm", "folder")
        self.no(1, "not-directory", "put", "local", "file/below")
        self.no(1, "invalid-path", "cat", "a/../file")
        self.no(1, "invalid-path", "cat", "../etc/passwd")
        self.no(9, "not-found", "put", "nothing-here", "target")
        self.no(1, "invalid-argument", "mv", "folder", "folder/deeper")
        self.assertEqual(self.server.read("file"), b"content")
        self.assertEqual(self.server.read("folder/inside"), b"kept")
        self.assertFalse(os.path.exists(self.local("out")))

    def test_the_servers_own_folder_cannot_be_reached(self):
        self.c("ls")
        os.symlink(".capstan", self.server.path("door"))
        for path in (".capstan", ".capstan/staging", "door", "door/staging"):
            self.assertEqual(self.run_capstan("ls", path, server=self.server).status, 9, path)
        self.assertNotIn(".capstan", self.c("ls", "-R").text.split("\n"))
        self.make("x", b"")
        for arguments in (("put", "x", ".capstan/x"), ("rm", "-r", ".capstan"), ("mv", ".capstan", "y"), ("cp", ".capstan", "y"),
                          ("put", "x", "door/x")):
            self.assertNotEqual(self.run_capstan(*arguments, server=self.server).status, 0, arguments)

    def test_symlinks_work_inside_and_not_outside(self):
        self.server.write("real/file", b"inside")
        secret = self.make("secret", b"secret")
        os.symlink("real", self.server.path("good"))
        os.symlink(os.path.dirname(secret), self.server.path("bad"))
        os.symlink("../../../../../../../../etc/passwd", self.server.path("worse"))
        self.assertEqual(self.c("cat", "good/file").out, b"inside")
        for path in ("bad/secret", "worse"):
            self.no(1, "invalid-path", "cat", path)
        self.no(1, "invalid-path", "put", secret, "bad/new")
        self.assertEqual(os.listdir(self.work), ["secret"])

    def test_files_without_permission_are_denied(self):
        if os.getuid() == 0:
            self.skipTest("root may read everything")
        path = self.server.write("locked", b"x")
        os.chmod(path, 0)
        self.no(6, "denied", "cat", "locked")

    def test_special_files_are_listed_but_not_read(self):
        os.mkfifo(self.server.path("pipe"))
        self.assertEqual(self.c("ls").text, "pipe\n")
        self.no(1, "unsupported", "cat", "pipe")
        self.c("rm", "pipe")

    def test_a_folder_with_many_entries_is_listed_whole(self):
        os.mkdir(self.server.path("many"))
        for i in range(20000):
            os.close(os.open(self.server.path("many", "%05d" % i), os.O_CREAT | os.O_WRONLY))
        self.assertEqual(self.c("ls", "many").text, "".join("%05d\n" % i for i in range(20000)))

    def test_a_pipe_closed_by_the_reader_ends_quietly(self):
        import subprocess
        self.server.write("big", b"x" * (8 << 20))
        process = self.spawn("cat", "big", server=self.server)
        process.stdout.read(10)
        process.stdout.close()
        self.assertEqual(process.stderr.read(), b"")
        process.stderr.close()
        process.wait(timeout=60)

    def test_ping_answers(self):
        self.assertIn("ms", self.c("ping", "-c", "3").text)

    def test_several_paths_of_which_some_fail_are_partly_done(self):
        self.server.write("a", b"")
        outcome = self.run_capstan("rm", "a", "none", server=self.server)
        self.assertEqual(outcome.status, 3, outcome.errors)
        self.assertFalse(os.path.exists(self.server.path("a")))

    def test_errors_in_json_are_objects(self):
        outcome = self.run_capstan("--json", "cat", b"no\xff", server=self.server)
        error = json.loads(outcome.errors)["error"]
        self.assertEqual(error["code"], "not-found")
        self.assertEqual(os.fsencode(error["path"]), b"no\xff")


class Usage(EndToEnd):
    def test_usage_errors_have_status_2(self):
        for arguments in ((), ("nonsense",), ("ls", "--nonsense"), ("cat",), ("--timeout", "soon", "ls"), ("cat", "a", "--offset", "x"),
                          ("serve", "--cache-policy", "random"), ("put", "only-one")):
            outcome = self.run_capstan(*arguments)
            self.assertEqual(outcome.status, 2, "%s: %s %s" % (arguments, outcome.out, outcome.err))
            self.assertEqual(outcome.out, b"")

    def test_help_of_each_command_has_examples(self):
        self.assertEqual(self.run_capstan("--help").status, 0)
        for command in ("serve ls stat cat put get mkdir mv cp rm digest status ping shell demo version completion").split():
            outcome = self.ok(command, "--help")
            self.assertIn("capstan " + command, outcome.text, command)

    def test_version_and_completion_need_no_server(self):
        self.assertRegex(self.ok("version").text, r"^capstan \d+\.\d+\.\d+")
        import subprocess
        for shell in ("bash", "zsh", "fish"):
            script = self.ok("completion", shell).out
            checked = subprocess.run([shell, "-n"], input=script, capture_output=True)
            self.assertEqual(checked.returncode, 0, checked.stderr)

    def test_the_demo_ends_by_itself(self):
        outcome = self.ok("demo")
        self.assertGreater(len(outcome.text.splitlines()), 5)

    def test_the_server_can_come_from_environment_and_configuration(self):
        server = Server(self)
        server.write("here", b"")
        self.environment["CAPSTAN_SERVER"] = server.address
        self.assertEqual(self.ok("ls").text, "here\n")
        del self.environment["CAPSTAN_SERVER"]
        os.makedirs(os.path.join(self.home, ".config", "capstan"))
        with open(os.path.join(self.home, ".config", "capstan", "config.toml"), "w") as config:
            config.write('[remotes.home]\nserver = "%s"\ntoken-file = "%s"\n' % (server.address, server.token_file))
        self.assertEqual(self.ok("--server", "home", "ls").text, "here\n")
        self.make(".capstan.toml", b'server = "home"\n')
        self.assertEqual(self.ok("ls").text, "here\n")


class PlantedConfiguration(EndToEnd):
    """A .capstan.toml that somebody else has put into the current folder does not get at the user's tokens."""

    def setUp(self):
        super().setUp()
        self.server = Server(self)
        self.server.write("here", b"")

    def plant(self, text):
        self.make(".capstan.toml", text.encode())

    def test_the_owners_token_is_not_sent_to_a_server_of_the_folder(self):
        self.assertEqual(self.ok("ls", address=self.server.address).text, "here\n")  # is sent where the user says
        self.plant('server = "%s"\n' % self.server.address)
        outcome = self.fails(6, "denied", "ls")
        self.assertIn("is not sent to a server that .capstan.toml names", outcome.errors)
        self.plant('[remotes.r]\nserver = "%s"\n' % self.server.address)
        self.fails(6, "denied", "ls", address="r")
        self.assertEqual(self.ok("--token-file", self.server.token_file, "ls", address="r").text, "here\n")

    def test_tokens_of_environment_and_configuration_are_not_sent_either(self):
        self.plant('server = "%s"\n' % self.server.address)
        self.environment["CAPSTAN_TOKEN_FILE"] = self.server.token_file
        self.assertIn("CAPSTAN_TOKEN_FILE is not sent", self.fails(6, "denied", "ls").errors)
        self.assertEqual(self.ok("ls", address=self.server.address).text, "here\n")
        del self.environment["CAPSTAN_TOKEN_FILE"]
        os.makedirs(os.path.join(self.home, ".config", "capstan"))
        with open(os.path.join(self.home, ".config", "capstan", "config.toml"), "w") as config:
            config.write('token-file = "%s"\n' % self.server.token_file)
        self.fails(6, "denied", "ls")

    def test_the_folder_may_bring_its_own_token_and_no_other_file(self):
        shutil.copy(self.server.token_file, self.local("own.token"))
        self.plant('server = "%s"\ntoken-file = "own.token"\n' % self.server.address)
        self.assertEqual(self.ok("ls").text, "here\n")
        os.symlink(self.server.token_file, self.local("link.token"))
        around = "../%s/own.token" % os.path.basename(os.path.dirname(self.local("own.token")))
        for name in (self.server.token_file, "~/x", around, "link.token"):
            self.plant('server = "%s"\ntoken-file = "%s"\n' % (self.server.address, name))
            outcome = self.fails(2, "usage", "ls")
            self.assertIn(".capstan.toml: token-file", outcome.errors)
            self.assertIn("--token-file", outcome.errors)
            self.assertEqual(self.ok("ls", address=self.server.address).text, "here\n")

    def test_it_may_not_go_without_tls_and_replaces_no_remote_of_the_user(self):
        self.plant('server = "r"\n[remotes.r]\nserver = "files.invalid:1"\ninsecure = true\n')
        self.assertIn("insecure of the remote r", self.fails(2, "usage", "ls").errors)
        self.ok("version")
        os.makedirs(os.path.join(self.home, ".config", "capstan"))
        with open(os.path.join(self.home, ".config", "capstan", "config.toml"), "w") as config:
            config.write('[remotes.r]\nserver = "%s"\n' % self.server.address)
        outcome = self.ok("ls")
        self.assertEqual(outcome.text, "here\n")
        self.assertIn("the remote r of .capstan.toml is not taken", outcome.errors)


if __name__ == "__main__":
    main()
