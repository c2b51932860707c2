"""Kills and cut connections in the middle of a sync: the next run goes on from where it was, and both sides agree."""

import os
import random
import threading
import unittest

from harness import LONG, Proxy, eventually, main
from sync_harness import SyncTest, snapshot

ROUNDS = 100 if LONG else 6


class Interrupted(SyncTest):
    def setUp(self):
        super().setUp()
        self.seed = random.randrange(1 << 32)
        self.random = random.Random(self.seed)
        print("seed", self.seed)

    def edit(self, folder):
        """Changes something of every kind."""
        rng = self.random
        for _ in range(40):
            name = os.path.join(folder, "d%d" % rng.randrange(6), "f%d" % rng.randrange(12))
            kind = rng.randrange(8)
            if kind == 0 and os.path.isfile(name):
                os.unlink(name)
            elif kind == 1 and os.path.isfile(name):
                target = os.path.join(folder, "d%d" % rng.randrange(6), "m%d" % rng.randrange(1 << 30))
                os.makedirs(os.path.dirname(target), exist_ok=True)
                os.rename(name, target)
            elif kind == 2 and os.path.isfile(name):
                with open(name, "r+b") as file:
                    file.seek(rng.randrange(1 + os.path.getsize(name)))
                    file.write(rng.randbytes(10))
            else:
                size = rng.choice([0, 100, 5000, 50_000, 1_000_000])
                self.write(name, rng.randbytes(size), rng.choice([0o600, 0o644, 0o755]))

    def finish(self, *arguments, address=None):
        """The next run that is left alone brings everything into step."""
        outcome = None

        def is_left_alone():
            """The server may still be carrying out what it had from the killed one: what that overtakes is put off."""
            nonlocal outcome
            outcome = self.run_capstan(*self.sync_words("--once", *arguments), server=self.server, address=address)
            return not (outcome.status == 3 and "put off" in outcome.text)

        eventually(is_left_alone, "the end of what was sent before")
        self.assertEqual(outcome.status, 0, outcome.errors + outcome.text)
        self.assertInStep()
        outcome = self.run_capstan(*self.sync_words("--once", *arguments), server=self.server, address=address)
        self.assertRegex(outcome.text, "^nothing to do", outcome.text)

    def test_kills_of_the_client(self):
        self.write(self.here("keep"), b"1")
        for _ in range(ROUNDS):
            self.edit(self.here())
            process = self.spawn(*self.sync_words("--once"), server=self.server)
            threading.Event().wait(self.random.uniform(0, 0.15))
            process.kill()
            process.communicate()
            self.finish()

    def test_kills_of_the_server(self):
        self.write(self.here("keep"), b"1")
        for _ in range(ROUNDS):
            self.edit(self.here())
            process = self.spawn(*self.sync_words("--once"), server=self.server)
            threading.Event().wait(self.random.uniform(0, 0.15))
            self.server.kill()
            self.server.restart()
            process.communicate()
            self.finish()

    def test_cut_connections(self):
        self.write(self.here("keep"), b"1")
        proxy = Proxy(self, self.server.port)
        for _ in range(ROUNDS):
            self.edit(self.here())
            proxy.cuts["up"] = [self.random.randrange(3_000_000)]
            self.run_capstan(*self.sync_words("--once"), server=self.server, address=proxy.address)
            proxy.cuts["up"] = []
            self.finish(address=proxy.address)

    def test_kills_of_a_pulling_client(self):
        self.write(self.there("keep"), b"1")
        for _ in range(ROUNDS):
            self.edit(self.there())
            process = self.spawn(*self.sync_words("--once", "--mode", "pull"), server=self.server)
            threading.Event().wait(self.random.uniform(0, 0.15))
            process.kill()
            process.communicate()
            self.finish("--mode", "pull")

    def test_no_write_is_lost_between_two_clients_and_kills(self):
        os.mkdir(self.local("second"))
        places = [{}, {"local": "second"}]
        written = {}
        for turn in range(ROUNDS):
            for index, folder in enumerate((self.here(), self.local("second"))):
                for _ in range(5):
                    name = "f%d" % self.random.randrange(8)
                    token = b"%d-%d-%d" % (turn, index, self.random.randrange(1 << 60))
                    path = os.path.join(folder, name)
                    if os.path.exists(path):
                        with open(path, "rb") as old:
                            written.pop(old.read(), None)  # its writer has replaced it
                    self.write(path, token)
                    written[token] = name
                process = self.spawn(*self.sync_words("--once", "--mode", "two-way", **places[index]),
                                     server=self.server)
                threading.Event().wait(self.random.uniform(0, 0.1))
                process.kill()
                process.communicate()
        for _ in range(2):
            for place in places:
                self.run_capstan(*self.sync_words("--once", "--mode", "two-way", **place), server=self.server)
        self.assertInStep()
        self.assertInStep(here=self.local("second"))
        everywhere = set()
        for base in (self.server.root, self.here(), self.local("second")):
            for where, _, files in os.walk(base):
                for name in files:
                    with open(os.path.join(where, name), "rb") as file:
                        everywhere.add(file.read())
        self.assertEqual([token for token in written if token not in everywhere], [])


if __name__ == "__main__":
    main()
