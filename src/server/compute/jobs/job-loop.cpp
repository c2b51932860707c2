#include <capstan/server/compute/jobs/job-loop.h>

#include <pthread.h>

#include <algorithm>
#include <future>
#include <list>

#include <kj/async-io.h>

#include <capstan/base/log.h>
#include <capstan/rpc/event-loop.h>
#include <capstan/rpc/outcome.h>
#include <capstan/server/access/grants.h>
#include <capstan/server/access/metering.h>
#include <capstan/server/compute/jobs/job-run.h>

namespace capstan::server::compute {

namespace {

// Times of expiry are of the wall clock, which may be set: it is looked at this often at least.
constexpr int64_t LONGEST_SLEEP = 60ll * 1'000'000'000;
// Until a pool is asked again whose queue was full.
constexpr kj::Duration BUSY_DELAY = 100 * kj::MILLISECONDS;

}  // namespace

void Waker::wake() {
  std::lock_guard lock(mutex);
  pending = true;
  KJ_IF_MAYBE (waiting, fulfiller) (*waiting)->fulfill();
  fulfiller = nullptr;
}

kj::Promise<void> Waker::next() {
  std::lock_guard lock(mutex);
  if (pending) {
    pending = false;
    return kj::READY_NOW;
  }
  auto paf = kj::newPromiseAndCrossThreadFulfiller<void>();
  fulfiller = kj::mv(paf.fulfiller);
  return kj::mv(paf.promise);
}

// Lives on the thread's stack.
class JobLoop::Loop final : public kj::TaskSet::ErrorHandler {
 public:
  Loop(JobLoopOwner& owner, const ComputeContext& context, kj::AsyncIoContext& io)
      : owner(owner), context(context), io(io), tasks(*this) {}

  // Answers when it wants to be called again.
  int64_t turn() {
    for (auto& entry : running) {
      if (entry.record->cancelled) entry.run->cancel();
    }
    while (auto record = owner.startNext()) start(kj::mv(record));
    int64_t next = owner.lookAfter();
    auto names = owner.takeRemovals();
    if (!names.empty()) remove(std::move(names));
    return next;
  }

  kj::Promise<void> stopAll() {
    abandoning = true;
    for (auto& entry : running) entry.run->abandon();
    return tasks.onEmpty();
  }

 private:
  struct Entry {
    std::shared_ptr<JobRecord> record;
    kj::Own<JobRun> run;
  };

  JobLoopOwner& owner;
  const ComputeContext& context;
  kj::AsyncIoContext& io;
  bool abandoning = false;
  std::list<Entry> running;
  kj::TaskSet tasks;  // destroyed before the runs

  // Where the job stores its result: the tree that it was submitted with, under the grant that it belongs to, so that
  // nothing is stored any more once that has ended.
  schema::FileStore::Client newStore(const JobRecord& record, const StoredTask& task) {
    auto grant = grantOf(record.origin.grant);
    if (grant == nullptr) {
      return rpc::failed<schema::FileStore>(
          {ErrorCode::REVOKED, "the share that the job was submitted with does not exist any more", {}});
    }
    auto access = kj::refcounted<Access>(newLease(grant));
    if (!task.output) return context.folder.newFileStore(kj::mv(access));
    auto top = task.output->top;
    return context.folder.newFileStore(kj::refcounted<Access>(kj::addRef(*access->lease), top, access->rights));
  }

  // What a job stores is bounded as that of a connection of its own, and counts with all else at its grant and at the
  // server.
  kj::Own<Lease> newLease(std::shared_ptr<Grant> grant) const {
    if (context.metering == nullptr) return kj::refcounted<Lease>(std::move(grant), kj::refcounted<ConnectionScope>());
    auto meter = context.metering->newConnection();
    auto meters = context.metering->metersOf(meter, *grant);
    return kj::refcounted<Lease>(std::move(grant), kj::refcounted<ConnectionScope>(std::move(meter)),
                                 std::move(meters));
  }

  std::shared_ptr<Grant> grantOf(const std::string& id) const {
    if (context.grants != nullptr) return context.grants->find(id);
    return id == OWNER_GRANT ? Grant::newOwner() : nullptr;
  }

  void start(std::shared_ptr<JobRecord> record) {
    // The owner outlives the loop.
    auto note = [this, record](Placing placing, ContentInfo result) {
      return owner.notePlacing(record, std::move(placing), result);
    };
    auto& timer = io.provider->getTimer();
    auto task = owner.taskOf(*record);
    auto run = kj::heap<JobRun>(context, timer, newStore(*record, *task), record, task, note);
    auto position = running.insert(running.end(), {record, kj::mv(run)});
    // `this` outlives `tasks`.
    auto ran = owner.noteStart(record).then([position]() { return position->run->run(); });
    tasks.add(ran.then([this, position](Result<JobResult> result) {
      bool stopped = !result.ok() && result.error().code == ErrorCode::CANCELLED;
      // What was cancelled before the loop ended is, unless it was not known yet whether it had been done.
      bool cancelled = position->record->cancelled && !position->run->isComparing();
      owner.ended(position->record, std::move(result), stopped && abandoning && !cancelled);
      // Not destroyed here: this continuation belongs to a promise of the run's own.
      tasks.add(kj::evalLater([this, position]() { running.erase(position); }));
    }));
  }

  void remove(std::vector<std::string> names) {
    auto removing = [&spool = context.spool, names]() {
      Status status = okStatus();
      for (auto& name : names) {
        Status removed = spool.removeFile(name);
        if (!removed.ok()) status = removed;
      }
      return status;
    };
    // `this` outlives `tasks`.
    tasks.add(context.threads.quick.run(kj::mv(removing)).then([this, names = std::move(names)](Status status) mutable {
      if (status.ok()) return;
      bool isBusy = status.error().code == ErrorCode::OVERLOADED && !abandoning;
      if (isBusy) return removeLater(std::move(names));
      log::warning("a file of a job that is gone stays until the next start: ", status.error().message.c_str());
    }));
  }

  void removeLater(std::vector<std::string> names) {
    tasks.add(io.provider->getTimer().afterDelay(BUSY_DELAY).then([this, names = std::move(names)]() mutable {
      remove(std::move(names));
    }));
  }

  void taskFailed(kj::Exception&& exception) override {
    log::error("a job's task failed: ", rpc::errorFromException(exception).message.c_str());
  }
};

JobLoop::JobLoop(JobLoopOwner& owner, const ComputeContext& context, std::shared_ptr<Waker> waker)
    : owner(owner), context(context), waker(std::move(waker)) {
  std::promise<void> started;
  thread = std::thread([this, &started]() {
    log::LinesOfKj linesOfKj;
    pthread_setname_np(pthread_self(), "capstan-jobs");
    bool ready = false;
    auto failure = kj::runCatchingExceptions([&]() {
      run([&]() {
        ready = true;
        started.set_value();
      });
    });
    KJ_IF_MAYBE (exception, failure) {
      if (ready) kj::throwFatalException(kj::mv(*exception));
      started.set_exception(std::make_exception_ptr(*exception));
    }
  });
  try {
    started.get_future().get();
  } catch (...) {
    thread.join();
    throw;
  }
}

JobLoop::~JobLoop() noexcept(false) {
  ending = true;
  waker->wake();
  thread.join();
}

void JobLoop::run(std::function<void()> ready) {
  auto io = kj::setupAsyncIo();
  rpc::setUpEventLoop(io.waitScope);
  Loop loop(owner, context, io);
  ready();
  auto& timer = io.provider->getTimer();
  while (true) {
    auto woken = waker->next();
    if (ending) break;
    int64_t delay = std::clamp(loop.turn(), int64_t(0), LONGEST_SLEEP);
    woken.exclusiveJoin(timer.afterDelay(delay * kj::NANOSECONDS)).wait(io.waitScope);
  }
  loop.stopAll().wait(io.waitScope);
}

}  // namespace capstan::server::compute
