// Copies one file's content into a new file: shares blocks where the file system can, keeps holes, and goes in slices,
// so that a large one can be stopped and lets others have their turn.
#pragma once

#include <cstdint>
#include <string>

#include <kj/io.h>

#include <capstan/base/error.h>

namespace capstan::storage {

// Owned by one thread at a time. Blocks.
class FileCopy {
 public:
  // `to` is empty and open for writing. `path` is what errors call the file.
  FileCopy(kj::AutoCloseFd from, kj::AutoCloseFd to, std::string path);

  // Goes on for about 16 MiB; true when the copy is whole.
  Result<bool> step();

  int from() const { return source; }
  int to() const { return target; }

 private:
  Result<bool> copyRange(uint64_t end);
  Result<bool> copyByHand(uint64_t count);
  Error failed() const;

  kj::AutoCloseFd source;
  kj::AutoCloseFd target;
  std::string path;
  uint64_t size = 0;
  uint64_t position = 0;
  uint64_t dataEnd = 0;  // where the hole begins that follows; asking for it takes long in some file systems
  bool begun = false;
  bool byHand = false;
};

}  // namespace capstan::storage
