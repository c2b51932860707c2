// The mutations of the operations that move no content, and folders that are made writable for the moment.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <capstan/storage/mutation.h>
#include <capstan/sync/plan.h>

namespace capstan::sync {

// Preconditions: no PUT or COPY.
std::unique_ptr<storage::Mutation> mutationOf(const Operation& operation);

// Folders in which their owner may write, for as long as this exists. The constructor and destructor block.
class WritableFolders {
 public:
  WritableFolders(int root, const std::vector<std::string>& folders);
  ~WritableFolders();
  KJ_DISALLOW_COPY(WritableFolders);
  // Whether any had to be changed.
  bool any() const { return !changed.empty(); }

 private:
  struct Changed {
    kj::AutoCloseFd fd;
    mode_t mode;
  };
  std::vector<Changed> changed;
};

}  // namespace capstan::sync
