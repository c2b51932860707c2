// Watching by comparing: all folders are read now and then, and each entry's stamp is compared with the one before.
#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>

#include <capstan/base/folder-poll.h>
#include <capstan/base/path.h>
#include <capstan/base/watch-source.h>

namespace capstan {

namespace {

class PollingSource final : public WatchSource {
 public:
  PollingSource(const TreeWatcher::Options& options, kj::AutoCloseFd folder) : options(options), top(kj::mv(folder)) {
    fstat(top, &status);
    addTree("");
  }

  bool polls() const override { return true; }

  void poll(Gathered& gathered) override {
    if (isReplaced()) {
      gathered.overflow();
      return;
    }
    for (auto& difference : folders.compare(top)) {
      if (difference.wasFolder) folders.remove(difference.path);
      if (difference.isFolder) addTree(difference.path);
      gathered.add({std::move(difference.path), difference.isFolder, difference.appeared});
    }
  }

  WatchMethod method() const override { return WatchMethod::POLLING; }

 private:
  // Something else is where the folder was: what is watched is not what the path means.
  bool isReplaced() {
    struct stat now;
    bool replaced =
        stat(options.folder.c_str(), &now) < 0 || now.st_ino != status.st_ino || now.st_dev != status.st_dev;
    bool isNews = replaced && !toldReplaced;
    toldReplaced = replaced;
    return isNews;
  }

  void addTree(std::string path) {
    std::vector<std::string> waiting{std::move(path)};
    while (!waiting.empty()) {
      std::string next = std::move(waiting.back());
      waiting.pop_back();
      if (!next.empty() && isLeftOut(options, next)) continue;
      if (!folders.add(top, next)) continue;
      std::vector<std::string> names;
      auto fd = openFolderBelow(top, next);
      if (fd.get() >= 0) readSubfolders(fd, names);
      for (auto& name : names) waiting.push_back(joinPath(next, name));
    }
  }

  const TreeWatcher::Options options;
  const kj::AutoCloseFd top;
  struct stat status {};
  bool toldReplaced = false;
  FolderPoll folders;
};

}  // namespace

OpenedSource openPolling(const TreeWatcher::Options& options) {
  auto folder = openWatchedFolder(options.folder);
  if (!folder.ok()) return folder.error();
  return std::unique_ptr<WatchSource>(std::make_unique<PollingSource>(options, kj::mv(*folder)));
}

}  // namespace capstan
