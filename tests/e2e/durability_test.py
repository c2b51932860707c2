"""Promise 3: when commit returns, the content survives the death of the machine. Shown on the server's system calls:
content is flushed before it is renamed into place, and the folder is flushed before the client is answered.
"""

import os
import re
import shutil
import subprocess
import unittest

from harness import EndToEnd, Server, eventually, main

FLUSH = ("fsync", "fdatasync", "syncfs")


@unittest.skipUnless(shutil.which("strace"), "strace is not installed")
class Order(EndToEnd):
    def traced(self):
        trace = os.path.join(self.home, "trace")
        probe = subprocess.run(["strace", "-f", "-o", "/dev/null", "true"], capture_output=True)
        if probe.returncode != 0:
            self.skipTest("processes cannot be traced here")
        server = Server(self, wrapper=["strace", "-f", "-y", "-o", trace, "-e",
                                       "trace=openat,openat2,pwrite64,write,fsync,fdatasync,syncfs,renameat,renameat2,linkat,mkdirat,unlinkat"])
        self.addCleanup(self.end, server)
        return server, trace

    def end(self, server):
        # strace passes the signal of its own death on to nobody: end the server itself.
        try:
            with open("/proc/%d/task/%d/children" % (server.pid, server.pid)) as children:
                for child in children.read().split():
                    os.kill(int(child), 9)
        except OSError:
            pass

    def calls(self, trace, since):
        """[(call, rest of line)] in the order in which they ended."""
        found = []
        with open(trace) as lines:
            for line in list(lines)[since:]:
                match = re.match(r"\d+\s+(?:<\.\.\. )?(\w+)(?: resumed>|\()(.*)", line)
                if match and "unfinished ..." not in line:
                    found.append((match.group(1), match.group(2)))
        return found

    def assert_order(self, calls, name):
        names = [call for call, _ in calls]
        renames = [i for i, (call, rest) in enumerate(calls)
                   if call in ("renameat", "renameat2", "linkat") and '"%s"' % name in rest]
        self.assertTrue(renames, calls)
        before, after = names[:renames[0]], names[renames[0]:]
        writes = [i for i, call in enumerate(before) if call == "pwrite64"]
        self.assertTrue(writes, calls)
        self.assertTrue(any(call in FLUSH for call in before[writes[-1]:]), "flushed between write and rename: %s" % calls)
        self.assertTrue(any(call in FLUSH for call in after), "flushed after the rename: %s" % calls)

    def lines(self, trace):
        with open(trace) as lines:
            return sum(1 for _ in lines)

    def test_content_is_flushed_before_the_rename_and_the_folder_after(self):
        server, trace = self.traced()
        for name, content in (("small", b"s" * 1000), ("large", os.urandom(3 << 20))):
            self.make(name, content)
            since = self.lines(trace)
            self.ok("put", name, "target-" + name, server=server)
            eventually(lambda: any("target-" + name in rest for call, rest in self.calls(trace, since) if "rename" in call
                                   or call == "linkat"), "the trace is written")
            self.assert_order(self.calls(trace, since), "target-" + name)

    def test_many_commits_in_flight_share_their_flushes(self):
        server = Server(self)
        for i in range(1000):
            self.make("t/%d" % i, b"%d" % i)
        before = self.ok("--json", "status", server=server).json
        self.ok("put", "-r", "t", "t", server=server)
        after = self.ok("--json", "status", server=server).json
        commits, flushes = (after[key] - before[key] for key in ("commits", "flushes"))
        self.assertGreaterEqual(commits, 1000)
        self.assertLess(flushes, 400, "for %d commits" % commits)


if __name__ == "__main__":
    main()
