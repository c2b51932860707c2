// What the three ways to watch a folder have in common, for the thread that asks them (watch-thread.cpp). Internal to
// the tree watcher.
#pragma once

#include <cerrno>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <kj/io.h>

#include <capstan/base/tree-watcher.h>

namespace capstan {

// The changes since the last call of the sink, each path once. Belongs to the watcher's thread.
class Gathered {
 public:
  void add(TreeChange change);
  void overflow() { changes.overflow = true; }
  bool empty() const { return changes.changes.empty() && !changes.overflow; }
  // It is time to tell what there is, before more is looked at.
  bool full() const { return changes.changes.size() >= 16'384; }
  TreeChanges take();

 private:
  TreeChanges changes;
  std::unordered_map<std::string, size_t> positions;
};

// Where changes come from. Made by whoever starts the watcher, then used and destroyed on its thread; method() and
// isPartial() are thread-safe.
class WatchSource {
 public:
  virtual ~WatchSource() noexcept(false) = default;

  // Becomes readable when there is something to drain; -1: there is no such descriptor.
  virtual int descriptor() const { return -1; }
  // Takes what the kernel has queued. False: there may be more, but what was gathered should be told first.
  virtual bool drain(Gathered& gathered) {
    (void)gathered;
    return true;
  }

  // Whether there is something that has to be looked at now and then; poll() does that.
  virtual bool polls() const { return false; }
  virtual void poll(Gathered& gathered) { (void)gathered; }

  virtual WatchMethod method() const = 0;
  virtual bool isPartial() const { return false; }
};

using OpenedSource = Result<std::unique_ptr<WatchSource>>;

// Each begins to watch. `unsupported`: this method is refused here, another may do.
OpenedSource openFanotify(const TreeWatcher::Options& options);
OpenedSource openInotify(const TreeWatcher::Options& options);
OpenedSource openPolling(const TreeWatcher::Options& options);

// The thread that asks a source, and gives what it tells to the sink.
std::unique_ptr<TreeWatcher> startWatchThread(std::unique_ptr<WatchSource> source, const TreeWatcher::Options& options,
                                              TreeWatcher::Sink sink);

// Opens the folder that is watched. Errors: notFound, notDirectory, denied.
Result<kj::AutoCloseFd> openWatchedFolder(const std::string& folder);

// Opens a folder below for reading, without following any symlink. -1 in it and errno on failure.
kj::AutoCloseFd openFolderBelow(int top, const std::string& path);

// The folders directly in an open one (symlinks are none). False and errno if it cannot be read to its end.
bool readSubfolders(int folder, std::vector<std::string>& names);

// Whether an attempt failed for want of descriptors, memory or luck: what was to be looked at may be there. Takes
// errno.
inline bool isShortage(int error) {
  return error == EMFILE || error == ENFILE || error == ENOMEM || error == EAGAIN || error == EINTR;
}

// Whether `path` lies in a folder that is left out, or is one.
inline bool isLeftOut(const TreeWatcher::Options& options, std::string_view path) {
  return options.leaveOut && options.leaveOut(path);
}

}  // namespace capstan
