#include <capstan/rpc/message-stream.h>

namespace capstan::rpc {

namespace {

// Enough for any message of ours, which nest a few levels deep; and a message may be read through eight times over.
constexpr int NESTING_LIMIT = 32;
constexpr uint64_t TRAVERSALS = 8;
constexpr uint64_t MIN_TRAVERSAL_WORDS = 64 << 10;

capnp::ReaderOptions readerOptions(size_t maxMessageBytes) {
  capnp::ReaderOptions options;
  options.traversalLimitInWords =
      kj::max(uint64_t(maxMessageBytes) / sizeof(capnp::word) * TRAVERSALS, MIN_TRAVERSAL_WORDS);
  options.nestingLimit = NESTING_LIMIT;
  return options;
}

}  // namespace

MessageStream::MessageStream(kj::AsyncIoStream& stream, WireCounters& counters, size_t maxMessageBytes,
                             size_t pauseAbove)
    : stream(stream),
      pauseAbove(pauseAbove),
      reader(maxMessageBytes, readerOptions(maxMessageBytes), counters),
      writer(stream, counters, [this](const kj::Exception& exception) { failed(exception); }) {}

MessageStream::~MessageStream() noexcept(false) {}

kj::Promise<MaybeMessage> MessageStream::receive() {
  return kj::evalNow([this]() { return receiveStep(); });
}

kj::Promise<MaybeMessage> MessageStream::receiveStep() {
  KJ_IF_MAYBE (failure, writeFailure) {
    return kj::cp(*failure);
  }
  if (pauseAbove > 0 && writer.queuedBytes() > pauseAbove) {
    return writer.whenAtMost(pauseAbove).then([this]() { return receiveStep(); });
  }
  KJ_IF_MAYBE (message, reader.next()) {
    if (allowed-- == 0) reader.refuse(kj::str("it sent too many messages before it logged in"));
    if (inspect != nullptr) inspect(**message);
    return MaybeMessage(kj::mv(*message));
  }
  return fill().then([this](bool more) -> kj::Promise<MaybeMessage> {
    if (!more) return MaybeMessage(nullptr);
    return receiveStep();
  });
}

kj::Promise<bool> MessageStream::fill() {
  // Not before the turn's end: what came before is dealt with, and its answers are on their way, when more is taken in.
  auto paf = kj::newPromiseAndFulfiller<kj::Promise<bool>>();
  wantsFill = kj::mv(paf.fulfiller);
  schedule();
  return readCanceler.wrap(kj::mv(paf.promise));
}

void MessageStream::atTurnEnd() {
  writer.flush();
  KJ_IF_MAYBE (fulfiller, wantsFill) {
    auto wanted = kj::mv(*fulfiller);
    wantsFill = nullptr;
    if (wanted->isWaiting()) wanted->fulfill(kj::evalNow([this]() { return reader.fill(stream); }));
  }
}

kj::Promise<void> MessageStream::flushed() {
  writer.flush();
  return writer.whenAtMost(0);
}

kj::Promise<void> MessageStream::end() {
  writer.flush();
  // A peer that does not read must not keep the connection alive: what the kernel did not take at once is lost.
  return writer.whenAtMost(0).exclusiveJoin(kj::evalLast([]() {})).then([this]() {
    // A peer that is gone already makes this fail; then there is nothing to shut down.
    kj::runCatchingExceptions([this]() { stream.shutdownWrite(); });
  });
}

void MessageStream::failed(const kj::Exception& exception) {
  writeFailure = kj::cp(exception);
  if (!readCanceler.isEmpty()) readCanceler.cancel(exception);
}

}  // namespace capstan::rpc
