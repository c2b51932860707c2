"""TLS and invites with the real binary: pinned and wrong certificates, plain connections beside them, reloading."""

import base64
import hashlib
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading

from harness import EndToEnd, Server, eventually, main


def certificate_of(server):
    with open(os.path.join(server.state, "tls.pem")) as file:
        return re.search(r"-----BEGIN CERTIFICATE-----.*-----END CERTIFICATE-----\n", file.read(), re.S).group()


def fingerprint_of(certificate):
    """By openssl, which shares no code with the program's own way from PEM to fingerprint."""
    key = subprocess.run(["openssl", "x509", "-pubkey", "-noout"], input=certificate.encode(), capture_output=True, check=True)
    der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "der"], input=key.stdout, capture_output=True, check=True)
    return base64.urlsafe_b64encode(hashlib.sha256(der.stdout).digest()).decode().rstrip("=")


class Tls(EndToEnd):
    def setUp(self):
        super().setUp()
        self.server = Server(self)
        self.server.write("file", b"content")

    def invite(self, name="friend.invite", certificate=None, address=None, server=None, mode=0o600):
        server = server or self.server
        certificate = certificate or certificate_of(server)
        with open(server.token_file) as file:
            token = base64.urlsafe_b64encode(bytes.fromhex(file.read().strip())).decode().rstrip("=")
        lines = "# for a friend\ncapnp://sha-256:%s@%s/%s\n" % (fingerprint_of(certificate), address or server.address, token)
        path = self.make(name, (lines + certificate).encode())
        os.chmod(path, mode)
        return "@" + path

    def test_an_invite_is_all_that_a_client_needs(self):
        invite = self.invite()
        self.assertEqual(self.ok("cat", "file", address=invite).out, b"content")
        self.make("up", b"x" * 3_000_000)
        self.ok("put", "up", "up", address=invite)
        self.assertEqual(self.server.read("up"), b"x" * 3_000_000)
        self.ok("get", "up", "down", address=invite)
        self.assertEqual(self.ok("add", "1", "2", address=invite).text.strip(), "3")
        self.make("folder/a", b"a")
        self.ok("sync", "folder", "synced", "--once", address=invite)
        self.assertEqual(self.server.read("synced/a"), b"a")
        shell = self.run_capstan("shell", address=invite, input=b"cat file\n")
        self.assertIn("content", shell.text)

    def test_the_environment_and_the_configuration_take_invites_too(self):
        self.invite("friend.invite")
        self.environment["CAPSTAN_SERVER"] = "@friend.invite"
        self.assertEqual(self.ok("cat", "file").out, b"content")
        del self.environment["CAPSTAN_SERVER"]
        self.make(".capstan.toml", b'[remotes.friend]\nserver = "@friend.invite"\n')
        self.assertEqual(self.ok("cat", "file", address="friend").out, b"content")

    def test_another_server_at_the_same_address_is_denied_and_sees_no_token(self):
        other = Server(self)
        outcome = self.fails(6, "denied", "cat", "file", address=self.invite(address=other.address))
        self.assertIn("another certificate", outcome.errors)
        self.assertIn("new invite", outcome.errors)
        eventually(lambda: "connected" in other.log_text(), "a line about the connection")
        self.assertNotIn("wrong token", other.log_text(), "none came")
        self.fails(6, "denied", "cat", "file",
                   address=self.invite("trusting.invite", certificate_of(other), address=other.address))
        eventually(lambda: "wrong token" in other.log_text(), "a line about the one that came")

    def test_what_is_wrong_with_an_invite_is_told_without_its_secret(self):
        invite = self.invite()
        with open(invite[1:]) as file:
            text = file.read()
        token = re.search(r"/([\w-]{43})\n", text).group(1)
        self.make("cut.invite", text[:-100].encode())
        self.fails(2, "not-found", "ls", address="@nowhere.invite")
        for name in ("cut.invite", "word.invite"):
            self.make("word.invite", b"word")
            outcome = self.run_capstan("ls", address="@" + name)
            self.assertEqual(outcome.status, 2, outcome.errors)
            self.assertIn(name, outcome.errors)
            self.assertNotIn(token, outcome.errors)

    def test_an_invite_that_others_can_read_is_warned_of(self):
        outcome = self.ok("ls", address=self.invite(mode=0o644))
        self.assertIn("chmod 600", outcome.errors)

    def test_a_server_without_tls_is_unreachable_by_an_invite(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            def speak():
                peer, _ = listener.accept()
                with peer:
                    peer.sendall(b"SSH-2.0-OpenSSH_9.2\r\n" * 10)
                    peer.recv(10000)
            thread = threading.Thread(target=speak, daemon=True)
            thread.start()
            address = "127.0.0.1:%d" % listener.getsockname()[1]
            outcome = self.fails(7, "unreachable", "ls", address=self.invite(address=address))
            thread.join(60)
        self.assertIn("TLS", outcome.errors)

    def test_a_remote_may_pin_a_certificate(self):
        self.make("server.pem", certificate_of(self.server).encode())
        shutil.copy(self.server.token_file, self.local("server.token"))
        self.make(".capstan.toml", ('[remotes.mine]\nserver = "%s"\ncertificate = "server.pem"\n'
                                    'token-file = "server.token"\n' % self.server.address).encode())
        self.ok("ls", address="mine")
        self.make("server.pem", certificate_of(Server(self)).encode())
        self.fails(6, "denied", "ls", address="mine")

    def test_other_programs_find_tls_of_today(self):
        context = ssl.create_default_context(cadata=certificate_of(self.server))
        with socket.create_connection(("127.0.0.1", self.server.port)) as raw:
            with context.wrap_socket(raw, server_hostname="capstan") as stream:
                self.assertEqual(stream.version(), "TLSv1.3")
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
        with socket.create_connection(("127.0.0.1", self.server.port)) as raw:
            with self.assertRaises((ssl.SSLError, ConnectionError)):
                old.wrap_socket(raw)

    def test_the_key_is_for_its_owner_alone(self):
        path = os.path.join(self.server.state, "tls.pem")
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        self.server.stop()
        os.chmod(path, 0o640)
        outcome = self.run_capstan("serve", self.server.root, "--listen", "127.0.0.1:0", "--state", self.server.state)
        self.assertEqual(outcome.status, 6, outcome.errors)
        self.assertIn("chmod 600", outcome.errors)

    def test_a_restart_keeps_the_key(self):
        invite = self.invite()
        self.server.restart()
        self.ok("ls", address=invite)

    def test_own_files_are_taken_and_read_again_on_sighup(self):
        def make(name):
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                            "-subj", "/CN=files", "-addext", "subjectAltName=DNS:files.example", "-days", "2",
                            "-keyout", self.local(name + ".key"), "-out", self.local(name + ".pem")],
                           check=True, capture_output=True)
            with open(self.local(name + ".pem")) as file:
                return file.read()
        first, second = make("mine"), make("next")
        self.server = Server(self, "--tls-cert", self.local("mine.pem"), "--tls-key", self.local("mine.key"))
        self.server.write("file", b"content")
        self.ok("ls", address=self.invite("first", first))
        os.rename(self.local("next.key"), self.local("mine.key"))
        self.server.signal(signal.SIGHUP)
        eventually(lambda: "stay as they were" in self.server.log_text(), "a key that does not fit is refused")
        self.ok("ls", address=self.invite("first", first))
        os.rename(self.local("next.pem"), self.local("mine.pem"))
        self.server.signal(signal.SIGHUP)
        eventually(lambda: "were read again" in self.server.log_text(), "both were read again")
        self.ok("ls", address=self.invite("second", second))
        self.fails(6, "denied", "ls", address=self.invite("first", first))

    def test_a_certificate_without_its_key_is_a_usage_error(self):
        outcome = self.run_capstan("serve", self.server.root, "--tls-cert", "c.pem", "--listen", "127.0.0.1:0")
        self.assertEqual(outcome.status, 2, outcome.errors)
        self.assertIn("--tls-key", outcome.errors)

    def test_a_server_that_dies_in_the_middle_is_come_back_to(self):
        self.server.write("large", os.urandom(1 << 20) * 64)
        invite = self.invite()
        getting = self.spawn("get", "large", "large", address=invite)
        eventually(lambda: any(".capstan-part-" in name for name in os.listdir(self.work)), "it is under way")
        self.server.restart()
        _, errors = getting.communicate(timeout=60)
        self.assertEqual(getting.returncode, 0, errors)
        with open(self.local("large"), "rb") as file:
            self.assertEqual(file.read(), self.server.read("large"))


if __name__ == "__main__":
    main()
