"""Pipelining, counted: what a command costs through a network that takes its time in each direction."""

import os
import time

from harness import EndToEnd, Proxy, Server, main

ONE_WAY = 0.1  # seconds; large against what the programs themselves need


class RoundTrips(EndToEnd):
    def setUp(self):
        super().setUp()
        self.server = Server(self)
        self.proxy = Proxy(self, self.server.port, delay=ONE_WAY)

    def round_trips(self, *arguments):
        """Round trips that a command waited for, by the clock. TCP's own is not among them: the proxy accepts at once."""
        start = time.monotonic()
        self.ok(*arguments, server=self.server, address=self.proxy.address)
        with_network = time.monotonic() - start
        start = time.monotonic()
        self.ok(*arguments, server=self.server)
        without = time.monotonic() - start
        return (with_network - without) / (2 * ONE_WAY)

    def test_get_of_a_small_file_costs_one_with_login(self):
        self.server.write("small", b"x" * 1000)
        trips = self.round_trips("get", "small", "-")
        self.assertGreater(trips, 0.9)
        self.assertLess(trips, 1.5)

    def test_cat_stat_and_ls_cost_one_with_login(self):
        self.server.write("d/small", b"x" * 100000)
        for command in (("cat", "d/small"), ("stat", "d/small"), ("ls", "d")):
            self.assertLess(self.round_trips(*command), 1.5, command)

    def test_many_small_files_cost_a_few(self):
        for i in range(200):
            self.make("t/%d" % i, b"%d" % i)
        self.assertLess(self.round_trips("put", "-r", "t", "t"), 8)


if __name__ == "__main__":
    main()
