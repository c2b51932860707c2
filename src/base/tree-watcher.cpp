#include <capstan/base/tree-watcher.h>

#include <sys/vfs.h>

#include <capstan/base/watch-source.h>

namespace capstan {

namespace {

// File systems that somebody else changes too, whom this kernel does not hear of.
bool isShared(int folder) {
  struct statfs found;
  if (fstatfs(folder, &found) < 0) return false;
  switch (uint32_t(found.f_type)) {
    case 0x6969:      // NFS
    case 0x517B:      // SMB
    case 0xFF534D42:  // CIFS
    case 0xFE534D42:  // SMB2
    case 0x65735546:  // FUSE
    case 0x01021997:  // 9P
    case 0x00C36400:  // Ceph
    case 0x5346414F:  // AFS
    case 0x47504653:  // GPFS
    case 0x0BD00BD0:  // Lustre
      return true;
    default: return false;
  }
}

}  // namespace

std::string_view nameOf(WatchMethod method) {
  switch (method) {
    case WatchMethod::FANOTIFY: return "fanotify";
    case WatchMethod::INOTIFY: return "inotify";
    case WatchMethod::POLLING: return "polling";
    case WatchMethod::UNSET: break;
  }
  return "unset";
}

Result<std::unique_ptr<TreeWatcher>> TreeWatcher::start(Options options, Sink sink) {
  auto folder = openWatchedFolder(options.folder);
  if (!folder.ok()) return folder.error();
  bool local = !isShared(*folder);
  Result<std::unique_ptr<WatchSource>> source = Error{ErrorCode::UNSUPPORTED, "nothing was tried yet", {}};
  if (local && options.best <= WatchMethod::FANOTIFY) source = openFanotify(options);
  if (!source.ok() && local && options.best <= WatchMethod::INOTIFY) source = openInotify(options);
  if (!source.ok()) source = openPolling(options);
  if (!source.ok()) return source.error();
  return startWatchThread(std::move(source).value(), options, std::move(sink));
}

}  // namespace capstan
