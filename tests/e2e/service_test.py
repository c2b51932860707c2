"""The server as systemd runs it: sockets that are handed over, the watchdog, and the units in packaging/systemd."""

import ctypes
import os
import re
import shutil
import signal
import socket
import stat
import subprocess

from harness import CAPSTAN, EndToEnd, Server, eventually, main

UNITS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "packaging", "systemd")
CLONE_NEWNET = 0x40000000
WORST_EXPOSURE = {"system": 10, "user": 66}  # tenths, as `systemd-analyze security --threshold` has them


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

    def serve(self, sockets, *arguments, names=None, environment=None, for_whom=os.getpid, isolate=False,
              journal=False):
        """Starts `capstan serve` with descriptors from 3 on; for_whom tells LISTEN_PID in the child.

        journal: what it says goes to systemd's journal, as it believes.

        isolate: in a network namespace of its own, as PrivateNetwork= has it; ends with status 126 where that is refused.
        """
        variables = dict(self.environment, LISTEN_FDS=str(len(sockets)))
        variables.update(environment or {})
        if names:
            variables["LISTEN_FDNAMES"] = ":".join(names)
        command = [CAPSTAN, "serve", self.root, "--state", self.state, "--ready-file", self.ready_file, *arguments]
        out, into = os.pipe()
        if journal:
            status = os.fstat(into)
            variables["JOURNAL_STREAM"] = "%d:%d" % (status.st_dev, status.st_ino)
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
                if isolate and ctypes.CDLL(None).unshare(CLONE_NEWNET) < 0:
                    os._exit(126)
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
            ended, status = os.waitpid(self.child, os.WNOHANG)
            if ended:
                self.child, self.ended = None, os.waitstatus_to_exitcode(status)
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

    def test_a_socket_for_ipv6_and_ipv4_takes_plain_connections_of_this_machine(self):
        # As ListenStream=[::]:4457 with BindIPv6Only=both has it, but on loopback alone.
        both = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        self.addCleanup(both.close)
        both.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        both.bind(("::ffff:127.0.0.1", 0))
        both.listen(16)
        self.serve([both]).addresses()
        address = "127.0.0.1:%d" % both.getsockname()[1]
        self.ok("--token-file", self.token(), "ls", address=address)
        self.fails(6, "denied", "--token-file", self.make("wrong", b"0" * 64), "ls", address=address)

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

    def test_a_server_that_reaches_no_network_is_reached_through_them(self):
        tcp = self.bind()
        self.serve([tcp], isolate=True)
        try:
            self.addresses()
        except AssertionError:
            if self.child is None and self.ended == 126:
                self.skipTest("this user may not make network namespaces")
            raise
        self.ok("--token-file", self.token(), "ls", address="127.0.0.1:%d" % tcp.getsockname()[1])

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


class Journal(Given):
    def test_each_line_has_its_priority(self):
        path = self.local("given.sock")
        self.serve([self.bind(socket.AF_UNIX, path), self.bind()], environment={"NOTIFY_SOCKET": "/none"},
                   journal=True).addresses()
        self.ok("ping", "-c", "1", address="unix:" + path)
        with open(os.path.join(self.state, "tls.pem"), "w") as key:
            key.write("no\nkey")
        os.kill(self.child, signal.SIGHUP)
        said = b""
        while b"TLS" not in said:
            said += self.out.readline()
        status, rest = self.end()
        lines = (said.decode() + rest).splitlines()
        self.assertEqual(status, 0)
        self.assertEqual([line for line in lines if not re.match(r"<6>info: |<3>error: ", line)], [])
        self.assertEqual(len([line for line in lines if line.startswith("<3>error: the TLS key")]), 1, lines)
        self.assertTrue(any(line.startswith("<6>info: serving ") for line in lines), lines)

    def test_that_it_does_not_start_is_an_error(self):
        self.state = os.path.join(self.root, "state")  # where it would be served
        status, said = self.serve([self.bind()], journal=True).wait()
        self.assertEqual(status, 1, said)
        self.assertRegex(said, r"^<3>capstan: invalid-argument: the state folder")

    def test_a_peer_begins_no_line(self):
        path = self.local("given.sock")
        self.serve([self.bind(socket.AF_UNIX, path)], journal=True).addresses()
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(path)
            peer.sendall(b"\n<3>error: the disk is broken\n")
            try:
                while peer.recv(4096):
                    pass
            except ConnectionResetError:
                pass
        _, said = self.end()
        self.assertNotRegex(said, r"(?m)^<3>")

    def test_elsewhere_lines_have_their_time_and_no_priority(self):
        path = self.local("given.sock")
        self.serve([self.bind(socket.AF_UNIX, path)], environment={"JOURNAL_STREAM": "1:1"}).addresses()
        self.ok("ping", "-c", "1", address="unix:" + path)
        _, said = self.end()
        self.assertRegex(said, r"(?m)^\d{4}-\d\d-\d\d \S+ info: ended$")
        self.assertNotIn("<6>", said)

    def test_nobody_is_told_to_interrupt_again(self):
        path = self.local("given.sock")
        self.serve([self.bind(socket.AF_UNIX, path)], journal=True).addresses()
        upload = self.spawn("put", "-", "slow", address="unix:" + path, stdin=subprocess.PIPE)
        upload.stdin.write(b"x" * (3 << 20))
        upload.stdin.flush()
        eventually(lambda: self.ok("--json", "status", address="unix:" + path).json["transfers"], "the upload is open")
        os.kill(self.child, signal.SIGTERM)
        said = b""
        while b"draining" not in said:
            said += self.out.readline()
        _, errors = upload.communicate(b"y", timeout=60)
        self.assertEqual(upload.returncode, 0, errors)
        _, rest = self.wait()
        draining = (said.decode() + rest).split("draining: ")[1].splitlines()[0]
        self.assertEqual(draining, "letting 1 upload and 0 downloads finish")


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
        _, said = self.wait()
        self.assertRegex(said, r"serving %s on 127\.0\.0\.1:\d+" % re.escape(self.root))
        self.assertNotIn("Ctrl-C", said, "the journal is no terminal")

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


class Units(EndToEnd):
    """What is in packaging/systemd, with the tools that systemd brings for that."""

    def units(self, kind):
        folder = self.local(kind)
        os.mkdir(folder)
        shutil.copy(os.path.join(UNITS, kind, "capstan.socket"), folder)
        with open(os.path.join(UNITS, kind, "capstan.service.in")) as template:
            text = template.read().replace("@CAPSTAN_PROGRAM@", CAPSTAN)
        with open(os.path.join(folder, "capstan.service"), "w") as unit:
            unit.write(text)
        return [os.path.join(folder, "capstan." + suffix) for suffix in ("service", "socket")]

    def settings(self, kind, name):
        with open(os.path.join(UNITS, kind, "capstan.service.in")) as template:
            return re.findall(r"(?m)^%s=(.*)$" % name, template.read())

    def analyze(self, *arguments):
        if not shutil.which("systemd-analyze"):
            self.skipTest("there is no systemd-analyze on this machine")
        return subprocess.run(["systemd-analyze", "--no-pager", *arguments], env=self.environment,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def test_systemd_understands_every_line_of_them(self):
        for kind in ("system", "user"):
            with self.subTest(kind):
                told = self.analyze("--" + kind, "verify", "--man=no", *self.units(kind))
                self.assertEqual((told.returncode, told.stdout), (0, ""))

    def test_what_fails_for_long_is_tried_again_for_as_long(self):
        for kind in ("system", "user"):
            with self.subTest(kind):
                (pause,), (interval,), (burst,) = (
                    self.settings(kind, name) for name in ("RestartSec", "StartLimitIntervalSec", "StartLimitBurst"))
                # Else the service and its socket would fail for good, and later visitors find nobody.
                self.assertGreater(int(burst), int(interval) / int(pause) + 1)

    def test_they_expose_no_more_than_they_have_to(self):
        for kind, worst in WORST_EXPOSURE.items():
            with self.subTest(kind):
                told = self.analyze("security", "--offline=yes", "--threshold=%d" % worst, self.units(kind)[0])
                print(told.stdout.strip().splitlines()[-1])
                self.assertEqual(told.returncode, 0, told.stdout)

    def group(self, name):
        calls = set()
        for word in re.findall(r"(?m)^    (\S+)", self.analyze("syscall-filter", name).stdout):
            calls |= self.group(word) if word.startswith("@") else {word} - {"#"}
        return calls

    def allowed_calls(self):
        allowed = set()
        for line in self.settings("system", "SystemCallFilter"):
            named = set()
            for word in line.lstrip("~").split():
                named |= self.group(word) if word.startswith("@") else {word}
            allowed = allowed - named if line.startswith("~") else allowed | named
        return allowed

    def test_the_system_calls_that_they_allow_are_enough(self):
        allowed = self.allowed_calls()
        self.assertLessEqual({"openat2", "renameat2", "inotify_add_watch", "statx", "syncfs"}, allowed)
        # Only root tries these: the server, for which inotify has to do then, and SQLite, which gives files away.
        refused = "fanotify_init,fanotify_mark,open_by_handle_at,fchown"
        self.assertTrue(allowed.isdisjoint(refused.split(",")), "the server finds them refused")
        log = self.local("calls")
        server = Server(self, wrapper=["strace", "-f", "-qq", "-o", log, "-e", "inject=%s:error=EPERM" % refused])
        watch = self.spawn("-v", "watch", "--count", "1", "inbox", server=server)
        watch.stderr.readline()  # it has begun
        self.make("folder/a", b"content" * 100000)
        self.ok("put", "-r", "folder", "inbox", server=server)
        self.assertEqual(watch.wait(timeout=60), 0)
        watch.communicate()
        self.make("folder/b", b"more")
        self.ok("sync", "--once", "folder", "inbox", server=server)
        self.ok("get", "-r", "inbox", "back", server=server)
        self.ok("put", self.make("lines", b"b\na\n"), "lines", server=server)
        job = self.ok("sort", "--file", "lines", "-o", "sorted", "--async", server=server).text.strip()
        self.ok("job", "wait", job, server=server)
        self.assertEqual(server.read("sorted"), b"a\nb\n")
        self.ok("rm", "-r", "inbox", server=server)
        status = self.ok("--json", "status", server=server).json
        self.assertEqual(status["watch"], "inotify")
        os.kill(status["pid"], signal.SIGTERM)  # strace does not pass it on
        server.wait()
        with open(log, errors="replace") as lines:
            calls = re.findall(r"(?m)^\d+ +(\w+)\((.*)$", lines.read())
        made = {name for name, _ in calls}
        self.assertIn("renameat2", made)
        self.assertEqual(made - allowed - set(refused.split(",")), set())
        both = [rest for name, rest in calls if name in ("mmap", "mprotect") and "PROT_WRITE|PROT_EXEC" in rest]
        self.assertEqual(both, [], "memory that is written to and run, against MemoryDenyWriteExecute=")

    def test_setuid_bits_that_they_refuse_are_named(self):
        server = Server(self)
        tracer = subprocess.Popen(["strace", "-f", "-p", str(server.pid), "-o", self.local("calls"), "-e", "trace=fchmod",
                                   "-e", "inject=fchmod:error=EPERM"], stderr=subprocess.PIPE, text=True)
        self.addCleanup(tracer.stderr.close)
        self.addCleanup(tracer.wait)
        self.addCleanup(tracer.terminate)
        if "attached" not in tracer.stderr.readline():
            self.skipTest("this user may not trace a server that runs")
        for name, size in (("small", 10), ("large", 5 << 20)):
            file = self.make(name, b"x" * size)
            os.chmod(file, 0o4755)
            told = self.fails(6, "denied", "put", file, name, server=server).errors
            self.assertIn("setuid or setgid bit", told)
            self.assertIn("chmod ug-s", told)
            self.assertFalse(os.path.exists(server.path(name)))

    def test_they_are_installed_with_the_place_of_the_program(self):
        prefix = self.local("prefix")
        build = os.path.dirname(os.path.realpath(CAPSTAN))
        if not os.path.exists(os.path.join(build, "cmake_install.cmake")):
            self.skipTest("the program is not in the folder that it was built in")
        subprocess.run(["cmake", "--install", build, "--component", "service", "--prefix", prefix], check=True,
                       stdout=subprocess.DEVNULL)
        for folder in ("lib/systemd/system", "share/systemd/user"):
            with open(os.path.join(prefix, folder, "capstan.service")) as unit:
                self.assertIn('ExecStart="%s/bin/capstan" serve ' % prefix, unit.read())
            self.assertTrue(os.path.exists(os.path.join(prefix, folder, "capstan.socket")))


if __name__ == "__main__":
    main()
