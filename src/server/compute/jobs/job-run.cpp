#include <capstan/server/compute/jobs/job-run.h>

#include <capstan/base/log.h>
#include <capstan/rpc/outcome.h>
#include <capstan/server/compute/jobs/job-placing.h>

namespace capstan::server::compute {

namespace {

// Until a pool is asked again whose queue was full.
constexpr kj::Duration BUSY_DELAY = 100 * kj::MILLISECONDS;

}  // namespace

JobRun::JobRun(const ComputeContext& context, kj::Timer& timer, schema::FileStore::Client store,
               std::shared_ptr<JobRecord> record, std::shared_ptr<const StoredTask> task, Note note)
    : context(context),
      timer(timer),
      store(kj::mv(store)),
      record(std::move(record)),
      task(std::move(task)),
      note(std::move(note)),
      comparing(!this->record->progress().placing.digest.empty()) {}

// A job that has not begun on its pool may wait there for long: it is claimed by whoever comes first, the thread that
// is to run it or stop(). `this` outlives the promise.
template <typename Func>
auto JobRun::onPool(BlockingPool& pool, Func job) -> kj::Promise<decltype(job())> {
  using R = decltype(job());
  if (record->work.cancelled()) return R(cancelledError());
  auto mine = std::make_shared<std::atomic<bool>>(false);
  claim = mine;
  auto begin = [mine, job]() -> R {
    if (mine->exchange(true)) return cancelledError();
    return job();
  };
  return pool.run(kj::mv(begin)).then([this, mine, &pool, job](R result) mutable -> kj::Promise<R> {
    claim = nullptr;
    bool refused = !result.ok() && result.error().code == ErrorCode::OVERLOADED && !mine->load();
    if (!refused) return kj::mv(result);
    return timer.afterDelay(BUSY_DELAY).then([this, &pool, job]() { return onPool(pool, job); });
  });
}

kj::Promise<Result<JobResult>> JobRun::run() {
  auto before = record->progress();
  // `this` outlives the promise.
  auto work = kj::evalNow([&]() { return before.placing.digest.empty() ? open() : findPlaced(std::move(before)); });
  auto ended = stopped.promise.then([]() { return Result<JobResult>(cancelledError()); });
  return work.catch_([](kj::Exception&& exception) { return Result<JobResult>(rpc::errorFromException(exception)); })
      .exclusiveJoin(kj::mv(ended));
}

void JobRun::cancel() {
  if (!comparing) abandon();
}

void JobRun::abandon() {
  record->work.stop.store(true);
  if (placing) return;
  bool hasBegun = claim != nullptr && claim->exchange(true);
  if (!hasBegun) stopped.fulfiller->fulfill();
}

// A server died over this job, maybe after the file was placed: then it is done, and is not placed twice.
JobRun::Running JobRun::findPlaced(JobProgress before) {
  auto& pool = before.placing.size <= QUICK_BYTES ? context.threads.quick : context.threads.bulk;
  auto compare = [&context = context, record = record, task = task, placing = before.placing]() {
    return isPlaced(*task->output, placing, context, record->work);
  };
  return onPool(pool, kj::mv(compare)).then([this, before = std::move(before)](Result<bool> placed) mutable -> Running {
    if (!placed.ok()) return findPlacedLater(std::move(before), placed.error());
    comparing = false;
    if (!*placed && record->cancelled) return Result<JobResult>(cancelledError());
    if (*placed) return Result<JobResult>(JobResult{before.result, std::nullopt, nullptr});
    return open();
  });
}

// To run the job without knowing could place its file twice, over what somebody made of it.
JobRun::Running JobRun::findPlacedLater(JobProgress before, const Error& reason) {
  if (record->cancelled || reason.code == ErrorCode::CANCELLED) return Result<JobResult>(reason);
  if (!warned) {
    log::warning("it cannot be told whether the job ", record->origin.id.c_str(),
                 " has stored its result, and is looked at again: ", reason.message.c_str());
  }
  warned = true;
  return timer.afterDelay(BUSY_DELAY).then([this, before = std::move(before)]() mutable {
    return findPlaced(std::move(before));
  });
}

JobRun::Running JobRun::open() {
  // Shared, since what is given to a pool may be asked for twice.
  auto opening = [&context = context, task = task]() -> Result<std::shared_ptr<std::unique_ptr<OpenedTask>>> {
    auto opened = openTask(*task, context);
    if (!opened.ok()) return opened.error();
    return std::make_shared<std::unique_ptr<OpenedTask>>(std::move(*opened));
  };
  return onPool(context.threads.quick, kj::mv(opening)).then([this](auto opened) -> Running {
    if (!opened.ok()) return Result<JobResult>(opened.error());
    return compute(std::move(**opened));
  });
}

JobRun::Running JobRun::compute(std::unique_ptr<OpenedTask> opened) {
  auto& pool = opened->isShort ? context.threads.quick : context.threads.bulk;
  auto computing = [&context = context, task = task, record = record,
                    opened = std::shared_ptr<OpenedTask>(std::move(opened))]() {
    return runTask(*task, *opened, record->origin.id, context, record->work);
  };
  return onPool(pool, kj::mv(computing)).then([this](Result<JobResult> result) -> Running {
    if (!result.ok() || !task->output) return kj::mv(result);
    return place(std::move(*result));
  });
}

JobRun::Running JobRun::place(JobResult result) {
  if (record->work.cancelled()) return Result<JobResult>(cancelledError());
  auto noteFirst = [this, info = result.info](Placing what) {
    return note(std::move(what), info).then([this](Status noted) -> Status {
      if (noted.ok() && record->work.cancelled()) return cancelledError();
      placing = noted.ok();
      return noted;
    });
  };
  auto content = std::move(result.content);
  auto& pool = content->info().bytes <= QUICK_BYTES ? context.threads.quick : context.threads.bulk;
  return placeContent(pool, store, *task->output, std::move(content), noteFirst)
      .then([info = result.info](Status placed) -> Result<JobResult> {
        if (!placed.ok()) return placed.error();
        return JobResult{info, std::nullopt, nullptr};
      });
}

}  // namespace capstan::server::compute
