// A connection whose end in the test can stop to read: a peer that is slow in earnest, and not only in its answers.
#pragma once

#include <kj/async-io.h>
#include <kj/debug.h>

namespace capstan::server {

// Reads nothing from the connection while it is paused: a reader that is slow in earnest.
class PausedStream final : public kj::AsyncIoStream {
 public:
  struct Switch {
    bool paused = false;
    kj::Maybe<kj::ForkedPromise<void>> resumed;
    kj::Maybe<kj::Own<kj::PromiseFulfiller<void>>> fulfiller;

    void pause() {
      auto paf = kj::newPromiseAndFulfiller<void>();
      resumed = paf.promise.fork();
      fulfiller = kj::mv(paf.fulfiller);
      paused = true;
    }
    void resume() {
      paused = false;
      KJ_IF_MAYBE (each, fulfiller) (*each)->fulfill();
    }
  };
  PausedStream(kj::Own<kj::AsyncIoStream> inner, Switch& pausing) : inner(kj::mv(inner)), pausing(pausing) {}

  kj::Promise<size_t> tryRead(void* buffer, size_t least, size_t most) override {
    if (!pausing.paused) return inner->tryRead(buffer, least, most);
    return KJ_ASSERT_NONNULL(pausing.resumed).addBranch().then([this, buffer, least, most]() {
      return inner->tryRead(buffer, least, most);
    });
  }
  kj::Promise<void> write(const void* buffer, size_t size) override { return inner->write(buffer, size); }
  kj::Promise<void> write(kj::ArrayPtr<const kj::ArrayPtr<const kj::byte>> pieces) override {
    return inner->write(pieces);
  }
  kj::Promise<void> whenWriteDisconnected() override { return inner->whenWriteDisconnected(); }
  void shutdownWrite() override { inner->shutdownWrite(); }
  void abortRead() override { inner->abortRead(); }

 private:
  kj::Own<kj::AsyncIoStream> inner;
  Switch& pausing;
};

}  // namespace capstan::server
