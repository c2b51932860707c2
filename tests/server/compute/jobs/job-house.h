// All that jobs need, in a temporary folder: a served folder, a compute folder, pools, and an event loop for those who
// ask. The jobs can be ended and opened again, as by another server.
#pragma once

#include <gtest/gtest.h>
#include <kj/async-io.h>

#include <memory>
#include <string>
#include <vector>

#include "../../files/served.h"

#include <capstan/server/compute/jobs/job-record.h>
#include <capstan/server/compute/jobs/jobs.h>
#include <capstan/server/compute/jobs/stored-job.h>

namespace capstan::server::compute {

// What a job's status says, as plain data.
struct SeenStatus {
  std::optional<Error> error;  // of the call
  JobState state = JobState::UNSET;
  std::string id;
  std::string label;
  JobKind kind = JobKind::UNSET;
  int64_t submitted = 0, started = 0, ended = 0, expires = 0;
  uint64_t workDone = 0, workTotal = 0;
  ContentInfo result;
  ErrorCode failure = ErrorCode::UNSET;
  std::string failureMessage;
  std::string output;
  uint32_t starts = 0;
};

inline SeenStatus seen(schema::JobStatus::Reader from) {
  SeenStatus to;
  to.state = JobState(from.getState());
  to.id = from.getId().cStr();
  to.label = from.getLabel().cStr();
  to.kind = JobKind(from.getKind());
  to.submitted = from.getSubmitted();
  to.started = from.getStarted();
  to.ended = from.getEnded();
  to.expires = from.getExpires();
  to.workDone = from.getWorkDone();
  to.workTotal = from.getWorkTotal();
  to.result = {ElementType(from.getResult().getType()), Encoding(from.getResult().getEncoding()),
               from.getResult().getCount(), from.getResult().getBytes(), from.getResult().getSingle()};
  to.failure = ErrorCode(from.getError().getCode());
  to.failureMessage = from.getError().getMessage().cStr();
  to.output = std::string(rpc::asView(from.getOutput()));
  to.starts = from.getStarts();
  return to;
}

template <typename Response>
SeenStatus seenIn(Response&& response) {
  SeenStatus result = seen(response.getStatus());
  KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) result.error = *error;
  return result;
}

inline StoredTask addTask(std::vector<int64_t> numbers) {
  StoredTask task;
  task.kind = JobKind::ADD;
  for (int64_t number : numbers) task.operands.push_back(Number(number));
  return task;
}
inline StoredTask taskOn(JobKind kind, StoredOperand operand) {
  StoredTask task;
  task.kind = kind;
  task.operands.push_back(std::move(operand));
  return task;
}
inline StoredOperand intLines(std::string lines) { return InlineContent{ElementType::INT, Encoding::LINES, lines}; }

// The bytes of content.
inline std::string bytesOf(const Content& content) {
  std::string bytes(size_t(content.info().bytes), '\0');
  auto size = content.readAt(0, bytes.data(), bytes.size());
  KJ_REQUIRE(size.ok() && *size == bytes.size());
  return bytes;
}

struct JobHouse {
  kj::AsyncIoContext io = kj::setupAsyncIo();
  kj::WaitScope& waitScope = io.waitScope;
  const std::string root;
  const std::string computeFolder;
  BlockingPool filePool{{2, 256}};
  BlockingPool quick{{2, 4096}};
  BlockingPool bulk{{2, 4096}};
  std::unique_ptr<files::ServedFolder> folder;
  std::unique_ptr<Spool> spool;
  std::unique_ptr<ComputeContext> context;
  std::unique_ptr<Jobs> jobs;

  explicit JobHouse(const std::string& root, ComputeLimits limits = {}, std::string computeAt = {})
      : root(root), computeFolder(computeAt.empty() ? root + "/.capstan/compute" : computeAt) {
    auto served = files::ServedFolder::open({root, 1 << 20}, filePool);
    KJ_REQUIRE(served.ok(), served.error().message.c_str());
    folder = std::move(*served);
    std::filesystem::create_directories(computeFolder);
    auto opened = Spool::open(computeFolder);
    KJ_REQUIRE(opened.ok(), opened.error().message.c_str());
    spool = std::move(*opened);
    context.reset(new ComputeContext{{quick, bulk}, *spool, *folder, limits});
    open();
  }

  ~JobHouse() noexcept {}  // as fixtures of GoogleTest have to be

  void open(JournalOptions options = {}) {
    auto result = Jobs::open(computeFolder, *context, options);
    KJ_REQUIRE(result.ok(), result.error().message.c_str());
    jobs = std::move(*result);
  }
  void reopen(ComputeLimits limits = {}) {
    jobs = nullptr;
    context.reset(new ComputeContext{{quick, bulk}, *spool, *folder, limits});
    open();
  }

  using Submitted = Result<std::shared_ptr<JobRecord>>;
  Submitted trySubmit(StoredTask task, std::string key = {}, std::string grant = "owner") {
    return jobs->submit(std::move(grant), std::move(task), std::move(key)).wait(waitScope);
  }
  std::shared_ptr<JobRecord> submit(StoredTask task, std::string key = {}) {
    auto record = trySubmit(std::move(task), std::move(key));
    KJ_REQUIRE(record.ok(), record.error().message.c_str());
    return *record;
  }
  std::shared_ptr<JobRecord> find(const std::string& id) {
    auto record = jobs->find("owner", id);
    KJ_REQUIRE(record.ok(), record.error().message.c_str());
    return *record;
  }
  ErrorCode findError(const std::string& id) {
    auto record = jobs->find("owner", id);
    return record.ok() ? ErrorCode::UNSET : record.error().code;
  }

  std::shared_ptr<const Content> got;  // by the last result()
  std::optional<Error> refusal;        // of whoever asks for results
  schema::Job::Client job(std::shared_ptr<JobRecord> record) {
    Jobs::NewValue newValue;
    newValue.refusal = [this]() { return refusal; };
    newValue.make = [this](std::shared_ptr<const Content> content) {
      got = std::move(content);
      return rpc::failed<schema::Value>({ErrorCode::UNSUPPORTED, "not a real one", {}});
    };
    return jobs->newJob(Access::ofOwner(kj::refcounted<ConnectionScope>()), std::move(record), io.provider->getTimer(),
                        std::move(newValue));
  }

  SeenStatus status(std::shared_ptr<JobRecord> record) {
    return seenIn(job(std::move(record)).statusRequest().send().wait(waitScope));
  }
  SeenStatus wait(std::shared_ptr<JobRecord> record) {
    return seenIn(job(std::move(record)).waitRequest().send().wait(waitScope));
  }
  SeenStatus cancel(std::shared_ptr<JobRecord> record) {
    return seenIn(job(std::move(record)).cancelRequest().send().wait(waitScope));
  }
  // The bytes of the result, or the error in words.
  std::string result(std::shared_ptr<JobRecord> record, ErrorCode* code = nullptr) {
    auto response = job(std::move(record)).resultRequest().send().wait(waitScope);
    KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
      if (code != nullptr) *code = error->code;
      return error->message;
    }
    return bytesOf(*got);
  }
  ErrorCode forget(std::shared_ptr<JobRecord> record) {
    auto response = job(std::move(record)).forgetRequest().send().wait(waitScope);
    return files::codeIn(response.getOutcome());
  }

  // Turns the loop until `done` answers true.
  template <typename Func>
  void turnUntil(Func&& done) {
    while (!done()) {
      waitScope.poll();
      sched_yield();
    }
  }

  // A sum of an input file that is five bytes large.
  StoredTask inputTask() {
    std::string name = jobs->newInputName();
    KJ_REQUIRE((*spool->newFile(name, nullptr))->append("5\n20\n").ok());
    return taskOn(JobKind::SUM, InputFile{name, {ElementType::INT, Encoding::LINES, 2, 5, false}});
  }
  ServedInput served(const std::string& path, ElementType type, Encoding encoding) {
    auto held = folder->hold(path);
    KJ_REQUIRE(held.ok(), held.error().message.c_str());
    auto version = folder->versionOf(*held);
    return ServedInput{path, *version, type, encoding};
  }
  // A sum that takes minutes, unless it is stopped: over a file that has no blocks.
  StoredTask endlessTask() {
    std::string path = root + "/endless";
    if (!std::filesystem::exists(path)) std::ofstream(path).flush();
    std::filesystem::resize_file(path, 1ull << 40);
    return taskOn(JobKind::SUM, served("endless", ElementType::INT, Encoding::BINARY));
  }
  std::vector<std::string> spoolNames() {
    auto names = spool->names();
    KJ_REQUIRE(names.ok());
    std::vector<std::string> own;
    for (auto& name : *names) {
      if (!name.starts_with("journal.db")) own.push_back(name);
    }
    return own;
  }
};

}  // namespace capstan::server::compute
