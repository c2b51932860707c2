// What the committer carries out: one change to the tree, under an expectation. Internal to the committer and the kinds
// of mutation.
#pragma once

#include <sys/stat.h>

#include <kj/io.h>

#include <capstan/base/entry.h>
#include <capstan/base/error.h>
#include <capstan/storage/committer.h>
#include <capstan/storage/disk.h>
#include <capstan/storage/modes.h>
#include <capstan/storage/root.h>
#include <capstan/storage/staging.h>

namespace capstan::storage {

// What a mutation works with, on the committer's thread.
class Round {
 public:
  const Root& root;
  Staging& staging;
  Disk& disk;
  // What takes in what is displaced, instead of its being deleted; null: nothing does. Another one for each mutation.
  Run* run = nullptr;
  // What whoever asked may set.
  ModeMask modes;

  // The folder (or file) that the descriptor stands for was changed: it is flushed before the mutation is answered.
  virtual void touch(kj::AutoCloseFd fd) = 0;
  // A change that no descriptor for fsync() can be had of: the whole file system of `fd` is flushed.
  virtual void touchFileSystemOf(kj::AutoCloseFd fd) = 0;
  // The tree is another one now: what Committer::onApplied() tells.
  virtual void applied(Committer::Applied change) = 0;

 protected:
  Round(const Root& root, Staging& staging, Disk& disk) : root(root), staging(staging), disk(disk) {}
  ~Round() = default;
};

// Made on any thread, used and destroyed on the committer's. The methods block, and are called in the order in which
// they stand here.
class Mutation {
 public:
  virtual ~Mutation() noexcept(false) = default;

  // Last changes to what is staged, before it is flushed. Answers whether there is something to flush.
  virtual bool prepare(Round& round) {
    (void)round;
    return false;
  }
  // Makes what is staged durable by itself; not called when the whole file system was flushed instead.
  virtual Status flushContent(Round& round) {
    (void)round;
    return okStatus();
  }
  // Carries it out, in one step for everyone who looks at the tree, and names to the round what it touched. Answers
  // what is at the path now. After an error nothing is changed.
  virtual Result<Entry> apply(Round& round) = 0;

  // What has to be known for growth() and takes long to find: goes on with it for so many things at most, which it
  // takes from the budget; true when all is known. To be called before all others, on any thread; blocks, save where
  // the budget is 0.
  virtual bool measure(size_t& budget) {
    (void)budget;
    return true;
  }
  // By how many bytes of files' content the tree grows by it, as far as that can be told before; negative: it shrinks.
  // Where that would take long it says 0 rather than less. May be called before all others too, on any thread; blocks.
  virtual int64_t growth(const Root& root) const {
    (void)root;
    return 0;
  }

  // After apply() and the flush of what it touched; `ok`: it is durable.
  virtual void finish(bool ok) { (void)ok; }
};

}  // namespace capstan::storage
