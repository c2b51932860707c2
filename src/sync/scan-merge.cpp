#include <capstan/sync/scan-merge.h>

#include <fcntl.h>

#include <cerrno>

#include <capstan/storage/version.h>
#include <capstan/sync/cut.h>
#include <capstan/sync/local-folder.h>
#include <capstan/sync/state-record.h>

namespace capstan::sync {

namespace {

// The usual case, without making a node first.
bool isSurelyAsAgreed(const Seen& seen, const Node& agreed) {
  const struct stat& status = seen.status;
  if (S_ISDIR(status.st_mode)) {
    return agreed.type == EntryType::DIRECTORY && agreed.mode == (status.st_mode & 07777) &&
           agreed.identity == storage::inodeIdentity(status);
  }
  EntryType type = S_ISLNK(status.st_mode) ? EntryType::SYMLINK : EntryType::FILE;
  return agreed.type == type && agreed.settled && agreed.stamp == storage::versionOf(status);
}

}  // namespace

Merge::Merge(const ScanOptions& options, Scanned& result, std::unique_ptr<AgreedReader> given)
    : options(options), result(result), reader(std::move(given)) {
  advance();
}

void Merge::advance() {
  hasAgreed = false;
  if (!reader || failure) return;
  auto more = reader->next();
  if (more.ok()) {
    hasAgreed = *more;
  } else {
    failure = more.error();
  }
}

void Merge::seen(std::string_view path, const Seen& seen) {
  if (failure) return;
  int order = 1;
  while (hasAgreed) {
    order = reader->path() == path ? 0 : comparePaths(reader->path(), path);
    if (order >= 0) break;
    gone(reader->path(), reader->agreed());
    advance();
  }
  bool isAgreed = hasAgreed && order == 0;
  if (seen.kind == Seen::Kind::ENTRY) {
    compare(path, seen, isAgreed ? &reader->agreed() : nullptr);
  } else {
    leaveUnknown(path, seen);
  }
  if (isAgreed) advance();
  if (seen.kind != Seen::Kind::ENTRY) skipBelow(path);
}

Status Merge::finish() {
  for (; hasAgreed && !failure; advance()) gone(reader->path(), reader->agreed());
  if (failure) return *failure;
  return okStatus();
}

void Merge::skipBelow(std::string_view folder) {
  while (hasAgreed && isWithin(reader->path(), folder)) advance();
}

void Merge::leaveUnknown(std::string_view path, const Seen& seen) {
  std::string name(path);
  if (seen.kind == Seen::Kind::SPECIAL) {
    bool isIgnored = options.walk.ignore != nullptr && options.walk.ignore->isIgnored(path, false);
    if (!isIgnored) result.look.skipped.push_back(std::move(name));
    return;
  }
  if (options.walk.ignore != nullptr && options.walk.ignore->isIgnored(path, true)) return;
  result.again.push_back({name, true});
  // What was moved a moment ago is found next time, or was reported by itself; it is no evidence for a deletion.
  if (seen.kind == Seen::Kind::VANISHED) return;
  auto error = errorFromErrno(seen.error, "cannot look into", name);
  result.look.unread.emplace(std::move(name), std::move(error));
}

void Merge::gone(const std::string& path, const Agreed& agreed) {
  bool wasFolder = agreed.local.type == EntryType::DIRECTORY;
  if (options.walk.ignore != nullptr && options.walk.ignore->isIgnored(path, wasFolder)) return;
  result.look.changes.emplace_hint(result.look.changes.end(), path, std::nullopt);
}

void Merge::compare(std::string_view path, const Seen& seen, const Agreed* agreed) {
  ++result.look.entries;
  bool isFile = S_ISREG(seen.status.st_mode);
  bool readsContent = options.checkContent && isFile && agreed != nullptr;
  std::string digest;
  if (agreed != nullptr && isSurelyAsAgreed(seen, agreed->local)) {
    if (!readsContent || isContentAsAgreed(path, seen, *agreed, digest)) return;
  }
  bool isFolder = S_ISDIR(seen.status.st_mode);
  if (options.walk.ignore != nullptr && options.walk.ignore->isIgnored(path, isFolder)) return;
  std::string target;
  if (S_ISLNK(seen.status.st_mode)) {
    int error = 0;
    auto read = targetBelow(options.walk.root, path, error);
    if (!read) {
      Seen unknown;
      unknown.kind = error == EINVAL || saysAbsent(error) ? Seen::Kind::VANISHED : Seen::Kind::UNREADABLE;
      unknown.error = error;
      return leaveUnknown(path, unknown);
    }
    target = std::move(*read);
  }
  Node node = nodeFrom(seen.status, seen.settled, std::move(target));
  node.digest = std::move(digest);
  if (agreed != nullptr && node.digest.empty() && isAsAgreed(node, agreed->local)) return;
  result.look.changes.emplace_hint(result.look.changes.end(), std::string(path), std::move(node));
}

// With --checksum. A file that cannot be read now is told as another one, and fails where it is sent.
bool Merge::isContentAsAgreed(std::string_view path, const Seen& seen, const Agreed& agreed, std::string& digest) {
  kj::AutoCloseFd fd = openBelow(options.walk.root, path, O_RDONLY);
  if (fd.get() < 0) return false;
  auto read = digestOfFile(fd, uint64_t(seen.status.st_size), std::string(path));
  if (!read.ok()) return false;
  digest = std::move(*read);
  return digest == contentDigest(agreed);
}

}  // namespace capstan::sync
