#include <capstan/storage/staged-file.h>

#include <sys/file.h>
#include <unistd.h>

#include <chrono>
#include <thread>

namespace capstan::storage {

namespace {

// How long one who takes over waits for a job or a commit that is under way, on a thread of the pool that others need.
// After that it hears `overloaded`, and comes again later.
constexpr std::chrono::milliseconds PATIENCE(200);

}  // namespace

StagedFile::StagedFile(Staging& staging, int folder, std::string name, kj::AutoCloseFd fd, Kind kind,
                       std::shared_ptr<const void> holder)
    : staging(staging),
      hold(staging.hold()),
      holder(std::move(holder)),
      folderFd(folder),
      fileName(std::move(name)),
      file(kj::mv(fd)),
      kind(kind) {}

StagedFile::~StagedFile() {
  if (kind == Kind::TEMPORARY) discard();
}

void StagedFile::discard() {
  if (!ours) return;
  ours = false;
  file = nullptr;
  if (folderFd == staging.fd()) {
    staging.deleteSoon(fileName);
  } else {
    staging.throwAway(folderFd, fileName);
  }
}

Result<StagedFile::Use> StagedFile::tryUse() {
  Use use(mutex);
  if (takenOver) {
    return Error{ErrorCode::CANCELLED, "this upload was taken over by a later one with the same resume key", {}};
  }
  return Result<Use>(std::move(use));
}

void StagedFile::beginCommit() { committing = true; }

void StagedFile::endCommit() {
  {
    std::lock_guard lock(mutex);
    committing = false;
  }
  committed.notify_all();
}

void StagedFile::renamedAway() {
  ours = false;
  file = nullptr;
}

void StagedFile::replaceFd(kj::AutoCloseFd fd) {
  file = nullptr;  // with its lock
  file = kj::mv(fd);
  if (kind == Kind::RESUMABLE) flock(file, LOCK_EX | LOCK_NB);
}

bool StagedFile::giveUp() {
  auto deadline = std::chrono::steady_clock::now() + PATIENCE;
  Use use(mutex, std::try_to_lock);
  while (!use.owns_lock()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (use.try_lock()) break;
  }
  if (!committed.wait_for(use, PATIENCE, [this] { return !committing; })) return false;
  takenOver = true;
  ours = false;    // the file is the other's now
  file = nullptr;  // and with it goes the lock
  return true;
}

}  // namespace capstan::storage
