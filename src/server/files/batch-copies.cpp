#include <capstan/server/files/batch-copies.h>

#include <algorithm>
#include <chrono>

#include <capstan/server/files/batch-operations.h>

namespace capstan::server::files {

namespace {

using storage::CopyOptions;
using storage::TreeCopy;

constexpr std::chrono::milliseconds SLICE(50);

// Without a version only the turn tells what it is that is copied.
bool isKnown(const CopyOptions& options) { return options.fromExpectation.kind == Expectation::Kind::VERSION; }

// What the operations before it cannot make good.
bool isFinal(const Error& error) {
  return error.code == ErrorCode::NO_SPACE || error.code == ErrorCode::QUOTA || error.code == ErrorCode::IO;
}

}  // namespace

void BatchCopies::add(size_t operation, CopyOptions options) {
  jobs.push_back({operation, std::move(options), nullptr});
}

bool BatchCopies::canStage() const {
  return std::any_of(jobs.begin(), jobs.end(), [](const Job& job) { return isKnown(job.options); });
}

Result<bool> BatchCopies::stageStep() {
  auto deadline = std::chrono::steady_clock::now() + SLICE;
  while (next < jobs.size()) {
    if (!isKnown(jobs[next].options) || stage(jobs[next])) ++next;
    if (std::chrono::steady_clock::now() >= deadline) break;
  }
  return next == jobs.size();
}

bool BatchCopies::stage(Job& job) {
  if (job.staged == nullptr) {
    CopyOptions options = job.options;
    options.flushLater = true;
    job.staged = std::make_shared<TreeCopy>(view->root(), view->staging(), view->disk(), std::move(options));
  }
  auto done = job.staged->step();
  if (done.ok()) return *done;
  job.staged = nullptr;
  if (isFinal(done.error())) job.failure = done.error();
  return true;
}

void BatchCopies::moveInto(std::vector<std::unique_ptr<storage::Mutation>>& mutations) {
  for (Job& job : jobs) {
    mutations[job.operation] = job.failure ? makeFailure(std::move(*job.failure))
                                           : storage::makeCopyFile(std::move(job.options), std::move(job.staged));
  }
  jobs.clear();
}

}  // namespace capstan::server::files
