#include <capstan/server/files/batch.h>

#include <capstan/rpc/entry-wire.h>
#include <capstan/rpc/outcome.h>
#include <capstan/server/files/batch-operations.h>
#include <capstan/server/files/repeat.h>

namespace capstan::server::files {

namespace {

// Content that may be on its way to staging before whoever sends has to wait.
constexpr size_t MAX_PENDING_BYTES = 4 << 20;

Error unchanged(const Error& error) { return {error.code, "nothing of this batch was changed: " + error.message, {}}; }

}  // namespace

BatchServer::BatchServer(FolderState& folder, std::shared_ptr<const View> viewParam, BatchSlot slotParam,
                         std::shared_ptr<Run> run)
    : Guarded(kj::addRef(slotParam.access())),
      folder(folder),
      view(std::move(viewParam)),
      slot(kj::mv(slotParam)),
      run(std::move(run)),
      copies(std::make_shared<BatchCopies>(view)),
      failures(*this),
      tasks(failures) {}

BatchServer::~BatchServer() noexcept(false) { throwAway(); }

void BatchServer::throwAway() {
  if (mutations.empty() && run == nullptr) return;
  folder
      .runAtOnce([mutations = std::exchange(mutations, {}), copies = std::exchange(copies, nullptr),
                  run = std::exchange(run, nullptr)]() mutable {
        mutations.clear();
        copies = nullptr;
        run = nullptr;
        return okStatus();
      })
      .detach([](kj::Exception&&) {});
}

void BatchServer::Failures::taskFailed(kj::Exception&& exception) {
  if (batch.failed == nullptr) batch.failed = rpc::errorFromException(exception);
}

kj::Maybe<Error> BatchServer::refusal() {
  if (committed) return Error{ErrorCode::INVALID_ARGUMENT, "the batch was committed already; begin a new one", {}};
  if (slot.connection().shuttingDown) return shuttingDownError();
  KJ_IF_MAYBE (error, failed) {
    return *error;
  }
  return nullptr;
}

kj::Promise<void> BatchServer::add(AddContext context) {
  KJ_IF_MAYBE (error, refusal()) {
    return rpc::exceptionFromError(*error);
  }
  auto operations = context.getParams().getOperations();
  KJ_IF_MAYBE (error, overLimit(operations)) {
    failed = *error;
    return rpc::exceptionFromError(*error);
  }
  std::vector<PutJob> jobs;
  for (auto operation : operations) take(operation, jobs);
  context.releaseParams();
  size_t bytes = 0;
  for (auto& job : jobs) bytes += job.content.size() + job.path.size();
  return jobs.empty() ? kj::Promise<void>(kj::READY_NOW) : stage(std::move(jobs), bytes);
}

kj::Maybe<Error> BatchServer::overLimit(capnp::List<schema::Operation>::Reader operations) {
  if (mutations.size() + operations.size() > MAX_BATCH_OPERATIONS) {
    return Error{ErrorCode::LIMIT,
                 "a batch takes " + std::to_string(MAX_BATCH_OPERATIONS) +
                     " operations, and these are more; nothing was changed, send them in several batches",
                 {}};
  }
  size_t kept = 0;
  uint64_t staged = 0;
  for (auto operation : operations) {
    auto size = sizeOf(operation);
    kept += size.kept;
    staged += size.staged;
  }
  Status held = slot.hold(kept, staged);
  if (held.ok()) return nullptr;
  return unchanged(held.error());
}

void BatchServer::take(schema::Operation::Reader operation, std::vector<PutJob>& jobs) {
  auto taken = read(operation);
  if (auto mutation = std::get_if<std::unique_ptr<Mutation>>(&taken)) {
    mutations.push_back(std::move(*mutation));
    return;
  }
  if (auto copy = std::get_if<CopyOptions>(&taken)) {
    copies->add(mutations.size(), std::move(*copy));
    mutations.push_back(nullptr);
    return;
  }
  auto& job = std::get<PutJob>(taken);
  job.operation = mutations.size();
  mutations.push_back(nullptr);
  jobs.push_back(std::move(job));
}

// Resolves when the sender may send more.
kj::Promise<void> BatchServer::stage(std::vector<PutJob> jobs, size_t bytes) {
  std::vector<size_t> operations;
  for (auto& job : jobs) operations.push_back(job.operation);
  pendingBytes += bytes;
  ++jobsUnderWay;
  tasks.add(
      folder
          .run(slot.connection(),
               [view = view, jobs = std::move(jobs)]() mutable { return stageAll(view->staging(), std::move(jobs)); })
          .then([this, operations = std::move(operations),
                 bytes](Result<Staged> result) { staged(operations, bytes, std::move(result)); },
                [this, bytes](kj::Exception&& exception) { staged({}, bytes, rpc::errorFromException(exception)); }));
  if (pendingBytes < MAX_PENDING_BYTES) return kj::READY_NOW;
  auto paf = kj::newPromiseAndFulfiller<void>();
  waitingForRoom.push_back(kj::mv(paf.fulfiller));
  return kj::mv(paf.promise);
}

void BatchServer::staged(const std::vector<size_t>& operations, size_t bytes, Result<Staged> result) {
  pendingBytes -= bytes;
  --jobsUnderWay;
  if (result.ok()) {
    for (size_t i = 0; i < operations.size(); ++i) mutations[operations[i]] = std::move((*result)[i]);
  } else if (failed == nullptr) {
    failed = result.error();
  }
  while (!waitingForRoom.empty() && (pendingBytes < MAX_PENDING_BYTES || jobsUnderWay == 0)) {
    waitingForRoom.front()->fulfill();
    waitingForRoom.pop_front();
  }
  if (jobsUnderWay > 0) return;
  for (auto& waiting : waitingForAll) waiting->fulfill();
  waitingForAll.clear();
}

kj::Promise<void> BatchServer::drained() {
  if (jobsUnderWay == 0) return kj::READY_NOW;
  auto paf = kj::newPromiseAndFulfiller<void>();
  waitingForAll.push_back(kj::mv(paf.fulfiller));
  return kj::mv(paf.promise);
}

kj::Promise<void> BatchServer::commit(CommitContext context) {
  KJ_IF_MAYBE (error, refusal()) {
    rpc::setError(context.getResults().initOutcome(), *error);
    return kj::READY_NOW;
  }
  context.releaseParams();
  committed = true;
  // The place in the order is taken now; staging may still go on.
  auto ticket = view->takeTicket(slot.connection());
  return drained().then(
      [this, context, ticket = kj::mv(ticket)]() mutable { return carryOut(context, kj::mv(ticket)); });
}

kj::Promise<void> BatchServer::carryOut(CommitContext context, Committer::Ticket ticket) {
  auto staged = stageCopies(ticket);
  return staged.then([this, context, ticket = kj::mv(ticket)](Status status) mutable -> kj::Promise<void> {
    if (failed == nullptr && !status.ok()) failed = status.error();
    KJ_IF_MAYBE (error, failed) {
      throwAway();
      slot.giveBack();
      rpc::setError(context.getResults().initOutcome(), *error);
      return kj::READY_NOW;
    }
    if (!copies->empty()) mutations = copies->takeAll();
    return view->submitAll(kj::mv(ticket), std::move(mutations), std::move(run))
        .then([this, context](std::vector<Result<Entry>> results) mutable {
          slot.giveBack();
          answer(context, results);
        });
  });
}

kj::Promise<Status> BatchServer::stageCopies(const Committer::Ticket& ticket) {
  if (failed != nullptr || copies->empty()) return okStatus();
  copies->keep(std::exchange(mutations, {}));
  // What is copied is what the calls before this one have left.
  return view->turnOf(ticket)
      .then([this]() { return folder.run(slot.connection(), [copies = copies]() { return copies->measure(); }); })
      .then([this](Result<uint64_t> bytes) -> kj::Promise<Status> {
        Status held = bytes.ok() ? slot.hold(0, *bytes) : Status(bytes.error());
        if (!held.ok()) return Status(unchanged(held.error()));
        auto step = [this]() {
          return view->run(slot.connection(), [copies = copies]() { return copies->stageStep(); });
        };
        return repeatUntilDone(slot.connection(), step);
      });
}

void BatchServer::answer(CommitContext& context, const std::vector<Result<Entry>>& results) {
  auto list = context.getResults().initResults(uint(results.size()));
  for (uint i = 0; i < list.size(); ++i) {
    if (results[i].ok()) {
      rpc::write(list[i].initEntry(), *results[i]);
    } else {
      rpc::setError(list[i].initOutcome(), results[i].error());
    }
  }
}

}  // namespace capstan::server::files
