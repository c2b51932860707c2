"""Limits as flags of serve, and what status tells of them."""

from harness import EndToEnd, Server, eventually, main


class Limits(EndToEnd):
    def limits(self, server):
        told = self.ok("--json", "status", server=server).json["limits"]
        return {limit["scope"] + "." + limit["name"]: limit for limit in told}

    def test_a_limit_that_was_set_is_told_and_the_others_have_their_defaults(self):
        server = Server(self, "--limit", "grant.staged-bytes=3MiB", "--limit", "connection.files=7", "--limit", "idle-time=1h")
        limits = self.limits(server)
        self.assertEqual(limits["grant.staged-bytes"]["value"], 3 << 20)
        self.assertEqual(limits["grant.staged-bytes"]["unit"], "bytes")
        self.assertEqual(limits["connection.files"]["value"], 7)
        self.assertEqual(limits["connection.idle-time"]["value"], 3600)
        self.assertEqual(limits["connection.uploads"], {
            "name": "uploads", "scope": "connection", "unit": "count", "value": 64, "used": 0, "refused": 0})

    def test_status_tells_people_of_limits_that_were_run_into(self):
        server = Server(self, "--max-connections", "2")
        self.assertNotIn("run into", self.ok("status", server=server).text)
        held = [self.spawn("shell", server=server, stdin=-1) for _ in range(2)]
        eventually(lambda: server.log_text().count(" connected") >= 3, "both are connected")
        self.assertNotEqual(self.run_capstan("ls", server=server).status, 0)
        for process in held:
            process.communicate(b"", timeout=60)
        eventually(lambda: self.run_capstan("ls", server=server).status == 0, "there is room again")
        self.assertIn("server.connections", self.ok("status", server=server).text)
        self.assertGreaterEqual(self.limits(server)["server.connections"]["refused"], 1)

    def test_what_is_wrong_with_a_limit_is_told_before_anything_is_served(self):
        for typed, part in (("connection.uplods=1", "connection.uploads"), ("uploads=1", "say connection.uploads"),
                            ("connection.uploads=0", "1 to"), ("message=x", "a size"), ("message", "NAME=VALUE")):
            outcome = self.run_capstan("serve", ".", "--limit", typed)
            self.assertEqual(outcome.status, 2, typed)
            self.assertIn(part, outcome.errors, typed)
        self.assertEqual(self.run_capstan("serve", ".", "--max-connections", "0").status, 2)

    def test_all_limits_are_listed(self):
        text = self.ok("serve", "--limit", "help").text
        for name in ("connection.calls", "grant.staged-bytes", "server.connections", "connection.login-time"):
            self.assertIn(name, text)


if __name__ == "__main__":
    main()
