// Helpers of the framing tests: messages as bytes, and streams that hand out or take bytes as a test wants it.
#pragma once

#include <string>
#include <vector>

#include <capnp/message.h>
#include <capnp/serialize.h>
#include <kj/async-io.h>

namespace capstan::rpc {

// Lets everything happen that can happen without anything from outside.
inline void settle(kj::WaitScope& waitScope) { kj::Promise<void>(kj::NEVER_DONE).poll(waitScope); }

// The frame of a message whose segments have these sizes (in words) and hold numbers that differ everywhere.
inline std::string frameOf(const std::vector<size_t>& segmentWords) {
  std::string frame;
  auto put32 = [&](uint32_t number) {
    for (int shift = 0; shift < 32; shift += 8) frame += char(number >> shift);
  };
  put32(uint32_t(segmentWords.size() - 1));
  for (size_t words : segmentWords) put32(uint32_t(words));
  if (segmentWords.size() % 2 == 0) put32(0);
  uint32_t counter = 1;
  for (size_t words : segmentWords) {
    for (size_t i = 0; i < words * 2; ++i) put32(counter++ * 2654435761u);
  }
  return frame;
}

// What a reader has, as a frame again.
inline std::string frameOf(capnp::MessageReader& message) {
  std::vector<kj::ArrayPtr<const capnp::word>> segments;
  for (unsigned id = 0;; ++id) {
    auto segment = message.getSegment(id);
    if (segment.begin() == nullptr) break;  // an empty segment equals nullptr too
    segments.push_back(segment);
  }
  auto words = capnp::messageToFlatArray(kj::arrayPtr(segments.data(), segments.size()));
  auto bytes = words.asBytes();
  return std::string(reinterpret_cast<const char*>(bytes.begin()), bytes.size());
}

// Gives the bytes in the given portions, then ends; counts the reads.
class PortionedInput final : public kj::AsyncInputStream {
 public:
  explicit PortionedInput(std::vector<std::string> portions) : portions(std::move(portions)) {}

  kj::Promise<size_t> tryRead(void* buffer, size_t minBytes, size_t maxBytes) override {
    ++reads;
    lastRoom = maxBytes;
    size_t total = 0;
    while (total < minBytes && next < portions.size()) {
      std::string& portion = portions[next];
      size_t count = kj::min(portion.size(), maxBytes - total);
      memcpy(static_cast<char*>(buffer) + total, portion.data(), count);
      portion.erase(0, count);
      if (portion.empty()) ++next;
      total += count;
    }
    return total;
  }

  unsigned reads = 0;
  size_t lastRoom = 0;  // that was offered

 private:
  std::vector<std::string> portions;
  size_t next = 0;
};

// Takes bytes; counts the writes; can be held back and made to fail.
class RecordingOutput final : public kj::AsyncOutputStream {
 public:
  kj::Promise<void> write(const void* buffer, size_t size) override {
    return take(std::string(static_cast<const char*>(buffer), size));
  }
  kj::Promise<void> write(kj::ArrayPtr<const kj::ArrayPtr<const kj::byte>> pieces) override {
    std::string all;
    for (auto piece : pieces) {
      addresses.push_back(piece.begin());
      all.append(reinterpret_cast<const char*>(piece.begin()), piece.size());
    }
    return take(std::move(all));
  }
  kj::Promise<void> whenWriteDisconnected() override { return kj::NEVER_DONE; }

  // From now on writes stay unfinished until release().
  void hold() { held = true; }
  void release() {
    held = false;
    auto waiting = kj::mv(fulfillers);
    for (auto& fulfiller : waiting) fulfiller->fulfill();
  }
  void failFromNowOn() { failing = true; }

  std::string bytes;
  unsigned writes = 0;
  std::vector<const kj::byte*> addresses;  // of the pieces that were gathered

 private:
  bool held = false;
  bool failing = false;
  std::vector<kj::Own<kj::PromiseFulfiller<void>>> fulfillers;

  kj::Promise<void> take(std::string written) {
    // Like KJ's sockets, which throw rather than reject.
    if (failing) kj::throwFatalException(KJ_EXCEPTION(DISCONNECTED, "broken pipe"));
    ++writes;
    bytes += written;
    if (!held) return kj::READY_NOW;
    auto paf = kj::newPromiseAndFulfiller<void>();
    fulfillers.push_back(kj::mv(paf.fulfiller));
    return kj::mv(paf.promise);
  }
};

}  // namespace capstan::rpc
