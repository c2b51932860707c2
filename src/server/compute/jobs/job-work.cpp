#include <capstan/server/compute/jobs/job-work.h>

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include <kj/common.h>

#include <capstan/base/digest.h>
#include <capstan/base/file.h>
#include <capstan/server/compute/reduce.h>
#include <capstan/server/compute/sort/sort.h>
#include <capstan/server/compute/source.h>

namespace capstan::server::compute {

namespace {

// A result may be a little larger than what it is made of: a newline at its end, a number instead of nothing.
constexpr uint64_t RESULT_SLACK = 64;
// Read at a time when comparing: about 1 ms of work between two looks at Work::stop.
constexpr size_t COMPARE_CHUNK_BYTES = 1 << 20;

using ContentResult = Result<std::shared_ptr<const Content>>;

ContentResult contentOf(const InlineContent& from, const Spool& spool) {
  ContentWriter writer(from.type, from.encoding, spool, nullptr);
  Status status = writer.append(from.bytes);
  if (!status.ok()) return status.error();
  return writer.finish();
}

ContentResult contentOf(const InputFile& from, const Spool& spool) {
  auto file = spool.openFile(from.name);
  if (!file.ok()) return file.error();
  return Content::ofFile(from.info, std::move(*file));
}

Result<std::unique_ptr<Source>> openServed(const ServedInput& from, files::ServedFolder& folder) {
  auto held = folder.hold(from.path, from.top);
  if (!held.ok()) return held.error();
  auto version = folder.versionOf(*held);
  if (!version.ok()) return version.error();
  if (*version != from.version) {
    return errorAt(ErrorCode::CHANGED, from.path, "",
                   " is not what it was when the job was submitted any more; submit the job again");
  }
  return sourceOfFile(held->fd, held->owner, from.path, from.type, from.encoding);
}

Result<std::unique_ptr<Source>> openOperand(const StoredOperand& operand, const ComputeContext& context) {
  if (auto served = std::get_if<ServedInput>(&operand)) return openServed(*served, context.folder);
  ContentResult content = cancelledError();
  if (auto number = std::get_if<Number>(&operand)) {
    content = Content::ofNumber(*number);
  } else if (auto given = std::get_if<InlineContent>(&operand)) {
    content = contentOf(*given, context.spool);
  } else {
    content = contentOf(std::get<InputFile>(operand), context.spool);
  }
  if (!content.ok()) return content.error();
  return sourceOfContent(std::move(*content));
}

Result<Number> numberOf(const StoredOperand& operand, const ComputeContext& context) {
  if (auto number = std::get_if<Number>(&operand)) return *number;
  if (auto given = std::get_if<InlineContent>(&operand)) {
    auto content = contentOf(*given, context.spool);
    return content.ok() ? (*content)->number() : content.error();
  }
  if (auto file = std::get_if<InputFile>(&operand)) {
    auto content = contentOf(*file, context.spool);
    return content.ok() ? (*content)->number() : content.error();
  }
  return Error{ErrorCode::INVALID_ARGUMENT, "a file is no number that could be added; use its sum", {}};
}

Reduction reductionOf(JobKind kind) {
  switch (kind) {
    case JobKind::SUM: return Reduction::SUM;
    case JobKind::MIN: return Reduction::MIN;
    case JobKind::MAX: return Reduction::MAX;
    case JobKind::COUNT: return Reduction::COUNT;
    default: return Reduction::UNSET;
  }
}

ContentResult ofNumber(const Result<Number>& number) {
  if (!number.ok()) return number.error();
  return Content::ofNumber(*number);
}

// A sort needs room for its runs and for its result, each as large as the input.
std::shared_ptr<SpoolAccount> newAccount(const ComputeLimits& limits) {
  uint64_t most;
  if (__builtin_mul_overflow(limits.jobResultBytes, uint64_t(2), &most)) most = UINT64_MAX;
  return std::make_shared<SpoolAccount>(most);
}

Result<std::string> bytesOf(const Content& content) {
  std::string bytes(size_t(content.info().bytes), '\0');
  auto size = content.readAt(0, bytes.data(), bytes.size());
  if (!size.ok()) return size.error();
  bytes.resize(*size);
  return bytes;
}

ContentResult sortTask(const StoredTask& task, OpenedTask& opened, const std::string& id, const ComputeContext& context,
                       Work& work) {
  Workspace workspace{context.spool, newAccount(context.limits), nullptr};
  bool isSmall = opened.source->expectedSize() + RESULT_SLACK <= JOURNALED_RESULT_BYTES;
  if (!task.output && !isSmall) {
    auto file = context.spool.newFile(resultFileOf(id), workspace.account);
    if (!file.ok()) return file.error();
    workspace.result = std::move(*file);
  }
  return sortElements(*opened.source, task.sort, std::move(workspace), work);
}

// Content that is in memory, or in a file without a name, gets into the named one.
Status copyToResultFile(const Content& content, const std::string& id, const Spool& spool, const Work& work) {
  auto file = spool.newFile(resultFileOf(id), nullptr);
  if (!file.ok()) return file.error();
  std::string chunk(COMPARE_CHUNK_BYTES, '\0');
  for (uint64_t offset = 0; offset < content.info().bytes;) {
    if (work.cancelled()) return cancelledError();
    auto size = content.readAt(offset, chunk.data(), chunk.size());
    if (!size.ok()) return size.error();
    if (*size == 0) return Error{ErrorCode::IO, "a result ends before its size", {}};
    Status status = (*file)->append({chunk.data(), *size});
    if (!status.ok()) return status;
    offset += *size;
  }
  return okStatus();
}

Status makeDurable(const std::string& id, const Spool& spool) {
  auto file = spool.openFile(resultFileOf(id));
  if (!file.ok()) return file.error();
  Status status = (*file)->flush();
  return status.ok() ? spool.flushFolder() : status;
}

Status checkQuota(const ContentInfo& info, const ComputeLimits& limits) {
  if (info.bytes <= limits.jobResultBytes) return okStatus();
  return Error{ErrorCode::QUOTA,
               "the result has " + std::to_string(info.bytes) + " bytes, and no more than " +
                   std::to_string(limits.jobResultBytes) + " are kept; store it as a file instead",
               {}};
}

Result<JobResult> keep(const Content& content, const std::string& id, const ComputeContext& context, const Work& work) {
  JobResult result{content.info(), std::nullopt, nullptr};
  Status status = checkQuota(result.info, context.limits);
  if (!status.ok()) return status.error();
  if (content.inMemory() && result.info.bytes <= JOURNALED_RESULT_BYTES) {
    auto bytes = bytesOf(content);
    if (!bytes.ok()) return bytes.error();
    result.bytes = std::move(*bytes);
    // It may have been made for a result that was expected to be larger.
    status = context.spool.removeFile(resultFileOf(id));
  } else {
    if (content.inMemory()) status = context.spool.removeFile(resultFileOf(id));
    if (status.ok() && content.inMemory()) status = copyToResultFile(content, id, context.spool, work);
    if (status.ok()) status = makeDurable(id, context.spool);
  }
  if (!status.ok()) return status.error();
  return result;
}

}  // namespace

Result<std::unique_ptr<OpenedTask>> openTask(const StoredTask& task, const ComputeContext& context) {
  auto opened = std::make_unique<OpenedTask>();
  if (task.kind == JobKind::ADD) {
    for (auto& operand : task.operands) {
      auto number = numberOf(operand, context);
      if (!number.ok()) return number.error();
      opened->numbers.push_back(*number);
    }
    opened->isShort = true;
    return opened;
  }
  auto source = openOperand(task.operands.at(0), context);
  if (!source.ok()) return source.error();
  opened->isShort = (*source)->expectedSize() <= QUICK_BYTES;
  opened->source = std::move(*source);
  return opened;
}

Result<JobResult> runTask(const StoredTask& task, OpenedTask& opened, const std::string& id,
                          const ComputeContext& context, Work& work) {
  // A server that died may have left a part of it.
  Status removed = context.spool.removeFile(resultFileOf(id));
  if (!removed.ok()) return removed.error();
  auto compute = [&]() -> ContentResult {
    switch (task.kind) {
      case JobKind::ADD: return ofNumber(addNumbers(opened.numbers));
      case JobKind::SORT: return sortTask(task, opened, id, context, work);
      default: return ofNumber(reduceElements(*opened.source, reductionOf(task.kind), work));
    }
  };
  auto content = compute();
  if (content.ok() && task.output) return JobResult{(*content)->info(), std::nullopt, *content};
  Result<JobResult> result = content.ok() ? keep(**content, id, context, work) : content.error();
  if (!result.ok()) (void)context.spool.removeFile(resultFileOf(id));  // its own error would hide the reason
  return result;
}

namespace {

// Anything else may be so for a moment, with the file there.
bool saysThatNoFileIsThere(ErrorCode code) {
  switch (code) {
    case ErrorCode::NOT_FOUND:
    case ErrorCode::NOT_DIRECTORY:
    case ErrorCode::IS_DIRECTORY:
    case ErrorCode::INVALID_PATH:
    case ErrorCode::UNSUPPORTED: return true;  // no plain file
    default: return false;
  }
}

// The folder of an open file that is still there; none if that cannot be told.
kj::AutoCloseFd folderOf(int fd) {
  char path[PATH_MAX + 1];
  std::string link = "/proc/self/fd/" + std::to_string(fd);
  ssize_t size = readlink(link.c_str(), path, sizeof(path));
  if (size <= 0 || size_t(size) == sizeof(path)) return {};
  std::string_view file(path, size_t(size));
  size_t slash = file.rfind('/');
  if (slash == std::string_view::npos) return {};
  kj::AutoCloseFd folder(open(std::string(file.substr(0, slash + 1)).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct stat opened {
  }, named{};
  bool isThere = folder.get() >= 0 && fstat(fd, &opened) == 0 &&
                 fstatat(folder, std::string(file.substr(slash + 1)).c_str(), &named, AT_SYMLINK_NOFOLLOW) == 0 &&
                 opened.st_ino == named.st_ino && opened.st_dev == named.st_dev;
  return isThere ? kj::mv(folder) : kj::AutoCloseFd();
}

// False and errno on failure. Not all of the file system, if that can be helped: that may take minutes.
bool flushWithFolder(int fd) {
  auto folder = folderOf(fd);
  if (folder.get() < 0) return syncfs(fd) == 0;
  return fsync(fd) == 0 && fsync(folder) == 0;
}

}  // namespace

Result<bool> isPlaced(const StoredOutput& output, const Placing& placing, const ComputeContext& context, Work& work) {
  const std::string& path = output.path;
  auto held = context.folder.hold(path, output.top);
  if (!held.ok()) {
    if (saysThatNoFileIsThere(held.error().code)) return false;
    return held.error();
  }
  struct stat status {};
  if (fstat(held->fd, &status) < 0) return errorFromErrno(errno, "cannot look at", path);
  if (uint64_t(status.st_size) != placing.size) return false;
  Hasher hasher(DigestAlgorithm::XXH3);
  std::string chunk(COMPARE_CHUNK_BYTES, '\0');
  for (uint64_t offset = 0; offset < placing.size;) {
    if (work.cancelled()) return cancelledError();
    ssize_t size = readAt(held->fd, chunk.data(), chunk.size(), offset);
    if (size < 0) return errorFromErrno(errno, "cannot read", path);
    if (size == 0) return false;
    hasher.update({chunk.data(), size_t(size)});
    offset += uint64_t(size);
  }
  if (hasher.digest() != placing.digest) return false;
  // The server may have died between the rename and the flush of the folder.
  if (flushWithFolder(held->fd)) return true;
  return errorFromErrno(errno, "cannot flush", path);
}

Result<std::shared_ptr<const Content>> keptResult(const std::string& id, const JobProgress& progress,
                                                  const Spool& spool) {
  auto& info = progress.result;
  if (progress.resultBytes) {
    ContentWriter writer(info.type, info.encoding, spool, nullptr);
    Status status = writer.append(*progress.resultBytes);
    if (!status.ok()) return status.error();
    return writer.finish(info.single);
  }
  auto file = spool.openFile(resultFileOf(id));
  if (!file.ok()) return file.error();
  return Content::ofFile(info, std::move(*file));
}

}  // namespace capstan::server::compute
