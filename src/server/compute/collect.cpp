#include <capstan/server/compute/collect.h>

#include <algorithm>

#include <capstan/rpc/outcome.h>
#include <capstan/server/files/piece-queue.h>

namespace capstan::server::compute {

namespace {

// More zeros than this at once are no list of anything that somebody wants to sort.
constexpr uint64_t ZEROS_AT_ONCE = 64 << 20;

using files::Piece;

Status store(ContentWriter& writer, const std::vector<Piece>& pieces) {
  static constexpr char ZEROS[64 << 10] = {};
  for (const Piece& piece : pieces) {
    auto status = writer.append({reinterpret_cast<const char*>(piece.bytes.begin()), piece.bytes.size()});
    for (uint64_t left = piece.zeros; status.ok() && left > 0;) {
      size_t part = size_t(std::min<uint64_t>(left, sizeof(ZEROS)));
      status = writer.append({ZEROS, part});
      left -= part;
    }
    if (!status.ok()) return status;
  }
  return okStatus();
}

Error alreadyEnded() {
  return {ErrorCode::INVALID_ARGUMENT, "the literal has been ended already; nothing can be added to it", {}};
}

// Belongs to its connection's loop. Jobs share the writer, so that it may be dropped at any time.
class CollectingSink final : public schema::ByteSink::Server {
 public:
  CollectingSink(kj::Own<ComputeScope> scopeParam, std::shared_ptr<ContentWriter> writer, bool durable,
                 kj::Own<kj::PromiseFulfiller<ContentResult>> fulfiller)
      : scope(kj::mv(scopeParam)),
        writer(std::move(writer)),
        durable(durable),
        fulfiller(kj::mv(fulfiller)),
        pieces([this](std::vector<Piece> taken) {
          return pool().run([writer = this->writer, taken = kj::mv(taken)]() { return store(*writer, taken); });
        }) {}

  ~CollectingSink() noexcept(false) {
    if (!fulfiller->isWaiting()) return;
    fulfiller->fulfill(Error{ErrorCode::CANCELLED, "the literal was not sent to its end", {}});
  }

  // As UploadServer has it: end() is to answer why a write failed.
  DispatchCallResult dispatchCall(uint64_t interfaceId, uint16_t methodId,
                                  capnp::CallContext<capnp::AnyPointer, capnp::AnyPointer> context) override {
    auto result = schema::ByteSink::Server::dispatchCall(interfaceId, methodId, context);
    result.isStreaming = false;
    return result;
  }

 protected:
  kj::Promise<void> write(WriteContext context) override {
    KJ_IF_MAYBE (error, refusal()) {
      return rpc::exceptionFromError(*error);
    }
    auto added = pieces.addBytes(context.getParams().getData());
    context.releaseParams();
    return added;
  }

  kj::Promise<void> skip(SkipContext context) override {
    KJ_IF_MAYBE (error, refusal()) {
      return rpc::exceptionFromError(*error);
    }
    uint64_t count = context.getParams().getCount();
    if (count > ZEROS_AT_ONCE) {
      return rpc::exceptionFromError({ErrorCode::TOO_LARGE, "a literal cannot hold so many zeros in a row", {}});
    }
    return pieces.add(Piece{nullptr, count});
  }

  kj::Promise<void> end(EndContext context) override {
    KJ_IF_MAYBE (error, refusal()) {
      rpc::setError(context.getResults().initOutcome(), *error);
      return kj::READY_NOW;
    }
    ended = true;
    return pieces.drained().then([this, context]() mutable -> kj::Promise<void> {
      KJ_IF_MAYBE (error, pieces.failure()) {
        return answer(context, *error);
      }
      return pool()
          .run([writer = writer, durable = durable]() { return writer->finish(false, durable); })
          .then([this, context](ContentResult content) mutable { return answer(context, std::move(content)); });
    });
  }

 private:
  kj::Own<ComputeScope> scope;
  const std::shared_ptr<ContentWriter> writer;
  const bool durable;
  kj::Own<kj::PromiseFulfiller<ContentResult>> fulfiller;
  bool ended = false;
  files::PieceQueue pieces;

  BlockingPool& pool() const { return scope->context.threads.quick; }

  kj::Maybe<Error> refusal() const {
    KJ_IF_MAYBE (error, pieces.failure()) {
      return *error;
    }
    if (ended) return alreadyEnded();
    return nullptr;
  }

  kj::Promise<void> answer(EndContext& context, ContentResult content) {
    if (!content.ok()) rpc::setError(context.getResults().initOutcome(), content.error());
    fulfiller->fulfill(std::move(content));
    return kj::READY_NOW;
  }
};

}  // namespace

Collecting collect(ComputeScope& scope, std::unique_ptr<ContentWriter> writer, bool durable) {
  auto paf = kj::newPromiseAndFulfiller<ContentResult>();
  schema::ByteSink::Client sink =
      kj::heap<CollectingSink>(kj::addRef(scope), std::shared_ptr(std::move(writer)), durable, kj::mv(paf.fulfiller));
  return {kj::mv(sink), kj::mv(paf.promise)};
}

Collecting collect(ComputeScope& scope, ElementType type, Encoding encoding) {
  return collect(scope, std::make_unique<ContentWriter>(type, encoding, scope.context.spool, scope.account), false);
}

}  // namespace capstan::server::compute
