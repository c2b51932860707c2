// One file in staging: the content of an upload, or of a put, before it is in its place.
#pragma once

#include <sys/stat.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>

#include <kj/io.h>

#include <capstan/storage/staging.h>

namespace capstan::storage {

// Shared by the upload, its jobs on the pool and its commit. Deletes the file when it is dropped, unless the file was
// renamed away, or is to be kept for resuming. Thread-safe as each method says.
class StagedFile {
 public:
  enum class Kind { TEMPORARY, RESUMABLE };

  // `folder` must outlive it: it is Staging's own, or `holder` holds it.
  StagedFile(Staging& staging, int folder, std::string name, kj::AutoCloseFd fd, Kind kind,
             std::shared_ptr<const void> holder = nullptr);
  ~StagedFile();
  KJ_DISALLOW_COPY(StagedFile);

  // Constant. What a rename starts from.
  int folder() const { return folderFd; }
  const std::string& name() const { return fileName; }
  Staging& owner() const { return staging; }

  // The right to use the descriptor, until it is destroyed: one at a time.
  using Use = std::unique_lock<std::mutex>;
  // Fails (cancelled) if another upload with the same key has taken over. Blocks while another thread uses it.
  Result<Use> tryUse();

  // For reading and writing; only under a Use, or by its only owner. -1 after closeFd() or renamedAway().
  int fd() const { return file.get(); }
  // For content that is written whole: keeps 1,000 puts in flight from holding 1,000 descriptors.
  void closeFd() { file = nullptr; }
  // After the content had to be copied into a new file of the same name.
  void replaceFd(kj::AutoCloseFd fd);

  // While it is being committed it cannot be taken over. To be called under a Use, and at the end of the commit.
  void beginCommit();
  void endCommit();

  // The name is not ours any more: it has been renamed to its place. Closes the descriptor, so that the file does not
  // seem to be open for writing.
  void renamedAway();
  // Throws the content away, also if it is resumable. Under a Use, or by its only owner.
  void discard();

 private:
  friend class Staging;
  // True when nobody uses it any more and nobody will; false if somebody stores or commits it and goes on with that.
  bool giveUp();

  Staging& staging;
  Holds::Hold hold;
  const std::shared_ptr<const void> holder;
  const int folderFd;
  const std::string fileName;
  std::mutex mutex;
  std::condition_variable committed;
  // protected by mutex where several threads may have it
  kj::AutoCloseFd file;
  const Kind kind;
  bool ours = true;
  bool committing = false;
  bool takenOver = false;
};

}  // namespace capstan::storage
