"""What the side-by-side comparisons share: a server of their own, timing, and how figures are told."""

import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
CAPSTAN = os.environ.get("CAPSTAN_PROGRAM", os.path.join(HERE, "..", "build", "release", "capstan"))
RUNS = int(os.environ.get("RUNS", "5"))
GIB = 1 << 30


def machine():
    model = "unknown processor"
    with open("/proc/cpuinfo") as info:
        for line in info:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return "%s, %d cores, Linux %s" % (model, os.cpu_count(), platform.release())


def timed(command, **options):
    start = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **options)
    return time.monotonic() - start


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Bench:
    def __init__(self):
        self.base = tempfile.mkdtemp(prefix="capstan-bench-", dir=os.environ.get("BENCH_DIR", "/var/tmp"))
        self.root = os.path.join(self.base, "files")
        os.mkdir(self.root)
        self.home = os.path.join(self.base, "home")
        os.mkdir(self.home)
        self.environment = dict(os.environ, HOME=self.home, XDG_RUNTIME_DIR=self.home)
        ready = os.path.join(self.base, "ready")
        self.log = open(os.path.join(self.base, "log"), "wb")
        self.server = subprocess.Popen([CAPSTAN, "serve", self.root, "--listen", "127.0.0.1:0", "--ready-file", ready, "--state",
                                        os.path.join(self.base, "state")], env=self.environment, stderr=self.log)
        while not os.path.exists(ready):
            time.sleep(0.01)
        with open(ready) as file:
            self.address = file.read().strip()
        self.token_file = os.path.join(self.base, "state", "owner.token")

    def close(self):
        self.server.terminate()
        self.server.wait()
        shutil.rmtree(self.base, ignore_errors=True)

    def capstan(self, *arguments):
        return [CAPSTAN, "--server", self.address, "--no-progress", *arguments]

    def resident(self, field):
        with open("/proc/%d/status" % self.server.pid) as status:
            for line in status:
                if line.startswith(field + ":"):
                    return int(line.split()[1]) * 1024
        return 0

    def content(self, name, size):
        path = os.path.join(self.base, name)
        if not os.path.exists(path):
            with open(path, "wb") as file:
                block = os.urandom(1 << 20)
                for _ in range(size >> 20):
                    file.write(block)
            os.sync()
        return path


def rates(seconds, size=GIB):
    return [size / s / 1e9 for s in seconds]


def report(name, figures, unit="GB/s"):
    print("  %-34s median %8.3f %s   (min %.3f, max %.3f, %d runs)"
          % (name, statistics.median(figures), unit, min(figures), max(figures), len(figures)))
    return statistics.median(figures)



def main(script, parts):
    """Runs the parts named on the command line, or all, each with a server of its own."""
    sys.stdout.reconfigure(line_buffering=True)
    wanted = sys.argv[1:] or list(parts)
    for name in wanted:
        if name not in parts:
            sys.exit("%s: no such part: %s (there are %s)" % (script, name, ", ".join(parts)))
    print("machine: " + machine())
    for name in wanted:
        bench = Bench()
        try:
            parts[name](bench)
        finally:
            bench.close()
