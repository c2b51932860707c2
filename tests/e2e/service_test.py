"""The server as systemd runs it: sockets that are handed over, the watchdog, and the units in packaging/systemd."""

import os
import signal
import socket
import stat

from harness import CAPSTAN, EndToEnd, eventually, main


class Given(EndToEnd):
    """A server whose sockets this test has bound, as systemd does."""

    def setUp(self):
        super().setUp()
        self.root, self.state = self.local("files"), self.local("state")
        os.mkdir(self.root)
        self.ready_file = self.local("ready")

    def bind(self, kind=socket.AF_INET, path=None, listening=True, type=socket.SOCK_STREAM):
        bound = socket.socket(kind, type)
        self.addCleanup(bound.close)
        bound.bind(path or ("127.0.0.1", 0))
        if listening:
            bound.listen(16)
        return bound

    def serve(self, sockets, *arguments, names=None, environment=None, for_whom=os.getpid):
        """Starts `capstan serve` with descriptors from 3 on; for_whom tells LISTEN_PID in the child."""
        variables = dict(self.environment, LISTEN_FDS=str(len(sockets)))
        variables.update(environment or {})
        if names:
            variables["LISTEN_FDNAMES"] = ":".join(names)
        command = [CAPSTAN, "serve", self.root, "--state", self.state, "--ready-file", self.ready_file, *arguments]
        out, into = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                # First out of the way of the numbers that they are to have.
                high = [os.dup2(each.fileno(), 100 + i) for i, each in enumerate(sockets)]
                null = os.open(os.devnull, os.O_RDONLY)
                os.dup2(null, 0)
                os.dup2(into, 1)
                os.dup2(into, 2)
                for i, fd in enumerate(high):
                    os.dup2(fd, 3 + i)
                os.closerange(3 + len(high), 200)
                variables["LISTEN_PID"] = str(for_whom())
                os.execve(CAPSTAN, command, variables)
            finally:
                os._exit(127)
        os.close(into)
        self.child, self.out = child, os.fdopen(out, "rb")
        self.addCleanup(self.reap)
        return self

    def reap(self):
        if self.child:
            os.kill(self.child, signal.SIGKILL)
            os.waitpid(self.child, 0)
        self.out.close()

    def addresses(self):
        def ready():
            if os.path.exists(self.ready_file):
                return True
            ended, _ = os.waitpid(self.child, os.WNOHANG)
            if ended:
                self.child = None
                raise AssertionError("the server ended:\n" + self.out.read().decode())
            return False
        eventually(ready, "the server is ready")
        with open(self.ready_file) as lines:
            return lines.read().split()

    def end(self):
        """The exit status and what was said, after SIGTERM."""
        os.kill(self.child, signal.SIGTERM)
        return self.wait()

    def wait(self):
        _, status = os.waitpid(self.child, 0)
        self.child = None
        with self.out:
            return os.waitstatus_to_exitcode(status), self.out.read().decode()

    def token(self):
        return os.path.join(self.state, "owner.token")


class SocketsFromSystemd(Given):
    def test_unix_and_tcp_sockets_take_the_place_of_the_default_listeners(self):
        path = self.local("given.sock")
        tcp, unix = self.bind(), self.bind(socket.AF_UNIX, path)
        port = tcp.getsockname()[1]
        self.serve([tcp, unix], names=["files", "local"])
        self.assertEqual(self.addresses(), ["127.0.0.1:%d" % port, "unix:" + path])
        file = self.make("a", b"content")
        self.ok("put", file, "a", address="unix:" + path)
        self.assertEqual(self.ok("--token-file", self.token(), "cat", "a", address="127.0.0.1:%d" % port).out, b"content")
        self.fails(6, "denied", "--token-file", self.make("wrong", b"0" * 64), "ls", address="127.0.0.1:%d" % port)

    def test_they_add_to_those_that_are_asked_for(self):
        path, own = self.local("given.sock"), self.local("own.sock")
        self.serve([self.bind(socket.AF_UNIX, path)], "--listen", "unix:" + own)
        self.assertEqual(self.addresses(), ["unix:" + own, "unix:" + path])
        self.ok("ping", "-c", "1", address="unix:" + own)
        self.ok("ping", "-c", "1", address="unix:" + path)

    def test_whoever_comes_before_the_server_is_served_when_it_is_there(self):
        path = self.local("given.sock")
        unix = self.bind(socket.AF_UNIX, path)
        early = self.spawn("ls", address="unix:" + path)
        self.serve([unix])
        self.addresses()
        self.assertEqual(early.wait(timeout=60), 0)
        early.stdout.close()
        early.stderr.close()

    def test_the_file_of_the_socket_stays_and_the_next_server_takes_it_up(self):
        path = self.local("given.sock")
        unix = self.bind(socket.AF_UNIX, path)
        for _ in range(2):
            self.serve([unix]).addresses()
            self.ok("ping", "-c", "1", address="unix:" + path)
            status, said = self.end()
            self.assertEqual(status, 0, said)
            self.assertTrue(stat.S_ISSOCK(os.lstat(path).st_mode))

    def test_what_is_meant_for_another_process_is_left_alone(self):
        path, own = self.local("given.sock"), self.local("own.sock")
        self.serve([self.bind(socket.AF_UNIX, path)], "--listen", "unix:" + own, for_whom=os.getppid)
        self.assertEqual(self.addresses(), ["unix:" + own])

    def test_what_cannot_be_listened_on_is_named(self):
        cases = [
            (self.bind(listening=False), "not listening"),
            (self.bind(socket.AF_UNIX, self.local("d.sock"), False, socket.SOCK_DGRAM), "no stream socket"),
        ]
        for bound, reason in cases:
            with self.subTest(reason):
                status, said = self.serve([bound], names=["files"]).wait()
                self.assertNotEqual(status, 0)
                self.assertRegex(said, r"(?m)^capstan: invalid-argument: .*socket 3 \(files\).*" + reason)
        status, said = self.serve([], environment={"LISTEN_FDS": "many"}).wait()
        self.assertEqual(status, 2)
        self.assertIn("LISTEN_FDS", said)


class Watchdog(Given):
    def test_systemd_hears_again_and_again_that_the_server_is_alive(self):
        path = self.local("notify")
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(manager.close)
        manager.bind(path)
        manager.settimeout(60)
        self.serve([self.bind()], environment={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "100000"})
        messages = [manager.recv(4096).decode() for _ in range(4)]
        self.assertTrue(messages[0].startswith("READY=1\n"), messages)
        self.assertEqual(messages[1:], ["WATCHDOG=1"] * 3)
        os.kill(self.child, signal.SIGTERM)
        eventually(lambda: "STOPPING=1" in manager.recv(4096).decode(), "it tells that it stops")
        self.wait()

    def test_nobody_is_told_where_the_watchdog_is_for_another_process(self):
        path = self.local("notify")
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(manager.close)
        manager.bind(path)
        self.serve([self.bind()], environment={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"})
        self.addresses()
        self.end()
        manager.setblocking(False)
        said = []
        while True:
            try:
                said.append(manager.recv(4096).decode())
            except BlockingIOError:
                break
        self.assertEqual([each for each in said if "WATCHDOG" in each], [])


if __name__ == "__main__":
    main()
