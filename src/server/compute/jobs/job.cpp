#include <capstan/server/compute/jobs/job.h>

#include <algorithm>
#include <tuple>

#include <capstan/rpc/compat.h>
#include <capstan/rpc/outcome.h>
#include <capstan/server/compute/jobs/job-work.h>

namespace capstan::server::compute {

namespace {

constexpr kj::Duration REPORT_INTERVAL = 100 * kj::MILLISECONDS;
// kj's clock counts in 64 bits too: what would run over it is as good as never.
constexpr uint64_t LONGEST_WAIT = 100ull * 365 * 24 * 3600 * 1'000'000'000;

std::string_view nameOf(JobState state) {
  switch (state) {
    case JobState::DONE: return "done";
    case JobState::FAILED: return "failed";
    case JobState::CANCELLED: return "cancelled";
    case JobState::RUNNING: return "running";
    default: return "queued";
  }
}

Error endedError(const JobRecord& record) {
  return {ErrorCode::CONFLICT,
          "the job " + record.origin.id + " cannot be cancelled: it has ended already, and is " +
              std::string(nameOf(record.progress().state)),
          {}};
}

// Reports to one listener until the job has ended. Belongs to its connection's loop; keeps itself alive by its promise.
class Watch final : public kj::Refcounted {
 public:
  Watch(std::shared_ptr<JobRecord> record, kj::Timer& timer, schema::JobListener::Client listener)
      : record(std::move(record)), timer(timer), listener(kj::mv(listener)) {}

  kj::Promise<void> next() {
    bool ended = record->ended();
    auto now = seen();
    if (reported && now == last) {
      if (ended) return kj::READY_NOW;
      return pause();
    }
    last = now;
    reported = true;
    auto request = listener.reportRequest();
    fillJobStatus(request.initStatus(), *record);
    return request.send().ignoreResult().then([self = kj::addRef(*this), ended]() mutable -> kj::Promise<void> {
      if (ended) return kj::READY_NOW;
      return self->pause();
    });
  }

 private:
  using Seen = std::tuple<JobState, uint32_t, uint64_t, uint64_t>;

  const std::shared_ptr<JobRecord> record;
  kj::Timer& timer;
  schema::JobListener::Client listener;
  Seen last;
  bool reported = false;

  Seen seen() const {
    auto progress = record->progress();
    auto& work = record->work;
    return {progress.state, progress.starts, work.done.load(std::memory_order_relaxed),
            work.total.load(std::memory_order_relaxed)};
  }

  kj::Promise<void> pause() {
    // The end waits for its turn too: no more than ten reports a second.
    return timer.afterDelay(REPORT_INTERVAL).then([self = kj::addRef(*this)]() mutable { return self->next(); });
  }
};

}  // namespace

JobServer::JobServer(kj::Own<Access> access, JobControl& control, std::shared_ptr<JobRecord> record, kj::Timer& timer,
                     Jobs::NewValue newValue)
    : Guarded(kj::mv(access)),
      control(control),
      record(std::move(record)),
      timer(timer),
      newValue(std::move(newValue)) {}

template <typename Context>
void JobServer::answerStatus(Context& context) {
  if (auto error = control.gone(*record)) {
    rpc::setError(context.getResults().initOutcome(), *error);
  } else {
    fillJobStatus(context.getResults().initStatus(), *record);
  }
}

kj::Promise<void> JobServer::status(StatusContext context) {
  answerStatus(context);
  return kj::READY_NOW;
}

kj::Promise<void> JobServer::wait(WaitContext context) {
  rpc::allowCancellation(context);
  uint64_t timeout = context.getParams().getTimeout();
  auto over = record->whenEnded();
  if (timeout > 0) {
    over = over.exclusiveJoin(timer.afterDelay(int64_t(std::min(timeout, LONGEST_WAIT)) * kj::NANOSECONDS));
  }
  return over.then([this, context]() mutable {
    answerStatus(context);
    // As the status says, not as it is a moment later.
    auto results = context.getResults();
    results.setEnded(hasEnded(JobState(results.getStatus().getState())));
  });
}

kj::Promise<void> JobServer::watch(WatchContext context) {
  rpc::allowCancellation(context);
  if (control.gone(*record)) {
    answerStatus(context);
    return kj::READY_NOW;
  }
  auto watch = kj::refcounted<Watch>(record, timer, context.getParams().getListener());
  auto watching = watch->next();
  return watching.then([this, context]() mutable { answerStatus(context); },
                       [context](kj::Exception&& exception) mutable {
                         // The caller's listener is no business of the connection's.
                         auto error = rpc::errorFromException(exception);
                         error.message = "the listener failed: " + error.message;
                         rpc::setError(context.getResults().initOutcome(), error);
                       });
}

kj::Promise<void> JobServer::cancel(CancelContext context) {
  if (auto error = control.gone(*record)) {
    rpc::setError(context.getResults().initOutcome(), *error);
    return kj::READY_NOW;
  }
  control.cancel(record);
  return record->whenEnded().then([this, context]() mutable {
    answerStatus(context);
    bool cancelled = record->progress().state == JobState::CANCELLED;
    if (!cancelled && !control.gone(*record)) rpc::setError(context.getResults().initOutcome(), endedError(*record));
  });
}

kj::Promise<Result<std::shared_ptr<const Content>>> JobServer::content() {
  using Answer = Result<std::shared_ptr<const Content>>;
  if (auto error = control.gone(*record)) return Answer(*error);
  auto progress = record->progress();
  if (progress.state == JobState::FAILED) return Answer(progress.error);
  if (progress.state == JobState::CANCELLED) {
    return Answer(Error{ErrorCode::CANCELLED, "the job " + record->origin.id + " was cancelled", {}});
  }
  if (record->origin.output) {
    return Answer(errorAt(ErrorCode::UNSUPPORTED, *record->origin.output, "the result of the job was stored as ",
                          "; read that file"));
  }
  if (auto refused = newValue.refusal()) return Answer(*refused);
  auto& compute = control.computeContext();
  return compute.threads.quick
      .run([&spool = compute.spool, id = record->origin.id, progress]() { return keptResult(id, progress, spool); })
      .then([this](Answer content) -> Answer {
        // Forgotten while it was being opened.
        bool missing = !content.ok() && content.error().code == ErrorCode::NOT_FOUND;
        if (missing) return expiredJobError(record->origin.id, control.computeContext().limits.jobResultTime);
        return content;
      });
}

kj::Promise<void> JobServer::result(ResultContext context) {
  rpc::allowCancellation(context);
  // `this` lives as long as the call.
  return record->whenEnded().then([this]() { return content(); }).then([this, context](auto content) mutable {
    auto results = context.getResults();
    // Others may have come between, while it was being opened.
    auto refused = content.ok() ? newValue.refusal() : content.error();
    if (!refused) {
      results.setValue(newValue.make(std::move(*content)));
    } else {
      rpc::setError(results.initOutcome(), *refused);
      results.setValue(rpc::failed<schema::Value>(*refused));
    }
  });
}

kj::Promise<void> JobServer::forget(ForgetContext context) {
  return control.forget(record).then([context](Status status) mutable { rpc::answer(context.getResults(), status); });
}

}  // namespace capstan::server::compute
