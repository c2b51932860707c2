"""Killing things while they work: nothing torn, nothing lost that was acknowledged, and the next start needs no help."""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import unittest

from harness import LONG, EndToEnd, Server, eventually, main

KILLS = 1000 if LONG else 15


class Kills(EndToEnd):
    def test_readers_see_the_old_content_or_the_new_over_kills_of_the_server(self):
        seed = random.randrange(1 << 32)
        rng = random.Random(seed)
        print("seed", seed)
        server = Server(self)
        contents = []
        for i in range(4):
            contents.append(random.Random(i).randbytes(600000 + 100000 * i))
            self.make("c%d" % i, contents[i])
        hashes = {hashlib.sha256(content).digest() for content in contents}
        self.ok("put", "c0", "file", server=server)
        torn = []
        ending = threading.Event()

        def read():
            while not ending.is_set():
                with open(server.path("file"), "rb") as file:
                    if hashlib.sha256(file.read()).digest() not in hashes:
                        torn.append(1)

        reader = threading.Thread(target=read)
        reader.start()
        try:
            for _ in range(KILLS):
                writers = [self.spawn("put", "c%d" % rng.randrange(4), "file", server=server) for _ in range(2)]
                # The moment of the kill is random: how long writing takes is what is being cut short.
                ending.wait(rng.uniform(0, 0.05))
                server.process.kill()
                server.process.wait()
                for writer in writers:
                    writer.kill()
                    writer.communicate()
                server.restart()
        finally:
            ending.set()
            reader.join()
        self.assertEqual(torn, [])
        staging = server.path(".capstan", "staging")
        left = [name for name in os.listdir(staging) if name != "resume"]
        self.assertLessEqual(len(left), 1, "what dead servers staged was swept: %s" % left)

    def test_what_was_acknowledged_is_there_after_a_kill(self):
        server = Server(self)
        for i in range(50):
            self.make("t/%d" % i, b"%d" % i * 1000)
        self.ok("put", "-r", "t", "t", server=server)
        server.restart()
        for i in range(50):
            self.assertEqual(server.read("t/%d" % i), b"%d" % i * 1000)

    def test_a_client_that_dies_in_mid_upload_leaves_nothing(self):
        server = Server(self)
        process = self.spawn("put", "-", "half", server=server, stdin=subprocess.PIPE)
        process.stdin.write(b"x" * (4 << 20))
        process.stdin.flush()
        eventually(lambda: self.ok("--json", "status", server=server).json["transfers"], "the upload is open")
        process.kill()
        process.communicate()
        eventually(lambda: not self.ok("--json", "status", server=server).json["transfers"], "the upload is gone")
        self.assertEqual(self.ok("ls", "-R", server=server).text, "")
        eventually(lambda: sum(len(f) for _, _, f in os.walk(server.path(".capstan", "staging"))) <= 1,
                   "what was staged is gone")

    def test_an_upload_is_resumed_over_a_kill_of_the_server(self):
        server = Server(self)
        content = os.urandom(64 << 20)
        self.make("big", content)
        process = self.spawn("put", "big", "big", server=server)

        def staged():
            folder = server.path(".capstan", "staging", "resume")
            return os.path.isdir(folder) and any(os.path.getsize(os.path.join(folder, name)) > (8 << 20)
                                                 for name in os.listdir(folder))
        eventually(lambda: staged() or process.poll() is not None, "a part is staged")
        server.restart()
        out, err = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 0, err)
        self.assertEqual(server.read("big"), content)

    def test_commands_wait_for_a_server_that_comes_back(self):
        server = Server(self)
        server.write("big", os.urandom(64 << 20))
        process = self.spawn("get", "big", "big", server=server)
        eventually(lambda: os.listdir(self.work) or process.poll() is not None, "the download has begun")
        server.restart()
        out, err = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 0, err)


class FullDisk(EndToEnd):
    def setUp(self):
        super().setUp()
        self.disk = tempfile.mkdtemp(prefix="capstan-disk-")
        self.addCleanup(shutil.rmtree, self.disk, ignore_errors=True)
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", self.disk], capture_output=True)
        if mounted.returncode != 0:
            self.skipTest("a small file system cannot be mounted here: " + mounted.stderr.decode().strip())
        self.addCleanup(subprocess.run, ["umount", "-l", self.disk])

    def test_an_upload_that_does_not_fit_is_refused_and_leaves_the_rest_alone(self):
        server = Server(self, root=self.disk)
        self.make("small", b"s" * 100000)
        self.make("large", os.urandom(12 << 20))
        self.ok("put", "small", "file", server=server)
        outcome = self.fails(1, "no-space", "put", "large", "file", server=server)
        self.assertEqual(server.read("file"), b"s" * 100000)
        outcome = self.run_capstan("put", "-", "stream", server=server, input=os.urandom(12 << 20))
        self.assertEqual(outcome.status, 1, outcome.errors)
        self.assertIn("no-space", outcome.errors)
        self.assertEqual(self.ok("ls", server=server).text, "file\n")
        self.ok("put", "small", "another", server=server)

    def test_a_download_that_does_not_fit_says_so_and_leaves_no_file(self):
        server = Server(self)
        server.write("large", os.urandom(12 << 20))
        target = os.path.join(self.disk, "large")
        self.fails(1, "no-space", "get", "large", target, server=server)
        self.assertFalse(os.path.exists(target))


if __name__ == "__main__":
    main()
