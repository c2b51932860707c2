#include <capstan/server/files/upload.h>

#include <capstan/base/saturating.h>
#include <capstan/rpc/entry-wire.h>
#include <capstan/rpc/outcome.h>
#include <capstan/server/files/leftovers.h>
#include <capstan/server/files/repeat.h>
#include <capstan/storage/place-file.h>

namespace capstan::server::files {

UploadServer::UploadServer(FolderState& folder, std::shared_ptr<const View> view, Slot slotParam, UploadTarget target,
                           std::shared_ptr<StagedContent> content, Meters::Charge staged)
    : Guarded(kj::addRef(slotParam.access())),
      folder(folder),
      view(std::move(view)),
      slot(kj::mv(slotParam)),
      target(std::move(target)),
      content(std::move(content)),
      stagedBytes(std::move(staged)),
      pieces([this](std::vector<Piece> taken) {
        struct Appending {
          std::vector<Piece> pieces;
          Progress progress;
        };
        auto appending = std::make_shared<Appending>(Appending{kj::mv(taken), {}});
        auto step = [content = this->content, appending]() {
          return content->append(appending->pieces, appending->progress);
        };
        return repeat(this->folder, this->slot.connection(), step).then([this](Status status) {
          return status.ok() ? status : Status(withPath(status.error()));
        });
      }) {}

UploadServer::~UploadServer() noexcept(false) {
  if (target.resumeName.empty() || state == State::COMMITTED || state == State::DISCARDED) return;
  if (slot.access().grant().ended()) {
    // Nobody can resume it any more.
    auto job = [content = content]() {
      content->discard();
      return okStatus();
    };
    folder.runAtOnce(kj::mv(job)).detach([](kj::Exception&&) {});
    return;
  }
  folder.leftovers->keep(target.resumeName, std::move(stagedBytes));
}

kj::Maybe<Error> UploadServer::refusal() const {
  KJ_IF_MAYBE (error, tooMuch) {
    return *error;
  }
  KJ_IF_MAYBE (error, pieces.failure()) {
    return *error;
  }
  switch (state) {
    case State::OPEN: return nullptr;
    case State::COMMITTING:
      return errorAt(ErrorCode::INVALID_ARGUMENT, target.path, "the upload of ", " is being committed");
    case State::COMMITTED:
      return errorAt(ErrorCode::INVALID_ARGUMENT, target.path, "the upload of ", " was committed already");
    case State::DISCARDED:
      return errorAt(ErrorCode::INVALID_ARGUMENT, target.path, "the upload of ", " was discarded; begin a new one");
  }
  KJ_UNREACHABLE;
}

kj::Maybe<Error> UploadServer::overLimit(uint64_t bytes) {
  Status grown = stagedBytes.grow(bytes);
  if (grown.ok()) return nullptr;
  return tooMuch.emplace(errorAt(ErrorCode::LIMIT, target.path, "the upload of ", ": " + grown.error().message));
}

kj::Promise<void> UploadServer::write(WriteContext context) {
  KJ_IF_MAYBE (error, refusal()) {
    return rpc::exceptionFromError(*error);
  }
  KJ_IF_MAYBE (error, overLimit(context.getParams().getData().size())) {
    return rpc::exceptionFromError(*error);
  }
  auto added = pieces.addBytes(context.getParams().getData());
  context.releaseParams();
  return added;
}

kj::Promise<void> UploadServer::skip(SkipContext context) {
  KJ_IF_MAYBE (error, refusal()) {
    return rpc::exceptionFromError(*error);
  }
  // Zeros take nothing of the disk, and count as content all the same.
  uint64_t count = context.getParams().getCount();
  skipped = saturatingSum(skipped, count);
  Status fits = view->mayHold(saturatingSum(skipped, stagedBytes.amount()));
  if (!fits.ok()) return rpc::exceptionFromError(tooMuch.emplace(withPath(fits.error())));
  return pieces.add(Piece{nullptr, count});
}

kj::Promise<void> UploadServer::copyRange(CopyRangeContext context) {
  KJ_IF_MAYBE (error, refusal()) {
    return rpc::exceptionFromError(*error);
  }
  auto params = context.getParams();
  KJ_IF_MAYBE (error, overLimit(params.getCount())) {
    return rpc::exceptionFromError(*error);
  }
  return pieces.add(Piece{nullptr, 0, params.getOffset(), params.getCount()});
}

Error UploadServer::withPath(Error error) const {
  error.path = target.path;
  return error;
}

kj::Promise<void> UploadServer::end(EndContext context) {
  KJ_IF_MAYBE (error, refusal()) {
    rpc::setError(context.getResults().initOutcome(), *error);
    return kj::READY_NOW;
  }
  return pieces.drained().then([this, context]() mutable {
    KJ_IF_MAYBE (error, pieces.failure()) {
      rpc::setError(context.getResults().initOutcome(), *error);
    }
  });
}

kj::Promise<void> UploadServer::commit(CommitContext context) {
  auto answerError = [&context](const Error& error) -> kj::Promise<void> {
    rpc::setError(context.getResults().initOutcome(), error);
    return kj::READY_NOW;
  };
  KJ_IF_MAYBE (error, refusal()) {
    return answerError(*error);
  }
  auto check = rpc::read(context.getParams().getCheck());
  if (!check.ok()) return answerError(check.error());
  context.releaseParams();
  state = State::COMMITTING;
  return store(view->takeTicket(slot.connection()), std::move(*check))
      .then([this, context](Result<Entry> entry) mutable {
        if (entry.ok()) {
          state = State::COMMITTED;
          stagedBytes.giveBack();
          rpc::write(context.getResults().initEntry(), *entry);
          return;
        }
        state = entry.error().code == ErrorCode::CORRUPT ? State::DISCARDED : State::OPEN;
        rpc::setError(context.getResults().initOutcome(), withPath(entry.error()));
      });
}

// Everything taken so far is stored, checked, and put into its place when the ticket's turn has come.
kj::Promise<Result<Entry>> UploadServer::store(Committer::Ticket ticket, ContentCheck check) {
  return pieces.drained()
      .then([this, check = std::move(check)]() mutable -> kj::Promise<Status> {
        KJ_IF_MAYBE (error, pieces.failure()) {
          return Status(*error);
        }
        return repeat(folder, slot.connection(),
                      [content = content, check = std::move(check)]() { return content->checkStep(check); });
      })
      .then([this](Status status) -> kj::Promise<Result<Sealed>> {
        if (status.ok()) return seal();
        Error error = status.error();
        if (error.code != ErrorCode::CORRUPT) return Result<Sealed>(kj::mv(error));
        return discardContent().then([error = kj::mv(error)](Status) { return Result<Sealed>(error); });
      })
      .then([this, ticket = kj::mv(ticket)](Result<Sealed> sealed) mutable -> kj::Promise<Result<Entry>> {
        if (!sealed.ok()) return Result<Entry>(sealed.error());
        PlaceFile options{target.path, target.expectation, target.attributes, target.makeParents, sealed->flushed};
        auto mutation = makePlaceFile(content->stagedFile(), std::move(options));
        return view->submit(kj::mv(ticket), std::move(mutation), std::move(sealed->run));
      });
}

kj::Promise<Result<UploadServer::Sealed>> UploadServer::seal() {
  return view->run(
      slot.connection(),
      [content = content, target = target, view = view, client = slot.connection().client]() -> Result<Sealed> {
        auto run = view->runOf(target.run, client);
        if (!run.ok()) return run.error();
        auto flushed = content->seal(target.attributes, view->disk());
        if (!flushed.ok()) return flushed.error();
        return Sealed{*flushed, std::move(*run)};
      });
}

kj::Promise<Status> UploadServer::discardContent() {
  return folder
      .run(slot.connection(),
           [content = content]() {
             content->discard();
             return okStatus();
           })
      .then([this](Status status) {
        if (status.ok()) stagedBytes.giveBack();
        return status;
      });
}

kj::Promise<void> UploadServer::discard(DiscardContext context) {
  if (state != State::OPEN) {
    rpc::setError(context.getResults().initOutcome(), KJ_ASSERT_NONNULL(refusal()));
    return kj::READY_NOW;
  }
  state = State::DISCARDED;
  return pieces.drained().then([this]() { return discardContent(); }).then([this, context](Status status) mutable {
    if (status.ok()) return;
    state = State::OPEN;  // it is there still, and may be discarded again
    rpc::setError(context.getResults().initOutcome(), withPath(status.error()));
  });
}

}  // namespace capstan::server::files
