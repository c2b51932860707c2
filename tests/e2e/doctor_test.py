"""`capstan doctor` on this machine: what it finds where something is wrong, and that it says so with its exit status."""

import json
import os
import shutil
import socket
import subprocess

from harness import CAPSTAN, EndToEnd, Server, main

CHECKS = ["server", "state", "token", "certificate", "open-files", "watching", "clock", "disk"]


class Doctor(EndToEnd):
    def setUp(self):
        super().setUp()
        self.state = os.path.join(self.home, ".local", "state", "capstan")

    def examined(self, *arguments, status=None, wrapper=(), environment=None, **options):
        """The findings by check; where one looks at several things, the worst."""
        command = [*wrapper, CAPSTAN, "--json", "doctor", *arguments]
        done = subprocess.run(command, env=dict(self.environment, **(environment or {})), cwd=self.work,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, **options)
        self.findings = json.loads(done.stdout)
        problems = [each for each in self.findings if each["state"] == "problem"]
        self.assertEqual(done.returncode, 1 if problems else 0, self.findings)
        worst = {}
        for each in self.findings:
            self.assertEqual(sorted(each), ["advice", "check", "message", "state"])
            self.assertEqual(each["advice"] is None, each["state"] == "ok", each)
            rank = ["ok", "warning", "problem"].index
            if each["check"] not in worst or rank(worst[each["check"]]["state"]) < rank(each["state"]):
                worst[each["check"]] = each
        return worst

    def openssl(self, *arguments):
        subprocess.run(["openssl", *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def expect(self, found, check, state, *parts):
        self.assertEqual(found[check]["state"], state, found[check])
        for part in parts:
            self.assertIn(part, found[check]["message"] + " " + (found[check]["advice"] or ""))

    def test_it_runs_without_a_server_and_finds_no_problem_on_a_new_machine(self):
        found = self.examined(self.make("root/file") and self.local("root"))
        self.assertEqual([each for each in CHECKS if each not in found], [])
        self.expect(found, "server", "warning", "capstan serve")
        self.assertEqual(os.listdir(self.local("root")), ["file"])
        self.assertFalse(os.path.exists(self.state))

    def test_it_knows_the_server_that_commands_talk_to(self):
        server = Server(self)
        found = self.examined("--server", server.address, "--token-file", server.token_file, "--state", server.state)
        self.expect(found, "server", "ok", server.address)
        self.expect(found, "token", "ok")
        self.expect(found, "state", "ok", server.state)
        self.expect(found, "open-files", "ok" if found["open-files"]["state"] == "ok" else "warning", "the server may")
        self.assertIn(server.root, " ".join(each["message"] for each in self.findings), "the folder that is served")

    def test_a_server_that_was_named_has_to_be_there(self):
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            address = "127.0.0.1:%d" % nobody.getsockname()[1]
            self.expect(self.examined("--server", address), "server", "problem", address)
            self.expect(self.examined(environment={"CAPSTAN_SERVER": address}), "server", "problem", address)

    def test_a_token_that_the_server_does_not_know_is_a_problem(self):
        server = Server(self)
        os.chmod(self.make("token", b"0" * 64), 0o600)
        found = self.examined("--server", server.address, "--token-file", self.local("token"))
        self.expect(found, "server", "ok")
        self.expect(found, "token", "problem", "--token-file")

    def share(self, server, *terms):
        self.ok("share", ".", *terms, "-o", "invite", server=server)
        return self.ok("--json", "shares", server=server).json[-1]["id"]

    def used(self, server, share):
        return [each["used"] for each in self.ok("--json", "shares", "--all", server=server).json if each["id"] == share]

    def test_an_invite_is_told_with_what_it_gives(self):
        server = Server(self)
        share = self.share(server, "--read-write", "--label", "family", "--expires", "30d")
        found = self.examined("--server", "@invite")
        self.expect(found, "share", "ok", '"family"', "read-write", "in 30 days")
        self.assertEqual(self.used(server, share), [1])
        self.share(server, "--label", "guests", "--expires", "3d")
        self.expect(self.examined("--server", "@invite"), "share", "warning", '"guests"', "read-only", "in 3 days", "ask")
        self.assertNotIn("share", self.examined("--server", server.address, "--token-file", server.token_file))

    def test_an_invite_with_few_logins_loses_one_to_the_look_and_is_told_so(self):
        server = Server(self)
        share = self.share(server, "--uses", "2")
        self.expect(self.examined("--server", "@invite"), "share", "ok", "took one of its 2 logins, 1 is left")
        self.assertEqual(self.used(server, share), [1])
        self.expect(self.examined("--server", "@invite"), "share", "warning", "the last")
        found = self.examined("--server", "@invite")
        self.expect(found, "share", "problem", "was used 2 times", "new one")
        self.assertEqual(self.used(server, share), [2])

    def test_an_invite_that_has_ended_is_a_problem(self):
        server = Server(self)
        share = self.share(server, "--label", "family")
        self.ok("revoke", share, server=server)
        found = self.examined("--server", "@invite")
        self.expect(found, "server", "ok")
        self.expect(found, "share", "problem", "family", "revoked", "new one")

    def test_a_folder_that_the_user_of_the_service_cannot_write_into_is_found(self):
        if os.geteuid() != 0:
            self.skipTest("only root looks for somebody else")
        os.mkdir(self.local("state"), 0o700)
        os.mkdir(self.local("files"), 0o755)
        os.chown(self.local("state"), 61000, 61000)
        found = self.examined(self.local("files"), "--state", self.local("state"))
        self.expect(found, "owner", "warning", "61000", self.local("files"))
        os.chown(self.local("files"), 61000, 61000)
        self.assertNotIn("owner", self.examined(self.local("files"), "--state", self.local("state")))

    def test_what_others_may_read_is_found_with_what_to_type(self):
        os.makedirs(self.state, 0o700)
        os.chmod(self.state, 0o755)
        token = os.path.join(self.state, "owner.token")
        with open(token, "w") as file:
            file.write("ab" * 32 + "\n")
        os.chmod(token, 0o644)
        found = self.examined()
        self.expect(found, "state", "warning", "chmod 700 " + self.state)
        self.expect(found, "token", "problem", "0644", "chmod 600 " + token)
        self.assertNotIn("abab", str(self.findings))
        os.chmod(token, 0o600)
        os.chmod(self.state, 0o777)
        found = self.examined()
        self.expect(found, "state", "problem")
        self.expect(found, "token", "ok")

    def test_a_low_limit_of_open_files_is_found(self):
        for limit, state in (("100", "problem"), ("1000", "warning"), ("4096", "ok")):
            wrapper = ["sh", "-c", "ulimit -n %s && exec \"$@\"" % limit, "sh"]
            self.expect(self.examined(wrapper=wrapper), "open-files", state, limit)

    def test_the_limit_is_that_of_the_running_server(self):
        server = Server(self, wrapper=["sh", "-c", "ulimit -n 1000 && exec \"$@\"", "sh"])
        found = self.examined("--server", server.address, "--token-file", server.token_file)
        self.expect(found, "open-files", "warning", "the server", "1000")

    def test_a_folder_that_cannot_be_served_is_a_problem(self):
        self.expect(self.examined("none"), "disk", "problem", "none")
        if os.path.isdir("/proc/sys"):
            self.expect(self.examined("/proc/sys"), "file-system", "problem", "/proc/sys")

    def test_a_configuration_that_cannot_be_read_is_told_and_the_rest_all_the_same(self):
        self.make(".capstan.toml", b"server = \n")
        found = self.examined()
        self.expect(found, "configuration", "problem", ".capstan.toml")
        self.assertEqual([each for each in CHECKS if each not in found], [])

    def test_an_expired_certificate_is_a_problem(self):
        if not shutil.which("openssl"):
            self.skipTest("there is no openssl command on this machine")
        certificate, key = self.local("cert.pem"), self.local("key.pem")
        request = self.local("request.pem")
        self.openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
                     "-out", request, "-subj", "/CN=files.example")
        for days, state in (("-1", "problem"), ("10", "warning"), ("300", "ok")):
            self.openssl("x509", "-req", "-in", request, "-signkey", key, "-days", days, "-out", certificate)
            os.chmod(key, 0o600)
            found = self.examined("--tls-cert", certificate, "--tls-key", key)
            self.expect(found, "certificate", state, "cert.pem")
        os.chmod(key, 0o604)
        found = self.examined("--tls-cert", certificate, "--tls-key", key)
        self.expect(found, "certificate", "problem", "chmod 600", "key.pem")

    def test_people_get_lines_that_stand_below_each_other(self):
        os.makedirs(self.state, 0o755)
        done = self.run_capstan("doctor")
        lines = done.text.splitlines()
        self.assertRegex(lines[0], r"^warning  server +\S")
        column = lines[0].index(lines[0].split(None, 2)[2])
        for line in lines:
            self.assertEqual(line[column - 1], " ", line)
            self.assertNotEqual(line[column], " ", line)
        self.assertTrue(any(line.strip() == "-> run: chmod 700 " + self.state for line in lines), done.text)
        self.assertRegex(done.errors, r"\d+ problems?, \d+ warnings?")

    def test_the_shell_has_it(self):
        server = Server(self)
        done = self.run_capstan("shell", server=server, input=b"doctor\n")
        self.assertRegex(done.text, r"(?m)^ok +server ")


if __name__ == "__main__":
    main()
