// Watching with fanotify: one mark on the whole file system, which costs nothing for each folder. Events name the
// folder by its file handle; what lies outside is recognised by that alone and thrown away. Needs the rights of root.
#include <fcntl.h>
#include <sys/fanotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstring>
#include <fstream>
#include <unordered_map>
#include <utility>

#include <capstan/base/path.h>
#include <capstan/base/text.h>
#include <capstan/base/watch-source.h>

namespace capstan {

namespace {

constexpr uint64_t EVENTS =
    FAN_CREATE | FAN_DELETE | FAN_MOVED_FROM | FAN_MOVED_TO | FAN_MODIFY | FAN_CLOSE_WRITE | FAN_ATTRIB | FAN_ONDIR;
constexpr size_t MAX_FOLDERS = 65'536;  // remembered; then all are forgotten and looked for again

std::string linkOf(int fd) {
  std::string proc = "/proc/self/fd/" + std::to_string(fd);
  char buffer[PATH_MAX];
  ssize_t length = readlink(proc.c_str(), buffer, sizeof(buffer));
  return length < 0 ? std::string() : std::string(buffer, size_t(length));
}

class FanotifySource final : public WatchSource {
 public:
  FanotifySource(const TreeWatcher::Options& options, kj::AutoCloseFd folder, kj::AutoCloseFd events)
      : options(options), top(kj::mv(folder)), events(kj::mv(events)) {
    fstat(top, &status);
    place = linkOf(top);
  }

  int descriptor() const override { return events; }
  WatchMethod method() const override { return WatchMethod::FANOTIFY; }

  bool drain(Gathered& gathered) override {
    alignas(fanotify_event_metadata) char buffer[64 << 10];
    while (!gathered.full()) {
      ssize_t count = read(events, buffer, sizeof(buffer));
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) return true;
      auto* event = reinterpret_cast<fanotify_event_metadata*>(buffer);
      for (; FAN_EVENT_OK(event, count); event = FAN_EVENT_NEXT(event, count)) handle(*event, gathered);
    }
    return false;
  }

 private:
  // Where a folder lies. What is left out counts as outside.
  struct Where {
    bool inside = false;
    std::string path;
  };

  struct Subject {
    std::string folder;  // its handle
    std::string name;    // in it; "." is the folder itself
  };

  void handle(const fanotify_event_metadata& event, Gathered& gathered) {
    if (event.fd >= 0) close(event.fd);
    if (event.mask & FAN_Q_OVERFLOW) {
      folders.clear();
      gathered.overflow();
      return;
    }
    Subject subject;
    if (!readSubject(event, subject)) return;
    Where where = whereIs(subject.folder);
    if (std::exchange(missed, false)) gathered.overflow();
    bool isFolder = (event.mask & FAN_ONDIR) != 0;
    bool moved = isFolder && (event.mask & (FAN_MOVED_FROM | FAN_MOVED_TO)) != 0;
    if (!where.inside) {
      if (isFolder && subject.name == baseNameOf(place)) checkTop(gathered);
      return;
    }
    std::string path = subject.name == "." ? where.path : joinPath(where.path, subject.name);
    if (moved) forgetBelow(path);
    // A folder that comes from outside brings with it what was outside before.
    if (moved && (event.mask & FAN_MOVED_TO)) forgetOutside();
    bool appeared = (event.mask & (FAN_CREATE | FAN_MOVED_TO)) != 0;
    gathered.add({std::move(path), moved && appeared, appeared});
  }

  static bool readSubject(const fanotify_event_metadata& event, Subject& subject) {
    const char* at = reinterpret_cast<const char*>(&event) + event.metadata_len;
    const char* end = reinterpret_cast<const char*>(&event) + event.event_len;
    while (at + sizeof(fanotify_event_info_header) <= end) {
      auto* header = reinterpret_cast<const fanotify_event_info_header*>(at);
      if (header->len == 0 || at + header->len > end) return false;
      if (header->info_type == FAN_EVENT_INFO_TYPE_DFID_NAME || header->info_type == FAN_EVENT_INFO_TYPE_DFID) {
        auto* info = reinterpret_cast<const fanotify_event_info_fid*>(at);
        auto* handle = reinterpret_cast<const file_handle*>(info->handle);
        size_t size = sizeof(file_handle) + handle->handle_bytes;
        subject.folder.assign(reinterpret_cast<const char*>(handle), size);
        const char* name = reinterpret_cast<const char*>(handle) + size;
        bool hasName = header->info_type == FAN_EVENT_INFO_TYPE_DFID_NAME && name < at + header->len;
        subject.name = hasName ? std::string(name, strnlen(name, size_t(at + header->len - name))) : ".";
        return true;
      }
      at += header->len;
    }
    return false;
  }

  Where whereIs(const std::string& handle) {
    auto found = folders.find(handle);
    if (found != folders.end()) return found->second;
    Where where;
    // A folder that is gone: its own removal is told by the one that it was in.
    if (!lookFor(handle, where)) return {};
    if (folders.size() >= MAX_FOLDERS) folders.clear();
    folders.emplace(handle, where);
    return where;
  }

  // False: nothing to remember.
  bool lookFor(const std::string& handle, Where& where) {
    std::string copy = handle;  // the kernel wants it writable
    kj::AutoCloseFd fd(
        open_by_handle_at(top, reinterpret_cast<file_handle*>(copy.data()), O_PATH | O_DIRECTORY | O_CLOEXEC));
    struct stat folder, named;
    missed = fd.get() < 0 && isShortage(errno);
    if (fd.get() < 0 || fstat(fd, &folder) < 0) return false;
    std::string ground = linkOf(top);
    std::string path = ground.empty() ? std::string() : linkOf(fd);
    missed = path.empty() && isShortage(errno);
    if (path.empty()) return false;
    if (ground == "/") ground.clear();
    if (path != ground && path.compare(0, ground.size() + 1, ground + "/") != 0) return true;
    path = path == ground ? std::string() : path.substr(ground.size() + 1);
    // Folders that this mount does not reach, and deleted ones, have names that look like others'.
    if (path.empty() ? fstat(top, &named) < 0 : fstatat(top, path.c_str(), &named, AT_SYMLINK_NOFOLLOW) < 0) {
      missed = isShortage(errno);
      return false;
    }
    if (named.st_ino != folder.st_ino || named.st_dev != folder.st_dev) return false;
    where = {!isWithinLeftOut(path), path};
    return true;
  }

  bool isWithinLeftOut(const std::string& path) {
    if (!options.leaveOut) return false;
    for (size_t end = path.find('/');; end = path.find('/', end + 1)) {
      std::string folder = path.substr(0, end);
      if (!folder.empty()) {
        auto [known, isNew] = leftOut.try_emplace(folder, false);
        if (isNew) known->second = options.leaveOut(folder);
        if (known->second) return true;
      }
      if (end == std::string::npos) break;
    }
    if (leftOut.size() >= MAX_FOLDERS) leftOut.clear();
    return false;
  }

  void forgetBelow(const std::string& path) {
    std::erase_if(folders, [&](const auto& item) { return item.second.inside && isWithin(item.second.path, path); });
  }

  void forgetOutside() {
    std::erase_if(folders, [](const auto& item) { return !item.second.inside; });
  }

  // Something happened to a folder with the name of ours, maybe to ours.
  void checkTop(Gathered& gathered) {
    struct stat now;
    bool same = stat(place.c_str(), &now) == 0 && now.st_ino == status.st_ino && now.st_dev == status.st_dev;
    if (!same) gathered.overflow();
  }

  const TreeWatcher::Options options;
  const kj::AutoCloseFd top;
  const kj::AutoCloseFd events;
  struct stat status {};
  std::string place;                               // of the folder, when the watching began
  std::unordered_map<std::string, Where> folders;  // by handle
  std::unordered_map<std::string, bool> leftOut;
  bool missed = false;  // where something happened could not be found out
};

// Other file systems below the folder would need marks of their own, and could come and go.
bool hasMountsBelow(const std::string& folder) {
  std::ifstream mounts("/proc/self/mountinfo");
  if (!mounts) return true;
  std::string line;
  while (std::getline(mounts, line)) {
    size_t begin = 0;
    for (int field = 0; field < 4; ++field) begin = line.find(' ', begin) + 1;
    std::string point = line.substr(begin, line.find(' ', begin) - begin);
    if (point != folder && (folder == "/" || isWithin(point, folder))) return true;
  }
  return false;
}

// Whether folders can be found again by handle: not without the capability for it, and not on every file system.
bool handlesWork(int folder) {
  alignas(file_handle) char space[sizeof(file_handle) + MAX_HANDLE_SZ];
  auto* handle = reinterpret_cast<file_handle*>(space);
  handle->handle_bytes = MAX_HANDLE_SZ;
  int mount;
  if (name_to_handle_at(folder, "", handle, &mount, AT_EMPTY_PATH) < 0) return false;
  kj::AutoCloseFd fd(open_by_handle_at(folder, handle, O_PATH | O_DIRECTORY | O_CLOEXEC));
  return fd.get() >= 0;
}

}  // namespace

OpenedSource openFanotify(const TreeWatcher::Options& options) {
  Error refused{ErrorCode::UNSUPPORTED, "fanotify cannot be used here", options.folder};
  auto folder = openWatchedFolder(options.folder);
  if (!folder.ok()) return folder.error();
  kj::AutoCloseFd events(
      fanotify_init(FAN_CLASS_NOTIF | FAN_REPORT_DFID_NAME | FAN_NONBLOCK | FAN_CLOEXEC, O_RDONLY | O_CLOEXEC));
  if (events.get() < 0 || !handlesWork(*folder) || hasMountsBelow(linkOf(*folder))) return refused;
  std::string proc = "/proc/self/fd/" + std::to_string(folder->get());
  if (fanotify_mark(events, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, EVENTS, AT_FDCWD, proc.c_str()) < 0) return refused;
  return std::unique_ptr<WatchSource>(std::make_unique<FanotifySource>(options, kj::mv(*folder), kj::mv(events)));
}

}  // namespace capstan
