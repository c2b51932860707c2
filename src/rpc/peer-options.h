// The limits of one connection, and the counters that a connection fills: plain values that framing, connection and
// their users share.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace capstan::rpc {

struct PeerOptions {
  size_t maxMessageBytes = 8 << 20;     // a longer message, or one of more than 512 segments, ends the connection
  size_t streamWindow = 2 << 20;        // bytes in flight for each stream of calls
  size_t outgoingHighWater = 16 << 20;  // server: with more than this waiting to be sent nothing more is read; 0: no
                                        // such limit
  size_t incomingHighWater = 64 << 20;  // server: with more than this in calls not yet answered nothing more is read;
                                        // 0: no such limit
  // Of a peer that may be anybody, until PeerConnection::trust(); 0: all are trusted from the beginning.
  size_t strangersHighWater = 0;     // in place of incomingHighWater
  uint64_t strangersMessages = 0;    // more of them end the connection
  size_t strangersMessageBytes = 0;  // a longer one stays in the socket until then
};

// What went over the wire. Written by the connection's loop, read by any thread.
struct WireCounters {
  std::atomic<uint64_t> bytesReceived{0};
  std::atomic<uint64_t> bytesSent{0};
  std::atomic<uint64_t> messagesReceived{0};
  std::atomic<uint64_t> messagesSent{0};
};

}  // namespace capstan::rpc
