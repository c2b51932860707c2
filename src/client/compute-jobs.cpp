// Jobs, as compute-calls.h has them: submitting, and everything that finds a job by its id.
#include <capstan/base/digest.h>
#include <capstan/client/calls.h>
#include <capstan/client/compute-calls.h>
#include <capstan/client/compute-input.h>
#include <capstan/client/compute-wire.h>
#include <capstan/client/server-id.h>
#include <capstan/rpc/entry-wire.h>

namespace capstan::client {

namespace {

constexpr size_t KEY_BYTES = 16;

// A submit under way. The key stays the same on each connection that is tried, so that the job is the same too.
class Submission {
 public:
  Submission(Computation computation, JobSettings settings)
      : computation(std::move(computation)), settings(std::move(settings)), key(randomBytes(KEY_BYTES)) {}

  kj::Promise<Result<std::string>> send(Connection& connection) {
    const ComputeInput* input = nullptr;
    if (auto sorting = std::get_if<Sorting>(&computation)) input = &sorting->input;
    if (auto reducing = std::get_if<Reducing>(&computation)) input = &reducing->input;
    if (input == nullptr) return submit(connection, nullptr);
    return sendInput(connection, *input)
        .then([this, &connection](Result<SentInput>&& sent) -> kj::Promise<Result<std::string>> {
          if (!sent.ok()) return Result<std::string>(std::move(sent).error());
          auto promise = submit(connection, &*sent);
          return promise.attach(kj::mv(*sent));
        });
  }

  Repeat repeat() const { return originOf(computation)->repeat(); }

 private:
  const Computation computation;
  const JobSettings settings;
  const std::string key;

  kj::Promise<Result<std::string>> submit(Connection& connection, SentInput* sent) {
    auto request = connection.compute().submitRequest();
    fill(request.initTask(), connection, sent);
    request.setIdempotencyKey(rpc::asData(key));
    return request.send().then([](capnp::Response<schema::Compute::SubmitResults>&& response) -> Result<std::string> {
      KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
        return kj::mv(*error);
      }
      std::string id(response.getId().cStr(), response.getId().size());
      if (!isServerId(id)) return noServerId("job");
      return id;
    });
  }

  void fill(schema::Task::Builder task, Connection& connection, SentInput* sent) const {
    task.setLabel(settings.label.c_str());
    if (auto addition = std::get_if<Addition>(&computation)) {
      auto operands = task.initAdd(addition->numbers.size());
      for (size_t i = 0; i < addition->numbers.size(); ++i) writeNumber(operands[i], addition->numbers[i]);
    } else if (auto sorting = std::get_if<Sorting>(&computation)) {
      auto sort = task.initSort();
      sent->fill(sort.initInput());
      writeSortOptions(sort.initOptions(), sorting->settings);
    } else {
      auto reduce = task.initReduce();
      sent->fill(reduce.initReduced());
      reduce.setOperation(schema::Reduction(std::get<Reducing>(computation).reduction));
    }
    if (!settings.path) return;
    auto file = task.initOutput().initFile();
    file.setStore(connection.fileStore());
    file.setPath(rpc::asData(*settings.path));
    writeUploadOptions(file.initOptions(), settings.upload);
    file.setEncoding(schema::Encoding(settings.encoding));
  }
};

schema::Job::Client findJob(Connection& connection, const std::string& id) {
  auto find = connection.compute().findRequest();
  find.setId(id.c_str());
  return find.send().getJob();
}

// The status in an answer, or its error.
template <typename Response>
Result<JobStatus> statusIn(Response&& response) {
  KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
    return kj::mv(*error);
  }
  JobStatus status = readJobStatus(response.getStatus());
  if (!isServerId(status.id)) return noServerId("job");
  return status;
}

// Between a watch, which may end at any time, and the listener, which the peer may hold for longer.
struct Watch final : public kj::Refcounted {
  std::function<void(const JobStatus&)> onReport;
};

class Listener final : public schema::JobListener::Server {
 public:
  explicit Listener(kj::Own<Watch> watch) : watch(kj::mv(watch)) {}

  kj::Promise<void> report(ReportContext context) override {
    JobStatus status = readJobStatus(context.getParams().getStatus());
    if (watch->onReport && isServerId(status.id)) watch->onReport(status);
    return kj::READY_NOW;
  }

 private:
  kj::Own<Watch> watch;
};

struct JobPage {
  std::vector<JobStatus> jobs;
  std::string cursor;
  bool atEnd = false;
};

kj::Promise<Result<JobPage>> listPage(Links& links, std::string cursor) {
  return links.run<JobPage>(Repeat::YES, [cursor = std::move(cursor)](Connection& connection) {
    auto request = connection.compute().listRequest();
    request.setCursor(rpc::asData(cursor));
    return request.send().then([&cursor](capnp::Response<schema::Compute::ListResults>&& response) -> Result<JobPage> {
      KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
        return kj::mv(*error);
      }
      JobPage page;
      for (auto job : response.getJobs()) {
        page.jobs.push_back(readJobStatus(job));
        if (!isServerId(page.jobs.back().id)) return noServerId("job");
      }
      page.cursor = rpc::asView(response.getCursor());
      page.atEnd = response.getAtEnd();
      if (!page.atEnd && page.cursor == cursor)
        return Error{ErrorCode::IO, "the server does not go on with the list of jobs", {}};
      return page;
    });
  });
}

kj::Promise<Status> listFrom(Links& links, std::string cursor, std::function<void(JobStatus&&)>& onJob) {
  return listPage(links, std::move(cursor)).then([&links, &onJob](Result<JobPage>&& page) -> kj::Promise<Status> {
    if (!page.ok()) return Status(std::move(page).error());
    for (JobStatus& job : page->jobs) onJob(std::move(job));
    if (page->atEnd) return okStatus();
    return listFrom(links, std::move(page->cursor), onJob);
  });
}

}  // namespace

kj::Promise<Result<std::string>> submitJob(Links& links, Computation computation, JobSettings settings) {
  auto submission = kj::heap<Submission>(std::move(computation), std::move(settings));
  Submission& s = *submission;
  auto promise = links.run<std::string>(s.repeat(), [&s](Connection& connection) { return s.send(connection); });
  return promise.attach(kj::mv(submission));
}

kj::Promise<Result<JobStatus>> jobStatus(Links& links, std::string id) {
  return links.run<JobStatus>(Repeat::YES, [id = std::move(id)](Connection& connection) {
    return findJob(connection, id)
        .statusRequest()
        .send()
        .then([](capnp::Response<schema::Job::StatusResults>&& response) { return statusIn(response); });
  });
}

kj::Promise<Status> listJobs(Links& links, std::function<void(JobStatus&&)> onJob) {
  auto held = kj::heap<std::function<void(JobStatus &&)>>(std::move(onJob));
  auto promise = listFrom(links, {}, *held);
  return promise.attach(kj::mv(held));
}

kj::Promise<Result<JobStatus>> waitForJob(Links& links, std::string id, kj::Maybe<kj::TimePoint> deadline) {
  return links.run<JobStatus>(
      Repeat::YES, [&links, id = std::move(id), deadline](Connection& connection) -> kj::Promise<Result<JobStatus>> {
        auto request = findJob(connection, id).waitRequest();
        KJ_IF_MAYBE (d, deadline) {
          int64_t left = (*d - links.clock().now()) / kj::NANOSECONDS;
          // 0 would mean for ever.
          request.setTimeout(left > 0 ? left : 1);
        }
        return request.send().then(
            [](capnp::Response<schema::Job::WaitResults>&& response) { return statusIn(response); });
      });
}

kj::Promise<Result<JobStatus>> watchJob(Links& links, std::string id, std::function<void(const JobStatus&)> onReport) {
  auto watch = kj::refcounted<Watch>();
  watch->onReport = [&links, onReport = std::move(onReport)](const JobStatus& status) {
    links.progressed();
    onReport(status);
  };
  Watch& w = *watch;
  auto call = [&w, id = std::move(id)](Connection& connection) {
    auto request = findJob(connection, id).watchRequest();
    request.setListener(kj::heap<Listener>(kj::addRef(w)));
    return request.send().then(
        [](capnp::Response<schema::Job::WatchResults>&& response) { return statusIn(response); });
  };
  auto detach = kj::defer([watch = kj::mv(watch)]() mutable { watch->onReport = nullptr; });
  return links.run<JobStatus>(Repeat::YES, kj::mv(call)).attach(kj::mv(detach));
}

kj::Promise<Result<JobStatus>> cancelJob(Links& links, std::string id) {
  return links.run<JobStatus>(Repeat::YES, [id = std::move(id)](Connection& connection) {
    return findJob(connection, id)
        .cancelRequest()
        .send()
        .then([](capnp::Response<schema::Job::CancelResults>&& response) { return statusIn(response); });
  });
}

kj::Promise<Status> forgetJob(Links& links, std::string id) {
  return links.run<Unit>(Repeat::NO, [id = std::move(id)](Connection& connection) {
    return findJob(connection, id)
        .forgetRequest()
        .send()
        .then([](capnp::Response<schema::Job::ForgetResults>&& response) -> Status {
          KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
            return kj::mv(*error);
          }
          return okStatus();
        });
  });
}

}  // namespace capstan::client
