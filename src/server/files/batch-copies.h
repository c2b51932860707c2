// The copies in a batch. Copying content takes long, and the committer's thread is everybody's: where the version of
// what is copied is known, it is staged on the pool before the batch is carried out.
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
  // Whether there is something that can be staged.
  bool canStage() const;
  // Blocks for about 50 ms. True when all is staged that can be.
  Result<bool> stageStep();
  // Puts a mutation for each in its place in the batch.
  void moveInto(std::vector<std::unique_ptr<storage::Mutation>>& mutations);

 private:
  struct Job {
    size_t operation = 0;
    storage::CopyOptions options;
    std::shared_ptr<storage::TreeCopy> staged;
    std::optional<Error> failure = {};
  };
  // True when it is over.
  bool stage(Job& job);

  const std::shared_ptr<const View> view;
  std::vector<Job> jobs;
  size_t next = 0;
};

}  // namespace capstan::server::files
