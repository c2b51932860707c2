// Content on its way in, under the server's own folder and on the same file system as what it will become:
// `staging/<instance>/` for one server process each, held by a lock, and `staging/resume/` for uploads that outlive
// their connection. What is thrown away (staged content, removed folders) is deleted by a thread of its own, so that
// nobody waits for it. What dead servers left behind is swept at open and about hourly.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <kj/io.h>

#include <capstan/base/error.h>
#include <capstan/base/holds.h>
#include <capstan/storage/root.h>

namespace capstan::storage {

class StagedFile;

// Thread-safe. The root must outlive it. Destroying it waits for all Holds, then deletes this server's folder.
class Staging {
 public:
  // `resumeTime`, in nanoseconds: how long what a broken connection has left can be resumed.
  static Result<std::unique_ptr<Staging>> open(const Root& root, uint64_t resumeTime);
  ~Staging() noexcept(false);
  KJ_DISALLOW_COPY(Staging);

  // As long as one exists, the destructor of Staging (and so that of the Root) waits. For jobs on the pool, which go on
  // when nobody waits for them any more.
  Holds::Hold hold();

  // This server's folder. Owned by this object.
  int fd() const;
  // A name in it that nothing has.
  std::string newName();

  // A new, empty file in this server's folder. Blocks.
  Result<std::shared_ptr<StagedFile>> create(mode_t mode = 0600);

  // The file of a resumable upload, with what is in it already. `name` is what resumeNameOf() made. One that this
  // process has open is taken over: the other one's tryUse() fails from then on. One that is being committed, or that
  // another server process has open, is `overloaded`. Blocks.
  Result<std::shared_ptr<StagedFile>> resume(const std::string& name);
  static std::string resumeNameOf(std::string_view grantId, std::string_view path, std::string_view key);
  // The grant's id back; empty for a name of another kind.
  static std::string_view grantOfResumeName(std::string_view name);

  // What there is to be resumed. Blocks.
  struct Resumable {
    std::string name;
    uint64_t bytes = 0;   // on the disk
    bool isOpen = false;  // in this process
  };
  std::vector<Resumable> resumables();
  // Deletes one, unless it is open here or at another server. Blocks.
  void forget(const std::string& name);

  // Moves what is at `name` in `folder` (a file, or a folder with all that is in it) out of sight, to be deleted soon:
  // in one step, and not durable before the folder is flushed. 0, or -1 and errno.
  int throwAway(int folder, const std::string& name);
  // The same for what is in this server's folder already.
  void deleteSoon(std::string name);

  // What a new file gets: 0666 less the umask that the process had at open.
  mode_t newFileMode() const;
  // What create() makes of a mode: less the umask.
  mode_t modeAtCreation(mode_t mode) const;

  // Deletes now what dead servers left and resumable uploads past their time. Called at open, and hourly by the thread.
  void sweep();
  // Blocks until everything that was to be deleted is gone. For tests.
  void finishDeleting();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl;

  explicit Staging(std::unique_ptr<Impl> impl);
  friend class StagedFile;
};

}  // namespace capstan::storage
