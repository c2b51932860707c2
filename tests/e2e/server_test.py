"""The server as a process: starting, listening, who may in, and its orderly end."""

import os
import signal
import socket
import stat
import subprocess

from harness import CAPSTAN, EndToEnd, Server, eventually, main


class Starting(EndToEnd):
    def test_a_server_listens_on_tcp_ipv6_and_a_unix_socket_at_once(self):
        path = os.path.join(self.home, "s.sock")
        server = Server(self, listen=("127.0.0.1:0", "[::1]:0", "unix:" + path))
        self.assertEqual(len(server.addresses), 3)
        self.assertRegex(server.addresses[1], r"^\[::1\]:\d+$")
        server.write("hello.txt", b"hello")
        for address in server.addresses:
            self.assertEqual(self.ok("cat", "hello.txt", server=server, address=address).out, b"hello")

    def test_the_ready_file_vanishes_with_the_server(self):
        server = Server(self)
        self.assertEqual(server.stop(), 0)
        self.assertFalse(os.path.exists(server.ready_file))

    def test_a_missing_folder_is_named(self):
        self.fails(9, "not-found", "serve", self.local("none"), "--listen", "127.0.0.1:0", "--state", self.local("s"))

    def test_a_file_is_no_folder_to_serve(self):
        path = self.make("file")
        self.fails(1, "not-directory", "serve", path, "--listen", "127.0.0.1:0", "--state", self.local("s"))

    def test_an_address_in_use_is_named(self):
        server = Server(self)
        outcome = self.run_capstan("serve", server.root, "--listen", server.address, "--state", self.local("s"))
        self.assertEqual(outcome.status, 1)
        self.assertIn(server.address, outcome.errors)

    def test_an_address_is_refused_where_there_is_no_usable_key_for_tls(self):
        state = os.path.join(self.home, "s")
        os.mkdir(state, 0o700)
        with open(os.path.join(state, "tls.pem"), "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write("no key")
        outcome = self.run_capstan("serve", self.work, "--listen", "127.0.0.1:0", "--state", state)
        self.assertIn(outcome.status, (1, 2))
        self.assertIn("tls.pem", outcome.errors)

    def test_the_socket_of_a_dead_server_is_replaced_and_that_of_a_live_one_is_not(self):
        path = os.path.join(self.home, "s.sock")
        server = Server(self, listen=("unix:" + path,))
        second = self.run_capstan("serve", self.work, "--listen", "unix:" + path, "--state", self.home + "/s2")
        self.assertEqual(second.status, 1, second.errors)
        self.assertIn(path, second.errors)
        server.kill()
        self.assertTrue(os.path.exists(path), "a killed server leaves its socket")
        server.start()
        self.ok("ls", server=server)

    def test_without_listen_the_default_socket_and_port_serve_and_the_client_finds_them(self):
        # The default port may be taken on this machine: only the socket is looked at here.
        base = os.path.join(self.environment["XDG_RUNTIME_DIR"], "capstan.sock")
        server = Server(self, listen=("unix:" + base,))
        server.write("found", b"")
        self.assertEqual(self.ok("ls").text, "found\n")

    def test_systemd_is_told(self):
        path = os.path.join(self.home, "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(path)
            notify.settimeout(30)
            server = Server(self, environment={"NOTIFY_SOCKET": path})
            received = b""
            while b"READY=1" not in received:
                received += notify.recv(4096) + b"\n"
            server.signal(signal.SIGTERM)
            while b"STOPPING=1" not in received:
                received += notify.recv(4096) + b"\n"
            self.assertEqual(server.wait(), 0)


class Tokens(EndToEnd):
    def test_the_owners_token_is_secret_and_found_by_the_same_user(self):
        server = Server(self)
        self.assertEqual(stat.S_IMODE(os.stat(server.token_file).st_mode), 0o600)
        self.ok("ls", address=server.address)
        with open(server.token_file) as file:
            token = file.read().strip()
        self.assertNotIn(token, server.log_text())

    def test_a_wrong_token_is_denied_and_logged_without_it(self):
        server = Server(self)
        wrong = self.make("wrong", b"ab" * 32 + b"\n")
        os.chmod(wrong, 0o600)
        self.fails(6, "denied", "--token-file", wrong, "ls", address=server.address)
        eventually(lambda: "127.0.0.1" in server.log_text(), "the peer is logged")
        self.assertNotIn("abababab", server.log_text())

    def test_a_missing_token_is_denied_and_told_how_to_go_on(self):
        server = Server(self)
        self.environment["XDG_STATE_HOME"] = self.home + "/elsewhere"
        outcome = self.fails(6, "denied", "ls", address=server.address)
        self.assertIn("--token-file", outcome.errors)

    def test_a_token_file_that_is_none_is_named(self):
        server = Server(self)
        self.assertNotEqual(self.run_capstan("--token-file", self.local("none"), "ls", address=server.address).status, 0)
        broken = self.make("broken", b"this is no token")
        outcome = self.run_capstan("--token-file", broken, "ls", address=server.address)
        self.assertNotEqual(outcome.status, 0)
        self.assertNotIn("this is no token", outcome.errors)

    def test_no_token_is_needed_with_auth_none(self):
        server = Server(self, "--auth", "none")
        self.environment["XDG_STATE_HOME"] = self.home + "/elsewhere"
        self.ok("ls", address=server.address)

    def test_the_token_stays_the_same_over_a_restart(self):
        server = Server(self)
        with open(server.token_file) as file:
            before = file.read()
        server.restart()
        with open(server.token_file) as file:
            self.assertEqual(file.read(), before)


class TokensOnSharedMachines(EndToEnd):
    """A port belongs to whoever is the first to listen there, and that may be another user of the machine."""

    TOKEN = bytes(range(32))

    def setUp(self):
        super().setUp()
        self.own_token = os.path.join(self.home, ".local", "state", "capstan", "owner.token")
        os.makedirs(os.path.dirname(self.own_token), 0o700)
        with open(self.own_token, "w") as file:
            file.write(self.TOKEN.hex() + "\n")
        os.chmod(self.own_token, 0o600)

    def listen_as(self, user):
        if os.geteuid() != 0:
            self.skipTest("only root can listen as somebody else")
        os.seteuid(user)
        try:
            listener = socket.create_server(("127.0.0.1", 0))
        finally:
            os.seteuid(0)
        self.addCleanup(listener.close)
        listener.settimeout(60)
        return listener

    def what_is_sent_to(self, listener, *arguments):
        """The first bytes of a client, the login among them."""
        client = self.spawn(*arguments, "ls", address="127.0.0.1:%d" % listener.getsockname()[1])
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(60)
            received = b""
            while b"capstan" not in received:  # the client's name, which stands behind the token
                more = connection.recv(65536)
                self.assertTrue(more, "it went without a login")
                received += more
        client.communicate(timeout=60)
        return received

    def test_the_own_token_is_sent_to_the_own_listener(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(60)
            self.assertIn(self.TOKEN, self.what_is_sent_to(listener))

    def test_the_own_token_is_not_sent_to_the_listener_of_another_user(self):
        self.assertNotIn(self.TOKEN, self.what_is_sent_to(self.listen_as(61000)))

    def test_nor_is_one_that_was_found_by_the_address(self):
        listener = self.listen_as(61000)
        links = os.path.join(os.path.dirname(self.own_token), "tokens")
        os.mkdir(links)
        os.symlink(self.own_token, os.path.join(links, "127.0.0.1:%d" % listener.getsockname()[1]))
        self.assertNotIn(self.TOKEN, self.what_is_sent_to(listener))

    def test_a_token_that_the_user_names_is_sent(self):
        listener = self.listen_as(61000)
        self.assertIn(self.TOKEN, self.what_is_sent_to(listener, "--token-file", self.own_token))
        self.environment["CAPSTAN_TOKEN_FILE"] = self.own_token
        self.assertIn(self.TOKEN, self.what_is_sent_to(listener))

    def test_the_server_of_another_user_asks_for_it_by_name(self):
        if os.geteuid() != 0:
            self.skipTest("only root can serve as somebody else")
        server = Server(self, listen=("unix:" + self.local("s.sock"),))
        given = self.listen_as(61000)
        address = "127.0.0.1:%d" % given.getsockname()[1]
        server.stop()
        os.set_inheritable(given.fileno(), True)
        take = "exec 3<&%d; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"" % given.fileno()
        command = ["sh", "-c", take, "sh", CAPSTAN, "serve", server.root, "--state", server.state]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=self.environment,
                                   stderr=subprocess.DEVNULL, pass_fds=[given.fileno()])
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        told = self.fails(6, "denied", "ls", address=address).errors
        self.assertIn("this user's own was not sent", told)
        self.assertIn("--token-file", told)
        self.ok("--token-file", server.token_file, "ls", address=address)


class Ending(EndToEnd):
    def upload_in_flight(self, server):
        """A `put -` that has sent something and waits for more on its stdin."""
        process = self.spawn("put", "-", "slow.bin", server=server, stdin=subprocess.PIPE)
        process.stdin.write(b"x" * (3 << 20))
        process.stdin.flush()

        def staged():
            status = self.ok("--json", "status", server=server).json
            return status["transfers"]
        eventually(staged, "the upload is open")
        return process

    def test_sigterm_lets_an_upload_finish(self):
        server = Server(self)
        process = self.upload_in_flight(server)
        server.signal(signal.SIGTERM)
        eventually(lambda: not os.path.exists(server.ready_file) or "draining" in server.log_text()
                   or "finish" in server.log_text(), "the server drains")
        out, err = process.communicate(b"y", timeout=60)
        self.assertEqual(process.returncode, 0, err)
        self.assertEqual(server.wait(), 0)
        self.assertEqual(os.path.getsize(server.path("slow.bin")), (3 << 20) + 1)

    def test_sigint_twice_ends_at_once_and_leaves_nothing_half_done(self):
        server = Server(self)
        process = self.upload_in_flight(server)
        server.signal(signal.SIGINT)
        eventually(lambda: "again" in server.log_text(), "the server says how to end at once")
        self.assertIsNone(server.process.poll())
        server.signal(signal.SIGINT)
        self.assertEqual(server.wait(), 130)
        process.kill()
        process.communicate()
        self.assertEqual(os.listdir(server.root), [".capstan"])

    def test_an_idle_server_ends_cleanly_at_once(self):
        server = Server(self, listen=("unix:" + os.path.join(self.home, "s.sock"),))
        self.assertEqual(server.stop(), 0)
        self.assertFalse(os.path.exists(os.path.join(self.home, "s.sock")))


class WhatIsNoServer(EndToEnd):
    def test_nothing_listening_is_unreachable(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = "127.0.0.1:%d" % listener.getsockname()[1]
        self.fails(7, "unreachable", "ls", address=address)
        self.fails(7, "unreachable", "ls", address="unix:" + self.local("none.sock"))

    def test_something_else_is_recognised(self):
        import threading
        with socket.create_server(("127.0.0.1", 0)) as listener:
            def answer():
                while True:
                    try:
                        connection, _ = listener.accept()
                    except OSError:
                        return
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\nSSH-2.0-OpenSSH_9.2 and so on")
                    connection.close()
            threading.Thread(target=answer, daemon=True).start()
            self.fails(7, "unreachable", "ls", address="127.0.0.1:%d" % listener.getsockname()[1])

    def test_a_silent_peer_times_out(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.fails(8, "timed-out", "--timeout", "300ms", "ls",
                       address="127.0.0.1:%d" % listener.getsockname()[1])


if __name__ == "__main__":
    main()
