// The copies in a batch. Copying content takes long, and the committer's thread is everybody's: what is copied is
// staged on the pool before the batch is carried out, as far as it is there then. What it will take is measured before,
// so that it can be counted, and refused where it does not fit.
#pragma once

#include <memory>
#include <vector>

#include <capstan/base/error.h>
#include <capstan/server/files/view.h>
#include <capstan/storage/copy-tree.h>
#include <capstan/storage/mutation.h>

namespace capstan::server::files {

// Shared by the batch and the job that stages; used by one thread at a time.
class BatchCopies {
 public:
  explicit BatchCopies(std::shared_ptr<const View> view) : view(std::move(view)) {}

  // The operation with this number in the batch.
  void add(size_t operation, storage::CopyOptions options);
  bool empty() const { return jobs.empty(); }
  // Keeps the batch's other mutations until moveInto(): what they bring counts with what is copied.
  void keep(std::vector<std::unique_ptr<storage::Mutation>> mutations) { others = std::move(mutations); }
  // How many bytes staging will take at most. Blocks.
  Result<uint64_t> measure();
  // Blocks for about 50 ms. True when all is staged that can be. Error: beingMeasured(); then it is to be called again.
  Result<bool> stageStep();
  // All mutations of the batch, each in its place. Called once.
  std::vector<std::unique_ptr<storage::Mutation>> takeAll();

 private:
  struct Job {
    size_t operation = 0;
    storage::CopyOptions options;
    std::shared_ptr<storage::TreeCopy> staged;
    std::optional<Error> failure = {};
    uint64_t bytes = 0;  // of the source, as it was measured
  };
  // True when it is over. Error: beingMeasured().
  Result<bool> stage(Job& job);
  // Why there is no room for it, or that it is not known yet.
  Status checkQuota(const Job& job);

  const std::shared_ptr<const View> view;
  std::vector<Job> jobs;
  std::vector<std::unique_ptr<storage::Mutation>> others;
  size_t next = 0;
  int64_t growth = 0;  // by the others, and what was staged so far
};

}  // namespace capstan::server::files
