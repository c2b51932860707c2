"""Odd command lines and surroundings: what is refused by name, and what has to work all the same."""

import os

from harness import EndToEnd, Server, main


class WithoutAServer(EndToEnd):
    def test_a_digit_behind_a_dash_is_no_name(self):
        for command in ("ls", "rm", "cat"):
            self.assertIn(command + ": there is no option -1",
                          self.fails(2, "usage", command, "-1", address="127.0.0.1:1").errors)
        self.fails(7, "unreachable", "rm", "--", "-1", address="127.0.0.1:1")

    def test_an_option_that_is_mistyped_is_answered_with_the_nearest(self):
        outcome = self.fails(2, "usage", "sort", "--unqiue", "1", address="127.0.0.1:1")
        self.assertIn("there is no option --unqiue; did you mean --unique?", outcome.errors)

    def test_a_missing_token_file_is_a_usage_error(self):
        outcome = self.fails(2, "not-found", "--token-file", "none", "ls", address="127.0.0.1:1")
        self.assertIn("none", outcome.errors)

    def test_the_time_limit_is_told_as_it_was_given(self):
        server = Server(self)
        # The read end of a pipe that nobody writes to.
        read, write = os.pipe()
        process = self.spawn("put", "-", "x", "--timeout", "1100ms", server=server, stdin=read)
        os.close(read)
        out, err = process.communicate(timeout=60)
        os.close(write)
        self.assertEqual(process.returncode, 8)
        self.assertIn(b"after 1.1 s", err)

    def test_what_asks_no_server_needs_no_configuration(self):
        self.make(".capstan.toml", b"this is no configuration\n")
        self.assertIn("capstan", self.ok("version").text)
        self.assertIn("capstan", self.ok("completion", "bash").text)
        self.assertIn(".capstan.toml, line 1", self.fails(2, "usage", "ls").errors)

    def test_serve_refuses_a_time_limit(self):
        self.assertIn("--timeout", self.fails(2, "usage", "serve", "--timeout", "1s").errors)


class Transfers(EndToEnd):
    def setUp(self):
        super().setUp()
        self.server = Server(self)

    def test_json_tells_of_each_operand_that_failed(self):
        self.make("a", b"content")
        outcome = self.run_capstan("--json", "put", "a", "none", "nothing", "d/", server=self.server)
        self.assertEqual(outcome.status, 3, outcome.errors)
        failures = outcome.json["failures"]
        self.assertEqual(sorted((f["path"], f["code"]) for f in failures),
                         [("none", "not-found"), ("nothing", "not-found")])
        self.assertEqual(outcome.json["files"], 1)
        outcome = self.run_capstan("--json", "get", "d/a", "d/none", ".", server=self.server)
        self.assertEqual(outcome.status, 3, outcome.errors)
        self.assertEqual([f["path"] for f in outcome.json["failures"]], ["d/none"])

    def test_files_that_say_they_are_empty_are_read_to_their_end(self):
        self.ok("put", "/proc/version", "version", server=self.server)
        with open("/proc/version", "rb") as file:
            self.assertEqual(self.server.read("version"), file.read())
        self.make("empty")
        self.ok("put", "empty", "empty", server=self.server)
        self.assertEqual(self.server.read("empty"), b"")

    def test_a_link_with_a_slash_is_the_folder_that_it_leads_to(self):
        self.make("folder/inside", b"content")
        os.symlink("folder", self.local("link"))
        self.ok("put", "-r", "link/", "made", server=self.server)
        self.assertFalse(os.path.islink(self.server.path("made")))
        self.assertEqual(self.server.read("made/inside"), b"content")
        os.mkdir(self.server.path("into"))
        self.ok("put", "-r", "link/", "into", server=self.server)
        self.assertEqual(self.server.read("into/link/inside"), b"content")
        self.ok("put", "-r", "link", "as-link", server=self.server)
        self.assertEqual(os.readlink(self.server.path("as-link")), "folder")


if __name__ == "__main__":
    main()
