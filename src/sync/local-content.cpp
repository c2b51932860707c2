#include <capstan/sync/local-content.h>

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

#include <kj/array.h>

#include <capstan/base/digest.h>
#include <capstan/base/file.h>
#include <capstan/storage/extents.h>
#include <capstan/storage/version.h>
#include <capstan/sync/cut.h>
#include <capstan/sync/local-folder.h>

namespace capstan::sync {

namespace {

Error changed(const std::string& path) {
  return errorAt(ErrorCode::CHANGED, path, "", " was changed meanwhile; it is left for the next time");
}

class LocalContent final : public Content {
 public:
  LocalContent(BlockingPool& pool, std::shared_ptr<LocalFile> file) : pool(pool), file(std::move(file)) {}
  ~LocalContent() noexcept(false) override { cancelled->store(true); }

  const Node& node() const override { return file->node; }
  int fd() const override { return file->fd.get(); }

  kj::Promise<Status> read(uint64_t offset, char* buffer, size_t size) override {
    // The job has memory of its own: it goes on when its promise, and so the buffer, is gone.
    struct Read {
      kj::Array<char> bytes;
    };
    auto job = [file = file, offset, size]() -> Result<std::shared_ptr<Read>> {
      auto read = std::make_shared<Read>(Read{kj::heapArray<char>(size)});
      ssize_t got = readAt(file->fd, read->bytes.begin(), size, offset);
      if (got < 0) return errorFromErrno(errno, "cannot read", file->path);
      if (size_t(got) != size) return changed(file->path);
      return read;
    };
    return pool.run(std::move(job)).then([buffer](Result<std::shared_ptr<Read>> read) -> Status {
      if (!read.ok()) return read.error();
      memcpy(buffer, (*read)->bytes.begin(), (*read)->bytes.size());
      return okStatus();
    });
  }

  kj::Promise<Result<Extent>> extentAt(uint64_t offset) override {
    uint64_t size = file->node.size;
    if (!file->sparse || offset >= size) return Result<Extent>(Extent{size - std::min(offset, size), false});
    return pool.run([file = file, offset, size]() -> Result<Extent> {
      auto extent = storage::extentAt(file->fd, offset, size);
      if (extent.hole > 0) return Extent{extent.hole, true};
      return Extent{extent.dataEnd - offset, false};
    });
  }

  kj::Promise<Result<Cut>> cut(std::vector<Chunk> known) override {
    return pool.run([file = file, known = std::move(known), cancelled = cancelled]() {
      return cutFile(file->fd, file->node.size, known, file->path, cancelled.get());
    });
  }

  kj::Promise<Status> checkUnchanged() override {
    return pool.run([file = file]() { return file->checkUnchanged(); });
  }

 private:
  BlockingPool& pool;
  const std::shared_ptr<LocalFile> file;
  const std::shared_ptr<std::atomic<bool>> cancelled = std::make_shared<std::atomic<bool>>(false);
};

}  // namespace

Status LocalFile::checkUnchanged() const {
  struct stat status;
  if (fstat(fd, &status) < 0) return errorFromErrno(errno, "cannot look at", path);
  if (storage::versionOf(status) == node.stamp) return okStatus();
  return changed(path);
}

Result<std::shared_ptr<LocalFile>> openLocalFile(const std::string& folder, const std::string& path,
                                                 const Node& expected) {
  auto root = openLocalFolder(folder);
  if (!root.ok()) return root.error();
  auto file = std::make_shared<LocalFile>();
  file->path = path;
  file->fd = openBelow(*root, path, O_RDONLY);
  if (file->fd.get() < 0) {
    if (saysAbsent(errno)) return changed(path);
    return errorFromErrno(errno, "cannot read", path);
  }
  struct stat status;
  if (fstat(file->fd, &status) < 0) return errorFromErrno(errno, "cannot look at", path);
  if (!S_ISREG(status.st_mode)) return changed(path);
  // Before anything is read: what changes from now on gets another stamp if this one is settled.
  file->node = nodeFrom(status, storage::isSettled(status));
  if (!expected.stamp.empty() && expected.stamp != file->node.stamp) return changed(path);
  if (expected.settled && !expected.stamp.empty()) file->node.digest = expected.digest;
  file->sparse = storage::mayHaveHoles(status);
  return file;
}

Result<Replica::Fetched> fetchLocalFile(const std::string& folder, const std::string& path, const Node& expected) {
  auto file = openLocalFile(folder, path, expected);
  if (!file.ok()) return file.error();
  LocalFile& opened = **file;
  Replica::Fetched fetched;
  if (opened.node.size > SMALL_FILE_BYTES) return changed(path);
  fetched.bytes.resize(opened.node.size);
  ssize_t got = readAt(opened.fd, fetched.bytes.data(), fetched.bytes.size(), 0);
  if (got < 0) return errorFromErrno(errno, "cannot read", path);
  if (size_t(got) != fetched.bytes.size()) return changed(path);
  Status same = opened.checkUnchanged();
  if (!same.ok()) return same.error();
  fetched.node = opened.node;
  fetched.node.digest = digestOf(DigestAlgorithm::XXH3, fetched.bytes);
  return fetched;
}

Result<std::string> digestOfLocalFile(const std::string& folder, const std::string& path,
                                      const std::atomic<bool>& cancelled) {
  auto file = openLocalFile(folder, path, {});
  if (!file.ok()) return file.error();
  auto digest = digestOfFile((*file)->fd, (*file)->node.size, path, &cancelled);
  if (!digest.ok()) return digest;
  Status same = (*file)->checkUnchanged();
  if (!same.ok()) return same.error();
  return digest;
}

kj::Own<Content> newLocalContent(BlockingPool& pool, std::shared_ptr<LocalFile> file) {
  return kj::heap<LocalContent>(pool, std::move(file));
}

}  // namespace capstan::sync
