"""Computing by the command line: values, stored files and local input, what is refused, and what is printed."""

import json
import math
import os
import pty
import random
import re
import signal
import struct
import subprocess
import tempfile

from harness import CAPSTAN, EndToEnd, Server, eventually, main


def linked(path):
    """What a descriptor stands for; nothing if it was closed meanwhile."""
    try:
        return os.path.realpath(os.readlink(path))
    except OSError:
        return None


class Computing(EndToEnd):
    def setUp(self):
        super().setUp()
        self.server = Server(self)

    def c(self, *arguments, **options):
        return self.ok(*arguments, server=self.server, **options)

    def no(self, status, code, *arguments, **options):
        return self.fails(status, code, *arguments, server=self.server, **options)

    def sort1(self, content, *options):
        """What sort(1) makes of the content."""
        return subprocess.run(["sort", *options], input=content, env={"LC_ALL": "C", "PATH": os.environ["PATH"]},
                              stdout=subprocess.PIPE, check=True).stdout


class Adding(Computing):
    def test_sums_are_exact_for_integers_and_doubles_otherwise(self):
        for operands, sum in ((("2", "3"), "5"), (("5", "-3"), "2"), (("-1", "-2"), "-3"), (("--", "-1", "1"), "0"),
                              (("9007199254740993", "1"), "9007199254740994"), (("1", "0.5"), "1.5"),
                              (("-.5", "1e3"), "999.5"), (("-inf", "1"), "-inf"), (("1", "nan"), "nan"),
                              (("1.0", "2"), "3.0"), (("1", "2", "3", "4"), "10")):
            self.assertEqual(self.c("add", *operands).text, sum + "\n")

    def test_json_has_value_and_type(self):
        self.assertEqual(self.c("--json", "add", "2", "3").json, {"value": 5, "type": "int"})
        self.assertEqual(self.c("--json", "add", "2", "0.5").json, {"value": 2.5, "type": "float"})
        self.assertEqual(self.c("--json", "add", "nan", "1").json, {"value": "nan", "type": "float"})
        self.assertEqual(self.c("--json", "add", "-inf", "1").json, {"value": "-inf", "type": "float"})

    def test_bad_numbers_are_refused_by_name_without_a_server(self):
        for word, why in (("abc", "'abc' is not a number"), ("", "'' is not a number"), ("-5x", "'-5x' is not a number"),
                          ("99999999999999999999", "'99999999999999999999' does not fit in 64 bits"),
                          ("1\x1b[2J", "is not a number")):
            outcome = self.fails(2, "usage", "add", "1", word, address="127.0.0.1:1")
            self.assertIn("add: ", outcome.errors)
            self.assertIn(why, outcome.errors)
            self.assertNotIn("\x1b", outcome.errors)
        self.fails(2, "usage", "add", "1", address="127.0.0.1:1")
        self.fails(2, "usage", "add", "1", "2", "--label", "x", address="127.0.0.1:1")

    def test_an_overflow_is_an_error_and_no_wrap(self):
        self.no(1, "invalid-argument", "add", "9223372036854775807", "1")


class Sorting(Computing):
    def test_values_are_sorted_by_what_they_are(self):
        self.assertEqual(self.c("sort", "10", "9", "-1").text, "-1\n9\n10\n")
        self.assertEqual(self.c("sort", "10", "9", "-1", "--desc").text, "10\n9\n-1\n")
        self.assertEqual(self.c("sort", "10", "9.5", "-inf", "nan", "-0.0", "0").text, "-inf\n-0.0\n0.0\n9.5\n10.0\nnan\n")
        self.assertEqual(self.c("sort", "--type", "text", "b", "10", "9", "").text, "\n10\n9\nb\n")
        self.assertEqual(self.c("sort", "3", "1", "3", "-u").text, "1\n3\n")
        self.assertEqual(self.c("sort", "7").text, "7\n")

    def test_values_that_fit_no_type_are_refused_by_name(self):
        outcome = self.fails(2, "usage", "sort", "1", "abc", address="127.0.0.1:1")
        self.assertIn("'abc' is not a number", outcome.errors)
        self.assertIn("--type text", outcome.errors)
        outcome = self.fails(2, "usage", "sort", "--type", "int", "1", "1.5", address="127.0.0.1:1")
        self.assertIn("'1.5' is not an integer", outcome.errors)

    def test_json_has_type_count_and_values(self):
        self.assertEqual(self.c("--json", "sort", "2", "-1").json, {"type": "int", "count": 2, "values": [-1, 2]})
        self.assertEqual(self.c("--json", "sort", "2", "nan", "-inf").json,
                         {"type": "float", "count": 3, "values": ["-inf", 2.0, "nan"]})
        self.server.write("words", "b\n\"q\"\n\xff\n".encode("latin-1"))
        self.assertEqual(self.c("--json", "sort", "--file", "words").json,
                         {"type": "text", "count": 3, "values": ["\"q\"", "b", "\udcff"]})
        self.assertEqual(self.c("--json", "sort", "--type", "int", input=b"+7\n007\n").json["values"], [7, 7])
        self.assertEqual(self.c("--json", "sort", input=b"").json, {"type": "text", "count": 0, "values": []})

    def test_one_stored_file_is_sorted_into_another_as_sort1_does(self):
        numbers = random.Random(7)
        ints = b"".join(b"%d\n" % numbers.randint(-10**18, 10**18) for _ in range(20000))
        floats = "".join("%r\n" % (numbers.uniform(-1, 1) * 10**numbers.randint(-20, 20)) for _ in range(20000)).encode()
        text = b"".join(bytes(numbers.choice(b"abcxyz \xff\x01") for _ in range(numbers.randint(0, 12))) + b"\n"
                        for _ in range(20000))
        for kind, content, options in (("text", text, ()), ("int", ints, ("-n",)), ("float", floats, ("-g",))):
            self.server.write("in/" + kind, content)
            self.assertEqual(self.c("sort", "--type", kind, "--file", "in/" + kind, "-o", "out/" + kind).out, b"")
            self.assertEqual(self.server.read("out/" + kind), self.sort1(content, *options), kind)
        self.assertEqual(self.c("sort", "--file", "in/text", "-u").out, self.sort1(text, "-u"))
        self.assertEqual(self.c("sort", "--file", "in/text", "--desc").out, self.sort1(text, "-r"))
        entry = self.c("--json", "sort", "--file", "in/text", "-o", "out/text").json
        self.assertEqual((entry["path"], entry["type"], entry["size"]), ("out/text", "file", len(text)))
        self.assertIn("out/text", self.c("-v", "sort", "--file", "in/text", "-o", "out/text").text)

    def test_lines_are_sorted_by_a_field(self):
        self.server.write("table", b"b,10\na,9\nc,-1\n")
        self.assertEqual(self.c("sort", "--file", "table", "--field", "2", "--separator", ",", "--type", "int").text,
                         "c,-1\na,9\nb,10\n")
        self.assertEqual(self.c("sort", "--field", "2", input=b"x  2\ny 1\n").text, "y 1\nx  2\n")
        self.no(2, "usage", "sort", "--file", "table", "--separator", ",")
        self.no(2, "usage", "sort", "--file", "table", "--field", "1", "--separator", ",,")
        self.no(2, "usage", "sort", "--file", "table", "--field", "0")

    def test_binary_numbers_go_in_and_out(self):
        values = [3, -7, 2**62, 0]
        self.server.write("in", struct.pack("<4q", *values))
        self.c("sort", "--file", "in", "--type", "int", "--binary", "-o", "out")
        self.assertEqual(self.server.read("out"), struct.pack("<4q", *sorted(values)))
        self.assertEqual(self.c("sort", "--file", "in", "--type", "int", "--binary").text, "-7\n0\n3\n%d\n" % 2**62)
        floats = struct.pack("<3d", 2.5, math.inf, -1.0)
        self.assertEqual(self.c("sort", "--input", "-", "--type", "float", "--binary", "-o", "-", input=floats).out,
                         struct.pack("<3d", -1.0, 2.5, math.inf))
        self.assertIn("multiple of 8", self.no(2, "usage", "sort", "--type", "int", "--binary", input=b"12345").errors)
        self.no(2, "usage", "sort", "--file", "in", "--binary")

    def test_local_input_is_checked_by_line_before_anything_is_sent(self):
        self.make("numbers.txt", b"1\n 2 \nx\n")
        outcome = self.fails(2, "usage", "sort", "--type", "int", "--input", "numbers.txt", address="127.0.0.1:1")
        self.assertIn("numbers.txt, line 3: 'x' is not an integer", outcome.errors)
        outcome = self.fails(2, "usage", "sum", "--type", "float", address="127.0.0.1:1", input=b"1\n\n2\n")
        self.assertIn("standard input, line 2: '' is not a number", outcome.errors)
        self.fails(9, "not-found", "sort", "--input", "none", address="127.0.0.1:1")
        self.make("good.txt", b"10\n9\n-1")
        self.assertEqual(self.c("sort", "--type", "int", "--input", "good.txt").text, "-1\n9\n10\n")
        self.assertEqual(self.c("sort", "--input", "good.txt").text, "-1\n10\n9\n", "text unless it is said")

    def test_options_that_say_nothing_about_values_are_refused_by_name(self):
        self.assertIn("--binary", self.no(2, "usage", "sort", "--binary", "2", "1").errors)
        self.assertIn("--field", self.no(2, "usage", "sort", "--field", "1", "2", "1").errors)
        self.assertEqual(self.c("sort", "--field", "2", "a 2", "b 1").text, "b 1\na 2\n")
        self.c("sort", "--binary", "2", "1", "-o", "out")
        self.assertEqual(self.server.read("out"), struct.pack("<2q", 1, 2))

    def test_a_pipe_that_nobody_writes_to_holds_up_neither_time_limits_nor_signals(self):
        path = self.local("pipe")
        os.mkfifo(path)
        for verb in ("sort", "sum"):
            self.no(8, "timed-out", verb, "--input", "pipe", "--timeout", "100ms")
            for number in (signal.SIGINT, signal.SIGTERM):
                process = self.spawn(verb, "--input", "pipe", server=self.server)
                files = "/proc/%d/fd" % process.pid
                eventually(lambda: path in [linked(os.path.join(files, fd)) for fd in os.listdir(files)],
                           "the pipe is open")
                process.send_signal(number)
                process.communicate(timeout=60)
                self.assertEqual(process.returncode, 128 + number)
            process = self.spawn(verb, "--input", "pipe", server=self.server)
            with open(path, "wb") as pipe:
                pipe.write(b"2\n")
                pipe.flush()
                pipe.write(b"2\n")
            out, err = process.communicate(timeout=60)
            self.assertEqual((out, err), (b"2\n2\n" if verb == "sort" else b"4\n", b""))
        self.no(1, "unsupported", "put", "pipe", "x")

    def on_terminal(self, *arguments):
        """Runs with standard error on a terminal; answers what was drawn there, and the standard output."""
        parent, child = pty.openpty()
        command = [CAPSTAN, "--server", self.server.address, "--token-file", self.server.token_file, *arguments]
        out = tempfile.TemporaryFile()
        self.addCleanup(out.close)
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=child,
                                   env=dict(self.environment, TERM="xterm"), cwd=self.work)
        os.close(child)
        drawn = b""
        while True:
            try:
                data = os.read(parent, 65536)
            except OSError:
                break
            if not data:
                break
            drawn += data
        os.close(parent)
        self.assertEqual(process.wait(timeout=60), 0, drawn)
        out.seek(0)
        return drawn.decode(), out.read()

    def test_progress_is_drawn_on_a_terminal_and_never_goes_back(self):
        content = b"".join(b"%d.5\n" % (i * 2654435761 % 4294967291) for i in range(200000)) * 32
        self.server.write("big", content)
        self.make("big", content)
        slow = ("--type", "float", "--memory", "1MiB")
        for arguments in (("sort", "--file", "big", *slow, "-o", "out"), ("sort", "--file", "big", *slow),
                          ("sort", "--input", "big", *slow, "-o", "out")):
            drawn, out = self.on_terminal(*arguments)
            self.assertIn("sort, running", drawn, arguments)
            work = [line for line in drawn.split("\r") if "sort, running" in line]
            shares = [int(share) for line in work for share in re.findall(r"(\d+)%", line)]
            self.assertTrue(shares, drawn)
            self.assertEqual(shares, sorted(shares))
            self.assertTrue(drawn.endswith("\r\x1b[J"), "it is taken away again")
        drawn, out = self.on_terminal("job", "result", self.c("sort", "--file", "big", *slow, "--async").text.strip())
        self.assertIn("sort, running", drawn)
        self.assertEqual(len(out), len(content))

    def test_large_local_input_is_streamed(self):
        lines = [b"%07d" % (i * 7919 % 1000003) for i in range(300000)]
        content = b"\n".join(lines) + b"\n"
        self.assertEqual(self.c("sort", "--type", "int", "-u", input=content).out, b"\n".join(sorted(lines)) + b"\n")

    def test_more_local_numbers_than_are_held_are_checked_piece_by_piece(self):
        content = b"1234567\n" * 9000000
        self.assertEqual(self.c("sum", "--type", "int", input=content).text, "%d\n" % (1234567 * 9000000))
        outcome = self.no(1, "invalid-argument", "sum", "--type", "int", input=content + b"x\n")
        self.assertIn("standard input, line 9000001: 'x'", outcome.errors)

    def test_mistakes_are_named(self):
        self.server.write("file", b"b\na\n")
        os.mkdir(self.server.path("folder"))
        self.no(2, "usage", "sort", "1", "--file", "file")
        self.no(2, "usage", "sort", "--input", "-", "--file", "file")
        self.no(9, "not-found", "sort", "--file", "none")
        self.no(1, "is-directory", "sort", "--file", "folder")
        self.no(2, "usage", "sort", "--file", "file", "-o", "folder/")
        self.no(1, "is-directory", "sort", "--file", "file", "-o", "folder")
        outcome = self.no(1, "invalid-argument", "sort", "--file", "file", "--type", "int")
        self.assertIn("line 1", outcome.errors)
        self.no(2, "usage", "sort", "--type", "word", "a")
        self.assertEqual(os.listdir(self.server.path("folder")), [])

    def test_a_pipe_that_is_closed_ends_quietly(self):
        self.server.write("big", b"".join(b"%d\n" % i for i in range(1000000)))
        for arguments in (("sort", "--file", "big"), ("--json", "sort", "--file", "big")):
            process = self.spawn(*arguments, server=self.server)
            process.stdout.read(10)
            process.stdout.close()
            error = process.stderr.read()
            self.assertEqual(process.wait(timeout=60), 0, error)
            self.assertEqual(error, b"")
            process.stderr.close()

    def test_a_time_limit_ends_the_computation_at_the_server_too(self):
        self.server.write("big", b"".join(b"%d.5\n" % (i * 2654435761 % 4294967291) for i in range(200000)) * 40)
        slow = "--file big --type float --memory 1MiB --timeout 200ms"
        self.no(8, "timed-out", "sort", *slow.split())
        # On a connection that stays, too: it is not its end that ends the computation, and pings take a moment.
        outcome = self.run_capstan("shell", server=self.server,
                                   input=("sort %s\nping -c 4 --quiet\nstatus --json\n" % slow).encode())
        self.assertEqual(outcome.status, 8, outcome.errors)
        status = json.loads(outcome.text.splitlines()[-1])
        self.assertEqual((status["jobs"], status["computations"], status["values"]), (0, 0, 0))

    def test_a_closed_standard_output_is_an_error(self):
        command = '"$0" --server %s --token-file %s sort 2 1 >&-' % (self.server.address, self.server.token_file)
        done = subprocess.run(["sh", "-c", command, CAPSTAN], env=self.environment, stdin=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, cwd=self.work, timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"cannot write to standard output", done.stderr)


class Reducing(Computing):
    def test_each_reduction_prints_its_number(self):
        self.server.write("numbers", b"10\n9\n-1\n")
        for verb, values, stored in (("sum", "6", "18"), ("min", "-2", "-1"), ("max", "5", "10"), ("count", "3", "3")):
            self.assertEqual(self.c(verb, "5", "-2", "3").text, values + "\n")
            self.assertEqual(self.c(verb, "--file", "numbers", "--type", "int").text, stored + "\n")
            self.assertEqual(self.c("--json", verb, "--type", "int", input=b"10\n9\n-1\n").json,
                             {"value": int(stored), "type": "int"})
        self.assertEqual(self.c("sum", "0.5", "1").text, "1.5\n")
        self.assertEqual(self.c("count", "--file", "numbers").text, "3\n")
        self.assertEqual(self.c("sum", "--type", "int", input=b"").text, "0\n")
        self.assertEqual(self.c("count", input=b"").text, "0\n")

    def test_lines_are_integers_and_what_is_counted_anything_unless_it_is_said(self):
        self.server.write("numbers", b"10\n9\n-1\n")
        for verb, stored in (("sum", "18"), ("min", "-1"), ("max", "10"), ("count", "3")):
            self.assertEqual(self.c(verb, "--file", "numbers").text, stored + "\n")
            self.assertEqual(self.c(verb, input=b"10\n9\n-1\n").text, stored + "\n")
        self.assertEqual(self.c("sum", "--type", "float", input=b"1\n0.5\n").text, "1.5\n")
        self.assertEqual(self.c("count", "a", "b", "").text, "3\n")
        self.assertEqual(self.c("count", "1", "0.5").text, "2\n")
        self.assertIn("'a' is not an integer", self.no(2, "usage", "count", "--type", "int", "a").errors)

    def test_mistakes_are_named(self):
        self.server.write("numbers", b"10\nx\n")
        self.assertNotIn("--type text", self.no(2, "usage", "sum", "1", "x").errors)
        outcome = self.no(1, "invalid-argument", "sum", "--file", "numbers")
        self.assertIn("line 2", outcome.errors)
        self.assertIn("hint: without --type, lines are integers; --type float", outcome.errors)
        outcome = self.no(2, "usage", "sum", input=b"1\n1.5\n")
        self.assertIn("standard input, line 2: '1.5' is not an integer; without --type", outcome.errors)
        self.assertNotIn("without --type", self.no(2, "usage", "sum", "--type", "int", input=b"1.5\n").errors)
        for verb in ("sum", "min", "max", "count"):
            self.assertIn("--binary", self.no(2, "usage", verb, "--binary", "1", "2").errors)
            self.assertIn("int|float" if verb != "count" else "int|float|text", self.c(verb, "--help").text)
        self.assertNotIn("text", self.c("sum", "--help").text)
        self.no(2, "usage", "sum", "--file", "numbers", "--type", "text")
        self.assertIn("line 2", self.no(1, "invalid-argument", "sum", "--file", "numbers", "--type", "int").errors)
        self.no(1, "invalid-argument", "min", "--type", "int", input=b"")
        self.no(1, "invalid-argument", "sum", "9223372036854775807", "1")


class InTheShell(Computing):
    def test_words_and_background_sorts_work(self):
        self.server.write("numbers", b"3\n1\n2\n")
        script = "ADD 2 3\nSORT 3 1 2 --desc\nSUM 1 2\nMIN 4 3\nMAX 4 3\nCOUNT 1 1\nadd 5 -3\n" \
                 "sort --file numbers --type int -o sorted &\nwait\ncat sorted\nsort\nHELP\n"
        outcome = self.run_capstan("shell", server=self.server, input=script.encode())
        self.assertEqual(outcome.status, 2, "sort without anything cannot read the script's own lines")
        self.assertTrue(outcome.text.startswith("5\n3\n2\n1\n3\n3\n4\n2\n2\n1\n2\n3\n"), outcome.text)
        self.assertIn("ADD, SORT", outcome.text)
        self.assertIn("usage: sort", outcome.errors)


if __name__ == "__main__":
    main()
