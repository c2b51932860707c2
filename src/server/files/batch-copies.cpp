#include <capstan/server/files/batch-copies.h>

#include <chrono>
#include <utility>

#include <capstan/base/saturating.h>
#include <capstan/server/files/batch-operations.h>
#include <capstan/storage/usage.h>

namespace capstan::server::files {

namespace {

using storage::CopyOptions;
using storage::TreeCopy;

constexpr std::chrono::milliseconds SLICE(50);

// What the operations before it cannot make good.
bool isFinal(const Error& error) {
  return error.code == ErrorCode::NO_SPACE || error.code == ErrorCode::QUOTA || error.code == ErrorCode::IO;
}

}  // namespace

void BatchCopies::add(size_t operation, CopyOptions options) {
  options.modes = view->modes();
  jobs.push_back({operation, std::move(options), nullptr});
}

Result<uint64_t> BatchCopies::measure() {
  const Root& root = view->root();
  for (auto& mutation : others) {
    if (mutation != nullptr) growth = saturatingSum(growth, mutation->growth(root));
  }
  uint64_t sum = 0;
  for (Job& job : jobs) {
    job.bytes = uint64_t(storage::contentAt(root, job.options.from));
    sum = saturatingSum(sum, job.bytes);
  }
  return sum;
}

// A file that takes the place of another brings only the difference.
Status BatchCopies::checkQuota(const Job& job) {
  int64_t replaced = storage::contentAt(view->root(), job.options.to);
  int64_t after = saturatingSum(growth, saturatingSigned(job.bytes) - replaced);
  Status fits = after > 0 ? view->mayGrow(uint64_t(after)) : okStatus();
  if (fits.ok()) growth = after;
  return fits.ok() ? fits : Status(Error{fits.error().code, fits.error().message, job.options.to});
}

Result<bool> BatchCopies::stageStep() {
  auto deadline = std::chrono::steady_clock::now() + SLICE;
  while (next < jobs.size()) {
    auto over = jobs[next].bytes == 0 ? Result<bool>(true) : stage(jobs[next]);  // 0: not there, or not yet
    if (!over.ok()) return over;
    if (*over) ++next;
    if (std::chrono::steady_clock::now() >= deadline) break;
  }
  return next == jobs.size();
}

Result<bool> BatchCopies::stage(Job& job) {
  if (job.staged == nullptr) {
    Status fits = checkQuota(job);
    if (!fits.ok() && storage::isBeingMeasured(fits.error())) return fits.error();
    if (!fits.ok()) {
      job.failure = fits.error();
      return true;
    }
    CopyOptions options = job.options;
    options.maxBytes = job.bytes;  // no more than was counted
    options.flushLater = true;
    job.staged = std::make_shared<TreeCopy>(view->root(), view->staging(), view->disk(), std::move(options));
  }
  auto done = job.staged->step();
  if (done.ok()) return *done;
  job.staged = nullptr;
  if (isFinal(done.error())) job.failure = done.error();
  return true;
}

std::vector<std::unique_ptr<storage::Mutation>> BatchCopies::takeAll() {
  auto mutations = std::exchange(others, {});
  auto room = std::make_shared<uint64_t>(storage::MAX_COPIES_IN_TURN);
  for (Job& job : jobs) {
    mutations[job.operation] = job.failure ? makeFailure(std::move(*job.failure))
                                           : storage::makeCopyFile(std::move(job.options), std::move(job.staged), room);
  }
  jobs.clear();
  return mutations;
}

}  // namespace capstan::server::files
