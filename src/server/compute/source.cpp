#include <capstan/server/compute/source.h>

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <utility>

#include <capstan/base/file.h>

namespace capstan::server::compute {
namespace {

class FileSource final : public Source {
 public:
  FileSource(int fd, std::shared_ptr<const void> owner) : fd(fd), owner(std::move(owner)) {
    if (fstat(fd, &before) < 0) statError = errno;
    posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);  // only advice: that it fails does not matter
  }

  Result<size_t> read(char* to, size_t size) override {
    if (statError) return errorFromErrno(statError, "cannot read", name);
    ssize_t n = readAt(fd, to, size, offset);
    if (n < 0) return errorFromErrno(errno, "cannot read", name);
    offset += uint64_t(n);
    // Not only at the end: a file that is appended to faster than it is read would have none.
    if (offset > expectedSize()) return changed();
    if (n == 0) return atEnd();
    return size_t(n);
  }

  uint64_t expectedSize() const override { return statError ? 0 : uint64_t(before.st_size); }

 private:
  const int fd;
  const std::shared_ptr<const void> owner;
  struct stat before = {};
  int statError = 0;
  uint64_t offset = 0;

  Result<size_t> atEnd() {
    struct stat now;
    if (fstat(fd, &now) < 0) return errorFromErrno(errno, "cannot read", name);
    bool same = offset == expectedSize() && now.st_size == before.st_size &&
                now.st_mtim.tv_sec == before.st_mtim.tv_sec && now.st_mtim.tv_nsec == before.st_mtim.tv_nsec;
    if (!same) return changed();
    return size_t(0);
  }

  Error changed() const {
    return errorAt(ErrorCode::CHANGED, name.empty() ? std::string_view("the file") : std::string_view(name), "",
                   " was changed while it was read; try again when nothing writes to it");
  }
};

class ContentSource final : public Source {
 public:
  explicit ContentSource(std::shared_ptr<const Content> contentParam) : content(std::move(contentParam)) {
    type = content->info().type;
    encoding = content->info().encoding;
  }

  Result<size_t> read(char* to, size_t size) override {
    Result<size_t> read = content->readAt(offset, to, size);
    if (read.ok()) offset += *read;
    return read;
  }

  uint64_t expectedSize() const override { return content->info().bytes; }

 private:
  const std::shared_ptr<const Content> content;
  uint64_t offset = 0;
};

}  // namespace

std::unique_ptr<Source> sourceOfFile(int fd, std::shared_ptr<const void> owner, std::string name, ElementType type,
                                     Encoding encoding) {
  auto source = std::make_unique<FileSource>(fd, std::move(owner));
  source->name = std::move(name);
  source->type = type;
  source->encoding = encoding == Encoding::UNSET ? Encoding::LINES : encoding;
  return source;
}

std::unique_ptr<Source> sourceOfContent(std::shared_ptr<const Content> content) {
  return std::make_unique<ContentSource>(std::move(content));
}

}  // namespace capstan::server::compute
