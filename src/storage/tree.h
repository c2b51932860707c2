// A folder whose changes are kept: the parts of src/storage put together. What a server serves is one, and so is the
// local folder of a synchroniser that changes it.
#pragma once

#include <memory>

#include <capstan/storage/committer.h>
#include <capstan/storage/disk.h>
#include <capstan/storage/root.h>
#include <capstan/storage/staging.h>
#include <capstan/storage/trash.h>

namespace capstan::storage {

struct TreeOptions {
  std::string folder;
  uint64_t resumeTime = 24ull * 3600 * 1'000'000'000;  // nanoseconds; how long interrupted uploads can be resumed
  TrashLimits trash;
};

// Thread-safe as its parts are.
struct Tree {
  // Makes the state folder if it is missing, sweeps what dead processes left, and what is too old in the trash.
  static Result<std::unique_ptr<Tree>> open(TreeOptions options);

  // In the order of construction; destroyed in reverse.
  std::unique_ptr<Root> root;
  std::unique_ptr<Disk> disk;
  std::unique_ptr<Staging> staging;
  std::unique_ptr<Trash> trash;
  std::unique_ptr<Committer> committer;
};

}  // namespace capstan::storage
