"""put and get: trees, metadata, sparse and large files, progress, resume over a bad network."""

import filecmp
import os
import pty
import random
import stat
import subprocess
import threading

from harness import EndToEnd, Proxy, Server, eventually, main


def tree_of(folder):
    """{relative path: (kind, mode, mtime, content or target)} of everything below, symlinks not followed."""
    result = {}
    for base, folders, files in os.walk(os.fsencode(folder)):
        if base == os.fsencode(folder) and b".capstan" in folders:
            folders.remove(b".capstan")
        for name in folders + files:
            path = os.path.join(base, name)
            status = os.lstat(path)
            key = os.path.relpath(path, os.fsencode(folder))
            if os.path.islink(path):
                result[key] = ("symlink", 0, status.st_mtime_ns, os.readlink(path))
            elif os.path.isdir(path):
                result[key] = ("folder", status.st_mode, status.st_mtime_ns, None)
            else:
                with open(path, "rb") as file:
                    result[key] = ("file", status.st_mode, status.st_mtime_ns, file.read())
    return result


class Trees(EndToEnd):
    def make_tree(self, name, files=300, seed=1):
        rng = random.Random(seed)
        for i in range(files):
            path = self.make("%s/d%d/e%d/f%d" % (name, i % 7, i % 3, i), rng.randbytes(rng.choice([0, 1, 100, 5000, 70000])))
            os.chmod(path, rng.choice([0o600, 0o644, 0o755]))
            os.utime(path, ns=(0, rng.randrange(10**18, 2 * 10**18)))
        os.makedirs(self.local(name, "empty"))
        self.make(name + "/sp ace\n\udcff", b"odd")
        os.symlink("../f0", self.local(name, "d0", "link"))
        os.symlink("/does/not/exist", self.local(name, "dangling"))
        for base, folders, _ in os.walk(self.local(name), topdown=False):
            os.utime(base, ns=(0, rng.randrange(10**18, 2 * 10**18)))
        return self.local(name)

    def test_a_tree_goes_there_and_back_unchanged(self):
        server = Server(self)
        source = self.make_tree("tree")
        self.assertEqual(self.ok("put", "-r", source, "copy", server=server).out, b"")
        self.assertEqual(tree_of(server.path("copy")), tree_of(source))
        self.ok("get", "-r", "copy", "back", server=server)
        self.assertEqual(tree_of(self.local("back")), tree_of(source))

    def test_into_a_folder_and_several_at_once(self):
        server = Server(self)
        self.make("a", b"a"), self.make("b", b"b")
        self.ok("put", "a", "b", "into/", server=server)
        self.assertEqual((server.read("into/a"), server.read("into/b")), (b"a", b"b"))
        self.make("c", b"c")
        self.ok("put", "c", "into", server=server)
        self.assertEqual(server.read("into/c"), b"c")
        self.ok("get", "into/a", "into/b", "new/", server=server)
        self.assertEqual(sorted(os.listdir(self.local("new"))), ["a", "b"])

    def test_a_folder_needs_r(self):
        server = Server(self)
        os.mkdir(self.local("d"))
        self.fails(1, "is-directory", "put", "d", "x", server=server)

    def test_files_that_cannot_be_sent_do_not_stop_the_others(self):
        server = Server(self)
        self.make("t/good", b"good")
        os.mkfifo(self.local("t/pipe"))
        outcome = self.run_capstan("put", "-r", "t", "t", server=server)
        self.assertEqual(outcome.status, 3, outcome.errors)
        self.assertIn("pipe", outcome.errors)
        self.assertEqual(server.read("t/good"), b"good")

    def test_a_pipe_or_device_is_not_replaced_by_a_file(self):
        server = Server(self)
        server.write("a", b"a")
        os.mkfifo(self.local("pipe"))
        self.fails(1, "unsupported", "get", "a", "pipe", server=server)
        self.assertTrue(stat.S_ISFIFO(os.stat(self.local("pipe")).st_mode))

    def test_stdin_and_stdout(self):
        server = Server(self)
        content = os.urandom(3 << 20)
        self.ok("put", "-", "from-stdin", server=server, input=content)
        self.assertEqual(self.ok("get", "from-stdin", "-", server=server).out, content)
        self.ok("put", "-", "empty", server=server, input=b"")
        self.assertEqual(server.read("empty"), b"")


class LargeFiles(EndToEnd):
    def test_more_than_4_gib_with_holes_stays_sparse_both_ways(self):
        server = Server(self)
        path = self.local("sparse")
        with open(path, "wb") as file:
            file.write(b"head")
            file.seek(5 << 30)
            file.write(b"tail")
            file.truncate((5 << 30) + (1 << 20))
        self.ok("put", path, "sparse", server=server)
        self.ok("get", "sparse", self.local("back"), server=server)
        for copy in (server.path("sparse"), self.local("back")):
            status = os.stat(copy)
            self.assertEqual(status.st_size, (5 << 30) + (1 << 20))
            self.assertLess(status.st_blocks * 512, 16 << 20, copy)
            with open(copy, "rb") as file:
                self.assertEqual(file.read(4), b"head")
                file.seek(5 << 30)
                self.assertEqual(file.read(5), b"tail\0")

    def test_progress_on_a_terminal_shows_bytes_rate_and_leaves_no_rubbish(self):
        server = Server(self)
        self.make("big", os.urandom(20 << 20))
        parent, child = pty.openpty()
        environment = dict(self.environment, TERM="xterm", COLUMNS="100")
        from harness import CAPSTAN
        process = subprocess.Popen([CAPSTAN, "--server", server.address, "--token-file", server.token_file, "put", "big", "big"],
                                   stdin=child, stdout=child, stderr=child, env=environment, cwd=self.work)
        os.close(child)
        output = b""
        while True:
            try:
                data = os.read(parent, 65536)
            except OSError:
                break
            if not data:
                break
            output += data
        os.close(parent)
        self.assertEqual(process.wait(), 0, output)


class BadNetwork(EndToEnd):
    def test_an_upload_goes_on_after_cuts(self):
        server = Server(self)
        content = os.urandom(24 << 20)
        self.make("big", content)
        proxy = Proxy(self, server.port, cut_up=[5 << 20, 7 << 20, 100, 6 << 20])
        self.ok("put", "big", "big", server=server, address=proxy.address)
        self.assertEqual(server.read("big"), content)
        self.assertGreaterEqual(proxy.connections, 4)
        self.assertLess(proxy.bytes["up"], 34 << 20, "what had arrived was not sent again")

    def test_a_download_goes_on_after_cuts(self):
        server = Server(self)
        content = os.urandom(24 << 20)
        server.write("big", content)
        proxy = Proxy(self, server.port, cut_down=[5 << 20, 7 << 20, 100, 6 << 20])
        self.ok("get", "big", "big", server=server, address=proxy.address)
        with open(self.local("big"), "rb") as file:
            self.assertEqual(file.read(), content)
        self.assertGreaterEqual(proxy.connections, 4)
        self.assertLess(proxy.bytes["down"], 34 << 20, "what had arrived was not sent again")
        self.assertEqual(os.listdir(self.work), ["big"])

    def test_trees_get_through_a_network_that_is_cut_again_and_again(self):
        server = Server(self)
        rng = random.Random(7)
        for i in range(60):
            self.make("tree/%02d" % i, rng.randbytes(rng.randrange(200000)))
        cuts = [rng.randrange(1 << 20, 3 << 20) for _ in range(6)]
        proxy = Proxy(self, server.port, cut_up=cuts)
        self.ok("put", "-r", "tree", "tree", server=server, address=proxy.address)
        self.assertEqual(tree_of(server.path("tree")), tree_of(self.local("tree")))
        proxy = Proxy(self, server.port, cut_down=cuts)
        self.ok("get", "-r", "tree", "back", server=server, address=proxy.address)
        self.assertEqual(tree_of(self.local("back")), tree_of(self.local("tree")))

    def test_a_killed_get_is_resumed_by_the_next(self):
        server = Server(self)
        content = os.urandom(32 << 20)
        server.write("big", content)
        proxy = Proxy(self, server.port, delay=0.05)
        process = self.spawn("get", "big", "big", server=server, address=proxy.address)

        def part():
            names = [name for name in os.listdir(self.work) if "part" in name]
            return names and os.path.getsize(self.local(names[0])) > (4 << 20)
        eventually(part, "a part has arrived")
        process.kill()
        process.communicate()
        self.assertFalse(os.path.exists(self.local("big")), "no half file under the final name")
        proxy = Proxy(self, server.port)
        self.ok("get", "--resume", "big", "big", server=server, address=proxy.address)
        with open(self.local("big"), "rb") as file:
            self.assertEqual(file.read(), content)
        self.assertLess(proxy.bytes["down"], len(content) - (3 << 20))
        self.assertEqual(os.listdir(self.work), ["big"])

    def test_a_killed_put_is_resumed_by_the_next(self):
        server = Server(self)
        content = os.urandom(32 << 20)
        self.make("big", content)
        proxy = Proxy(self, server.port, delay=0.05)
        process = self.spawn("put", "big", "big", server=server, address=proxy.address)
        eventually(lambda: proxy.bytes["up"] > (12 << 20), "a part was sent")
        process.kill()
        process.communicate()
        self.assertFalse(os.path.exists(server.path("big")))
        proxy = Proxy(self, server.port)
        self.ok("put", "--resume", "big", "big", server=server, address=proxy.address)
        self.assertEqual(server.read("big"), content)
        self.assertLess(proxy.bytes["up"], len(content) - (3 << 20))


if __name__ == "__main__":
    main()
