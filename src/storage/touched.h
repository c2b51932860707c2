// The folders that a round of the committer changed and has to flush, each once.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include <kj/io.h>

#include <capstan/base/error.h>
#include <capstan/storage/disk.h>

namespace capstan::storage {

// Belongs to one thread.
class Touched {
 public:
  // `anyFd` is a descriptor on the file system of the served folder; `trusted`: syncfs() may be used on it.
  Touched(Disk& disk, int anyFd, bool trusted);

  // Answers a number by which statusOf() is asked later.
  size_t add(kj::AutoCloseFd fd, bool wholeFileSystem);

  // Flushes everything added since the last time: with one syncfs() where that is cheaper. Closes the descriptors.
  void flush();
  // Whether so many descriptors are held that it has to be flushed now.
  bool isFull() const { return !trusted && waiting.size() >= MAX_HELD; }

  // How the last flush of it ended; 0 or an errno.
  int errorOf(size_t number) const { return errors[number]; }

 private:
  static constexpr size_t MAX_HELD = 256;

  struct Waiting {
    kj::AutoCloseFd fd;
    bool wholeFileSystem;
    bool sameFileSystem;
    size_t number;
  };
  struct Key {
    uint64_t device, inode;
    bool wholeFileSystem;
    auto operator<=>(const Key&) const = default;
  };

  Disk& disk;
  const int anyFd;
  const bool trusted;
  uint64_t device = 0;
  std::vector<Waiting> waiting;
  std::map<Key, size_t> numbers;  // of those waiting
  std::vector<int> errors;
  std::optional<size_t> rest;  // stands for all beyond those held, which one syncfs() is to cover
};

// So many flushes of single files or folders cost more than one of the whole file system does. Measured on ext4 (virtio
// disk): fsync of n small new files takes 0.19, 0.6, 1.2, 5.2, 146 ms for n = 1, 4, 8, 32, 1,000; syncfs 0.20, 0.24,
// 0.29, 0.6, 6.5 ms. It pays from 2 on where nobody else writes; the threshold is higher because syncfs also waits for
// what others have written.
inline constexpr size_t SYNCFS_THRESHOLD = 8;

}  // namespace capstan::storage
