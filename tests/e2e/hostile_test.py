"""Peers that send what no client would send. The server ends their connection, says why in its log, and serves the others."""

import os
import random
import socket
import struct

from harness import LONG, EndToEnd, Server, eventually, main


class RawBytes(EndToEnd):
    def setUp(self):
        super().setUp()
        self.server = Server(self)
        self.server.write("file", b"content")

    def send(self, data):
        """Sends bytes and waits until the server has closed the connection."""
        with socket.create_connection(("127.0.0.1", self.server.port)) as peer:
            peer.settimeout(60)
            try:
                peer.sendall(data)
                peer.shutdown(socket.SHUT_WR)
                while peer.recv(65536):
                    pass
            except OSError:
                pass

    def still_serves(self):
        self.assertEqual(self.ok("cat", "file", server=self.server).out, b"content")

    def test_messages_that_break_the_framing_end_only_their_own_connection(self):
        for data in (struct.pack("<I", 0xFFFFFFFF) + b"\0" * 64,                      # 2^32 segments
                     struct.pack("<I", 512) + b"\1\0\0\0" * 513 + b"\0" * 4104,         # 513 segments
                     struct.pack("<II", 0, 0x7FFFFFFF) + b"\0" * 64,                  # 16 GiB
                     struct.pack("<II", 0, 2 << 20) + b"\0" * 64,                     # 16 MiB, over the limit
                     struct.pack("<II", 0, 1) + b"\0" * 3,                            # cut off
                     b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", b"\0" * 1000, b""):
            self.send(data)
            self.still_serves()

    def test_garbage_of_every_kind_does_no_harm(self):
        seed = random.randrange(1 << 32)
        print("seed", seed)
        rng = random.Random(seed)
        for _ in range(2000 if LONG else 150):
            size = rng.randrange(1, 300)
            body = rng.randbytes(size * 8)
            if rng.random() < 0.5:
                # Something like a pointer at the head gets further into the RPC system.
                body = struct.pack("<HBBHH", 0, 0, 0, rng.randrange(4), rng.randrange(4)) + struct.pack("<H", rng.randrange(14)) \
                    + body[10:]
            self.send(struct.pack("<II", 0, size) + body if rng.random() < 0.8 else body)
        self.still_serves()
        self.assertIsNone(self.server.process.poll())

    def test_more_connections_than_allowed_are_refused_with_a_reason_and_room_is_made_again(self):
        server = Server(self, "--max-connections", "2")
        held = [self.spawn("shell", server=server, stdin=-1) for _ in range(2)]
        eventually(lambda: server.log_text().count("connect") >= 2, "both are connected")
        outcome = self.run_capstan("ls", server=server)
        self.assertNotEqual(outcome.status, 0)
        self.assertIn("connection", outcome.errors)
        for process in held:
            process.communicate(b"", timeout=60)
        eventually(lambda: self.run_capstan("ls", server=server).status == 0, "there is room again")

    def test_the_server_survives_running_out_of_descriptors(self):
        server = Server(self, wrapper=["prlimit", "--nofile=64:64"])
        peers = []
        for _ in range(100):
            try:
                peers.append(socket.create_connection(("127.0.0.1", server.port), timeout=5))
            except OSError:
                break
        for peer in peers:
            peer.close()
        eventually(lambda: self.run_capstan("ls", server=server).status == 0, "it accepts again")


if __name__ == "__main__":
    main()
