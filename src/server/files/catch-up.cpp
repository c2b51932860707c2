#include <capstan/server/files/catch-up.h>

#include <utility>

#include <capstan/server/files/folder-state.h>
#include <capstan/server/files/noticing.h>

namespace capstan::server::files {

class CatchUps::Turn {
 public:
  explicit Turn(CatchUps& all) : all(&all) {}
  Turn(Turn&& other) noexcept : all(std::exchange(other.all, nullptr)) {}
  ~Turn() {
    if (all == nullptr) return;
    std::vector<Fulfiller> left;
    {
      std::lock_guard lock(all->mutex);
      all->isServed = false;
      std::swap(left, all->waiting);
    }
    for (auto& each : left) each->fulfill(nullptr);
  }

  void serve(FolderState& folder) {
    all->serve(folder);
    all = nullptr;
  }

 private:
  CatchUps* all;
};

kj::Promise<Result<uint64_t>> CatchUps::join(FolderState& folder) {
  auto paf = kj::newPromiseAndCrossThreadFulfiller<Answer>();
  bool isFirst;
  {
    std::lock_guard lock(mutex);
    waiting.push_back(kj::mv(paf.fulfiller));
    isFirst = !std::exchange(isServed, true);
  }
  auto answer = paf.promise.then([this, &folder](Answer found) -> kj::Promise<Result<uint64_t>> {
    KJ_IF_MAYBE (end, found) {
      return kj::mv(*end);
    }
    return join(folder);
  });
  if (!isFirst) return answer;
  auto job = folder.runAtOnce([&folder, turn = Turn(*this)]() mutable -> Status {
    turn.serve(folder);
    return okStatus();
  });
  return job.then([answer = kj::mv(answer)](Status status) mutable -> kj::Promise<Result<uint64_t>> {
    if (!status.ok()) return Result<uint64_t>(status.error());
    return kj::mv(answer);
  });
}

// None when all have been answered, and the next who comes is the first again.
std::vector<CatchUps::Fulfiller> CatchUps::take() {
  std::vector<Fulfiller> taken;
  std::lock_guard lock(mutex);
  std::swap(taken, waiting);
  isServed = !taken.empty();
  return taken;
}

void CatchUps::serve(FolderState& folder) {
  for (auto taken = take(); !taken.empty(); taken = take()) {
    Status status = folder.noticing->catchUp();
    uint64_t end = folder.noticing->journal.end();
    for (auto& each : taken) each->fulfill(status.ok() ? Result<uint64_t>(end) : Result<uint64_t>(status.error()));
  }
}

}  // namespace capstan::server::files
