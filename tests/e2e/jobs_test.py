"""Jobs: started, watched, waited for, cancelled and forgotten by the command line, over kills of the server."""

import signal
import subprocess

from harness import EndToEnd, Server, eventually, main


class Jobs(EndToEnd):
    def setUp(self):
        super().setUp()
        self.server = Server(self)

    def c(self, *arguments, **options):
        return self.ok(*arguments, server=self.server, **options)

    def no(self, status, code, *arguments, **options):
        return self.fails(status, code, *arguments, server=self.server, **options)

    def start(self, *arguments, **options):
        """Starts a job, answers its id."""
        return self.c(*arguments, "--async", **options).text.strip()

    def write_lines(self, name, count):
        """A file of numbers in no order."""
        lines = [b"%d" % (i * 2654435761 % 4294967291) for i in range(count)]
        self.server.write(name, b"\n".join(lines) + b"\n")
        return b"\n".join(b"%d" % n for n in sorted(map(int, lines))) + b"\n"

    def test_a_job_is_started_waited_for_and_gives_its_result(self):
        job = self.start("add", "2", "3", "--label", "two and three")
        self.assertRegex(job, r"^\S+$")
        self.assertEqual(self.c("job", "wait", job).out, b"")
        self.assertEqual(self.c("job", "result", job).text, "5\n")
        self.assertEqual(self.c("--json", "job", "result", job).json, {"value": 5, "type": "int"})
        self.assertTrue(self.c("job", "status", job).text.startswith("done"))
        self.c("job", "result", job, "-o", "stored/sum")
        self.assertEqual(self.server.read("stored/sum"), b"5\n")
        started = self.c("--json", "add", "1", "2", "--async").json
        self.assertEqual(set(started), {"id"})

    def test_status_and_list_as_json_have_the_contracts_keys(self):
        job = self.start("sort", "3", "1", "2", "--label", "three")
        self.c("job", "wait", job)
        status = self.c("--json", "job", "status", job).json
        self.assertEqual((status["id"], status["state"], status["kind"], status["label"]), (job, "done", "sort", "three"))
        self.assertLessEqual({"submitted", "started", "ended", "expires", "progress", "error", "output", "result"},
                             set(status))
        self.assertEqual(set(status["progress"]), {"done", "total"})
        self.assertEqual((status["result"]["type"], status["result"]["count"]), ("int", 3))
        self.assertIsNone(status["error"])
        self.assertRegex(status["ended"], r"^\d{4}-\d\d-\d\dT.*Z$")
        self.assertEqual(self.c("--json", "job", "wait", job).json["state"], "done")
        self.assertEqual([each["id"] for each in self.c("--json", "job", "list").json], [job])
        self.assertEqual(self.c("--json", "job", "result", job).json, {"type": "int", "count": 3, "values": [1, 2, 3]})
        other = self.start("sum", "1", "2")
        lines = self.c("job", "list").text.splitlines()
        self.assertEqual([line.split()[0] for line in lines], [other, job], "the latest first")
        self.assertIn("three", lines[1])

    def test_an_interrupted_wait_tells_that_the_job_goes_on(self):
        lines = b"".join(b"%d.5\n" % (i * 2654435761 % 4294967291) for i in range(200000)) * 40
        self.server.write("big", lines)
        for verb in ("wait", "result"):
            job = self.start("sort", "--file", "big", "--type", "float", "--memory", "1MiB")
            process = self.spawn("job", verb, job, server=self.server, stdin=subprocess.DEVNULL)
            eventually(lambda: self.c("--json", "status").json["connections"] > 1, "it waits at the server")
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
            self.assertEqual((process.returncode, out), (130, b""))
            self.assertIn(b"; the job goes on: capstan job wait %s waits for it" % job.encode(), err)
            self.assertIn(self.c("--json", "job", "status", job).json["state"], ("queued", "running"))
            self.c("job", "cancel", job)

    def test_a_job_stores_its_result(self):
        expected = self.write_lines("in", 20000)
        job = self.start("sort", "--file", "in", "--type", "int", "-o", "deep/out")
        self.c("job", "wait", job)
        self.assertEqual(self.server.read("deep/out"), expected)
        self.assertEqual(self.c("--json", "job", "status", job).json["output"], "deep/out")
        self.assertIn("deep/out", self.no(1, "unsupported", "job", "result", job).errors)

    def test_a_failed_job_ends_as_the_command_would_have(self):
        self.server.write("words", b"1\nx\n")
        job = self.start("sort", "--file", "words", "--type", "int")
        self.assertIn("line 2", self.no(1, "invalid-argument", "job", "wait", job).errors)
        self.no(1, "invalid-argument", "job", "result", job)
        status = self.c("--json", "job", "status", job).json
        self.assertEqual((status["state"], status["error"]["code"]), ("failed", "invalid-argument"))
        self.assertTrue(self.c("job", "status", job).text.startswith("failed"))
        self.no(9, "not-found", "sort", "--file", "none", "--async")

    def test_mistakes_are_named(self):
        self.no(9, "not-found", "job", "status", "none")
        self.no(9, "not-found", "job", "wait", "none")
        self.no(9, "not-found", "job", "result", "none")
        self.no(9, "not-found", "job", "cancel", "none")
        self.no(2, "usage", "job", "status")
        self.no(2, "usage", "job", "frobnicate")
        self.no(2, "usage", "job", "list", "x")
        self.no(2, "usage", "job")
        self.no(2, "usage", "job", "status", "x", "-o", "y")

    def test_what_has_ended_cannot_be_cancelled_but_forgotten(self):
        job = self.start("add", "1", "2")
        self.c("job", "wait", job)
        self.no(4, "conflict", "job", "cancel", job)
        self.c("job", "forget", job)
        self.no(9, "(not-found|expired)", "job", "status", job)
        self.assertEqual(self.c("--json", "job", "list").json, [])

    def busy(self):
        """Keeps the server busy, so that what comes next is seen before it has ended; answers ids of three jobs."""
        self.server.write("big", b"".join(b"%d.5\n" % (i * 2654435761 % 4294967291) for i in range(200000)) * 20)
        return [self.start("sort", "--file", "big", "--type", "float", "--memory", "1MiB") for _ in range(3)]

    def test_cancelling_ends_a_job_and_its_waiters(self):
        jobs = self.busy()
        waiter = self.spawn("job", "wait", jobs[2], server=self.server)
        for job in reversed(jobs):
            self.c("job", "cancel", job)
            self.c("job", "cancel", job)
        out, err = waiter.communicate(timeout=60)
        self.assertEqual(waiter.returncode, 1, err)
        self.assertIn(b"cancelled", err)
        self.assertTrue(self.c("job", "status", jobs[2]).text.startswith("cancelled"))
        self.no(1, "cancelled", "job", "result", jobs[2])
        self.assertEqual(self.c("--json", "status").json["jobs"], 0)

    def test_waiting_may_be_given_up_and_taken_up_again(self):
        jobs = self.busy()
        outcome = self.no(8, "timed-out", "job", "wait", jobs[2], "--timeout", "1ms")
        self.assertIn("capstan job wait " + jobs[2], outcome.errors)
        waiter = self.spawn("job", "wait", jobs[2], server=self.server)
        waiter.send_signal(signal.SIGINT)
        waiter.communicate(timeout=60)
        self.assertIn(self.c("--json", "job", "status", jobs[2]).json["state"], ("queued", "running"))
        for job in jobs[:2]:
            self.c("job", "cancel", job)
        self.c("job", "wait", jobs[2])

    def test_jobs_survive_that_the_server_is_killed(self):
        block = [i * 2654435761 % 4294967291 for i in range(100000)]
        self.server.write("numbers", b"".join(b"%d\n" % n for n in block) * 15)
        expected = b"".join((b"%d\n" % n) * 15 for n in sorted(block))
        done = self.start("add", "40", "2")
        jobs = [self.start("sort", "--file", "numbers", "--type", "int", "--memory", "1MiB", "-o", "sorted-%d" % i)
                for i in range(4)]
        waiter = self.spawn("job", "wait", jobs[-1], server=self.server)
        # A first connection that breaks is an error: there may be no server at all.
        eventually(lambda: self.c("--json", "status").json["sessions"] > 1 or waiter.poll() is not None, "it waits")
        self.assertIn(self.c("--json", "job", "status", jobs[-1]).json["state"], ("queued", "running"))
        self.server.restart()
        out, err = waiter.communicate(timeout=120)
        self.assertEqual(waiter.returncode, 0, err)
        for job in jobs:
            self.c("job", "wait", job)
        for i, job in enumerate(jobs):
            self.assertEqual(self.server.read("sorted-%d" % i), expected)
            self.assertEqual(self.c("--json", "job", "status", job).json["state"], "done")
        self.assertEqual(self.c("job", "result", done).text, "42\n")
        self.server.restart()
        self.assertEqual(self.c("job", "result", done).text, "42\n", "results are kept")
        self.assertEqual(len(self.c("--json", "job", "list").json), 5)


if __name__ == "__main__":
    main()
