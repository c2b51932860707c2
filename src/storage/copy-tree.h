// A copy at the server: built in staging, in slices on the pool, then put into its place in one step.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <capstan/base/entry.h>
#include <capstan/storage/file-copy.h>
#include <capstan/storage/mutation.h>
#include <capstan/storage/replace.h>

namespace capstan::storage {

struct CopyOptions {
  std::string from;
  std::string to;
  Expectation fromExpectation;
  Expectation toExpectation;
  bool makeParents = false;
  Attributes attributes = {};      // of the copy of a file or symlink, where it is not to have the source's
  bool noFolders = false;          // a folder is isDirectory
  ModeMask modes = {};             // of what comes with the source too
  uint64_t maxBytes = UINT64_MAX;  // of a file: a larger one is a `conflict`, it was smaller when this was decided
  bool flushLater = false;  // a small file is not made durable by itself: whoever places it flushes many together
};

// Used by one thread at a time; its methods block. Keeps Staging (and with it the Root) alive. Dropped before it is in
// its place, it deletes what is staged.
class TreeCopy {
 public:
  TreeCopy(const Root& root, Staging& staging, Disk& disk, CopyOptions options);
  ~TreeCopy();
  KJ_DISALLOW_COPY(TreeCopy);

  // Goes on for about 50 ms. True when all is staged and durable there; then call makePlaceCopy().
  Result<bool> step();

  // What was staged counts against a quota, with the whole of the file that is under way.
  uint64_t contentBytes() const { return content; }
  // Whether what was copied is what was looked at now.
  bool isOf(const struct stat& now) const { return isSameFile(top, now) && versionOf(top) == versionOf(now); }

  // What CopyOptions::flushLater has left to be done.
  bool isToBeFlushed() const { return unflushed; }
  Status flush();

 private:
  friend class CopyPlacement;

  // A folder of the tree, by its path below the top; "" is the top.
  struct Folder {
    std::string path;
    struct stat status;
  };

  Status begin();
  Status beginFile(const Root::Place& place);
  Status copySymlink(int fromFolder, const std::string& from, int toFolder, const std::string& to,
                     const struct stat& status) const;
  Result<bool> advance();
  Result<bool> finishFile();
  Status nextFolder();
  Status nextEntry();
  Status finishFolder();
  Status checkSource() const;
  Error failed(const std::string& path) const;
  std::string shown(const std::string& name) const;

  const Root& root;
  Staging& staging;
  Holds::Hold hold;
  Disk& disk;
  const CopyOptions options;
  const std::string stagedName;
  bool begun = false;
  bool staged = false;  // something is at stagedName
  bool placed = false;
  uint64_t content = 0;
  bool unflushed = false;
  bool together = false;    // one syncfs() at the end instead of many fsync()
  kj::AutoCloseFd flushFd;  // for it; of our own, so that it tells of each error since, whoever else asks

  struct stat top {};              // the source, when the copy began
  kj::AutoCloseFd source;          // the source, or its top folder
  std::unique_ptr<FileCopy> file;  // the file under way
  struct stat fileStatus {};

  // The folders of the tree, each after the one that it is in: copied in this order, finished in the reverse one.
  std::vector<Folder> folders;
  size_t next = 0;        // folder to be listed next
  size_t unfinished = 0;  // folders that have not got their mode and time yet
  kj::AutoCloseFd fromFolder, toFolder;
  std::vector<std::string> names;  // of the folder under way, still to be copied
};

std::unique_ptr<Mutation> makePlaceCopy(std::shared_ptr<TreeCopy> copy);

// A file of at most so many bytes is copied while everybody waits, and so many by one batch.
inline constexpr uint64_t MAX_COPY_IN_TURN = 1 << 20;
inline constexpr uint64_t MAX_COPIES_IN_TURN = 16 << 20;

// The whole of it in one mutation, for one file or symlink in a batch: what is copied is what the mutations before have
// left. If that is what was staged already (or null), it is placed. Else it is copied now, and others wait meanwhile:
// only what is small, and as long as there is `room` for it, which all copies of a batch share; else it is a conflict.
std::unique_ptr<Mutation> makeCopyFile(CopyOptions options, std::shared_ptr<TreeCopy> staged,
                                       std::shared_ptr<uint64_t> room);

}  // namespace capstan::storage
