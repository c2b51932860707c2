// Carries out a list of operations at the server: in batches and uploads, as few as keep the order where it matters.
#pragma once

#include <set>

#include <capstan/sync/remote-batch.h>
#include <capstan/sync/remote-place.h>
#include <capstan/sync/remote-stamps.h>
#include <capstan/sync/replica.h>

namespace capstan::sync {

// Belongs to one event loop; run() once. All that it is given must outlive its promise, save the operations.
class RemoteApply {
 public:
  // `onDone` is called for what has succeeded. `makeRoot`: the folder itself is missing.
  RemoteApply(const RemotePlace& place, std::vector<Operation> operations, Replica& from,
              const Replica::ApplyOptions& options, RemoteStamps& stamps, bool makeRoot,
              std::function<void(const Operation&, const Replica::Done&)> onDone);
  KJ_DISALLOW_COPY(RemoteApply);

  kj::Promise<Outcomes> run();

 private:
  const RemotePlace& place;
  std::vector<Operation> operations;
  Replica& from;
  const Replica::ApplyOptions options;
  RemoteStamps& stamps;
  bool makeRoot;
  std::optional<uint32_t> rootMode;
  std::function<void(const Operation&, const Replica::Done&)> onDone;

  Outcomes outcomes;
  std::deque<Operation> removals;  // of folders that large files come to stand for
  std::deque<Result<Replica::Done>> removalOutcomes;
  size_t next = 0;              // the first operation that is in no stretch yet
  std::vector<size_t> batched;  // of the stretch that is under way
  std::vector<size_t> uploads;
  std::set<std::string> uploadPaths;
  std::set<std::string> touched;  // stamps that will be others after the batch
  size_t nextUpload = 0;

  kj::Promise<void> askForRootMode();
  kj::Promise<void> nextStretch();
  bool fits(const Operation& operation) const;
  void enter(size_t index, RemoteBatch& batch);
  kj::Promise<void> upload();
  kj::Promise<void> fallBack();
  void settle(size_t index);
};

}  // namespace capstan::sync
