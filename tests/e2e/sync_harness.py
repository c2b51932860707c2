"""What the tests of `capstan sync` share: running it, comparing trees, and the ways in which trees are changed."""

import json
import os
import signal
import stat
import subprocess

from harness import CAPSTAN, PATIENCE, EndToEnd, Outcome, Server, eventually


def snapshot(folder, mtimes=True, folder_modes=True):
    """What is in a folder: path -> everything that sync keeps in step. `.capstan` at the top is left out."""
    tree = {}
    for where, folders, files in os.walk(folder):
        if where == folder:
            folders[:] = [name for name in folders if name != ".capstan"]
        for name in folders + files:
            path = os.path.join(where, name)
            status = os.lstat(path)
            mtime = status.st_mtime_ns if mtimes else 0
            if stat.S_ISLNK(status.st_mode):
                entry = ("link", os.readlink(path), mtime)
            elif stat.S_ISDIR(status.st_mode):
                entry = ("folder", stat.S_IMODE(status.st_mode) if folder_modes else 0)
            elif stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    entry = ("file", file.read(), stat.S_IMODE(status.st_mode), mtime)
            else:
                continue
            tree[os.path.relpath(path, folder)] = entry
    return tree


class SyncTest(EndToEnd):
    """A server, a local folder `work/here`, and the server's folder `there` that it is kept in step with."""

    def setUp(self):
        super().setUp()
        self.server = Server(self)
        os.mkdir(self.here())

    def here(self, *names):
        return self.local("here", *names)

    def there(self, *names):
        return self.server.path("there", *names)

    def write(self, path, content=b"", mode=None):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
        if mode is not None:
            os.chmod(path, mode)
        return path

    def sync_words(self, *arguments, local="here", remote="there"):
        return ["sync", *arguments, local, remote]

    def once(self, *arguments, status=0, address=None, **places):
        outcome = self.run_capstan(*self.sync_words("--once", *arguments, **places), server=self.server,
                                   address=address)
        self.assertEqual(outcome.status, status, "%s\n%s\n%s" % (arguments, outcome.text, outcome.errors))
        return outcome

    def report(self, *arguments, status=0, **places):
        """The report of a run, from its JSON."""
        process = self.spawn("--json", *self.sync_words("--once", *arguments, **places), server=self.server)
        out, err = process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, status, "%s\n%s\n%s" % (arguments, out.decode(), err.decode()))
        return [json.loads(line) for line in out.splitlines()][-1]

    def stopped(self, *arguments, **places):
        """The run was stopped by safety: exit status 5, with a sentence."""
        outcome = self.once(*arguments, status=5, **places)
        self.assertRegex(outcome.errors, r"(?m)^capstan: safety-stop: .")
        return outcome

    def assertInStep(self, here=None, there=None):
        """Fails with the paths that differ: (here, there), each as much of it as people can read."""
        local, remote = snapshot(here or self.here()), snapshot(there or self.there())

        def short(entry):
            return entry and tuple(part[:20] if isinstance(part, bytes) else part for part in entry)
        self.assertEqual({path: (short(local.get(path)), short(remote.get(path)))
                          for path in sorted({*local, *remote}) if local.get(path) != remote.get(path)}, {})

    def inStep(self, here=None, there=None):
        try:
            return snapshot(here or self.here()) == snapshot(there or self.there())
        except OSError:  # it is being changed just now
            return False

    def assertNothingToDo(self, *arguments, status=0):
        report = self.report(*arguments, status=status)
        done = {key: report[key] for key in ("filesSent", "filesReceived", "foldersMade", "linksMade", "moved",
                                             "copied", "removed", "metadataSet")}
        self.assertEqual(set(done.values()), {0}, done)

    def begin(self, *arguments, address=None, **places):
        """A sync that goes on until the test ends it."""
        process = self.spawn(*self.sync_words(*arguments, **places), server=self.server, address=address)

        def end():
            if process.poll() is None:
                process.kill()
            process.communicate()
        self.addCleanup(end)
        return process

    def end(self, process, number=signal.SIGINT):
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)
        return Outcome(process, out, err)

    def fill(self, folder):
        """Something of every kind."""
        self.write(os.path.join(folder, "a", "one"), b"1", 0o600)
        self.write(os.path.join(folder, "a", "b", "two"), b"22", 0o755)
        self.write(os.path.join(folder, "empty"), b"")
        self.write(os.path.join(folder, "näme \n\\"), b"odd")
        self.write(os.path.join(folder, "large"), os.urandom(3 << 20))
        os.makedirs(os.path.join(folder, "no", "thing"))
        os.symlink("../nowhere", os.path.join(folder, "a", "link"))
        os.utime(os.path.join(folder, "a", "one"), ns=(0, 1_234_567_890_123_456_789))
        os.chmod(os.path.join(folder, "no"), 0o700)
        with open(os.path.join(folder, "sparse"), "wb") as file:
            file.write(b"begin")
            file.seek(8 << 20)
            file.write(b"end")
