#include <capstan/sync/remote-stream.h>

#include <algorithm>
#include <cstring>

namespace capstan::sync {

// Between the stream and the ByteSink, which the server may hold for longer.
struct RemoteStream::Shared final : public kj::Refcounted {
  // What the server has sent, and is answered once the reader has taken it: that is the flow control.
  struct Piece {
    const char* data = nullptr;  // null: a hole; else in the message, which the answer keeps
    uint64_t length = 0;
    kj::Own<kj::PromiseFulfiller<void>> taken;
  };
  std::deque<Piece> pieces;
  bool isDetached = false;
  bool hasEnded = false;
  std::optional<Error> error;  // why it ended
  kj::Maybe<kj::Own<kj::PromiseFulfiller<void>>> waiting;

  kj::Promise<void> add(const char* data, uint64_t length) {
    if (isDetached) return KJ_EXCEPTION(FAILED, "the reader has ended the transfer");
    if (length == 0) return kj::READY_NOW;
    auto paf = kj::newPromiseAndFulfiller<void>();
    pieces.push_back({data, length, kj::mv(paf.fulfiller)});
    arrived();
    return kj::mv(paf.promise);
  }

  void arrived() {
    KJ_IF_MAYBE (fulfiller, waiting) {
      auto one = kj::mv(*fulfiller);
      waiting = nullptr;
      one->fulfill();
    }
  }

  void take(uint64_t count) {
    Piece& front = pieces.front();
    front.length -= count;
    if (front.data != nullptr) front.data += count;
    if (front.length > 0) return;
    front.taken->fulfill();
    pieces.pop_front();
  }
};

class RemoteStream::Sink final : public schema::ByteSink::Server {
 public:
  explicit Sink(kj::Own<Shared> shared) : shared(kj::mv(shared)) {}

  kj::Promise<void> write(WriteContext context) override {
    auto data = context.getParams().getData();
    return shared->add(reinterpret_cast<const char*>(data.begin()), data.size());
  }
  kj::Promise<void> skip(SkipContext context) override { return shared->add(nullptr, context.getParams().getCount()); }
  kj::Promise<void> end(EndContext context) override {
    context.initResults();
    return kj::READY_NOW;
  }

 private:
  kj::Own<Shared> shared;
};

RemoteStream::RemoteStream(std::string path, schema::File::Client file)
    : path(std::move(path)), shared(kj::refcounted<Shared>()) {
  auto request = file.streamRequest();
  request.setSink(kj::heap<Sink>(kj::addRef(*shared)));
  request.setCount(UINT64_MAX);
  Shared& s = *shared;
  auto finish = [&s](std::optional<Error> error) {
    s.hasEnded = true;
    s.error = std::move(error);
    s.arrived();
  };
  streaming = request.send()
                  .then(
                      [finish](capnp::Response<schema::File::StreamResults>&& response) {
                        KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
                          finish(kj::mv(*error));
                          return;
                        }
                        finish(std::nullopt);
                      },
                      [finish](kj::Exception&& exception) { finish(RemotePlace::failureIn(kj::mv(exception))); })
                  .eagerlyEvaluate(nullptr);
}

RemoteStream::~RemoteStream() noexcept(false) {
  shared->isDetached = true;
  shared->pieces.clear();
}

// Resolves when there is a piece, or will be none any more.
kj::Promise<void> RemoteStream::arrival() {
  if (!shared->pieces.empty() || shared->hasEnded) return kj::READY_NOW;
  auto paf = kj::newPromiseAndFulfiller<void>();
  shared->waiting = kj::mv(paf.fulfiller);
  return kj::mv(paf.promise);
}

kj::Promise<Result<RemoteStream::Next>> RemoteStream::next() {
  // `this` outlives its promises.
  return arrival().then([this]() -> Result<Next> {
    if (shared->pieces.empty()) {
      if (shared->error) return *shared->error;
      return Next{};
    }
    auto& front = shared->pieces.front();
    Next next{front.length, front.data == nullptr};
    if (next.hole) {
      at += next.length;
      shared->take(next.length);
    }
    return next;
  });
}

kj::Promise<Status> RemoteStream::read(char* buffer, size_t size) {
  if (size == 0) return okStatus();
  return arrival().then([this, buffer, size]() -> kj::Promise<Status> {
    if (shared->pieces.empty()) {
      if (shared->error) return Status(*shared->error);
      return Status(errorAt(ErrorCode::CHANGED, path, "", " became shorter while it was being read"));
    }
    auto& front = shared->pieces.front();
    size_t count = std::min<uint64_t>(size, front.length);
    if (front.data == nullptr) {
      memset(buffer, 0, count);
    } else {
      memcpy(buffer, front.data, count);
    }
    at += count;
    shared->take(count);
    return read(buffer + count, size - count);
  });
}

}  // namespace capstan::sync
