#include <capstan/server/compute/collect.h>

#include <algorithm>

#include <capstan/rpc/outcome.h>
#include <capstan/server/access/guarded.h>
#include <capstan/server/files/piece-queue.h>

namespace capstan::server::compute {

namespace {

// A job stores so much and then lets others have the thread.
constexpr size_t SLICE_BYTES = 4 << 20;
// More zeros at once are no list of anything that somebody wants to sort.
constexpr uint64_t ZEROS_AT_ONCE = 64 << 20;

using files::Piece;

// Pieces on their way into a writer, a slice at a time. Shared by the jobs that store them.
class Storing {
 public:
  Storing(std::shared_ptr<ContentWriter> writer, std::vector<Piece> pieces)
      : writer(std::move(writer)), pieces(std::move(pieces)) {}

  // True when everything is stored.
  Result<bool> step() {
    size_t stored = 0;
    while (next < pieces.size() && stored < SLICE_BYTES) {
      Piece& piece = pieces[next];
      auto status = writer->append({reinterpret_cast<const char*>(piece.bytes.begin()), piece.bytes.size()});
      stored += piece.bytes.size();
      piece.bytes = nullptr;
      while (status.ok() && piece.zeros > 0 && stored < SLICE_BYTES) {
        size_t part = size_t(std::min<uint64_t>(piece.zeros, sizeof(ZEROS)));
        status = writer->append({ZEROS, part});
        piece.zeros -= part;
        stored += part;
      }
      if (!status.ok()) return status.error();
      if (piece.zeros == 0) ++next;
    }
    return next == pieces.size();
  }

 private:
  static constexpr char ZEROS[64 << 10] = {};

  const std::shared_ptr<ContentWriter> writer;
  std::vector<Piece> pieces;
  size_t next = 0;
};

// Steps until it is done, or until the promise is dropped.
kj::Promise<Status> store(BlockingPool& pool, std::shared_ptr<Storing> storing) {
  return pool.run([storing]() { return storing->step(); })
      .then([&pool, storing](Result<bool> done) -> kj::Promise<Status> {
        if (!done.ok()) return Status(done.error());
        if (*done) return okStatus();
        return store(pool, storing);
      });
}

Error alreadyEnded() {
  return {ErrorCode::INVALID_ARGUMENT, "the literal has been ended already; nothing can be added to it", {}};
}

// Belongs to its connection's loop. Jobs share the writer, so that it may be dropped at any time.
class CollectingSink final : public Guarded<schema::ByteSink> {
 public:
  CollectingSink(kj::Own<ComputeScope> scopeParam, std::shared_ptr<ContentWriter> writer, bool durable,
                 kj::Own<kj::PromiseFulfiller<ContentResult>> fulfiller)
      : Guarded(kj::addRef(*scopeParam->access)),
        scope(kj::mv(scopeParam)),
        writer(std::move(writer)),
        durable(durable),
        fulfiller(kj::mv(fulfiller)),
        pieces(
            [this](std::vector<Piece> taken) {
              return store(pool(), std::make_shared<Storing>(this->writer, kj::mv(taken)));
            },
            files::PieceQueue::Zeros::COUNT) {}

  ~CollectingSink() noexcept(false) {
    if (!fulfiller->isWaiting()) return;
    fulfiller->fulfill(Error{ErrorCode::CANCELLED, "the literal was not sent to its end", {}});
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

  kj::Maybe<Error> refusal() {
    KJ_IF_MAYBE (error, pieces.failure()) {
      return *error;
    }
    if (ended) return alreadyEnded();
    if (!fulfiller->isWaiting()) return Error{ErrorCode::CANCELLED, "nobody holds the value any more", {}};
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
      newGuarded<CollectingSink>(kj::addRef(scope), std::shared_ptr(std::move(writer)), durable, kj::mv(paf.fulfiller));
  return {kj::mv(sink), kj::mv(paf.promise)};
}

Collecting collect(ComputeScope& scope, ElementType type, Encoding encoding) {
  return collect(scope, std::make_unique<ContentWriter>(type, encoding, scope.context.spool, scope.account), false);
}

}  // namespace capstan::server::compute
