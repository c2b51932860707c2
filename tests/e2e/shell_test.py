"""The interactive shell: as a script on stdin, and on a terminal."""

import os
import pty
import re
import select
import subprocess
import time

from harness import CAPSTAN, PATIENCE, EndToEnd, Server, main


class Scripts(EndToEnd):
    def setUp(self):
        super().setUp()
        self.server = Server(self)

    def shell(self, script):
        return self.run_capstan("shell", server=self.server, input=script.encode())

    def test_words_and_commands_work_from_a_script(self):
        self.make("a b.txt", b"spaced")
        outcome = self.shell('UPLOAD "a b.txt" x/1\nLIST x\nRENAME x/1 x/2\nDOWNLOAD x/2 out\ncat x/2\nDELETE x/2\nls x\nHELP\nLOGOUT\n')
        self.assertEqual(outcome.status, 0, outcome.errors)
        self.assertIn("1\n", outcome.text)
        self.assertIn("spaced", outcome.text)
        self.assertIn("DOWNLOAD", outcome.text)
        with open(self.local("out"), "rb") as file:
            self.assertEqual(file.read(), b"spaced")
        self.assertEqual(os.listdir(self.server.path("x")), [])

    def test_it_greets_with_name_version_and_process_id(self):
        outcome = self.shell("LOGOUT\n")
        greeting = outcome.text + outcome.errors
        self.assertIn("capstan", greeting)
        self.assertIn(str(self.server.pid), greeting)
        self.assertRegex(greeting, r"\d+\.\d+\.\d+")

    def test_background_commands_are_listed_and_waited_for(self):
        self.make("big", os.urandom(4 << 20))
        outcome = self.shell("put big one &\nput big two &\njobs\nwait\nls\n")
        self.assertEqual(outcome.status, 0, outcome.errors)
        self.assertIn("one\ntwo\n", outcome.text)

    def test_errors_do_not_end_the_shell(self):
        outcome = self.shell("cat none\nnonsense\nls\nmkdir made\n")
        self.assertTrue(os.path.isdir(self.server.path("made")))
        self.assertIn("not-found", outcome.errors)


class OnATerminal(EndToEnd):
    def test_prompt_editing_and_background_work(self):
        server = Server(self)
        server.write("alpha", b"A" * 100)
        parent, child = pty.openpty()
        environment = dict(self.environment, TERM="xterm")
        process = subprocess.Popen([CAPSTAN, "--server", server.address, "--token-file", server.token_file, "shell"],
                                   stdin=child, stdout=child, stderr=child, env=environment, cwd=self.work,
                                   start_new_session=True)
        os.close(child)
        output = b""

        def expect(pattern):
            nonlocal output
            deadline = time.monotonic() + PATIENCE
            while not re.search(pattern, output):
                ready, _, _ = select.select([parent], [], [], max(0, deadline - time.monotonic()))
                self.assertTrue(ready, "waiting for %s in %s" % (pattern, output))
                try:
                    output += os.read(parent, 65536)
                except OSError:
                    self.fail("the shell ended: %s" % output)
            output = output[re.search(pattern, output).end():]

        expect(rb"capstan[^\n]*%d" % server.pid)
        expect(rb"> ")
        os.write(parent, b"lx\x7fs\n")      # a typing mistake, taken back
        expect(rb"alpha")
        expect(rb"> ")
        os.write(parent, b"cat al\t\n")     # completion of a remote path
        expect(rb"AAAA")
        expect(rb"> ")
        os.write(parent, b"get alpha copy &\n")
        expect(rb"(?i)done|finished|ended")
        os.write(parent, b"LOGOUT\n")
        self.assertEqual(process.wait(timeout=PATIENCE), 0)
        os.close(parent)


if __name__ == "__main__":
    main()
