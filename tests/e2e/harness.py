"""What the end-to-end tests share: the real binary, servers in temporary folders, and proxies that delay, cut and count.

Nothing here sleeps to wait for something: servers tell that they are ready by their ready file, and loops poll a
condition with a deadline.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

CAPSTAN = os.environ["CAPSTAN_PROGRAM"]
LONG = os.environ.get("CAPSTAN_TEST_LONG") == "1"
PATIENCE = 60  # seconds until a test gives up on something that should happen at once


def eventually(condition, what):
    """Waits until the condition holds; fails after PATIENCE seconds."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError("still not true after %d s: %s" % (PATIENCE, what))


class Server:
    """A running `capstan serve` with a folder, a state folder and listeners of its own."""

    def __init__(self, case, *arguments, listen=("127.0.0.1:0",), root=None, state=None, wrapper=(), environment=None):
        self.base = tempfile.mkdtemp(prefix="capstan-e2e-")
        case.addCleanup(shutil.rmtree, self.base, ignore_errors=True)
        self.root = root or os.path.join(self.base, "files")
        self.state = state or os.path.join(self.base, "state")
        os.makedirs(self.root, exist_ok=True)
        self.arguments = list(arguments)
        self.listen = listen
        self.wrapper = list(wrapper)
        self.environment = dict(case.environment, **(environment or {}))
        self.ready_file = os.path.join(self.base, "ready")
        self.log_path = os.path.join(self.base, "log")
        self.process = None
        case.addCleanup(self.kill)
        self.start()

    def start(self):
        if os.path.exists(self.ready_file):
            os.unlink(self.ready_file)
        command = self.wrapper + [CAPSTAN, "serve", self.root, "--state", self.state, "--ready-file", self.ready_file]
        for address in self.listen:
            command += ["--listen", address]
        self.log = open(self.log_path, "ab")
        self.process = subprocess.Popen(command + self.arguments, stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=self.log, env=self.environment)

        def ready():
            if self.process.poll() is not None:
                raise AssertionError("the server ended with %d:\n%s" % (self.process.returncode, self.log_text()))
            return os.path.exists(self.ready_file)
        eventually(ready, "the server is ready")
        with open(self.ready_file) as lines:
            self.addresses = lines.read().split()
        self.address = self.addresses[0]
        return self

    def log_text(self):
        with open(self.log_path, errors="replace") as log:
            return log.read()

    @property
    def port(self):
        return int(self.address.rsplit(":", 1)[1])

    @property
    def token_file(self):
        return os.path.join(self.state, "owner.token")

    @property
    def pid(self):
        return self.process.pid

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self):
        status = self.process.wait(timeout=PATIENCE)
        self.log.close()
        return status

    def stop(self):
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.process:
            self.log.close()

    def restart(self, *arguments):
        """Starts again at the same address, as after a crash."""
        self.kill()
        self.listen = self.addresses
        self.arguments = list(arguments) or self.arguments
        return self.start()

    def path(self, *names):
        return os.path.join(self.root, *names)

    def write(self, name, content=b""):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
        return path

    def read(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()


class Outcome:
    """How a command ended."""

    def __init__(self, process, out, err):
        self.status, self.out, self.err = process.returncode, out, err

    @property
    def text(self):
        return self.out.decode("utf-8", "surrogateescape")

    @property
    def errors(self):
        return self.err.decode("utf-8", "surrogateescape")

    @property
    def json(self):
        return json.loads(self.out)


class EndToEnd(unittest.TestCase):
    """A test with a home folder of its own, so that nothing of the user's is read or touched."""

    def setUp(self):
        self.home = tempfile.mkdtemp(prefix="capstan-home-")
        self.addCleanup(shutil.rmtree, self.home, ignore_errors=True)
        self.environment = {key: value for key, value in os.environ.items()
                            if not key.startswith(("CAPSTAN_", "XDG_")) and key not in ("NOTIFY_SOCKET",)}
        runtime = os.path.join(self.home, "runtime")
        os.mkdir(runtime, 0o700)
        self.environment.update(HOME=self.home, XDG_RUNTIME_DIR=runtime, LC_ALL="C.UTF-8", TERM="dumb")
        self.work = os.path.join(self.home, "work")
        os.mkdir(self.work)

    def local(self, *names):
        return os.path.join(self.work, *names)

    def make(self, name, content=b""):
        path = self.local(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
        return path

    def spawn(self, *arguments, server=None, address=None, stdin=subprocess.DEVNULL, **options):
        command = [CAPSTAN]
        if address or server:
            command += ["--server", address or server.address]
        if server:
            command += ["--token-file", server.token_file]
        return subprocess.Popen(command + list(arguments), stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                env=self.environment, cwd=self.work, **options)

    def run_capstan(self, *arguments, server=None, address=None, input=None):
        process = self.spawn(*arguments, server=server, address=address,
                             stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL)
        try:
            out, err = process.communicate(input, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            self.fail("still running after %d s: %s\n%s" % (PATIENCE, " ".join(map(str, arguments)), err.decode()))
        return Outcome(process, out, err)

    def ok(self, *arguments, **options):
        outcome = self.run_capstan(*arguments, **options)
        self.assertEqual(outcome.status, 0, "%s\n%s" % (arguments, outcome.errors))
        return outcome

    def fails(self, status, code, *arguments, **options):
        """The command ends with this status, and names this code on stderr in the contract's form."""
        outcome = self.run_capstan(*arguments, **options)
        self.assertEqual(outcome.status, status, "%s\n%s" % (arguments, outcome.errors))
        self.assertRegex(outcome.errors, r"(?m)^capstan: %s: ." % code)
        return outcome


class Proxy:
    """Forwards TCP connections to a server, and does to them what a bad network does.

    delay: seconds by which each direction's bytes are held back. cut_after: the connection is cut for good when so many
    bytes have passed towards the client (cut_down) or the server (cut_up); each cut is used once, in order.
    """

    def __init__(self, case, port, delay=0.0, cut_up=(), cut_down=()):
        self.port_behind = port
        self.delay = delay
        self.cuts = {"up": list(cut_up), "down": list(cut_down)}
        self.lock = threading.Lock()
        self.connections = 0
        self.bytes = {"up": 0, "down": 0}
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        case.addCleanup(self.close)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        # shutdown() wakes the thread in accept(); close() alone would not.
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.port_behind))
            except OSError:
                client.close()
                continue
            with self.lock:
                self.connections += 1
                budgets = {way: (cuts.pop(0) if cuts else None) for way, cuts in self.cuts.items()}
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ways = [threading.Thread(target=self._forward, args=(way, source, sink, budgets[way]), daemon=True)
                    for way, source, sink in (("up", client, server), ("down", server, client))]
            threading.Thread(target=self._run, args=(ways, client, server), daemon=True).start()

    def _run(self, ways, client, server):
        for way in ways:
            way.start()
        for way in ways:
            way.join()
        client.close()
        server.close()

    def _forward(self, way, source, sink, budget):
        pending = []  # (due, bytes), when delaying
        arrived = threading.Condition()

        def send_late():
            while True:
                with arrived:
                    while not pending:
                        arrived.wait()
                    due, data = pending.pop(0)
                time.sleep(max(0.0, due - time.monotonic()))
                try:
                    if data is None:
                        sink.shutdown(socket.SHUT_WR)
                        return
                    sink.sendall(data)
                except OSError:
                    return

        late = threading.Thread(target=send_late, daemon=True)
        if self.delay:
            late.start()
        passed = 0
        try:
            while True:
                data = source.recv(65536)
                if budget is not None and passed + len(data) > budget:
                    source.shutdown(socket.SHUT_RDWR)
                    sink.shutdown(socket.SHUT_RDWR)
                    return
                passed += len(data)
                with self.lock:
                    self.bytes[way] += len(data)
                if self.delay:
                    with arrived:
                        pending.append((time.monotonic() + self.delay, data or None))
                        arrived.notify()
                    if not data:
                        late.join()
                        return
                elif data:
                    sink.sendall(data)
                else:
                    sink.shutdown(socket.SHUT_WR)
                    return
        except OSError:
            for end in (source, sink):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass


def main():
    unittest.main(verbosity=2)
